//! Rules that name interfaces: those of another gateway, on one whose interfaces have other names. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rules, words};

/// The options whose value is the name of an interface.
const NAMING: [&str; 8] = [
    "-i",
    "--in-interface",
    "-o",
    "--out-interface",
    "--physdev-in",
    "--physdev-out",
    "--indev",
    "--outdev",
];

/// How a rule names an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// It meets packets of that interface: `-i eth0`. Without that interface it meets none.
    Meets,
    /// It meets packets of every other one: `! -i eth0`. Without that interface it meets all.
    Spares,
}

/// The interfaces that the words of a command name in this way with the options of `iptables`.
pub fn interfaces(words: &[String], naming: Naming) -> impl Iterator<Item = &str> {
    let option = |at: &usize| NAMING.contains(&words[*at].as_str());
    let spares = move |at: usize| at > 0 && words[at - 1] == "!";
    let named = (0..words.len()).filter(option);
    named
        .filter(move |at| spares(*at) == (naming == Naming::Spares))
        .filter_map(|at| words.get(at + 1).map(String::as_str))
}

impl Rules {
    /// How many of these rules, but for those of `others`, name in this way each of the interfaces that are not `here`; and how
    /// many rules that are.
    pub fn naming_foreign(
        &self,
        naming: Naming,
        others: &Rules,
        here: impl Fn(&str) -> bool,
    ) -> (usize, BTreeMap<String, usize>) {
        let (mut rules, mut found) = (0, BTreeMap::new());
        for (name, table) in &self.tables {
            let known: BTreeSet<&String> = others
                .tables
                .get(name)
                .iter()
                .flat_map(|t| &t.rules)
                .collect();
            for rule in table.rules.iter().filter(|r| !known.contains(r)) {
                let words = words(rule).unwrap_or_default();
                let foreign: BTreeSet<&str> =
                    interfaces(&words, naming).filter(|i| !here(i)).collect();
                rules += usize::from(!foreign.is_empty());
                for interface in foreign {
                    *found.entry(interface.to_owned()).or_default() += 1;
                }
            }
        }
        (rules, found)
    }

    /// The rules that the gateway adds for a tunnel between that and the LAN, made those of this LAN where they name one that is not
    /// `here`; not one that stands `now`, whose interface is only away. Gives how many of each other name; what is there already is
    /// not there twice.
    pub fn for_lan(
        &mut self,
        lan: &str,
        now: &Rules,
        tunnels: &BTreeSet<&str>,
        here: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, usize> {
        let mut changed = BTreeMap::new();
        let Some(table) = self.tables.get_mut("filter") else {
            return changed;
        };
        let stands: BTreeSet<&String> = now
            .tables
            .get("filter")
            .into_iter()
            .flat_map(|t| &t.rules)
            .collect();
        let foreign = |rule: &String| {
            let other = lan_of(rule, tunnels).filter(|other| !here(other));
            other.filter(|_| !stands.contains(rule))
        };
        let as_it_is = |rule: &&String| foreign(rule).is_none();
        let mut there: BTreeSet<String> = table.rules.iter().filter(as_it_is).cloned().collect();
        let mut made: Vec<String> = Vec::new();
        for rule in std::mem::take(&mut table.rules) {
            let Some(other) = foreign(&rule) else {
                made.push(rule);
                continue;
            };
            let now = rule
                .replace(&format!(" -i {other} "), &format!(" -i {lan} "))
                .replace(&format!(" -o {other} "), &format!(" -o {lan} "));
            *changed.entry(other).or_default() += 1;
            if there.insert(now.clone()) {
                made.push(now);
            }
        }
        table.rules = made;
        changed
    }
}

/// The LAN's interface in a rule of the form that the gateway's own start adds for a tunnel.
fn lan_of(rule: &str, tunnels: &BTreeSet<&str>) -> Option<String> {
    let words = words(rule)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["-A", "FORWARD", "-i", lan, "-o", tunnel, "-j", "ACCEPT"] if tunnels.contains(tunnel) => {
            Some(lan.to_owned())
        }
        [
            "-A",
            "FORWARD",
            "-i",
            tunnel,
            "-o",
            lan,
            "-m",
            "state" | "conntrack",
            "--state" | "--ctstate",
            "RELATED,ESTABLISHED",
            "-j",
            "ACCEPT",
        ] if tunnels.contains(tunnel) => Some(lan.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n\
        -A INPUT -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT\n\
        -A INPUT -i eth1 ! -i eth0 -m comment --comment \"from -i eth7 \" -j ACCEPT\n\
        -A FORWARD -i eth0 -o c1 -j ACCEPT\n\
        -A FORWARD -i c1 -o eth0 -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
        -A FORWARD -i eth0 -o c1 -d 10.1.0.0/24 -j ACCEPT\n\
        -A FORWARD -i eth0 -o c2 -j ACCEPT\n\
        -A FORWARD -i ens3 -o c1 -j ACCEPT\nCOMMIT\n";

    fn here(interface: &str) -> bool {
        ["ens3", "c1", "lo"].contains(&interface)
    }

    #[test]
    fn rules_that_name_an_interface_that_is_not_here_are_counted_by_interface() {
        let rules = Rules::parse(TEXT).unwrap();
        let (count, found) = rules.naming_foreign(Naming::Meets, &Rules::default(), here);
        let found: Vec<(&str, usize)> = found.iter().map(|(i, n)| (i.as_str(), *n)).collect();
        assert_eq!(
            (count, &found[..]),
            (6, &[("c2", 1), ("eth0", 5), ("eth1", 1)][..])
        );
        // A rule that spares an interface which is not here meets every packet: that is another thing to say.
        let (count, found) = rules.naming_foreign(Naming::Spares, &Rules::default(), here);
        assert_eq!((count, found.get("eth0")), (1, Some(&1)));
        // What stands now as well is no news.
        assert_eq!(rules.naming_foreign(Naming::Meets, &rules, here).0, 0);
    }

    #[test]
    fn the_gateways_own_rules_of_another_lan_become_those_of_this_one_once_each_and_no_other_rule_does()
     {
        let mut rules = Rules::parse(TEXT).unwrap();
        let none = Rules::default();
        // One that stands now names an interface that is only away.
        let now = rules.clone();
        assert!(
            rules
                .for_lan("ens3", &now, &BTreeSet::from(["c1"]), here)
                .is_empty()
        );
        let changed = rules.for_lan("ens3", &none, &BTreeSet::from(["c1"]), here);
        assert_eq!(changed, BTreeMap::from([("eth0".to_owned(), 2)]));
        let text = rules.text();
        let forward: Vec<&str> = text.lines().filter(|l| l.contains("-A FORWARD")).collect();
        assert_eq!(
            forward,
            [
                "-A FORWARD -i c1 -o ens3 -m state --state RELATED,ESTABLISHED -j ACCEPT",
                "-A FORWARD -i eth0 -o c1 -d 10.1.0.0/24 -j ACCEPT",
                "-A FORWARD -i eth0 -o c2 -j ACCEPT",
                "-A FORWARD -i ens3 -o c1 -j ACCEPT",
            ]
        );
        assert!(
            rules
                .for_lan("ens3", &none, &BTreeSet::from(["c1"]), here)
                .is_empty()
        );
    }
}
