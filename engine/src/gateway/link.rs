//! What is set of a tunnel's interface itself, as the kernel has it: addresses, MTU, port and routes. What was set by hand while it
//! ran is in no file. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::gateway::route;
use crate::text::wg_config::{Config, Prefix};

/// What is set of one tunnel's interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSettings {
    /// Its addresses, `address/length`, or `address peer address/length`; not those that the kernel gives it.
    pub addresses: BTreeSet<String>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// The port on which it listens.
    pub port: Option<u16>,
    /// The routes through it that a person or a program of theirs set, `wg-quick` among them; none in what an older program kept.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub routes: BTreeSet<String>,
}

/// One setting to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// An address comes.
    AddAddress(String),
    /// An address goes.
    RemoveAddress(String),
    /// The MTU.
    Mtu(u32),
    /// The port.
    Port(u16),
    /// A route comes.
    AddRoute(String),
}

impl LinkChange {
    /// As a person reads it.
    pub fn shown(&self) -> String {
        match self {
            LinkChange::AddAddress(address) => format!("the address {address}"),
            LinkChange::RemoveAddress(address) => format!("without the address {address}"),
            LinkChange::Mtu(mtu) => format!("the MTU {mtu}"),
            LinkChange::Port(port) => format!("the port {port}"),
            LinkChange::AddRoute(route) => format!("the route {route}"),
        }
    }
}

/// What programs print of all interfaces.
#[derive(Debug, Clone, Default)]
pub struct Printed {
    /// `ip -o link`.
    pub links: String,
    /// `ip -o address`.
    pub addresses: String,
    /// `ip -o route show table all`.
    pub routes: String,
    /// `wg show all listen-port`.
    pub ports: String,
}

/// The settings of these interfaces.
pub fn of_tunnels(printed: &Printed, tunnels: &[String]) -> BTreeMap<String, LinkSettings> {
    let mut found: BTreeMap<String, LinkSettings> = BTreeMap::new();
    let names: BTreeSet<&str> = tunnels.iter().map(String::as_str).collect();
    let mut of = |name: &str, set: &mut dyn FnMut(&mut LinkSettings)| {
        if names.contains(name) {
            set(found.entry(name.to_owned()).or_default());
        }
    };
    for line in printed.links.lines() {
        let mut words = line.split_whitespace().skip(1);
        let name = words.next().unwrap_or_default().trim_end_matches(':');
        let mtu = words.skip_while(|w| *w != "mtu").nth(1);
        of(name, &mut |link| {
            link.mtu = mtu.and_then(|m| m.parse().ok())
        });
    }
    for line in printed.addresses.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, name, "inet" | "inet6", address, rest @ ..] = &words[..] else {
            continue;
        };
        // The kernel gives it those of its link.
        if rest.contains(&"link") {
            continue;
        }
        let address = match rest {
            // One with another end, which no config makes.
            ["peer", peer, ..] => Some(format!("{address} peer {peer}")),
            _ => Prefix::parse(address).map(|a| a.to_string()),
        };
        of(name, &mut |link| link.addresses.extend(address.clone()));
    }
    for (name, port) in printed.ports.lines().filter_map(|l| l.split_once('\t')) {
        of(name, &mut |link| link.port = port.trim().parse().ok());
    }
    for route in printed.routes.lines().filter_map(route::set_by_somebody) {
        // One through several interfaces goes with any of them, and is kept once.
        if let Some(name) = route::devices(&route).find(|d| names.contains(d)) {
            of(name, &mut |link| link.routes.extend([route.clone()]));
        }
    }
    found
}

impl LinkSettings {
    /// What makes these settings of those; what is not known on either side stays.
    pub fn changes_from(&self, now: &LinkSettings) -> Vec<LinkChange> {
        let gone = now.addresses.difference(&self.addresses).cloned();
        let new = self.addresses.difference(&now.addresses).cloned();
        let mut changes: Vec<LinkChange> = gone.map(LinkChange::RemoveAddress).collect();
        changes.extend(new.map(LinkChange::AddAddress));
        let differs = now.mtu.is_some() && self.mtu != now.mtu;
        changes.extend(self.mtu.filter(|_| differs).map(LinkChange::Mtu));
        let differs = now.port.is_some() && self.port != now.port;
        let port = self.port.filter(|port| differs && *port != 0);
        changes.extend(port.map(LinkChange::Port));
        // The gateway of a route may be behind another route. One that is not among these goes with what set it: no removal.
        let new = self.routes.difference(&now.routes).cloned();
        let (over, direct): (Vec<_>, Vec<_>) = new.partition(|route| route::has_gateway(route));
        let routes = direct.into_iter().chain(over);
        changes.extend(routes.map(LinkChange::AddRoute));
        changes
    }

    /// What was set otherwise than the config and its hooks say. Where they say nothing, `wg-quick` and the kernel choose: nobody can
    /// tell an MTU that was set by hand from one that `wg-quick` found on the way to a peer.
    pub fn beyond_config(&self, config: &Config) -> Vec<LinkChange> {
        let interface = &config.interface;
        let of_config = LinkSettings {
            addresses: interface
                .addresses
                .iter()
                .filter(|address| !is_of_link(address))
                .map(Prefix::to_string)
                .collect(),
            mtu: interface.mtu,
            port: interface.listen_port.filter(|port| *port != 0),
            routes: BTreeSet::new(),
        };
        let mut beyond = self.less_routes_of(config);
        let is_of_hook = |address: &String| is_in_hook(config, address);
        beyond
            .addresses
            .retain(|address| !is_of_hook(address) || of_config.addresses.contains(address));
        beyond.changes_from(&of_config)
    }

    /// Whether each network of the config's peers is reached through this interface; whoever removed a route by hand cut some off.
    pub fn has_routes_of(&self, config: &Config) -> bool {
        if config.interface.table.is_some() {
            return false;
        }
        let networks = |texts: &BTreeSet<String>| -> Vec<Prefix> {
            let first = texts
                .iter()
                .filter_map(|text| text.split_whitespace().next());
            first
                .filter_map(Prefix::parse)
                .map(|p| p.network())
                .collect()
        };
        // The kernel sets that of an address itself.
        let reached = [networks(&self.addresses), networks(&self.routes)].concat();
        let wanted = config.peers.iter().flat_map(|peer| &peer.allowed_ips);
        // `wg-quick` adds no route where one covers it.
        let is_reached = |network: Prefix| reached.iter().any(|r| r.contains(&network));
        wanted.map(Prefix::network).all(is_reached)
    }

    /// The same without the routes that bringing the tunnel up by this config sets. Their table may be another one each time.
    pub fn less_routes_of(&self, config: &Config) -> LinkSettings {
        let mut less = self.clone();
        less.routes.retain(|route| !route::is_of(config, route));
        less
    }
}

/// Whether the kernel lists it with those that it gives a link itself, which are left out of [`of_tunnels`].
fn is_of_link(prefix: &Prefix) -> bool {
    matches!(prefix.address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Whether a hook that runs as the tunnel comes up names this address.
fn is_in_hook(config: &Config, address: &str) -> bool {
    let address = address.split(['/', ' ']).next().unwrap_or_default();
    let is_it =
        |word: &str| word == address || word.split_once('/').is_some_and(|(a, _)| a == address);
    let up = config
        .interface
        .hooks
        .iter()
        .filter(|(key, _)| key.ends_with("Up"));
    let mut hooks = up.map(|(_, hook)| String::from_utf8_lossy(hook));
    hooks.any(|hook| {
        let commands = hook.split([';', '&', '|', '\n']);
        let mut words = commands.map(|c| c.split_whitespace().collect::<Vec<_>>());
        words.any(|words| {
            let is_of_addresses = words.iter().any(|w| ["address", "addr", "a"].contains(w));
            is_of_addresses && words.iter().any(|w| is_it(w))
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::text::wg_config;

    const LINKS: &str = "1: lo: <LOOPBACK,UP> mtu 65536 qdisc noqueue\n7: wg0: <POINTOPOINT> mtu 1300 qdisc noqueue\n";
    const ADDRESSES: &str = "7: wg0    inet 10.0.0.1/24 scope global wg0\\ valid_lft forever\n\
        7: wg0    inet 10.99.0.1/24 scope global wg0\\ valid_lft forever\n\
        7: wg0    inet 10.98.0.1 peer 10.98.0.2/32 scope global wg0\\ valid_lft forever\n\
        7: wg0    inet6 fe80::1/64 scope link stable-privacy \\ valid_lft forever\n";

    const ROUTES: &str = "10.8.0.0/24 dev wg0 scope link \n10.9.0.0/24 via 10.99.0.7 dev wg0 \n10.7.0.0/16 dev eth0 scope link \n\
        fd09::/64 dev wg0 metric 1024 pref medium\n";

    fn runs() -> LinkSettings {
        let printed = Printed {
            links: LINKS.into(),
            addresses: ADDRESSES.into(),
            routes: ROUTES.into(),
            ports: "wg0\t40000\nwg1\t1\n".into(),
        };
        let found = of_tunnels(&printed, &["wg0".to_owned()]);
        assert_eq!(found.len(), 1);
        found["wg0"].clone()
    }

    #[test]
    fn what_was_set_by_hand_is_told_from_what_the_config_makes() {
        let beyond = |config: &str| {
            let config = wg_config::parse("wg0.conf", config.as_bytes()).unwrap();
            let changes = runs().beyond_config(&config);
            changes.iter().map(LinkChange::shown).collect::<Vec<_>>()
        };
        assert_eq!(
            beyond(
                "[Interface]\nAddress = 10.0.0.1/24, fe80::5/64\nListenPort = 51820\nMTU = 1420\n"
            ),
            [
                "the address 10.98.0.1 peer 10.98.0.2/32",
                "the address 10.99.0.1/24",
                "the MTU 1300",
                "the port 40000",
                "the route 10.8.0.0/24 dev wg0",
                "the route fd09::/64 dev wg0",
                "the route 10.9.0.0/24 via 10.99.0.7 dev wg0"
            ]
        );
        let whole = "[Interface]\nAddress = 10.0.0.1/24, 10.99.0.1/24\nPostUp = ip addr add 10.98.0.1 peer 10.98.0.2 dev %i\nPostUp = ip route add 10.9.0.0/24 via 10.99.0.7\n\
            [Peer]\nAllowedIPs = 10.8.0.1/24, fd09::/64\n";
        assert_eq!(beyond(whole), [""; 0]);
    }

    #[test]
    fn the_settings_of_before_are_made_of_those_of_now() {
        let now = LinkSettings {
            addresses: ["10.0.0.1/24".into(), "10.5.0.1/24".into()].into(),
            mtu: Some(1420),
            port: Some(51820),
            routes: ["10.8.0.0/24 dev wg0".into(), "10.5.0.0/24 dev wg0".into()].into(),
        };
        assert_eq!(
            runs().changes_from(&now),
            [
                LinkChange::RemoveAddress("10.5.0.1/24".into()),
                LinkChange::AddAddress("10.98.0.1 peer 10.98.0.2/32".into()),
                LinkChange::AddAddress("10.99.0.1/24".into()),
                LinkChange::Mtu(1300),
                LinkChange::Port(40000),
                LinkChange::AddRoute("fd09::/64 dev wg0".into()),
                LinkChange::AddRoute("10.9.0.0/24 via 10.99.0.7 dev wg0".into()),
            ]
        );
        assert_eq!(runs().changes_from(&runs()), []);
    }
}
