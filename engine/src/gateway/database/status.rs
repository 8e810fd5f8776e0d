//! The status of clients, which decides what the gateway's service brings up as it starts: called inactive in a copy where their
//! tunnels will not come up, and active again in the gateway's own database where a start called them inactive. Must not: touch
//! any other row.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use super::{Patience, Trouble, open, open_waiting};
use crate::error::{Code, OrCannot, Problem, cannot};

/// Calls these clients inactive in a copy of the client database, one file and nobody else's: one that the gateway's service
/// finds active and cannot bring up ends its start.
pub fn call_inactive(copy: &Path, clients: &BTreeSet<String>) -> Result<(), Problem> {
    let call = || {
        let mut conn = open(copy, "mode=rw")?;
        conn.pragma_update(None, "synchronous", "OFF")?;
        set(&mut conn, clients, "active", "inactive")?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        conn.close().map_err(|(_, e)| e)
    };
    let called: rusqlite::Result<()> = call();
    called.or_cannot(
        Code::DATABASE_REFUSED,
        "call clients inactive whose tunnels stay down",
        "make them inactive on the gateway that was backed up, and make a new backup; or take another backup",
    )
}

/// Calls those of these clients active that are inactive, durably, all or none, in a database that may be in use.
pub(crate) fn call_active(
    live: &Path,
    clients: &BTreeSet<String>,
    patience: Patience,
) -> Result<(), Trouble> {
    let call = || {
        let mut conn = open_waiting(live, "mode=rw", patience.left())?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        set(&mut conn, clients, "inactive", "active")?;
        conn.close().map_err(|(_, e)| e)
    };
    let called: rusqlite::Result<()> = call();
    called.map_err(|e| {
        let what = format!("call clients active again in {}: {e}", live.display());
        let advice = "see what keeps it locked: fuser -v FILE";
        Trouble::of(&e, cannot(Code::DATABASE_HELD, what, advice))
    })
}

fn set(
    conn: &mut Connection,
    clients: &BTreeSet<String>,
    from: &str,
    to: &str,
) -> rusqlite::Result<()> {
    // What the database itself would do or forbid at that is no part of it.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    conn.pragma_update(None, "ignore_check_constraints", true)?;
    let change = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for client in clients {
        let sql = "UPDATE clients SET status = ?3 WHERE name = ?1 AND status = ?2";
        change.execute(sql, [client.as_str(), from, to])?;
    }
    change.commit()
}
