//! What a database holds, so that two can be compared: rows, whatever their order, page layout or schema's age. Owns what counts and
//! what does not. Not compared: rowids, indexes, the order of columns, empty tables, and what the application writes all the time
//! by itself. Must not say what a row holds: only hashes leave.
//!
//! A row is the sum of a hash for each of its columns. So a column that only the other side has can be added to every row with its
//! default, without reading any row again.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};

use super::shape::{Shape, Table};
use super::{OpenMode, Trouble, open_to_read};
use crate::error::{Code, cannot};

/// What the application's own loops write to: tables whole, or single columns. `clients.status` is none of them, for it decides what
/// the next start brings up.
const WRITTEN_ALL_THE_TIME: [(&str, &[&str]); 5] = [
    ("monitoring_logs", &[]),
    ("test_history", &[]),
    ("alert_history", &[]),
    (
        "clients",
        &[
            "last_handshake",
            "last_activated",
            "last_deactivated",
            "updated_at",
        ],
    ),
    (
        "user",
        &[
            "last_login_at",
            "current_login_at",
            "last_login_ip",
            "current_login_ip",
            "login_count",
        ],
    ),
];

/// The rows of a database by table, to be compared with another's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSums(BTreeMap<String, TableRows>);

/// A table's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TableRows {
    /// Its columns, and the hash that each adds to a row which has its default there.
    columns: BTreeMap<String, u64>,
    rows: Vec<u64>,
}

impl TableRows {
    /// Its rows as they would be with these columns besides, sorted.
    fn with(&self, columns: &BTreeMap<String, u64>) -> Vec<u64> {
        let more = columns
            .iter()
            .filter(|(name, _)| !self.columns.contains_key(*name));
        let more = more.fold(0_u64, |sum, (_, hash)| sum.wrapping_add(*hash));
        let mut rows: Vec<u64> = self.rows.iter().map(|row| row.wrapping_add(more)).collect();
        rows.sort_unstable();
        rows
    }
}

impl RowSums {
    /// The tables in which the two differ, by name.
    pub fn differing<'c>(&'c self, other: &'c RowSums) -> Vec<&'c str> {
        let none = TableRows::default();
        let mut names: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.sort();
        names.dedup();
        let of = |side: &'c RowSums, name: &String| side.0.get(name);
        let differs = |name: &&String| {
            let (a, b) = (
                of(self, name).unwrap_or(&none),
                of(other, name).unwrap_or(&none),
            );
            a.rows.len() != b.rows.len() || a.with(&b.columns) != b.with(&a.columns)
        };
        names
            .into_iter()
            .filter(differs)
            .map(String::as_str)
            .collect()
    }
}

/// Reads all of it.
pub(crate) fn row_sums(path: &Path, how: OpenMode) -> Result<RowSums, Trouble> {
    let read = || -> rusqlite::Result<RowSums> {
        let conn = open_to_read(path, how)?;
        // All of one moment.
        conn.execute_batch("BEGIN")?;
        let shape = Shape::of(&conn)?;
        let mut all = BTreeMap::new();
        for table in &shape.tables {
            if let Some(row_sums) = of_table(&conn, table)? {
                all.insert(table.name.to_ascii_lowercase(), row_sums);
            }
        }
        Ok(RowSums(all))
    };
    read().map_err(|e| {
        let what = format!("read the rows of the database {}: {e}", path.display());
        let advice = "check it: sqlite3 FILE 'PRAGMA integrity_check'";
        Trouble::of(&e, cannot(Code::DATABASE_UNREADABLE, what, advice))
    })
}

fn of_table(conn: &Connection, table: &Table) -> rusqlite::Result<Option<TableRows>> {
    let written = WRITTEN_ALL_THE_TIME
        .iter()
        .find(|(name, _)| table.name.eq_ignore_ascii_case(name));
    let ignored = match written {
        Some((_, [])) => return Ok(None),
        Some((_, columns)) => *columns,
        None => &[],
    };
    let counts = |name: &str| !ignored.iter().any(|i| i.eq_ignore_ascii_case(name));
    let mut row_sums = TableRows::default();
    let mut names = Vec::new();
    for column in table.columns.iter().filter(|c| counts(&c.name)) {
        let name = column.name.to_ascii_lowercase();
        // What is filled in at the moment of writing is no value of its own.
        let default = column.plain_default().filter(|_| !column.defaults_to_now());
        let default = conn.query_row(
            &format!("SELECT {}", default.unwrap_or("NULL")),
            [],
            |row| Ok(hash(&name, row.get_ref(0)?)),
        )?;
        row_sums.columns.insert(name.clone(), default);
        names.push((quoted(&column.name), name));
    }
    if names.is_empty() {
        return Ok(None);
    }
    let selected: Vec<&str> = names.iter().map(|(quoted, _)| quoted.as_str()).collect();
    let all = format!(
        "SELECT {} FROM {}",
        selected.join(", "),
        quoted(&table.name)
    );
    let mut statement = conn.prepare(&all)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut sum = 0_u64;
        for (at, (_, name)) in names.iter().enumerate() {
            sum = sum.wrapping_add(hash(name, row.get_ref(at)?));
        }
        row_sums.rows.push(sum);
    }
    Ok((!row_sums.rows.is_empty()).then_some(row_sums))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Of one value in one column, with its type.
fn hash(column: &str, value: ValueRef) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(column.as_bytes());
    let (kind, bytes): (u8, &[u8]) = match &value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(n) => (1, &n.to_le_bytes()),
        ValueRef::Real(n) => (2, &n.to_le_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(bytes) => (4, bytes),
    };
    hasher.update(&[0, kind]);
    hasher.update(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CLIENTS: &str =
        "CREATE TABLE clients (id TEXT PRIMARY KEY, name TEXT, status TEXT, last_handshake TEXT);
        INSERT INTO clients VALUES ('a', 'one', 'active', '1'), ('b', 'two', 'inactive', NULL);";

    fn sums(sql: &str) -> RowSums {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        row_sums(&path, OpenMode::Copy).unwrap()
    }

    #[test]
    fn rows_are_compared_by_value_and_not_by_how_they_are_kept() {
        let base = sums(CLIENTS);
        assert_eq!(base.differing(&base), [""; 0]);
        for same in [
            "PRAGMA user_version = 7",
            "CREATE INDEX by_name ON clients (name)",
            "UPDATE clients SET last_handshake = 'now'",
            "CREATE TABLE test_history (id INTEGER); INSERT INTO test_history VALUES (1)",
            "CREATE TABLE bandwidth (id INTEGER)",
            "ALTER TABLE clients ADD COLUMN note TEXT DEFAULT 'none'",
            "ALTER TABLE clients ADD COLUMN weight INTEGER NOT NULL DEFAULT 3",
            "CREATE TABLE c AS SELECT status, name, id, last_handshake FROM clients ORDER BY id DESC; DROP TABLE clients; ALTER TABLE c RENAME TO clients",
        ] {
            let other = sums(&format!("{CLIENTS}{same}"));
            assert_eq!(
                (base.differing(&other), other.differing(&base)),
                (vec![], vec![]),
                "{same}"
            );
        }
        for differs in [
            "UPDATE clients SET status = 'active' WHERE id = 'b'",
            "UPDATE clients SET name = NULL WHERE id = 'b'",
            "UPDATE clients SET name = CAST('two' AS BLOB) WHERE id = 'b'",
            "DELETE FROM clients WHERE id = 'b'",
            "INSERT INTO clients VALUES ('c', 'two', 'inactive', NULL)",
            "ALTER TABLE clients ADD COLUMN note TEXT DEFAULT 'none'; UPDATE clients SET note = 'x' WHERE id = 'a'",
            "ALTER TABLE clients RENAME COLUMN name TO title",
        ] {
            let other = sums(&format!("{CLIENTS}{differs}"));
            assert_eq!(other.differing(&base), ["clients"], "{differs}");
        }
    }
}
