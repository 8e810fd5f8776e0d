//! Of databases that act, compute or lie, rows come and nothing else.

use super::*;

/// The tables of clients with one thing in each that acts, computes or lies, and that no row shows.
fn hostile_tables() -> [(&'static str, String); 11] {
    let with = |from: &str, to: &str| {
        assert!(CLIENTS.contains(from), "{from}");
        CLIENTS.replace(from, to)
    };
    [
        (
            "a check",
            with(
                "name TEXT NOT NULL,",
                "name TEXT NOT NULL CHECK (name <> 'gamma'),",
            ),
        ),
        (
            "a check that fails now",
            with(
                "subnet TEXT NOT NULL,",
                "subnet TEXT NOT NULL CHECK (subnet = ''),",
            ),
        ),
        (
            "a computed default",
            with(
                "last_activated TIMESTAMP",
                "last_activated TIMESTAMP DEFAULT (random())",
            ),
        ),
        (
            "a conflict rule",
            with(
                "public_key TEXT NOT NULL",
                "public_key TEXT NOT NULL UNIQUE ON CONFLICT REPLACE",
            ),
        ),
        (
            "cascades",
            with(
                "REFERENCES clients (id)",
                "REFERENCES clients (id) ON DELETE CASCADE ON UPDATE SET NULL",
            ),
        ),
        (
            "a collation",
            with("id TEXT PRIMARY KEY", "id TEXT COLLATE NOCASE PRIMARY KEY"),
        ),
        (
            "versions",
            format!("PRAGMA user_version = 99; PRAGMA application_id = 7; {CLIENTS}"),
        ),
        ("UTF-16", format!("PRAGMA encoding = 'UTF-16be'; {CLIENTS}")),
        (
            "large pages",
            format!("PRAGMA page_size = 65536; PRAGMA auto_vacuum = 1; {CLIENTS}"),
        ),
        (
            "an index",
            format!("{CLIENTS} CREATE INDEX i ON clients (name COLLATE NOCASE DESC);"),
        ),
        (
            "other cases",
            CLIENTS
                .replace("clients", "CLIENTS")
                .replace("subnet", "SubNet"),
        ),
    ]
}

#[test]
fn of_a_hostile_database_the_rows_come_and_nothing_else() {
    let room = Room::new();
    let rows = format!(
        "{ROWS} UPDATE clients SET last_activated = NULL, created_at = 'then', updated_at = 'then'; \
         UPDATE test_history SET timestamp = 'then'; UPDATE monitoring_logs SET timestamp = 'then';"
    );
    let plain = room.made("plain.db", &format!("{CLIENTS} {rows}"));
    let good = room.at("good.db");
    assert_eq!(
        taken(&plain, &good, terms(DatabaseKind::Clients, None)).unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(content(&plain), content(&good));
    for (i, (what, sql)) in hostile_tables().iter().enumerate() {
        let ignore = "PRAGMA ignore_check_constraints = ON;";
        let source = room.made(&format!("{i}.db"), &format!("{sql} {ignore} {rows}"));
        let dest = room.at(&format!("{i}.fresh"));
        let said = taken(&source, &dest, terms(DatabaseKind::Clients, None));
        assert_eq!(said, Ok(Vec::new()), "{what}");
        assert_eq!(schema(&dest), schema(&good), "{what}");
        assert_eq!(content(&dest), content(&good), "{what}");
        for name in ["user_version", "application_id"] {
            assert_eq!(pragma(&dest, name), 0, "{what}");
        }
    }
}

#[test]
fn of_a_schema_that_computes_or_acts_the_rows_come_and_the_rest_is_named() {
    let room = Room::new();
    let plain = room.made("plain.db", &format!("{CLIENTS} {ROWS}"));
    let good = room.at("good.db");
    taken(&plain, &good, terms(DatabaseKind::Clients, None)).unwrap();
    for (i, (sql, says)) in [
        ("CREATE TRIGGER t AFTER INSERT ON clients BEGIN DELETE FROM clients; END;", "it has a trigger, t"),
        ("CREATE TRIGGER \"a\"\"b\" AFTER INSERT ON clients BEGIN DELETE FROM clients; END;", "it has a trigger, a"),
        ("CREATE VIEW v AS SELECT 1;", "it has a view, v"),
        ("CREATE VIEW v AS SELECT * FROM clients; CREATE TRIGGER t INSTEAD OF INSERT ON v BEGIN SELECT 1; END;", "it has a trigger, t"),
        // Unfolded, it would have a million parts.
        (
            "CREATE VIEW v0 AS SELECT 1 AS x; CREATE VIEW v1 AS SELECT a.x FROM v0 a, v0 b; CREATE VIEW v2 AS SELECT a.x FROM v1 a, v1 b;
             CREATE VIEW v3 AS SELECT a.x FROM v2 a, v2 b; CREATE VIEW v4 AS SELECT a.x FROM v3 a, v3 b, v3 c, v3 d;
             CREATE VIEW v5 AS SELECT a.x FROM v4 a, v4 b, v4 c, v4 d, v4 e, v4 f, v4 g, v4 h;
             CREATE VIEW v6 AS SELECT a.x FROM v5 a, v5 b, v5 c, v5 d, v5 e, v5 f, v5 g, v5 h;
             CREATE VIEW v7 AS SELECT a.x FROM v6 a, v6 b, v6 c, v6 d, v6 e, v6 f, v6 g, v6 h;",
            "it has a view, v7",
        ),
        ("ALTER TABLE clients ADD COLUMN g TEXT GENERATED ALWAYS AS (name || 'x') VIRTUAL;", "table clients has computed columns"),
        ("CREATE TABLE g (a, b AS (a) STORED);", "table g has computed columns"),
        ("CREATE INDEX i ON clients (lower(name));", "table clients has an index over an expression"),
        ("CREATE INDEX i ON clients (name) WHERE status = 'active';", "table clients has an index over an expression"),
        ("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL); INSERT INTO alembic_version VALUES ('1a');",
            "the gateway has no table alembic_version: its 1 row will not come back"),
    ]
    .iter()
    .enumerate()
    {
        let source = room.made(&format!("{i}.db"), &format!("{CLIENTS} {ROWS} {sql}"));
        let dest = room.at(&format!("{i}.fresh"));
        let said = copied(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
        assert!(said.lost.iter().any(|l| l.contains(says)), "{sql}: {said:?}");
        assert_eq!(schema(&dest), schema(&good), "{sql}");
        let clients = "SELECT rowid, id, name, subnet FROM clients ORDER BY rowid";
        assert_eq!(cells(&dest, clients), cells(&good, clients), "{sql}");
    }
}

#[test]
fn a_table_that_is_a_program_and_a_schema_that_nobody_wrote_are_refused_however_they_are_spelled() {
    let room = Room::new();
    let changed = |sets: &str| {
        format!(
            "CREATE TABLE t (x); PRAGMA writable_schema = ON; UPDATE sqlite_schema SET {sets} WHERE name = 't';"
        )
    };
    let forged = |sql: &str| changed(&format!("sql = '{sql}', rootpage = 0"));
    let nobody = "what SQLite would not have written";
    for (i, (sql, says)) in [
        ("CREATE VIRTUAL TABLE f USING fts5(x);".to_owned(), "a virtual table, f"),
        (forged("CREATE VIRTUAL TABLE t USING fts3tokenize(simple)"), "a virtual table, t"),
        (forged("CREATE/**/VIRTUAL TABLE t USING fts5vocab(clients, row)"), nobody),
        (forged("CREATE  VIRTUAL TABLE t USING fts3tokenize(simple)"), nobody),
        (forged("CREATE VIRTUAL TABLE clients USING fts3tokenize(simple)"), nobody),
        (changed("sql = 'CREATE VIRTUAL TABLE t USING fts3tokenize(simple)'"), nobody),
        // A table of one name that makes a view, or a table, of another.
        (changed("sql = 'CREATE VIEW t AS SELECT 1', type = 'view'"), nobody),
        (changed("sql = 'CREATE VIEW v AS SELECT 1', type = 'view', rootpage = 0"), nobody),
        (changed("sql = 'CREATE TABLE other (x)'"), nobody),
        (changed("sql = 'CREATE TABLE/**/t (x)'"), nobody),
        (changed("sql = 'CREATE TABLE \"t\"\"\" (x)'"), nobody),
        (changed("type = 'trigger'"), nobody),
        (changed("type = 'index'"), nobody),
        (
            "CREATE TRIGGER t AFTER INSERT ON clients BEGIN DELETE FROM clients; END; PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET type = 'table' WHERE name = 't';".into(),
            "",
        ),
    ]
    .iter()
    .enumerate()
    {
        let source = room.made(&format!("{i}.db"), &format!("{CLIENTS} {ROWS} {sql}"));
        let dest = room.at(&format!("{i}.fresh"));
        let said = taken(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap_err();
        assert!(said.contains(says) || said.contains("malformed"), "{sql}: {said}");
        assert!(!dest.exists(), "{sql}");
    }
}

#[test]
fn bytes_that_are_no_text_come_as_the_bytes_they_are() {
    let room = Room::new();
    let source = room.made(
        "a.db",
        &format!(
            "{CLIENTS} {ROWS} UPDATE clients SET name = CAST(x'42fc726f' AS TEXT), config_path = '/etc/wireguard/' || CAST(x'42fc726f' AS TEXT) || '.conf' WHERE id = '1'; \
             UPDATE clients SET subnet = x'0102', public_key = CAST(x'ff00fe' AS TEXT) WHERE id = '2';"
        ),
    );
    let dest = room.at("b.db");
    let said = copied(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
    assert_eq!(said, RowsTaken::default());
    assert_eq!(content(&source), content(&dest));
    let names = |path: &Path| -> Vec<String> {
        let clients = crate::gateway::database::clients_of_copy(path).unwrap();
        clients.into_iter().map(|c| c.name).collect()
    };
    assert_eq!(names(&dest), ["B\u{FFFD}ro", "alpha"]);
}

#[test]
fn tables_and_columns_whose_names_are_no_text_are_named_as_far_as_they_can_be() {
    let room = Room::new();
    let source = room.made("a.db", &format!("{CLIENTS} CREATE TABLE qqq (www TEXT); INSERT INTO qqq VALUES (1); CREATE TABLE sss (xxx);"));
    let mut bytes = std::fs::read(&source).unwrap();
    for word in [&b"qqq"[..], b"xxx"] {
        while let Some(at) = bytes.windows(3).position(|w| w == word) {
            bytes[at..at + 3].fill(0xfc);
        }
    }
    std::fs::write(&source, bytes).unwrap();
    let dest = room.at("b.db");
    let said = copied(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
    let odd: Vec<_> = said.lost.iter().filter(|l| l.contains("no text")).collect();
    assert_eq!(odd.len(), 2, "{said:?}");
    let added = add_what_is_missing(&source, "a.db", DatabaseKind::Clients).unwrap();
    assert!(added.is_empty(), "{added:?}");
}
