//! Stages every new object beside its target, on the same filesystem, synced and verified, and tries an exchange there.
//! Changes nothing that the gateway uses. Its way back is the clean-up's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::{Change, Direction, Step, Target, size};

use super::{Env, Report, StepOps, no_way_back, seen};
use crate::error::{Code, Problem, cannot};
use crate::host::{Owner, Permit, parent};
use crate::plan::in_place::mount_point;
use crate::plan::side_files::beside;
use crate::restore::decide::Observed;
use crate::restore::driver::asked;
use crate::restore::keeping::unkept_note;
use crate::restore::{old_files, served};
use crate::text::wording::counted;

pub struct Stage;

/// What services may need to start, going back, on a disk that has filled up meanwhile.
const BALLAST_BYTES: u64 = 8 << 20;

impl StepOps for Stage {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let source = env.source.ok_or_else(|| {
            cannot(
                Code::INTERNAL,
                "stage without the backup",
                "run `holdfast recover`",
            )
        })?;
        let mut filesystems: BTreeMap<u64, PathBuf> = BTreeMap::new();
        for dir in &env.plan.staging {
            let dir = Path::new(dir);
            env.host.make_dir(permit, dir)?;
            try_exchange(env, permit, dir)?;
            if let Some(meta) = env.host.stat(dir)? {
                filesystems
                    .entry(meta.dev)
                    .or_insert_with(|| dir.to_owned());
            }
        }
        env.host.reserve(&env.ballast(), BALLAST_BYTES)?;
        let (mut files, mut bytes) = (0_usize, 0_u64);
        let mut warnings = Vec::new();
        let mounts: BTreeSet<String> = env.host.mount_points()?.into_iter().collect();
        for target in env.targets() {
            if (env.asked)() {
                return Err(asked("prepare the new files"));
            }
            check_target(env, target, &mounts)?;
            let Some(new) = &target.new else { continue };
            let mut fill = |out: &mut dyn std::io::Write| source.copy(&target.entry, out);
            env.host
                .create(permit, Path::new(&target.staged), new.into(), &mut fill)?;
            if target.change == Change::Replace {
                let (old, staged) = (Path::new(&target.path), Path::new(&target.staged));
                let unkept = env.host.take_attributes(permit, old, staged)?;
                warnings.extend(unkept_note(&target.path, &unkept));
            }
            files += 1;
            bytes += new.size;
        }
        source.finished();
        old_files::keep(env)?;
        for dir in filesystems.values() {
            env.host.sync_filesystem(permit, dir)?;
        }
        warnings.extend(served::keep_after(env));
        let did = format!("prepared {}, {}", counted(files, "new file"), size(bytes));
        Ok(Report {
            warnings,
            ..Report::did(did)
        })
    }

    fn back(&self, _: &Env, _: &Permit) -> Result<Report, Problem> {
        Err(no_way_back(Step::Stage))
    }

    fn observe(&self, env: &Env, _: Direction) -> Result<Observed, Problem> {
        let mut wrong = Vec::new();
        for target in env.targets() {
            let Some(new) = &target.new else { continue };
            let staged = Path::new(&target.staged);
            match env.host.stat(staged)? {
                None => wrong.push(format!("{} is not there", target.staged)),
                Some(m)
                    if (m.size, m.uid, m.gid, m.mode) != (new.size, new.uid, new.gid, new.mode) =>
                {
                    wrong.push(format!("{} has another size, owner or mode", target.staged));
                }
                Some(_) if env.host.sha256(staged)? != new.sha256 => {
                    wrong.push(format!("{} has other bytes", target.staged));
                }
                Some(_) => {}
            }
        }
        Ok(seen(wrong))
    }
}

/// A filesystem that cannot exchange is found out here, not half way.
fn try_exchange(env: &Env, permit: &Permit, dir: &Path) -> Result<(), Problem> {
    let owner = Owner {
        uid: 0,
        gid: 0,
        mode: 0o600,
    };
    let (a, b) = (dir.join("trial-a"), dir.join("trial-b"));
    for file in [&a, &b] {
        env.host.create(permit, file, owner, &mut |_| Ok(()))?;
    }
    let tried = env.host.exchange(permit, &a, &b);
    let id = env.host.stat(&a)?.and_then(|m| m.id);
    env.host.remove_file(permit, &a)?;
    env.host.remove_file(permit, &b)?;
    tried.map_err(|p| Problem {
        advice: "this filesystem cannot exchange two files: use ext4, xfs or btrfs".into(),
        ..p
    })?;
    if id.is_none() {
        return Err(cannot(
            Code::UNFIT_FILESYSTEM,
            format!(
                "use {}: its filesystem keeps no time of birth, so objects could be mistaken after a crash",
                dir.display()
            ),
            "use ext4, xfs or btrfs",
        ));
    }
    Ok(())
}

fn check_target(env: &Env, target: &Target, mounts: &BTreeSet<String>) -> Result<(), Problem> {
    let path = Path::new(&target.path);
    let there = env.host.stat(path)?;
    let expected = matches!(target.change, Change::Replace | Change::Remove);
    // Beside a database that is there now a file may lie until that is settled.
    let may_be_there = beside(target, &env.plan.databases)
        .is_some_and(|database| database.change == Change::Replace);
    if there.is_some() != expected && !may_be_there {
        return Err(cannot(
            Code::PLAN_DRIFTED,
            format!(
                "stage {}: it is not as it was when the plan was made",
                target.path
            ),
            "someone changed the gateway meanwhile; restore again",
        ));
    }
    if there.is_some() && mounts.contains(&target.path) {
        return Err(mount_point(&target.path));
    }
    let dir = env.host.stat(parent(path)?)?;
    if let (Some(file), Some(dir)) = (there, dir)
        && file.dev != dir.dev
    {
        return Err(cannot(
            Code::UNFIT_FILESYSTEM,
            format!(
                "exchange {}: its filesystem gives it another device number than its folder, as overlayfs does, so objects \
                 could be mistaken after a crash",
                target.path
            ),
            "use ext4, xfs or btrfs",
        ));
    }
    Ok(())
}
