//! The peers that tunnels should have besides those of their configs.

use std::collections::BTreeSet;
use std::path::Path;

use journal_format::Direction;

use super::super::{Env, Report};
use super::each::CONFIG_BYTES;
use crate::error::{Code, Problem};
use crate::gateway::peers::{self, PeerDiff, Peers};
use crate::host::{GatewayCommand, Permit};
use crate::restore::expected_peers;
use crate::text::wg_config;
use crate::text::wording::counted;

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
pub(super) fn with_other_peers(
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
pub(super) fn set_peers(
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
                &format!("take a peer of the tunnel {name} away"),
                &advice,
            )?;
        }
        if !unlike.missing.is_empty() {
            let text = peers::addconf(unlike.missing.iter().copied());
            env.host
                .run(permit, &GatewayCommand::PeersAdd(name.to_owned()), &text)?
                .expect_ok(
                    Code::PEERS_REFUSED,
                    &format!("give the tunnel {name} the peers {whose}"),
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
