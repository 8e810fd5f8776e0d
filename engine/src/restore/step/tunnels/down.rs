//! Takes tunnels down, each by the config that it came up with.

use std::collections::BTreeSet;
use std::path::Path;

use journal_format::{Direction, Move, Note, Plan, Step, Tunnel};

use super::super::{Env, Report};
use super::each::{ByConfig, CONFIG_BYTES, Tools, each, keep_copy};
use super::time_left::TimeLeft;
use crate::error::{Code, Problem};
use crate::host::{GatewayCommand, Host, Permit, Query};
use crate::text::wg_config;
use crate::text::wording::counted;

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
            let is_new = |path| host.sha256(path).is_ok_and(|sha256| sha256 == new.sha256);
            is_new(in_place) && !is_new(staged)
        }
        Some(_) | None => false,
    };
    let lies_at = match is_exchanged {
        true => &target.staged,
        false => &target.path,
    };
    Ok((tunnel, lies_at.clone()))
}

/// A config that runs nothing.
const NO_COMMANDS: &[u8] = b"[Interface]\n";

/// Takes them down that are up. One that does not go down keeps none of the others up.
pub(super) fn take_down<'t>(
    env: &Env,
    permit: &Permit,
    time_left: &mut TimeLeft,
    tunnels: impl Iterator<Item = &'t Tunnel>,
) -> Result<Report, Problem> {
    let up = env.tunnels_up()?;
    let by_config = |t| by_config_to_go_down(env.host, env.plan, t, permit.r#move());
    let tunnels = tunnels.filter(|t| up.contains(&t.name)).map(by_config);
    let tunnels: Vec<ByConfig> = tunnels.collect::<Result<_, _>>()?;
    let count = tunnels.len();
    let mut report = Report::did(format!("took {} down", counted(count, "tunnel")));
    let tools = Tools::of(env, permit);
    let done = each(env.host, time_left, tunnels, |by, time_left| {
        take_one_down(tools, time_left, by)
    });
    let names = done.iter().map(|((tunnel, _), _)| tunnel.name.as_str());
    all_ended(env.host, &names.collect())?;
    for (_, note) in done {
        report.warnings.extend(note?);
    }
    Ok(report)
}

/// Waits until what ran these tunnels in userspace has ended: it takes its socket with it, and would take that of a successor.
/// What stays all the same is the observation's to name.
pub(super) fn all_ended(host: &dyn Host, names: &BTreeSet<&str>) -> Result<(), Problem> {
    for _ in 0..ENDS {
        let up = host.ask(&Query::Tunnels, "")?.stdout;
        let mut left = host.userspace(names)?;
        // One that is up is not on its way out.
        left.retain(|name, _| !up.split_whitespace().any(|n| n == name));
        if left.is_empty() {
            break;
        }
        host.sleep(POLL_MS);
    }
    Ok(())
}

/// `wg-quick down` of the config in place, or of a copy without `SaveConfig`: that would write a new file over it.
pub(super) fn take_one_down(
    tools: Tools,
    time_left: &TimeLeft,
    (tunnel, lies_at): &ByConfig,
) -> Result<Option<Note>, Problem> {
    let Tools {
        host, dir, permit, ..
    } = tools;
    let read = host.read(Path::new(lies_at), CONFIG_BYTES);
    // What others put in the place of a config, or took away, holds no tunnel up: it goes without the commands of that config.
    let unread = read.as_ref().err().map(|problem| problem.what.clone());
    let bytes = read.unwrap_or_else(|_| NO_COMMANDS.to_vec());
    let parsed = wg_config::parse(&tunnel.name, &bytes);
    let saves = parsed.as_ref().map_or(true, |c| c.interface.save_config);
    let config = if saves || unread.is_some() || *lies_at != tunnel.config {
        let bytes = wg_config::without(&bytes, &["SaveConfig"]);
        keep_copy(host, dir, tunnel, &bytes)?
    } else {
        tunnel.config.clone()
    };
    let down = |config| move |within| GatewayCommand::TunnelDown(config, within);
    let out = time_left.run(host, permit, down(config))?;
    // A PostDown that fails makes it end with non-zero with the interface already gone: the interface decides.
    let mut left = !goes(host, &tunnel.name, GOES)?;
    if out.ok() {
        // What is left all the same is the observation's to name.
        return Ok(unread.map(|why| {
            let text = format!("{} went down without the PreDown and PostDown commands of its config: cannot {why}", tunnel.name);
            Note::known(Code::HOOK_FAILED, text).about(&tunnel.name)
        }));
    }
    // A PreDown that fails ends it before that. What it was to do may well be done, by hand or by an attempt that was
    // cut off; and held up by it, a gateway could neither go on nor back.
    let hooks = parsed.map_or_else(|_| Vec::new(), |c| c.interface.hooks);
    if left && hooks.iter().any(|(key, _)| key == "PreDown") {
        let bytes = wg_config::without(&bytes, &["SaveConfig", "PreDown"]);
        let config = keep_copy(host, dir, tunnel, &bytes)?;
        time_left.run(host, permit, down(config))?;
        left = !goes(host, &tunnel.name, GOES)?;
    }
    if left {
        return Err(out.problem(
            Code::TUNNEL_DOES_NOT_GO_DOWN,
            format!("take {} down", tunnel.name),
            format!(
                "read the reason above, then run: wg-quick down {}",
                tunnel.config
            ),
        ));
    }
    let last_line = out.stderr.lines().last().unwrap_or("it says nothing");
    let why = time_left.ended(tunnel, &bytes, &out);
    let why = why.unwrap_or_else(|| format!("a command of its config failed: {last_line}"));
    let text = format!("{} is down, but {why}", tunnel.name);
    let note = Note::known(Code::HOOK_FAILED, text).about(&tunnel.name);
    let advice = "nothing for firewall rules: the restore sets them itself. What else that command does, do by hand";
    Ok(Some(note.advising(advice)))
}

/// How often a tunnel that is going is looked at, and what ran it, and how long not between two looks, ms.
pub(super) const GOES: u32 = 40;
const ENDS: u32 = 100;
pub(super) const POLL_MS: u64 = 50;

/// Whether the interface goes: in userspace its process ends a moment after the command that took it down.
pub(super) fn goes(host: &dyn Host, name: &str, looks: u32) -> Result<bool, Problem> {
    for _ in 0..looks {
        let up = host.ask(&Query::Tunnels, "")?.stdout;
        if !up.split_whitespace().any(|n| n == name) {
            return Ok(true);
        }
        host.sleep(POLL_MS);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use journal_format::{Change, Direction, Move, Step, Target};

    use super::super::each::has_hooks;

    use super::*;
    use crate::gateway::profile::Profile;
    use crate::host::linux::Linux;

    #[test]
    fn a_tunnel_goes_down_alone_if_the_config_that_it_goes_down_by_has_hooks_wherever_that_lies() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let golden = include_bytes!("../../../../../journal-format/golden/1.1/restored.journal");
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
