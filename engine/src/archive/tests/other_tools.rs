//! What other tools add to a backup or make of it, and what is said of it.

use super::*;

/// Every problem with its advice.
fn problems(bytes: &[u8]) -> String {
    match open_all(bytes) {
        Err(Fault::Refused(problems)) => {
            let shown = problems
                .iter()
                .map(|p| format!("{}\n  {}", p.what, p.advice));
            shown.collect::<Vec<_>>().join("\n")
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_a_mac_or_windows_adds_is_passed_over_and_nothing_else_goes_by_its_name() {
    let mut folder = Raw::new("__MACOSX/", b"");
    folder.mode = 0o040_755;
    let more = [
        folder,
        Raw::new("__MACOSX/._configs.db", b"x"),
        Raw::new("__MACOSX/configs/._a.conf", b"x"),
        Raw::new(".DS_Store", b"x"),
        Raw::new("configs/.DS_Store", b"x"),
        Raw::new("configs/Thumbs.db", b"x"),
    ];
    let archive = open(&with(&more).bytes).unwrap();
    assert_eq!((archive.entries().len(), archive.passed_over()), (2, 6));
    let link = |name: &str| {
        let mut link = Raw::new(name, b"/etc");
        link.mode = 0o120_777;
        link
    };
    for entry in [
        Raw::new("__MACOSX/../evil.conf", b"x"),
        Raw::new("__MACOSX/a\\b", b"x"),
        Raw::new("elsewhere/.DS_Store", b"x"),
        link("__MACOSX/link"),
        link(".DS_Store"),
    ] {
        refusal(&with(&[entry]).bytes);
    }
    let twice = [Raw::new(".DS_Store", b"x"), Raw::new(".DS_Store", b"y")];
    assert_refused(&with(&twice).bytes, "two entries named");
}

#[test]
fn what_a_tool_made_of_a_backup_is_refused_once_a_kind_with_what_undoes_it() {
    let extra: Vec<Raw> = (0..5)
        .map(|i| Raw::new(format!("notes-{i}.txt"), b"x"))
        .collect();
    insta::assert_snapshot!(problems(&with(&extra).bytes), @r##"
    accept the backup test.zip: its entry notes-0.txt has no place in a backup of a gateway; so it is with 4 more entries
      if you trust the archive, copy it and remove this entry: `zip -d COPY 'notes-0.txt'`; or choose another backup (`holdfast backups`); nothing was changed
    "##);
    let around = build(&[
        Raw::new("backup/backup_metadata.json", &metadata(&[], &["a.conf"])),
        Raw::new("backup/configs/a.conf", CONFIG),
        Raw::new("__MACOSX/._backup", b"x"),
    ]);
    insta::assert_snapshot!(problems(&around.bytes), @r##"
    accept the backup test.zip: everything in it lies in one folder, backup: a tool packed the folder, and not what is in it
      unpack it, and pack it again from inside that folder: cd FOLDER && zip -r ../again.zip .; or choose another backup (`holdfast backups`); nothing was changed
    "##);
    let mut comment = with(&[]).bytes;
    let at = comment.len() - 2;
    comment[at..].copy_from_slice(&5u16.to_le_bytes());
    comment.extend(b"hello");
    insta::assert_snapshot!(problems(&comment), @r##"
    accept the backup test.zip: it has a comment of 5 bytes at its end
      take the comment out of a copy of the file: zip -z FILE < /dev/null; then try again; or choose another backup (`holdfast backups`); nothing was changed
    "##);
    let mut unmarked = Raw::new("configs/\u{fc}.conf", CONFIG);
    unmarked.flags = 0;
    let mixed = with(&[unmarked, Raw::new("configs/\u{f6}.conf", CONFIG)]).bytes;
    insta::assert_snapshot!(problems(&mixed), @r##"
    accept the backup test.zip: its entry configs/ü.conf has a name beyond ASCII that is not marked as UTF-8, as another's is
      two tools packed it, and one does not say how names are written; unpack it into an empty folder, and pack it again from inside: cd FOLDER && zip -r ../again.zip .; or choose another backup (`holdfast backups`); nothing was changed
    "##);
    let mut odd = Raw::new("configs/b.conf", CONFIG);
    odd.method = 14;
    insta::assert_snapshot!(problems(&with(&[odd]).bytes), @r##"
    accept the backup test.zip: its entry configs/b.conf is packed with method 14, and only stored and deflated are known
      unpack it into an empty folder, and pack it again from inside: cd FOLDER && zip -r ../again.zip .; or choose another backup (`holdfast backups`); nothing was changed
    "##);
    insta::assert_snapshot!(problems(&with(&[Raw::new("configs/._a.conf", b"x")]).bytes), @r##"
    accept the backup test.zip: its metadata do not list its entry configs/._a.conf
      the archive was repacked or changed. If you trust it, copy it and remove the extra entry: `zip -d COPY configs/._a.conf` (a Mac adds entries like '*/._*'); or choose another backup (`holdfast backups`); nothing was changed
    "##);
}
