//! Rules that are to stand where others have theirs: which of the loaded rules are others', how both stand together, and the lines
//! that lead there and touch no rule of others. Pure text; loads nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{RuleTable, Rules, chain_of, jump_of, names_interface};

/// Rules of one chain that are compared one by one; of more the chain is written anew.
const COMPARED: usize = 500;

/// Whose rules are not others'.
pub struct Mine<'a> {
    interfaces: &'a BTreeSet<&'a str>,
    rules: BTreeMap<&'a str, BTreeSet<&'a str>>,
    chains: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Mine<'a> {
    /// All that stand in these, and every rule that names one of these interfaces.
    pub fn of(known: &[&'a Rules], interfaces: &'a BTreeSet<&'a str>) -> Mine<'a> {
        let mut mine = Mine {
            interfaces,
            rules: BTreeMap::new(),
            chains: BTreeSet::new(),
        };
        for (name, table) in known.iter().flat_map(|rules| &rules.tables) {
            let rules = table.rules.iter().map(String::as_str);
            mine.rules.entry(name).or_default().extend(rules);
            let chains = table.chains.keys().map(|c| (name.as_str(), c.as_str()));
            mine.chains.extend(chains);
        }
        mine
    }

    fn knows(&self, table: &str, rule: &str) -> bool {
        let known = self.rules.get(table);
        known.is_some_and(|rules| rules.contains(rule)) || names_interface(rule, self.interfaces)
    }
}

impl RuleTable {
    fn of_chain<'t>(&'t self, chain: &'t str) -> impl Iterator<Item = &'t String> {
        self.rules.iter().filter(move |r| chain_of(r) == chain)
    }
}

impl Rules {
    /// These rules, and between them the others' among those that are loaded now: each behind the one of these that it is behind
    /// now, those that come first or last likewise. Applied to what is loaded then, it gives the same again.
    pub fn beside_others(&self, now: &Rules, mine: &Mine) -> Rules {
        let mut all = self.clone();
        for (name, loaded) in &now.tables {
            let others: Vec<&String> = loaded
                .rules
                .iter()
                .filter(|r| !mine.knows(name, r))
                .collect();
            let foreign_chain = |chain: &str| !mine.chains.contains(&(name, chain));
            let mut chains: BTreeMap<&String, &String> = loaded
                .chains
                .iter()
                .filter(|(c, _)| foreign_chain(c))
                .collect();
            // A chain of these that is to go stays for the rules of others that are in it or lead to it.
            for rule in &others {
                let named = [Some(chain_of(rule)), jump_of(rule, loaded)];
                let named = named.into_iter().flatten();
                chains.extend(named.filter_map(|c| loaded.chains.get_key_value(c)));
            }
            let kept = self.tables.get(name);
            chains.retain(|chain, policy| {
                let own = *policy == "-";
                kept.is_none_or(|t| !t.chains.contains_key(*chain)) && (own || kept.is_none())
            });
            if others.is_empty() && chains.values().all(|policy| *policy == "ACCEPT") {
                continue;
            }
            let table = all.tables.entry(name.clone()).or_default();
            for (chain, policy) in chains {
                table.chains.insert(chain.clone(), policy.clone());
            }
            let touched: BTreeSet<&str> = others.iter().map(|r| chain_of(r)).collect();
            for chain in touched {
                let merged = merged(
                    table.of_chain(chain).collect(),
                    &loaded.of_chain(chain).collect::<Vec<_>>(),
                    |rule| !mine.knows(name, rule),
                );
                table.rules.retain(|r| chain_of(r) != chain);
                table.rules.extend(merged);
            }
        }
        all
    }

    /// The text that makes these rules of the loaded ones, for `iptables-restore --noflush`. It names the rules that go and those
    /// that come, so that one which others add meanwhile stays; where one that is to go is gone already, its table stays as it is.
    /// A chain in which very much changes is written anew.
    pub fn edits(&self, now: &Rules) -> String {
        let mut out = String::new();
        let blank = RuleTable::default();
        let names: BTreeSet<&String> = self.tables.keys().chain(now.tables.keys()).collect();
        for name in names {
            let wanted = self.tables.get(name).unwrap_or(&blank);
            let loaded = now.tables.get(name).unwrap_or(&blank);
            let lines = table_edits(wanted, loaded);
            if !lines.is_empty() {
                // Writing to a string does not fail.
                let _ = writeln!(out, "*{name}\n{lines}COMMIT");
            }
        }
        out
    }
}

/// Both in one order.
fn merged(
    wanted: Vec<&String>,
    loaded: &[&String],
    is_others: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mine: Vec<bool> = loaded.iter().map(|r| !is_others(r)).collect();
    let first = mine.iter().position(|m| *m).unwrap_or(loaded.len());
    let last = mine.iter().rposition(|m| *m).unwrap_or(loaded.len());
    let mut behind: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut at = 0;
    for (i, rule) in loaded.iter().enumerate() {
        if mine[i] {
            if let Some(next) = wanted[at..].iter().position(|w| w == rule) {
                at += next + 1;
            }
            continue;
        }
        let slot = if i < first {
            0
        } else if i > last {
            wanted.len()
        } else {
            at
        };
        behind.entry(slot).or_default().push((*rule).clone());
    }
    let mut all = behind.remove(&0).unwrap_or_default();
    for (i, rule) in wanted.into_iter().enumerate() {
        all.push(rule.clone());
        all.extend(behind.remove(&(i + 1)).unwrap_or_default());
    }
    all
}

fn table_edits(wanted: &RuleTable, loaded: &RuleTable) -> String {
    let mut lines = String::new();
    // Writing to a string does not fail.
    for (chain, policy) in &wanted.chains {
        let there = loaded.chains.get(chain);
        // One of an admin's own that is there must not be named, or it would be emptied.
        if there.is_none() && policy == "-" || policy != "-" && there.is_none_or(|t| t != policy) {
            let _ = writeln!(lines, ":{chain} {policy} [0:0]");
        }
    }
    let mut gone = Vec::new();
    for (chain, policy) in &loaded.chains {
        if wanted.chains.contains_key(chain) {
            continue;
        }
        match policy.as_str() {
            "-" => gone.push(chain),
            "ACCEPT" => {}
            _ => drop(writeln!(lines, ":{chain} ACCEPT [0:0]")),
        }
    }
    let wanted_chains = by_chain(wanted);
    let loaded_chains = by_chain(loaded);
    let none = Vec::new();
    // What leads to a chain that goes must go before it.
    let chains: BTreeSet<&&str> = wanted_chains.keys().chain(loaded_chains.keys()).collect();
    for chain in chains.into_iter().filter(|c| !gone.iter().any(|g| g == *c)) {
        let wanted = wanted_chains.get(*chain).unwrap_or(&none);
        let loaded = loaded_chains.get(*chain).unwrap_or(&none);
        if wanted != loaded {
            lines.push_str(&chain_edits(chain, wanted, loaded));
        }
    }
    for chain in &gone {
        let _ = writeln!(lines, "-F {chain}");
    }
    for chain in gone {
        let _ = writeln!(lines, "-X {chain}");
    }
    lines
}

fn by_chain(table: &RuleTable) -> BTreeMap<&str, Vec<&str>> {
    let mut chains: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for rule in &table.rules {
        chains.entry(chain_of(rule)).or_default().push(rule);
    }
    chains
}

fn chain_edits(chain: &str, wanted: &[&str], loaded: &[&str]) -> String {
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = wanted.iter().zip(loaded).take_while(same).count();
    let (w, l) = (&wanted[head..], &loaded[head..]);
    let tail = w.iter().rev().zip(l.iter().rev()).take_while(same).count();
    let (w, l) = (&w[..w.len() - tail], &l[..l.len() - tail]);
    let anew = || {
        let rules: String = wanted.iter().map(|rule| format!("{rule}\n")).collect();
        format!("-F {chain}\n{rules}")
    };
    // What only comes is cheap whatever its number is.
    if l.len() > COMPARED || l.len() * w.len() > COMPARED * COMPARED {
        return anew();
    }
    let stays = in_both(w, l);
    let mut lines = String::new();
    let mut now: Vec<&str> = loaded.to_vec();
    for (i, rule) in l.iter().enumerate() {
        if !stays.contains(&(i, true)) {
            let _ = writeln!(lines, "-D {}", rule.strip_prefix("-A ").unwrap_or(rule));
            // The kernel takes the first that is alike.
            if let Some(at) = now.iter().position(|r| r == rule) {
                now.remove(at);
            }
        }
    }
    for (i, rule) in w.iter().enumerate() {
        if stays.contains(&(i, false)) {
            continue;
        }
        let at = head + i;
        if at >= now.len() {
            let _ = writeln!(lines, "{rule}");
            now.push(rule);
        } else {
            let own = rule.strip_prefix("-A ").unwrap_or(rule);
            let words = own.strip_prefix(chain).unwrap_or(own);
            let _ = writeln!(lines, "-I {chain} {}{words}", at + 1);
            now.insert(at, rule);
        }
    }
    if now == wanted { lines } else { anew() }
}

/// The places, in the loaded rules (true) and in the wanted ones, of what stays: a longest common part of both.
fn in_both(wanted: &[&str], loaded: &[&str]) -> BTreeSet<(usize, bool)> {
    let (rows, columns) = (loaded.len() + 1, wanted.len() + 1);
    let mut longest = vec![0_u32; rows * columns];
    let at = |i: usize, j: usize| i * columns + j;
    for i in (0..loaded.len()).rev() {
        for j in (0..wanted.len()).rev() {
            longest[at(i, j)] = if loaded[i] == wanted[j] {
                longest[at(i + 1, j + 1)] + 1
            } else {
                longest[at(i + 1, j)].max(longest[at(i, j + 1)])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut stays = BTreeSet::new();
    while i < loaded.len() && j < wanted.len() {
        if loaded[i] == wanted[j] {
            stays.extend([(i, true), (j, false)]);
            (i, j) = (i + 1, j + 1);
        } else if longest[at(i + 1, j)] >= longest[at(i, j + 1)] {
            i += 1;
        } else {
            j += 1;
        }
    }
    stays
}

#[cfg(test)]
mod tests;
