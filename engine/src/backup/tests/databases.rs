//! Databases that are written to, locked, damaged or gone.

use super::*;

#[test]
fn no_committed_row_of_a_wal_database_with_a_writer_is_lost() {
    let gateway = Gateway::new();
    let writer = gateway.open("configs.db");
    writer.pragma_update(None, "journal_mode", "wal").unwrap();
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    for i in 0..500 {
        writer
            .execute(
                "INSERT INTO test_history (client_id, latency_ms) VALUES ('a_00000001', ?1)",
                [i],
            )
            .unwrap();
    }
    writer
        .execute_batch(
            "BEGIN IMMEDIATE; INSERT INTO test_history (client_id) VALUES ('a_00000001');",
        )
        .unwrap();
    let made = gateway.make().unwrap();
    let (_, opened) = verify::archive(
        &gateway.profile,
        &shapes(&gateway.profile),
        File::open(&made.path).unwrap(),
        "b.zip",
    )
    .unwrap();
    let copy = tempfile::NamedTempFile::new().unwrap();
    opened
        .archive
        .copy("configs.db", &mut copy.as_file())
        .unwrap();
    let content = database::content_of_copy(copy.path()).unwrap();
    assert_eq!(
        content.tables["test_history"].rows, 500,
        "what is committed, and only that"
    );
    writer.execute_batch("COMMIT").unwrap();
    drop(opened);
    gateway.assert_clean();
}

#[test]
fn the_bytes_of_a_database_that_sqlite_cannot_read_are_saved_with_its_side_files() {
    let gateway = Gateway::new();
    let path = |side: &str| {
        gateway
            .dir
            .path()
            .join(format!("instance/configs.db{side}"))
    };
    let files: [(&str, &[u8]); 3] = [
        ("", b"not a database, and longer than a header would be"),
        ("-wal", b"\xff log"),
        ("-journal", b""),
    ];
    for (side, bytes) in files {
        std::fs::write(path(side), bytes).unwrap();
    }
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, [], "it can be put back as it is");
    for (side, bytes) in files {
        let entry = format!("holdfast/raw/databases/configs.db{side}");
        assert_eq!(bytes_of(&made.path, &entry), bytes);
    }
    let manifest = manifest_of(&made.path);
    let fate = &manifest.parts[&Part::Database("configs.db".into())];
    assert!(matches!(fate, PartFate::SavedRaw { .. }), "{fate:?}");
    assert!(!entries(&made.path).contains(&"configs.db".to_owned()));
    gateway_reads(&made.path).unwrap();
}

#[test]
fn a_database_that_is_gone_is_no_database_that_never_was() {
    let gateway = Gateway::new();
    let at = |name: &str| gateway.dir.path().join("instance").join(name);
    let lacks = || -> Vec<String> {
        let made = gateway.make().unwrap();
        made.lacks.iter().map(|l| l.part.to_string()).collect()
    };
    // The users' databases that a gateway of this kind has none of.
    assert_eq!(lacks(), Vec::<String>::new());
    // Only its log is left of it.
    std::fs::write(at("app.db-wal"), b"a log").unwrap();
    assert_eq!(lacks(), ["app.db"]);
    std::fs::remove_file(at("app.db-wal")).unwrap();
    // A link to a disk that is not mounted.
    std::os::unix::fs::symlink("/nowhere/app.db", at("app.db")).unwrap();
    assert_eq!(lacks(), ["app.db"]);
    std::fs::remove_file(at("app.db")).unwrap();
    // Clients have configs, and no rows.
    std::fs::remove_file(at("configs.db")).unwrap();
    assert_eq!(lacks(), ["configs.db"]);
}

#[test]
fn a_database_that_stays_locked_makes_the_backup_incomplete_and_one_that_is_freed_does_not() {
    let mut gateway = Gateway::new();
    gateway.profile.gateway.busy_seconds = 1;
    let holder = gateway.open("configs.db");
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let made = gateway.make().unwrap();
    let [lack] = made.lacks.as_slice() else {
        panic!("{:?}", made.lacks)
    };
    assert_eq!(lack.part, Part::Database("configs.db".into()));
    assert!(lack.why.contains("locked"), "{lack}");
    assert!(!entries(&made.path).contains(&"configs.db".to_owned()));
    gateway.profile.gateway.busy_seconds = 30;
    let freed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        holder.execute_batch("COMMIT").unwrap();
    });
    let made = gateway.make().unwrap();
    freed.join().unwrap();
    assert_eq!(made.lacks, []);
    assert!(entries(&made.path).contains(&"configs.db".to_owned()));
}

#[test]
fn what_is_only_said_is_shortened_and_one_database_that_has_no_room_keeps_nothing_else_back() {
    let gateway = Gateway::new();
    let target = OsStr::from_bytes(&[0xff; 1400]);
    let link = gateway.profile.gateway.configs_dir.join("l.conf");
    std::os::unix::fs::symlink(target, link).unwrap();
    let wal = &database::side_files(&gateway.profile.gateway.database[1].path)[0];
    File::create(wal).unwrap().set_len(1 << 43).unwrap();
    let made = gateway.make().unwrap();
    let [lack] = made.lacks.as_slice() else {
        panic!("{:?}", made.lacks)
    };
    assert!(lack.why.contains("not enough space in "), "{}", lack.why);
    let manifest = manifest_of(&made.path);
    assert!(manifest.entries.contains_key("configs/a_00000001.conf"));
    assert!(manifest.warnings.iter().any(|w| w.ends_with("...")));
}
