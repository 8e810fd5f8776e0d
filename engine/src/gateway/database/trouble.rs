//! What kind of trouble a database gives: whoever saves it does something else about each. Owns that judgement, and how the
//! holder of a lock is found. Must not open anything but `/proc`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat;
use rusqlite::ErrorCode;
use serde::{Deserialize, Serialize};

use super::all_files;
use crate::error::{Code, Fault, Problem};
use crate::text::wording::quoted_path;

/// Why a database could not be worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// Another process held it locked for longer than was waited.
    Busy(Problem),
    /// It is damaged, or no database: SQLite cannot read it. Its bytes can be had.
    Unreadable(Problem),
    /// Anything else, which says nothing of the database itself: a disk that fails, rights that are missing.
    Failed(Problem),
}

impl Trouble {
    /// What SQLite's answer says, in these words.
    pub(crate) fn of(error: &rusqlite::Error, mut problem: Problem) -> Trouble {
        problem.code = code_of(error).or(problem.code);
        if is_held(error) {
            Trouble::Busy(problem)
        } else if is_unreadable(error) {
            Trouble::Unreadable(problem)
        } else {
            Trouble::Failed(problem)
        }
    }

    /// Its words.
    pub fn problem(&self) -> &Problem {
        let (Trouble::Busy(problem) | Trouble::Unreadable(problem) | Trouble::Failed(problem)) =
            self;
        problem
    }

    /// Says of a lock who holds it, if that can be told, how long it was waited for, and what to do.
    pub(crate) fn with_holders(self, path: &Path, waited: Duration) -> Trouble {
        let Trouble::Busy(mut problem) = self else {
            return self;
        };
        let holders: Vec<String> = holders(path)
            .into_iter()
            .map(|(pid, command)| format!("{pid} ({})", command.escape_debug()))
            .collect();
        let seconds = waited.as_secs();
        problem.what += &match holders.as_slice() {
            [] => format!(" (waited {seconds} s)"),
            [one] => format!("; process {one} holds it (waited {seconds} s)"),
            many => format!(
                "; the processes {} hold it (waited {seconds} s)",
                many.join(", ")
            ),
        };
        problem.advice = format!(
            "wait until whoever uses it is done, or end it (it is shown by: fuser -v {}); if it takes long by nature, set \
             busy_seconds under [gateway] in the profile",
            quoted_path(path)
        );
        Trouble::Busy(problem)
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Trouble {
        Trouble::Failed(problem)
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Problem {
        let (Trouble::Busy(problem) | Trouble::Unreadable(problem) | Trouble::Failed(problem)) =
            trouble;
        problem
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Fault {
        Fault::Failed(trouble.into())
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.problem().fmt(f)
    }
}

fn is_held(error: &rusqlite::Error) -> bool {
    let held = [
        ErrorCode::DatabaseBusy,
        ErrorCode::DatabaseLocked,
        ErrorCode::FileLockingProtocolFailed,
    ];
    error
        .sqlite_error_code()
        .is_some_and(|code| held.contains(&code))
}

/// The cause that SQLite's answer names.
pub(crate) fn code_of(error: &rusqlite::Error) -> Option<Code> {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Some(Code::NO_SPACE),
        Some(ErrorCode::ReadOnly) => Some(Code::READ_ONLY),
        Some(ErrorCode::PermissionDenied) => Some(Code::NO_RIGHTS),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Some(Code::IO),
        _ if is_held(error) => Some(Code::DATABASE_HELD),
        _ if is_unreadable(error) => Some(Code::DATABASE_UNREADABLE),
        _ => None,
    }
}

/// The file itself is not what a database is. A disk that is full or fails is another matter: it says nothing of the file.
pub(crate) fn is_unreadable(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => true,
        // A schema of a format that this SQLite does not know is told by no code of its own.
        Some(ErrorCode::Unknown) => error.to_string().contains("unsupported file format"),
        _ => false,
    }
}

/// The answer is about what is in the file, not about the disk or the machine: it names a module that is not there, say.
pub(crate) fn says_of_the_file(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        None | Some(ErrorCode::Unknown | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}

/// The answer is about the disk or the machine, and says nothing of what is in the file.
pub(crate) fn says_of_the_machine(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
        )
    )
}

/// Processes that have a lock on a database or on what lies beside it, with their command names.
pub(crate) fn holders(path: &Path) -> BTreeMap<u32, String> {
    let files: Vec<String> = all_files(path)
        .iter()
        .filter_map(|p| p.symlink_metadata().ok())
        .map(|m| {
            let (major, minor) = (stat::major(m.dev()), stat::minor(m.dev()));
            format!("{major:02x}:{minor:02x}:{}", m.ino())
        })
        .collect();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut found = BTreeMap::new();
    for line in locks.lines() {
        // `1: POSIX ADVISORY WRITE 1234 08:01:5678 1073741826 1073742335`; one that waits has `->` behind its number.
        let words: Vec<&str> = line.split_whitespace().filter(|w| *w != "->").collect();
        let [_, _, _, _, pid, file, ..] = words.as_slice() else {
            continue;
        };
        if let Ok(pid) = pid.parse::<u32>()
            && pid != 0
            && !line.contains("->")
            && files.iter().any(|f| f == file)
        {
            let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.insert(pid, command.trim_end().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whoever_holds_a_database_locked_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch("CREATE TABLE t (x); BEGIN EXCLUSIVE")
            .unwrap();
        let me = std::process::id();
        assert_eq!(holders(&path).into_keys().collect::<Vec<_>>(), [me]);
        let busy = Trouble::Busy(crate::error::cannot(Code::DATABASE_HELD, "read it", "wait"));
        let said = busy.with_holders(&path, Duration::from_secs(30));
        let problem = said.problem();
        assert!(problem.what.contains(&format!("process {me} (")), "{said}");
        assert!(problem.what.contains("30 s"), "{said}");
        assert!(problem.advice.contains("busy_seconds"), "{said}");
        conn.execute_batch("COMMIT").unwrap();
        assert!(holders(&path).is_empty());
    }
}
