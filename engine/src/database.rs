//! The gateway's databases: what is known of them (clients, users), online snapshots, checks of copies that came in an
//! archive, settling after services have stopped, and comparison of logical content.
//!
//! Typed access to known tables goes through Diesel; the backup API, limits and unknown schemas through rusqlite; both
//! use one SQLite. Must not: open a database file by any other means while this process may have it open through SQLite
//! (closing that descriptor would drop SQLite's locks), nor say what a password hash or a key is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::Connection as _;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use journal_format::Digest;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::fault::{Problem, cannot};
use crate::profile::DatabaseKind;

/// How long one attempt waits for a lock of the gateway's.
const BUSY: Duration = Duration::from_secs(5);
/// Attempts at one whole copy before a busy writer is called a failure.
const ATTEMPTS: u32 = 12;
/// Tables that a gateway's database may hold.
const KNOWN_TABLES: [&str; 7] = [
    "clients",
    "test_history",
    "monitoring_logs",
    "user",
    "email_settings",
    "alert_history",
    "client",
];
/// Problems named for one database before the rest is only counted.
const NAMED: usize = 10;

/// One client of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name: the stem of its config and the name of its interface.
    pub name: String,
    /// Where the gateway says that its config lies. From the database: never hand it to a command.
    pub config_path: String,
    /// The network behind it.
    pub subnet: String,
    /// `active` or `inactive`.
    pub status: String,
}

/// One user of the gateway.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: i64,
    /// The name that signs in.
    pub username: String,
    /// The password's hash, for `password::verify` alone.
    pub password: String,
    /// May sign in.
    pub active: bool,
    /// The role that some forks keep; none where there is no such column.
    pub is_admin: Option<bool>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("username", &self.username)
            .field("active", &self.active)
            .field("is_admin", &self.is_admin)
            .finish_non_exhaustive()
    }
}

mod schema {
    diesel::table! {
        clients (id) {
            id -> Nullable<Text>,
            name -> Text,
            config_path -> Text,
            subnet -> Text,
            status -> Text,
        }
    }
    diesel::table! {
        user (id) {
            id -> BigInt,
            username -> Text,
            password -> Text,
            active -> Nullable<Bool>,
            is_admin -> Nullable<Bool>,
        }
    }
}

/// Whether other processes may be writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The gateway's own file, in use or not.
    Live,
    /// A private copy that nobody else has open: opened as unchanging, so that no side files appear.
    Copy,
}

/// The clients in the gateway's live database.
pub fn clients(path: &Path) -> Result<Vec<Client>, Problem> {
    read_clients(path, Use::Live)
}

/// The clients in a private copy of a database.
pub fn clients_of_copy(path: &Path) -> Result<Vec<Client>, Problem> {
    read_clients(path, Use::Copy)
}

/// The users in the gateway's live database.
pub fn users(path: &Path) -> Result<Vec<User>, Problem> {
    read_users(path, Use::Live)
}

/// The users in a private copy of a database.
pub fn users_of_copy(path: &Path) -> Result<Vec<User>, Problem> {
    read_users(path, Use::Copy)
}

fn read_clients(path: &Path, how: Use) -> Result<Vec<Client>, Problem> {
    use schema::clients::dsl;
    type Row = (String, String, String, String);
    let rows: Vec<Row> = typed(path, how, "clients", |conn| {
        dsl::clients
            .select((dsl::name, dsl::config_path, dsl::subnet, dsl::status))
            .order(dsl::name)
            .load(conn)
    })?;
    Ok(rows
        .into_iter()
        .map(|(name, config_path, subnet, status)| Client {
            name,
            config_path,
            subnet,
            status,
        })
        .collect())
}

fn read_users(path: &Path, how: Use) -> Result<Vec<User>, Problem> {
    use schema::user::dsl;
    #[derive(diesel::QueryableByName)]
    struct Column {
        #[diesel(sql_type = diesel::sql_types::Text)]
        name: String,
    }
    typed(path, how, "users", |conn| {
        let columns: Vec<Column> =
            diesel::sql_query("SELECT name FROM pragma_table_info('user')").load(conn)?;
        let plain = (dsl::id, dsl::username, dsl::password, dsl::active);
        let user = |id, username, password, active: Option<bool>, is_admin| User {
            id,
            username,
            password,
            active: active.unwrap_or(false),
            is_admin,
        };
        if columns.iter().any(|c| c.name == "is_admin") {
            type Row = (i64, String, String, Option<bool>, Option<bool>);
            let rows: Vec<Row> = dsl::user
                .select((plain.0, plain.1, plain.2, plain.3, dsl::is_admin))
                .order(dsl::id)
                .load(conn)?;
            Ok(rows
                .into_iter()
                .map(|(i, u, p, a, r)| user(i, u, p, a, Some(r.unwrap_or(false))))
                .collect())
        } else {
            let rows: Vec<(i64, String, String, Option<bool>)> =
                dsl::user.select(plain).order(dsl::id).load(conn)?;
            Ok(rows
                .into_iter()
                .map(|(i, u, p, a)| user(i, u, p, a, None))
                .collect())
        }
    })
}

fn typed<T>(
    path: &Path,
    how: Use,
    what: &str,
    read: impl Fn(&mut SqliteConnection) -> QueryResult<T>,
) -> Result<T, Problem> {
    let attempt = |mode: &str| -> Result<T, String> {
        let mut conn = SqliteConnection::establish(&uri(path, mode)).map_err(|e| e.to_string())?;
        conn.batch_execute(&format!(
            "PRAGMA busy_timeout = {}; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
            BUSY.as_millis()
        ))
        .and_then(|()| read(&mut conn))
        .map_err(|e| e.to_string())
    };
    let modes = modes(path, how);
    let mut result = attempt(modes[0]);
    for mode in &modes[1..] {
        if result.is_ok() || !path.exists() {
            break;
        }
        result = attempt(mode);
    }
    result.map_err(|e| {
        cannot(
            format!("read the {what} in {}: {e}", path.display()),
            "see whether it is the gateway's database and sound: sqlite3 FILE 'PRAGMA integrity_check'",
        )
    })
}

/// Ways to open it, best first.
///
/// Read-only is not always the gentler way: a read-only connection to a WAL database that was closed cleanly makes `-wal`
/// and `-shm` and leaves them there, and one to a database with a hot journal can read nothing. A read-write connection
/// that only reads takes its side files with it when it goes.
fn modes(path: &Path, how: Use) -> &'static [&'static str] {
    match how {
        Use::Copy => &["mode=ro&immutable=1"],
        Use::Live if side_files(path)[0].exists() => &["mode=ro", "mode=rw"],
        Use::Live => &["mode=rw"],
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

/// The files that SQLite may keep beside a database: `-wal`, `-shm`, `-journal`.
pub fn side_files(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", "-journal"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

fn open(path: &Path, parameters: &str) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(
        uri(path, parameters),
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(BUSY)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    Ok(conn)
}

fn open_to_read(path: &Path, how: Use) -> rusqlite::Result<Connection> {
    let modes = modes(path, how);
    let mut last = None;
    for mode in modes {
        let opened = open(path, mode).and_then(|conn| {
            conn.pragma_update(None, "query_only", true)?;
            conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(conn)
        });
        match opened {
            Ok(conn) => return Ok(conn),
            Err(e) => last = Some(e),
        }
        if !path.exists() {
            break;
        }
    }
    Err(last.unwrap_or(rusqlite::Error::InvalidQuery))
}

/// Copies a live database, page for page, in one go (a copy in portions starts over at every commit and may never end),
/// and checks the copy. `dest` must not exist; it is made 0600, with no side files. It is not synced: it is there to be
/// packed, and what it is packed into is synced. Returns warnings.
pub fn snapshot(live: &Path, dest: &Path) -> Result<Vec<String>, Problem> {
    let made = copy_whole(live, dest).and_then(|()| check_copy_is_whole(live, dest));
    if made.is_err() {
        remove_copy(dest);
    }
    made
}

/// Best effort: the caller already has a problem to tell, and the spool is swept at the next start.
fn remove_copy(dest: &Path) {
    for path in side_files(dest).iter().map(PathBuf::as_path).chain([dest]) {
        if let Err(e) = std::fs::remove_file(path)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {e}", path.display());
        }
    }
}

fn copy_whole(live: &Path, dest: &Path) -> Result<(), Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        cannot(
            format!("copy the database {}: {e}", live.display()),
            "see whether the database is sound (sqlite3 FILE 'PRAGMA integrity_check') and the disk has space",
        )
    };
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dest)
        .map_err(|e| {
            cannot(
                format!(
                    "make the copy {} of the database {}: {e}",
                    dest.display(),
                    live.display()
                ),
                "see to that folder",
            )
        })?;
    let source = open_to_read(live, Use::Live).map_err(|e| failed(&e))?;
    let mut copy = open(dest, "mode=rw").map_err(|e| failed(&e))?;
    // Nobody needs the copy once the power has gone.
    copy.pragma_update(None, "synchronous", "OFF")
        .map_err(|e| failed(&e))?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let step = Backup::new(&source, &mut copy)
            .and_then(|backup| backup.step(-1))
            .map_err(|e| failed(&e))?;
        match step {
            StepResult::Done => break,
            _ if attempt == ATTEMPTS => {
                return Err(failed(&format!(
                    "a writer held it locked through {ATTEMPTS} attempts of {} s",
                    BUSY.as_secs()
                )));
            }
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    drop(source);
    copy.close().map_err(|(_, e)| failed(&e))?;
    if let Some(left) = side_files(dest).into_iter().find(|p| p.exists()) {
        return Err(failed(&format!(
            "the copy has a side file {}",
            left.display()
        )));
    }
    Ok(())
}

fn check_copy_is_whole(live: &Path, dest: &Path) -> Result<Vec<String>, Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        cannot(
            format!("take a sound copy of the database {}: {e}", live.display()),
            "the live database itself is likely damaged: sqlite3 FILE 'PRAGMA integrity_check'",
        )
    };
    let conn = open_to_read(dest, Use::Copy).map_err(|e| failed(&e))?;
    let damage = integrity(&conn).map_err(|e| failed(&e))?;
    if let Some(first) = damage.first() {
        return Err(failed(first));
    }
    dangling_references(&conn).map_err(|e| failed(&e))
}

fn integrity(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(&format!("PRAGMA integrity_check({NAMED})"))?;
    let lines = statement
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(if lines == ["ok"] { Vec::new() } else { lines })
}

/// Rows whose reference leads nowhere, a sentence for each table. Warnings, not damage: the gateway does not enforce
/// references, so the history of a deleted client stays.
fn dangling_references(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        conn.prepare("SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2")?;
    let rows = statement.query_map([], |row| {
        let (table, parent, count): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!(
            "{count} rows of table {table} refer to rows that table {parent} does not have"
        ))
    })?;
    rows.collect()
}

/// Checks a database that came in an archive, as a private copy that nobody else has open. Returns warnings.
pub fn check(path: &Path, kind: DatabaseKind) -> Result<Vec<String>, Vec<Problem>> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    check_named(path, &name, kind)
}

/// As [`check`], where problems call the database by its name in the archive.
pub fn check_named(
    path: &Path,
    name: &str,
    kind: DatabaseKind,
) -> Result<Vec<String>, Vec<Problem>> {
    judge(path, name, kind, false)
}

/// Whether a restore would take this copy, which [`snapshot`] made: all of [`check_named`] but what that has checked.
pub fn check_snapshot(path: &Path, name: &str, kind: DatabaseKind) -> Result<(), Vec<Problem>> {
    judge(path, name, kind, true).map(drop)
}

fn judge(
    path: &Path,
    name: &str,
    kind: DatabaseKind,
    known_to_be_sound: bool,
) -> Result<Vec<String>, Vec<Problem>> {
    let refuse = |why: String| {
        cannot(
            format!("accept the database {name} of the backup: {why}"),
            "make a new backup, or take another one",
        )
    };
    header(path).map_err(|why| vec![refuse(why)])?;
    let damaged = |e: rusqlite::Error| vec![refuse(format!("it is damaged: {e}"))];
    let conn = open(path, "mode=ro&immutable=1").map_err(damaged)?;
    let found = (|| {
        conn.pragma_update(None, "query_only", true)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_LENGTH, 16 << 20),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 << 10),
            (Limit::SQLITE_LIMIT_COLUMN, 64),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 32),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            conn.set_limit(limit, value)?;
        }
        let mut found = foreign_objects(&conn)?;
        // A damaged schema makes every later answer meaningless, and an unknown one may cost more than it tells.
        if found.is_empty() && !known_to_be_sound {
            found.extend(
                integrity(&conn)?
                    .into_iter()
                    .map(|line| format!("it is damaged: {line}")),
            );
        }
        if found.is_empty() {
            found.extend(missing(&conn, kind)?);
        }
        Ok(found)
    })()
    .map_err(damaged)?;
    if !found.is_empty() {
        return Err(found.into_iter().map(refuse).collect());
    }
    if known_to_be_sound {
        return Ok(Vec::new());
    }
    let warnings = dangling_references(&conn).map_err(damaged)?;
    Ok(warnings
        .into_iter()
        .map(|w| format!("{name}: {w}"))
        .collect())
}

/// What the first 100 bytes promise must be so: a page count of millions in a small file costs before it fails.
fn header(path: &Path) -> Result<(), String> {
    let mut bytes = [0u8; 100];
    let mut file = File::open(path).map_err(|e| format!("it cannot be read: {e}"))?;
    let size = file
        .metadata()
        .map_err(|e| format!("it cannot be read: {e}"))?
        .len();
    file.read_exact(&mut bytes)
        .map_err(|_| format!("with {size} bytes it is too short for a SQLite database"))?;
    if &bytes[..16] != b"SQLite format 3\0" {
        return Err("it is not a SQLite database".into());
    }
    let page = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65_536,
        n if n >= 512 && n.is_power_of_two() => u64::from(n),
        n => return Err(format!("its header gives a page size of {n}")),
    };
    if !matches!(bytes[18..20], [1 | 2, 1 | 2]) {
        return Err("its header gives a file format that SQLite does not have".into());
    }
    let pages = u64::from(u32::from_be_bytes([
        bytes[28], bytes[29], bytes[30], bytes[31],
    ]));
    let counted = bytes[24..28] == bytes[92..96];
    if !size.is_multiple_of(page) || (counted && pages != size / page) {
        return Err(format!(
            "its header gives {pages} pages of {page} bytes, but it has {size} bytes"
        ));
    }
    Ok(())
}

/// What a gateway's database never holds: code that runs when rows are read or written, and unknown tables.
fn foreign_objects(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut tables = Vec::new();
    let mut more = 0usize;
    let mut statement = conn.prepare(
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema ORDER BY rowid",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name, table, sql): (String, String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let shown = name.escape_debug().to_string();
        let virtual_table = sql
            .trim_start()
            .get(..14)
            .is_some_and(|s| s.eq_ignore_ascii_case("create virtual"));
        let why = match kind.as_str() {
            "trigger" => Some(format!("it has a trigger, {shown}")),
            "view" => Some(format!("it has a view, {shown}")),
            "table" if virtual_table => Some(format!("it has a virtual table, {shown}")),
            "table" if name == table && known(&name) => {
                tables.push(name);
                None
            }
            "table" => Some(format!(
                "it has a table that the gateway does not know, {shown}"
            )),
            "index" if known(&table) => None,
            _ => Some(format!("it has an object of unknown kind, {shown}")),
        };
        if let Some(why) = why {
            if found.len() < NAMED {
                found.push(why)
            } else {
                more += 1
            }
        }
    }
    if more > 0 {
        found.push(format!(
            "it has {more} more objects that the gateway does not know"
        ));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    for table in &tables {
        let generated: i64 = conn.query_row(
            "SELECT count(*) FROM pragma_table_xinfo(?1) WHERE hidden <> 0",
            [table],
            |r| r.get(0),
        )?;
        if generated > 0 {
            found.push(format!("table {table} has computed columns"));
        }
        let computed: i64 = conn.query_row(
            "SELECT count(*) FROM pragma_index_list(?1) AS l WHERE l.partial <> 0 \
             OR EXISTS (SELECT 1 FROM pragma_index_xinfo(l.name) WHERE cid = -2)",
            [table],
            |r| r.get(0),
        )?;
        if computed > 0 {
            found.push(format!("table {table} has an index over an expression"));
        }
    }
    Ok(found)
}

fn known(table: &str) -> bool {
    KNOWN_TABLES.contains(&table)
        || matches!(
            table,
            "sqlite_sequence" | "sqlite_stat1" | "sqlite_stat2" | "sqlite_stat3" | "sqlite_stat4"
        )
}

fn missing(conn: &Connection, kind: DatabaseKind) -> rusqlite::Result<Vec<String>> {
    let (table, columns): (_, &[&str]) = match kind {
        DatabaseKind::Clients => (
            "clients",
            &[
                "id",
                "name",
                "config_path",
                "subnet",
                "public_key",
                "status",
            ],
        ),
        DatabaseKind::Users => ("user", &["id", "username", "password", "active"]),
    };
    let mut statement = conn.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let present = statement
        .query_map([table], |r| r.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    if present.is_empty() {
        return Ok(vec![format!("it has no table {table}")]);
    }
    let lacks = columns.iter().filter(|c| !present.iter().any(|p| p == *c));
    Ok(lacks
        .map(|c| format!("its table {table} has no column {c}"))
        .collect())
}

/// Settles a database whose users have stopped: all that is committed comes into the one file, an interrupted
/// transaction is rolled back, file and folder are synced, and no side file is left. Owner, mode and journal mode stay.
///
/// Only for a process in which nothing else has this database open.
pub fn settle(path: &Path) -> Result<Settled, Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        cannot(
            format!("settle the database {}: {e}", path.display()),
            "stop whatever still uses it (fuser -v FILE), and see whether it is sound: sqlite3 FILE 'PRAGMA integrity_check'",
        )
    };
    let [wal, shm, journal] = side_files(path);
    let conn = open(path, "mode=rw").map_err(|e| failed(&e))?;
    // Reading is what makes SQLite roll back a journal that an interrupted writer left.
    let read = conn
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .and_then(|()| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)));
    let busy: i64 = match read {
        Ok(busy) => busy,
        Err(e) if is_damage(&e) => return Ok(Settled::Unreadable(e.to_string())),
        Err(e) => return Err(failed(&e)),
    };
    if busy != 0 {
        return Err(failed(&"another process still uses it"));
    }
    let mode: String = conn
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(|e| failed(&e))?;
    if mode != "wal" && journal.exists() {
        // A journal that was kept and is not hot. SQLite removes it on the way from one of the modes that keep it; these
        // modes belong to the connection, not to the file.
        for mode in ["PERSIST", "DELETE"] {
            conn.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(()))
                .map_err(|e| failed(&e))?;
        }
    }
    conn.close().map_err(|(_, e)| failed(&e))?;
    if !wal.exists() && shm.exists() {
        // An index of a log that is gone says nothing.
        std::fs::remove_file(&shm).map_err(|e| failed(&e))?;
    }
    if let Some(left) = side_files(path).into_iter().find(|p| p.exists()) {
        return Err(failed(&format!(
            "{} is still there, so another process uses it",
            left.display()
        )));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(path)
        .and_then(|f| f.sync_all())
        .map_err(|e| failed(&e))?;
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| failed(&e))?;
    Ok(Settled::Whole)
}

/// The file itself is not what a database is. A disk that is full or fails is another matter: it says nothing of the file.
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
    )
}

/// What settling a database led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The file alone is all of it.
    Whole,
    /// It is damaged, for this reason; it and its side files are as they were.
    Unreadable(String),
}

/// The logical content of a database: rows of each table, and a digest of its columns and of every row with its rowid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// By table; `sqlite_sequence` is one of them.
    pub tables: BTreeMap<String, TableContent>,
}

/// The logical content of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableContent {
    /// Rows.
    pub rows: u64,
    /// BLAKE3 of columns and rows in order of rowid (or of the primary key, where there is no rowid).
    pub digest: Digest,
}

impl Content {
    /// Tables in which the two differ, a sentence each; empty if none.
    pub fn differences(&self, other: &Content) -> Vec<String> {
        let names: std::collections::BTreeSet<_> =
            self.tables.keys().chain(other.tables.keys()).collect();
        names
            .into_iter()
            .filter_map(
                |name| match (self.tables.get(name), other.tables.get(name)) {
                    (Some(a), Some(b)) if a == b => None,
                    (Some(a), Some(b)) if a.rows == b.rows => {
                        Some(format!("table {name} has other content"))
                    }
                    (Some(a), Some(b)) => Some(format!(
                        "table {name} has {} rows and {} rows",
                        a.rows, b.rows
                    )),
                    (Some(_), None) => Some(format!("only the first has a table {name}")),
                    _ => Some(format!("only the second has a table {name}")),
                },
            )
            .collect()
    }
}

/// The logical content of a database that others may have open. Streams: memory does not grow with it.
pub fn content(path: &Path) -> Result<Content, Problem> {
    read_content(path, Use::Live)
}

/// The logical content of a private copy.
pub fn content_of_copy(path: &Path) -> Result<Content, Problem> {
    read_content(path, Use::Copy)
}

/// Whether two databases, which others may have open, hold the same, row for row.
pub fn same_content(a: &Path, b: &Path) -> Result<bool, Problem> {
    Ok(content(a)? == content(b)?)
}

fn read_content(path: &Path, how: Use) -> Result<Content, Problem> {
    let read = || -> rusqlite::Result<Content> {
        let conn = open_to_read(path, how)?;
        // One transaction: the tables as they were at one moment.
        let conn = conn.unchecked_transaction()?;
        let mut statement = conn.prepare(
            "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
             AND name <> 'sqlite_schema' AND name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'",
        )?;
        let tables = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let mut content = Content {
            tables: BTreeMap::new(),
        };
        for (table, without_rowid) in tables {
            let digest = read_table(&conn, &table, without_rowid)?;
            content.tables.insert(table, digest);
        }
        Ok(content)
    };
    read().map_err(|e| {
        cannot(
            format!("read all of the database {}: {e}", path.display()),
            "see whether it is sound: sqlite3 FILE 'PRAGMA integrity_check'",
        )
    })
}

fn read_table(
    conn: &Connection,
    table: &str,
    without_rowid: bool,
) -> rusqlite::Result<TableContent> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut statement = conn.prepare("SELECT name, pk FROM pragma_table_info(?1)")?;
    let columns = statement
        .query_map([table], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let order = if without_rowid {
        let mut key: Vec<_> = columns.iter().filter(|c| c.1 > 0).collect();
        key.sort_by_key(|c| c.1);
        key.iter()
            .map(|c| quoted(&c.0))
            .collect::<Vec<_>>()
            .join(", ")
    } else {
        // A column may carry one of these names, and then means itself.
        let hidden = |n: &&str| !columns.iter().any(|c| c.0.eq_ignore_ascii_case(n));
        ["rowid", "_rowid_", "oid"]
            .iter()
            .copied()
            .find(hidden)
            .unwrap_or("rowid")
            .to_owned()
    };
    let mut hash = blake3::Hasher::new();
    let mut part = |tag: u8, bytes: &[u8]| {
        hash.update(&[tag]);
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (column, _) in &columns {
        part(b'c', column.as_bytes());
    }
    let first = if without_rowid {
        String::new()
    } else {
        format!("{order}, ")
    };
    let mut statement = conn.prepare(&format!(
        "SELECT {first}* FROM {} ORDER BY {order}",
        quoted(table)
    ))?;
    let width = statement.column_count();
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        for i in 0..width {
            match row.get_ref(i)? {
                ValueRef::Null => part(b'n', &[]),
                ValueRef::Integer(n) => part(b'i', &n.to_le_bytes()),
                ValueRef::Real(x) => part(b'r', &x.to_bits().to_le_bytes()),
                ValueRef::Text(bytes) => part(b't', bytes),
                ValueRef::Blob(bytes) => part(b'b', bytes),
            }
        }
    }
    Ok(TableContent {
        rows: count,
        digest: Digest::of_blake3(hash.finalize()),
    })
}

#[cfg(test)]
mod tests;
