//! What rules do to those who must get in, and to others' traffic: whether they shut out SSH or the page, open everything,
//! copy packets to somebody, and what of now they lack. Judges only what is certain; pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{RuleTable, Rules, chain_of, names_interface, words};

/// How somebody gets into this box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrance {
    /// The TCP port.
    pub port: u16,
    /// From this box alone.
    pub loopback: bool,
}

/// Rules of now that others lack.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// `table chain`.
    pub chains: Vec<String>,
    /// `table: rule`, of chains that stay.
    pub rules: Vec<String>,
}

/// One packet of a connection.
struct Packet {
    loopback: bool,
    /// To the port, or from it.
    to_port: bool,
    port: u16,
    new: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PacketFate {
    Open,
    Shut,
    On,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fits {
    Yes,
    No,
    Maybe,
}

/// Rules looked at for one packet: what takes longer is not certain.
const LOOKED_AT: u32 = 200_000;
/// Targets that hand packets to somebody else.
const COPIES: [&str; 6] = ["TEE", "NFQUEUE", "QUEUE", "NFLOG", "ULOG", "TPROXY"];

const COMES: [(&str, &str); 4] = [
    ("raw", "PREROUTING"),
    ("mangle", "PREROUTING"),
    ("mangle", "INPUT"),
    ("filter", "INPUT"),
];
const GOES: [(&str, &str); 4] = [
    ("raw", "OUTPUT"),
    ("mangle", "OUTPUT"),
    ("filter", "OUTPUT"),
    ("mangle", "POSTROUTING"),
];

impl Rules {
    /// Whether nobody at all gets in there, for certain.
    pub fn shuts_out(&self, entrance: Entrance) -> bool {
        let packet = |to_port, new| Packet {
            loopback: entrance.loopback,
            to_port,
            port: entrance.port,
            new,
        };
        let (asks, answers) = (packet(true, true), packet(false, false));
        let dies = |ways: &[(&str, &str)], packet: &Packet| {
            ways.iter()
                .any(|(table, chain)| self.drops(table, chain, packet))
        };
        let alone = entrance.loopback && (dies(&GOES, &asks) || dies(&COMES, &answers));
        dies(&COMES, &asks) || dies(&GOES, &answers) || alone
    }

    fn drops(&self, table: &str, chain: &str, packet: &Packet) -> bool {
        let Some(table) = self.tables.get(table) else {
            return false;
        };
        let mut by_chain: HashMap<&str, Vec<&str>> = HashMap::new();
        for rule in &table.rules {
            by_chain.entry(chain_of(rule)).or_default().push(rule);
        }
        let mut left = LOOKED_AT;
        match walk(&by_chain, chain, packet, &mut left) {
            PacketFate::Open => false,
            PacketFate::Shut => true,
            PacketFate::On => table.has_policy(chain, "DROP"),
        }
    }

    /// The policy and the rules of a chain of `filter`; a chain that is not there is as one that accepts.
    pub fn chain(&self, chain: &str) -> (&str, Vec<&str>) {
        let table = self.tables.get("filter");
        let policy = table.and_then(|t| t.chains.get(chain));
        let rules = table.into_iter().flat_map(|t| &t.rules);
        let rules = rules.map(String::as_str).filter(|r| chain_of(r) == chain);
        (policy.map_or("ACCEPT", String::as_str), rules.collect())
    }

    /// Whether this chain of `filter` lets everything through: nothing in it could drop before a rule that takes all, or, where
    /// there is none, before a policy that is ACCEPT.
    pub fn is_open(&self, chain: &str) -> bool {
        let Some(table) = self.tables.get("filter") else {
            return true;
        };
        for rule in table.rules.iter().filter(|r| chain_of(r) == chain) {
            let words = words(rule).unwrap_or_default();
            match target(&words) {
                Some(("ACCEPT", _)) if takes_all(&words) => return true,
                Some(("RETURN", _)) if takes_all(&words) => break,
                Some((t, _)) if ["ACCEPT", "LOG"].contains(&t) || COPIES.contains(&t) => {}
                // It could meet the policy.
                Some(("RETURN", _)) if table.accepts(chain) => {}
                Some(_) => return false,
                None => {}
            }
        }
        table.accepts(chain)
    }

    /// Rules that hand packets to somebody else, as `table: rule`.
    pub fn copies(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (name, table) in &self.tables {
            for rule in &table.rules {
                let words = words(rule).unwrap_or_default();
                if target(&words).is_some_and(|(t, _)| COPIES.contains(&t)) {
                    found.insert(format!("{name}: {rule}"));
                }
            }
        }
        found
    }

    /// What these have and the others lack, less what names these interfaces.
    pub fn gone_in(&self, others: &Rules, interfaces: &BTreeSet<&str>) -> Gone {
        let mut gone = Gone::default();
        for (name, table) in &self.tables {
            let there = others.tables.get(name);
            let has = |chain: &str| there.is_some_and(|t| t.chains.contains_key(chain));
            let own = |chain: &str| table.has_policy(chain, "-") && !has(chain);
            let lost = table.chains.keys().filter(|c| own(c));
            gone.chains.extend(lost.map(|c| format!("{name} {c}")));
            let mut left: BTreeMap<&str, usize> = BTreeMap::new();
            for rule in there.iter().flat_map(|t| &t.rules) {
                *left.entry(rule).or_default() += 1;
            }
            for rule in &table.rules {
                match left.get_mut(rule.as_str()) {
                    Some(n) if *n > 0 => *n -= 1,
                    _ if own(chain_of(rule)) || names_interface(rule, interfaces) => {}
                    _ => gone.rules.push(format!("{name}: {rule}")),
                }
            }
        }
        gone
    }
}

impl RuleTable {
    fn has_policy(&self, chain: &str, policy: &str) -> bool {
        self.chains.get(chain).is_some_and(|p| p == policy)
    }

    fn accepts(&self, chain: &str) -> bool {
        !self.chains.contains_key(chain) || self.has_policy(chain, "ACCEPT")
    }
}

/// Whether a rule has no condition.
fn takes_all(words: &[String]) -> bool {
    let mut words = words.iter().skip(2).map(String::as_str);
    loop {
        match (words.next(), words.next()) {
            (Some("-m"), Some("comment")) | (Some("--comment"), Some(_)) => {}
            (Some("-j" | "-g"), Some(_)) => return true,
            _ => return false,
        }
    }
}

/// Where a rule sends packets, and whether it does not come back from there.
fn target(words: &[String]) -> Option<(&str, bool)> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            // A comment may be any word.
            "--comment" => drop(words.next()),
            "-j" | "-g" => return Some((words.next()?, word == "-g")),
            _ => {}
        }
    }
    None
}

fn walk(
    chains: &HashMap<&str, Vec<&str>>,
    chain: &str,
    packet: &Packet,
    left: &mut u32,
) -> PacketFate {
    // It may have returned before a rule that would drop.
    let mut unsure = false;
    let shut = |unsure: bool| match unsure {
        true => PacketFate::On,
        false => PacketFate::Shut,
    };
    for rule in chains.get(chain).into_iter().flatten() {
        *left = left.saturating_sub(1);
        let Some(words) = words(rule).filter(|_| *left > 0) else {
            return PacketFate::Open;
        };
        let fits = fits(&words, packet);
        let Some((target, goes)) = target(&words).filter(|_| fits != Fits::No) else {
            continue;
        };
        let certain = fits == Fits::Yes;
        match target {
            "ACCEPT" | "NFQUEUE" | "QUEUE" => return PacketFate::Open,
            "DROP" | "REJECT" if certain => return shut(unsure),
            "RETURN" if certain => return PacketFate::On,
            "RETURN" => unsure = true,
            sub if chains.contains_key(sub) => match walk(chains, sub, packet, left) {
                PacketFate::Open => return PacketFate::Open,
                PacketFate::Shut if certain => return shut(unsure),
                PacketFate::On if certain && goes => return PacketFate::On,
                PacketFate::Shut | PacketFate::On => unsure |= goes,
            },
            _ => {}
        }
    }
    PacketFate::On
}

fn fits(words: &[String], packet: &Packet) -> Fits {
    let mut all = Fits::Yes;
    let mut not = false;
    let mut at = 2;
    while let Some(word) = words.get(at) {
        let value = words.get(at + 1).map_or("", String::as_str);
        let (one, took) = match word.as_str() {
            "!" => {
                not = true;
                at += 1;
                continue;
            }
            "-j" | "-g" => break,
            "-m" | "--comment" => (Fits::Yes, 2),
            "-p" => (known(["tcp", "6", "all"].contains(&value)), 2),
            "-i" | "-o" => (interface(value, packet), 2),
            "-s" | "-d" => (address(value, packet), 2),
            "--dport" | "--dports" => (port(value, packet, packet.to_port), 2),
            "--sport" | "--sports" => (port(value, packet, !packet.to_port), 2),
            "--ctstate" | "--state" => {
                let wanted = if packet.new { "NEW" } else { "ESTABLISHED" };
                (known(value.split(',').any(|s| s == wanted)), 2)
            }
            _ => (Fits::Maybe, 1),
        };
        let one = match one {
            Fits::Yes if not => Fits::No,
            Fits::No if not => Fits::Yes,
            one => one,
        };
        not = false;
        match one {
            Fits::No => return Fits::No,
            Fits::Maybe => all = Fits::Maybe,
            Fits::Yes => {}
        }
        at += took;
    }
    all
}

fn known(yes: bool) -> Fits {
    if yes { Fits::Yes } else { Fits::No }
}

fn interface(name: &str, packet: &Packet) -> Fits {
    match (name, packet.loopback) {
        ("+", _) => Fits::Yes,
        ("lo", loopback) => known(loopback),
        (name, true) => known(name.strip_suffix('+').is_some_and(|s| "lo".starts_with(s))),
        (_, false) => Fits::Maybe,
    }
}

fn address(value: &str, packet: &Packet) -> Fits {
    match value {
        "0.0.0.0/0" | "::/0" => Fits::Yes,
        "127.0.0.0/8" | "127.0.0.1/32" | "::1/128" if packet.loopback => Fits::Yes,
        _ => Fits::Maybe,
    }
}

/// Ports as `22`, `22:30` or `22,80`. The other end's port is any.
fn port(value: &str, packet: &Packet, is_ours: bool) -> Fits {
    let number = |text: &str, empty: u16| match text {
        "" => Some(empty),
        _ => text.parse().ok(),
    };
    let mut hit = false;
    for part in value.split(',') {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        match (number(from, 0), number(to, u16::MAX)) {
            (Some(from), Some(to)) => hit |= (from..=to).contains(&packet.port),
            (None, _) | (_, None) => return Fits::Maybe,
        }
    }
    if is_ours { known(hit) } else { Fits::Maybe }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SSH: Entrance = Entrance {
        port: 22,
        loopback: false,
    };
    const PAGE: Entrance = Entrance {
        port: 8080,
        loopback: true,
    };

    fn filter(policy: &str, rules: &[&str]) -> Rules {
        let rules: String = rules.iter().map(|r| format!("-A {r}\n")).collect();
        Rules::parse(&format!(
            "*filter\n:INPUT {policy} [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:SUB - [0:0]\n{rules}COMMIT\n"
        ))
        .unwrap()
    }

    #[test]
    fn rules_that_shut_everybody_out_are_told_from_those_that_let_somebody_in() {
        let shut = |policy: &str, rules: &[&str]| {
            let rules = filter(policy, rules);
            (rules.shuts_out(SSH), rules.shuts_out(PAGE))
        };
        assert_eq!(shut("ACCEPT", &[]), (false, false));
        assert_eq!(shut("DROP", &[]), (true, true));
        assert_eq!(shut("DROP", &["INPUT -i lo -j ACCEPT"]), (true, false));
        assert_eq!(shut("ACCEPT", &["OUTPUT -o lo -j DROP"]), (false, true));
        assert_eq!(shut("ACCEPT", &["INPUT -j DROP"]), (true, true));
        for lets_in in [
            &["INPUT -p tcp -m tcp --dport 22 -j ACCEPT"][..],
            &["INPUT -s 192.0.2.7/32 -j ACCEPT"],
            &["INPUT -p tcp -m multiport --dports 80,20:25 -j ACCEPT"],
            &[
                "INPUT -i eth0 -j SUB",
                "SUB -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -j ACCEPT",
            ],
            &["INPUT ! -i lo -j ACCEPT"],
        ] {
            assert!(!shut("DROP", lets_in).0, "{lets_in:?}");
        }
        for nobody in [
            &["INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"][..],
            &["INPUT -p udp -j ACCEPT"],
            &["INPUT -p tcp -m tcp --dport 2222 -m comment --comment \"-j ACCEPT 22\" -j ACCEPT"],
            &["INPUT -j SUB", "SUB -j RETURN"],
        ] {
            assert!(shut("DROP", nobody).0, "{nobody:?}");
        }
        for dropped in [
            &["INPUT -p tcp -m tcp --dport 22 -j DROP"][..],
            &[
                "INPUT -j SUB",
                "SUB -p tcp -j REJECT --reject-with tcp-reset",
            ],
            &["INPUT -i lo -j ACCEPT", "INPUT ! -i lo -j DROP"],
            &["OUTPUT -p tcp -m tcp --sport 22 -j DROP"],
        ] {
            assert!(shut("ACCEPT", dropped).0, "{dropped:?}");
        }
        // Some are dropped, some are not.
        assert!(!shut("ACCEPT", &["INPUT -s 192.0.2.0/24 -j DROP"]).0);
        assert!(!shut("ACCEPT", &["INPUT -s 192.0.2.0/24 -j SUB", "SUB -j DROP"]).0);
    }

    #[test]
    fn chains_that_lead_to_each_other_over_and_over_end() {
        let mut text = String::from("*filter\n:INPUT DROP [0:0]\n");
        for i in 0..60 {
            text += &format!(":C{i} - [0:0]\n");
        }
        text += "-A INPUT -j C0\n";
        for i in 0..59 {
            let next = i + 1;
            text += &format!("-A C{i} -j C{next}\n-A C{i} -j C{next}\n");
        }
        text += "-A C59 -j RETURN\nCOMMIT\n";
        assert!(!Rules::parse(&text).unwrap().shuts_out(SSH), "not certain");
    }

    #[test]
    fn a_chain_is_open_only_if_nothing_in_it_could_drop() {
        assert!(filter("ACCEPT", &["INPUT -i lo -j ACCEPT"]).is_open("INPUT"));
        assert!(!filter("DROP", &[]).is_open("INPUT"));
        assert!(!filter("ACCEPT", &["INPUT -j SUB"]).is_open("INPUT"));
        assert!(!filter("ACCEPT", &["INPUT -s 192.0.2.0/24 -j DROP"]).is_open("INPUT"));
        let all = "INPUT -m comment --comment \"-s x\" -j ACCEPT";
        let (some, drop) = ("INPUT -s 192.0.2.0/24 -j ACCEPT", "INPUT -j DROP");
        assert!(filter("DROP", &["INPUT -j ACCEPT"]).is_open("INPUT"));
        assert!(filter("DROP", &[some, all, drop]).is_open("INPUT"));
        assert!(!filter("DROP", &[drop, all]).is_open("INPUT"));
        assert!(!filter("DROP", &[some]).is_open("INPUT"));
        assert!(!filter("DROP", &["INPUT -s 192.0.2.7/32 -j RETURN", all]).is_open("INPUT"));
        assert!(!filter("DROP", &["INPUT -j RETURN", all]).is_open("INPUT"));
    }

    #[test]
    fn rules_that_copy_traffic_and_what_others_lose_are_named() {
        let now = Rules::parse(
            "*nat\n:PREROUTING ACCEPT [0:0]\n:f2b - [0:0]\n-A PREROUTING -j f2b\n-A PREROUTING -i c0 -j ACCEPT\n-A f2b -j RETURN\nCOMMIT\n",
        )
        .unwrap();
        let gone = now.gone_in(&filter("ACCEPT", &[]), &BTreeSet::from(["c0"]));
        assert_eq!(gone.chains, ["nat f2b"]);
        assert_eq!(gone.rules, ["nat: -A PREROUTING -j f2b"]);
        assert_eq!(now.gone_in(&now, &BTreeSet::new()), Gone::default());
        let copies = filter(
            "ACCEPT",
            &[
                "INPUT -j TEE --gateway 192.0.2.9",
                "INPUT -m comment --comment NFLOG -j DROP",
            ],
        );
        assert_eq!(
            copies.copies().into_iter().collect::<Vec<_>>(),
            ["filter: -A INPUT -j TEE --gateway 192.0.2.9"]
        );
    }
}
