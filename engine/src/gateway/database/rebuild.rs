//! The database that a restore puts in place, made from one in an archive. From elsewhere only rows come: they are copied,
//! by the names of their columns, into a fresh file whose schema is Holdfast's own. A database that this box backed up is
//! taken as it is, and gets what the newest application needs besides. The same input gives the same bytes. Must not run
//! anything that an archive's schema says, nor open the gateway's own files.

mod fresh;
mod lacking;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use super::bounds::bound;
use super::check::{NotTaken, Why};
use super::shape::{Affinity, NEWEST, newest};
use super::{Column, NAMED, Shape, Table, open, quoted};
use crate::gateway::profile::DatabaseKind;
use crate::text::wording::{counted, name, names};
use fresh::{column, create, make_file, rule};
pub use lacking::add_what_is_missing;

/// Tables of a present database beyond which nothing of it is taken over.
const MOST_TABLES: usize = 100;

/// What a rebuilt database is made for.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Its name in the profile and in the archive.
    pub name: &'a str,
    /// What is in it.
    pub kind: DatabaseKind,
    /// The gateway's present database of that name; none if there is none, or it cannot be read.
    pub present: Option<&'a Shape>,
    /// Where configs may lie. The first is the one that `wg-quick` uses: whatever a row says, it will name that.
    pub folders: [&'a Path; 4],
}

/// What came of copying, a sentence each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RowsTaken {
    /// What does not come, having no place there, and what is here now and will be empty.
    pub lost: Vec<String>,
    /// What comes in another way than it was.
    pub changed: Vec<String>,
}

/// Copies the rows of a database from elsewhere, a private copy that was checked, into a fresh one at `dest`, which must
/// not exist.
pub fn copy_rows(source: &Path, dest: &Path, terms: Terms) -> Result<RowsTaken, NotTaken> {
    let failed = |e: rusqlite::Error| Why::from(e).of(terms.name);
    make_file(dest).map_err(|why| Why::Failed(why).of(terms.name))?;
    let (from, to) = (|| {
        let from = open(source, "mode=ro&immutable=1")?;
        bound(&from, source)?;
        let to = open(dest, "mode=rw")?;
        to.execute_batch(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; \
             PRAGMA secure_delete = ON; PRAGMA foreign_keys = OFF",
        )?;
        Ok((from, to))
    })()
    .map_err(failed)?;
    let terms = Terms {
        // Whoever may write the present database decides what it has besides; what no gateway has adds nothing.
        present: terms.present.filter(|p| p.tables.len() <= MOST_TABLES),
        ..terms
    };
    let mut copying = Copying {
        from,
        to,
        terms,
        taken: RowsTaken::default(),
        moved: Vec::new(),
    };
    copying.all().map_err(failed)?;
    let (mut taken, moved) = (copying.taken, copying.moved);
    copying.to.close().map_err(|(_, e)| failed(e))?;
    if !moved.is_empty() {
        taken.changed.push(format!(
            "the backup names a place for the config of {} where none lies; the database will name {} instead: {}",
            counted(moved.len(), "client"),
            terms.folders[0].display(),
            names(&moved)
        ));
    }
    for line in taken.lost.iter_mut().chain(&mut taken.changed) {
        line.insert_str(0, &format!("{}: ", terms.name));
    }
    Ok(taken)
}

struct Copying<'a> {
    from: Connection,
    to: Connection,
    terms: Terms<'a>,
    taken: RowsTaken,
    /// Clients whose config lay where none belongs.
    moved: Vec<String>,
}

/// Where a value of a fresh row comes from.
enum ValueFrom {
    /// This column of the row that is read.
    Row(usize),
    /// The same in every row.
    Fixed(Value),
    /// The gateway's own place for a client's config.
    ConfigPath { name: usize, was: Option<usize> },
}

/// The statements that read and write the rows of a table, and where each value that is written comes from.
struct Course<'t> {
    select: String,
    insert: String,
    sources: Vec<(ValueFrom, Option<&'t Column>)>,
}

impl Copying<'_> {
    fn all(&mut self) -> rusqlite::Result<()> {
        let source = Shape::of(&self.from)?;
        self.to.execute_batch("BEGIN")?;
        self.create()?;
        let fresh = Shape::of(&self.to)?;
        self.sequences()?;
        for table in &fresh.tables {
            match source.table(&table.name) {
                Some(rows) => self.rows(rows, table)?,
                None if NEWEST.iter().any(|n| n.name == table.name) => {}
                None => self.taken.lost.push(format!(
                    "the backup has no table {}, which is here now: it will be empty",
                    name(&table.name)
                )),
            }
        }
        self.name_what_has_no_place(&source, &fresh)?;
        self.to.execute_batch("COMMIT")
    }

    /// The newest tables of its kind, with what the present database has besides.
    fn create(&self) -> rusqlite::Result<()> {
        let newest = newest()?;
        let present = self.terms.present;
        for table in &NEWEST {
            let there = present.and_then(|p| p.table(table.name));
            if table.kind != self.terms.kind && there.is_none() {
                continue;
            }
            let known = newest.table(table.name);
            let more: Vec<String> = there
                .iter()
                .flat_map(|t| &t.columns)
                .filter(|c| known.is_none_or(|k| k.column(&c.name).is_none()))
                .map(column)
                .collect();
            self.to.execute_batch(&table.create(&more))?;
        }
        for table in present.iter().flat_map(|p| &p.tables) {
            if newest.table(&table.name).is_none() && !table.columns.is_empty() {
                self.to.execute_batch(&create(table))?;
            }
        }
        Ok(())
    }

    /// Numbers that were given once are not given again.
    fn sequences(&mut self) -> rusqlite::Result<()> {
        let there = |conn: &Connection| -> rusqlite::Result<bool> {
            let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'sqlite_sequence'";
            conn.query_row(sql, [], |r| Ok(r.get::<_, i64>(0)? == 1))
        };
        if !there(&self.from)? || !there(&self.to)? {
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        let mut read = self.from.prepare(
            "SELECT rowid, name, seq FROM sqlite_sequence WHERE typeof(name) = 'text' ORDER BY rowid",
        )?;
        let mut write = self
            .to
            .prepare("INSERT INTO sqlite_sequence (rowid, name, seq) VALUES (?1, ?2, ?3)")?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let table = NEWEST.iter().find(|n| {
                row.get_ref(1)
                    .is_ok_and(|v| v.as_bytes() == Ok(n.name.as_bytes()))
            });
            let Some(table) = table.filter(|t| t.create(&[]).contains("AUTOINCREMENT")) else {
                continue;
            };
            match row.get_ref(2)? {
                ValueRef::Integer(n) if (0..i64::MAX / 2).contains(&n) => {
                    if seen.insert(table.name) {
                        write.execute((row.get::<_, i64>(0)?, table.name, n))?;
                    }
                }
                _ => self.taken.changed.push(format!(
                    "the last number given in table {} of the backup is none: it is counted anew",
                    table.name
                )),
            }
        }
        Ok(())
    }

    fn rows(&mut self, source: &Table, fresh: &Table) -> rusqlite::Result<()> {
        let course = self.course(source, fresh);
        let mut read = self.from.prepare(&course.select)?;
        let mut write = self.to.prepare(&course.insert)?;
        let mut lost: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut unfit: Vec<String> = Vec::new();
        let mut rows = read.query([])?;
        'rows: while let Some(row) = rows.next()? {
            for (i, (from, _)) in course.sources.iter().enumerate() {
                match from {
                    // As it stands, also where it is not what belongs there: a text that is none in UTF-8 is bound by its bytes.
                    ValueFrom::Row(at) => {
                        write
                            .raw_bind_parameter(i + 1, ToSqlOutput::Borrowed(row.get_ref(*at)?))?;
                    }
                    ValueFrom::Fixed(value) => write.raw_bind_parameter(i + 1, value)?,
                    ValueFrom::ConfigPath { name, was } => {
                        let shown = super::shown(row, *name)?;
                        let Some((path, as_it_was)) = self.config_path(row, *name, *was, &shown)?
                        else {
                            unfit.push(shown);
                            continue 'rows;
                        };
                        if !as_it_was {
                            self.moved.push(shown);
                        }
                        let path = ValueRef::Text(path.as_os_str().as_bytes());
                        write.raw_bind_parameter(i + 1, ToSqlOutput::Borrowed(path))?;
                    }
                }
            }
            if let Err(e) = write.raw_execute() {
                match e.sqlite_error().and_then(rule) {
                    Some(why) => *lost.entry(why).or_default() += 1,
                    None => return Err(e),
                }
            }
        }
        if !unfit.is_empty() {
            self.taken.lost.push(format!(
                "{} will not come back, since their names cannot be those of configs: {}",
                counted(unfit.len(), "client"),
                names(&unfit)
            ));
        }
        for (why, count) in lost {
            self.taken.lost.push(format!(
                "{} of table {} will not come back: {why}",
                counted(usize::try_from(count).unwrap_or(usize::MAX), "row"),
                name(&fresh.name)
            ));
        }
        Ok(())
    }

    /// How the rows of a table come over.
    fn course<'t>(&mut self, source: &Table, fresh: &'t Table) -> Course<'t> {
        let is_clients = fresh.name == "clients";
        let mut select: Vec<String> = Vec::new();
        let mut insert: Vec<String> = Vec::new();
        let mut sources: Vec<(ValueFrom, Option<&Column>)> = Vec::new();
        let keyed = fresh
            .alias()
            .is_some_and(|c| source.column(&c.name).is_some());
        let mut take = |sql: String| {
            select.push(sql);
            select.len() - 1
        };
        if let (false, Some(there), Some(here)) = (keyed, source.rowid_name(), fresh.rowid_name()) {
            sources.push((ValueFrom::Row(take(there.to_owned())), None));
            insert.push(here.to_owned());
        }
        for column in &fresh.columns {
            let there = source.column(&column.name).map(|c| take(quoted(&c.name)));
            let from = match there {
                was if is_clients && column.name == "config_path" => {
                    let name = source.column("name").map(|c| take(quoted(&c.name)));
                    // The check asks for the name.
                    name.map(|name| ValueFrom::ConfigPath { name, was })
                }
                Some(at) => Some(ValueFrom::Row(at)),
                None => self.filled_in(fresh, column).map(ValueFrom::Fixed),
            };
            if let Some(from) = from {
                sources.push((from, Some(column)));
                insert.push(quoted(&column.name));
            }
        }
        // A number, as `1`, stands for no column and no order.
        let or_one = |names: Vec<String>| match names.is_empty() {
            true => "1".to_owned(),
            false => names.join(", "),
        };
        let order = match source.rowid_name() {
            Some(rowid) => rowid.to_owned(),
            None => or_one(source.key().iter().map(|c| quoted(&c.name)).collect()),
        };
        let marks: Vec<String> = (1..=insert.len()).map(|n| format!("?{n}")).collect();
        Course {
            select: format!(
                "SELECT {} FROM {} ORDER BY {order}",
                or_one(select),
                quoted(&source.name)
            ),
            insert: format!(
                "INSERT INTO {} ({}) VALUES ({})",
                quoted(&fresh.name),
                insert.join(", "),
                marks.join(", ")
            ),
            sources,
        }
    }

    /// Where the config of a client lies on this gateway, and whether its row said so; none if no file can have its name.
    fn config_path(
        &self,
        row: &rusqlite::Row<'_>,
        name: usize,
        was: Option<usize>,
        shown: &str,
    ) -> rusqlite::Result<Option<(PathBuf, bool)>> {
        let mut file = match row.get_ref(name)? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
            _ => shown.as_bytes().to_vec(),
        };
        file.extend(b".conf");
        if !is_file_name(&file) {
            return Ok(None);
        }
        let file = Path::new(OsStr::from_bytes(&file));
        let plain = |was: &[u8]| {
            let was = Path::new(OsStr::from_bytes(was));
            self.terms.folders.iter().any(|f| f.join(file) == was)
        };
        let was = was.and_then(|at| row.get_ref(at).ok()?.as_bytes().ok());
        Ok(Some((
            self.terms.folders[0].join(file),
            was.is_some_and(plain),
        )))
    }

    /// The value of a column that the backup does not have; none where its default is the same in every row.
    fn filled_in(&mut self, table: &Table, column: &Column) -> Option<Value> {
        if column.default.is_some() && !column.defaults_to_now() {
            return None;
        }
        // A key gets the next number, and an optional value is absent; what must be there is as good as nothing.
        if column.key > 0 || !column.not_null {
            return (column.key == 0).then_some(Value::Null);
        }
        let (value, word) = match column.affinity() {
            Affinity::Number => (Value::Integer(0), "0"),
            Affinity::Text | Affinity::Bytes => (Value::Text(String::new()), "empty"),
        };
        self.taken.changed.push(format!(
            "table {} of the backup has no column {}: it will be {word} in every row",
            name(&table.name),
            name(&column.name)
        ));
        Some(value)
    }

    fn name_what_has_no_place(&mut self, source: &Shape, fresh: &Shape) -> rusqlite::Result<()> {
        let mut more = 0;
        for table in &source.tables {
            let Some(there) = fresh.table(&table.name) else {
                if more < NAMED {
                    let rows = self.count("count(*)", &table.name)?;
                    self.taken.lost.push(format!(
                        "the gateway has no table {}: its {rows} will not come back",
                        name(&table.name)
                    ));
                }
                more += 1;
                continue;
            };
            for column in &table.columns {
                if there.column(&column.name).is_none() {
                    let count = format!("count({})", quoted(&column.name));
                    let rows = self.count(&count, &table.name)?;
                    self.taken.lost.push(format!(
                        "table {} of the gateway has no column {}: what {rows} of the backup hold in it will not come back",
                        name(&table.name),
                        name(&column.name)
                    ));
                }
            }
        }
        self.taken
            .lost
            .extend(source.nameless.iter().take(NAMED).map(|what| {
                format!("{what} of the backup has a name that is no text, and will not come back")
            }));
        if more > NAMED {
            self.taken.lost.push(format!(
                "{} more tables of the backup are not known to the gateway and will not come back",
                more - NAMED
            ));
        }
        Ok(())
    }

    fn count(&self, what: &str, table: &str) -> rusqlite::Result<String> {
        let sql = format!("SELECT {what} FROM {}", quoted(table));
        let rows: i64 = self.from.query_row(&sql, [], |r| r.get(0))?;
        Ok(counted(usize::try_from(rows).unwrap_or(usize::MAX), "row"))
    }
}

/// Whether a config of this name can lie in a folder, and be named to a command.
fn is_file_name(file: &[u8]) -> bool {
    let control = |c: char| c.is_control();
    file.len() <= 255
        && file != b".conf"
        && !file.starts_with(b".")
        && !file.starts_with(b"-")
        && !file.iter().any(|b| matches!(b, b'/' | b'\\'))
        && !String::from_utf8_lossy(file).contains(control)
}

#[cfg(test)]
mod tests;
