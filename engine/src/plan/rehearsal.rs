//! What of a backup only this box can tell: whether its rules load, and whether its tunnels get their ports and routes here.
//! `verify` and `restore` both ask this, so that neither takes what the other refuses. Tries rules in a network namespace
//! made for it; changes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use journal_format::leaving_down;

use crate::archive::verify::{BackupRules, Checked, CheckedConfig, Opened};
use crate::error::{Code, Fault, Problem, cannot};
use crate::gateway::database::Origin;
use crate::gateway::profile::Profile;
use crate::host::{Family, Look, Query};
use crate::parallel;
use crate::survey::preflight;
use crate::text::iptables;
use crate::text::wg_config::Prefix;
use crate::text::wording::{counted, name, names};

/// What came of trying the backup's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// The rules as the kernel prints them once they are loaded.
    Loaded(String),
    /// They cannot be loaded.
    Refused(Problem),
    /// Nothing can be tried on this box, and why.
    Untried(Problem),
}

/// What came of each family's rules.
pub type Rehearsed = BTreeMap<Family, Tried>;

/// Loads each family's rules of a backup in a network namespace made for it.
pub fn rules(host: &dyn Look, rules: &BackupRules) -> Result<Rehearsed, Problem> {
    let tried = Family::BOTH.map(|family| one(host, family, rules.of(family)));
    both(tried)
}

/// The same, both families at once.
pub fn rules_at_once(host: &(dyn Look + Sync), rules: &BackupRules) -> Result<Rehearsed, Problem> {
    let [v4, v6] = Family::BOTH;
    let (v6, v4) = parallel::both(
        || one(host, v6, rules.of(v6)),
        || one(host, v4, rules.of(v4)),
    );
    both([v4, v6])
}

fn both(tried: [Result<Option<Tried>, Problem>; 2]) -> Result<Rehearsed, Problem> {
    let mut rehearsed = Rehearsed::new();
    for (family, tried) in Family::BOTH.into_iter().zip(tried) {
        rehearsed.extend(tried?.map(|tried| (family, tried)));
    }
    Ok(rehearsed)
}

fn one(host: &dyn Look, family: Family, text: Option<&str>) -> Result<Option<Tried>, Problem> {
    text.map(|text| some(host, family, text)).transpose()
}

fn some(host: &dyn Look, family: Family, text: &str) -> Result<Tried, Problem> {
    let rules = match iptables::parse(
        text,
        &format!("the backup's {} firewall rules", family.name()),
    ) {
        Ok(rules) => rules,
        Err(problem) => return Ok(Tried::Refused(problem)),
    };
    if host.forwarding(family).is_ok_and(|on| on.is_none()) {
        return Ok(Tried::Untried(cannot(
            Code::RULES_UNTRIED,
            format!(
                "try the backup's {} firewall rules: the kernel of this machine has no {0}",
                family.name()
            ),
            "restore on a machine whose kernel has it, to have these rules",
        )));
    }
    if let Some(program) = preflight::lacks_to_rehearse(host, family) {
        return Ok(Tried::Untried(cannot(
            Code::MISSING_PROGRAM,
            format!("try the backup's firewall rules: {program} is not there"),
            "install iptables and util-linux",
        )));
    }
    let out = host.ask(&Query::Rehearse(family), &rules.text())?;
    if !out.ok() {
        // A box that cannot even try no rules at all says nothing of these.
        let none = host.ask(&Query::Rehearse(family), "*filter\nCOMMIT\n")?;
        return Ok(if none.ok() {
            Tried::Refused(out.problem(
                Code::RULES_REFUSED,
                "rehearse the backup's firewall rules",
                "they cannot be loaded on this machine: `iptables-restore --test` names the line; a kernel module or a program may be missing",
            ))
        } else {
            Tried::Untried(none.problem(
                Code::RULES_UNTRIED,
                "try the backup's firewall rules on this machine",
                format!(
                    "nothing was changed. An empty ruleset does not load in a network namespace of its own here either. As root, \
                     `unshare --net {} -S` shows why; a plain container allows no network namespace",
                    family.of("iptables", "ip6tables")
                ),
            ))
        });
    }
    let printed = iptables::parse(&out.stdout, "the rehearsed rules")?;
    Ok(Tried::Loaded(printed.text()))
}

/// The addresses of this box with their networks, by interface, but for `lo` and what is link-local.
pub fn interfaces(host: &dyn Look) -> Result<Vec<(String, Prefix)>, Problem> {
    let shown = host.ask(&Query::Addresses, "")?.expect_ok(
        Code::QUERY_FAILED,
        "list the addresses of this machine",
        "install iproute2",
    )?;
    let link_local = |p: &Prefix| matches!(p.address, IpAddr::V6(a) if a.is_unicast_link_local());
    let found = shown.lines().filter_map(address);
    Ok(found
        .filter(|(interface, prefix)| interface != "lo" && !link_local(prefix))
        .collect())
}

/// `2: eth0    inet 10.1.0.1/24 scope global eth0\       valid_lft ...`
fn address(line: &str) -> Option<(String, Prefix)> {
    let mut words = line.split_whitespace().skip(1);
    let interface = words.next()?.split('@').next()?;
    let family = words.next()?;
    let prefix = words.next()?;
    (family == "inet" || family == "inet6")
        .then(|| Prefix::parse(prefix))
        .flatten()
        .map(|prefix| (interface.to_owned(), prefix))
}

/// Every reason why a tunnel of the backup could not come up beside what else is on this box. What the gateway itself has
/// up now does not count: it goes down first. In a backup of this very box none is a reason to refuse it, nor is one of a tunnel
/// that may stay down: such a tunnel stays down, and is named.
pub fn tunnels(
    host: &dyn Look,
    profile: &Profile,
    checked: &mut Checked,
    opened: &mut Opened,
    may_stay_down: &dyn Fn(&str) -> bool,
) -> Result<Vec<Problem>, Fault> {
    let found = in_the_way(host, profile, checked)?;
    let elsewhere = checked.origin == Origin::Elsewhere;
    let (found, unfit): (Vec<UnfitHere>, Vec<UnfitHere>) = found
        .into_iter()
        .partition(|(tunnel, ..)| !elsewhere || may_stay_down(tunnel));
    if !unfit.is_empty() {
        return Ok(refused(unfit));
    }
    let down: BTreeMap<String, String> = found
        .into_iter()
        .map(|(tunnel, why, advice)| (tunnel, format!("{why} ({advice})")))
        .collect();
    checked.tunnels_up.retain(|t| !down.contains_key(t));
    checked.stay_down(opened, down)?;
    Ok(Vec::new())
}

/// A problem for each reason, with every tunnel of which it is one.
fn refused(unfit: Vec<UnfitHere>) -> Vec<Problem> {
    let mut by_reason: Vec<(String, &str, Vec<String>)> = Vec::new();
    for (tunnel, why, advice) in unfit {
        match by_reason
            .iter_mut()
            .find(|(w, a, _)| (&*why, advice) == (w, *a))
        {
            Some((_, _, tunnels)) => tunnels.push(tunnel),
            None => by_reason.push((why, advice, vec![tunnel])),
        }
    }
    let problem = |(why, advice, tunnels): (String, &str, Vec<String>)| {
        let (which, them) = match tunnels.as_slice() {
            [one] => (name(one), "it"),
            many => (
                format!("{} ({})", counted(many.len(), "tunnel"), names(many)),
                "them",
            ),
        };
        let or = leaving_down(&tunnels);
        Problem {
            about: tunnels,
            ..cannot(
                Code::TUNNEL_UNFIT,
                format!("bring {which} up: {why}"),
                format!("{advice}; or leave {them} down: add {or}"),
            )
        }
    };
    by_reason.into_iter().map(problem).collect()
}

/// A tunnel, why it cannot come up, and what helps.
type UnfitHere = (String, String, &'static str);

fn in_the_way(
    host: &dyn Look,
    profile: &Profile,
    checked: &Checked,
) -> Result<Vec<UnfitHere>, Problem> {
    let mut problems = Vec::new();
    if checked.tunnels_up.is_empty() {
        return Ok(problems);
    }
    // On a box that has no gateway yet there is no such folder.
    let managed = host.list(&profile.gateway.configs_dir).unwrap_or_default();
    let ours = |interface: &str| {
        let file = format!("{interface}.conf");
        managed.contains(&file) || checked.configs.contains_key(&file)
    };
    let advice = "end what has it on this machine, or change the tunnel on the gateway that was backed up, and back it up again";
    let ports = host.ask(&Query::ListenPorts, "")?.expect_ok(
        Code::QUERY_FAILED,
        "list the ports of the tunnels",
        "install wireguard-tools, and run as root",
    )?;
    let taken: BTreeMap<u16, &str> = ports
        .lines()
        .filter_map(|l| l.split_once('\t'))
        .filter(|(interface, _)| !ours(interface))
        .filter_map(|(interface, port)| Some((port.trim().parse().ok()?, interface)))
        .collect();
    let interfaces = interfaces(host)?;
    let lacking = BoxLacks::of_box(host);
    for tunnel in &checked.tunnels_up {
        let Some(config) = checked.configs.get(&format!("{tunnel}.conf")) else {
            continue;
        };
        let mut refuse = |why: String, advice: &'static str| {
            problems.push((tunnel.clone(), why, advice));
        };
        if let Some(other) = config
            .listen_port
            .filter(|p| *p != 0)
            .and_then(|p| taken.get(&p))
        {
            refuse(
                format!(
                    "its port is that of another tunnel of this machine, {}",
                    name(other)
                ),
                advice,
            );
        }
        let foreign = |i: &str| i != tunnel && !ours(i);
        let same = config.routes().find_map(|network| {
            let mut here = interfaces.iter();
            // The kernel's own IPv6 routes have another metric: there both fit.
            here.find(|(i, p)| foreign(i) && p.address.is_ipv4() && p.network() == network)
        });
        if let Some((interface, prefix)) = same {
            refuse(
                format!(
                    "AllowedIPs has {}, and that is the network of {}",
                    prefix.network(),
                    name(interface)
                ),
                advice,
            );
        }
        for (why, advice) in lacking.of(config) {
            refuse(why.to_owned(), advice);
        }
    }
    Ok(problems)
}

/// What this box lacks of what `wg-quick` may need.
struct BoxLacks {
    resolvconf: bool,
    sysctl: bool,
    v6: bool,
}

impl BoxLacks {
    fn of_box(host: &dyn Look) -> BoxLacks {
        BoxLacks {
            resolvconf: !host.has_program("resolvconf"),
            sysctl: !host.has_program("sysctl"),
            v6: has_no_v6(host),
        }
    }

    /// Why a config cannot come up for that, and what helps.
    fn of(&self, config: &CheckedConfig) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        if config.sets_dns && self.resolvconf {
            found.push((
                "the config has DNS, and wg-quick needs resolvconf for that, which is not there",
                "install it; on Debian: apt-get install openresolv",
            ));
        }
        if config.is_default_route() && self.sysctl {
            found.push((
                "AllowedIPs has 0.0.0.0/0, and wg-quick needs sysctl for that, which is not there",
                "install it; on Debian: apt-get install procps",
            ));
        }
        if config.needs_v6 && self.v6 {
            found.push((
                "the config has addresses or networks of IPv6, which is switched off on this machine",
                "switch it on: sysctl net.ipv6.conf.all.disable_ipv6=0",
            ));
        }
        found
    }
}

/// Whether interfaces that come get no IPv6. What cannot be read switches nothing off.
fn has_no_v6(host: &dyn Look) -> bool {
    let setting = Path::new("/proc/sys/net/ipv6/conf/default/disable_ipv6");
    let is_off = || {
        host.read(setting, 16)
            .is_ok_and(|said| said.starts_with(b"1"))
    };
    host.forwarding(Family::V6).is_ok_and(|on| on.is_none()) || is_off()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_addresses_of_a_box_are_read_as_ip_prints_them() {
        let line = "2: eth0@if3    inet 10.1.0.1/24 brd 10.1.0.255 scope global eth0\\       valid_lft forever";
        assert_eq!(
            address(line),
            Some(("eth0".to_owned(), Prefix::parse("10.1.0.1/24").unwrap()))
        );
        let peer =
            "5: ppp0    inet 10.9.0.1 peer 10.9.0.2/32 scope global ppp0\\       valid_lft forever";
        assert_eq!(
            address(peer),
            Some(("ppp0".to_owned(), Prefix::parse("10.9.0.1").unwrap()))
        );
        assert_eq!(address("3: eth1    link/ether 00:11"), None);
    }
}
