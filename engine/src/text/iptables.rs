//! Firewall rules as `iptables-save` prints them: parsed, compared, merged. Pure text; loads nothing.
//!
//! Rules are kept as the lines that they are: only what decides whether a rule belongs to a tunnel is looked into.

mod reach;

use crate::error::{Problem, cannot};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

pub use reach::{Entrance, Gone};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The name of the file that holds its rules.
    pub fn rules_file(self) -> &'static str {
        match self {
            Family::V4 => "rules.v4",
            Family::V6 => "rules.v6",
        }
    }

    /// Its name for a person.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// The setting by which it is forwarded.
    pub fn forwarding(self) -> &'static str {
        match self {
            Family::V4 => "net.ipv4.ip_forward",
            Family::V6 => "net.ipv6.conf.all.forwarding",
        }
    }

    /// What the settings of an interface begin with.
    pub fn interfaces(self) -> &'static str {
        match self {
            Family::V4 => "net/ipv4/conf",
            Family::V6 => "net/ipv6/conf",
        }
    }

    /// Its name for `nft`.
    pub fn nft(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }
}

/// The rules of one address family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    tables: BTreeMap<String, RuleTable>,
}

/// One table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RuleTable {
    /// Chain and policy (`-` for a chain that an admin made).
    chains: BTreeMap<String, String>,
    /// `-A CHAIN ...`, in order.
    rules: Vec<String>,
}

impl RuleTable {
    /// Without rules, chains of its own and policies: the same as a table that is not there.
    fn is_blank(&self) -> bool {
        self.rules.is_empty() && self.chains.values().all(|policy| policy == "ACCEPT")
    }
}

/// A line that is not of the form that `iptables-save` prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not what iptables-save prints: {why}")]
pub struct BadRules {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Rules {
    /// Reads what `iptables-save` printed; counters and comments are left out. Only lines that declare chains and append
    /// rules are taken: no option that `iptables-restore` would follow elsewhere.
    pub fn parse(text: &str) -> Result<Rules, BadRules> {
        let mut rules = Rules::default();
        let mut open: Option<(String, RuleTable)> = None;
        for (i, line) in text.lines().enumerate() {
            let bad = |why| BadRules { line: i + 1, why };
            let line = line.trim_end_matches('\r');
            match (line.chars().next(), &mut open) {
                (None | Some('#'), _) => {}
                (Some('*'), None) => {
                    open = Some((line[1..].trim().to_owned(), RuleTable::default()))
                }
                (Some('*'), Some(_)) => {
                    return Err(bad("a table begins before the one before it ended"));
                }
                (Some(_), None) => return Err(bad("it stands outside a table")),
                (Some(':'), Some((_, table))) => {
                    let mut words = line[1..].split_whitespace();
                    let (Some(chain), Some(policy)) = (words.next(), words.next()) else {
                        return Err(bad("a chain has a name and a policy"));
                    };
                    table.chains.insert(chain.to_owned(), policy.to_owned());
                }
                (Some('C'), Some(_)) if line == "COMMIT" => {
                    if let Some((name, table)) = open.take()
                        && rules.tables.insert(name, table).is_some()
                    {
                        return Err(bad("a table is there twice"));
                    }
                }
                (Some(_), Some((_, table))) => {
                    let rule = match line.strip_prefix('[') {
                        Some(rest) => {
                            rest.split_once("] ")
                                .ok_or_else(|| bad("a counter does not end"))?
                                .1
                        }
                        None => line,
                    };
                    if !rule.starts_with("-A ") {
                        return Err(bad("only rules that are appended are taken"));
                    }
                    let words = words(rule).ok_or_else(|| bad("a quotation does not end"))?;
                    if words.iter().any(|w| leads_elsewhere(w)) {
                        return Err(bad("a rule names no table and no program"));
                    }
                    table.rules.push(rule.to_owned());
                }
            }
        }
        match open {
            None => Ok(rules),
            Some(_) => Err(BadRules {
                line: text.lines().count(),
                why: "the last table does not end with COMMIT",
            }),
        }
    }

    /// The sets that rules name (`--match-set`, `--add-set`, `--del-set`, `--map-set`).
    pub fn sets(&self) -> BTreeSet<String> {
        let rules = self.tables.values().flat_map(|t| &t.rules);
        let mut named = BTreeSet::new();
        for words in rules
            .filter(|r| r.contains("-set "))
            .filter_map(|r| words(r))
        {
            let pairs = words.windows(2);
            let of_sets = pairs.filter(|w| w[0].starts_with("--") && w[0].ends_with("-set"));
            named.extend(of_sets.map(|w| w[1].clone()));
        }
        named
    }

    /// The text that `iptables-restore` takes.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, table) in &self.tables {
            table_text(&mut out, name, table);
        }
        out
    }

    /// The text that makes these rules the only ones, where `current` is what is loaded: tables that only `current` has
    /// are emptied.
    pub fn replacing(&self, current: &Rules) -> String {
        let mut out = self.text();
        for (name, table) in &current.tables {
            if !self.tables.contains_key(name) && !table.is_blank() {
                let chains = table
                    .chains
                    .iter()
                    .filter(|(_, p)| *p != "-")
                    .map(|(c, _)| (c.clone(), "ACCEPT".to_owned()));
                table_text(
                    &mut out,
                    name,
                    &RuleTable {
                        chains: chains.collect(),
                        rules: Vec::new(),
                    },
                );
            }
        }
        out
    }

    /// Tables that only `current` has and that do nothing: emptied ones, as nft can remove them.
    pub fn blank_in<'c>(&self, current: &'c Rules) -> Vec<&'c str> {
        let only_there = current
            .tables
            .iter()
            .filter(|(name, table)| table.is_blank() && !self.tables.contains_key(*name));
        only_there.map(|(name, _)| name.as_str()).collect()
    }

    /// The rules that name one of these interfaces, by table.
    pub fn of_interfaces(&self, names: &BTreeSet<&str>) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::new();
        for (name, table) in &self.tables {
            let rules: Vec<String> = table
                .rules
                .iter()
                .filter(|r| names_interface(r, names))
                .cloned()
                .collect();
            if !rules.is_empty() {
                found.insert(name.clone(), rules);
            }
        }
        found
    }

    /// The text that appends `missing`, which is of these rules, to `current`, for `iptables-restore --noflush`. A chain
    /// that they need and that is not there, since whoever makes it has not done so in this boot, comes with them; one that
    /// is there must not be named, or it would be emptied.
    pub fn appending(&self, missing: &BTreeMap<String, Vec<String>>, current: &Rules) -> String {
        let mut out = String::new();
        for (name, rules) in missing {
            let there = current.tables.get(name).map(|t| &t.chains);
            let chains = self.tables.get(name).map(|t| &t.chains);
            let needed = chains.into_iter().flatten().filter(|(chain, policy)| {
                let named = |r: &String| words(r).is_some_and(|w| w.contains(chain));
                *policy == "-"
                    && there.is_none_or(|t| !t.contains_key(*chain))
                    && rules.iter().any(named)
            });
            let table = RuleTable {
                chains: needed.map(|(c, p)| (c.clone(), p.clone())).collect(),
                rules: rules.clone(),
            };
            table_text(&mut out, name, &table);
        }
        out
    }

    /// What holds when a backup's rules are not loaded: those of `before`, less the ones of the replaced tunnels, and
    /// with what tunnels and services have added for these since.
    ///
    /// Where the other rules of a chain are still those of before, its order is the one of now: a hook that put its rule
    /// first meant it so.
    pub fn without_backup(before: &Rules, current: &Rules, replaced: &BTreeSet<&str>) -> Rules {
        let mut merged = before.clone();
        for table in merged.tables.values_mut() {
            table.rules.retain(|r| !names_interface(r, replaced));
        }
        for (name, now) in &current.tables {
            let mut added: Vec<&String> = Vec::new();
            for rule in now.rules.iter().filter(|r| names_interface(r, replaced)) {
                if !added.contains(&rule) {
                    added.push(rule);
                }
            }
            if added.is_empty() {
                continue;
            }
            let table = merged.tables.entry(name.clone()).or_default();
            for (chain, policy) in now.chains.iter().filter(|(_, policy)| *policy != "-") {
                let chains = &mut table.chains;
                chains.entry(chain.clone()).or_insert(policy.clone());
            }
            let mut chains: Vec<&str> = added.iter().map(|r| chain_of(r)).collect();
            let mut done = BTreeSet::new();
            while let Some(chain) = chains.pop() {
                if !done.insert(chain) {
                    continue;
                }
                let (mut rules, others): (Vec<String>, Vec<String>) =
                    std::mem::take(&mut table.rules)
                        .into_iter()
                        .partition(|r| chain_of(r) == chain);
                table.rules = others;
                let of_chain = now.rules.iter().filter(|r| chain_of(r) == chain);
                let is_new = |r: &&String| names_interface(r, replaced);
                if !table.chains.contains_key(chain) {
                    // A chain of a hook's own, which an added rule jumps to.
                    table.chains.insert(chain.to_owned(), "-".to_owned());
                    rules = of_chain.clone().cloned().collect();
                    chains.extend(of_chain.filter_map(|r| jump_of(r, now)));
                } else {
                    let new: Vec<&String> = added
                        .iter()
                        .filter(|r| chain_of(r) == chain)
                        .copied()
                        .collect();
                    if of_chain.clone().filter(|r| !is_new(r)).eq(&rules) {
                        let mut seen = BTreeSet::new();
                        rules = of_chain
                            .filter(|r| !is_new(r) || seen.insert(*r))
                            .cloned()
                            .collect();
                    } else {
                        rules.extend(new.iter().map(|r| (*r).clone()));
                    }
                    let jumps = new.iter().filter_map(|r| jump_of(r, now));
                    chains.extend(jumps.filter(|to| !table.chains.contains_key(*to)));
                }
                table.rules.append(&mut rules);
            }
        }
        merged
    }

    /// What these rules have that `other` lacks, a line each; a rule that is there twice counts twice.
    pub fn missing_in(&self, other: &Rules) -> Vec<String> {
        let mut missing = Vec::new();
        let blank = RuleTable::default();
        for (name, table) in self.tables.iter().filter(|(_, t)| !t.is_blank()) {
            let there = other.tables.get(name).unwrap_or(&blank);
            for (chain, policy) in &table.chains {
                let default = if policy == "ACCEPT" {
                    Some("ACCEPT")
                } else {
                    None
                };
                if there.chains.get(chain).map(String::as_str).or(default) != Some(policy) {
                    missing.push(format!("{name}: chain {chain} {policy}"));
                }
            }
            let mut left: Vec<&String> = there.rules.iter().collect();
            for rule in &table.rules {
                match left.iter().position(|r| *r == rule) {
                    Some(at) => drop(left.remove(at)),
                    None => missing.push(format!("{name}: {rule}")),
                }
            }
        }
        missing
    }

    /// Whether both are the same for a packet: same policies, and in each chain the same rules in the same order.
    pub fn same_as(&self, other: &Rules) -> bool {
        let solid = |r: &Rules| -> BTreeMap<String, RuleTable> {
            let mut tables = r.tables.clone();
            tables.retain(|_, t| !t.is_blank());
            for table in tables.values_mut() {
                // Stable: between chains no order means anything.
                table.rules.sort_by(|a, b| chain_of(a).cmp(chain_of(b)));
            }
            tables
        };
        solid(self) == solid(other)
    }
}

/// The text that takes these rules out, by table, for `iptables-restore --noflush`.
pub fn without(rules: &BTreeMap<String, Vec<String>>) -> String {
    let mut out = String::new();
    for (table, rules) in rules {
        // Writing to a string does not fail.
        let _ = writeln!(out, "*{table}");
        for rule in rules {
            let _ = writeln!(out, "-D {}", rule.strip_prefix("-A ").unwrap_or(rule));
        }
        out.push_str("COMMIT\n");
    }
    out
}

fn table_text(out: &mut String, name: &str, table: &RuleTable) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "*{name}");
    for (chain, policy) in &table.chains {
        let _ = writeln!(out, ":{chain} {policy} [0:0]");
    }
    for rule in &table.rules {
        let _ = writeln!(out, "{rule}");
    }
    out.push_str("COMMIT\n");
}

/// `-A CHAIN ...`
fn chain_of(rule: &str) -> &str {
    rule.split(' ').nth(1).unwrap_or_default()
}

/// The chain of the same table that a rule sends packets to.
fn jump_of<'r>(rule: &'r str, rules: &RuleTable) -> Option<&'r str> {
    let mut words = rule.split(' ');
    let to = words.find_map(|w| matches!(w, "-j" | "-g").then_some(()));
    to.and_then(|()| words.next())
        .filter(|to| rules.chains.contains_key(*to))
}

fn names_interface(rule: &str, names: &BTreeSet<&str>) -> bool {
    let Some(words) = words(rule) else {
        return false;
    };
    words
        .windows(2)
        .any(|w| matches!(w[0].as_str(), "-i" | "-o") && names.contains(w[1].as_str()))
}

/// Whether a word names a table or a program to run, also shortened, or among other letters.
fn leads_elsewhere(word: &str) -> bool {
    match word.strip_prefix("--") {
        Some(option) => {
            let name = option.split('=').next().unwrap_or_default();
            !name.is_empty() && ["modprobe", "table"].iter().any(|o| o.starts_with(name))
        }
        None => {
            let letters = word.strip_prefix('-').unwrap_or_default();
            let option = letters.starts_with(|c: char| c.is_ascii_alphabetic());
            option && letters.contains(['t', 'M'])
        }
    }
}

/// The words of a rule; none if a quotation does not end.
fn words(rule: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = rule.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
                // There iptables-restore ends the word; this would read on.
                if !quoted && chars.clone().next().is_some_and(|c| !c.is_whitespace()) {
                    return None;
                }
            }
            '\\' if quoted => word.get_or_insert_default().push(chars.next()?),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quoted { None } else { Some(words) }
}

/// Reads rules in the form of `iptables-save`.
pub fn parse(text: &str, what: &str) -> Result<Rules, Problem> {
    Rules::parse(text).map_err(|e| {
        cannot(
            format!("understand {what}: {e}"),
            "look at that line with iptables-save",
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SAVED: &str = r#"# Generated by iptables-save v1.8.9 (nf_tables)
*nat
:PREROUTING ACCEPT [44:2640]
:POSTROUTING ACCEPT [0:0]
[1:60] -A POSTROUTING -s 10.1.0.0/24 -o eth0 -j MASQUERADE
[0:0] -A POSTROUTING -o c0 -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [1200:98231]
:FORWARD DROP [0:0]
:WG_GATE - [0:0]
-A INPUT -p udp -m comment --comment "WireGuard \"main\" -i c0 gw, don\'t touch" -j ACCEPT
-A FORWARD -j WG_GATE
-A FORWARD -i eth0 -o c0 -j ACCEPT
COMMIT
"#;

    fn rules(text: &str) -> Rules {
        Rules::parse(text).unwrap()
    }

    #[test]
    fn a_blank_table_that_only_one_side_has_is_named_and_one_with_a_rule_a_policy_or_a_chain_is_not()
     {
        let raw = |line: &str| {
            rules(&format!(
                "{SAVED}*raw\n:OUTPUT ACCEPT [0:0]\n{line}COMMIT\n"
            ))
        };
        assert_eq!(rules(SAVED).blank_in(&raw("")), ["raw"]);
        assert_eq!(raw("").blank_in(&rules(SAVED)), Vec::<&str>::new());
        assert_eq!(raw("").blank_in(&raw("")), Vec::<&str>::new());
        for line in [
            "-A OUTPUT -j DROP\n",
            ":PREROUTING DROP [0:0]\n",
            ":OTHER - [0:0]\n",
        ] {
            assert_eq!(rules(SAVED).blank_in(&raw(line)), Vec::<&str>::new());
        }
    }

    #[test]
    fn what_is_parsed_and_printed_is_the_same_for_a_packet() {
        let parsed = rules(SAVED);
        assert!(rules(&parsed.text()).same_as(&parsed));
        assert!(parsed.missing_in(&rules(&parsed.text())).is_empty());
    }

    #[test]
    fn a_tunnel_in_a_quoted_comment_does_not_make_a_rule_the_tunnels() {
        let found = rules(SAVED).of_interfaces(&BTreeSet::from(["c0"]));
        assert_eq!(found["nat"], ["-A POSTROUTING -o c0 -j MASQUERADE"]);
        assert_eq!(found["filter"], ["-A FORWARD -i eth0 -o c0 -j ACCEPT"]);
    }

    #[test]
    fn taking_a_tunnels_rules_out_leaves_the_others() {
        let found = rules(SAVED).of_interfaces(&BTreeSet::from(["c0"]));
        insta::assert_snapshot!(without(&found), @r"
        *filter
        -D FORWARD -i eth0 -o c0 -j ACCEPT
        COMMIT
        *nat
        -D POSTROUTING -o c0 -j MASQUERADE
        COMMIT
        ");
    }

    #[test]
    fn without_the_backups_rules_those_of_before_hold_less_the_replaced_plus_what_was_added() {
        let current = rules(
            "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o c1 -j MASQUERADE\n-A POSTROUTING -o c1 -j MASQUERADE\nCOMMIT\n",
        );
        let merged = Rules::without_backup(&rules(SAVED), &current, &BTreeSet::from(["c0", "c1"]));
        let text = merged.text();
        assert!(!text.contains("-o c0 "), "{text}");
        assert_eq!(text.matches("-o c1 -j MASQUERADE").count(), 1, "{text}");
        assert!(text.contains("-s 10.1.0.0/24"), "{text}");
        assert!(text.contains(":FORWARD DROP"), "{text}");
    }

    #[test]
    fn what_a_hook_put_first_stays_first_and_a_chain_of_its_own_comes_with_it() {
        let before = "*filter\n:FORWARD DROP [0:0]\n:OTHER - [0:0]\n-A FORWARD -j OTHER\n-A FORWARD -j LOG\n-A OTHER -j RETURN\nCOMMIT\n";
        let current = rules(
            "*filter\n:FORWARD DROP [0:0]\n:HOOK - [0:0]\n:OTHER - [0:0]\n-A FORWARD -i c0 -j HOOK\n-A FORWARD -j OTHER\n\
             -A FORWARD -j LOG\n-A FORWARD -o c0 -j ACCEPT\n-A FORWARD -o c0 -j ACCEPT\n-A HOOK -s 10.0.0.0/8 -j ACCEPT\n\
             -A OTHER -j RETURN\nCOMMIT\n",
        );
        let replaced = BTreeSet::from(["c0"]);
        let merged = Rules::without_backup(&rules(before), &current, &replaced);
        insta::assert_snapshot!(merged.text(), @r"
        *filter
        :FORWARD DROP [0:0]
        :HOOK - [0:0]
        :OTHER - [0:0]
        -A OTHER -j RETURN
        -A FORWARD -i c0 -j HOOK
        -A FORWARD -j OTHER
        -A FORWARD -j LOG
        -A FORWARD -o c0 -j ACCEPT
        -A HOOK -s 10.0.0.0/8 -j ACCEPT
        COMMIT
        ");
        // Loaded and printed by chain, it is what should hold.
        let again = Rules::without_backup(&rules(before), &rules(&merged.text()), &replaced);
        assert!(again.same_as(&merged), "{}", again.text());
    }

    #[test]
    fn the_order_of_rules_counts_within_a_chain_and_not_between_chains() {
        let text =
            |lines: &str| rules(&format!("*filter\n:A - [0:0]\n:B - [0:0]\n{lines}COMMIT\n"));
        let (a1, a2, b) = ("-A A -j ACCEPT\n", "-A A -j DROP\n", "-A B -j DROP\n");
        assert!(text(&[a1, a2, b].concat()).same_as(&text(&[a1, b, a2].concat())));
        assert!(!text(&[a1, a2, b].concat()).same_as(&text(&[a2, a1, b].concat())));
    }

    #[test]
    fn a_table_that_only_the_gateway_has_is_emptied_and_an_empty_one_is_as_good_as_none() {
        let current =
            rules("*raw\n:PREROUTING DROP [0:0]\n:X - [0:0]\n-A PREROUTING -i c0 -j X\nCOMMIT\n");
        let text = rules(SAVED).replacing(&current);
        assert!(
            text.ends_with("*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"),
            "{text}"
        );
        assert!(rules(&text).same_as(&rules(SAVED)));
    }

    #[test]
    fn a_missing_rule_policy_or_chain_is_named() {
        let other = rules(
            &SAVED
                .replace("FORWARD DROP", "FORWARD ACCEPT")
                .replace("-A FORWARD -j WG_GATE\n", ""),
        );
        assert_eq!(
            rules(SAVED).missing_in(&other),
            [
                "filter: chain FORWARD DROP",
                "filter: -A FORWARD -j WG_GATE"
            ]
        );
    }

    #[test]
    fn text_that_would_make_iptables_restore_do_more_than_load_rules_is_refused() {
        for (text, line) in [
            ("-A INPUT -j ACCEPT\n", 1),
            ("*filter\n-F\nCOMMIT\n", 2),
            ("*filter\n-D INPUT 1\nCOMMIT\n", 2),
            ("*filter\n-A INPUT -t nat -j ACCEPT\nCOMMIT\n", 2),
            ("*filter\n-A INPUT --modprobe=/x -j ACCEPT\nCOMMIT\n", 2),
            ("*filter\n-A INPUT -m comment --comment \"open\nCOMMIT\n", 2),
            ("*filter\n-A INPUT --modp=/x -j ACCEPT\nCOMMIT\n", 2),
            ("*filter\n-A INPUT --tab nat -j ACCEPT\nCOMMIT\n", 2),
            ("*filter\n-A INPUT -fM/x -j ACCEPT\nCOMMIT\n", 2),
            (
                "*filter\n-A INPUT --comment \"a\"--modprobe=/x\nCOMMIT\n",
                2,
            ),
            ("*filter\n*nat\nCOMMIT\n", 2),
            ("*filter\n:INPUT ACCEPT\n", 2),
        ] {
            assert_eq!(Rules::parse(text).unwrap_err().line, line, "{text}");
        }
        let harmless = "*filter\n-A INPUT ! -f -m statistic --mode random --to-ports 5 --mac-source 0:1\nCOMMIT\n";
        assert!(Rules::parse(harmless).is_ok());
    }

    #[test]
    fn a_chain_that_is_not_there_comes_with_the_rules_that_need_it_and_no_other() {
        let before = "*filter\n:FORWARD ACCEPT [0:0]\n:GATE - [0:0]\n:THERE - [0:0]\n:OTHER - [0:0]\n:LAST - [0:0]\n\
                      -A FORWARD -i c0 -j GATE\n-A THERE -i c0 -j ACCEPT\n-A GATE -o c0 -j LAST\n-A OTHER -j DROP\nCOMMIT\n";
        let before = Rules::parse(before).unwrap();
        let now = "*filter\n:FORWARD ACCEPT [0:0]\n:THERE - [0:0]\nCOMMIT\n";
        let now = Rules::parse(now).unwrap();
        let missing = before.of_interfaces(&BTreeSet::from(["c0"]));
        insta::assert_snapshot!(before.appending(&missing, &now), @r"
        *filter
        :GATE - [0:0]
        :LAST - [0:0]
        -A FORWARD -i c0 -j GATE
        -A THERE -i c0 -j ACCEPT
        -A GATE -o c0 -j LAST
        COMMIT
        ");
    }
}
