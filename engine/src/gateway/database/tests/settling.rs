//! Settling brings what the log or a journal holds into the file, and leaves nothing beside it.

use super::*;

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
    assert!(problem.is(&Code::DATABASE_HELD), "{problem}");
    drop(holder);
    settle(&path).unwrap();
    assert!(settle(&dir.join("none.db")).is_err());
    assert_eq!(names(&dir), ["a.db"], "settling makes nothing");
}
