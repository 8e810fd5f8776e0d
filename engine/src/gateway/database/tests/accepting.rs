//! Which databases are taken, from this box and from elsewhere, and what is said of the others.

use super::*;

#[test]
fn a_good_database_of_its_kind_is_accepted_in_either_journal_mode() {
    let (_dir, dir) = folder();
    for mode in ["wal", "delete"] {
        let path = dir.join(format!("{mode}.db"));
        made(&path, &format!("PRAGMA journal_mode = {mode}; {CLIENTS}"))
            .close()
            .unwrap();
        assert_eq!(
            check(&path, "a.db", DatabaseKind::Clients, Origin::Elsewhere)
                .unwrap()
                .warnings,
            ["a.db: these clients have no id: alpha"]
        );
        assert!(refusals(&path, DatabaseKind::Users).contains("no table user"));
    }
    assert_eq!(names(&dir), ["delete.db", "wal.db"]);
}

#[test]
fn code_in_a_database_is_left_behind_by_name() {
    let (_dir, dir) = folder();
    for (i, (sql, says)) in [
        (
            "CREATE TRIGGER t AFTER INSERT ON clients BEGIN DELETE FROM clients; END",
            "trigger, t",
        ),
        ("CREATE VIEW v AS SELECT 1", "view, v"),
        ("CREATE VIRTUAL TABLE f USING fts5(x)", "virtual table, f"),
        (
            "ALTER TABLE clients ADD COLUMN g TEXT GENERATED ALWAYS AS (name || 'x') VIRTUAL",
            "computed columns",
        ),
        (
            "CREATE INDEX i ON clients (lower(name))",
            "index over an expression",
        ),
        (
            "CREATE INDEX i ON clients (name) WHERE status = 'active'",
            "index over an expression",
        ),
        ("CREATE VIEW \"a\x1b[31mb\" AS SELECT 1", "\\u{1b}[31mb"),
    ]
    .iter()
    .enumerate()
    {
        let path = dir.join(format!("{i}.db"));
        made(&path, CLIENTS).execute_batch(sql).unwrap();
        let said = match check(&path, "a.db", DatabaseKind::Clients, Origin::Elsewhere) {
            Ok(judged) => judged.left_behind.join("\n"),
            Err(_) => refusals(&path, DatabaseKind::Clients),
        };
        assert!(said.contains(says), "{sql}: {said}");
        let own = check(&path, "a.db", DatabaseKind::Clients, Origin::Here).unwrap();
        assert_eq!(own.left_behind, Vec::<String>::new(), "{sql}");
    }
    let path = dir.join("index.db");
    made(&path, CLIENTS)
        .execute_batch("CREATE INDEX i ON clients (name)")
        .unwrap();
    assert!(
        check(&path, "a.db", DatabaseKind::Clients, Origin::Elsewhere).is_ok(),
        "a plain index is no code"
    );
}

#[test]
fn damage_in_the_header_the_schema_or_a_page_is_refused() {
    let (_dir, dir) = folder();
    let path = dir.join("a.db");
    drop(made(&path, CLIENTS));
    let good = std::fs::read(&path).unwrap();
    let with = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        refusals(&path, DatabaseKind::Clients)
    };
    assert!(with("empty", &|b| b.clear()).contains("too short"));
    assert!(
        with("text", &|b| b[..16].copy_from_slice(b"SQLite format 2\0"))
            .contains("not a SQLite database")
    );
    assert!(
        with("pages", &|b| b[28..32]
            .copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]))
        .contains("pages of 4096 bytes")
    );
    assert!(with("size", &|b| b[16..18].copy_from_slice(&[0, 3])).contains("page size of 3"));
    assert!(with("version", &|b| b[18] = 9).contains("file format"));
    assert!(with("cut", &|b| b.truncate(5000)).contains("5000 bytes"));
    // The first table's root page is made a page that points at itself.
    let conn = Connection::open(&path).unwrap();
    let root: u32 = conn
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'clients'",
            [],
            |r| r.get(0),
        )
        .unwrap();
    drop(conn);
    let at = (root as usize - 1) * 4096;
    assert!(
        with("loop", &|b| {
            b[at] = 5;
            b[at + 8..at + 12].copy_from_slice(&root.to_be_bytes());
        })
        .contains("damaged")
    );
    assert!(with("page", &|b| b[at + 100..at + 4096].fill(0xAB)).contains("damaged"));
    // `writable_schema` damage: a table whose text is none.
    let bent = dir.join("bent.db");
    made(&bent, CLIENTS)
        .execute_batch("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE clients (' WHERE name = 'clients'")
        .unwrap();
    assert!(refusals(&bent, DatabaseKind::Clients).contains("damaged"));
}

#[test]
fn a_table_that_lacks_a_column_is_refused_and_the_column_named() {
    let (_dir, dir) = folder();
    let path = dir.join("a.db");
    drop(made(
        &path,
        "CREATE TABLE clients (id TEXT, name TEXT, config_path TEXT, subnet TEXT, status TEXT)",
    ));
    assert!(refusals(&path, DatabaseKind::Clients).contains("no column public_key"));
}

#[test]
fn a_database_of_this_box_is_taken_whatever_is_in_it() {
    let (_dir, dir) = folder();
    for (i, bytes) in [
        &b""[..],
        b"no database",
        &[0xAB; 8192],
        b"SQLite format 3\0",
    ]
    .into_iter()
    .enumerate()
    {
        let path = dir.join(format!("{i}.db"));
        std::fs::write(&path, bytes).unwrap();
        let judged = check(&path, "a.db", DatabaseKind::Clients, Origin::Here).unwrap();
        assert!(
            judged.warnings[0].contains("put back as it was"),
            "{judged:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
