//! Takes tunnels down, each by the config that it came up with.

use std::path::Path;

use journal_format::{Direction, Move, Note, Plan, Step, Tunnel};

use super::super::{Env, Report};
use super::each::{ByConfig, CONFIG_BYTES, each, keep_copy};
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
pub(super) fn take_down<'t>(
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
