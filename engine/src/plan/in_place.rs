//! Whether every target of a plan can be replaced where it lies: what is immutable, append-only, on a read-only mount or itself a
//! mount point is found here, before any question. Looks only.

use std::collections::BTreeSet;
use std::path::Path;

use journal_format::{Change, Plan};

use super::side_files::side_files;
use crate::error::{Code, Problem, cannot};
use crate::host::{Look, parent};
use crate::survey::preflight::fixed_in_place;

/// Every reason why a target cannot be replaced; those of one kind are one problem.
pub fn problems(host: &dyn Look, plan: &Plan) -> Result<Vec<Problem>, Problem> {
    let mounts: BTreeSet<String> = host.mount_points()?.into_iter().collect();
    let mut problems = Vec::new();
    let mut folders = BTreeSet::new();
    let mut paths = BTreeSet::new();
    for target in plan.databases.iter().chain(&plan.files) {
        folders.insert(parent(Path::new(&target.path))?.display().to_string());
        paths.insert(target.path.clone());
        if target.change != Change::Add && mounts.contains(&target.path) {
            problems.push(mount_point(&target.path));
        }
    }
    for database in &plan.databases {
        paths.extend(side_files(&database.path));
    }
    let mut fixed = Vec::new();
    let mut read_only = Vec::new();
    for path in folders.iter().chain(paths.difference(&folders)) {
        let Some(how) = host.fixed(Path::new(path))? else {
            continue;
        };
        if how.immutable || how.append_only {
            fixed.push((path.clone(), how));
        }
        if how.read_only && folders.contains(path) {
            read_only.push(path.as_str());
        }
    }
    problems.extend(fixed_in_place(&fixed));
    if !read_only.is_empty() {
        problems.push(cannot(
            Code::READ_ONLY,
            format!(
                "replace files in {}: mounted read-only",
                read_only.join(", ")
            ),
            "mount that filesystem for writing, then restore again",
        ));
    }
    Ok(problems)
}

/// Another filesystem's file, or another place's of the same one, shows under its name: neither can be exchanged.
pub fn mount_point(path: &str) -> Problem {
    cannot(
        Code::MOUNT_POINT,
        format!("exchange {path}: it is a mount point"),
        "unmount it, or name the file that lies behind it in the profile",
    )
}
