//! The mail relay that a database of users names. Must not read its password.

use std::path::Path;

use super::bounds::bound;
use super::{OpenMode, Trouble, open_to_read};
use crate::error::{Code, Problem, cannot};
use crate::gateway::account::MailRelay;

/// What `mail_relay` of a live database does, in this process.
pub(crate) fn mail_relay(path: &Path, how: OpenMode) -> Result<Option<MailRelay>, Trouble> {
    read(path, how)
}

/// The mail relay in a private copy of a database.
pub fn mail_relay_of_copy(path: &Path) -> Result<Option<MailRelay>, Problem> {
    Ok(read(path, OpenMode::Copy)?)
}

fn read(path: &Path, how: OpenMode) -> Result<Option<MailRelay>, Trouble> {
    let found = open_to_read(path, how).and_then(|conn| {
        if how == OpenMode::Copy {
            bound(&conn, path)?;
        }
        let columns = "SELECT count(*) FROM pragma_table_info('email_settings') \
                       WHERE name IN ('id', 'smtp_host', 'smtp_port', 'smtp_username')";
        if conn.query_row(columns, [], |row| row.get::<_, i64>(0))? < 4 {
            return Ok(None);
        }
        // SQLite keeps anything in any column.
        let text = |column: &str| format!("coalesce(substr(CAST({column} AS TEXT), 1, 1000), '')");
        let select = format!(
            "SELECT {}, {}, {} FROM email_settings ORDER BY id LIMIT 1",
            text("smtp_host"),
            text("smtp_port"),
            text("smtp_username")
        );
        let mut statement = conn.prepare(&select)?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let text = |i: usize| -> rusqlite::Result<String> {
            let value = row.get_ref(i)?;
            Ok(String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).into_owned())
        };
        Ok(Some(MailRelay {
            host: text(0)?,
            port: text(1)?,
            username: text(2)?,
        }))
    });
    found.map_err(|e| {
        let problem = cannot(
            Code::DATABASE_UNREADABLE,
            format!("read the mail settings in {}: {e}", path.display()),
            "check that the profile names the right file, and the file itself: sqlite3 FILE 'PRAGMA integrity_check'",
        );
        Trouble::of(&e, problem)
    })
}
