//! What an admin would want to know of a backup before agreeing to it, by name: where it comes from, whose accounts it
//! changes, what its rules and networks do to this box. Pure; compares, and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use journal_format::{ArchiveInfo, Code, Note};

use super::BackupForPlan;
use crate::gateway::account::Account;
use crate::survey::Survey;
use crate::text::iptables::{Entrance, Family, Rules};
use crate::text::wg_config::Prefix;
use crate::text::wording::{NAMES, counted, name, names};

/// This box, as far as a backup is held against it.
#[derive(Debug, Clone, Default)]
pub struct Here {
    /// Its name.
    pub host: String,
    /// Milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// Its addresses with their networks, by interface.
    pub interfaces: Vec<(String, Prefix)>,
    /// Where the admin's SSH session comes from, and to which port, if it is known.
    pub ssh: Option<(IpAddr, u16)>,
    /// Where the page is served.
    pub page: Option<Entrance>,
}

/// The rules of one family: those of now, and those of the backup as they were rehearsed.
#[derive(Debug, Clone)]
pub struct BothRules {
    /// Which.
    pub family: Family,
    /// Now.
    pub now: Rules,
    /// Then.
    pub then: Rules,
}

const UNKNOWN_ADMIN: &str = "the INPUT rules of the backup differ from the current ones, and Holdfast does not know where you connect from";

/// Compares a backup with the gateway as it is.
pub fn said(
    here: &Here,
    survey: &Survey,
    backup: &BackupForPlan,
    rules: &[BothRules],
) -> Vec<Note> {
    let mut said = Vec::new();
    origin(here, &backup.archive, &mut said);
    let checked = &backup.checked;
    for (database, then) in &checked.databases {
        // Of one that is there as bytes alone the users are not known.
        if let Some(now) = survey.users.get(database)
            && then.beside.is_none()
        {
            users(database, now, &then.users, &mut said);
        }
    }
    clients(survey, backup, &mut said);
    files(survey, backup, &mut said);
    for (database, then) in &checked.databases {
        let now = survey.mail.get(database);
        let Some(then) = &then.mail else { continue };
        if now != Some(then) && survey.users.contains_key(database) {
            let shown = |r: &crate::gateway::account::MailRelay| {
                format!(
                    "{}:{} as {}",
                    name(&r.host),
                    name(&r.port),
                    name(&r.username)
                )
            };
            let text = format!(
                "the gateway will hand its mail to {} ({database}); now to {}",
                shown(then),
                now.map_or_else(|| "none".into(), shown)
            );
            said.push(Note::known(Code::MAIL_CHANGES, text).about(name(database)));
        }
    }
    let tunnels: BTreeSet<&str> = survey
        .facts
        .tunnels
        .iter()
        .chain(&checked.tunnels_up)
        .map(String::as_str)
        .collect();
    for both in rules {
        of_rules(here, both, &tunnels, &mut said);
    }
    let ours = |interface: &str| {
        let file = format!("{interface}.conf");
        tunnels.contains(interface)
            || survey.wireguard.contains_key(&file)
            || checked.second(&file).is_some()
    };
    networks(here, &ours, &checked.networks(), &mut said);
    said.extend(unknown_admin(here, rules));
    said
}

/// `sudo` strips where the admin comes from, and the page's agent never had it: said where it would count.
fn unknown_admin(here: &Here, rules: &[BothRules]) -> Option<Note> {
    let others = |both: &BothRules| both.now.chain("INPUT") != both.then.chain("INPUT");
    let unknown = || Note::known(Code::ADMIN_UNKNOWN, UNKNOWN_ADMIN);
    (here.ssh.is_none() && rules.iter().any(others)).then(|| {
        unknown().advising(
            "compare the INPUT rules of the backup with `iptables -S INPUT` before you agree",
        )
    })
}

/// Days after which a backup is old.
const OLD: i64 = 30;

fn origin(here: &Here, archive: &ArchiveInfo, said: &mut Vec<Note>) {
    if let Some(host) = archive.host.as_ref().filter(|h| **h != here.host) {
        let text = format!(
            "the backup was made on another host, {}; this one is {}",
            name(host),
            name(&here.host)
        );
        said.push(Note::known(Code::MADE_ELSEWHERE, text));
    }
    let made = archive.created_at.parse::<jiff::Timestamp>().ok();
    let Some(made) = made.map(|t| t.as_millisecond()) else {
        return;
    };
    const DAY: i64 = 86_400_000;
    let date = name(&archive.created_at);
    if made < here.now_ms.saturating_sub(OLD * DAY) {
        said.push(Note::known(
            Code::BACKUP_OLD,
            format!("the backup is over {OLD} days old: it was made {date}"),
        ));
    } else if made > here.now_ms.saturating_add(DAY) {
        said.push(Note::known(
            Code::DATE_IN_FUTURE,
            format!(
                "the backup's date lies in the future, {date}: a clock was wrong then or is wrong now, or the date was written by hand"
            ),
        ));
    }
}

/// Users whose id is another user's in the backup: a session of the gateway's own page holds the id.
fn other_ids(now: &[Account], then: &[Account]) -> Vec<String> {
    let ids: BTreeMap<i64, &Account> = then.iter().map(|a| (a.id, a)).collect();
    now.iter()
        .filter_map(|n| ids.get(&n.id).map(|t| (n, t)))
        .filter(|(n, t)| n.username != t.username)
        .map(|(n, t)| {
            format!(
                "{} (id {}, then {})",
                name(&n.username),
                n.id,
                name(&t.username)
            )
        })
        .collect()
}

/// An old genuine backup brings back what was removed since, and takes away what was added; a forged one gives
/// accounts to somebody.
fn users(database: &str, now: &[Account], then: &[Account], said: &mut Vec<Note>) {
    fn by_name(accounts: &[Account]) -> BTreeMap<&str, &Account> {
        accounts.iter().map(|a| (a.username.as_str(), a)).collect()
    }
    let (now_by, then_by) = (by_name(now), by_name(then));
    let named = |keep: &dyn Fn(&Account) -> bool, from: &[Account]| -> Vec<String> {
        let kept = from.iter().filter(|a| keep(a));
        kept.map(|a| name(&a.username)).collect()
    };
    let is_now = |a: &Account| now_by.get(a.username.as_str()).copied();
    let gone = named(&|a| !then_by.contains_key(a.username.as_str()), now);
    let back = named(&|a| is_now(a).is_none(), then);
    let password = named(
        &|a| is_now(a).is_some_and(|n| n.password != a.password),
        then,
    );
    let admin = named(
        &|a| a.is_admin && is_now(a).is_none_or(|n| !n.is_admin),
        then,
    );
    let active = named(&|a| a.active && is_now(a).is_some_and(|n| !n.active), then);
    let mut line = |note: fn(String) -> Note, found: &[String], one: &str, many: &str| {
        let text = match found {
            [] => return,
            [only] => format!("1 user of {database} {one}: {only}"),
            all => format!("{} users of {database} {many}: {}", all.len(), joined(all)),
        };
        said.push(note(text).about(database).naming(found));
    };
    line(
        |text| Note::lost(Code::USERS_GONE, text),
        &gone,
        "is not in the backup and will be gone",
        "are not in the backup and will be gone",
    );
    line(
        |text| Note::known(Code::USERS_BACK, text),
        &back,
        "is in the backup and not here: it comes back, or is new",
        "are in the backup and not here: they come back, or are new",
    );
    line(
        |text| Note::lost(Code::PASSWORDS_CHANGE, text),
        &password,
        "loses the current password and gets the one of the backup back",
        "lose their current passwords and get those of the backup back",
    );
    line(
        |text| Note::known(Code::ADMINS_MADE, text),
        &admin,
        "becomes an admin of the gateway",
        "become admins of the gateway",
    );
    line(
        |text| Note::lost(Code::USERS_SWITCHED_ON, text),
        &active,
        "is switched off now and becomes active again",
        "are switched off now and become active again",
    );
    line(
        |text| Note::known(Code::USER_IDS_CHANGE, text),
        &other_ids(now, then),
        "has an id that is another user's in the backup, and so will an open session be",
        "have ids that are other users' in the backup, and so will open sessions be",
    );
}

/// The first of what is shown already.
fn joined(shown: &[String]) -> String {
    match shown.len().saturating_sub(NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown[..NAMES].join(", ")),
    }
}

fn clients(survey: &Survey, backup: &BackupForPlan, said: &mut Vec<Note>) {
    let (Some(now), Some(then)) = (&survey.clients, &backup.checked.clients) else {
        return;
    };
    let set = |clients: &[crate::gateway::database::Client]| -> BTreeSet<String> {
        clients.iter().map(|c| c.name.clone()).collect()
    };
    let (now, then) = (set(now), set(then));
    let (gone, back): (Vec<_>, Vec<_>) = (
        now.difference(&then).collect(),
        then.difference(&now).collect(),
    );
    let is = |n: usize| if n == 1 { "is" } else { "are" };
    if !gone.is_empty() {
        let text = format!(
            "{} {} not in the backup and will be gone: {}",
            counted(gone.len(), "client"),
            is(gone.len()),
            names(&gone)
        );
        said.push(Note::lost(Code::CLIENTS_GONE, text).naming(gone));
    }
    if !back.is_empty() {
        let text = format!(
            "{} {} in the backup and not here, and will be: {}",
            counted(back.len(), "client"),
            is(back.len()),
            names(&back)
        );
        said.push(Note::known(Code::CLIENTS_BACK, text).naming(back));
    }
}

/// What of the backup's files is not put where it was, and what a boot will load.
fn files(survey: &Survey, backup: &BackupForPlan, said: &mut Vec<Note>) {
    for path in &survey.no_files {
        let file = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if backup.checked.configs.contains_key(file) {
            let shown = name(&path.display().to_string());
            said.push(Note::lost(Code::NOT_PUT_BACK, format!(
                "{shown} is not a regular file: the backup's config is not put there, and what is there is left alone"
            )).about(shown));
        }
    }
    for (family, path, held) in &survey.kept {
        let path = path.display();
        match backup.checked.kept.get(family) {
            Some(then) if then.facts.sha256 != held.sha256 => said.push(Note::known(Code::KEPT_RULES_CHANGE, format!(
                "{path}, whose {} rules each boot loads, becomes what it was when the backup was made",
                family.name()
            )).about(path.to_string())),
            None if backup.checked.kept_gone(*family) => said.push(Note::known(Code::KEPT_RULES_CHANGE, format!(
                "{path}, whose {} rules each boot loads, was not there when the backup was made, and goes",
                family.name()
            )).about(path.to_string())),
            Some(_) | None => {}
        }
    }
}

fn of_rules(here: &Here, both: &BothRules, tunnels: &BTreeSet<&str>, said: &mut Vec<Note>) {
    let family = both.family.name();
    let (now, then) = (&both.now, &both.then);
    // Load by load a table is replaced whole, whoever put what into it.
    let gone = now.gone_in(then, tunnels);
    for (found, what) in [(&gone.chains, "chain"), (&gone.rules, "rule")] {
        if !found.is_empty() {
            let go = if found.len() == 1 { "goes" } else { "go" };
            let text = format!(
                "{} of the {family} firewall that the backup lacks {go}: {}",
                counted(found.len(), what),
                names(found)
            );
            said.push(Note::lost(Code::RULES_GONE, text).naming(found));
        }
    }
    let mut doors = vec![(
        Entrance {
            port: here.ssh.map_or(22, |(_, port)| port),
            loopback: false,
        },
        "SSH",
    )];
    doors.extend(here.page.map(|page| (page, "this page")));
    for (entrance, what) in doors {
        if then.shuts_out(entrance) && !now.shuts_out(entrance) {
            let text = format!(
                "the backup's {family} rules block {what}: nobody can reach port {} after the restore",
                entrance.port
            );
            said.push(Note::down(Code::LOCKED_OUT, text).advising(
                "before you agree, make sure that you have console access to this gateway",
            ));
        }
    }
    for (chain, lets) in [
        ("INPUT", "into this machine"),
        ("FORWARD", "through this machine"),
    ] {
        if then.is_open(chain) && !now.is_open(chain) {
            said.push(Note::known(Code::RULES_OPEN, format!(
                "the backup's {family} rules let everything {lets} ({chain} drops nothing); the current ones do not"
            )));
        }
    }
    let copies: Vec<String> = then.copies().difference(&now.copies()).cloned().collect();
    if !copies.is_empty() {
        said.push(Note::known(Code::PACKETS_COPIED, format!(
            "the backup's {family} rules hand packets to somebody else where the current ones do not, {}: {}",
            counted(copies.len(), "time"),
            names(copies)
        )));
    }
}

/// Tunnels that would take over the network that the box or its admin is in.
fn networks(
    here: &Here,
    ours: &dyn Fn(&str) -> bool,
    networks: &BTreeMap<&str, &[Prefix]>,
    said: &mut Vec<Note>,
) {
    let interfaces = here.interfaces.iter();
    let foreign: Vec<&(String, Prefix)> = interfaces.filter(|(i, _)| !ours(i)).collect();
    let admin = here.ssh.map(|(address, _)| Prefix {
        address,
        length: if address.is_ipv4() { 32 } else { 128 },
    });
    let (mut own, mut admins) = (Vec::new(), Vec::new());
    for (tunnel, networks) in networks {
        for network in networks.iter().filter(|n| !n.is_everything()) {
            let here = foreign.iter().find(|(_, p)| p.contains(network));
            if let Some((interface, prefix)) = here {
                let of = prefix.network();
                own.push(format!("{tunnel} ({network}, of {interface}'s {of})"));
            }
            if let Some(admin) = admin.filter(|a| network.contains(a)) {
                admins.push(format!("{tunnel} ({network}, {})", admin.address));
            }
        }
    }
    for (found, what) in [
        (own, "what lies in a network of this machine itself"),
        (admins, "the network that your SSH session comes from"),
    ] {
        if !found.is_empty() {
            let count = found.len();
            said.push(Note::down(
                Code::NETWORK_TAKEN,
                format!(
                    "AllowedIPs of the backup's configs lead {} to {what}: {}",
                    if count == 1 {
                        "a tunnel".to_owned()
                    } else {
                        format!("tunnels, {count} times,")
                    },
                    names(found)
                ),
            ));
        }
    }
}

#[cfg(test)]
mod tests;
