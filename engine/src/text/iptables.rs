//! Firewall rules as `iptables-save` prints them: parsed, compared, merged. Pure text; loads nothing.
//!
//! Rules are kept as the lines that they are: only what decides whether a rule belongs to a tunnel is looked into.

mod beside;
mod foreign;
mod reach;

use crate::error::{Code, OrCannot, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

pub use beside::Mine;
pub use foreign::{Naming, interfaces};
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

    /// Of two things, one for each family, this family's.
    pub fn of<T>(self, v4: T, v6: T) -> T {
        match self {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// The name of the file that holds its rules.
    pub fn rules_file(self) -> &'static str {
        self.of("rules.v4", "rules.v6")
    }

    /// Its name for a person.
    pub fn name(self) -> &'static str {
        self.of("IPv4", "IPv6")
    }

    /// The setting by which it is forwarded.
    pub fn forwarding(self) -> &'static str {
        self.of("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    }

    /// What the settings of an interface begin with.
    pub fn interfaces(self) -> &'static str {
        self.of("net/ipv4/conf", "net/ipv6/conf")
    }

    /// Its name for `nft`.
    pub fn nft(self) -> &'static str {
        self.of("ip", "ip6")
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
        let with_sets = rules.filter(|r| r.contains("-set "));
        let mut named = BTreeSet::new();
        for words in with_sets.filter_map(|r| words(r)) {
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

    /// Tables that only `current` has and that do nothing: emptied ones, as nft can remove them.
    pub fn blank_in<'c>(&self, current: &'c Rules) -> Vec<&'c str> {
        let only_there = current
            .tables
            .iter()
            .filter(|(name, table)| table.is_blank() && !self.tables.contains_key(*name));
        only_there.map(|(name, _)| name.as_str()).collect()
    }

    /// Whether it has every table that those have.
    pub fn has_every_table_of(&self, others: &Rules) -> bool {
        let mut tables = others.tables.keys();
        tables.all(|name| self.tables.contains_key(name))
    }

    /// The rules that name one of these interfaces, by table.
    pub fn of_interfaces(&self, names: &BTreeSet<&str>) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::new();
        for (name, table) in &self.tables {
            let rules = table.rules.iter().filter(|r| names_interface(r, names));
            let rules: Vec<String> = rules.cloned().collect();
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
                    let mut new = added.clone();
                    new.retain(|r| chain_of(r) == chain);
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
                let default = (policy == "ACCEPT").then_some("ACCEPT");
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
    let mut words = rule.split(' ').skip_while(|w| !matches!(*w, "-j" | "-g"));
    words.nth(1).filter(|to| rules.chains.contains_key(*to))
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
    let what = format!("understand {what}");
    Rules::parse(text).or_cannot(
        Code::NOT_UNDERSTOOD,
        what,
        "look at that line with iptables-save",
    )
}

#[cfg(test)]
mod tests;
