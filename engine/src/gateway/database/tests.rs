#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn patience() -> Patience {
    Patience::of(BUSY)
}

fn snapshot(live: &Path, dest: &Path) -> Result<Vec<String>, Trouble> {
    super::snapshot(live, dest, patience())
}

fn clients(path: &Path) -> Result<Vec<Client>, Problem> {
    Ok(read_clients(path, OpenMode::Live(patience()))?)
}

fn users(path: &Path) -> Result<Vec<User>, Problem> {
    Ok(read_users(path, OpenMode::Live(patience()))?)
}

use crate::gateway::profile::DatabaseKind;

const CLIENTS: &str = "CREATE TABLE clients (id TEXT PRIMARY KEY, name TEXT NOT NULL, config_path TEXT NOT NULL, \
    subnet TEXT NOT NULL, public_key TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'inactive');
    CREATE TABLE test_history (id INTEGER PRIMARY KEY AUTOINCREMENT, client_id TEXT NOT NULL REFERENCES clients (id), latency_ms INTEGER);
    INSERT INTO clients VALUES ('1', 'beta', '/etc/wireguard/beta.conf', '10.2.0.0/24', 'k', 'active');
    INSERT INTO clients VALUES (NULL, 'alpha', '/etc/wireguard/alpha.conf', '10.3.0.0/24', 'k', 'inactive');
    INSERT INTO test_history (client_id, latency_ms) VALUES ('1', 5);";
const USERS: &str = "CREATE TABLE user (id INTEGER PRIMARY KEY, username VARCHAR(80) UNIQUE NOT NULL, \
    password VARCHAR(255) NOT NULL, active BOOLEAN);
    INSERT INTO user VALUES (1, 'admin', 'sha256$a$00', 1), (2, 'guest', 'sha256$a$01', 0), (3, 'nobody', 'sha256$a$02', NULL);";

/// A folder whose name has all that a URI could take for something else.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a?mode=memory&b#c%20d é'\"");
    std::fs::create_dir(&odd).unwrap();
    (dir, odd)
}

fn made(path: &Path, sql: &str) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(sql).unwrap();
    conn
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = dir
        .read_dir()
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn refusals(path: &Path, kind: DatabaseKind) -> String {
    let NotTaken::Unfit(problems) = check(path, "a.db", kind, Origin::Elsewhere).unwrap_err()
    else {
        panic!("it failed")
    };
    problems
        .iter()
        .map(|p| p.what.clone())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn clients_and_users_are_read_whatever_the_path_is_named() {
    let (_dir, dir) = folder();
    drop(made(&dir.join("configs.db"), CLIENTS));
    drop(made(&dir.join("app.db"), USERS));
    let clients = clients(&dir.join("configs.db")).unwrap();
    assert_eq!(
        clients.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["alpha", "beta"]
    );
    assert_eq!(
        clients
            .iter()
            .map(|c| c.status.as_ref())
            .collect::<Vec<_>>(),
        ["inactive", "active"],
        "also of the one without an id, which SQLite allows"
    );
    let users = users(&dir.join("app.db")).unwrap();
    assert_eq!(
        users.iter().map(|u| u.active).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert!(users.iter().all(|u| !u.must_change_password));
    assert_eq!(
        names(&dir),
        ["app.db", "configs.db"],
        "nothing else was made"
    );
}

#[test]
fn who_must_change_the_password_is_read_where_the_gateway_says_it() {
    let (_dir, dir) = folder();
    let path = dir.join("app.db");
    made(&path, USERS).execute_batch("ALTER TABLE user ADD COLUMN must_change_password BOOLEAN; UPDATE user SET must_change_password = 1 WHERE id = 2").unwrap();
    let must: Vec<_> = users(&path)
        .unwrap()
        .into_iter()
        .map(|u| u.must_change_password)
        .collect();
    assert_eq!(must, [false, true, false]);
}

#[test]
fn a_user_is_never_shown_with_the_hash() {
    let (_dir, dir) = folder();
    drop(made(&dir.join("app.db"), USERS));
    assert!(!format!("{:?}", users(&dir.join("app.db")).unwrap()).contains("sha256"));
}

#[test]
fn reading_makes_no_file_and_no_missing_database() {
    let (_dir, dir) = folder();
    assert!(clients(&dir.join("none.db")).is_err());
    assert!(content(&dir.join("none.db")).is_err());
    assert_eq!(names(&dir), Vec::<String>::new());
    // Closed cleanly, a WAL database has no side files; a read-only reader would leave some.
    let path = dir.join("wal.db");
    made(&path, &format!("PRAGMA journal_mode = wal; {CLIENTS}"))
        .close()
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert_eq!(clients(&path).unwrap().len(), 2);
    content(&path).unwrap();
    assert_eq!(names(&dir), ["wal.db"]);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_reader_sees_what_is_only_in_the_log_and_leaves_the_log_alone() {
    let (_dir, dir) = folder();
    let path = dir.join("wal.db");
    let writer = made(&path, &format!("PRAGMA journal_mode = wal; {CLIENTS}"));
    let log = side_files(&path)[0].metadata().unwrap().len();
    assert_eq!(clients(&path).unwrap().len(), 2);
    assert_eq!(side_files(&path)[0].metadata().unwrap().len(), log);
    drop(writer);
}

#[test]
fn a_snapshot_under_a_writer_is_sound_private_and_alone() {
    let (_dir, dir) = folder();
    for mode in ["wal", "delete"] {
        let path = dir.join(format!("{mode}.db"));
        let writer = made(&path, &format!("PRAGMA journal_mode = {mode}; {CLIENTS}"));
        writer.busy_timeout(BUSY).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let copy = dir.join(format!("{mode}.copy"));
        let rows = |path: &Path| content_of_copy(path).unwrap().tables["test_history"].rows;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let writer = Connection::open(&path).unwrap();
                writer.busy_timeout(BUSY).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    writer
                        .execute(
                            "INSERT INTO test_history (client_id, latency_ms) VALUES ('1', 7)",
                            [],
                        )
                        .unwrap();
                    // SQLite's locks are not fair: a writer without any pause can keep every reader out.
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            // Also when an assertion fails: the scope waits for the writer.
            let _stop = Stop(&stop);
            for _ in 0..5 {
                let committed: i64 = writer
                    .query_row("SELECT count(*) FROM test_history", [], |r| r.get(0))
                    .unwrap();
                assert_eq!(snapshot(&path, &copy).unwrap(), Vec::<String>::new());
                assert!(i64::try_from(rows(&copy)).unwrap() >= committed);
                assert_eq!(copy.metadata().unwrap().mode() & 0o7777, 0o600);
                assert!(side_files(&copy).iter().all(|p| !p.exists()));
                std::fs::remove_file(&copy).unwrap();
            }
        });
    }
}

/// Tells a writer to stop once it is dropped.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_snapshot_is_page_exact() {
    let (_dir, dir) = folder();
    let (live, copy) = (dir.join("a.db"), dir.join("b.db"));
    drop(made(&live, CLIENTS));
    snapshot(&live, &copy).unwrap();
    // Counters of changes to the file (24) and the schema (40), and at which count the version was noted (92).
    let page = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[24..28].fill(0);
        bytes[40..44].fill(0);
        bytes[92..100].fill(0);
        bytes
    };
    assert!(page(&live) == page(&copy));
    assert!(snapshot(&live, &copy).is_err(), "it replaces nothing");
}

#[test]
fn a_snapshot_of_a_database_with_a_damaged_page_is_page_exact_and_says_so() {
    let (_dir, dir) = folder();
    let live = dir.join("a.db");
    drop(made(&live, CLIENTS));
    let mut bytes = std::fs::read(&live).unwrap();
    let n = bytes.len();
    bytes[n - 4096..n - 2048].fill(0xAB);
    std::fs::write(&live, &bytes).unwrap();
    let copy = dir.join("copy.db");
    let said = snapshot(&live, &copy).unwrap();
    assert!(said[0].contains("it is damaged"), "{said:?}");
    assert_eq!(std::fs::read(&copy).unwrap()[4096..], bytes[4096..]);
}

#[test]
fn what_sqlite_cannot_read_is_told_apart_from_what_is_locked_and_from_what_fails() {
    let (_dir, dir) = folder();
    let copy = dir.join("copy.db");
    let (path, good) = (dir.join("a.db"), dir.join("good.db"));
    drop(made(&good, CLIENTS));
    let good = std::fs::read(&good).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let trouble = snapshot(&path, &copy).unwrap_err();
        assert!(!copy.exists(), "{trouble}");
        trouble
    };
    for unreadable in [
        &(|b: &mut Vec<u8>| b[..16].fill(0xff)) as &dyn Fn(&mut Vec<u8>),
        &|b| b[100..4096].fill(0xAB),
        &|b| b.truncate(5000),
        &|b| b[28..32].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]),
        // A schema of a format that is not known yet.
        &|b| b[44..48].copy_from_slice(&[0, 0, 0, 9]),
        &|b| *b = b"it was a text all along, and a rather long one at that".repeat(100),
    ] {
        let trouble = with(unreadable);
        assert!(matches!(trouble, Trouble::Unreadable(_)), "{trouble:?}");
        assert!(trouble.problem().what.contains("a.db"), "{trouble}");
    }
    let none = snapshot(&dir.join("none.db"), &copy).unwrap_err();
    assert!(matches!(none, Trouble::Failed(_)), "{none:?}");
    std::fs::write(&path, &good).unwrap();
    for begin in [
        "PRAGMA journal_mode = delete; BEGIN EXCLUSIVE",
        "PRAGMA journal_mode = wal; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE",
    ] {
        let holder = made(&path, begin);
        let soon = Patience::of(Duration::from_millis(50));
        let how = OpenMode::Live(soon);
        for busy in [
            read_clients(&path, how).map(drop),
            mail::mail_relay(&path, how).map(drop),
            shape(&path, how).map(drop),
        ] {
            assert!(matches!(busy, Err(Trouble::Busy(_))), "{begin}: {busy:?}");
        }
        let busy = super::snapshot(&path, &copy, soon).unwrap_err();
        assert!(matches!(busy, Trouble::Busy(_)), "{busy:?}");
        assert!(!copy.exists());
        drop(holder);
    }
}

#[test]
fn a_lock_is_waited_for() {
    let (_dir, dir) = folder();
    let (path, copy) = (dir.join("a.db"), dir.join("copy.db"));
    for mode in ["delete", "wal"] {
        let holder = made(
            &path,
            &format!(
                "PRAGMA journal_mode = {mode}; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE"
            ),
        );
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                drop(holder);
            });
            snapshot(&path, &copy).unwrap();
        });
        std::fs::remove_file(&copy).unwrap();
    }
}

#[test]
fn a_snapshot_names_rows_that_refer_to_nothing() {
    let (_dir, dir) = folder();
    let live = dir.join("a.db");
    made(&live, CLIENTS)
        .execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM clients")
        .unwrap();
    let warnings = snapshot(&live, &dir.join("copy.db")).unwrap();
    assert_eq!(
        warnings,
        ["1 rows of table test_history refer to rows that table clients does not have"]
    );
}

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
fn settling_brings_the_log_into_the_file_and_leaves_no_side_files() {
    let (dir, odd) = folder();
    let path = odd.join("a.db");
    let writer = made(
        &path,
        &format!("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; {CLIENTS}"),
    );
    // What a crash leaves: the file and its log, and nobody who has them open.
    let crashed = dir.path().join("crashed.db");
    std::fs::copy(&path, &crashed).unwrap();
    std::fs::copy(&side_files(&path)[0], &side_files(&crashed)[0]).unwrap();
    std::fs::set_permissions(&crashed, std::fs::Permissions::from_mode(0o646)).unwrap();
    settle(&crashed).unwrap();
    assert!(side_files(&crashed).iter().all(|p| !p.exists()));
    assert_eq!(crashed.metadata().unwrap().mode() & 0o7777, 0o646);
    assert_eq!(
        std::fs::read(&crashed).unwrap()[18..20],
        [2, 2],
        "still a WAL database"
    );
    assert_eq!(content_of_copy(&crashed).unwrap(), content(&path).unwrap());
    settle(&crashed).unwrap();
    drop(writer);
}

#[test]
fn settling_rolls_back_what_a_dead_writer_did_not_commit() {
    let (_dir, dir) = folder();
    let path = dir.join("a.db");
    drop(made(&path, CLIENTS));
    let before = content(&path).unwrap();
    let writer = Connection::open(&path).unwrap();
    // Spilled pages are in the file before the commit, so that the journal is hot.
    writer
        .execute_batch(
            "PRAGMA foreign_keys = OFF; PRAGMA cache_size = 5; PRAGMA cache_spill = ON; BEGIN",
        )
        .unwrap();
    for i in 0..5000 {
        writer
            .execute(
                "INSERT INTO test_history (client_id, latency_ms) VALUES (?1, 1)",
                [format!("{i:0100}")],
            )
            .unwrap();
    }
    let crashed = dir.join("crashed.db");
    std::fs::copy(&path, &crashed).unwrap();
    std::fs::copy(&side_files(&path)[2], &side_files(&crashed)[2]).unwrap();
    drop(writer);
    assert!(
        crashed.metadata().unwrap().len() > 100_000,
        "it was in the file"
    );
    settle(&crashed).unwrap();
    assert!(side_files(&crashed).iter().all(|p| !p.exists()));
    assert_eq!(content(&crashed).unwrap(), before);
}

#[test]
fn settling_removes_a_journal_that_is_kept_and_not_hot() {
    let (_dir, dir) = folder();
    let path = dir.join("a.db");
    drop(made(
        &path,
        &format!("PRAGMA journal_mode = persist; {CLIENTS}"),
    ));
    assert!(side_files(&path)[2].exists());
    settle(&path).unwrap();
    assert_eq!(names(&dir), ["a.db"]);
}

#[test]
fn settling_a_database_that_is_in_use_is_a_problem() {
    let (_dir, dir) = folder();
    let path = dir.join("a.db");
    let holder = made(&path, &format!("PRAGMA journal_mode = wal; {CLIENTS}"));
    let problem = settle(&path).unwrap_err();
    assert!(problem.what.contains("another process"), "{problem}");
    drop(holder);
    settle(&path).unwrap();
    assert!(settle(&dir.join("none.db")).is_err());
    assert_eq!(names(&dir), ["a.db"], "settling makes nothing");
}

#[test]
fn content_is_told_apart_by_value_type_rowid_and_sequence() {
    let (_dir, dir) = folder();
    let base = dir.join("base.db");
    drop(made(&base, CLIENTS));
    for (i, sql) in [
        "UPDATE clients SET status = 'x' WHERE name = 'beta'",
        "UPDATE test_history SET latency_ms = '5x'",
        "UPDATE test_history SET latency_ms = NULL",
        "UPDATE clients SET rowid = 99 WHERE name = 'beta'",
        "UPDATE sqlite_sequence SET seq = 7",
        "ALTER TABLE clients ADD COLUMN last_activated TIMESTAMP",
        "DELETE FROM test_history",
        "CREATE TABLE client (id)",
    ]
    .iter()
    .enumerate()
    {
        let other = dir.join(format!("{i}.db"));
        std::fs::copy(&base, &other).unwrap();
        assert!(same_content(&base, &other).unwrap());
        made(&other, sql).execute_batch("VACUUM").unwrap();
        assert!(!same_content(&base, &other).unwrap(), "{sql}");
        assert_eq!(
            content(&base)
                .unwrap()
                .differences(&content(&other).unwrap())
                .len(),
            1,
            "{sql}"
        );
    }
}

#[test]
fn content_is_the_same_after_a_vacuum_and_in_tables_of_any_form() {
    let (_dir, dir) = folder();
    let path = dir.join("a.db");
    let odd = "CREATE TABLE \"o\"\"dd\" (rowid TEXT, oid BLOB, x REAL); INSERT INTO \"o\"\"dd\" VALUES ('b', x'00ff', 0.5), ('a', NULL, -0.0);
        CREATE TABLE w (k TEXT, n INT, PRIMARY KEY (n, k)) WITHOUT ROWID; INSERT INTO w VALUES ('b', 1), ('a', 2);";
    let conn = made(&path, odd);
    let before = content(&path).unwrap();
    assert_eq!(
        before.tables.values().map(|t| t.rows).collect::<Vec<_>>(),
        [2, 2]
    );
    conn.execute_batch("PRAGMA page_size = 8192; VACUUM; ANALYZE")
        .unwrap();
    assert_eq!(content(&path).unwrap(), before);
}

#[test]
fn whatever_stands_in_a_row_it_is_read() {
    let (_dir, dir) = folder();
    let wide = "PRAGMA encoding = 'UTF-16be';";
    for (i, (before, value, shown)) in [
        ("", "X'6162'", "ab"),
        ("", "NULL", ""),
        ("", "CAST(X'42fc726f' AS TEXT)", "B\u{FFFD}ro"),
        ("", "12", "12"),
        ("", "0.5", "0.5"),
        ("", "'b'", "b"),
        (wide, "'ü'", "ü"),
        (wide, "CAST(X'd800' AS TEXT)", "\u{FFFD}\0"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = dir.join(format!("{i}.db"));
        made(
            &path,
            &format!(
                "{before} CREATE TABLE clients (id, name, config_path, subnet, public_key, status); \
            INSERT INTO clients VALUES ({value}, {value}, {value}, {value}, {value}, {value});"
            ),
        );
        let path_of_users = dir.join(format!("users-{i}.db"));
        made(
            &path_of_users,
            &format!(
                "{before} CREATE TABLE user (id, username, password, active, must_change_password, is_admin); \
            INSERT INTO user VALUES ({value}, {value}, {value}, {value}, {value}, {value}); \
            CREATE TABLE email_settings (id, smtp_host, smtp_port, smtp_username); \
            INSERT INTO email_settings VALUES ({value}, {value}, {value}, {value})"
            ),
        );
        for path in [&path, &path_of_users] {
            content(path).unwrap();
            shape(path, OpenMode::Copy).unwrap();
            let copy = dir.join("copy");
            snapshot(path, &copy).unwrap();
            std::fs::remove_file(copy).unwrap();
        }
        mail::mail_relay(&path_of_users, OpenMode::Copy).unwrap();
        let [client] = &clients(&path).unwrap()[..] else {
            panic!()
        };
        let [user] = &users(&path_of_users).unwrap()[..] else {
            panic!()
        };
        if !before.is_empty() && shown.contains('\0') {
            // How a half of a letter is shown is no matter.
            continue;
        }
        assert_eq!(
            (client.name.as_str(), client.status.as_ref()),
            (shown, shown),
            "{value}"
        );
        assert_eq!(
            (user.username.as_str(), user.password.as_str()),
            (shown, shown),
            "{value}"
        );
        assert!(!user.is_admin || value == "12", "{value}");
        assert!(!user.active, "{value}");
    }
}

#[test]
fn a_name_that_can_only_be_shown_signs_nobody_in() {
    let (_dir, dir) = folder();
    let path = dir.join("users.db");
    made(&path, "CREATE TABLE user (id, username, password, active, must_change_password)")
        .execute_batch(
            "INSERT INTO user VALUES (1, CAST(X'61ff' AS TEXT), 'h', 1, 0), (2, X'61', 'h', 1, 0), (3, 'a', X'61', 1, 0), \
             (4, 'a', 'h', 'yes', 0), (5, 'a', 'h', 1, 'no'), (6, 'a', 'h', 1, 0)",
        )
        .unwrap();
    let read = users(&path).unwrap();
    let active: Vec<i64> = read.iter().filter(|u| u.active).map(|u| u.id).collect();
    assert_eq!(active, [5, 6]);
    assert!(read[4].must_change_password && !read[5].must_change_password);
}

#[test]
fn a_table_that_lacks_columns_is_read_all_the_same() {
    let (_dir, dir) = folder();
    let path = dir.join("a.db");
    made(
        &path,
        "CREATE TABLE clients (name TEXT, \"o\"\"dd\" TEXT); INSERT INTO clients VALUES ('a', 'x'); \
        CREATE TABLE user (username); INSERT INTO user VALUES ('a')",
    );
    let [client] = &clients(&path).unwrap()[..] else {
        panic!()
    };
    assert_eq!((client.name.as_str(), client.subnet.as_str()), ("a", ""));
    assert!(!users(&path).unwrap()[0].active);
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
            judged.warnings[0].contains("goes back as it was"),
            "{judged:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn rows_that_a_view_makes_up_are_not_read() {
    let (_dir, dir) = folder();
    let path = dir.join("view.db");
    made(
        &path,
        "CREATE VIEW user AS SELECT 1 AS id, 'a' AS username, 'p' AS password, 1 AS active; \
        CREATE VIEW clients AS SELECT 'a' AS name, 'p' AS config_path, 's' AS subnet, 'active' AS status",
    );
    assert!(
        users(&path)
            .unwrap_err()
            .what
            .contains("it has no table user")
    );
    assert!(
        clients(&path)
            .unwrap_err()
            .what
            .contains("it has no table clients")
    );
}

/// Makes the tree of a table one that has its rows some two hundred million times over, in three pages more.
fn without_end(path: &Path, table: &str) {
    let conn = Connection::open(path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: u32 = conn.query_row(sql, [table], |r| r.get(0)).unwrap();
    conn.close().unwrap();
    const PAGE: usize = 4096;
    let mut bytes = std::fs::read(path).unwrap();
    let pages = (bytes.len() / PAGE) as u32;
    // All of its children are that one, by one and the same cell.
    let inner = |child: u32| {
        let mut page = vec![0; PAGE];
        let count = 600u16;
        let cell = (PAGE - 8) as u16;
        page[0] = 5;
        page[3..5].copy_from_slice(&count.to_be_bytes());
        page[5..7].copy_from_slice(&cell.to_be_bytes());
        page[8..12].copy_from_slice(&child.to_be_bytes());
        for i in 0..usize::from(count) {
            page[12 + 2 * i..14 + 2 * i].copy_from_slice(&cell.to_be_bytes());
        }
        page[PAGE - 8..PAGE - 4].copy_from_slice(&child.to_be_bytes());
        page[PAGE - 4] = 1;
        page
    };
    let at = (root as usize - 1) * PAGE;
    let leaf = bytes[at..at + PAGE].to_vec();
    bytes[at..at + PAGE].copy_from_slice(&inner(pages + 1));
    bytes.extend(inner(pages + 2));
    bytes.extend(inner(pages + 3));
    bytes.extend(leaf);
    bytes[28..32].copy_from_slice(&(pages + 3).to_be_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn of_a_copy_no_more_rows_are_read_than_a_file_of_its_size_can_have() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "CREATE TABLE clients (id TEXT, name TEXT, config_path TEXT, subnet TEXT, status TEXT);
         INSERT INTO clients VALUES ('a', 'a_00000001', 'p', 's', 'active');
         CREATE TABLE user (id INTEGER PRIMARY KEY, username TEXT, password TEXT, active INTEGER);
         INSERT INTO user VALUES (1, 'admin', 'x', 1);",
    )
    .unwrap();
    conn.close().unwrap();
    assert_eq!(clients_of_copy(&path).unwrap().len(), 1);
    for table in ["clients", "user"] {
        without_end(&path, table);
    }
    let clients = clients_of_copy(&path).unwrap_err();
    let users = users_of_copy(&path).unwrap_err();
    for problem in [clients, users] {
        assert!(problem.what.contains("more work than"), "{problem:?}");
    }
}
