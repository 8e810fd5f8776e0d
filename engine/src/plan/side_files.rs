//! The files that SQLite keeps beside a database, as targets of a plan and as they lie on the host. Opens none of them.

use std::path::Path;

use journal_format::Target;

use crate::error::Problem;
use crate::host::Look;

/// The names of the files that SQLite keeps beside a database.
pub fn side_files(path: &str) -> [String; 3] {
    ["-wal", "-shm", "-journal"].map(|suffix| format!("{path}{suffix}"))
}

/// Side files that are there.
pub fn side_files_there(host: &dyn Look, path: &str) -> Result<Vec<String>, Problem> {
    let mut there = Vec::new();
    for file in side_files(path) {
        if host.stat(Path::new(&file))?.is_some() {
            there.push(file);
        }
    }
    Ok(there)
}

/// The database among these targets beside which this one lies; none for all but side files.
pub fn beside<'t>(target: &Target, targets: &'t [Target]) -> Option<&'t Target> {
    targets
        .iter()
        .find(|d| side_files(&d.path).contains(&target.path))
}
