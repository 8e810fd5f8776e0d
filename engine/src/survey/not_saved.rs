//! State of kinds that no backup has: tables of nft, firewalld, ufw, sets of ipset. Looks whether there is any, so that it
//! can be named; saves nothing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Code, Problem};
use crate::gateway::kernel_facts::Facts;
use crate::host::{ExitKind, Family, Host, Query};
use crate::text::fence_rules;
use crate::text::iptables::Rules;
use crate::text::wording::{counted, names, why};

const NFTABLES: &str = "/etc/nftables.conf";

const UFW: &str = "/etc/ufw/ufw.conf";

/// State of kinds that no backup has, a sentence each: what an admin might take for a part of the firewall, or of the gateway.
pub(super) fn beyond(host: &dyn Host, facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    nft_tables(host, facts, &mut found);
    nftables_at_boot(host, &mut found);
    firewalld(host, &mut found);
    ufw(host, &mut found);
    sets(host, facts, &mut found);
    found
}

fn nft_tables(host: &dyn Host, facts: &Facts, found: &mut Vec<String>) {
    let own = |family: Family, table: &str| {
        // Those of a family that could not be read are named as that.
        let begins = format!("*{table}\n");
        let there = |text: &str| text.starts_with(&begins) || text.contains(&format!("\n{begins}"));
        facts.rules(family).is_none_or(there) || table.starts_with("wg-quick-")
    };
    match host.ask(&Query::NftTables, "") {
        Ok(out) if out.ok() => {
            let tables = out.stdout.lines().filter_map(|l| l.strip_prefix("table "));
            let others: Vec<&str> = tables
                .filter(|table| match table.split_once(' ') {
                    Some(("ip", name)) => !own(Family::V4, name),
                    Some(("ip6", name)) => !own(Family::V6, name),
                    Some(("inet", name)) => name != fence_rules::TABLE,
                    Some(_) => true,
                    None => false,
                })
                .collect();
            if !others.is_empty() {
                found.push(not_saved(others, "table", "of nft"));
            }
        }
        asked => {
            let problem = match asked {
                Ok(out) => out.problem(
                    Code::QUERY_FAILED,
                    "list the tables of nft",
                    "run it as root",
                ),
                Err(problem) => problem,
            };
            let then = "If it has, a backup does not save them";
            found.push(not_known("nft has tables of its own", then, &problem));
        }
    }
}

fn nftables_at_boot(host: &dyn Host, found: &mut Vec<String>) {
    let is_there =
        |path: &str| -> Result<bool, Problem> { Ok(host.stat(Path::new(path))?.is_some()) };
    let wanted = || -> Result<bool, Problem> {
        let mut wanted = false;
        for target in ["sysinit", "multi-user"] {
            wanted |= is_there(&format!(
                "/etc/systemd/system/{target}.target.wants/nftables.service"
            ))?;
        }
        Ok(wanted && is_there(NFTABLES)?)
    };
    match wanted() {
        Ok(false) => {}
        Ok(true) => found.push(format!(
            "{NFTABLES} is not saved, and nftables.service loads it at each boot"
        )),
        Err(problem) => found.push(not_known(
            "nftables.service loads rules at each boot",
            "If it does, a backup does not save its file",
            &problem,
        )),
    }
}

const FIREWALLD: &str = "If it runs, a backup does not save its settings";

fn firewalld(host: &dyn Host, found: &mut Vec<String>) {
    match host.ask(&Query::Firewalld, "") {
        // It is stopped, or there is none.
        Ok(out) if matches!(out.end, ExitKind::Exit(3 | 4)) => {}
        Ok(out) if out.ok() => found.push(
            "firewalld runs: what it is set to (/etc/firewalld) is not saved, and it may write over rules".into(),
        ),
        Ok(out) => {
            let problem = out.problem(Code::QUERY_FAILED, "ask for firewalld", "see systemctl status");
            found.push(not_known("firewalld runs", FIREWALLD, &problem));
        }
        Err(problem) => found.push(not_known("firewalld runs", FIREWALLD, &problem)),
    }
}

fn ufw(host: &dyn Host, found: &mut Vec<String>) {
    let ufw = host.stat(Path::new(UFW)).and_then(|there| match there {
        None => Ok(Vec::new()),
        Some(_) => host.read(Path::new(UFW), 1 << 20),
    });
    match ufw {
        Ok(bytes) if bytes.split(|b| *b == b'\n').any(|line| line == b"ENABLED=yes") => found.push(
            "ufw is enabled: what it is set to (/etc/ufw) is not saved, and it loads that at each boot".into(),
        ),
        Ok(_) => {}
        Err(problem) => {
            let then = "If it is, a backup does not save its settings";
            found.push(not_known("ufw is enabled", then, &problem));
        }
    }
}

fn sets(host: &dyn Host, facts: &Facts, found: &mut Vec<String>) {
    let texts = Family::BOTH.into_iter().filter_map(|f| facts.rules(f));
    // Thousands of rules are not gone through for what few have.
    let parsed = texts
        .filter(|text| text.contains("-set "))
        .filter_map(|text| Rules::parse(text).ok());
    let named: BTreeSet<String> = parsed.flat_map(|r| r.sets()).collect();
    let sets = host.ask(&Query::Sets, "");
    let sets = sets.and_then(|out| {
        out.expect_ok(
            Code::QUERY_FAILED,
            "list the sets of ipset",
            "run it as root",
        )
    });
    let sets = sets.unwrap_or_else(|problem| {
        let then = "If it has, a backup does not save them";
        found.push(not_known("ipset has sets", then, &problem));
        String::new()
    });
    let sets: BTreeSet<String> = sets
        .lines()
        .map(str::to_owned)
        .chain(named.iter().cloned())
        .collect();
    if !sets.is_empty() {
        let load = match named.is_empty() {
            true => String::new(),
            false => format!(
                "; rules name {}, and load only where there are sets of these names",
                names(&named)
            ),
        };
        found.push(format!("{}{load}", not_saved(&sets, "set", "of ipset")));
    }
}

/// Of what is not saved in any case, where it could not be looked for.
fn not_known(what: &str, then: &str, problem: &Problem) -> String {
    let why = why(problem);
    let why = match &problem.command {
        Some(command) => format!("`{command}` failed ({why})"),
        None => why,
    };
    format!("Holdfast does not know whether {what}: {why}. {then}")
}

/// `1 table of nft is not saved: inet myfw`
fn not_saved<T: AsRef<str>>(all: impl IntoIterator<Item = T>, one: &str, whose: &str) -> String {
    let all: Vec<T> = all.into_iter().collect();
    let verb = if all.len() == 1 { "is" } else { "are" };
    format!(
        "{} {whose} {verb} not saved: {}",
        counted(all.len(), one),
        names(all)
    )
}
