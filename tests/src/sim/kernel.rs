//! What a reboot takes: tunnels, rules, forwarding, the fence, running services. Owns the semantics of `iptables-restore`
//! (atomic for a table, not for a file), of `nft -f` (atomic for all of it), and of hooks that call `iptables`; knows no
//! disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use engine::host::Family;

use super::link::SetByHand;
use super::peers::Peers;

/// One table of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Table {
    /// Chain and policy.
    pub chains: BTreeMap<String, String>,
    /// `-A CHAIN ...`, in order.
    pub rules: Vec<String>,
}

/// The rules of one family, by table.
pub type Rules = BTreeMap<String, Table>;

const BUILTIN: [(&str, &[&str]); 5] = [
    ("filter", &["FORWARD", "INPUT", "OUTPUT"]),
    (
        "mangle",
        &["FORWARD", "INPUT", "OUTPUT", "POSTROUTING", "PREROUTING"],
    ),
    ("nat", &["INPUT", "OUTPUT", "POSTROUTING", "PREROUTING"]),
    ("raw", &["OUTPUT", "PREROUTING"]),
    ("security", &["FORWARD", "INPUT", "OUTPUT"]),
];

/// Targets that are no chains.
const TARGETS: [&str; 6] = ["ACCEPT", "DROP", "MASQUERADE", "REJECT", "RETURN", "TCPMSS"];

/// A table as it is when it is first named; none if there is no such table.
fn fresh(table: &str) -> Option<Table> {
    let (_, chains) = BUILTIN.iter().find(|(name, _)| *name == table)?;
    let chains = chains
        .iter()
        .map(|c| ((*c).to_owned(), "ACCEPT".to_owned()));
    Some(Table {
        chains: chains.collect(),
        rules: Vec::new(),
    })
}

/// The rules of a family as they are after boot.
pub fn blank() -> Rules {
    ["filter", "nat"]
        .into_iter()
        .filter_map(|table| Some((table.to_owned(), fresh(table)?)))
        .collect()
}

/// What `iptables-save` prints.
pub fn save(rules: &Rules) -> String {
    let mut out = String::new();
    for (name, table) in rules {
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
    out
}

/// One table of what `iptables-restore` reads.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The table.
    pub table: String,
    lines: Vec<String>,
    /// Its `COMMIT` is there.
    whole: bool,
}

/// Cuts the input of `iptables-restore` into its tables.
pub fn batches(text: &str) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if let Some(table) = line.strip_prefix('*') {
            batches.push(Batch {
                table: table.to_owned(),
                lines: Vec::new(),
                whole: false,
            });
        } else if let Some(last) = batches.last_mut() {
            if line == "COMMIT" {
                last.whole = true;
            } else {
                last.lines.push(line.to_owned());
            }
        }
    }
    batches
}

impl Batch {
    /// The table after it, or why it stays as it is.
    pub fn apply(&self, rules: &Rules) -> Result<Table, String> {
        let fresh = fresh(&self.table).ok_or("no such table")?;
        if !self.whole {
            return Err("COMMIT expected".into());
        }
        let mut table = rules.get(&self.table).cloned().unwrap_or(fresh);
        for line in &self.lines {
            if let Some(chain) = line.strip_prefix(':') {
                let mut words = chain.split_whitespace();
                let (name, policy) = (
                    words.next().unwrap_or_default(),
                    words.next().unwrap_or_default(),
                );
                if policy == "-" {
                    // One that is there is emptied.
                    table.rules.retain(|rule| chain_of(rule) != name);
                }
                table.chains.insert(name.to_owned(), policy.to_owned());
            } else {
                edit(&mut table, line)?;
            }
        }
        Ok(table)
    }
}

/// `-A CHAIN ...`
fn chain_of(rule: &str) -> &str {
    rule.split(' ').nth(1).unwrap_or_default()
}

/// Carries out one `-A`, `-I`, `-D`, `-F` or `-X`.
pub fn edit(table: &mut Table, line: &str) -> Result<(), String> {
    let (action, rule) = line.split_once(' ').ok_or("a line without a rule")?;
    let chain = rule.split(' ').next().unwrap_or_default();
    if !table.chains.contains_key(chain) {
        return Err(format!("no chain {chain}"));
    }
    let leads_to = |rule: &str| -> Option<String> {
        let target = rule.split(' ').skip_while(|w| *w != "-j").nth(1);
        target.map(str::to_owned)
    };
    match action {
        "-A" | "-I" => {
            // `-I CHAIN N ...`: before the one that is N-th now.
            let mut words: Vec<&str> = rule.split(' ').collect();
            let numbered = words.get(1).and_then(|n| n.parse::<usize>().ok());
            if numbered.is_some() {
                words.remove(1);
            }
            let rule = format!("-A {}", words.join(" "));
            let target = leads_to(&rule);
            if let Some(target) = target.filter(|t| !TARGETS.contains(&t.as_str()))
                && !table.chains.contains_key(&target)
            {
                return Err(format!("no chain {target}"));
            }
            let rules = table.rules.iter().enumerate();
            let of_chain = rules.filter(|(_, r)| chain_of(r) == chain);
            let mut places: Vec<usize> = of_chain.map(|(at, _)| at).collect();
            places.push(places.last().map_or(table.rules.len(), |last| last + 1));
            let place = match action {
                "-A" => places.last(),
                _ => places.get(numbered.unwrap_or(1).wrapping_sub(1)),
            };
            table.rules.insert(*place.ok_or("no such number")?, rule);
            Ok(())
        }
        "-D" => {
            let at = table.rules.iter().position(|r| r[3..] == *rule);
            table.rules.remove(at.ok_or("no such rule")?);
            Ok(())
        }
        "-F" => {
            table.rules.retain(|r| chain_of(r) != chain);
            Ok(())
        }
        "-X" => {
            let is_used =
                |r: &String| chain_of(r) == chain || leads_to(r).as_deref() == Some(chain);
            if table.rules.iter().any(is_used) || table.chains[chain] != "-" {
                return Err(format!("{chain} is used"));
            }
            table.chains.remove(chain);
            Ok(())
        }
        other => Err(format!("no action {other}")),
    }
}

/// One thing that `nft -f` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nft {
    /// The fence is closed, by this ruleset.
    Close(String),
    /// The fence is lifted.
    Lift,
    /// A table of `iptables` is removed.
    Remove(Family, String),
}

/// What `nft -f` makes of its input: all of it or nothing.
pub fn nft(text: &str, kernel: &Kernel) -> Result<Vec<Nft>, String> {
    let mut actions = Vec::new();
    let mut made: Vec<(&str, &str)> = Vec::new();
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [] => {}
            ["add", "table", family, table] => made.push((family, table)),
            ["delete", "table", "inet", "holdfast"] => {
                if kernel.fence.is_none() && !made.contains(&("inet", "holdfast")) {
                    return Err("no such table".into());
                }
                actions.push(Nft::Lift);
            }
            ["delete", "table", family, table] => {
                let (of, rules) = match family {
                    "ip" => (Family::V4, &kernel.v4),
                    "ip6" => (Family::V6, &kernel.v6),
                    _ => return Err(format!("no tables of {family}")),
                };
                if !rules.contains_key(table) && !made.contains(&(family, table)) {
                    return Err("no such table".into());
                }
                actions.push(Nft::Remove(of, table.to_owned()));
            }
            ["table", "inet", "holdfast", "{"] if text.ends_with("\t}\n}\n") => {
                // The rest of it is this table.
                actions.push(Nft::Close(text.to_owned()));
                return Ok(actions);
            }
            _ => return Err(format!("syntax error: {line}")),
        }
    }
    Ok(actions)
}

/// One line of a hook: `iptables [-t TABLE] -A|-D CHAIN ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// What it does to it.
    pub line: String,
}

/// The hooks of a config: `PreUp`, `PostUp`, `PreDown` or `PostDown`.
pub fn hooks(config: &str, key: &str, interface: &str) -> Vec<Hook> {
    let lines = config
        .lines()
        .filter_map(|l| l.strip_prefix(key)?.trim().strip_prefix('='));
    lines
        .filter_map(|l| {
            let command = l.trim().replace("%i", interface);
            let (program, rest) = command.split_once(' ')?;
            let family = match program {
                "iptables" => Family::V4,
                "ip6tables" => Family::V6,
                _ => return None,
            };
            let (table, line) = match rest.strip_prefix("-t ") {
                Some(rest) => rest.split_once(' ')?,
                None => ("filter", rest),
            };
            Some(Hook {
                family,
                table: table.to_owned(),
                line: line.to_owned(),
            })
        })
        .collect()
}

/// A tunnel that is up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Up {
    /// The config that it came up with.
    pub config: String,
    /// Addresses and hooks are there, too.
    pub whole: bool,
    /// Its peers: those of the config, and what was set since.
    pub peers: Peers,
    /// What was set by hand of the interface.
    pub by_hand: SetByHand,
}

/// All that a reboot takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// WireGuard interfaces.
    pub tunnels: BTreeMap<String, Up>,
    /// IPv4 rules.
    pub v4: Rules,
    /// IPv6 rules.
    pub v6: Rules,
    /// The fence's ruleset, if it is closed.
    pub fence: Option<String>,
    /// Whether packets are forwarded, of each protocol that the kernel has.
    pub forwards: BTreeMap<Family, bool>,
    /// The gateway's service runs.
    pub running: bool,
    /// So often it began to run in this boot.
    pub runs: u32,
    /// It does not run, but fails and is started again and again.
    pub falters: bool,
    /// The objects that it has open.
    pub open: BTreeSet<super::disk::Object>,
}

impl Kernel {
    /// As it is after boot, before anything of the gateway started: others have loaded their rules.
    pub fn booted() -> Kernel {
        let mut v4 = blank();
        if let Some(filter) = v4.get_mut("filter") {
            filter.rules = vec!["-A INPUT -p tcp --dport 22 -j ACCEPT".into()];
        }
        Kernel {
            tunnels: BTreeMap::new(),
            v4,
            v6: blank(),
            fence: None,
            forwards: Family::BOTH.map(|f| (f, false)).into(),
            running: false,
            runs: 0,
            falters: false,
            open: BTreeSet::new(),
        }
    }

    /// The rules of a family.
    pub fn rules(&mut self, family: Family) -> &mut Rules {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Whether the rule of a hook is there.
    pub fn has(&self, hook: &Hook) -> bool {
        let rules = match hook.family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        let table = rules.get(&hook.table);
        table.is_some_and(|table| table.rules.contains(&hook.line))
    }

    /// Carries out a hook.
    pub fn hook(&mut self, hook: &Hook) -> Result<(), String> {
        let rules = self.rules(hook.family);
        let now = rules.get(&hook.table).cloned();
        let mut table = now.or_else(|| fresh(&hook.table)).ok_or("no such table")?;
        edit(&mut table, &hook.line)?;
        rules.insert(hook.table.clone(), table);
        Ok(())
    }

    /// Does what `nft -f` was told.
    pub fn nft(&mut self, actions: &[Nft]) {
        for action in actions {
            match action {
                Nft::Close(ruleset) => self.fence = Some(ruleset.clone()),
                Nft::Lift => self.fence = None,
                Nft::Remove(family, table) => {
                    self.rules(*family).remove(table);
                }
            }
        }
    }
}
