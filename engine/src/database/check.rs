//! Whether a database that came in an archive may give its rows to the gateway's, or take its place: sound, no code in it,
//! and what the gateway reads is there. Must not trust any of it: limits first, schema before rows.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};

use super::rebuild::quoted;
use super::{NAMED, dangling_references, integrity, open};
use crate::fault::{Problem, cannot};
use crate::parallel;
use crate::profile::DatabaseKind;
use crate::wording;

/// Who made the backup that a database came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This box: what is in it was in the gateway's own.
    Here,
    /// Anybody.
    Elsewhere,
}

/// Checks a database that came in an archive, as a private copy that nobody else has open; `name` is what it is called
/// there. Returns warnings.
pub fn check(
    path: &Path,
    name: &str,
    kind: DatabaseKind,
    origin: Origin,
) -> Result<Vec<String>, Vec<Problem>> {
    header(path).map_err(|why| vec![refuse(name, &why)])?;
    let damaged = |e: rusqlite::Error| vec![refuse(name, &cut_off(&e))];
    let conn = open(path, "mode=ro&immutable=1").map_err(damaged)?;
    let found = (|| {
        bound(&conn, path)?;
        match origin {
            Origin::Here => Ok(Vec::new()),
            Origin::Elsewhere => foreign_objects(&conn),
        }
    })()
    .map_err(damaged)?;
    // A damaged schema makes every later answer meaningless, and an unknown one may cost more than it tells.
    if !found.is_empty() {
        return Err(found.iter().map(|why| refuse(name, why)).collect());
    }
    let references = || {
        let conn = open(path, "mode=ro&immutable=1")?;
        bound(&conn, path)?;
        dangling_references(&conn)
    };
    // Looking for damage takes as long as looking for what refers to nothing.
    let (references, found) = parallel::both(references, || {
        let damage = damage(&conn)?.into_iter();
        let mut found: Vec<String> = damage
            .map(|line| format!("it is damaged: {line}"))
            .collect();
        if found.is_empty() {
            found.extend(missing(&conn, kind)?);
        }
        if found.is_empty() {
            found.extend(unreadable(&conn, kind)?);
        }
        Ok(found)
    });
    let found = found.map_err(damaged)?;
    if !found.is_empty() {
        return Err(found.iter().map(|why| refuse(name, why)).collect());
    }
    let mut warnings = references.map_err(damaged)?;
    if kind == DatabaseKind::Clients {
        warnings.extend(odd_clients(&conn).map_err(damaged)?);
    }
    Ok(warnings
        .into_iter()
        .map(|w| format!("{name}: {w}"))
        .collect())
}

/// Whether a restore on this box would take this copy, which `super::snapshot` made and found sound. Returns what a
/// restore on another one would mind.
pub fn check_snapshot(
    path: &Path,
    name: &str,
    kind: DatabaseKind,
) -> Result<Vec<String>, Vec<Problem>> {
    header(path).map_err(|why| vec![refuse(name, &why)])?;
    let damaged = |e: rusqlite::Error| vec![refuse(name, &cut_off(&e))];
    let conn = open(path, "mode=ro&immutable=1").map_err(damaged)?;
    let (found, elsewhere) = (|| {
        bound(&conn, path)?;
        let mut found = missing(&conn, kind)?;
        if found.is_empty() {
            found.extend(unreadable(&conn, kind)?);
        }
        Ok((found, foreign_objects(&conn)?))
    })()
    .map_err(damaged)?;
    if !found.is_empty() {
        return Err(found.iter().map(|why| refuse(name, why)).collect());
    }
    Ok(elsewhere)
}

/// What is wrong with its pages. Beside virtual tables, which one of this box's own may have, only plain tables are looked
/// at: a look at the others runs their modules.
pub(super) fn damage(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let names = |rule: &str| -> rusqlite::Result<Vec<String>> {
        let sql =
            format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage {rule} 0");
        let mut statement = conn.prepare(&sql)?;
        statement.query_map([], |r| r.get(0))?.collect()
    };
    if names("=")?.is_empty() {
        return integrity(conn);
    }
    let mut found = Vec::new();
    for table in names(">")? {
        let mut statement = conn.prepare(&format!("PRAGMA integrity_check({})", quoted(&table)))?;
        let lines = statement
            .query_map([], |r| r.get::<_, String>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        found.extend(lines.into_iter().filter(|l| l != "ok"));
    }
    found.truncate(NAMED);
    Ok(found)
}

/// A database of this name that is not taken, and why.
pub(super) fn refuse(name: &str, why: &str) -> Problem {
    cannot(
        format!("accept the database {name} of the backup: {why}"),
        "make a new backup, or take another one",
    )
}

/// Why reading stopped.
pub(super) fn cut_off(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => {
            "reading it is more work than a database of its size can be".into()
        }
        _ => format!("it is damaged: {error}"),
    }
}

/// Bounds what a connection to a file of strangers may do: no writing, no checks and functions of its schema, and work
/// in proportion to its size.
pub(super) fn bound(conn: &Connection, path: &Path) -> rusqlite::Result<()> {
    /// Instructions of SQLite's machine between two looks at the count.
    const PORTION: i32 = 1_000_000;
    conn.pragma_update(None, "query_only", true)?;
    // A check of the schema's is code; the rows meet the fresh schema's own.
    conn.pragma_update(None, "ignore_check_constraints", true)?;
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
    let size = path.metadata().map_or(0, |m| m.len());
    // A row of a few bytes costs some hundred instructions, over all that is asked of it.
    let mut left = 50 + size / 5_000;
    conn.progress_handler(
        PORTION,
        Some(move || {
            left = left.saturating_sub(1);
            left == 0
        }),
    )
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

/// What a gateway's database never holds: code that runs when rows are read or written, and tables that are none. What
/// kind each thing is says SQLite, not the text of the schema.
fn foreign_objects(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    // Before anything asks for their columns, which would call their modules.
    let mut statement = conn.prepare(
        "SELECT type, name, rootpage FROM sqlite_schema \
         WHERE type NOT IN ('table', 'index') OR coalesce(rootpage, 0) <= 0 ORDER BY rowid",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let kind = match kind.as_str() {
            "trigger" => "a trigger",
            "view" => "a view",
            "table" => "a virtual table",
            _ => "an object of unknown kind",
        };
        found.push(format!("it has {kind}, {}", wording::name(&name)));
    }
    if found.is_empty() {
        let mut statement = conn.prepare(
            "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type <> 'table' ORDER BY name",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (name, kind): (String, String) = (row.get(0)?, row.get(1)?);
            found.push(format!("it has a {kind} table, {}", wording::name(&name)));
        }
    }
    if found.is_empty() {
        found = computed(conn)?;
    }
    if found.len() > NAMED {
        let more = found.len() - NAMED;
        found.truncate(NAMED);
        found.push(format!("it has {more} more of the kind"));
    }
    Ok(found)
}

/// Tables whose rows are computed as they are read or looked for.
fn computed(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut statement = conn.prepare(
        "SELECT name, (SELECT count(*) FROM pragma_table_xinfo(l.name) WHERE hidden <> 0), \
         (SELECT count(*) FROM pragma_index_list(l.name) AS i WHERE i.partial <> 0 \
          OR EXISTS (SELECT 1 FROM pragma_index_xinfo(i.name) WHERE cid = -2)) \
         FROM pragma_table_list AS l WHERE schema = 'main' ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, columns, indexes): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if columns > 0 {
            found.push(format!(
                "table {} has computed columns",
                wording::name(&name)
            ));
        }
        if indexes > 0 {
            found.push(format!(
                "table {} has an index over an expression",
                wording::name(&name)
            ));
        }
    }
    Ok(found)
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
    let lacks = columns
        .iter()
        .filter(|c| !present.iter().any(|p| p.eq_ignore_ascii_case(c)));
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

/// Clients that the gateway itself would not have made.
fn odd_clients(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    for (rule, says) in [
        ("id IS NULL", "have no id"),
        (
            "status NOT IN ('active', 'inactive')",
            "are neither active nor inactive",
        ),
    ] {
        let mut statement = conn.prepare(&format!(
            "SELECT CAST(name AS TEXT) FROM clients WHERE {rule} ORDER BY name"
        ))?;
        let names = statement
            .query_map([], |r| {
                Ok(
                    String::from_utf8_lossy(r.get_ref(0)?.as_bytes().unwrap_or_default())
                        .into_owned(),
                )
            })?
            .collect::<Result<Vec<_>, _>>()?;
        if !names.is_empty() {
            found.push(format!("these clients {says}: {}", wording::names(&names)));
        }
    }
    Ok(found)
}
