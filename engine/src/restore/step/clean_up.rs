//! After the verdict: originals, and what others left in their places, into the restore's folder, where they are kept until the
//! admin lets them go (I9); the staging gone, and so is a fence that a boot closed again; the clients' rows put right that a start
//! of the services changed, and the configs back over which it wrote. Can be repeated at any point.

use std::path::{Path, PathBuf};

use journal_format::{Direction, Note, Target};

use super::{Env, Report, StepOps, seen};
use crate::error::{Code, Problem};
use crate::host::{Kind, Permit, fence_is_closed, parent};
use crate::plan::side_files::side_files;
use crate::restore::decide::Observed;
use crate::restore::keeping::{FOUND, Keeping, ORIGINALS};
use crate::restore::{saved, served};
use crate::state_dir::SAFETY_BACKUP;
use crate::state_dir::pins::PINNED;
use crate::text::wording::counted;

/// A path is no longer.
const PATH_BYTES: u64 = 1 << 16;
/// A line each.
const PINS_BYTES: u64 = 16 << 20;

pub struct CleanUp;

impl StepOps for CleanUp {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        with_what_starts_wrote(env, permit, Direction::Forward, keep_originals)
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        match env.left {
            true => self.forward(env, permit),
            false => with_what_starts_wrote(env, permit, Direction::Back, forget_new),
        }
    }

    fn observe(&self, env: &Env, _: Direction) -> Result<Observed, Problem> {
        let mut left = Vec::new();
        for dir in &env.plan.staging {
            if env.host.stat(Path::new(dir))?.is_some() {
                left.push(format!("{dir} is still there"));
            }
        }
        Ok(seen(left))
    }
}

/// Cleans up, and puts right what a start of the services wrote into clients' rows and over configs. What was done about that is said
/// whatever becomes of the rest.
fn with_what_starts_wrote(
    env: &Env,
    permit: &Permit,
    direction: Direction,
    clean_up: fn(&Env, &Permit) -> Result<Report, Problem>,
) -> Result<Report, Problem> {
    let lifted = lift_fence(env, permit);
    let mut said = served::put_right(env, permit, direction);
    let put_back = saved::put_back(env, permit, direction).and_then(|()| saved::forget(env));
    let cleaned = lifted.and_then(|()| clean_up(env, permit));
    let told = saved::notes(env, permit).map(|notes| said.extend(notes));
    let (report, fault) = match cleaned {
        Ok(report) => (report, put_back.and(told).err()),
        Err(problem) => (Report::default(), Some(problem)),
    };
    said.extend(report.warnings);
    let Some(mut problem) = fault else {
        return Ok(Report {
            warnings: said,
            did: report.did,
        });
    };
    for note in said {
        problem.what += &format!("; besides, {}", note.text);
    }
    Err(problem)
}

fn keep_originals(env: &Env, permit: &Permit) -> Result<Report, Problem> {
    env.host.discard(&env.ballast())?;
    let mut originals = Keeping::new(env, permit, ORIGINALS);
    for target in env.targets() {
        // Where it was left half way, some of what is staged was never exchanged.
        if env.left && is_the_plans(env, target)? {
            continue;
        }
        for (from, path) in both_names(target) {
            originals.take(Path::new(&from), &path)?;
        }
    }
    originals.sync()?;
    remove_staging(env, permit)?;
    let mut report = Report::default();
    report.warnings.append(&mut originals.notes);
    if originals.moved > 0 {
        report.did.push(format!(
            "kept {} in {}",
            counted(originals.moved, "original file"),
            originals.root().display()
        ));
    }
    Ok(report)
}

fn forget_new(env: &Env, permit: &Permit) -> Result<Report, Problem> {
    env.host.discard(&env.ballast())?;
    let report = keep_found(env, permit)?;
    remove_staging(env, permit)?;
    if env.untouched {
        forget_safety_backup(env);
    }
    Ok(report)
}

/// What it saved is what is there: each try that is given up would leave another one. Where it cannot be removed there is one
/// backup more, and no harm done.
fn forget_safety_backup(env: &Env) {
    let made = env.host.read(&env.dir.join(SAFETY_BACKUP), PATH_BYTES);
    let path = made.map(|path| PathBuf::from(String::from_utf8_lossy(&path).into_owned()));
    if let Ok(path) = path
        && is_pinned(env, &path) == Ok(false)
    {
        let _ = env.host.discard(&path);
    }
}

/// Whether a person pinned this backup meanwhile.
fn is_pinned(env: &Env, backup: &Path) -> Result<bool, Problem> {
    // The restore's folder lies in `restores` of the state folder.
    let pinned = parent(parent(env.dir)?)?.join(PINNED);
    if env.host.stat(&pinned)?.is_none() {
        return Ok(false);
    }
    let digest = env.host.sha256(backup)?.to_string();
    let pins = env.host.read(&pinned, PINS_BYTES)?;
    let pins = String::from_utf8_lossy(&pins);
    Ok(pins.lines().any(|pin| pin == digest))
}

/// A boot closes the fence by the barrier, also where the restore had lifted it. First of all: whatever else of the
/// clean-up fails, it holds nothing back.
fn lift_fence(env: &Env, permit: &Permit) -> Result<(), Problem> {
    if fence_is_closed(env.host)? {
        env.lift_fence(permit, "look at the reason")?;
    }
    Ok(())
}

/// Each name in the staging with the path whose object lies there: the target's, and those of the files that SQLite keeps beside
/// it.
fn both_names(target: &Target) -> impl Iterator<Item = (String, String)> {
    let own = std::iter::once((target.staged.clone(), target.path.clone()));
    let beside = side_files(&target.staged).into_iter();
    own.chain(beside.zip(side_files(&target.path)))
}

/// Back, the staging holds what was in the targets' places: the plan's own objects, or what others made of them or put there.
/// The latter is kept.
fn keep_found(env: &Env, permit: &Permit) -> Result<Report, Problem> {
    let mut report = Report::default();
    let mut found = Keeping::new(env, permit, FOUND);
    // A clean-up that was cut off has said nothing of what it moved.
    let may_be_kept = env.host.stat(found.root())?.is_some();
    // Before that, what is staged may be half written.
    for target in env.targets().filter(|_| env.exchanged) {
        if may_be_kept {
            let kept = found.kept_before(&target.path)?.into_iter();
            let notes = kept.map(|kept| found_note(env, target, &kept));
            report.warnings.extend(notes);
        }
        if is_the_plans(env, target)? {
            continue;
        }
        let staged = Path::new(&target.staged);
        // Whoever wrote it need not have synced it.
        if env.host.stat(staged)?.is_some_and(|m| m.kind == Kind::File) {
            env.host.sync_file(permit, staged)?;
        }
        let kept = found.take(staged, &target.path)?;
        report.warnings.push(found_note(env, target, &kept));
    }
    found.sync()?;
    report.warnings.append(&mut found.notes);
    Ok(report)
}

/// What a person is told of what others left.
fn found_note(env: &Env, target: &Target, kept: &Path) -> Note {
    let (path, kept) = (&target.path, kept.display());
    let is_database = env.plan.databases.iter().any(|d| d.path == *path);
    let who = match is_database {
        true => "a program wrote to",
        false => "somebody else changed",
    };
    let text = format!(
        "{who} {path} during the restore; Holdfast kept that data as {kept}, and the gateway does not use it"
    );
    let note = Note::known(Code::FOUND_KEPT, text).about(path);
    note.advising(format!("look at {kept} if you miss changes"))
}

/// Whether what is staged is byte for byte what the plan put there, or nothing.
fn is_the_plans(env: &Env, target: &Target) -> Result<bool, Problem> {
    let staged = Path::new(&target.staged);
    Ok(match (env.host.stat(staged)?, &target.new) {
        (None, _) => true,
        (Some(meta), Some(new)) if meta.kind == Kind::File && meta.size == new.size => {
            env.host.sha256(staged)? == new.sha256
        }
        (Some(_), _) => false,
    })
}

/// The staging folders are root's alone and named by the plan: whatever lies in them is this restore's.
fn remove_staging(env: &Env, permit: &Permit) -> Result<(), Problem> {
    for dir in &env.plan.staging {
        let dir = PathBuf::from(dir);
        if env.host.stat(&dir)?.is_some() {
            for name in env.host.list(&dir)? {
                env.host.remove_file(permit, &dir.join(name))?;
            }
            env.host.remove_dir(permit, &dir)?;
        }
        // Also where it is gone already: an earlier attempt may have been cut off before this.
        env.host.sync_dir(permit, parent(&dir)?)?;
    }
    Ok(())
}
