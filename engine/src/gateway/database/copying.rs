//! Copies of databases in use, page by page, and what is wrong with them. Must not run in a process that is root.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{
    NAMED, OpenMode, Patience, Trouble, check, open, open_to_read, shown, side_files, texts,
    trouble,
};
use crate::error::{Code, OrCannot, cannot};
use crate::files::open::{if_there, new_private};

/// What a live database's copying does, in this process.
pub(crate) fn snapshot(
    live: &Path,
    dest: &Path,
    patience: Patience,
) -> Result<Vec<String>, Trouble> {
    let made = copy_whole(live, dest, patience).and_then(|()| what_is_wrong(live, dest));
    if made.is_err() {
        remove_copy(dest);
    }
    made
}

/// Best effort: the caller already has a problem to tell, and the spool is swept at the next start.
pub(super) fn remove_copy(dest: &Path) {
    for path in side_files(dest).into_iter().chain([dest.to_owned()]) {
        if let Err(e) = if_there(std::fs::remove_file(&path)) {
            tracing::warn!("cannot remove {}: {e}", path.display());
        }
    }
}

fn copy_whole(live: &Path, dest: &Path, patience: Patience) -> Result<(), Trouble> {
    let failed = |e: &dyn std::fmt::Display| {
        cannot(
            Code::DATABASE_UNREADABLE,
            format!("copy the database {}: {e}", live.display()),
            "check the database (sqlite3 FILE 'PRAGMA integrity_check') and the free space (`df -h`)",
        )
    };
    let trouble = |e: rusqlite::Error| Trouble::of(&e, failed(&e));
    let (to, from) = (dest.display(), live.display());
    let what = format!("make the copy {to} of the database {from}");
    new_private(dest).or_cannot(Code::IO, what, "see to that folder")?;
    let source = open_to_read(live, OpenMode::Live(patience)).map_err(trouble)?;
    // Nothing of the copy says anything of the database.
    let mut copy = open(dest, "mode=rw").map_err(|e| failed(&e))?;
    // Nobody needs the copy once the power has gone.
    copy.pragma_update(None, "synchronous", "OFF")
        .map_err(|e| failed(&e))?;
    loop {
        source.busy_timeout(patience.left()).map_err(trouble)?;
        let step = Backup::new(&source, &mut copy)
            .and_then(|backup| backup.step(-1))
            .map_err(trouble)?;
        match step {
            StepResult::Done => break,
            _ if patience.left().is_zero() => {
                return Err(Trouble::Busy(failed(&"another process holds it locked")));
            }
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    // An empty file is a database without a table, and SQLite gives its copy a page.
    let pages: i64 = source
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .map_err(trouble)?;
    drop(source);
    copy.close().map_err(|(_, e)| failed(&e))?;
    if pages == 0 {
        let emptied = File::options().write(true).open(dest);
        emptied.and_then(|f| f.set_len(0)).map_err(|e| failed(&e))?;
    }
    if let Some(left) = side_files(dest).into_iter().find(|p| p.exists()) {
        return Err(failed(&format!("the copy has a side file {}", left.display())).into());
    }
    Ok(())
}

/// What a copy, page for page, shows of the database. Warnings: that SQLite could copy it is enough to bring it back.
fn what_is_wrong(live: &Path, dest: &Path) -> Result<Vec<String>, Trouble> {
    let looked = || -> rusqlite::Result<Vec<String>> {
        let conn = open_to_read(dest, OpenMode::Copy)?;
        let damage = check::damage(&conn)?;
        if damage.is_empty() {
            return dangling_references(&conn);
        }
        let said = |line| format!("it is damaged, and saved as it is: {line}");
        Ok(damage.into_iter().map(said).collect())
    };
    match looked() {
        Ok(said) => Ok(said),
        Err(e) if trouble::is_unreadable(&e) => {
            Ok(vec![format!("it is damaged, and saved as it is: {e}")])
        }
        Err(e) if trouble::says_of_the_file(&e) => Ok(vec![format!(
            "it could not be checked, and is saved as it is: {e}"
        )]),
        Err(e) => {
            let what = format!("look at the copy of the database {}: {e}", live.display());
            let advice = "check the disk of `state_dir`: `df -h` shows whether it is full, `dmesg` whether it fails";
            Err(Trouble::of(
                &e,
                cannot(Code::DATABASE_UNREADABLE, what, advice),
            ))
        }
    }
}

pub(super) fn integrity(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let lines = texts(conn, &format!("PRAGMA integrity_check({NAMED})"), [])?;
    Ok(if lines == ["ok"] { Vec::new() } else { lines })
}

/// Rows whose reference leads nowhere, a sentence for each table. Warnings, not damage: the gateway does not enforce
/// references, so the history of a deleted client stays.
pub(super) fn dangling_references(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        conn.prepare("SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2")?;
    let rows = statement.query_map([], |row| {
        let (table, parent, count) = (shown(row, 0)?, shown(row, 1)?, row.get::<_, i64>(2)?);
        Ok(format!(
            "{count} rows of table {table} refer to rows that table {parent} does not have"
        ))
    })?;
    rows.collect()
}
