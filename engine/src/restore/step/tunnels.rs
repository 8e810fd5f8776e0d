//! Takes tunnels down by the configs that they came up with, and brings tunnels up, several at a time.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread::{Builder, ScopedJoinHandle};

use journal_format::{Direction, Move, Note, Plan, Step, Tunnel};

use super::{Env, Report, StepOps, seen};
use crate::error::{Code, Problem, bug};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::peers::{self, PeerDiff, Peers};
use crate::host::{GatewayCommand, Host, Output, Permit, Query};
use crate::restore::decide::Observed;
use crate::restore::{expected_peers, expected_tunnels};
use crate::text::wg_config;
use crate::text::wording::counted;

pub struct TunnelsDown;
pub struct TunnelsUp;

const AT_ONCE: usize = 8;
const CONFIG_BYTES: u64 = wg_config::FILE_MOST;
/// How many host names of one config may fail to resolve before it is given up.
const NAMES: usize = 64;

/// A tunnel, and where the config lies with which it goes down or comes up.
type ByConfig<'p> = (&'p Tunnel, String);

/// Does one thing to several tunnels at a time, and gives what each reported, in order. Tunnels with hooks go one by
/// one: their commands were not written to run side by side.
fn each<F>(env: &Env, tunnels: Vec<ByConfig>, one: F) -> Result<Report, Problem>
where
    F: Fn(&dyn Host, &Tunnel, &str) -> Result<Option<Note>, Problem> + Sync,
{
    let host = env.host;
    let has_hooks = |tunnel: &ByConfig| has_hooks(host, tunnel);
    let (alone, together): (Vec<ByConfig>, Vec<ByConfig>) =
        tunnels.into_iter().partition(has_hooks);
    let mut report = Report::default();
    for batch in together.chunks(AT_ONCE).chain(alone.chunks(1)) {
        let results: Vec<_> = std::thread::scope(|scope| {
            let mut begun = Vec::new();
            for (tunnel, lies_at) in batch {
                let thread = Builder::new().spawn_scoped(scope, || one(host, tunnel, lies_at));
                // Where there is no thread to be had, this one does it.
                begun.push(thread.map_err(|_| one(host, tunnel, lies_at)));
            }
            let ended = |_| Err(bug("finish a tunnel: its thread ended"));
            let end = |begun: Result<ScopedJoinHandle<_>, _>| match begun {
                Ok(thread) => thread.join().unwrap_or_else(ended),
                Err(done) => done,
            };
            begun.into_iter().map(end).collect()
        });
        for result in results {
            report.warnings.extend(result?);
        }
    }
    Ok(report)
}

/// Whether a config has hooks; one that cannot be understood may have some.
fn has_hooks(host: &dyn Host, (tunnel, lies_at): &ByConfig) -> bool {
    let bytes = host.read(Path::new(lies_at), CONFIG_BYTES);
    let parsed = wg_config::parse(&tunnel.name, &bytes.unwrap_or_default());
    parsed.map_or(true, |c| !c.interface.hooks.is_empty())
}

/// Where the config lies with which a tunnel goes down: forward the old one and back the one in place, wherever an exchange has
/// brought it since; the other one where that is gone.
fn by_config_to_go_down<'p>(
    host: &dyn Host,
    plan: &Plan,
    tunnel: &'p Tunnel,
    r#move: Move,
) -> Result<ByConfig<'p>, Problem> {
    let Some(target) = plan.files.iter().find(|t| t.path == tunnel.config) else {
        return Ok((tunnel, tunnel.config.clone()));
    };
    let (in_place, staged) = (Path::new(&target.path), Path::new(&target.staged));
    if host.stat(staged)?.is_none() {
        return Ok((tunnel, target.path.clone()));
    }
    // The exchange follows the first attempt to take the old tunnels down. What another step takes down it had brought up itself,
    // by the config in place.
    let takes_old_down = r#move.step == Step::TunnelsDown && r#move.direction == Direction::Forward;
    let may_be_exchanged = takes_old_down && r#move.attempt > 1;
    let is_exchanged = match &target.new {
        _ if host.stat(in_place)?.is_none() => true,
        Some(new) if may_be_exchanged => {
            host.sha256(in_place)? == new.sha256 && host.sha256(staged)? != new.sha256
        }
        Some(_) | None => false,
    };
    let lies_at = match is_exchanged {
        true => &target.staged,
        false => &target.path,
    };
    Ok((tunnel, lies_at.clone()))
}

/// `wg-quick down` of the config in place, or of a copy without `SaveConfig`: that would write a new file over it.
fn take_down<'t>(
    env: &Env,
    permit: &Permit,
    tunnels: impl Iterator<Item = &'t Tunnel>,
) -> Result<Report, Problem> {
    let up = env.tunnels_up()?;
    let by_config = |t| by_config_to_go_down(env.host, env.plan, t, permit.r#move());
    let tunnels = tunnels.filter(|t| up.contains(&t.name)).map(by_config);
    let tunnels: Vec<ByConfig> = tunnels.collect::<Result<_, _>>()?;
    let (dir, count) = (env.dir, tunnels.len());
    let mut report = each(env, tunnels, |host, tunnel, lies_at| {
        let bytes = host.read(Path::new(lies_at), CONFIG_BYTES)?;
        let parsed = wg_config::parse(&tunnel.name, &bytes);
        let saves = parsed.as_ref().map_or(true, |c| c.interface.save_config);
        let config = if saves || lies_at != tunnel.config {
            let bytes = wg_config::without(&bytes, &["SaveConfig"]);
            keep_copy(host, dir, tunnel, &bytes)?
        } else {
            tunnel.config.clone()
        };
        let out = host.run(permit, &GatewayCommand::TunnelDown(config), "")?;
        // A PostDown that fails makes it end with non-zero with the interface already gone: the interface decides.
        let mut left = !goes(host, &tunnel.name)?;
        if out.ok() {
            // What is left all the same is the observation's to name.
            return Ok(None);
        }
        // A PreDown that fails ends it before that. What it was to do may well be done, by hand or by an attempt that was
        // cut off; and held up by it, a gateway could neither go on nor back.
        let hooks = parsed.map_or_else(|_| Vec::new(), |c| c.interface.hooks);
        if left && hooks.iter().any(|(key, _)| key == "PreDown") {
            let bytes = wg_config::without(&bytes, &["SaveConfig", "PreDown"]);
            let config = keep_copy(host, dir, tunnel, &bytes)?;
            host.run(permit, &GatewayCommand::TunnelDown(config), "")?;
            left = !goes(host, &tunnel.name)?;
        }
        if left {
            Err(out.problem(
                Code::TUNNEL_DOES_NOT_GO_DOWN,
                format!("take {} down", tunnel.name),
                format!("see why, then run: wg-quick down {}", tunnel.config),
            ))
        } else {
            let last_line = out.stderr.lines().last().unwrap_or("it says nothing");
            let text = format!(
                "{} is down, but a command of its config failed: {last_line}",
                tunnel.name
            );
            Ok(Some(
                Note::known(Code::HOOK_FAILED, text).about(&tunnel.name),
            ))
        }
    })?;
    report
        .did
        .push(format!("took {} down", counted(count, "tunnel")));
    Ok(report)
}

/// Whether the interface goes: in userspace its process ends a moment after the command that took it down.
fn goes(host: &dyn Host, name: &str) -> Result<bool, Problem> {
    for _ in 0..40 {
        let up = host.ask(&Query::Tunnels, "")?.stdout;
        if !up.split_whitespace().any(|n| n == name) {
            return Ok(true);
        }
        host.sleep(50);
    }
    Ok(false)
}

/// The tunnels that should be up.
fn wanted<'p>(env: &Env<'p>, direction: Direction) -> Result<Vec<&'p Tunnel>, Problem> {
    match direction {
        Direction::Forward => Ok(env.plan.tunnels_up.iter().collect()),
        Direction::Back => expected_tunnels::owed(env),
    }
}

fn bring_up(env: &Env, permit: &Permit, direction: Direction) -> Result<Report, Problem> {
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

/// Takes out of what is surplus the peers that others added: a tunnel comes up with those of its config alone, so what neither
/// that nor the restore has is theirs.
fn without_those_of_others(
    env: &Env,
    direction: Direction,
    name: &str,
    wanted: &Peers,
    unlike: &mut PeerDiff,
) -> Result<(), Problem> {
    if unlike.surplus.iter().all(|key| wanted.contains_key(*key)) {
        return Ok(());
    }
    let tunnels = match direction {
        Direction::Forward => &env.plan.tunnels_up,
        Direction::Back => &env.plan.tunnels_down,
    };
    let mut of_config = BTreeSet::new();
    if let Some(tunnel) = tunnels.iter().find(|t| t.name == *name) {
        let bytes = env.host.read(Path::new(&tunnel.config), CONFIG_BYTES)?;
        // One that does not parse brings no peer up.
        if let Ok(config) = wg_config::parse(name, &bytes) {
            of_config.extend(config.peers.into_iter().map(|p| p.public_key));
        }
    }
    let surplus = &mut unlike.surplus;
    surplus.retain(|key| wanted.contains_key(*key) || of_config.contains(*key));
    Ok(())
}

/// Does this for each tunnel that is up and whose peers are not set as they should be. Gives their names.
fn with_other_peers(
    env: &Env,
    direction: Direction,
    mut each: impl FnMut(&str, &PeerDiff) -> Result<(), Problem>,
) -> Result<Vec<String>, Problem> {
    let mut wanted = expected_peers::wanted(env, direction)?;
    if !wanted.is_empty() {
        let up = env.tunnels_up()?;
        wanted.retain(|name, _| up.contains(name));
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let now = expected_peers::now(env, wanted.keys())?;
    let mut names = Vec::new();
    for (name, wanted) in &wanted {
        let mut unlike = peers::unlike(wanted, &now[name]);
        without_those_of_others(env, direction, name, wanted, &mut unlike)?;
        if !unlike.is_nothing() {
            each(name, &unlike)?;
            names.push(name.clone());
        }
    }
    Ok(names)
}

/// A tunnel comes up with the peers of its config; those that were set while it ran are in no file.
fn set_peers(
    env: &Env,
    permit: &Permit,
    direction: Direction,
    report: &mut Report,
) -> Result<(), Problem> {
    let whose = match direction {
        Direction::Forward => "that the backup gives it",
        Direction::Back => "again that it had",
    };
    let changed = with_other_peers(env, direction, |name, unlike| {
        let advice = format!("see `wg show {name}`");
        for key in &unlike.surplus {
            let remove = GatewayCommand::PeerRemove(name.to_owned(), (*key).clone());
            env.host.run(permit, &remove, "")?.expect_ok(
                Code::PEERS_REFUSED,
                &format!("take a peer of {name} away"),
                &advice,
            )?;
        }
        if !unlike.missing.is_empty() {
            let text = peers::addconf(unlike.missing.iter().copied());
            env.host
                .run(permit, &GatewayCommand::PeersAdd(name.to_owned()), &text)?
                .expect_ok(
                    Code::PEERS_REFUSED,
                    &format!("give {name} the peers {whose}"),
                    &advice,
                )?;
        }
        Ok(())
    })?;
    if !changed.is_empty() {
        report.did.push(format!(
            "gave {} the peers {}",
            counted(changed.len(), "tunnel"),
            match direction {
                Direction::Forward => "that were set while it ran, as the backup says",
                Direction::Back => "again that were set while it ran",
            }
        ));
    }
    Ok(())
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

/// `wg-quick` takes the interface's name from the file's.
fn keep_copy(
    host: &dyn Host,
    dir: &Path,
    tunnel: &Tunnel,
    bytes: &[u8],
) -> Result<String, Problem> {
    let dir = dir.join("tunnels");
    host.keep_dir(&dir)?;
    let path = dir.join(format!("{}.conf", tunnel.name));
    host.keep(&path, bytes)?;
    Ok(path.display().to_string())
}

/// Every tunnel that goes down or comes up, once.
fn both<'p>(env: &Env<'p>) -> impl Iterator<Item = &'p Tunnel> {
    let (down, up) = (&env.plan.tunnels_down, &env.plan.tunnels_up);
    let only_up = |t: &&Tunnel| !down.iter().any(|d| d.name == t.name);
    down.iter().chain(up.iter().filter(only_up))
}

impl StepOps for TunnelsDown {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        take_down(env, permit, both(env))
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        take_down(env, permit, both(env))
    }

    fn observe(&self, env: &Env, _: Direction) -> Result<Observed, Problem> {
        let up = env.tunnels_up()?;
        let left = both(env).filter(|t| up.contains(&t.name));
        Ok(seen(left.map(|t| format!("{} is up", t.name)).collect()))
    }
}

impl StepOps for TunnelsUp {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut report = bring_up(env, permit, Direction::Forward)?;
        set_peers(env, permit, Direction::Forward, &mut report)?;
        Ok(report)
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut report = bring_up(env, permit, Direction::Back)?;
        set_peers(env, permit, Direction::Back, &mut report)?;
        Ok(report)
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        let whose = match direction {
            Direction::Forward => "that the backup gives it",
            Direction::Back => "that it had",
        };
        let up = env.tunnels_up()?;
        let tunnels = wanted(env, direction)?;
        let down = tunnels.iter().filter(|t| !up.contains(&t.name));
        let mut wrong: Vec<String> = down.map(|t| format!("{} is not up", t.name)).collect();
        if wrong.is_empty() {
            for name in with_other_peers(env, direction, |_, _| Ok(()))? {
                wrong.push(format!("{name} does not have the peers {whose}"));
            }
        }
        Ok(seen(wrong))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use journal_format::{Change, Target};

    use super::*;
    use crate::gateway::profile::Profile;
    use crate::host::linux::Linux;

    #[test]
    fn a_tunnel_goes_down_alone_if_the_config_that_it_goes_down_by_has_hooks_wherever_that_lies() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let golden = include_bytes!("../../../../journal-format/golden/1.1/restored.journal");
        let mut plan = Plan::clone(&journal_format::scan(golden).state.unwrap().plan.unwrap());
        let any = plan.files[0].clone();
        plan.files = vec![Target {
            path: path("a.conf"),
            staged: path("staged"),
            change: Change::Remove,
            new: None,
            ..any
        }];
        let tunnel = Tunnel {
            name: "a".into(),
            config: path("a.conf"),
        };
        let alone = |attempt| {
            let r#move = Move {
                step: Step::TunnelsDown,
                direction: Direction::Forward,
                attempt,
            };
            let host = Linux::new(&Profile::default());
            let by = by_config_to_go_down(&host, &plan, &tunnel, r#move).unwrap();
            has_hooks(&host, &by)
        };
        let without = "[Interface]\nPrivateKey = 6K0vC4gXqWbTn0c1l0HhXk3kR1mC0xD9u5qvJf2p8WI=\n";
        std::fs::write(path("a.conf"), without).unwrap();
        assert!(!alone(1));
        // The plan takes the config away, and has done so.
        std::fs::remove_file(path("a.conf")).unwrap();
        std::fs::write(path("staged"), format!("{without}PostDown = true\n")).unwrap();
        assert!(alone(2));
    }
}
