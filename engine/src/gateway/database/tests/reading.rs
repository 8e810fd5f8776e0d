//! Clients and users are read, whatever stands in their rows, and reading changes nothing.

use super::*;

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
