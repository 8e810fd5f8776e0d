//! Tables of older and other shapes become those that this gateway has.

use super::*;

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
