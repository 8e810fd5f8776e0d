//! The gateway's databases: what is known of them (clients, users), online snapshots, settling after services have stopped;
//! with whose rights that is done on the gateway's own files, checks of copies that came in an archive, what a restore makes
//! of them, and logical content, in modules of their own.
//!
//! What works on a live file here is for the process that the host starts, and for tests: elsewhere it is the host that is
//! asked. Typed access to known tables goes through Diesel; the backup API, limits and unknown schemas through rusqlite; both
//! use one SQLite. Must not: open a database file by any other means while this process may have it open through SQLite
//! (closing that descriptor would drop SQLite's locks), nor say what a password hash or a key is.

mod bounds;
mod check;
mod content;
mod inactive;
pub(crate) mod mail;
mod raw;
pub(crate) mod reach;
mod rebuild;
pub(crate) mod rights;
mod shape;
pub(crate) mod trouble;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diesel::Connection as _;
use diesel::connection::{DefaultLoadingMode, SimpleConnection};
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use nix::fcntl::OFlag;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

pub(crate) use check::check_snapshot;
pub use check::{Judged, NotTaken, Origin, check};
pub use content::{DatabaseContent, TableContent, content, content_of_copy, same_content};
pub use inactive::call_inactive;
pub use mail::mail_relay_of_copy;
pub use raw::{RawFile, raw_bytes};
pub use rebuild::{RowsTaken, Terms, add_what_is_missing, copy_rows};
pub(crate) use shape::shape;
pub use shape::{Column, Shape, Table};
pub use trouble::Trouble;

use crate::error::{Problem, cannot};

/// How long settling waits for a lock, when all users have stopped.
const BUSY: Duration = Duration::from_secs(5);
/// What a rollback journal may have besides the pages: headers, each as large as a sector.
const JOURNAL_SLACK: u64 = 1 << 20;
/// Problems named for one database before the rest is only counted.
const NAMED: usize = 10;

/// One client of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its name: the stem of its config and the name of its interface.
    pub name: String,
    /// Where the gateway says that its config lies. From the database: never hand it to a command.
    pub config_path: String,
    /// The network behind it.
    pub subnet: String,
    /// `active` or `inactive`.
    pub status: Cow<'static, str>,
}

/// Not a copy of its own for each client.
fn status(text: String) -> Cow<'static, str> {
    match text.as_str() {
        "active" => "active".into(),
        "inactive" => "inactive".into(),
        _ => text.into(),
    }
}

/// Clients by their names: a hash of what of each belongs to its files. What the gateway writes all the time (`status`) is no
/// part of it. Good for being compared by one program with itself.
pub type Rows = BTreeMap<String, u64>;

/// These clients, to be compared.
pub fn rows(clients: &[Client]) -> Rows {
    let row = |client: &Client| {
        let mut hasher = DefaultHasher::new();
        (&client.config_path, &client.subnet).hash(&mut hasher);
        (client.name.clone(), hasher.finish())
    };
    clients.iter().map(row).collect()
}

/// One user of the gateway. Written down only on the way from the process that read it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub id: i64,
    /// The name that signs in.
    pub username: String,
    /// The password's hash, for `password::verify` alone.
    pub password: String,
    /// May sign in.
    pub active: bool,
    /// The gateway makes them choose another password before anything else: until then this one may be the published
    /// one of a fresh install.
    pub must_change_password: bool,
    /// An admin of the gateway's, in the forks that keep such a role. Of this page it makes nobody an admin.
    pub is_admin: bool,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("username", &self.username)
            .field("active", &self.active)
            .field("must_change_password", &self.must_change_password)
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
        }
    }
}

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

/// The clients in a private copy of a database.
pub fn clients_of_copy(path: &Path) -> Result<Vec<Client>, Problem> {
    each_client_of_copy(path, |client| client)
}

/// The same, with what `take` makes of each: there may be a hundred thousand.
pub fn each_client_of_copy<T>(
    path: &Path,
    take: impl FnMut(Client) -> T,
) -> Result<Vec<T>, Problem> {
    Ok(read_each_client(path, OpenMode::Copy, take)?)
}

/// The users in a private copy of a database.
pub fn users_of_copy(path: &Path) -> Result<Vec<User>, Problem> {
    Ok(read_users(path, OpenMode::Copy)?)
}

pub(crate) fn read_clients(path: &Path, how: OpenMode) -> Result<Vec<Client>, Trouble> {
    read_each_client(path, how, |client| client)
}

fn read_each_client<T>(
    path: &Path,
    how: OpenMode,
    mut take: impl FnMut(Client) -> T,
) -> Result<Vec<T>, Trouble> {
    type Row = (Bytes, Bytes, Bytes, Bytes);
    typed(path, how, ("clients", "clients"), |conn, has| {
        // One row at a time: there are tens of thousands.
        let rows = schema::clients::table
            .select((
                has.bytes("name"),
                has.bytes("config_path"),
                has.bytes("subnet"),
                has.bytes("status"),
            ))
            .order(first_column())
            .load_iter::<Row, DefaultLoadingMode>(conn)?;
        let client = |row: QueryResult<Row>| {
            row.map(|(name, config_path, subnet, status)| Client {
                name: has.shown(name),
                config_path: has.shown(config_path),
                subnet: has.shown(subnet),
                status: self::status(has.shown(status)),
            })
        };
        rows.map(client).map(|row| row.map(&mut take)).collect()
    })
}

pub(crate) fn read_users(path: &Path, how: OpenMode) -> Result<Vec<User>, Trouble> {
    use diesel::sql_types::{BigInt, Bool};
    type Row = (i64, Bytes, Bytes, bool, bool, bool, bool);
    typed(path, how, ("user", "users"), |conn, has| {
        // SQLite keeps anything in any column: what is no number lets nobody in, and makes nobody more than they are.
        let is = |column| {
            let sql = format!("typeof({column}) = 'integer' AND {column} <> 0");
            has.either::<Bool>(column, sql, "0")
        };
        let id = "coalesce(CAST(id AS INTEGER), 0)".to_owned();
        let must = "must_change_password IS NOT NULL \
                    AND NOT (typeof(must_change_password) = 'integer' AND must_change_password = 0)";
        let texts = "typeof(username) = 'text' AND typeof(password) = 'text'".to_owned();
        let rows: Vec<Row> = schema::user::table
            .select((
                has.either::<BigInt>("id", id, "0"),
                has.bytes("username"),
                has.bytes("password"),
                has.either::<Bool>("password", texts, "0"),
                is("active"),
                has.either::<Bool>("must_change_password", must.to_owned(), "0"),
                is("is_admin"),
            ))
            .order(first_column())
            .load(conn)?;
        Ok(rows
            .into_iter()
            .map(
                |(id, name, password, texts, active, must_change_password, is_admin)| {
                    let plain = texts && has.is_text(&name) && has.is_text(&password);
                    User {
                        id,
                        username: has.shown(name),
                        password: has.shown(password),
                        // A name that can only be shown is nobody's to sign in with.
                        active: active && plain,
                        must_change_password,
                        is_admin,
                    }
                },
            )
            .collect())
    })
}

/// A value as bytes, whatever it is.
type Bytes = Option<Vec<u8>>;

fn first_column() -> diesel::expression::SqlLiteral<diesel::sql_types::Integer> {
    diesel::dsl::sql("1")
}

/// The columns of a table, and how its texts are written.
struct Columns {
    names: Vec<String>,
    encoding: String,
}

impl Columns {
    fn of(conn: &mut SqliteConnection, table: &str) -> QueryResult<Columns> {
        // Names that are no text are nobody's here.
        let names: Vec<Name> = diesel::sql_query(
            "SELECT lower(name) AS name FROM pragma_table_info(?1) WHERE name NOT GLOB '*[^a-zA-Z0-9_]*'",
        )
        .bind::<diesel::sql_types::Text, _>(table)
        .load(conn)?;
        let encoding: Vec<Name> =
            diesel::sql_query("SELECT encoding AS name FROM pragma_encoding").load(conn)?;
        Ok(Columns {
            names: names.into_iter().map(|n| n.name).collect(),
            encoding: encoding.into_iter().map(|n| n.name).collect(),
        })
    }

    /// This SQL where the table has the column, else the other.
    fn either<T>(
        &self,
        column: &str,
        sql: String,
        without: &str,
    ) -> diesel::expression::SqlLiteral<T>
    where
        T: diesel::expression::TypedExpressionType + diesel::sql_types::SqlType,
    {
        let there = self.names.iter().any(|n| n == column);
        diesel::dsl::sql(if there { &sql } else { without })
    }

    /// A column as bytes; nothing where the table lacks it.
    fn bytes(
        &self,
        column: &str,
    ) -> diesel::expression::SqlLiteral<diesel::sql_types::Nullable<diesel::sql_types::Binary>>
    {
        self.either(column, format!("CAST({column} AS BLOB)"), "NULL")
    }

    fn text(&self, bytes: &[u8]) -> Option<String> {
        let units = |from: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|b| from([b[0], b[1]])).collect();
            String::from_utf16(&units).ok()
        };
        match self.encoding.as_str() {
            "UTF-16le" => units(u16::from_le_bytes),
            "UTF-16be" => units(u16::from_be_bytes),
            _ => std::str::from_utf8(bytes).ok().map(str::to_owned),
        }
    }

    fn is_text(&self, value: &Bytes) -> bool {
        value
            .as_ref()
            .is_some_and(|bytes| self.text(bytes).is_some())
    }

    /// A value for people: what cannot be read of it stands as U+FFFD.
    fn shown(&self, value: Bytes) -> String {
        let bytes = value.unwrap_or_default();
        self.text(&bytes)
            .unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A name that SQLite gives.
#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}

/// Reads a table: `what` people call its rows. A view of that name is none: it makes its rows up, as many as it likes.
fn typed<T>(
    path: &Path,
    how: OpenMode,
    (table, what): (&str, &str),
    mut read: impl FnMut(&mut SqliteConnection, &Columns) -> QueryResult<T>,
) -> Result<T, Trouble> {
    let mut attempt = |mode: &str| -> Result<T, String> {
        let mut conn = SqliteConnection::establish(&uri(path, mode)).map_err(|e| e.to_string())?;
        conn.batch_execute(&format!(
            "PRAGMA busy_timeout = {}; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
            wait(how).as_millis()
        ))
        .map_err(|e| e.to_string())?;
        let there: Vec<Name> = diesel::sql_query(
            "SELECT 'it' AS name FROM sqlite_schema \
             WHERE type = 'table' AND rootpage > 0 AND sql LIKE 'CREATE TABLE%' AND name = ?1 COLLATE NOCASE",
        )
        .bind::<diesel::sql_types::Text, _>(table)
        .load(&mut conn)
        .map_err(|e| e.to_string())?;
        if there.is_empty() {
            return Err(format!("it has no table {table}"));
        }
        let columns = Columns::of(&mut conn, table).map_err(|e| e.to_string())?;
        if how == OpenMode::Copy {
            check::is_bounded(path, table, &columns.names).map_err(|e| check::cut_off(&e))?;
        }
        read(&mut conn, &columns).map_err(|e| e.to_string())
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
        let problem = cannot(
            format!("read the {what} in {}: {e}", path.display()),
            "see whether it is the gateway's database and sound: sqlite3 FILE 'PRAGMA integrity_check'",
        );
        // Diesel gives SQLite's words alone, which are the same in all its versions.
        match e.as_str() {
            "database is locked" => Trouble::Busy(problem),
            _ => Trouble::Failed(problem),
        }
    })
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

/// The files that SQLite may keep beside a database: `-wal`, `-shm`, `-journal`.
pub fn side_files(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", "-journal"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
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

/// What a live database's copying does, in this process.
pub(crate) fn snapshot(
    live: &Path,
    dest: &Path,
    patience: Patience,
) -> Result<Vec<String>, Trouble> {
    let made = copy_whole(live, dest, patience).and_then(|()| what_is_wrong(live, dest));
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

fn copy_whole(live: &Path, dest: &Path, patience: Patience) -> Result<(), Trouble> {
    let failed = |e: &dyn std::fmt::Display| {
        cannot(
            format!("copy the database {}: {e}", live.display()),
            "see whether the database is sound (sqlite3 FILE 'PRAGMA integrity_check') and the disk has space",
        )
    };
    let trouble = |e: rusqlite::Error| Trouble::of(&e, failed(&e));
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
    let source = open_to_read(live, OpenMode::Live(patience)).map_err(trouble)?;
    // Nothing of the copy says anything of the database.
    let mut copy = open(dest, "mode=rw").map_err(|e| failed(&e))?;
    // Nobody needs the copy once the power has gone.
    copy.pragma_update(None, "synchronous", "OFF")
        .map_err(|e| failed(&e))?;
    loop {
        source.busy_timeout(patience.left()).map_err(trouble)?;
        let step = Backup::new(&source, &mut copy)
            .and_then(|backup| backup.step(-1))
            .map_err(trouble)?;
        match step {
            StepResult::Done => break,
            _ if patience.left().is_zero() => {
                return Err(Trouble::Busy(failed(&"another process holds it locked")));
            }
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    // An empty file is a database without a table, and SQLite gives its copy a page.
    let pages: i64 = source
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .map_err(trouble)?;
    drop(source);
    copy.close().map_err(|(_, e)| failed(&e))?;
    if pages == 0 {
        let emptied = File::options().write(true).open(dest);
        emptied.and_then(|f| f.set_len(0)).map_err(|e| failed(&e))?;
    }
    if let Some(left) = side_files(dest).into_iter().find(|p| p.exists()) {
        return Err(failed(&format!("the copy has a side file {}", left.display())).into());
    }
    Ok(())
}

/// What a copy, page for page, shows of the database. Warnings: that SQLite could copy it is enough to bring it back.
fn what_is_wrong(live: &Path, dest: &Path) -> Result<Vec<String>, Trouble> {
    let looked = || -> rusqlite::Result<Vec<String>> {
        let conn = open_to_read(dest, OpenMode::Copy)?;
        let damage = check::damage(&conn)?;
        if damage.is_empty() {
            return dangling_references(&conn);
        }
        Ok(damage
            .into_iter()
            .map(|line| format!("it is damaged, and saved as it is: {line}"))
            .collect())
    };
    match looked() {
        Ok(said) => Ok(said),
        Err(e) if trouble::is_unreadable(&e) => {
            Ok(vec![format!("it is damaged, and saved as it is: {e}")])
        }
        Err(e) if trouble::says_of_the_file(&e) => Ok(vec![format!(
            "it could not be checked, and is saved as it is: {e}"
        )]),
        Err(e) => Err(Trouble::of(
            &e,
            cannot(
                format!("look at the copy of the database {}: {e}", live.display()),
                "see whether the disk of the state folder is full or failing",
            ),
        )),
    }
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

fn integrity(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(&format!("PRAGMA integrity_check({NAMED})"))?;
    let lines = statement
        .query_map([], |row| shown(row, 0))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(if lines == ["ok"] { Vec::new() } else { lines })
}

/// Rows whose reference leads nowhere, a sentence for each table. Warnings, not damage: the gateway does not enforce
/// references, so the history of a deleted client stays.
fn dangling_references(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        conn.prepare("SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2")?;
    let rows = statement.query_map([], |row| {
        let (table, parent, count) = (shown(row, 0)?, shown(row, 1)?, row.get::<_, i64>(2)?);
        Ok(format!(
            "{count} rows of table {table} refer to rows that table {parent} does not have"
        ))
    })?;
    rows.collect()
}

/// Settles a database whose users have stopped: all that is committed comes into the one file, an interrupted
/// transaction is rolled back, file and folder are synced, and no side file is left. Owner, mode and journal mode stay.
///
/// Only for a process in which nothing else has this database open. the host is it for all but tests.
pub(crate) fn settle(path: &Path) -> Result<Settled, Problem> {
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
        Err(e) if trouble::is_unreadable(&e) => return Ok(Settled::Unreadable(e.to_string())),
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
