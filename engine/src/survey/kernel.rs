//! What the kernel and the service manager hold now: rules, forwarding, tunnels with their peers, services. Reads; what cannot
//! be read is named among the facts, and keeps nothing else from being read.

use std::collections::BTreeMap;

use super::{not_saved, unnamed_databases};
use journal_format::Note;

use crate::error::{Code, Problem, cannot};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::link::{self, LinkSettings, Printed};
use crate::gateway::parts::Part;
use crate::gateway::peers;
use crate::gateway::profile::{Profile, ServiceProfile};
use crate::host::{Family, Host, Look, Query, stirs};
use crate::text::wording::{in_a_line, names};
use crate::text::{iptables, wg_config};

/// Why the rules of a family are not among the kernel facts, where nothing says more.
pub const UNREADABLE: &str = "they could not be read";

/// Kernel facts as they are now. `managed` tells the names of the gateway's configs.
///
/// What cannot be read is named there, and keeps nothing else from being read.
pub fn facts(
    host: &dyn Host,
    profile: &Profile,
    managed: &dyn Fn(&str) -> bool,
) -> Result<Facts, Problem> {
    let mut facts = system(host, profile)?;
    tunnels(host, managed, &mut facts);
    Ok(facts)
}

/// The tunnels and their peers, into these facts.
pub fn tunnels(host: &dyn Host, managed: &dyn Fn(&str) -> bool, facts: &mut Facts) {
    let advice = "install wireguard-tools, and run as root";
    let asked = |query: &Query, what: &str| {
        host.ask(query, "")?
            .expect_ok(Code::QUERY_FAILED, what, advice)
    };
    match asked(&Query::Tunnels, "list the tunnels") {
        Ok(up) => {
            facts.interfaces = up.split_whitespace().map(str::to_owned).collect();
            facts.interfaces.sort();
        }
        Err(problem) => unread(facts, Part::Tunnels, &problem),
    }
    let ours =
        |name: &String| managed(&format!("{name}.conf")) && wg_config::interface_name(name).is_ok();
    facts.tunnels = facts
        .interfaces
        .iter()
        .filter(|n| ours(n))
        .cloned()
        .collect();
    match asked(&Query::Peers, "list the peers") {
        Ok(dump) => facts.peers = peers::in_dump(&dump, &facts.tunnels),
        Err(problem) => unread(facts, Part::Peers, &problem),
    }
    match link_settings(host, &facts.tunnels) {
        Ok(links) => facts.links = links,
        Err(problem) => unread(facts, Part::Tunnels, &problem),
    }
}

/// What is set of the interfaces of these tunnels now.
pub fn link_settings(
    host: &dyn Look,
    tunnels: &[String],
) -> Result<BTreeMap<String, LinkSettings>, Problem> {
    if tunnels.is_empty() {
        return Ok(BTreeMap::new());
    }
    let asked = |query: &Query, what: &str| {
        let advice = "install iproute2 and wireguard-tools, and run as root";
        host.ask(query, "")?
            .expect_ok(Code::QUERY_FAILED, what, advice)
    };
    let printed = Printed {
        links: asked(&Query::Links, "list the interfaces")?,
        addresses: asked(&Query::Addresses, "list the addresses of the tunnels")?,
        routes: asked(&Query::Routes, "list the routes through the tunnels")?,
        ports: asked(&Query::ListenPorts, "list the ports of the tunnels")?,
    };
    Ok(link::of_tunnels(&printed, tunnels))
}

/// All other facts.
pub fn system(host: &dyn Host, profile: &Profile) -> Result<Facts, Problem> {
    let mut facts = Facts::default();
    for family in Family::BOTH {
        match host.forwarding(family) {
            Ok(on) if family == Family::V4 => facts.ip_forward = on,
            Ok(on) => facts.ipv6_forward = on,
            Err(problem) => unread(&mut facts, Part::Forwarding(family), &problem),
        }
        if facts.lack_protocol(family) {
            continue;
        }
        match rules(host, family) {
            Ok(text) if family == Family::V4 => facts.rules_v4 = Some(text),
            Ok(text) => facts.rules_v6 = Some(text),
            Err(problem) => unread(&mut facts, Part::Rules(family), &problem),
        }
    }
    for service in profile.gateway.service.iter().map(ServiceProfile::service) {
        let active = Query::ServiceActive(service.control.clone());
        let runs = host.ask(&active, "").map(|out| out.ok());
        let stirs = match &runs {
            Ok(true) => Ok(true),
            _ => stirs(host, &service.control),
        };
        match (runs, stirs) {
            (Ok(true), _) => facts.services.push(service.name),
            (Ok(false), Ok(false)) => {}
            (Ok(false), Ok(true)) => {
                facts.faltering.push(service.name.clone());
                facts.services.push(service.name);
            }
            (Err(problem), _) | (_, Err(problem)) => {
                let why = format!("{}; {}", in_a_line(&problem), problem.advice);
                facts.unanswered.insert(service.name, why);
            }
        }
    }
    let unnamed = unnamed_databases::unnamed(profile, host);
    for (path, why) in unnamed.lacking {
        facts.unread.insert(Part::Unnamed(path), why);
    }
    if !unnamed.unseen.is_empty() {
        let why = format!("that could not be looked at: {}", unnamed.unseen.join("; "));
        facts.unread.insert(Part::OtherDatabases, why);
    }
    facts.beyond = unnamed.told;
    facts.beyond.extend(not_saved::beyond(host, &facts));
    Ok(facts)
}

fn unread(facts: &mut Facts, part: Part, problem: &Problem) {
    let why = format!("{}; {}", in_a_line(problem), problem.advice);
    facts.unread.insert(part, why);
}

/// All rules of a family, or why not all can be seen.
fn rules(host: &dyn Host, family: Family) -> Result<String, Problem> {
    let advice = "install iptables, and run as root";
    let text = host.ask(&Query::Rules(family), "")?.expect_ok(
        Code::QUERY_FAILED,
        "read the firewall rules",
        advice,
    )?;
    // It says so in the place of the table, or before it where there are chains that it leaves out, and ends well.
    let leaves_out = |line: &str| line.starts_with("# Table") && line.contains("use 'nft' tool");
    if text.lines().any(leaves_out) {
        return Err(cannot(
            Code::GATEWAY_UNREADABLE,
            "show all of them: a table has rules that iptables cannot show",
            "see `nft list ruleset`, and move what was added with nft into a table of its own",
        ));
    }
    let legacy = host.ask(&Query::LegacyRules(family), "")?;
    let program = legacy.shown.clone();
    let legacy = legacy.expect_ok(
        Code::QUERY_FAILED,
        "check whether the legacy backend has rules as well: `iptables-legacy-save`",
        advice,
    )?;
    // Where that backend is the one in use, both print the same. Counters differ from one moment to the next, and a chain that
    // accepts what it has no rule for is as good as none.
    let in_force = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter_map(|line| match line.strip_prefix(':') {
                Some(chain) if chain.contains(" DROP") => chain.split(" [").next(),
                Some(_) => None,
                None => Some(&line[line.find("-A ")?..]),
            });
        lines.map(str::to_owned).collect()
    };
    let of_legacy = in_force(&legacy);
    if !of_legacy.is_empty() && of_legacy != in_force(&text) {
        return Err(cannot(
            Code::GATEWAY_UNREADABLE,
            format!("take all of them: {program} shows rules that iptables-save does not"),
            "two backends are mixed on this machine; move all rules to one (see update-alternatives iptables)",
        ));
    }
    Ok(iptables::parse(&text, "the loaded rules")?.text())
}

/// Looks which interfaces forward otherwise than all do, tunnels left out: theirs come and go. A sentence for each protocol.
pub(super) fn set_apart(host: &dyn Look, facts: &mut Facts) -> Vec<Note> {
    let mut said = Vec::new();
    for family in Family::BOTH {
        let Some(all) = facts.forwards(family) else {
            continue;
        };
        let look = || -> Result<BTreeMap<String, bool>, Problem> {
            let mut apart = BTreeMap::new();
            let mut interfaces = host.forwarding_interfaces(family)?;
            interfaces.retain(|i| facts.interfaces.binary_search(i).is_err());
            for interface in interfaces {
                if let Some(on) = host
                    .forwarding_of(family, &interface)?
                    .filter(|on| *on != all)
                {
                    apart.insert(interface, on);
                }
            }
            Ok(apart)
        };
        match look() {
            Ok(apart) if apart.is_empty() => {}
            Ok(apart) => {
                let text = format!(
                    "{} is {}, and the {} forwarding of {} is not: that is in no backup, and whoever sets the one sets the other",
                    family.forwarding(),
                    u8::from(all),
                    family.name(),
                    names(apart.keys())
                );
                said.push(Note::known(Code::NOT_SAVED, text));
                match family {
                    Family::V4 => facts.apart_v4 = apart,
                    Family::V6 => facts.apart_v6 = apart,
                }
            }
            Err(problem) => {
                let text = format!(
                    "whether an interface forwards {} otherwise than all do could not be looked at: {}",
                    family.name(),
                    in_a_line(&problem)
                );
                said.push(Note::known(Code::GATEWAY_UNREADABLE, text));
            }
        }
    }
    said
}
