//! The tables of the gateway's databases that are known: clients and users, read as they lie. What is of another kind than it
//! should be is shown and lets nobody in. Must not say what a password hash is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use diesel::Connection as _;
use diesel::connection::{DefaultLoadingMode, SimpleConnection};
use diesel::expression::{SqlLiteral, TypedExpressionType};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, SqlType, Text};
use diesel::sqlite::SqliteConnection;
use serde::{Deserialize, Serialize};

use super::{OpenMode, Trouble, check, modes, uri, wait};
use crate::error::{Code, Problem, cannot};

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
        let user = |row: Row| {
            let (id, name, password, texts, active, must_change_password, is_admin) = row;
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
        };
        Ok(rows.into_iter().map(user).collect())
    })
}

/// A value as bytes, whatever it is.
type Bytes = Option<Vec<u8>>;

fn first_column() -> SqlLiteral<Integer> {
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
        .bind::<Text, _>(table)
        .load(conn)?;
        let encoding: Vec<Name> =
            diesel::sql_query("SELECT encoding AS name FROM pragma_encoding").load(conn)?;
        Ok(Columns {
            names: names.into_iter().map(|n| n.name).collect(),
            encoding: encoding.into_iter().map(|n| n.name).collect(),
        })
    }

    /// This SQL where the table has the column, else the other.
    fn either<T>(&self, column: &str, sql: String, without: &str) -> SqlLiteral<T>
    where
        T: TypedExpressionType + SqlType,
    {
        let there = self.names.iter().any(|n| n == column);
        diesel::dsl::sql(if there { &sql } else { without })
    }

    /// A column as bytes; nothing where the table lacks it.
    fn bytes(&self, column: &str) -> SqlLiteral<Nullable<Binary>> {
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
        let bytes = value.as_deref();
        bytes.is_some_and(|bytes| self.text(bytes).is_some())
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
    #[diesel(sql_type = Text)]
    name: String,
}

/// Reads a table: `what` people call its rows. A view of that name is none: it makes its rows up, as many as it likes.
fn typed<T>(
    path: &Path,
    how: OpenMode,
    (table, what): (&str, &str),
    mut read: impl FnMut(&mut SqliteConnection, &Columns) -> QueryResult<T>,
) -> Result<T, Trouble> {
    let mut attempt = |mode: &str| -> Result<T, Box<dyn std::error::Error>> {
        let mut conn = SqliteConnection::establish(&uri(path, mode))?;
        conn.batch_execute(&format!(
            "PRAGMA busy_timeout = {}; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
            wait(how).as_millis()
        ))?;
        let there: Vec<Name> = diesel::sql_query(
            "SELECT 'it' AS name FROM sqlite_schema \
             WHERE type = 'table' AND rootpage > 0 AND sql LIKE 'CREATE TABLE%' AND name = ?1 COLLATE NOCASE",
        )
        .bind::<Text, _>(table)
        .load(&mut conn)?;
        if there.is_empty() {
            return Err(format!("it has no table {table}").into());
        }
        let columns = Columns::of(&mut conn, table)?;
        if how == OpenMode::Copy {
            check::is_bounded(path, table, &columns.names).map_err(|e| check::cut_off(&e))?;
        }
        Ok(read(&mut conn, &columns)?)
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
            Code::DATABASE_UNREADABLE,
            format!("read the {what} in {}: {e}", path.display()),
            "check that the profile names the right file, and the file itself: sqlite3 FILE 'PRAGMA integrity_check'",
        );
        // Diesel gives SQLite's words alone, which are the same in all its versions.
        match e.to_string().as_str() {
            "database is locked" => Trouble::Busy(problem),
            _ => Trouble::Failed(problem),
        }
    })
}
