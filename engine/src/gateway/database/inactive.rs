//! Clients of a copy whose tunnels will not come up: called inactive, as the gateway's service calls them once it has tried.
//! One that it finds active and cannot bring up ends its start. Must not: touch any other row, or a database in use.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::config::DbConfig;

use super::open;
use crate::error::{Code, OrCannot, Problem};

/// Calls these clients inactive in a copy of the client database, one file and nobody else's.
pub fn call_inactive(copy: &Path, clients: &BTreeSet<String>) -> Result<(), Problem> {
    let set = || {
        let mut conn = open(copy, "mode=rw")?;
        conn.pragma_update(None, "synchronous", "OFF")?;
        // What the database itself would do or forbid at that is no part of it.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        conn.pragma_update(None, "ignore_check_constraints", true)?;
        let change = conn.transaction()?;
        for client in clients {
            let sql =
                "UPDATE clients SET status = 'inactive' WHERE name = ?1 AND status = 'active'";
            change.execute(sql, [client])?;
        }
        change.commit()?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        conn.close().map_err(|(_, e)| e)
    };
    let set: rusqlite::Result<()> = set();
    set.or_cannot(
        Code::DATABASE_REFUSED,
        "call clients inactive whose tunnels stay down",
        "make them inactive on the gateway that was backed up, and make a new backup; or take another backup",
    )
}
