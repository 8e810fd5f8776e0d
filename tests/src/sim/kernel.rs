//! What a reboot takes: tunnels, rules, forwarding, the fence, running services. Owns the semantics of `iptables-restore`
//! (atomic for a table, not for a file), and of hooks that call `iptables`; knows no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use engine::host::Family;

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

const BUILTIN: [(&str, &[&str]); 2] = [
    ("filter", &["FORWARD", "INPUT", "OUTPUT"]),
    ("nat", &["POSTROUTING", "PREROUTING"]),
];

/// The rules of a family as they are after boot.
pub fn blank() -> Rules {
    BUILTIN
        .iter()
        .map(|(table, chains)| {
            let chains = chains
                .iter()
                .map(|c| ((*c).to_owned(), "ACCEPT".to_owned()));
            (
                (*table).to_owned(),
                Table {
                    chains: chains.collect(),
                    rules: Vec::new(),
                },
            )
        })
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
}

/// Cuts the input of `iptables-restore` into its tables.
pub fn batches(text: &str) -> Vec<Batch> {
    let mut batches = Vec::new();
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('*') {
            batches.push(Batch {
                table: table.to_owned(),
                lines: Vec::new(),
            });
        } else if line != "COMMIT"
            && let Some(last) = batches.last_mut()
        {
            last.lines.push(line.to_owned());
        }
    }
    batches
}

impl Batch {
    /// The table after it, or why it stays as it is.
    pub fn apply(&self, rules: &Rules, flush: bool) -> Result<Table, String> {
        let now = rules.get(&self.table).cloned().unwrap_or_default();
        let mut table = if flush { Table::default() } else { now };
        for line in &self.lines {
            if let Some(chain) = line.strip_prefix(':') {
                let mut words = chain.split_whitespace();
                let (name, policy) = (
                    words.next().unwrap_or_default(),
                    words.next().unwrap_or_default(),
                );
                table.chains.insert(name.to_owned(), policy.to_owned());
            } else {
                edit(&mut table, line)?;
            }
        }
        Ok(table)
    }
}

/// Carries out one `-A` or `-D`.
pub fn edit(table: &mut Table, line: &str) -> Result<(), String> {
    let (action, rule) = line.split_once(' ').ok_or("a line without a rule")?;
    let rule = format!("-A {rule}");
    match action {
        "-A" => {
            let target = rule.split_once("-j ").map(|(_, t)| t.trim());
            if let Some(target) = target.filter(|t| !["ACCEPT", "DROP", "MASQUERADE"].contains(t))
                && !table.chains.contains_key(target)
            {
                return Err(format!("no chain {target}"));
            }
            table.rules.push(rule);
            Ok(())
        }
        "-D" => {
            let at = table.rules.iter().position(|r| *r == rule);
            table.rules.remove(at.ok_or("no such rule")?);
            Ok(())
        }
        other => Err(format!("no action {other}")),
    }
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

/// The hooks of a config, `PostUp` or `PostDown`.
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
    /// `net.ipv4.ip_forward`.
    pub ip_forward: bool,
    /// The gateway's service runs.
    pub running: bool,
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
            ip_forward: false,
            running: false,
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

    /// Carries out a hook.
    pub fn hook(&mut self, hook: &Hook) -> Result<(), String> {
        edit(
            self.rules(hook.family)
                .entry(hook.table.clone())
                .or_default(),
            &hook.line,
        )
    }
}
