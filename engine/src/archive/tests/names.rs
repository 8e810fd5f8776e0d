//! The names of entries: which are taken, and that none leads out, stands twice or is no plain file.

use super::*;

#[test]
fn folders_of_configs_may_be_entries() {
    let mut folder = Raw::new("configs/", b"");
    folder.mode = 0o040_755;
    let archive = open(&with(&[folder]).bytes).unwrap();
    assert_eq!(archive.entries().len(), 2);
}

#[test]
fn a_folder_with_content_is_refused() {
    assert_refused(
        &with(&[Raw::new("configs/", b"x")]).bytes,
        "named like a folder",
    );
}

#[test]
fn names_that_lead_out_or_are_not_plain_are_refused() {
    for name in [
        "../evil.conf",
        "/etc/passwd",
        "configs/../../evil.conf",
        "configs/a/b.conf",
        "configs/..",
        "configs/.",
        "configs//a.conf",
        "configs\\b.conf",
        "configs/b\\c.conf",
        "C:\\evil.conf",
        "C:evil.conf",
        "",
        ".",
        "configs/b\0.conf",
        "configs/b\n.conf",
        "configs/b\u{9b}.conf",
        "configs/b.conf.",
        "configs/b.conf/",
        "configs/.conf",
        "wireguard/../b.conf",
        "./configs/b.conf",
        "configs.db/",
        "inner.zip",
        "other.db",
        "../configs.db",
        "instance/configs.db",
        "configs/b.txt",
    ] {
        let said = refusal(&with(&[Raw::new(name, b"x")]).bytes);
        assert!(said.contains("its entry"), "{name:?}: {said}");
        assert!(
            !said.contains('\0') && !said.contains('\u{9b}'),
            "{name:?} is shown raw"
        );
    }
}

#[test]
fn names_that_are_not_utf8_or_not_marked_so_are_refused() {
    let mut latin = Raw::new(b"configs/m\xfcnchen.conf", b"x");
    assert_refused(&with(&[latin.clone()]).bytes, "not UTF-8");
    latin.name = "configs/münchen.conf".into();
    latin.flags = 0;
    let marked = Raw::new("configs/mⁿnchen.conf", b"x");
    assert_refused(&with(&[latin, marked]).bytes, "not marked as UTF-8");
}

#[test]
fn a_database_that_the_profile_does_not_know_is_taken_only_where_the_metadata_list_it() {
    let backup = |name: &str, listed: &[&str]| {
        build(&[
            Raw::new("backup_metadata.json", &metadata(listed, &["a.conf"])),
            Raw::new("configs/a.conf", CONFIG),
            Raw::new(name, b"x"),
        ])
        .bytes
    };
    let archive = open(&backup("other.db", &["other.db"])).unwrap();
    assert_eq!(archive.unknown_databases(), ["other.db"]);
    assert_refused(&backup("other.db", &[]), "the profile does not know");
    // What stands below holdfast/raw only a manifest can list.
    let raw = "holdfast/raw/databases/other.db";
    assert_refused(&backup(raw, &[raw]), "the profile does not know");
    for name in [
        "../other.db",
        ".db",
        "sub/other.db",
        "other.db-wal",
        "a\nb.db",
    ] {
        assert_refused(&backup(name, &[name]), "has no place in a backup");
    }
}

#[test]
fn over_long_names_are_refused() {
    let name = format!("configs/{}.conf", "n".repeat(251));
    assert_refused(&with(&[Raw::new(name, b"x")]).bytes, "the limit is 255");
}

#[test]
fn links_devices_fifos_and_set_id_entries_are_refused() {
    for mode in [
        0o120_777, 0o060_600, 0o020_600, 0o010_600, 0o140_600, 0o040_755, 0o104_755, 0o102_755,
        0o101_777,
    ] {
        let mut entry = Raw::new("configs/b.conf", b"/etc/shadow");
        entry.mode = mode;
        let said = refusal(&with(&[entry]).bytes);
        assert!(
            said.contains("regular file") || said.contains("set-id"),
            "{mode:o}: {said}"
        );
    }
}

#[test]
fn the_very_same_name_twice_is_refused_and_names_that_differ_in_case_are_two_files() {
    for name in [
        "configs/a.conf",
        "backup_metadata.json",
        "configs/\u{f6}.conf",
    ] {
        let twice = [Raw::new(name, CONFIG), Raw::new(name, CONFIG)];
        assert_refused(&with(&twice).bytes, "two entries named");
    }
    let names = [
        "a.conf",
        "A.conf",
        "\u{f6}.conf",
        "\u{d6}.conf",
        "o\u{308}.conf",
    ];
    let mut entries = vec![Raw::new("backup_metadata.json", &metadata(&[], &names))];
    entries.extend(names.map(|n| Raw::new(format!("configs/{n}"), n.as_bytes())));
    let archive = open(&build(&entries).bytes).unwrap();
    for name in names {
        let read = archive.read_small(&format!("configs/{name}"), 100).unwrap();
        assert_eq!(read, name.as_bytes());
    }
}

#[test]
fn a_config_with_the_longest_name_that_a_file_can_have_is_an_entry() {
    let name = format!("{}.conf", "n".repeat(250));
    assert_eq!(
        crate::text::wg_config::plain_config_name(name.as_bytes()),
        Some(name.as_str())
    );
    let entry = format!("configs/{name}");
    let bytes = build(&[
        Raw::new("backup_metadata.json", &metadata(&[], &[&name])),
        Raw::new(&entry, CONFIG),
    ])
    .bytes;
    assert!(open(&bytes).unwrap().entry(&entry).is_some());
}
