//! Which peers running tunnels should have besides those of their configs, for either direction, and whether they have them.
//! Reads files and the host; sets nothing.

use std::collections::BTreeMap;

use journal_format::Direction;

use crate::error::{Code, Problem, cannot};
use crate::gateway::peers::{self, Peers};
use crate::host::Query;
use crate::plan::prepare::PEERS;
use crate::restore::step::Env;

const PEERS_BYTES: u64 = 64 << 20;

/// The peers that tunnels should have, by interface; of a tunnel that is not here its config says it all.
pub fn wanted(env: &Env, direction: Direction) -> Result<BTreeMap<String, Peers>, Problem> {
    match direction {
        Direction::Forward => planned(env),
        // What was added or taken away while they ran is in no file.
        Direction::Back => {
            let tunnels = env.facts.tunnels.iter();
            let had = |name: &String| env.facts.peers.get(name).cloned().unwrap_or_default();
            Ok(tunnels.map(|name| (name.clone(), had(name))).collect())
        }
    }
}

fn planned(env: &Env) -> Result<BTreeMap<String, Peers>, Problem> {
    let Some(digest) = &env.plan.peers else {
        return Ok(BTreeMap::new());
    };
    let path = env.dir.join("after").join(PEERS);
    let unusable = |why: &str| {
        cannot(
            Code::FACTS_CHANGED,
            format!("use {}: {why}", path.display()),
            "someone changed it; `holdfast recover --roll-back` rolls back without it",
        )
    };
    if env.host.sha256(&path)? != *digest {
        return Err(unusable("it is not what the plan names"));
    }
    // Nothing of it may be shown: it may have preshared keys.
    serde_json::from_slice(&env.host.read(&path, PEERS_BYTES)?)
        .map_err(|_| unusable("it does not say which peers"))
}

/// The peers that these tunnels have now.
pub fn now<'n>(
    env: &Env,
    tunnels: impl Iterator<Item = &'n String>,
) -> Result<BTreeMap<String, Peers>, Problem> {
    let dump = env.host.ask(&Query::Peers, "")?.expect_ok(
        Code::QUERY_FAILED,
        "list the peers",
        "install wireguard-tools",
    )?;
    let names: Vec<String> = tunnels.cloned().collect();
    let mut now = peers::in_dump(&dump, &names);
    for name in names {
        now.entry(name).or_default();
    }
    Ok(now)
}

/// Tunnels that lack a peer which the plan gives them, or have it otherwise, as a person reads it. Peers that others added
/// meanwhile are theirs.
pub fn lacking(env: &Env) -> Result<Vec<String>, Problem> {
    let mut wanted = planned(env)?;
    wanted.retain(|name, _| !env.lacking.tunnels.contains(name));
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let now = now(env, wanted.keys())?;
    let lacks = |name: &&String| {
        let (wanted, now) = (&wanted[*name], &now[*name]);
        !peers::unlike(wanted, now).missing.is_empty()
    };
    let lacking = wanted.keys().filter(lacks);
    let lacking = lacking.map(|name| format!("{name} lacks a peer that the backup gives it"));
    Ok(lacking.collect())
}
