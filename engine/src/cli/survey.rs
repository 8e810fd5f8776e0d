//! `holdfast survey`.

use std::collections::BTreeMap;

use journal_format::{Detail, note_lines, visible};

use super::{Context, print_json};
use crate::error::{Code, Fault, cannot};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::profile::{Database, Profile};
use crate::host::Family;
use crate::host::linux::Linux;
use crate::state_dir::{self, traces};
use crate::survey::{self, Survey, exposure};
use crate::text::wording::{in_a_line, names};

pub(super) fn run(context: &Context) -> Result<u8, Fault> {
    // In the middle of a restore no database may be opened, not even to read.
    if let Some(open) = state_dir::open_restore(&context.profile)? {
        return Err(Fault::Busy(cannot(
            Code::RESTORE_OPEN,
            format!("survey the gateway: restore {} is open", open.id),
            "see `holdfast status`; `holdfast recover` finishes it",
        )));
    }
    let host = Linux::new(&context.profile);
    traces::none_in_the_way(&context.profile, &host)?;
    let survey = survey::survey(&host, &context.profile, &|_| false).map_err(Fault::Refused)?;
    match context.json {
        true => print_json(&as_json(&context.profile, &survey)),
        false => say_all(&context.profile, &survey, context.detail),
    }
    Ok(0)
}

/// Bytes of a database; none if it is not there.
fn size(survey: &Survey, database: &Database) -> Option<u64> {
    Some(survey.databases.get(&database.name)?.size)
}

fn as_json(profile: &Profile, survey: &Survey) -> serde_json::Value {
    let databases = profile.gateway.database.iter();
    let users: BTreeMap<_, Vec<_>> = survey
        .users
        .iter()
        .map(|(database, users)| (database, users.iter().map(|u| &u.username).collect()))
        .collect();
    serde_json::json!({
            "databases": databases.map(|d| serde_json::json!({
                "name": d.name, "path": d.path, "bytes": size(survey, d),
            })).collect::<Vec<_>>(),
            "clients": survey.clients.as_ref().map(Vec::len),
            "client_names": survey.clients.as_ref().map(|all| all.iter().map(|c| &c.name).collect::<Vec<_>>()),
            "users": users,
            "configs": survey.configs.len(),
            "wireguard_configs": survey.wireguard.len(),
            "tunnels_up": survey.facts.tunnels,
            "other_tunnels_up": survey.facts.interfaces.iter().filter(|i| !survey.facts.tunnels.contains(i)).collect::<Vec<_>>(),
            "services_running": survey.facts.services.iter().filter(|s| !survey.facts.faltering.contains(s)).collect::<Vec<_>>(),
            "services_faltering": survey.facts.faltering,
            "ip_forward": survey.facts.ip_forward,
            "ipv6_forward": survey.facts.ipv6_forward,
            "unread": survey.facts.unread,
            "rules": {
                "v4": survey.facts.rules_v4.as_deref().map(rule_count),
                "v6": survey.facts.rules_v6.as_deref().map(rule_count),
            },
            "kept_rules": survey.kept.iter().map(|(_, path, _)| path).collect::<Vec<_>>(),
            "open": survey.exposure.exposed.iter().map(exposure::Exposed::change).collect::<Vec<_>>(),
            "open_problems": survey.exposure.problems,
            "warnings": survey.warnings,
    })
}

fn say_all(profile: &Profile, survey: &Survey, detail: Detail) {
    for database in &profile.gateway.database {
        let (name, path) = (&database.name, database.path.display());
        let size = size(survey, database).map(journal_format::size);
        let size = size.unwrap_or("not there".into());
        say!("database   {name:14} {path}, {size}");
    }
    match &survey.clients {
        Some(clients) => {
            let active = clients.iter().filter(|c| c.status == "active").count();
            say!("clients    {}, of which {active} are active", clients.len());
        }
        None => {
            let there = |name: &str| survey.databases.contains_key(name);
            say!("clients    unknown: {}", no_clients(profile, there));
        }
    }
    say!(
        "configs    {} in {}",
        survey.configs.len(),
        profile.gateway.configs_dir.display()
    );
    say!(
        "           {} managed in {}",
        survey.wireguard.len(),
        profile.gateway.wireguard_dir.display()
    );
    let facts = &survey.facts;
    let up = facts.tunnels.len();
    say!("tunnels    {up} up: {}", named(&facts.tunnels, detail));
    say!("services   running: {}", facts.services.join(", "));
    let (v4, v6) = (rules(facts, Family::V4), rules(facts, Family::V6));
    let forwarded = forwarded(facts);
    say!("firewall   {v4} rules for IPv4, {v6} for IPv6; packets {forwarded}");
    say_warnings(survey, detail);
}

fn say_warnings(survey: &Survey, detail: Detail) {
    for open in survey.exposure.sentences() {
        let (open, command) = (visible(&open), exposure::COMMAND);
        say!("warning    {open}: `{command}` closes that");
    }
    for problem in &survey.exposure.problems {
        let (what, advice) = (visible(&in_a_line(problem)), visible(&problem.advice));
        say!("warning    {what}: {advice}");
    }
    for line in note_lines(&survey.warnings, detail) {
        let text = line.strip_prefix("warning: ").unwrap_or(&line);
        say!("warning    {text}");
    }
}

fn named(all: &[String], detail: Detail) -> String {
    match detail {
        Detail::Brief => names(all),
        Detail::Whole => all.join(", "),
    }
}

/// How many rules of a family there are: what could not be read is not none.
fn rules(facts: &Facts, family: Family) -> String {
    match facts.rules(family) {
        Some(text) => rule_count(text).to_string(),
        None if facts.lack_protocol(family) => "no".into(),
        None => "unknown".into(),
    }
}

/// Why the clients are not known, of the databases that are there.
fn no_clients(profile: &Profile, there: impl Fn(&str) -> bool) -> &'static str {
    match profile.client_database() {
        None => "the profile names no database of theirs",
        Some(database) if there(&database.name) => "their database cannot be read",
        Some(_) => "their database is not there",
    }
}

/// `of IPv4 are forwarded, of IPv6 are not forwarded`: what could not be read is neither.
fn forwarded(facts: &Facts) -> String {
    let on = |family| match facts.forwards(family) {
        Some(on) => Some(on),
        None => facts.lack_protocol(family).then_some(false),
    };
    let said = |family| match on(family) {
        Some(true) => "are forwarded",
        Some(false) => "are not forwarded",
        None => "are perhaps forwarded (it could not be read)",
    };
    match (said(Family::V4), said(Family::V6)) {
        (v4, v6) if v4 == v6 => v4.into(),
        (v4, v6) => format!("of IPv4 {v4}, of IPv6 {v6}"),
    }
}

fn rule_count(text: &str) -> usize {
    text.lines().filter(|l| l.starts_with("-A ")).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::parts::Part;

    #[test]
    fn clients_that_are_not_known_are_told_with_the_reason_that_is() {
        let mut profile = Profile::default();
        let own = profile.client_database().map(|d| d.name.clone());
        let others = |name: &str| Some(name) != own.as_deref();
        assert_eq!(no_clients(&profile, others), "their database is not there");
        assert_eq!(
            no_clients(&profile, |name| !others(name)),
            "their database cannot be read"
        );
        profile.gateway.database.clear();
        assert_eq!(
            no_clients(&profile, |_| true),
            "the profile names no database of theirs"
        );
    }

    #[test]
    fn forwarding_that_could_not_be_read_is_not_told_as_off() {
        let told = |ip_forward, ipv6_forward, unread: &[Family]| {
            let unread = unread.iter().map(|f| (Part::Forwarding(*f), String::new()));
            forwarded(&Facts {
                ip_forward,
                ipv6_forward,
                unread: unread.collect(),
                ..Facts::default()
            })
        };
        let (on, off) = (Some(true), Some(false));
        assert_eq!(told(on, on, &[]), "are forwarded");
        // A kernel without IPv6 forwards none of it.
        assert_eq!(told(off, None, &[]), "are not forwarded");
        assert_eq!(
            told(on, None, &[]),
            "of IPv4 are forwarded, of IPv6 are not forwarded"
        );
        let perhaps = "are perhaps forwarded (it could not be read)";
        assert_eq!(told(None, None, &Family::BOTH), perhaps);
        assert_eq!(
            told(off, None, &[Family::V6]),
            format!("of IPv4 are not forwarded, of IPv6 {perhaps}")
        );
    }
}
