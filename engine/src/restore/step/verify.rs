//! Looks at everything against the plan: while nothing else writes, and again with the services running. Changes one thing, on
//! the way back: tunnels that came up since Holdfast brought up its own get what was set by hand of them.

use std::collections::BTreeMap;
use std::path::Path;

use journal_format::{Direction, Note, Step, Tunnel};

use super::{Env, Report, StepOps, no_way_back, seen};
use crate::error::{Code, Problem};
use crate::host::{Meta, Permit};
use crate::plan::side_files::{beside, side_files_there};
use crate::restore::decide::Observed;
use crate::restore::expected_tunnels::not_listening;
use crate::restore::{
    expected_peers, expected_rules, expected_tunnels, links, old_databases, saved,
};
use crate::text::wording::counted;

pub struct VerifyAtRest;
pub struct VerifyRunning;

/// Tunnels of which one set alone has a config: those that should be up and are not, and those of the other set that are.
fn tunnels(env: &Env, direction: Direction) -> Result<Vec<String>, Problem> {
    let up = env.tunnels_up()?;
    let (wanted, of_the_set): (Vec<&Tunnel>, _) = match direction {
        Direction::Forward => (env.plan.tunnels_up.iter().collect(), &env.plan.tunnels_up),
        Direction::Back => (expected_tunnels::owed(env)?, &env.plan.tunnels_down),
    };
    let may_be = |name: &String| up.contains(name) || env.lacking.tunnels.contains(name);
    let down = wanted.iter().filter(|t| !may_be(&t.name));
    let down = down.map(|t| format!("{} is not up", t.name));
    let is_extra = |n: &&str| up.contains(*n) && !of_the_set.iter().any(|t| t.name == *n);
    let extra = env.replaced().into_iter().filter(is_extra);
    Ok(down.chain(extra.map(|n| format!("{n} is up"))).collect())
}

/// Tunnels that could not be brought up, and are up all the same: the start of a service brings up whoever is active.
fn come_up(env: &Env, direction: Direction) -> Result<Vec<Note>, Problem> {
    if env.lacking.tunnels.is_empty() {
        return Ok(Vec::new());
    }
    let up = env.tunnels_up()?;
    // Back, one that did not listen before does not listen again.
    let deaf = match direction {
        Direction::Forward => not_listening(env, &env.plan.tunnels_up)?,
        Direction::Back => BTreeMap::new(),
    };
    let works = |t: &&String| up.contains(*t) && !deaf.contains_key(t.as_str());
    let come_up = env.lacking.tunnels.iter().filter(works);
    let said = come_up.map(|name| {
        let text = format!("{name} is up: something else brought it up");
        Note::known(Code::TUNNEL_IS_UP, text).about(name)
    });
    Ok(said.collect())
}

/// Tunnels that were up when the plan was made, and had gone before the restore touched any.
fn left_down(env: &Env) -> Result<Vec<Note>, Problem> {
    let (up, owed) = (env.tunnels_up()?, expected_tunnels::owed(env)?);
    let all = env.plan.tunnels_down.iter();
    let left = all.filter(|t| !up.contains(&t.name) && !owed.contains(t));
    let said = left.map(|t| {
        let text = format!(
            "{} is down: it went down before the restore touched any tunnel, and is left as it is",
            t.name
        );
        Note::down(Code::TUNNEL_WAS_DOWN, text).about(&t.name)
    });
    Ok(said.collect())
}

/// Tunnels that are up and hear nothing, but for those that lack anyhow.
fn deaf(env: &Env) -> Result<Vec<String>, Problem> {
    let mut deaf = not_listening(env, &env.plan.tunnels_up)?;
    deaf.retain(|name, _| !env.lacking.tunnels.contains(*name));
    let said = deaf.into_iter().map(|(name, port)| {
        format!("{name} is up but does not listen on its port {port}, which another program may have (ss -ulpn)")
    });
    Ok(said.collect())
}

/// Every target against the plan, byte for byte; but databases only until the services that write to them have started.
fn files(env: &Env) -> Result<Vec<String>, Problem> {
    let mut wrong = Vec::new();
    let databases = env.plan.databases.iter().map(|t| (true, t));
    let files = env.plan.files.iter().map(|t| (false, t));
    for (database, target) in databases.chain(files) {
        let path = Path::new(&target.path);
        if database && env.served && beside(target, &env.plan.databases).is_some() {
            // Whoever opened its database may have done away with it.
            continue;
        }
        match (env.host.stat(path)?, &target.new) {
            (None, None) => {}
            (Some(_), None) => wrong.push(format!("{} is still there", target.path)),
            (None, Some(_)) => wrong.push(format!("{} is not there", target.path)),
            (Some(m), Some(new)) if (m.uid, m.gid, m.mode) != (new.uid, new.gid, new.mode) => {
                wrong.push(format!("{} has another owner or mode", target.path));
            }
            (Some(_), Some(_)) if database && env.served => {}
            (Some(_), Some(new)) if env.host.sha256(path)? != new.sha256 => {
                wrong.push(format!("{} has other bytes", target.path));
            }
            (Some(_), Some(_)) => {}
        }
    }
    for database in env.plan.databases.iter().filter(|_| !env.served) {
        let mut strangers = side_files_there(env.host, &database.path)?;
        strangers.retain(|f| !env.plan.databases.iter().any(|t| t.path == *f));
        wrong.extend(strangers.iter().map(|f| format!("{f} is there")));
    }
    Ok(wrong)
}

/// What others have done to new files since all were compared: they may be gone, or have another size, owner or mode. No bytes are
/// read: traffic flows and services run by now.
fn changed_since(env: &Env) -> Result<Vec<Note>, Problem> {
    let databases = env.plan.databases.iter().map(|t| (true, t));
    let files = env.plan.files.iter().map(|t| (false, t));
    let mut notes = Vec::new();
    for (is_database, target) in databases.chain(files) {
        let path = &target.path;
        let Some(new) = &target.new else { continue };
        if is_database && beside(target, &env.plan.databases).is_some() {
            // Whoever opened its database may have done away with it.
            continue;
        }
        let has = |m: &Meta| (m.uid, m.gid, m.mode) == (new.uid, new.gid, new.mode);
        let note = match env.host.stat(Path::new(path))? {
            None => {
                let text = format!("{path} is gone: somebody removed it while the restore ran");
                Note::lost(Code::LEFT_TO_OTHERS, text).advising("restore again")
            }
            Some(m) if !has(&m) || !is_database && m.size != new.size => {
                let text = format!("{path} was changed by others while the restore ran");
                let note = Note::known(Code::LEFT_TO_OTHERS, text);
                note.advising("look at that file; to have it as the backup says, restore again")
            }
            Some(_) => continue,
        };
        notes.push(note.about(path));
    }
    if !notes.is_empty() {
        let written = saved::written_over(env, Direction::Forward)?;
        notes.retain(|note| {
            note.name
                .as_ref()
                .is_none_or(|path| !written.contains(path))
        });
    }
    Ok(notes)
}

impl StepOps for VerifyAtRest {
    fn forward(&self, env: &Env, _: &Permit) -> Result<Report, Problem> {
        let count = env.plan.databases.len() + env.plan.files.len();
        Ok(Report::did(format!(
            "compared {} and {} with the backup",
            counted(count, "file"),
            counted(env.plan.tunnels_up.len(), "tunnel")
        )))
    }

    fn back(&self, _: &Env, _: &Permit) -> Result<Report, Problem> {
        Err(no_way_back(Step::VerifyAtRest))
    }

    fn observe(&self, env: &Env, _: Direction) -> Result<Observed, Problem> {
        let mut wrong = files(env)?;
        wrong.extend(tunnels(env, Direction::Forward)?);
        wrong.extend(deaf(env)?);
        wrong.extend(expected_peers::lacking(env)?);
        // Behind this step the traffic flows again.
        if env.comes_before(Direction::Forward, Step::LoadFirewall, Step::VerifyAtRest) {
            wrong.extend(expected_rules::differences(env, Direction::Forward)?);
        }
        Ok(seen(wrong))
    }
}

impl StepOps for VerifyRunning {
    fn forward(&self, env: &Env, _: &Permit) -> Result<Report, Problem> {
        Ok(Report {
            warnings: [
                changed_since(env)?,
                come_up(env, Direction::Forward)?,
                old_databases::notes(env)?,
            ]
            .concat(),
            ..Report::did("compared services, tunnels, rules and forwarding with the backup")
        })
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut report = Report {
            warnings: [
                left_down(env)?,
                come_up(env, Direction::Back)?,
                old_databases::notes(env)?,
            ]
            .concat(),
            ..Report::did(
                "compared services, tunnels, rules and forwarding with those from before the restore",
            )
        };
        // The start of a service may have brought a tunnel up, or down and up, and by its config alone.
        if env.may_have_taken_down {
            links::set_again(env, permit, &mut report)?;
        }
        Ok(report)
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        let mut wrong = env.silent(direction)?;
        if direction == Direction::Forward {
            // Going back there is no choice: a tunnel that did not listen before does not listen again.
            wrong.extend(deaf(env)?);
            wrong.extend(expected_peers::lacking(env)?);
        }
        wrong.extend(tunnels(env, direction)?);
        wrong.extend(expected_rules::differences(env, direction)?);
        Ok(seen(wrong))
    }
}
