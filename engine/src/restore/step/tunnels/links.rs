//! What was set by hand of the tunnels' interfaces: their addresses, MTU, ports and routes.

use std::path::Path;

use journal_format::Note;

use super::super::{Env, Report};
use super::each::CONFIG_BYTES;
use crate::error::{Code, Problem};
use crate::gateway::link::LinkChange;
use crate::host::{GatewayCommand, Permit};
use crate::survey::link_settings;
use crate::text::wg_config::{self, Config};
use crate::text::wording::counted;

/// Sets again what they had, as far as that can be done: the config alone brings a tunnel up, and nobody demands more of it. What
/// cannot be set is named.
pub(super) fn set_again(env: &Env, permit: &Permit, report: &mut Report) -> Result<(), Problem> {
    let up = env.tunnels_up()?;
    let had = env
        .facts
        .links
        .iter()
        .filter(|(name, _)| up.contains(*name));
    let names: Vec<String> = had.clone().map(|(name, _)| name.clone()).collect();
    let now = link_settings(env.host, &names)?;
    let mut changed = 0;
    for (name, had) in had {
        let had = had.less_routes_of(&config(env, name));
        let changes = now.get(name).map(|now| had.changes_from(now));
        let changes = changes.unwrap_or_default();
        changed += usize::from(!changes.is_empty());
        for change in changes {
            report.warnings.extend(set(env, permit, name, change)?);
        }
    }
    if changed > 0 {
        let tunnels = counted(changed, "tunnel");
        let did = format!("gave {tunnels} again the addresses, MTU, port and routes that they had");
        report.did.push(did);
    }
    Ok(())
}

/// The config that brought this tunnel up. One that cannot be read tells of no route, and what is there is not set again.
fn config(env: &Env, name: &str) -> Config {
    let tunnel = env.plan.tunnels_down.iter().find(|t| t.name == name);
    let read = tunnel.map(|t| env.host.read(Path::new(&t.config), CONFIG_BYTES));
    let parsed = read.and_then(|read| wg_config::parse(name, &read.ok()?).ok());
    parsed.unwrap_or_default()
}

fn set(
    env: &Env,
    permit: &Permit,
    name: &str,
    change: LinkChange,
) -> Result<Option<Note>, Problem> {
    let shown = change.shown();
    let set = GatewayCommand::SetLink(name.to_owned(), change);
    let out = env.host.run(permit, &set, "")?;
    let note = || {
        let why = out.stderr.lines().last().unwrap_or("it says nothing");
        let text = format!("{name} does not have again what was set by hand: {shown}: {why}");
        let note = Note::lost(Code::SET_BY_HAND, text).about(name);
        note.advising(format!("set it again: {}", out.shown))
    };
    Ok((!out.ok()).then(note))
}
