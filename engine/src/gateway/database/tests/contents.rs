//! The content of a database is told apart by what stands in it, and by nothing else.

use super::*;

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
