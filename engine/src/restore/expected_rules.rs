//! Which firewall rules should hold now, for either direction, and whether they do. Reads files and the host; loads
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use journal_format::Direction;

use crate::error::{Code, Problem, cannot};
use crate::gateway::kernel_facts::Facts;
use crate::host::{Family, Host, Query};
use crate::restore::step::Env;
use crate::text::iptables::{Mine, Rules, parse};
use crate::text::octets;

const RULES_BYTES: u64 = 64 << 20;
const WHY_BYTES: u64 = 1 << 20;

/// What should hold.
pub enum Expected {
    /// All of these, once each, beside what others add meanwhile.
    Whole(Rules),
    /// The gateway's own of these: others have loaded theirs afresh since the reboot.
    Own(Rules),
}

/// The rules that are loaded now.
pub fn current(host: &dyn Host, family: Family) -> Result<Rules, Problem> {
    let text = host.ask(&Query::Rules(family), "")?.expect_ok(
        Code::QUERY_FAILED,
        "read the firewall rules",
        "install iptables, run as root",
    )?;
    parse(&text, "the loaded rules")
}

/// The families whose rules a restore may touch: those that were read before it began. Others could not be put back.
pub fn touched<'e>(env: &Env<'e>) -> impl Iterator<Item = Family> + use<'e> {
    let facts = env.facts;
    let read = move |family: &Family| facts.rules(*family).is_some();
    Family::BOTH.into_iter().filter(read)
}

/// The file that is there once the admin's consent to go on without the backup's rules came true.
pub fn note(env: &Env) -> PathBuf {
    env.dir.join("after").join("fell-back")
}

/// Why the backup's rules could not be loaded, where the admin accepted that beforehand and it came true.
pub fn fell_back(env: &Env) -> Result<Option<String>, Problem> {
    let note = note(env);
    if env.host.stat(&note)?.is_none() {
        return Ok(None);
    }
    let why = env.host.read(&note, WHY_BYTES)?;
    Ok(Some(String::from_utf8_lossy(&why).into_owned()))
}

/// What should hold, in this direction.
pub fn expected(env: &Env, direction: Direction, family: Family) -> Result<Expected, Problem> {
    let planned = match family {
        Family::V4 => &env.plan.firewall.v4,
        Family::V6 => &env.plan.firewall.v6,
    };
    match direction {
        Direction::Forward => match planned {
            Some(digest) if fell_back(env)?.is_none() => {
                let path = env.after_rules(family);
                if env.host.sha256(&path)? != *digest {
                    return Err(cannot(
                        Code::FACTS_CHANGED,
                        format!("use {}: it is not what the plan names", path.display()),
                        "someone changed it; `holdfast recover --roll-back` rolls back without it",
                    ));
                }
                Ok(Expected::Whole(after(env, family)?))
            }
            _ => Ok(Expected::Whole(merged(env, family)?)),
        },
        // Where this boot's rules were replaced by the backup's, there is nothing of others' left to spare.
        Direction::Back if env.same_boot || env.loaded => {
            Ok(Expected::Whole(env.facts.parsed_rules(family)?))
        }
        Direction::Back => Ok(Expected::Own(env.facts.parsed_rules(family)?)),
    }
}

/// The backup's rules, as the rehearsal printed them.
fn after(env: &Env, family: Family) -> Result<Rules, Problem> {
    let text = octets::text(&env.host.read(&env.after_rules(family), RULES_BYTES)?);
    parse(&text, "the backup's rules")
}

/// What is not others', besides what should hold: what stood before the restore, and what it may have loaded. Where nobody can say
/// what it loaded, all that stands now.
pub fn known(env: &Env, family: Family) -> Result<Vec<Rules>, Problem> {
    let planned = match family {
        Family::V4 => &env.plan.firewall.v4,
        Family::V6 => &env.plan.firewall.v6,
    };
    let mut known = vec![env.facts.parsed_rules(family)?];
    if planned.is_some() {
        known.push(after(env, family).or_else(|_| current(env.host, family))?);
    }
    Ok(known)
}

/// Every tunnel of the gateway: a rule that names one is the gateway's own.
pub fn managed<'e>(env: &'e Env) -> BTreeSet<&'e str> {
    let mut all = env.replaced();
    all.extend(env.facts.tunnels.iter().map(String::as_str));
    all
}

/// What holds where none of the backup's rules do: what was there, less the replaced tunnels' rules, plus what tunnels and services
/// added.
pub fn merged(env: &Env, family: Family) -> Result<Rules, Problem> {
    let before = env.facts.parsed_rules(family)?;
    let now = current(env.host, family)?;
    Ok(Rules::without_backup(&before, &now, &env.replaced()))
}

/// Where the gateway's own rules differ from those of before, by table.
pub struct RuleDiff {
    /// These are there too seldom.
    pub missing: BTreeMap<String, Vec<String>>,
    /// These are there too often: a service that was started twice adds its rules twice, also those of tunnels that
    /// nothing replaced.
    pub surplus: BTreeMap<String, Vec<String>>,
}

/// Compares only what names the gateway's tunnels; of one that is not replaced, only what was there before.
pub fn own_unlike(env: &Env, before: &Rules, now: &Rules) -> RuleDiff {
    let (replaced, all) = (env.replaced(), managed(env));
    let (was, is) = (before.of_interfaces(&all), now.of_interfaces(&all));
    let mine = |rules: &Rules| rules.of_interfaces(&replaced);
    let (mine_before, mine_now) = (mine(before), mine(now));
    let holds = |rules: &BTreeMap<String, Vec<String>>, table: &String, rule: &String| {
        rules.get(table).is_some_and(|r| r.contains(rule))
    };
    let mut surplus = more(&is, &was);
    for (table, rules) in &mut surplus {
        rules.retain(|r| holds(&mine_now, table, r) || holds(&was, table, r));
    }
    surplus.retain(|_, rules| !rules.is_empty());
    RuleDiff {
        missing: more(&mine_before, &mine_now),
        surplus,
    }
}

/// What the first have more often than the second.
fn more(
    first: &BTreeMap<String, Vec<String>>,
    second: &BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, Vec<String>> {
    let mut more = BTreeMap::new();
    for (table, rules) in first {
        let mut there = second.get(table).cloned().unwrap_or_default();
        let mut rest = rules.clone();
        rest.retain(|rule| match there.iter().position(|t| t == rule) {
            Some(at) => {
                there.swap_remove(at);
                false
            }
            None => true,
        });
        if !rest.is_empty() {
            more.insert(table.clone(), rest);
        }
    }
    more
}

/// What is missing or too much, a line each.
pub fn differences(env: &Env, direction: Direction) -> Result<Vec<String>, Problem> {
    let mut all = Vec::new();
    for family in touched(env) {
        let now = current(env.host, family)?;
        match expected(env, direction, family)? {
            Expected::Whole(rules) => {
                // Others may have added theirs, also such as stood before.
                let managed = managed(env);
                let rules = rules.beside_others(&now, &Mine::of(&[&rules], &managed));
                if rules.same_as(&now) {
                    continue;
                }
                for (how, lines) in [
                    ("missing", rules.missing_in(&now)),
                    ("too much", now.missing_in(&rules)),
                ] {
                    all.extend(lines.iter().map(|l| format!("{how}: {l}")));
                }
                if all.is_empty() {
                    all.push("the rules stand in another order".into());
                }
            }
            Expected::Own(rules) => {
                let unlike = own_unlike(env, &rules, &now);
                for (how, tables) in [("missing", unlike.missing), ("too much", unlike.surplus)] {
                    for (table, rules) in tables {
                        all.extend(rules.iter().map(|r| format!("{how}: {table}: {r}")));
                    }
                }
            }
        }
    }
    for line in &mut all {
        *line = octets::shown(line).into_owned();
    }
    for (family, wanted) in unlike_forwarding(env, direction)? {
        let setting = family.forwarding();
        all.push(format!("{setting} is not {}", u8::from(wanted)));
    }
    for (family, interface, wanted) in unlike_apart(env, direction)? {
        all.push(format!(
            "{}/{interface}/forwarding is not {}",
            family.interfaces(),
            u8::from(wanted)
        ));
    }
    Ok(all)
}

/// The families whose packets are forwarded although they should not be, or not although they should.
pub fn unlike_forwarding(env: &Env, direction: Direction) -> Result<Vec<(Family, bool)>, Problem> {
    let mut unlike = Vec::new();
    for family in Family::BOTH {
        if let Some(wanted) = forwarding(env, direction, family)
            && let Some(now) = env.host.forwarding(family)?
            && now != wanted
        {
            unlike.push((family, wanted));
        }
    }
    Ok(unlike)
}

/// The interfaces whose forwarding was set apart from that of all, is to be so again, and is not: whoever set that of all in
/// between, a tunnel's hook or a restore, set theirs with it. Those that are gone are passed over.
pub fn unlike_apart<'e>(
    env: &Env<'e>,
    direction: Direction,
) -> Result<Vec<(Family, &'e str, bool)>, Problem> {
    let facts: &'e Facts = env.facts;
    let mut unlike = Vec::new();
    for family in Family::BOTH {
        let wanted = forwarding(env, direction, family);
        if wanted.is_none() || wanted != facts.forwards(family) {
            continue;
        }
        for (interface, on) in facts.apart(family) {
            let now = env.host.forwarding_of(family, interface)?;
            if now.is_some_and(|now| now != *on) {
                unlike.push((family, interface.as_str(), *on));
            }
        }
    }
    Ok(unlike)
}

/// Whether packets of a family should be forwarded; none where it is left alone.
fn forwarding(env: &Env, direction: Direction, family: Family) -> Option<bool> {
    let planned = match family {
        Family::V4 => env.plan.firewall.ip_forward,
        Family::V6 => env.plan.firewall.ipv6_forward,
    };
    match direction {
        Direction::Forward => match planned {
            Some(planned) => Some(planned),
            // It stays; but what it was went with the boot.
            None if env.same_boot => None,
            None => env.facts.forwards(family),
        },
        Direction::Back => env.facts.forwards(family),
    }
}
