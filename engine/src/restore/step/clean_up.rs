//! After the verdict: originals into the restore's folder, where they are kept until the admin lets them go (I9), the
//! staging gone, and so is a fence that a boot closed again. Can be repeated at any point.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use journal_format::Direction;

use super::{Env, Report, StepOps, fence_is_closed, seen};
use crate::error::Problem;
use crate::host::{Permit, parent};
use crate::plan::side_files::side_files;
use crate::restore::decide::Observed;
use crate::text::wording::counted;

pub struct CleanUp;

impl StepOps for CleanUp {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        lift_fence(env, permit)?;
        let originals = env.dir.join("originals");
        env.host.discard(&env.ballast())?;
        // Both ends of every rename and every folder on the way, also those of an earlier attempt that was cut off
        // before it synced them: the staging goes next, and what was moved out of it must be durable by then.
        let mut folders = BTreeSet::from([env.dir.to_owned()]);
        let mut made = BTreeSet::new();
        let mut moved = 0;
        for target in env.targets() {
            for (from, to) in std::iter::once((target.staged.clone(), target.path.clone())).chain(
                side_files(&target.staged)
                    .into_iter()
                    .zip(side_files(&target.path)),
            ) {
                let from = Path::new(&from);
                let to = originals.join(to.trim_start_matches('/'));
                let folder = parent(&to)?;
                if !folders.contains(parent(from)?) {
                    folders.insert(parent(from)?.to_owned());
                }
                let Some(meta) = env.host.stat(from)? else {
                    // What an earlier attempt moved lies in a folder that it may not have synced.
                    folders.extend(on_the_way(folder, &originals));
                    continue;
                };
                if made.insert(folder.to_owned()) {
                    env.host.keep_dir(folder)?;
                    // Also where an earlier attempt made them: before the first file leaves its old place, the way to
                    // its new one is durable.
                    for dir in on_the_way(folder, &originals) {
                        env.host.sync_dir(permit, &dir)?;
                        folders.insert(dir);
                    }
                }
                if env.host.stat(folder)?.is_some_and(|f| f.dev == meta.dev) {
                    env.host.rename(permit, from, &to)?;
                } else {
                    // A crash between the copy and the removal leaves a copy that may be half: it is made anew.
                    env.host.remove_file(permit, &to)?;
                    env.host.copy(permit, from, &to)?;
                    env.host.sync_dir(permit, folder)?;
                    env.host.remove_file(permit, from)?;
                }
                moved += 1;
            }
        }
        for folder in folders {
            if env.host.stat(&folder)?.is_some() {
                env.host.sync_dir(permit, &folder)?;
            }
        }
        remove_staging(env, permit)?;
        let mut report = Report::default();
        if moved > 0 {
            report.did.push(format!(
                "kept {} in {}",
                counted(moved, "original file"),
                originals.display()
            ));
        }
        Ok(report)
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        lift_fence(env, permit)?;
        env.host.discard(&env.ballast())?;
        remove_staging(env, permit)?;
        Ok(Report::default())
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

/// A boot closes the fence by the barrier, also where the restore had lifted it. First of all: whatever else of the
/// clean-up fails, it holds nothing back.
fn lift_fence(env: &Env, permit: &Permit) -> Result<(), Problem> {
    if fence_is_closed(env.host)? {
        env.lift_fence(permit, "look at the reason")?;
    }
    Ok(())
}

/// The folders from the originals' own down to this one.
fn on_the_way(folder: &Path, originals: &Path) -> Vec<PathBuf> {
    let way = folder.ancestors().take_while(|d| d.starts_with(originals));
    let mut way: Vec<PathBuf> = way.map(Path::to_owned).collect();
    way.reverse();
    way
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
