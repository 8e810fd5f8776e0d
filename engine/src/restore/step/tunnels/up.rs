//! Brings tunnels up by the configs in place.

use std::path::Path;

use journal_format::{Direction, Note, Tunnel};

use super::super::{Env, Report};
use super::down::take_down;
use super::each::{ByConfig, CONFIG_BYTES, each, keep_copy};
use super::wanted;
use crate::error::{Code, Problem};
use crate::gateway::kernel_facts::Facts;
use crate::host::{GatewayCommand, Host, Output, Permit};
use crate::text::wg_config;
use crate::text::wording::counted;

/// How many host names of one config may fail to resolve before it is given up.
const NAMES: usize = 64;

pub(super) fn bring_up(
    env: &Env,
    permit: &Permit,
    direction: Direction,
) -> Result<Report, Problem> {
    let tunnels = wanted(env, direction)?;
    let mut up = env.tunnels_up()?;
    // An earlier attempt may have been cut off between the interface and its addresses, routes and hooks: what it left
    // looks up and is not. And forward all were taken down: one that is up was brought up by others, with whatever config.
    let doubtful = permit.r#move().attempt > 1 || direction == Direction::Forward;
    if doubtful && !env.again && tunnels.iter().any(|t| up.contains(&t.name)) {
        take_down(env, permit, tunnels.iter().copied())?;
        up = env.tunnels_up()?;
    }
    let tunnels = tunnels.into_iter().filter(|t| !up.contains(&t.name));
    let tunnels: Vec<ByConfig> = tunnels.map(|t| (t, t.config.clone())).collect();
    let (dir, facts, count) = (env.dir, env.facts, tunnels.len());
    let mut report = each(env, tunnels, |host, tunnel, _| {
        bring_one_up(host, permit, dir, facts, tunnel)
    })?;
    report
        .did
        .push(format!("brought {} up", counted(count, "tunnel")));
    Ok(report)
}

/// A peer whose host name does not resolve now gets its last known address, or none: the resolver may be behind the very
/// tunnel.
fn bring_one_up(
    host: &dyn Host,
    permit: &Permit,
    dir: &Path,
    facts: &Facts,
    tunnel: &Tunnel,
) -> Result<Option<Note>, Problem> {
    let mut unresolved: Vec<String> = Vec::new();
    let mut config = tunnel.config.clone();
    loop {
        let out = host.run(permit, &GatewayCommand::TunnelUp(config.clone()), "")?;
        if out.ok() {
            break;
        }
        match unresolved_name(&out) {
            Some(name) if unresolved.len() < NAMES && !unresolved.contains(&name) => {
                unresolved.push(name);
                let bytes = host.read(Path::new(&tunnel.config), CONFIG_BYTES)?;
                let known = facts.peers.get(&tunnel.name);
                let bytes = wg_config::with_endpoints(&bytes, |key, endpoint| {
                    if unresolved.iter().any(|u| u == endpoint) {
                        known.and_then(|k| k.get(key)?.endpoint.clone())
                    } else {
                        Some(endpoint.to_owned())
                    }
                });
                config = keep_copy(host, dir, tunnel, &bytes)?;
            }
            _ => {
                return Err(out.problem(
                    Code::TUNNEL_DOES_NOT_COME_UP,
                    format!("bring {} up", tunnel.name),
                    format!(
                        "mend what it says, or the config; to try it alone: wg-quick up {}",
                        tunnel.config
                    ),
                ));
            }
        }
    }
    Ok((!unresolved.is_empty()).then(|| {
        let text = format!(
            "{}: these endpoints do not resolve now: {}; their peers have their last known address or none until the \
             tunnel is brought up again",
            tunnel.name,
            unresolved.join(", ")
        );
        Note::down(Code::UNRESOLVED, text).about(&tunnel.name)
    }))
}

/// The endpoint that `wg` could not resolve, as it quotes it.
fn unresolved_name(out: &Output) -> Option<String> {
    let line = out.stderr.lines().rev().find(|l| {
        [
            "name resolution",
            "Name or service not known",
            "No address associated",
            "nodename nor servname",
        ]
        .iter()
        .any(|w| l.contains(w))
    })?;
    let quoted = &line[line.find('`')? + 1..];
    Some(quoted[..quoted.find('\'')?].to_owned())
}
