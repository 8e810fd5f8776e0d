//! Whether the tunnels that are up run as their configs say: key, peers, addresses, routes, MTU, port. Looks and says; what cannot be
//! told counts as not so.

use std::collections::{BTreeMap, BTreeSet};

use journal_format::{FileFacts, Note};

use crate::error::Code;
use crate::gateway::kernel_facts::Facts;
use crate::gateway::link::LinkChange;
use crate::gateway::parts::Part;
use crate::gateway::peers::{self, Peers};
use crate::gateway::profile::Profile;
use crate::host::{Look, Query};
use crate::text::mark::Mark;
use crate::text::wg_config::{self, Config};
use crate::text::wording::{in_a_line, name, quoted};

/// The tunnels that are up and run as their configs say in all that can be told, and a note for each that has peers or settings which
/// are in no file.
pub(super) fn beyond_configs(
    host: &dyn Look,
    profile: &Profile,
    facts: &Facts,
    wireguard: &BTreeMap<String, FileFacts>,
) -> (BTreeSet<String>, Vec<Note>) {
    let gateway = &profile.gateway;
    let (mut as_configured, mut said) = (BTreeSet::new(), Vec::new());
    if facts.unread.contains_key(&Part::Peers) {
        return (as_configured, said);
    }
    let (keys, usual) = (keys_now(host), usual_mtus(host, facts));
    for tunnel in &facts.tunnels {
        let file = format!("{tunnel}.conf");
        let dir = match wireguard.contains_key(&file) {
            true => &gateway.wireguard_dir,
            false => &gateway.configs_dir,
        };
        let read = match host.read(&dir.join(&file), wg_config::MOST) {
            Ok(read) => read,
            Err(problem) => {
                let text = format!(
                    "whether the peers of the tunnel {} are those of its config could not be looked at: {}",
                    name(tunnel),
                    in_a_line(&problem)
                );
                said.push(Note::known(Code::GATEWAY_UNREADABLE, text).about(tunnel));
                continue;
            }
        };
        // One that does not parse is warned of as that.
        let Ok(config) = wg_config::parse(&file, &read) else {
            continue;
        };
        let none = Peers::new();
        let beyond = peers::beyond_config(facts.peers.get(tunnel).unwrap_or(&none), &config);
        if !beyond.is_nothing() {
            let text = format!(
                "the tunnel {} {beyond}. A restore replaces the tunnel's peers with the backup's",
                name(tunnel)
            );
            let note = Note::known(Code::PEERS_BEYOND_CONFIG, text).about(tunnel);
            let shows = format!("`wg showconf {}` prints the current peers", quoted(tunnel));
            said.push(note.advising(shows));
        }
        let link = facts.links.get(tunnel);
        let by_hand = link.map(|link| link.beyond_config(&config));
        let runs_so = by_hand.as_ref().is_some_and(Vec::is_empty)
            && beyond.is_nothing()
            && config.interface.key.is_some()
            && keys.get(tunnel) == config.interface.key.as_ref()
            && config.interface.fwmark.is_none()
            && has_endpoints(facts.peers.get(tunnel).unwrap_or(&none), &config)
            && link.is_some_and(|link| {
                let chosen = link.mtu.is_some_and(|mtu| usual.contains(&mtu));
                (config.interface.mtu.is_some() || chosen) && link.has_routes_of(&config)
            });
        if runs_so {
            as_configured.insert(tunnel.clone());
        }
        said.extend(by_hand.and_then(|by_hand| set_by_hand(tunnel, &config, &by_hand)));
    }
    (as_configured, said)
}

/// What `wg-quick` subtracts of the MTU on the way to a peer; and what it takes where it finds none.
const OVERHEAD: u32 = 80;
const WITHOUT_A_WAY: u32 = 1420;

/// The MTUs that `wg-quick` may have chosen here, where a config names none.
fn usual_mtus(host: &dyn Look, facts: &Facts) -> BTreeSet<u32> {
    let links = host.ask(&Query::Links, "").ok().filter(|out| out.ok());
    let links = links.map(|out| out.stdout).unwrap_or_default();
    let mtu = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let name = words.next()?.trim_end_matches(':').split('@').next()?;
        let is_tunnel = facts.interfaces.iter().any(|i| i == name);
        let mtu: u32 = words.skip_while(|w| *w != "mtu").nth(1)?.parse().ok()?;
        (!is_tunnel).then(|| mtu.checked_sub(OVERHEAD))?
    };
    links
        .lines()
        .filter_map(mtu)
        .chain([WITHOUT_A_WAY])
        .collect()
}

/// Whether each peer that has an endpoint in the config has one in the kernel: a name may not have been resolved.
fn has_endpoints(runs: &Peers, config: &Config) -> bool {
    let mut named = config.peers.iter().filter(|p| p.endpoint.is_some());
    named.all(|p| {
        runs.get(&p.public_key)
            .is_some_and(|p| p.endpoint.is_some())
    })
}

/// What is said of settings that are in no config.
fn set_by_hand(tunnel: &str, config: &Config, by_hand: &[LinkChange]) -> Option<Note> {
    let shown: Vec<String> = by_hand.iter().map(LinkChange::shown).collect();
    let has_hook = |when: &str| config.interface.hooks.iter().any(|(key, _)| key == when);
    let unless = match has_hook("PreUp") || has_hook("PostUp") {
        true => ", unless its hooks set it",
        false => "",
    };
    let text = format!(
        "the tunnel {} has settings that are not in its config: {}. No backup has them. They are lost when the tunnel goes \
         down{unless}",
        name(tunnel),
        shown.join(", ")
    );
    (!by_hand.is_empty()).then(|| Note::known(Code::SET_BY_HAND, text).about(tunnel))
}

/// What stands for the private key of each tunnel that is up, where that can be asked.
fn keys_now(host: &dyn Look) -> BTreeMap<String, Mark> {
    let dump = host.ask(&Query::Peers, "").ok().filter(|out| out.ok());
    let dump = dump.map(|out| out.stdout).unwrap_or_default();
    let key = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
        [tunnel, key, _, _, "off"] => Some((tunnel.to_owned(), Mark::of(key)?)),
        // A mark of packets is in no plain config.
        _ => None,
    };
    dump.lines().filter_map(key).collect()
}
