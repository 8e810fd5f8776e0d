//! A snapshot is the database page for page, under writers and locks and with damage in it.

use super::*;

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
        let busy = crate::gateway::database::snapshot(&path, &copy, soon).unwrap_err();
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
