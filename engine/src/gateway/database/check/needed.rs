//! The columns and rows that the gateway needs of each kind of database. Must not ask before the bounds hold.

use crate::gateway::database::{NAMED, columns_of, texts};
use crate::gateway::profile::DatabaseKind;
use crate::text::wording;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

pub(super) fn missing(conn: &Connection, kind: DatabaseKind) -> rusqlite::Result<Vec<String>> {
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
    // Of a view SQLite would say columns as well, and unfold it for that.
    let plain = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND sql LIKE 'CREATE TABLE%' \
                 AND name = ?1 COLLATE NOCASE";
    if conn.query_row(plain, [table], |r| r.get::<_, i64>(0))? == 0 {
        return Ok(vec![format!("it has no table {table}")]);
    }
    let present = columns_of(conn, table)?;
    let lacks = columns
        .iter()
        .filter(|c| !present.iter().any(|p| p.eq_ignore_ascii_case(c)));
    Ok(lacks
        .map(|c| format!("its table {table} has no column {c}"))
        .collect())
}

/// Values that the gateway may not be able to read: what should be text is none (a BLOB, nothing, or not UTF-8), what
/// should be a number is text. SQLite keeps anything in any column.
pub(super) fn unreadable(conn: &Connection, kind: DatabaseKind) -> rusqlite::Result<Vec<String>> {
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
    let present = columns_of(conn, table)?;
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
pub(super) fn odd_clients(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    for (rule, says) in [
        ("id IS NULL", "have no id"),
        (
            "status NOT IN ('active', 'inactive')",
            "are neither active nor inactive",
        ),
    ] {
        let sql = format!("SELECT name FROM clients WHERE {rule}");
        let mut names = texts(conn, &sql, [])?;
        names.sort();
        if !names.is_empty() {
            found.push(format!("these clients {says}: {}", wording::names(&names)));
        }
    }
    Ok(found)
}
