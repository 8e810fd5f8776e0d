//! What was set by hand of the tunnels' interfaces: their addresses, MTU, ports and routes. Sets it again on the way back, whoever
//! brought a tunnel up; brings none up and takes none down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use journal_format::Note;

use crate::error::{Code, Problem};
use crate::gateway::link::{LinkChange, LinkSettings};
use crate::host::{GatewayCommand, Permit};
use crate::restore::step::{Env, Report};
use crate::survey::link_settings;
use crate::text::wg_config::{self, Config};
use crate::text::wording::counted;

/// Sets again what they had, as far as that can be done: the config alone brings a tunnel up, and nobody demands more of it. What
/// is not there afterwards is named, whatever the commands said.
pub fn set_again(env: &Env, permit: &Permit, report: &mut Report) -> Result<(), Problem> {
    let up = env.tunnels_up()?;
    let had = env.facts.links.iter();
    let had = had.filter(|(name, _)| up.contains(*name));
    let had = had.map(|(name, had)| (name.clone(), had.less_routes_of(&config(env, name))));
    let had: BTreeMap<String, LinkSettings> = had.collect();
    let lacking = match look(env, &had) {
        Ok(none) if none.is_empty() => return Ok(()),
        Ok(lacking) => lacking,
        Err(why) => {
            report.warnings.push(not_seen(&why));
            return Ok(());
        }
    };
    let tunnels: BTreeSet<&String> = lacking.iter().map(|(name, _)| name).collect();
    let tunnels = counted(tunnels.len(), "tunnel");
    let mut said = BTreeMap::new();
    for (name, change) in &lacking {
        let set = GatewayCommand::SetLink(name.clone(), change.clone());
        let out = env.host.run(permit, &set, "")?;
        if let (LinkChange::Port(_), false) = (change, out.ok()) {
            // In userspace a tunnel that could not take a port has none.
            if let Some(port) = config(env, name).interface.listen_port {
                let back = GatewayCommand::SetLink(name.clone(), LinkChange::Port(port));
                env.host.run(permit, &back, "")?;
            }
        }
        said.insert((name.clone(), change.shown()), out);
    }
    report.did.push(format!(
        "gave {tunnels} again the addresses, MTU, port and routes that they had"
    ));
    let left = match look(env, &had) {
        Ok(left) => left,
        Err(why) => {
            report.warnings.push(not_seen(&why));
            return Ok(());
        }
    };
    for (name, change) in left {
        let shown = change.shown();
        let out = said.get(&(name.clone(), shown.clone()));
        let why = out.and_then(|out| out.stderr.lines().last());
        let why = why.unwrap_or("it is not there");
        let text = format!("{name} does not have again what was set by hand: {shown}: {why}");
        let note = Note::lost(Code::SET_BY_HAND, text).about(&name);
        report.warnings.push(match out {
            Some(out) => note.advising(format!("set it again: {}", out.shown)),
            None => note,
        });
    }
    Ok(())
}

/// What cannot be looked at keeps nobody from going back.
fn not_seen(why: &Problem) -> Note {
    let text = format!(
        "whether tunnels have again what was set by hand cannot be told: cannot {}",
        why.what
    );
    Note::lost(Code::SET_BY_HAND, text)
}

/// The same, looked at again where that failed: it may pass, and there is no later attempt.
fn look(
    env: &Env,
    had: &BTreeMap<String, LinkSettings>,
) -> Result<Vec<(String, LinkChange)>, Problem> {
    lacking(env, had).or_else(|_| lacking(env, had))
}

/// What these tunnels had and do not have now, in the order in which it can be set.
fn lacking(
    env: &Env,
    had: &BTreeMap<String, LinkSettings>,
) -> Result<Vec<(String, LinkChange)>, Problem> {
    let names: Vec<String> = had.keys().cloned().collect();
    let now = link_settings(env.host, &names)?;
    let mut lacking = Vec::new();
    for (name, had) in had {
        let changes = now.get(name).map(|now| had.changes_from(now));
        let changes = changes.unwrap_or_default().into_iter();
        lacking.extend(changes.map(|change| (name.clone(), change)));
    }
    Ok(lacking)
}

/// The config that brought this tunnel up. One that cannot be read tells of no route, and what is there is not set again.
fn config(env: &Env, name: &str) -> Config {
    let tunnel = env.plan.tunnels_down.iter().find(|t| t.name == name);
    let read = tunnel.map(|t| env.host.read(Path::new(&t.config), wg_config::FILE_MOST));
    let parsed = read.and_then(|read| wg_config::parse(name, &read.ok()?).ok());
    parsed.unwrap_or_default()
}
