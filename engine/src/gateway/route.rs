//! Routes as `ip route` prints them, one a line, and as `ip route add` takes them again: which of them somebody set, and which of
//! those `wg-quick` sets by a config. Pure.

use std::net::IpAddr;

use crate::text::wg_config::{Config, Prefix};

/// Who sets routes that nobody else sets again; the first is what `ip route add` says, and is not printed. The kernel, `ra` and
/// daemons of routing protocols set their own.
const BY_SOMEBODY: [&str; 2] = ["boot", "static"];

/// What a line of `ip -o route show table all` makes of a route that somebody set, as `ip route add` takes it, with the network
/// written out. None of one that the kernel or a daemon set.
pub fn set_by_somebody(line: &str) -> Option<String> {
    // It tells of the state, and parts the hops of a route that has several.
    let state = ["linkdown", "dead", "\\"];
    let words = line.split_whitespace().filter(|w| !state.contains(w));
    let mut words: Vec<&str> = words.collect();
    if value(&words, "proto").is_some_and(|by| !BY_SOMEBODY.contains(&by)) {
        return None;
    }
    // Each of IPv6 has it, and what stands there unasked.
    let is_v6 = value(&words, "pref").is_some();
    let unsaid: &[[&str; 2]] = match (is_v6, words.contains(&"via")) {
        (true, _) => &[["pref", "medium"], ["metric", "1024"]],
        (false, false) => &[["scope", "link"]],
        (false, true) => &[],
    };
    for pair in unsaid {
        if let Some(at) = words.windows(2).position(|two| two == pair) {
            words.drain(at..at + 2);
        }
    }
    let network = match *words.first()? {
        "default" if is_v6 => "::/0".to_owned(),
        "default" => "0.0.0.0/0".to_owned(),
        word => Prefix::parse(word).map_or_else(|| word.to_owned(), |p| p.to_string()),
    };
    let rest = words[1..].iter().map(|w| (*w).to_owned());
    let all: Vec<String> = std::iter::once(network).chain(rest).collect();
    Some(all.join(" "))
}

/// The interface of a default route of IPv4 in the main table, which `ip` does not name; none of any other route.
pub fn way_out(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let main = value(&words, "table").is_none() && value(&words, "pref").is_none();
    let is_default = words.first() == Some(&"default") && main;
    is_default.then(|| devices(line).next())?
}

/// The interfaces that a route leads through.
pub fn devices(route: &str) -> impl Iterator<Item = &str> {
    let after = route.split_whitespace().skip_while(|w| *w != "dev");
    let words: Vec<&str> = after.collect();
    let pairs: Vec<&str> = words
        .windows(2)
        .filter(|two| two[0] == "dev")
        .map(|two| two[1])
        .collect();
    pairs.into_iter()
}

/// Whether a route leads to another router.
pub fn has_gateway(route: &str) -> bool {
    route.split_whitespace().any(|word| word == "via")
}

/// Whether `wg-quick` sets this route where it brings a tunnel up by this config, or a hook that names its network.
pub fn is_of(config: &Config, route: &str) -> bool {
    let words: Vec<&str> = route.split_whitespace().collect();
    let Some(network) = words.first().and_then(|word| Prefix::parse(word)) else {
        return false;
    };
    let interface = &config.interface;
    let up = interface
        .hooks
        .iter()
        .filter(|(key, _)| key.ends_with("Up"));
    let mut up = up.map(|(_, hook)| String::from_utf8_lossy(hook));
    if up.any(|hook| names(&hook, &network)) {
        return true;
    }
    let mut allowed = config.peers.iter().flat_map(|p| &p.allowed_ips);
    let (plain, table) = match words[1..] {
        ["dev", _] => (true, None),
        ["dev", _, "table", table] => (true, Some(table)),
        _ => (false, None),
    };
    plain
        && allowed.any(|a| a.network() == network)
        && match (interface.table.as_deref(), table) {
            (Some("off"), _) => false,
            // It takes the first table that is free.
            (None | Some("auto"), table) => table.is_some() == network.is_everything(),
            (Some(own), None) => ["main", "254"].contains(&own),
            (Some(own), Some(table)) => own == table || is_number(own) != is_number(table),
        }
}

/// Whether one of these commands sets a route to a network, as people write it. A firewall rule may name the network as well.
fn names(commands: &str, network: &Prefix) -> bool {
    let (address, whole) = match network.address {
        IpAddr::V4(a) => (a.to_string(), 32),
        IpAddr::V6(a) => (a.to_string(), 128),
    };
    let is_one = network.length == whole;
    let written = network.to_string();
    let is_network = |word: &str| {
        word == written || is_one && word == address || network.is_everything() && word == "default"
    };
    commands.split([';', '&', '|', '\n']).any(|command| {
        let mut words = command.split_whitespace();
        let is_of_routes = words.any(|word| ["route", "r", "ro"].contains(&word));
        is_of_routes && words.any(is_network)
    })
}

/// Tables have names and numbers, and what tells which is whose is not here.
fn is_number(table: &str) -> bool {
    table.bytes().all(|b| b.is_ascii_digit())
}

fn value<'w>(words: &[&'w str], key: &str) -> Option<&'w str> {
    let at = words.iter().position(|word| *word == key)?;
    words.get(at + 1).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::text::wg_config;

    #[test]
    fn a_route_that_somebody_set_is_read_as_it_is_set_again() {
        for (line, route) in [
            (
                "10.9.1.5 dev wg0 table 100 scope link linkdown ",
                "10.9.1.5/32 dev wg0 table 100",
            ),
            (
                "10.10.0.0/16 via 10.0.0.7 dev wg0 proto static src 10.0.0.1 metric 5 linkdown ",
                "10.10.0.0/16 via 10.0.0.7 dev wg0 proto static src 10.0.0.1 metric 5",
            ),
            (
                "10.11.0.0/16 linkdown \\\tnexthop dev wg0 weight 2 linkdown \\\tnexthop dev eth0 weight 1 ",
                "10.11.0.0/16 nexthop dev wg0 weight 2 nexthop dev eth0 weight 1",
            ),
            (
                "default dev wg0 table 51820 metric 1024 linkdown pref medium",
                "::/0 dev wg0 table 51820",
            ),
            (
                "default dev wg0 table 77 scope link",
                "0.0.0.0/0 dev wg0 table 77",
            ),
            (
                "fd10::/64 via fd00::9 dev wg0 metric 7 pref high",
                "fd10::/64 via fd00::9 dev wg0 metric 7 pref high",
            ),
        ] {
            assert_eq!(set_by_somebody(line).as_deref(), Some(route));
        }
        let two = "10.11.0.0/16 nexthop dev wg0 weight 2 nexthop dev eth0 weight 1";
        assert_eq!(devices(two).collect::<Vec<_>>(), ["wg0", "eth0"]);
    }

    #[test]
    fn a_route_of_the_kernel_or_of_a_daemon_is_nobodys() {
        for line in [
            "10.0.0.0/24 dev wg0 proto kernel scope link src 10.0.0.1",
            "fe80::/64 dev wg0 proto kernel metric 256 pref medium",
            "10.12.0.0/16 dev wg0 proto bird scope link mtu 1300",
            "default via fe80::1 dev wg0 proto ra metric 1024 pref medium",
            "",
        ] {
            assert_eq!(set_by_somebody(line), None, "{line}");
        }
    }

    #[test]
    fn what_wg_quick_and_hooks_set_by_a_config_is_told_from_what_was_set_by_hand() {
        let config = |interface: &str| {
            let peer = "[Peer]\nAllowedIPs = 10.8.0.5/24, 0.0.0.0/0, fd08::1/128\n";
            let text = format!("[Interface]\n{interface}\n{peer}");
            wg_config::parse("wg0.conf", text.as_bytes()).unwrap()
        };
        let auto = config("");
        assert!(is_of(&auto, "10.8.0.0/24 dev wg0"));
        assert!(is_of(&auto, "fd08::1/128 dev wg0"));
        assert!(is_of(&auto, "0.0.0.0/0 dev wg0 table 51821"));
        assert!(!is_of(&auto, "0.0.0.0/0 dev wg0"));
        assert!(!is_of(&auto, "::/0 dev wg0 table 51821"));
        assert!(!is_of(&auto, "10.8.0.0/24 dev wg0 table 100"));
        assert!(!is_of(&auto, "10.8.0.0/24 dev wg0 metric 50"));
        assert!(!is_of(&auto, "10.9.0.0/24 dev wg0"));
        assert!(!is_of(&config("Table = off"), "10.8.0.0/24 dev wg0"));
        let own = config("Table = 100");
        assert!(is_of(&own, "10.8.0.0/24 dev wg0 table 100"));
        assert!(is_of(&own, "0.0.0.0/0 dev wg0 table vpn"));
        assert!(!is_of(&own, "10.8.0.0/24 dev wg0 table 101"));
        assert!(!is_of(&own, "10.8.0.0/24 dev wg0"));
        let hook =
            config("PostUp = ip route add 10.9.0.1 dev %i; ip -6 route add default dev %i table 7");
        assert!(is_of(&hook, "10.9.0.1/32 dev wg0"));
        assert!(is_of(&hook, "::/0 dev wg0 table 7"));
        assert!(!is_of(&hook, "10.9.0.11/32 dev wg0"));
        let rule = config("PostUp = iptables -t nat -A POSTROUTING -s 10.9.0.0/24 -j MASQUERADE");
        assert!(!is_of(&rule, "10.9.0.0/24 dev wg0"));
    }
}
