//! Whether a database that came in an archive may take the place of the gateway's: sound, no code in it, no table that the
//! gateway does not know, and what the gateway reads is there. Must not trust any of it: limits first, schema before rows.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;

use super::{NAMED, dangling_references, integrity, open};
use crate::fault::{Problem, cannot};
use crate::profile::DatabaseKind;

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

/// Whether a restore would take this copy, which [`super::snapshot`] made: all of [`check_named`] but what that has checked.
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
        if found.is_empty() {
            found.extend(unreadable(&conn, kind)?);
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
        let shown = crate::wording::name(&name);
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

/// Values that neither the gateway nor Holdfast can read: what should be text is none (a BLOB, nothing, or not UTF-8), what
/// should be a number is text. SQLite keeps anything in any column.
fn unreadable(conn: &Connection, kind: DatabaseKind) -> rusqlite::Result<Vec<String>> {
    let (table, texts, numbers): (_, &[&str], &[(&str, bool)]) = match kind {
        DatabaseKind::Clients => (
            "clients",
            &["name", "config_path", "subnet", "public_key", "status"],
            // SQLite takes no id for one.
            &[],
        ),
        DatabaseKind::Users => (
            "user",
            &["username", "password"],
            &[("id", false), ("active", true), ("is_admin", true)],
        ),
    };
    let mut present = conn.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let present = present
        .query_map([table], |r| r.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    let numbers = numbers
        .iter()
        .filter(|(c, _)| present.iter().any(|p| p == c));
    let columns: Vec<(&str, Option<bool>)> = texts
        .iter()
        .map(|c| (*c, None))
        .chain(numbers.map(|(c, may_be_null)| (*c, Some(*may_be_null))))
        .collect();
    let names: Vec<&str> = columns.iter().map(|(c, _)| *c).collect();
    let mut statement = conn.prepare(&format!("SELECT {} FROM {table}", names.join(", ")))?;
    let mut rows = statement.query([])?;
    let (mut found, mut more, mut at) = (Vec::new(), 0usize, 0usize);
    while let Some(row) = rows.next()? {
        at += 1;
        for (i, (column, number)) in columns.iter().enumerate() {
            let value = row.get_ref(i)?;
            let (good, what) = match (number, value) {
                (None, ValueRef::Text(text)) => (std::str::from_utf8(text).is_ok(), "text"),
                (None, _) => (false, "text"),
                (Some(_), ValueRef::Integer(_)) => (true, "number"),
                (Some(may_be_null), ValueRef::Null) => (*may_be_null, "number"),
                (Some(_), _) => (false, "number"),
            };
            if good {
                continue;
            }
            if found.len() < NAMED {
                found.push(format!(
                    "row {at} of its table {table} has no {what} in {column}"
                ));
            } else {
                more += 1;
            }
        }
    }
    if more > 0 {
        found.push(format!(
            "{more} more values of its table {table} cannot be read"
        ));
    }
    Ok(found)
}
