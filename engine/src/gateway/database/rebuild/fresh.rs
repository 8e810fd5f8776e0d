//! A fresh database with a schema of Holdfast's own, and what its rules say of a row. Must not take a word of a foreign schema.

use crate::files::open::new_private;
use crate::gateway::database::{Column, Table, quoted};
use rusqlite::{ErrorCode, ffi};
use std::path::Path;

/// The rule of the fresh table that a row breaks; none if something else failed.
pub(super) fn rule(error: &ffi::Error) -> Option<&'static str> {
    match (error.code, error.extended_code) {
        (ErrorCode::ConstraintViolation, ffi::SQLITE_CONSTRAINT_NOTNULL) => {
            Some("a value that must be there is missing")
        }
        (ErrorCode::ConstraintViolation, _) => {
            Some("another row has the same value where each has its own")
        }
        (ErrorCode::TypeMismatch, _) => Some("their number is none"),
        _ => None,
    }
}

/// A column of the present database, for a schema of Holdfast's own.
pub(super) fn column(column: &Column) -> String {
    let default = column.plain_default();
    // What fills it in otherwise is not carried over: then it may be absent.
    let required = column.not_null && (default.is_some() || column.default.is_none());
    format!(
        "{} {}{}{}",
        quoted(&column.name),
        column.plain_type(),
        if required { " NOT NULL" } else { "" },
        default.map(|d| format!(" DEFAULT {d}")).unwrap_or_default()
    )
}

/// A table of the present database that the application is not known to make.
pub(super) fn create(table: &Table) -> String {
    let list =
        |names: &mut dyn Iterator<Item = &str>| names.map(quoted).collect::<Vec<_>>().join(", ");
    let mut parts: Vec<String> = table.columns.iter().map(column).collect();
    let key = table.key();
    if !key.is_empty() {
        let key = list(&mut key.iter().map(|c| c.name.as_str()));
        parts.push(format!("PRIMARY KEY ({key})"));
    }
    for set in &table.unique {
        let set = list(&mut set.iter().map(String::as_str));
        parts.push(format!("UNIQUE ({set})"));
    }
    format!(
        "CREATE TABLE {} ({})",
        quoted(&table.name),
        parts.join(", ")
    )
}

pub(super) fn make_file(dest: &Path) -> Result<(), String> {
    new_private(dest)
        .map(drop)
        .map_err(|e| format!("{} cannot be made: {e}", dest.display()))
}
