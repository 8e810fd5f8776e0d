#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::check::damage;
use super::super::{DatabaseContent, OpenMode, Origin, check, content_of_copy, shape};
use super::*;

const CLIENTS: &str = include_str!("../../../../../fixtures/data/clients.sql");
const USERS: &str = include_str!("../../../../../fixtures/data/users.sql");

/// Rows of a database of clients, by the names of their columns.
const ROWS: &str = "INSERT INTO clients (id, name, config_path, subnet, public_key, status) VALUES
      ('1', 'beta', '/etc/wireguard/beta.conf', '10.2.0.0/24', 'k1', 'active'),
      ('2', 'alpha', '/etc/wireguard/alpha.conf', '10.3.0.0/24', 'k2', 'inactive');
    INSERT INTO test_history (id, client_id, latency_ms) VALUES (5, '1', 12.5);
    INSERT INTO monitoring_logs (id, client_id, event_type, message) VALUES (7, '2', 'up', 'it is');";

struct Room {
    dir: tempfile::TempDir,
}

impl Room {
    fn new() -> Room {
        Room {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn made(&self, name: &str, sql: &str) -> PathBuf {
        let path = self.at(name);
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        conn.execute_batch(sql).unwrap();
        conn.close().unwrap();
        path
    }
}

fn terms<'a>(kind: DatabaseKind, present: Option<&'a Shape>) -> Terms<'a> {
    Terms {
        name: "a.db",
        kind,
        present,
        folders: [
            Path::new("/etc/wireguard"),
            Path::new("/opt/wireguard-gateway/instance/configs"),
            Path::new("/etc/wireguard"),
            Path::new("/opt/wireguard-gateway/instance/configs"),
        ],
    }
}

/// All that [`copied`] says of the copying, what is lost first.
fn taken(source: &Path, dest: &Path, terms: Terms) -> Result<Vec<String>, String> {
    copied(source, dest, terms).map(|taken| [taken.lost, taken.changed].concat())
}

/// Checks a database as one from elsewhere and copies its rows: what came of it, or why it is refused.
fn copied(source: &Path, dest: &Path, terms: Terms) -> Result<RowsTaken, String> {
    let judged = check(source, "a.db", terms.kind, Origin::Elsewhere).map_err(refusal)?;
    let mut taken = copy_rows(source, dest, terms).map_err(refusal)?;
    taken.lost.splice(0..0, judged.left_behind);
    Ok(taken)
}

fn refusal(not_taken: NotTaken) -> String {
    match not_taken {
        NotTaken::Unfit(problems) => {
            let all: Vec<String> = problems.into_iter().map(|p| p.what).collect();
            all.join("\n")
        }
        NotTaken::Failed(problem) => panic!("{problem}"),
    }
}

fn schema(path: &Path) -> Vec<String> {
    let conn = Connection::open(path).unwrap();
    let mut read = conn
        .prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name")
        .unwrap();
    let rows = read.query_map([], |r| r.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn pragma(path: &Path, name: &str) -> i64 {
    let conn = Connection::open(path).unwrap();
    conn.pragma_query_value(None, name, |r| r.get(0)).unwrap()
}

fn cells(path: &Path, sql: &str) -> Vec<Value> {
    let conn = Connection::open(path).unwrap();
    let mut read = conn.prepare(sql).unwrap();
    let width = read.column_count();
    let mut rows = read.query([]).unwrap();
    let mut cells = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        cells.extend((0..width).map(|i| row.get::<_, Value>(i).unwrap()));
    }
    cells
}

fn texts(path: &Path, sql: &str) -> Vec<String> {
    let text = |value| match value {
        Value::Text(text) => text,
        other => format!("{other:?}"),
    };
    cells(path, sql).into_iter().map(text).collect()
}

fn content(path: &Path) -> DatabaseContent {
    content_of_copy(path).unwrap()
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
    let with = |from: &str, to: &str| {
        assert!(CLIENTS.contains(from), "{from}");
        CLIENTS.replace(from, to)
    };
    let hostile = [
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
    ];
    for (i, (what, sql)) in hostile.iter().enumerate() {
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
        let clients = super::super::clients_of_copy(path).unwrap();
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

#[test]
fn the_same_database_gives_the_same_bytes() {
    let room = Room::new();
    let present = room.made(
        "present.db",
        &format!(
            "{CLIENTS} ALTER TABLE clients ADD COLUMN note TEXT; CREATE TABLE own (a TEXT UNIQUE);"
        ),
    );
    let present = shape(&present, OpenMode::Copy).unwrap();
    let many: String = (0..2000)
        .map(|i| format!("INSERT INTO test_history (client_id, error) VALUES ('1', 'e{i:0300}');"))
        .collect();
    let old = CLIENTS.replace("updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP", "x TEXT");
    let source = room.made(
        "a.db",
        &format!("{old} BEGIN; {ROWS} {many} COMMIT; DELETE FROM test_history WHERE id % 3 = 0;"),
    );
    let [one, two] = ["one", "two"].map(|name| {
        let dest = room.at(name);
        copy_rows(&source, &dest, terms(DatabaseKind::Clients, Some(&present))).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        std::fs::read(dest).unwrap()
    });
    assert!(one == two);
    assert!(one.len() > 100_000);
    assert_eq!(
        texts(&room.at("one"), "SELECT DISTINCT updated_at FROM clients"),
        ["Null"],
        "no time of now stands in for one that is not known"
    );
}

#[test]
fn a_config_path_is_the_gateways_own_whatever_the_row_says() {
    let room = Room::new();
    let source = room.made(
        "a.db",
        &format!(
            "{CLIENTS} {ROWS} UPDATE clients SET config_path = '/tmp/evil.conf' WHERE name = 'beta'; \
             UPDATE clients SET config_path = '/opt/wireguard-gateway/instance/configs/alpha.conf' WHERE name = 'alpha';"
        ),
    );
    let dest = room.at("b.db");
    let said = taken(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
    assert_eq!(
        said,
        [
            "a.db: the backup names a place for the config of 1 client where none lies; the database will name \
          /etc/wireguard instead: beta"
        ]
    );
    assert_eq!(
        texts(&dest, "SELECT config_path FROM clients ORDER BY name"),
        ["/etc/wireguard/alpha.conf", "/etc/wireguard/beta.conf"]
    );
    for name in ["../evil", "a/b", "", ".x", "-x", "a\nb", &"x".repeat(251)] {
        let source = room.at("c.db");
        let _ = std::fs::remove_file(&source);
        room.made(
            "c.db",
            &format!("{CLIENTS} {ROWS} UPDATE clients SET name = '{name}' WHERE id = 1;"),
        );
        let _ = std::fs::remove_file(&dest);
        let said = copied(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
        let [lost] = &said.lost[..] else {
            panic!("{said:?}")
        };
        let says =
            "a.db: 1 client will not come back, since their names cannot be those of configs";
        assert!(lost.starts_with(says), "{lost}");
        assert!(!lost.contains('\n') && lost.len() < 400, "{lost}");
        assert_eq!(texts(&dest, "SELECT name FROM clients"), ["alpha"]);
    }
}

#[test]
fn numbers_that_were_given_once_are_not_given_again() {
    let room = Room::new();
    let source = room.made(
        "a.db",
        &format!(
            "{CLIENTS} {ROWS} UPDATE sqlite_sequence SET seq = 900 WHERE name = 'test_history'; \
             UPDATE sqlite_sequence SET seq = 'x' WHERE name = 'monitoring_logs'; \
             INSERT INTO sqlite_sequence VALUES ('clients', 5), ('evil', 6);"
        ),
    );
    let dest = room.at("b.db");
    let said = taken(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(
        cells(&dest, "SELECT name, seq FROM sqlite_sequence ORDER BY name"),
        [
            Value::Text("monitoring_logs".into()),
            Value::Integer(7),
            Value::Text("test_history".into()),
            Value::Integer(900)
        ]
    );
}

/// The shapes that `configs.db` has had.
fn shapes() -> [String; 4] {
    let without = |sql: &str, columns: &[&str]| -> String {
        let lines = sql.lines().filter(|l| {
            !columns
                .iter()
                .any(|c| l.trim_start().starts_with(&format!("{c} ")))
        });
        lines.map(|l| format!("{l}\n")).collect()
    };
    let no_logs = |sql: &str| {
        let (before, after) = sql.split_once("CREATE TABLE monitoring_logs").unwrap();
        before.to_owned() + after.split_once(");\n").unwrap().1
    };
    let no_times = without(CLIENTS, &["last_activated", "last_deactivated"]);
    let old = no_logs(&no_times);
    [
        without(&old, &["target", "error"]),
        old,
        no_times,
        CLIENTS.to_owned(),
    ]
}

#[test]
fn every_older_shape_becomes_the_newest_one() {
    let room = Room::new();
    for (i, sql) in shapes().iter().enumerate() {
        let rows: String = ROWS
            .split_inclusive(';')
            .filter(|r| sql.contains("monitoring_logs") || !r.contains("monitoring_logs"))
            .collect();
        let source = room.made(&format!("{i}.db"), &format!("{sql} {rows}"));
        let fresh = room.at(&format!("{i}.fresh"));
        taken(&source, &fresh, terms(DatabaseKind::Clients, None)).unwrap();
        // One of this box's own gets its columns at the end, and every column of it.
        add_what_is_missing(&source, "a.db", DatabaseKind::Clients).unwrap();
        for path in [&fresh, &source] {
            let conn = Connection::open(path).unwrap();
            conn.execute_batch(
                "SELECT last_activated, last_deactivated, created_at FROM clients; SELECT target, error FROM test_history; \
                 INSERT INTO monitoring_logs (client_id, client_name, event_type, message, details) VALUES (1, 2, 3, 4, 5)",
            )
            .unwrap();
            assert_eq!(
                texts(path, "SELECT name FROM clients ORDER BY rowid"),
                ["beta", "alpha"]
            );
        }
    }
}

#[test]
fn what_the_present_database_has_besides_is_made_but_none_of_its_code() {
    let room = Room::new();
    let present = room.made(
        "present.db",
        &format!(
            "{CLIENTS} {} CREATE TABLE own (a TEXT UNIQUE, b INTEGER NOT NULL DEFAULT 3, PRIMARY KEY (b)); \
             CREATE TRIGGER t AFTER INSERT ON own BEGIN DELETE FROM clients; END; CREATE VIEW v AS SELECT 1;",
            "ALTER TABLE clients ADD COLUMN note \"VARCHAR(9) CHECK (1)\" DEFAULT 'it''s'; \
             ALTER TABLE clients ADD COLUMN \"a\"\"b\x1b\" INT NOT NULL DEFAULT (1 + 1); \
             ALTER TABLE clients ADD COLUMN level INTEGER NOT NULL DEFAULT 0 CHECK (level < 9);"
        ),
    );
    let present = shape(&present, OpenMode::Copy).unwrap();
    let source = room.made(
        "a.db",
        &format!(
            "{CLIENTS} {ROWS} ALTER TABLE clients ADD COLUMN note BLOB; UPDATE clients SET note = 'n' || id; \
             ALTER TABLE clients ADD COLUMN \"e\x1b[31m\" TEXT; UPDATE clients SET \"e\x1b[31m\" = 'x' WHERE id = 1; \
             CREATE TABLE evil (a); INSERT INTO evil VALUES (1), (2);"
        ),
    );
    let dest = room.at("b.db");
    let said = copied(&source, &dest, terms(DatabaseKind::Clients, Some(&present))).unwrap();
    assert_eq!(
        said.lost,
        [
            "a.db: the backup has no table own, which is here now: it will be empty",
            "a.db: table clients of the gateway has no column e\\u{1b}[31m: what 1 row of the backup hold in it will not come back",
            "a.db: the gateway has no table evil: its 2 rows will not come back",
        ]
    );
    assert_eq!(
        texts(&dest, "SELECT note FROM clients ORDER BY id"),
        ["n1", "n2"]
    );
    let schema = schema(&dest).join("\n");
    for word in ["CHECK", "TRIGGER", "VIEW", "1 + 1", "evil", "[31m"] {
        assert!(!schema.contains(word), "{word}: {schema}");
    }
    let conn = Connection::open(&dest).unwrap();
    conn.execute_batch(
        "INSERT INTO own (a) VALUES ('x') ON CONFLICT (a) DO NOTHING; \
         INSERT INTO clients (id, name, config_path, subnet, public_key) VALUES (3, 4, 5, 6, 7)",
    )
    .unwrap();
    assert_eq!(
        texts(&dest, "SELECT note FROM clients WHERE id = 3"),
        ["it's"]
    );
}

#[test]
fn a_role_that_this_gateway_keeps_and_the_backup_does_not_know_is_nobodys() {
    let room = Room::new();
    let present = room.made(
        "present.db",
        &format!("{USERS} ALTER TABLE user ADD COLUMN is_admin BOOLEAN;"),
    );
    let conn = Connection::open(&present).unwrap();
    conn.execute_batch("DROP TABLE user; CREATE TABLE user (id INTEGER PRIMARY KEY, username TEXT, is_admin BOOLEAN NOT NULL)")
        .unwrap();
    let present = shape(&present, OpenMode::Copy).unwrap();
    let source = room.made(
        "a.db",
        &format!(
            "{USERS} INSERT INTO user (id, username, password, active) VALUES (1, 'admin', 'p', 1);"
        ),
    );
    let dest = room.at("b.db");
    let said = taken(&source, &dest, terms(DatabaseKind::Users, Some(&present))).unwrap();
    assert_eq!(
        said,
        ["a.db: table user of the backup has no column is_admin: it will be 0 in every row"]
    );
    assert_eq!(
        cells(&dest, "SELECT is_admin FROM user"),
        [Value::Integer(0)]
    );
}

#[test]
fn a_table_of_users_in_a_database_of_clients_comes_only_where_one_is_now() {
    let room = Room::new();
    let user = "INSERT INTO user (id, username, password) VALUES (1, 'evil', 'p');";
    let source = room.made("a.db", &format!("{CLIENTS} {ROWS} {USERS} {user}"));
    let dest = room.at("b.db");
    let said = taken(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
    assert_eq!(said.len(), 3, "{said:?}");
    let lost = "a.db: the gateway has no table user: its 1 row will not come back";
    assert!(said.contains(&lost.to_owned()), "{said:?}");
    assert!(!schema(&dest).join("").contains("user"));

    let present = shape(
        &room.made("present.db", &format!("{CLIENTS} {USERS}")),
        OpenMode::Copy,
    )
    .unwrap();
    let dest = room.at("c.db");
    taken(&source, &dest, terms(DatabaseKind::Clients, Some(&present))).unwrap();
    assert_eq!(texts(&dest, "SELECT username FROM user"), ["evil"]);
}

#[test]
fn rows_that_break_the_rules_of_their_table_are_counted_and_the_others_come() {
    let room = Room::new();
    let loose = |sql: &str| {
        sql.replace(" NOT NULL", "")
            .replace(", \n\tUNIQUE (username)", "")
    };
    let source = room.made(
        "users.db",
        &format!(
            "{} INSERT INTO user (id, username, password) VALUES (1, 'a', 'p'), (2, 'a', 'q'), (3, 'c', 'r'); \
             INSERT INTO alert_history (client_name, peer_key, subject, message) VALUES ('c', 'k', 's', NULL), ('c', 'k', 's', x'00'), \
             ('c', 'k', 's', CAST(x'ff' AS TEXT)), ('c', 'k', 's', 'm');",
            loose(USERS)
        ),
    );
    let dest = room.at("fresh.db");
    let said = copied(&source, &dest, terms(DatabaseKind::Users, None)).unwrap();
    assert_eq!(
        said.lost,
        [
            "a.db: 1 row of table alert_history will not come back: a value that must be there is missing",
            "a.db: 1 row of table user will not come back: another row has the same value where each has its own",
        ]
    );
    assert_eq!(texts(&dest, "SELECT password FROM user"), ["p", "r"]);
    assert_eq!(
        texts(&dest, "SELECT hex(message) FROM alert_history"),
        ["00", "FF", "6D"]
    );
}

#[test]
fn what_the_gateway_may_not_read_is_named_with_its_column() {
    let room = Room::new();
    for (i, (kind, sql, says)) in [
        (
            DatabaseKind::Clients,
            "UPDATE clients SET subnet = x'00'",
            "has no text in subnet",
        ),
        (
            DatabaseKind::Clients,
            "UPDATE clients SET name = NULL",
            "has no text in name",
        ),
        (
            DatabaseKind::Users,
            "UPDATE user SET username = x'00'",
            "has no text in username",
        ),
        (
            DatabaseKind::Users,
            "UPDATE user SET id = 'x'",
            "has no number in id",
        ),
    ]
    .iter()
    .enumerate()
    {
        let (schema, rows) = match kind {
            DatabaseKind::Clients => (CLIENTS, ROWS),
            DatabaseKind::Users => (
                USERS,
                "INSERT INTO user (id, username, password) VALUES (1, 'a', 'p');",
            ),
        };
        let loose = schema
            .replace(" NOT NULL", "")
            .replace("id INTEGER,", "id,");
        let source = room.made(&format!("{i}.db"), &format!("{loose} {rows} {sql}"));
        for origin in [Origin::Here, Origin::Elsewhere] {
            let said = check(&source, "a.db", *kind, origin).unwrap().warnings;
            assert!(said.iter().any(|s| s.contains(says)), "{sql}: {said:?}");
        }
    }
}

#[test]
fn rows_keep_their_numbers_from_tables_with_and_without_a_rowid() {
    let room = Room::new();
    let source = room.made(
        "a.db",
        &format!("{CLIENTS} {ROWS} UPDATE clients SET rowid = 70 WHERE name = 'beta';"),
    );
    let dest = room.at("fresh.db");
    taken(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
    assert_eq!(content(&source), content(&dest));
    let keyed = CLIENTS.replacen("\n);", "\n) WITHOUT ROWID;", 1);
    let source = room.made("keyed.db", &format!("{keyed} {ROWS}"));
    let dest = room.at("keyed.fresh");
    taken(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
    assert_eq!(
        cells(&dest, "SELECT rowid, id FROM clients ORDER BY rowid"),
        [1, 2]
            .map(|n| [Value::Integer(n), Value::Text(n.to_string())])
            .concat()
    );
    // A column may carry the name of the rowid.
    let odd = CLIENTS.replacen(
        "subnet TEXT NOT NULL,",
        "subnet TEXT NOT NULL, rowid TEXT, oid TEXT,",
        1,
    );
    let source = room.made(
        "odd.db",
        &format!("{odd} {ROWS} UPDATE clients SET _rowid_ = 9, rowid = 'x' WHERE id = 2;"),
    );
    let dest = room.at("odd.fresh");
    taken(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
    assert_eq!(
        cells(&dest, "SELECT rowid FROM clients ORDER BY rowid"),
        [Value::Integer(1), Value::Integer(9)]
    );
}

#[test]
fn a_database_of_this_box_that_lacks_nothing_is_untouched_and_one_that_lacks_something_gets_that_alone()
 {
    let room = Room::new();
    let more = "CREATE TABLE own (a CHECK (a > 0)); INSERT INTO own VALUES (1); CREATE VIRTUAL TABLE f USING fts5(x); \
        CREATE TRIGGER t AFTER INSERT ON own BEGIN SELECT 1; END; CREATE VIEW v AS SELECT a FROM own;";
    let [oldest, .., newest] = shapes();
    let path = room.made(
        "new.db",
        &format!("PRAGMA journal_mode = wal; {newest} {ROWS} {more}"),
    );
    let before = std::fs::read(&path).unwrap();
    check(&path, "a.db", DatabaseKind::Clients, Origin::Here).unwrap();
    let added = add_what_is_missing(&path, "a.db", DatabaseKind::Clients).unwrap();
    assert_eq!(added, Vec::<String>::new());
    assert!(std::fs::read(&path).unwrap() == before);
    // Damage is told of when it is copied, also beside a virtual table, and goes back as it was.
    let conn = Connection::open(&path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'test_history'";
    let root: u32 = conn.query_row(sql, [], |r| r.get(0)).unwrap();
    let root = root as usize;
    conn.close().unwrap();
    let mut bytes = before.clone();
    bytes[(root - 1) * 4096 + 100..root * 4096].fill(0xAB);
    let damaged = room.at("damaged.db");
    std::fs::write(&damaged, bytes).unwrap();
    let conn = open(&damaged, "mode=ro&immutable=1").unwrap();
    assert!(!damage(&conn).is_ok_and(|found| found.is_empty()));
    assert!(check(&damaged, "a.db", DatabaseKind::Clients, Origin::Here).is_ok());
    assert!(check(&damaged, "a.db", DatabaseKind::Clients, Origin::Elsewhere).is_err());

    let rows = ROWS.split("INSERT INTO monitoring_logs").next().unwrap();
    let [one, two] = ["one.db", "two.db"].map(|name| {
        let path = room.made(
            name,
            &format!("PRAGMA journal_mode = wal; {oldest} {rows} {more}"),
        );
        let added = add_what_is_missing(&path, "a.db", DatabaseKind::Clients).unwrap();
        assert_eq!(added.len(), 5, "{added:?}");
        assert_eq!(texts(&path, "SELECT a FROM v"), ["Integer(1)"]);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[18..20], [2, 2], "still a WAL database");
        bytes
    });
    assert!(one == two);
}

#[test]
fn reading_is_bounded_by_the_size_of_the_file() {
    let room = Room::new();
    let path = room.made("a.db", CLIENTS);
    let conn = open(&path, "mode=ro&immutable=1").unwrap();
    bound(&conn, &path).unwrap();
    let endless =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
    let error = conn
        .query_row(endless, [], |r| r.get::<_, i64>(0))
        .unwrap_err();
    let said = refusal(Why::from(error).of("a.db"));
    assert!(
        said.contains("reading it is more work than a database of its size can be"),
        "{said}"
    );
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>()
            .prop_filter("SQLite keeps none as nothing", |x| !x.is_nan())
            .prop_map(Value::Real),
        "\\PC{0,20}".prop_map(Value::Text),
        any::<String>().prop_map(Value::Text),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_rows_of_the_newest_shape_come_whole(
        clients in proptest::collection::btree_map(1..i64::MAX, ("[a-z0-9_]{1,15}", "\\PC{0,30}", value(), value()), 0..12),
        history in proptest::collection::btree_map(1..i64::MAX, (value(), value(), value(), "\\PC{0,600}"), 0..40),
    ) {
        let room = Room::new();
        let source = room.made("a.db", CLIENTS);
        let conn = Connection::open(&source).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        for (rowid, (name, subnet, handshake, created)) in &clients {
            conn.execute(
                "INSERT INTO clients (rowid, id, name, config_path, subnet, public_key, last_handshake, created_at)
                 VALUES (?1, ?1, ?2, '/etc/wireguard/' || ?2 || '.conf', ?3, ?3, ?4, ?5)",
                (rowid, name, subnet, handshake, created),
            ).unwrap();
        }
        for (id, (latency, success, target, error)) in &history {
            conn.execute(
                "INSERT INTO test_history (id, client_id, latency_ms, success, target, error) VALUES (?1, '1', ?2, ?3, ?4, ?5)",
                (id, latency, success, target, error),
            ).unwrap();
        }
        // The last number cannot be counted on from there.
        conn.execute("UPDATE sqlite_sequence SET seq = 1000 WHERE seq > 1000", []).unwrap();
        drop(conn);
        let dest = room.at("b.db");
        let said = taken(&source, &dest, terms(DatabaseKind::Clients, None)).unwrap();
        prop_assert_eq!(said, Vec::<String>::new());
        let (mut was, mut is) = (content(&source), content(&dest));
        was.tables.remove("sqlite_sequence");
        is.tables.remove("sqlite_sequence");
        prop_assert_eq!(was.differences(&is), Vec::<String>::new());
    }
}
