//! The logical content of a database, to say whether two hold the same whatever their pages look like. Only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use journal_format::Digest;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::error::{Code, OrCannot, Problem};
use crate::gateway::database::{BUSY, OpenMode, Patience, open_to_read, quoted, shown};

/// The logical content of a database: rows of each table, and a digest of its columns and of every row with its rowid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseContent {
    /// By table; `sqlite_sequence` is one of them.
    pub(crate) tables: BTreeMap<String, TableContent>,
}

/// The logical content of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableContent {
    /// Rows.
    pub(crate) rows: u64,
    /// BLAKE3 of columns and rows in order of rowid (or of the primary key, where there is no rowid).
    pub(crate) digest: Digest,
}

impl DatabaseContent {
    /// Tables in which the two differ, a sentence each; empty if none.
    pub(crate) fn differences(&self, other: &DatabaseContent) -> Vec<String> {
        let names: BTreeSet<_> = self.tables.keys().chain(other.tables.keys()).collect();
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
pub(crate) fn content(path: &Path) -> Result<DatabaseContent, Problem> {
    read_content(path, OpenMode::Live(Patience::of(BUSY)))
}

/// The logical content of a private copy.
pub(crate) fn content_of_copy(path: &Path) -> Result<DatabaseContent, Problem> {
    read_content(path, OpenMode::Copy)
}

/// Whether two databases, which others may have open, hold the same, row for row.
pub(crate) fn same_content(a: &Path, b: &Path) -> Result<bool, Problem> {
    Ok(content(a)? == content(b)?)
}

fn read_content(path: &Path, how: OpenMode) -> Result<DatabaseContent, Problem> {
    let read = || -> rusqlite::Result<DatabaseContent> {
        let conn = open_to_read(path, how)?;
        // One transaction: the tables as they were at one moment.
        let conn = conn.unchecked_transaction()?;
        let mut statement = conn.prepare(
            "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
             AND name <> 'sqlite_schema' AND name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'",
        )?;
        let tables = statement
            .query_map([], |row| Ok((shown(row, 0)?, row.get::<_, bool>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        let mut content = DatabaseContent {
            tables: BTreeMap::new(),
        };
        for (table, without_rowid) in tables {
            let digest = read_table(&conn, &table, without_rowid)?;
            content.tables.insert(table, digest);
        }
        Ok(content)
    };
    read().or_cannot(
        Code::DATABASE_UNREADABLE,
        format!("read all of the database {}", path.display()),
        "check the file: sqlite3 FILE 'PRAGMA integrity_check'",
    )
}

fn read_table(
    conn: &Connection,
    table: &str,
    without_rowid: bool,
) -> rusqlite::Result<TableContent> {
    let mut statement = conn.prepare("SELECT name, pk FROM pragma_table_info(?1)")?;
    let columns = statement
        .query_map([table], |row| Ok((shown(row, 0)?, row.get::<_, i64>(1)?)))?
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
        let mut names = ["rowid", "_rowid_", "oid"].into_iter();
        names.find(hidden).unwrap_or("rowid").to_owned()
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
