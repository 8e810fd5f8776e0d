//! What a connection to a database of strangers may do. Must not trust a schema, nor ask anything before the bounds hold.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;

/// Bounds what a connection to a file of strangers may do: no writing, no checks and functions of its schema, and work
/// in proportion to its size.
pub(crate) fn bound(conn: &Connection, path: &Path) -> rusqlite::Result<()> {
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
