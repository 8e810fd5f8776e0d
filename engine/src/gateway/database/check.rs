//! Whether a database that came in an archive may give its rows to the gateway's, or take its place: sound, what the gateway
//! reads is there, and nothing in it can run while rows are read. Must not trust any of it: limits first, schema before rows.

mod header;
mod needed;

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::bounds::bound;
use super::trouble::says_of_the_machine;
use super::{
    NAMED, OpenMode, Shape, dangling_references, integrity, open, open_to_read, quoted, shown,
    texts,
};
use crate::error::{Code, Problem, cannot};
use crate::gateway::profile::DatabaseKind;
use crate::text::wording;
use header::header;
use needed::{missing, odd_clients, unreadable};

/// Who made the backup that a database came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// This box: what is in it was in the gateway's own.
    Here,
    /// Anybody.
    #[default]
    Elsewhere,
}

/// Why a database is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// By what it is. A backup counts as one without it.
    Unfit(Vec<Problem>),
    /// It could not be told, by a fault of the disk or the machine, which says nothing of the database.
    Failed(Problem),
}

/// The same, of a database whose name is not known here.
pub(crate) enum Why {
    Unfit(Vec<String>),
    Failed(String),
}

impl From<rusqlite::Error> for Why {
    fn from(e: rusqlite::Error) -> Why {
        match says_of_the_machine(&e) {
            true => Why::Failed(e.to_string()),
            false => Why::Unfit(vec![cut_off(&e)]),
        }
    }
}

impl Why {
    pub(crate) fn of(self, name: &str) -> NotTaken {
        match self {
            Why::Unfit(found) => {
                NotTaken::Unfit(found.iter().map(|why| refuse(name, why)).collect())
            }
            Why::Failed(why) => NotTaken::Failed(cannot(
                Code::IO,
                format!("work on the database {name} of the backup: {why}"),
                "check the disk of `state_dir`: `df -h` shows whether it is full, `dmesg` whether it fails",
            )),
        }
    }
}

/// What was found in a database that is taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// What it has that does not come: code, whatever it does.
    pub left_behind: Vec<String>,
    /// What else a person should know.
    pub warnings: Vec<String>,
}

/// Checks a database that came in an archive, as a private copy that nobody else has open; `name` is what it is called
/// there. One that this box made is taken whatever is in it; of one from elsewhere it says what is not taken, or why it
/// cannot be taken at all.
pub fn check(
    path: &Path,
    name: &str,
    kind: DatabaseKind,
    origin: Origin,
) -> Result<Judged, NotTaken> {
    let mut judged = match origin {
        Origin::Here => Judged {
            left_behind: Vec::new(),
            warnings: own(path, kind),
        },
        Origin::Elsewhere => judge(path, kind, Depth::Damage).map_err(|why| why.of(name))?,
    };
    for line in judged.left_behind.iter_mut().chain(&mut judged.warnings) {
        line.insert_str(0, &format!("{name}: "));
    }
    Ok(judged)
}

/// How far a copy is looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// What there is in it. Whether it is damaged is known.
    Schema,
    /// Every page and every reference as well.
    Damage,
}

fn judge(path: &Path, kind: DatabaseKind, depth: Depth) -> Result<Judged, Why> {
    header(path)?;
    let conn = open(path, "mode=ro&immutable=1")?;
    bound(&conn, path)?;
    // Before anything asks for a table, which could be another thing than its name says.
    let objects = objects(&conn)?;
    if !objects.refused.is_empty() {
        return Err(Why::Unfit(objects.refused));
    }
    // An unknown schema may cost more than it tells, and a damaged one makes every later answer meaningless.
    let (computed, computing) = computed(&conn)?;
    let damage = match computed.is_empty() {
        _ if depth == Depth::Schema => Vec::new(),
        true => integrity(&conn)?,
        false => damage_in_all_but(&conn, &computing)?,
    };
    if !damage.is_empty() {
        let lines = damage.into_iter();
        return Err(Why::Unfit(
            lines.map(|line| format!("it is damaged: {line}")).collect(),
        ));
    }
    let missing = missing(&conn, kind)?;
    if !missing.is_empty() {
        return Err(Why::Unfit(missing));
    }
    let plain = objects.code.is_empty() && computed.is_empty();
    let left_behind = few(objects.code.into_iter().chain(computed).collect());
    let mut warnings = unreadable(&conn, kind)?;
    if plain && depth == Depth::Damage {
        warnings.extend(dangling_references(&conn)?);
    }
    if kind == DatabaseKind::Clients {
        warnings.extend(odd_clients(&conn)?);
    }
    Ok(Judged {
        left_behind: left_behind
            .into_iter()
            .map(|has| format!("{has}, which does not come back"))
            .collect(),
        warnings,
    })
}

/// What there is to say of a database of this box's own, which goes back as it is. Its pages and references were looked
/// through when it was copied, and what was wrong stands among the manifest's warnings: these are the very same bytes.
fn own(path: &Path, kind: DatabaseKind) -> Vec<String> {
    if let Err(Why::Unfit(found)) = header(path) {
        let found = found.into_iter();
        return found
            .map(|why| format!("{why}; it is put back as it was"))
            .collect();
    }
    let looked = (|| -> rusqlite::Result<Vec<String>> {
        let conn = open(path, "mode=ro&immutable=1")?;
        bound(&conn, path)?;
        let mut said = missing(&conn, kind)?;
        if said.is_empty() {
            said.extend(unreadable(&conn, kind)?);
            if kind == DatabaseKind::Clients {
                said.extend(odd_clients(&conn)?);
            }
        }
        Ok(said)
    })();
    looked.unwrap_or_else(|e| vec![format!("{}; it is put back as it was", cut_off(&e))])
}

/// What a restore on another box would mind in this copy, which `super::snapshot` made: a sentence each.
pub(crate) fn check_snapshot(path: &Path, kind: DatabaseKind) -> Vec<String> {
    let minded = match judge(path, kind, Depth::Schema) {
        Ok(judged) => judged.left_behind,
        Err(Why::Unfit(found)) => found
            .into_iter()
            .map(|why| format!("{why}: no other box takes it"))
            .collect(),
        Err(Why::Failed(why)) => vec![format!("it could not be looked at: {why}")],
    };
    minded
        .into_iter()
        .map(|line| format!("on another box than this: {line}"))
        .collect()
}

/// What is wrong with its pages. Beside virtual tables, which one of this box's own may have, only plain tables are looked
/// at: a look at the others runs their modules.
pub(crate) fn damage(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let names = |rule: &str| -> rusqlite::Result<Vec<String>> {
        let sql =
            format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage {rule} 0");
        texts(conn, &sql, [])
    };
    if names("=")?.is_empty() {
        return integrity(conn);
    }
    damage_in(conn, names(">")?)
}

/// What is wrong with the pages of tables that compute nothing: a look at the others runs what they compute.
fn damage_in_all_but(conn: &Connection, others: &[String]) -> rusqlite::Result<Vec<String>> {
    let tables = Shape::of(conn)?.tables.into_iter().map(|t| t.name);
    damage_in(conn, tables.filter(|t| !others.contains(t)).collect())
}

fn damage_in(conn: &Connection, tables: Vec<String>) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    // One whose name is no text cannot be asked for.
    for table in tables.iter().filter(|t| !t.contains('\u{FFFD}')) {
        let sql = format!("PRAGMA integrity_check({})", quoted(table));
        let lines = texts(conn, &sql, [])?;
        found.extend(lines.into_iter().filter(|l| l != "ok"));
    }
    found.truncate(NAMED);
    Ok(found)
}

/// A database of this name that is not taken, and why.
pub(crate) fn refuse(name: &str, why: &str) -> Problem {
    cannot(
        Code::DATABASE_REFUSED,
        format!("accept the database {name} of the backup: {why}"),
        "make a new backup, or take another one",
    )
}

/// Why reading stopped.
pub(crate) fn cut_off(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => {
            "reading it is more work than a database of its size can be".into()
        }
        _ => format!("it is damaged: {error}"),
    }
}

/// Whether a table gives no more than a file of this size can hold. A planted tree names its pages again and again, and has rows
/// and bytes without end; who only shows what is in it must not go through that.
pub(crate) fn is_bounded(path: &Path, table: &str, columns: &[String]) -> rusqlite::Result<()> {
    let conn = open_to_read(path, OpenMode::Copy)?;
    bound(&conn, path)?;
    let lengths: Vec<String> = columns
        .iter()
        .map(|c| format!("coalesce(length(CAST({} AS BLOB)), 0)", quoted(c)))
        .collect();
    let sum = lengths.join(" + ");
    let mut statement = conn.prepare(&format!("SELECT 0 + {sum} FROM {}", quoted(table)))?;
    let mut rows = statement.query([])?;
    // A number of some bytes has up to twenty digits.
    let mut left = path.metadata().map_or(0, |m| m.len()).saturating_mul(20);
    while let Some(row) = rows.next()? {
        let bytes: i64 = row.get(0)?;
        left = left
            .checked_sub(bytes.unsigned_abs())
            .ok_or_else(interrupted)?;
    }
    Ok(())
}

fn interrupted() -> rusqlite::Error {
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT);
    rusqlite::Error::SqliteFailure(error, None)
}

/// What a schema names that is no plain table and no index.
#[derive(Default)]
struct Objects {
    /// Code that runs when rows are read or written, and of which nothing is taken.
    code: Vec<String>,
    /// What makes everything in it doubtful: a table that is a program, or a schema that SQLite did not write.
    refused: Vec<String>,
}

/// Looks at the text of a schema, and has SQLite do nothing with it.
///
/// A row of it is believed only where it is written as SQLite writes it: with the name of what it makes right behind what it
/// makes. Else one could call a view or a virtual table by the name of a plain one, and whoever reads rows would run it.
fn objects(conn: &Connection) -> rusqlite::Result<Objects> {
    let mut found = Objects::default();
    let mut statement = conn.prepare(
        "SELECT type, name, coalesce(rootpage, 0) > 0, sql FROM sqlite_schema ORDER BY rowid",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name) = (shown(row, 0)?, shown(row, 1)?);
        let has_pages: bool = row.get(2)?;
        // As UTF-8, however the file is written.
        let bytes = |column| -> rusqlite::Result<Vec<u8>> {
            let value = row.get_ref(column)?;
            Ok(value.as_bytes().unwrap_or_default().to_vec())
        };
        let (bytes, sql) = (bytes(1)?, bytes(3)?);
        let makes = |what: &str| {
            let rest = sql.strip_prefix(format!("CREATE {what} ").as_bytes());
            rest.is_some_and(|rest| names(rest, &bytes))
        };
        let shown = wording::name(&name);
        match (kind.as_str(), has_pages) {
            ("table", true) if makes("TABLE") => {}
            // An index that a key makes has no text.
            ("index", true) if sql.is_empty() || makes("INDEX") || makes("UNIQUE INDEX") => {}
            ("view", false) if makes("VIEW") => found.code.push(format!("it has a view, {shown}")),
            ("trigger", false) if makes("TRIGGER") => {
                found.code.push(format!("it has a trigger, {shown}"));
            }
            ("table", false) if makes("VIRTUAL TABLE") => {
                found
                    .refused
                    .push(format!("it has a virtual table, {shown}"));
            }
            _ => found.refused.push(format!(
                "its schema says of {shown} what SQLite would not have written"
            )),
        }
    }
    found.refused = few(found.refused);
    Ok(found)
}

/// Whether a statement goes on with this name, as SQLite would read it.
fn names(statement: &[u8], name: &[u8]) -> bool {
    let end = match statement.first() {
        Some(b'[') => Some(b']'),
        Some(quote @ (b'"' | b'`' | b'\'')) => Some(*quote),
        _ => None,
    };
    let Some(end) = end else {
        let word = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_' || **b == b'$' || **b >= 0x80;
        let length = statement.iter().take_while(word).count();
        return statement[..length] == *name;
    };
    let (mut read, mut rest) = (Vec::new(), &statement[1..]);
    loop {
        match rest {
            // A quote within is written twice; there is no way to write a bracket.
            [a, b, behind @ ..] if *a == end && *b == end && end != b']' => {
                read.push(end);
                rest = behind;
            }
            [a, ..] if *a == end => return read == name,
            [a, behind @ ..] => {
                read.push(*a);
                rest = behind;
            }
            [] => return false,
        }
    }
}

fn few(found: Vec<String>) -> Vec<String> {
    wording::first(found, NAMED, |more| {
        format!("it has {more} more of the kind")
    })
}

/// Tables whose rows are computed as they are read or looked for, a sentence each; and their names.
fn computed(conn: &Connection) -> rusqlite::Result<(Vec<String>, Vec<String>)> {
    let (mut found, mut computing) = (Vec::new(), Vec::new());
    let mut statement = conn.prepare(
        "SELECT name, (SELECT count(*) FROM pragma_table_xinfo(s.name) WHERE hidden <> 0), \
         (SELECT count(*) FROM pragma_index_list(s.name) AS i WHERE i.partial <> 0 \
          OR EXISTS (SELECT 1 FROM pragma_index_xinfo(i.name) WHERE cid = -2)) \
         FROM sqlite_schema AS s WHERE type = 'table' ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, columns, indexes) =
            (shown(row, 0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
        if columns > 0 {
            found.push(format!(
                "table {} has computed columns",
                wording::name(&name)
            ));
        }
        if indexes > 0 {
            found.push(format!(
                "table {} has an index over an expression",
                wording::name(&name)
            ));
        }
        if columns + indexes > 0 {
            computing.push(name);
        }
    }
    Ok((found, computing))
}
