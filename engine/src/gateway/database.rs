//! The gateway's databases: what is known of them (clients, users), online snapshots, settling after services have stopped;
//! with whose rights that is done on the gateway's own files, checks of copies that came in an archive, and what a restore
//! makes of them, in modules of their own.
//!
//! What works on a live file here is for the process that the host starts, and for tests: elsewhere it is the host that is
//! asked. Typed access to known tables goes through Diesel; the backup API, limits and unknown schemas through rusqlite; both
//! use one SQLite. Must not: open a database file by any other means while this process may have it open through SQLite
//! (closing that descriptor would drop SQLite's locks), nor say what a password hash or a key is.

mod bounds;
mod check;
mod copying;
mod known_tables;
pub(crate) mod mail;
mod raw;
pub(crate) mod reach;
mod rebuild;
pub(crate) mod rights;
mod row_sums;
mod shape;
mod status;
pub(crate) mod trouble;

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Params};
use serde::{Deserialize, Serialize};

pub(crate) use check::check_snapshot;
pub use check::{Judged, NotTaken, Origin, check};
pub(crate) use copying::snapshot;
use copying::{dangling_references, integrity};
pub use known_tables::{
    Client, Rows, User, clients_of_copy, each_client_of_copy, rows, users_of_copy,
};
pub(crate) use known_tables::{read_clients, read_users};
pub use mail::mail_relay_of_copy;
pub use raw::{RawFile, raw_bytes};
pub use rebuild::{RowsTaken, Terms, add_what_is_missing, copy_rows};
pub use row_sums::RowSums;
pub(crate) use row_sums::row_sums;
pub(crate) use shape::shape;
pub use shape::{Column, Shape, Table};
pub(crate) use status::call_active;
pub use status::call_inactive;
#[cfg(test)]
pub(crate) use tests::content::content_of_copy;
pub use trouble::Trouble;

use crate::error::{Code, Problem, cannot, cause};
use crate::files::open::sync;

/// How long settling waits for a lock, when all users have stopped.
const BUSY: Duration = Duration::from_secs(5);
/// What a rollback journal may have besides the pages: headers, each as large as a sector.
const JOURNAL_SLACK: u64 = 1 << 20;
/// Problems named for one database before the rest is only counted.
const NAMED: usize = 10;

/// Until when a lock of another process is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn of(wait: Duration) -> Patience {
        Patience(Instant::now() + wait)
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Whether other processes may be writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    /// The gateway's own file, in use or not.
    Live(Patience),
    /// A private copy that nobody else has open: opened as unchanging, so that no side files appear.
    Copy,
}

/// Ways to open it, best first.
///
/// Read-only first: it rolls nothing back. But a read-only connection to a WAL database that was closed cleanly makes `-wal`
/// and `-shm` and leaves them there; a read-write connection that only reads takes them with it when it goes, and where
/// no file lies beside such a database there is nothing to roll back.
fn modes(path: &Path, how: OpenMode) -> &'static [&'static str] {
    let [wal, _, journal] = side_files(path);
    match how {
        OpenMode::Copy => &["mode=ro&immutable=1"],
        OpenMode::Live(_) if wal.exists() => &["mode=ro", "mode=rw"],
        OpenMode::Live(_) if !journal.exists() && says_wal(path) => &["mode=rw"],
        OpenMode::Live(_) => &["mode=ro"],
    }
}

/// The header gives the WAL mode. Only for a process that does not have it open through SQLite.
fn says_wal(path: &Path) -> bool {
    use std::io::Read;
    let mut header = [0u8; 20];
    File::open(path).is_ok_and(|mut f| f.read_exact(&mut header).is_ok() && header[18] == 2)
}

/// A transaction that was cut off lies beside it, and a connection that only reads cannot tell what the database holds.
///
/// Without a journal nothing is, and a connection that only reads would leave files beside a database in WAL mode.
pub(crate) fn is_cut_off(path: &Path, patience: Patience) -> bool {
    let [_, _, journal] = side_files(path);
    if !journal.exists() {
        return false;
    }
    let read = open_waiting(path, "mode=ro", patience.left())
        .and_then(|conn| conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())));
    let Err(rusqlite::Error::SqliteFailure(error, _)) = read else {
        return false;
    };
    error.extended_code == rusqlite::ffi::SQLITE_READONLY_ROLLBACK
}

/// Copies a database with the journal beside it, and rolls the copy back: what the database will hold once it is settled.
pub(crate) fn roll_back_copy(live: &Path, copy: &Path) -> Result<(), Trouble> {
    let [_, _, journal] = side_files(live);
    let failed = |e: &dyn std::fmt::Display| {
        cannot(
            Code::DATABASE_UNREADABLE,
            format!(
                "read the database {}: an interrupted change lies beside it and cannot be rolled back ({e})",
                live.display()
            ),
            format!(
                "start the gateway's service, which rolls it back; if that cannot open the database either, remove {}",
                journal.display()
            ),
        )
    };
    // It holds each page of before once, at most. Whoever makes it longer wants the disk full.
    let size = |path: &Path| path.metadata().map_or(0, |m| m.len());
    if size(&journal) > 2 * size(live) + JOURNAL_SLACK {
        let problem = failed(&"it is far longer than the database");
        return Err(Trouble::Unreadable(problem));
    }
    let [_, _, to] = side_files(copy);
    for (from, to) in [(live, copy), (&journal, &to)] {
        let mut from = File::options()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(from)
            .map_err(|e| failed(&e))?;
        let mut to = File::create_new(to).map_err(|e| failed(&e))?;
        std::io::copy(&mut from, &mut to).map_err(|e| failed(&e))?;
    }
    open(copy, "mode=rw")
        .and_then(|conn| conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))
        .map_err(|e| Trouble::of(&e, failed(&e)))
}

/// How long a lock is waited for.
fn wait(how: OpenMode) -> Duration {
    match how {
        OpenMode::Live(patience) => patience.left(),
        OpenMode::Copy => BUSY,
    }
}

/// The path as SQLite's URI, so that no character of it is taken for a parameter, and nothing is created.
fn uri(path: &Path, parameters: &str) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri + "?" + parameters
}

/// What the names of a database's files have behind the database's own: the file itself first.
pub const SIDES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// The file of a database, and those that SQLite may keep beside it, in the order of [`SIDES`].
pub fn all_files(path: &Path) -> [PathBuf; 4] {
    SIDES.map(|side| {
        let mut name = path.as_os_str().to_owned();
        name.push(side);
        PathBuf::from(name)
    })
}

/// The files that SQLite may keep beside a database: `-wal`, `-shm`, `-journal`.
pub fn side_files(path: &Path) -> [PathBuf; 3] {
    let [_, beside @ ..] = all_files(path);
    beside
}

fn open(path: &Path, parameters: &str) -> rusqlite::Result<Connection> {
    open_waiting(path, parameters, BUSY)
}

fn open_waiting(path: &Path, parameters: &str, wait: Duration) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(
        uri(path, parameters),
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(wait)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    Ok(conn)
}

fn open_to_read(path: &Path, how: OpenMode) -> rusqlite::Result<Connection> {
    let modes = modes(path, how);
    let mut last = None;
    for mode in modes {
        let opened = open_waiting(path, mode, wait(how)).and_then(|conn| {
            conn.pragma_update(None, "query_only", true)?;
            conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(conn)
        });
        match opened {
            Ok(conn) => return Ok(conn),
            Err(e) => last = Some(e),
        }
        // Whoever may write takes the files beside one that cannot be read away with it.
        let damaged = last.as_ref().is_some_and(trouble::is_unreadable);
        if damaged || !path.exists() {
            break;
        }
    }
    Err(last.unwrap_or(rusqlite::Error::InvalidQuery))
}

/// The first column of what a query gives, for people.
fn texts(conn: &Connection, sql: &str, of: impl Params) -> rusqlite::Result<Vec<String>> {
    conn.prepare(sql)?
        .query_map(of, |row| shown(row, 0))?
        .collect()
}

/// The names of a table's columns.
fn columns_of(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    texts(conn, "SELECT name FROM pragma_table_info(?1)", [table])
}

/// A value for people, whatever it is.
fn shown(row: &rusqlite::Row, column: usize) -> rusqlite::Result<String> {
    use rusqlite::types::ValueRef;
    Ok(match row.get_ref(column)? {
        ValueRef::Null => String::new(),
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(x) => x.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
    })
}

/// Settles a database whose users have stopped: all that is committed comes into the one file, an interrupted
/// transaction is rolled back, file and folder are synced, and no side file is left. Owner, mode and journal mode stay.
///
/// Only for a process in which nothing else has this database open. the host is it for all but tests.
pub(crate) fn settle(path: &Path) -> Result<Settled, Problem> {
    settle_in_place(path).map_err(|e| {
        let of_sqlite = e.downcast_ref().and_then(trouble::code_of);
        let of_file = || e.downcast_ref().map(cause);
        cannot(
            of_sqlite.or_else(of_file).unwrap_or(Code::DATABASE_HELD),
            format!("checkpoint the database {}: {e}", path.display()),
            "stop whatever still uses it (fuser -v FILE), and check the file: sqlite3 FILE 'PRAGMA integrity_check'",
        )
    })
}

fn settle_in_place(path: &Path) -> Result<Settled, Box<dyn std::error::Error>> {
    let [wal, shm, journal] = side_files(path);
    let conn = open(path, "mode=rw")?;
    // Reading is what makes SQLite roll back a journal that an interrupted writer left.
    let read = conn
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .and_then(|()| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)));
    let busy: i64 = match read {
        Ok(busy) => busy,
        Err(e) if trouble::is_unreadable(&e) => return Ok(Settled::Unreadable(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    if busy != 0 {
        return Err("another process still uses it".into());
    }
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode != "wal" && journal.exists() {
        // A journal that was kept and is not hot. SQLite removes it on the way from one of the modes that keep it; these
        // modes belong to the connection, not to the file.
        for mode in ["PERSIST", "DELETE"] {
            conn.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(()))?;
        }
    }
    conn.close().map_err(|(_, e)| e)?;
    if !wal.exists() && shm.exists() {
        // An index of a log that is gone says nothing.
        std::fs::remove_file(&shm)?;
    }
    if let Some(left) = side_files(path).into_iter().find(|p| p.exists()) {
        let left = left.display();
        return Err(format!("{left} is still there, so another process uses it").into());
    }
    sync(path)?;
    sync(path.parent().unwrap_or(Path::new("/")))?;
    Ok(Settled::Whole)
}

/// What settling a database led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// The file alone is all of it.
    Whole,
    /// It is damaged, for this reason; it and its side files are as they were.
    Unreadable(String),
}

/// A name as SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
