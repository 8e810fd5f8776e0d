//! Settles the databases, so that each file alone is all of it, and swaps them. Between a swap's intent and its outcome
//! no database is opened, not even to read: a stale side file would be replayed into the wrong one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use journal_format::{Change, Direction, Exchange, Note, Target};

use super::{Env, Report, StepOps, seen};
use crate::error::{Code, Problem, cannot};
use crate::gateway::database::Settled;
use crate::host::{Holder, Kind, Permit, parent};
use crate::plan::side_files::{side_files, side_files_there};
use crate::restore::copied::{Copied, Copies};
use crate::restore::decide::{ATTEMPTS, Observed};
use crate::restore::keeping::{FOUND, Keeping};
use crate::restore::old_files::{self, left_to_others, put_back};
use crate::restore::{old_databases, swap};
use crate::text::wording::counted;

pub struct SettleDatabases;
pub struct SwapDatabases;

/// How long a holder is waited for, in tries of [`PAUSE_MS`].
const TRIES: u32 = 25;
const PAUSE_MS: u64 = 200;
/// A path is no longer.
const PATH_BYTES: u64 = 1 << 16;

/// The databases that are there now.
fn old<'a>(env: &'a Env) -> impl Iterator<Item = &'a Target> {
    env.plan
        .databases
        .iter()
        .filter(|t| matches!(t.change, Change::Replace | Change::Remove))
}

/// A process that holds a swapped database writes on into the old file and believes that it succeeded.
fn no_holders<'a>(
    env: &Env,
    permit: &Permit,
    paths: impl Iterator<Item = &'a str>,
) -> Result<(), Problem> {
    let files: Vec<PathBuf> = paths
        .flat_map(|p| std::iter::once(p.to_owned()).chain(side_files(p)))
        .map(PathBuf::from)
        .collect();
    none(env, permit, || env.host.holders(&files))
}

/// The same of the databases that an exchange has just put away: whoever opened one between the look and the exchange.
fn no_late_holders(env: &Env, permit: &Permit) -> Result<(), Problem> {
    none(env, permit, || old_databases::holders(env))
}

fn none(
    env: &Env,
    permit: &Permit,
    look: impl Fn() -> Result<Vec<Holder>, Problem>,
) -> Result<(), Problem> {
    for tries in 1.. {
        let holders = look()?;
        let Some(first) = holders.first() else { break };
        let is_last = permit.r#move().direction == Direction::Back && env.attempt >= ATTEMPTS;
        // What a service did meanwhile is the driver's to put right: it stops the service, and looks at everything again. One that
        // is started again each time is let be in the end: whoever starts the services stops it where it works on what is not in place.
        if let Some(service) = env.stirring()? {
            match is_last {
                true => break,
                false => return Err(env.started_again(service)),
            }
        }
        if tries < TRIES {
            env.host.sleep(PAUSE_MS);
            continue;
        }
        // A process that never lets go keeps nothing from its place; the last look names it.
        if is_last {
            break;
        }
        // A process may have several of the files open.
        let all: BTreeSet<String> = holders.iter().map(old_databases::named).collect();
        return Err(cannot(
            Code::DATABASE_HELD,
            format!(
                "replace {}: still held open by {}",
                first.path.display(),
                all.into_iter().collect::<Vec<_>>().join(", ")
            ),
            "end each process named above (`kill PID`), or add their service to the profile under [[gateway.service]], so that a restore stops it",
        ));
    }
    Ok(())
}

impl StepOps for SettleDatabases {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        no_holders(env, permit, old(env).map(|t| t.path.as_str()))?;
        let mut report = Report::default();
        for target in old(env) {
            let path = Path::new(&target.path);
            match env.host.settle_database(permit, path)? {
                Settled::Whole => report.did.push(format!("checkpointed {}", target.path)),
                Settled::Unreadable(why) => {
                    set_aside(env, permit, target)?;
                    let text = format!(
                        "{} is damaged ({why}): it and its side files are kept as they are",
                        target.path
                    );
                    let note = Note::known(Code::DATABASE_UNREADABLE, text);
                    report.warnings.push(note.about(&target.path));
                }
            }
            env.host.sync_file(permit, path)?;
            // The unlinking of a side file must last: after a power cut it would be back beside the new file.
            env.host.sync_dir(permit, parent(path)?)?;
        }
        // Only whoever copies the folders before the end makes it needed: its lack stops nothing.
        if let Err(problem) = old_files::keep_databases(env) {
            let text = format!(
                "if somebody copies the gateway's folders before this restore ends, a rollback cannot tell the old databases: cannot {}",
                problem.what
            );
            let code = problem.code.unwrap_or(Code::IO);
            report
                .warnings
                .push(Note::known(code, text).advising(problem.advice));
        }
        Ok(report)
    }

    /// Puts side files back beside an unreadable old database, once it lies under its own name again.
    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut report = Report::default();
        for target in old(env) {
            for own in move_side_files(env, permit, &target.staged, &target.path)? {
                report.did.push(format!("put {own} back"));
            }
            // Both ends: the staging goes later, and must not take what was moved out of it.
            for name in [&target.path, &target.staged] {
                let folder = parent(Path::new(name))?;
                if env.host.stat(folder)?.is_some() {
                    env.host.sync_dir(permit, folder)?;
                }
            }
        }
        Ok(report)
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        let mut left = Vec::new();
        for target in old(env) {
            left.extend(match direction {
                Direction::Forward => side_files_there(env.host, &target.path)?,
                Direction::Back => side_files_there(env.host, &target.staged)?,
            });
        }
        Ok(seen(left))
    }
}

/// Only side files of a database that cannot be read are moved: they are part of what was there before.
fn set_aside(env: &Env, permit: &Permit, target: &Target) -> Result<(), Problem> {
    move_side_files(env, permit, &target.path, &target.staged)?;
    env.host
        .sync_dir(permit, parent(Path::new(&target.staged))?)
}

/// Gives the side files that are beside one name to another. Says how those that were there are called now.
fn move_side_files(
    env: &Env,
    permit: &Permit,
    from: &str,
    to: &str,
) -> Result<Vec<String>, Problem> {
    let mut moved = Vec::new();
    for (from, to) in side_files(from).iter().zip(side_files(to)) {
        if env.host.stat(Path::new(from))?.is_some() {
            env.host.rename(permit, Path::new(from), Path::new(&to))?;
            moved.push(to);
        }
    }
    Ok(moved)
}

/// Between the settling and the swap a crash, and so any time, may have passed: whoever opened an old database since would
/// write on into it, and what it left in side files would lie beside the new one.
fn untouched(env: &Env, permit: &Permit) -> Result<(), Problem> {
    let mut old = Vec::new();
    for exchange in env.exchanges {
        if exchange.old.is_some()
            && swap::seen(env.host, std::slice::from_ref(exchange))? == Observed::Before
        {
            old.push(exchange.path.as_str());
        }
    }
    no_holders(env, permit, old.iter().copied())?;
    for path in old {
        if let Some(file) = strangers_beside(env, path)?.first() {
            return Err(cannot(
                Code::DATABASE_WRITTEN,
                format!(
                    "replace {path}: {file} is there, so someone wrote to it since the checkpoint"
                ),
                "find out who opened it (`fuser -v FILE`), and add their service to the profile under [[gateway.service]], so that a restore stops it",
            ));
        }
    }
    Ok(())
}

/// Side files beside a database that are none of those that were brought along with it.
fn strangers_beside(env: &Env, path: &str) -> Result<Vec<String>, Problem> {
    let mut strangers = Vec::new();
    for file in side_files_there(env.host, path)? {
        let brought = env.exchanges.iter().find(|e| e.path == file);
        let is_own = match brought {
            Some(exchange) => swap::is_in_place(env.host, exchange)?,
            None => false,
        };
        if !is_own {
            strangers.push(file);
        }
    }
    Ok(strangers)
}

/// Whether what was a side file may hold rows that its database has not: not the index of a log, and nothing empty; nor one that came
/// with the database and is as it came.
fn holds_rows(env: &Env, own: &str, lies_at: &Path) -> Result<bool, Problem> {
    let size = env.host.stat(lies_at)?.map_or(0, |meta| meta.size);
    if size == 0 || own.ends_with("-shm") {
        return Ok(false);
    }
    let brought = env.plan.databases.iter().find(|t| t.path == own);
    match brought.and_then(|t| t.new.as_ref()) {
        Some(new) => Ok(env.host.sha256(lies_at)? != new.sha256),
        None => Ok(true),
    }
}

/// Takes away what lies beside a database, and looks at it only where nobody finds it by its name: what is written until then comes
/// along. What holds rows is kept.
struct Beside<'a> {
    env: &'a Env<'a>,
    permit: &'a Permit,
    found: Keeping<'a>,
    notes: Vec<Note>,
}

impl Beside<'_> {
    /// Each side file of a database, and where it lies once it is taken away.
    fn names(exchange: &Exchange) -> impl Iterator<Item = (String, PathBuf)> {
        let staged = side_files(&exchange.staged).into_iter();
        let aside = staged.map(|staged| PathBuf::from(format!("{staged}.left")));
        side_files(&exchange.path).into_iter().zip(aside)
    }

    /// Those that were made until then.
    fn clear(&mut self, exchange: &Exchange, until_ns: i64) -> Result<(), Problem> {
        let (host, permit) = (self.env.host, self.permit);
        for (own, aside) in Self::names(exchange) {
            let meta = host.stat(Path::new(&own))?;
            // Where no time of birth is kept nothing is exchanged.
            if meta.is_some_and(|m| m.id.is_none_or(|id| id.born_ns <= until_ns)) {
                host.rename(permit, Path::new(&own), &aside)?;
                self.settle(&own, &aside)?;
            }
        }
        self.found.sync()?;
        host.sync_dir(permit, parent(Path::new(&exchange.path))?)
    }

    /// Keeps or removes what was taken away.
    fn settle(&mut self, own: &str, aside: &Path) -> Result<(), Problem> {
        let host = self.env.host;
        let Some(meta) = host.stat(aside)? else {
            return Ok(());
        };
        let is_file = meta.kind == Kind::File;
        if is_file && !holds_rows(self.env, own, aside)? {
            return host.remove_file(self.permit, aside);
        }
        if is_file {
            // Whoever wrote it need not have synced it.
            host.sync_file(self.permit, aside)?;
        }
        let kept = self.found.take(aside, own)?;
        let kept = kept.display();
        let text = match is_file {
            true => format!(
                "a program wrote to {own} during the restore; Holdfast kept that data as {kept}, and the gateway does not use it. \
                 Look at it if you miss changes"
            ),
            false => format!(
                "somebody put a folder, a link or the like at {own} during the restore; Holdfast moved it to {kept}"
            ),
        };
        self.notes
            .push(Note::known(Code::FOUND_KEPT, text).about(own));
        Ok(())
    }
}

/// The file that names the database which is going back to its place.
fn going_back(env: &Env) -> PathBuf {
    env.dir.join("going-back")
}

/// When a name in the staging of this database last changed: behind its exchange that is the time of it.
fn staging_changed_ns(env: &Env, exchange: &Exchange) -> Result<i64, Problem> {
    let staging = env.host.stat(parent(Path::new(&exchange.staged))?)?;
    Ok(staging.map_or(i64::MIN, |meta| meta.changed_ns))
}

/// Whether the exchange of this database was cut off before what lay beside it was looked at.
fn is_going_back(env: &Env, exchange: &Exchange) -> Result<bool, Problem> {
    let file = going_back(env);
    Ok(env.host.stat(&file)?.is_some()
        && env.host.read(&file, PATH_BYTES)? == exchange.path.as_bytes())
}

fn databases<'e>(env: &Env<'e>) -> impl Iterator<Item = &'e Exchange> {
    let exchanges = env.exchanges;
    let is_database = |e: &&Exchange| swap::database_of(e, exchanges).is_none();
    exchanges.iter().filter(is_database)
}

impl StepOps for SwapDatabases {
    fn exchanges(&self, env: &Env) -> Result<Vec<Exchange>, Problem> {
        swap::note(env.host, &env.plan.databases)
    }

    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        untouched(env, permit)?;
        swap::forward(env.host, permit, env.exchanges)?;
        no_late_holders(env, permit)?;
        let swapped = env.exchanges.iter().map(|e| format!("replaced {}", e.path));
        Ok(Report {
            did: swapped.collect(),
            ..Report::default()
        })
    }

    /// The new database's side files go with it, also those that were brought along: they must not lie beside the old one when
    /// it is back. What was written meanwhile is kept.
    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut beside = Beside {
            env,
            permit,
            found: Keeping::new(env, permit, FOUND),
            notes: Vec::new(),
        };
        for exchange in databases(env) {
            // Of an attempt that was cut off. What it does changes that time.
            let cut_off_ns = staging_changed_ns(env, exchange)?;
            for (own, aside) in Beside::names(exchange) {
                beside.settle(&own, &aside)?;
            }
            let is_a_copy = Copies::new(env).of(exchange)? == Copied::GoesBack;
            let exchanged_ns = if is_a_copy || !swap::stays(env.host, exchange)? {
                // Each anew: a service may have been started since the last one.
                no_holders(env, permit, std::iter::once(exchange.path.as_str()))?;
                beside.clear(exchange, i64::MAX)?;
                // A crash may come between the exchange and the look behind it.
                env.host.keep(&going_back(env), exchange.path.as_bytes())?;
                // At once: whoever opens the new database until then makes its side files anew.
                put_back(env, permit, std::slice::from_ref(exchange))?;
                staging_changed_ns(env, exchange)?
            } else if is_going_back(env, exchange)? {
                cut_off_ns
            } else {
                continue;
            };
            // Somebody did, and has let go of it: what they wrote must not come into the old one. Who opened the old one made theirs
            // later, and needs them.
            let path = PathBuf::from(&exchange.path);
            let are_there = !side_files_there(env.host, &exchange.path)?.is_empty();
            if are_there && env.host.holders(&[path])?.is_empty() {
                beside.clear(exchange, exchanged_ns)?;
            }
            env.host.discard(&going_back(env))?;
        }
        put_back(env, permit, env.exchanges)?;
        no_late_holders(env, permit)?;
        let left = left_to_others(env)?;
        let count = databases(env).count().saturating_sub(left.len());
        beside.notes.append(&mut beside.found.notes);
        Ok(Report {
            warnings: [beside.notes, left].concat(),
            ..Report::did(format!("put {} back", counted(count, "old database")))
        })
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        let seen = old_files::seen_from(env, direction)?;
        // On the way back the new database's side files went, durably, before it did: what lies beside the old one is its own.
        if seen != Observed::After || direction == Direction::Back {
            return Ok(seen);
        }
        let mut beside = Vec::new();
        for exchange in env.exchanges {
            beside.extend(strangers_beside(env, &exchange.path)?);
        }
        Ok(super::seen(beside))
    }
}
