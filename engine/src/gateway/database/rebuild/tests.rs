//! Databases of clients and of users are rebuilt row by row into the gateway's own tables.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hostile;
mod shapes;

use std::path::PathBuf;

use proptest::prelude::*;

use super::super::check::damage;
use super::super::tests::content::DatabaseContent;
use super::super::{OpenMode, Origin, check, content_of_copy, shape};
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
