//! The shapes of databases: what tables and columns one has, and the newest that the gateway's application is known to
//! make. Only names, types and plain defaults: what a schema says beyond that (checks, triggers, conflict rules) is code.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};

use super::bounds::bound;
use super::{OpenMode, Trouble, open_to_read};
use crate::error::{Code, cannot};
use crate::gateway::profile::DatabaseKind;
use crate::text::wording;

/// The tables of a database, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Tables with rows of their own; none of SQLite's.
    pub tables: Vec<Table>,
    /// Tables, and columns of tables, whose names are no text and cannot be asked for; as they can be shown.
    #[serde(default)]
    pub nameless: Vec<String>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Whether its rows have a rowid.
    pub rowid: bool,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Sets of columns in which no two rows are the same, besides the primary key.
    pub unique: Vec<Vec<String>>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as it is declared.
    pub declared: String,
    /// Whether it holds a value in every row.
    pub not_null: bool,
    /// Its default, as SQL.
    pub default: Option<String>,
    /// Its place in the primary key, from 1; 0 if it is not of it.
    pub key: u32,
}

impl Shape {
    /// The table of this name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables
            .iter()
            .find(|t| t.name.eq_ignore_ascii_case(name))
    }

    /// The shape of an open database.
    pub(crate) fn of(conn: &Connection) -> rusqlite::Result<Shape> {
        // Not from `pragma_table_list`, which would call the modules of virtual tables and unfold views. A table without a
        // rowid is an index that does not end with one.
        let mut statement = conn.prepare(
            "SELECT name, EXISTS (SELECT 1 FROM pragma_index_list(s.name) AS i WHERE origin = 'pk' AND NOT EXISTS \
             (SELECT 1 FROM pragma_index_xinfo(i.name) WHERE cid = -1)) FROM sqlite_schema AS s \
             WHERE type = 'table' AND rootpage > 0 AND sql LIKE 'CREATE TABLE%' \
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
        )?;
        let names = statement
            .query_map([], |r| Ok((text(r, 0)?, r.get::<_, bool>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        let mut shape = Shape::default();
        for (name, without_rowid) in names {
            match name {
                Ok(name) => shape.tables.push(Table {
                    rowid: !without_rowid,
                    columns: columns(conn, &name, &mut shape.nameless)?,
                    unique: unique(conn, &name)?,
                    name,
                }),
                Err(shown) => {
                    let nameless = format!("table {}", wording::name(&shown));
                    shape.nameless.push(nameless);
                }
            }
        }
        Ok(shape)
    }
}

/// A value that should be text; what can be shown of it where it is not UTF-8.
fn text(row: &rusqlite::Row, column: usize) -> rusqlite::Result<Result<String, String>> {
    let shown = super::shown(row, column)?;
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) if std::str::from_utf8(bytes).is_ok() => Ok(shown),
        _ => Err(shown),
    })
}

impl Table {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns
            .iter()
            .find(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// The column that is the rowid by another name.
    pub(crate) fn alias(&self) -> Option<&Column> {
        match self.key()[..] {
            [one] if self.rowid && one.declared.eq_ignore_ascii_case("INTEGER") => Some(one),
            _ => None,
        }
    }

    /// The columns of its primary key, in their order there.
    pub(crate) fn key(&self) -> Vec<&Column> {
        let mut key: Vec<&Column> = self.columns.iter().filter(|c| c.key > 0).collect();
        key.sort_by_key(|c| c.key);
        key
    }

    /// A name for the rowid that no column carries.
    pub(crate) fn rowid_name(&self) -> Option<&'static str> {
        ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|n| self.rowid && self.column(n).is_none())
    }
}

impl Column {
    /// Its type as one of the known ones: what else is declared is not carried into another schema.
    pub(crate) fn plain_type(&self) -> String {
        const KNOWN: &str = "INTEGER INT BIGINT SMALLINT TINYINT BOOLEAN BOOL TEXT VARCHAR CHAR NVARCHAR CLOB BLOB REAL \
                             DOUBLE FLOAT NUMERIC DECIMAL DATE TIME DATETIME TIMESTAMP JSON STRING";
        let declared = self.declared.to_ascii_uppercase();
        let (word, rest) = match declared.split_once('(') {
            Some((word, rest)) => (word.trim(), Some(rest)),
            None => (declared.trim(), None),
        };
        let sizes = rest.is_none_or(|r| {
            r.strip_suffix(')').is_some_and(|n| {
                n.bytes()
                    .all(|b| b.is_ascii_digit() || b == b',' || b == b' ')
                    && n.bytes().any(|b| b.is_ascii_digit())
            })
        });
        if KNOWN.split(' ').any(|known| known == word) && sizes && self.declared.len() < 40 {
            return self.declared.clone();
        }
        match self.affinity() {
            Affinity::Text => "TEXT",
            Affinity::Number => "NUMERIC",
            Affinity::Bytes => "BLOB",
        }
        .into()
    }

    /// Its default, where that is a plain value or a time that SQLite fills in.
    pub(crate) fn plain_default(&self) -> Option<&str> {
        let text = self.default.as_deref()?.trim();
        let number = text
            .strip_prefix(['-', '+'])
            .unwrap_or(text)
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'.');
        let quoted = text
            .strip_prefix('\'')
            .and_then(|t| t.strip_suffix('\''))
            .is_some_and(|t| !t.replace("''", "").contains(['\'', '\0']));
        let word = "NULL TRUE FALSE CURRENT_TIMESTAMP CURRENT_DATE CURRENT_TIME"
            .split(' ')
            .any(|word| text.eq_ignore_ascii_case(word));
        let number = number
            && text.bytes().any(|b| b.is_ascii_digit())
            && text.bytes().filter(|b| *b == b'.').count() < 2;
        (text.len() <= 1000 && (number || quoted || word)).then_some(text)
    }

    /// Whether its default is the moment at which a row is written.
    pub(crate) fn defaults_to_now(&self) -> bool {
        self.default
            .as_deref()
            .is_some_and(|d| d.trim().to_ascii_uppercase().starts_with("CURRENT_"))
    }

    /// What kind of value it keeps, by SQLite's rules.
    pub(crate) fn affinity(&self) -> Affinity {
        let declared = self.declared.to_ascii_uppercase();
        let has = |word: &str| declared.contains(word);
        if has("INT") {
            Affinity::Number
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Affinity::Text
        } else if has("BLOB") || declared.trim().is_empty() {
            Affinity::Bytes
        } else {
            Affinity::Number
        }
    }
}

/// What kind of value a column keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    Text,
    Number,
    /// Anything.
    Bytes,
}

fn columns(
    conn: &Connection,
    table: &str,
    nameless: &mut Vec<String>,
) -> rusqlite::Result<Vec<Column>> {
    let mut statement = conn.prepare(
        "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_xinfo(?1) WHERE hidden = 0",
    )?;
    let mut rows = statement.query([table])?;
    let mut columns = Vec::new();
    while let Some(r) = rows.next()? {
        match text(r, 0)? {
            Err(shown) => nameless.push(format!(
                "column {} of table {}",
                wording::name(&shown),
                wording::name(table)
            )),
            Ok(name) => columns.push(Column {
                name,
                declared: super::shown(r, 1)?,
                not_null: r.get(2)?,
                // One that is no text is as good as none.
                default: text(r, 3)?.ok(),
                key: r.get(4)?,
            }),
        }
    }
    Ok(columns)
}

fn unique(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    // An index over an expression has columns without a name.
    let mut statement = conn.prepare(
        "SELECT i.seq, x.name FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS x \
         WHERE i.\"unique\" AND NOT i.partial AND i.origin <> 'pk' ORDER BY i.name, x.seqno",
    )?;
    let mut rows = statement.query([table])?;
    let mut sets: Vec<(i64, Option<Vec<String>>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (seq, name) = (row.get::<_, i64>(0)?, text(row, 1)?.ok());
        match sets.last_mut() {
            Some((last, set)) if *last == seq => {
                *set = set.take().zip(name).map(|(mut set, name)| {
                    set.push(name);
                    set
                });
            }
            _ => sets.push((seq, name.map(|n| vec![n]))),
        }
    }
    Ok(sets.into_iter().filter_map(|(_, set)| set).collect())
}

/// What `shape` of a live database does, in this process.
pub(crate) fn shape(path: &Path, how: OpenMode) -> Result<Shape, Trouble> {
    let read = || -> rusqlite::Result<Shape> {
        let conn = open_to_read(path, how)?;
        bound(&conn, path)?;
        Shape::of(&conn)
    };
    read().map_err(|e| {
        let problem = cannot(
            Code::DATABASE_UNREADABLE,
            format!("read the tables of {}: {e}", path.display()),
            "check the file: sqlite3 FILE 'PRAGMA integrity_check'",
        );
        Trouble::of(&e, problem)
    })
}

/// A table as the newest application makes it.
pub(crate) struct Newest {
    pub name: &'static str,
    pub kind: DatabaseKind,
    columns: &'static str,
    constraints: &'static str,
}

impl Newest {
    /// The statement that makes it, with more columns behind its own.
    pub(crate) fn create(&self, more: &[String]) -> String {
        let more: String = more.iter().map(|m| format!(", {m}")).collect();
        format!(
            "CREATE TABLE {} ({}{more}{})",
            self.name, self.columns, self.constraints
        )
    }
}

/// Every table that the newest application makes. Its leftover `client` has no columns that are known for certain.
pub(crate) const NEWEST: [Newest; 6] = [
    Newest {
        name: "clients",
        kind: DatabaseKind::Clients,
        columns: "id TEXT PRIMARY KEY, name TEXT NOT NULL, config_path TEXT NOT NULL, subnet TEXT NOT NULL, \
            public_key TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'inactive', last_handshake TIMESTAMP, \
            last_activated TIMESTAMP, last_deactivated TIMESTAMP, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, \
            updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        constraints: "",
    },
    Newest {
        name: "test_history",
        kind: DatabaseKind::Clients,
        columns: "id INTEGER PRIMARY KEY AUTOINCREMENT, client_id TEXT NOT NULL, \
            timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP, latency_ms INTEGER, success BOOLEAN, target TEXT, error TEXT",
        constraints: ", FOREIGN KEY (client_id) REFERENCES clients (id)",
    },
    Newest {
        name: "monitoring_logs",
        kind: DatabaseKind::Clients,
        columns: "id INTEGER PRIMARY KEY AUTOINCREMENT, client_id TEXT, client_name TEXT, event_type TEXT NOT NULL, \
            message TEXT NOT NULL, details TEXT, timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        constraints: ", FOREIGN KEY (client_id) REFERENCES clients (id)",
    },
    Newest {
        name: "user",
        kind: DatabaseKind::Users,
        columns: "id INTEGER NOT NULL, username VARCHAR(80) NOT NULL, password VARCHAR(255) NOT NULL, active BOOLEAN, \
            last_login_at DATETIME, current_login_at DATETIME, last_login_ip VARCHAR(45), current_login_ip VARCHAR(45), \
            login_count INTEGER, must_change_password BOOLEAN",
        constraints: ", PRIMARY KEY (id), UNIQUE (username)",
    },
    Newest {
        name: "email_settings",
        kind: DatabaseKind::Users,
        columns: "id INTEGER NOT NULL, smtp_host VARCHAR(255) NOT NULL, smtp_port INTEGER NOT NULL, \
            smtp_username VARCHAR(255) NOT NULL, smtp_password VARCHAR(255) NOT NULL, smtp_from VARCHAR(255) NOT NULL, \
            smtp_use_tls BOOLEAN, alert_recipients VARCHAR(1000) NOT NULL, created_at DATETIME, updated_at DATETIME",
        constraints: ", PRIMARY KEY (id)",
    },
    Newest {
        name: "alert_history",
        kind: DatabaseKind::Users,
        columns: "id INTEGER NOT NULL, client_name VARCHAR(255) NOT NULL, peer_key VARCHAR(255) NOT NULL, \
            subject VARCHAR(255) NOT NULL, message TEXT NOT NULL, sent_at DATETIME, success BOOLEAN",
        constraints: ", PRIMARY KEY (id)",
    },
];

/// The newest tables as a shape.
pub(crate) fn newest() -> rusqlite::Result<Shape> {
    let conn = Connection::open_in_memory()?;
    for table in &NEWEST {
        conn.execute_batch(&table.create(&[]))?;
    }
    Shape::of(&conn)
}
