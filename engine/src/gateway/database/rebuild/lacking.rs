//! What a database of this box lacks of what the newest application needs, added to a copy. Must not touch a row.

use crate::gateway::database::check::{NotTaken, Why};
use crate::gateway::database::shape::{NEWEST, newest};
use crate::gateway::database::{Column, Shape, open, quoted, side_files};
use crate::gateway::profile::DatabaseKind;
use std::path::Path;

/// Adds what the newest application needs and this copy of the gateway's own database lacks. Returns what was added, a
/// sentence each; the file is untouched if nothing was.
pub fn add_what_is_missing(
    copy: &Path,
    name: &str,
    kind: DatabaseKind,
) -> Result<Vec<String>, NotTaken> {
    let failed = |e: rusqlite::Error| Why::from(e).of(name);
    let (sql, added) = (|| {
        let conn = open(copy, "mode=ro&immutable=1")?;
        Ok(missing(&Shape::of(&conn)?, &newest()?, kind))
    })()
    .map_err(failed)?;
    if sql.is_empty() {
        return Ok(Vec::new());
    }
    (|| {
        let conn = open(copy, "mode=rw")?;
        conn.pragma_update(None, "synchronous", "OFF")?;
        conn.execute_batch(&format!("BEGIN; {}; COMMIT", sql.join("; ")))?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        conn.close().map_err(|(_, e)| e)
    })()
    .map_err(failed)?;
    if let Some(left) = side_files(copy).into_iter().find(|p| p.exists()) {
        return Err(
            Why::Unfit(vec![format!("its copy has a side file {}", left.display())]).of(name),
        );
    }
    Ok(added.into_iter().map(|a| format!("{name}: {a}")).collect())
}

pub(super) fn missing(
    has: &Shape,
    newest: &Shape,
    kind: DatabaseKind,
) -> (Vec<String>, Vec<String>) {
    let (mut sql, mut added) = (Vec::new(), Vec::new());
    for table in &NEWEST {
        let Some(wanted) = newest.table(table.name) else {
            continue;
        };
        match has.table(table.name) {
            None if table.kind == kind => {
                sql.push(table.create(&[]));
                added.push(format!(
                    "the backup has no table {}, which the application needs: it will be there, empty",
                    table.name
                ));
            }
            None => {}
            Some(there) => {
                let lacks = |c: &&Column| there.column(&c.name).is_none();
                for column in wanted.columns.iter().filter(lacks) {
                    sql.push(format!(
                        "ALTER TABLE {} ADD COLUMN {} {}",
                        quoted(&there.name),
                        quoted(&column.name),
                        column.plain_type()
                    ));
                    added.push(format!(
                        "table {} of the backup has no column {}, which the application needs: it will be there, empty",
                        table.name, column.name
                    ));
                }
            }
        }
    }
    (sql, added)
}
