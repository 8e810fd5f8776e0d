//! A worker whose way is not plain: a backup at a path of any bytes, a profile that is broken meanwhile, no thread to be had.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::on_a_gateway::path;
use crate::worker::{changed, with_systemd};

#[test]
fn a_backup_whose_path_is_not_utf_8_is_restored_and_a_journal_there_is_shown() {
    let Some((gateway, then, backup, _)) = changed() else {
        return;
    };
    let folder = gateway.beside("any");
    std::fs::create_dir(&folder).unwrap();
    let inside = |script: &str, words: &[&str]| {
        let line = format!("cd {}; {script}", folder.display());
        let mut argv = vec!["bash".to_owned(), "-c".into(), line, "bash".into()];
        argv.extend(gateway.argv(words));
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        gateway.sandbox.run(&argv).unwrap()
    };
    let copy = format!(
        r#"mkdir $'L\374beck'; cp {} $'L\374beck/\377.zip'; "$@" $'L\374beck/\377.zip' --yes"#,
        backup.display()
    );
    let restored = inside(&copy, &["restore"]);
    assert_eq!(restored.code(), 0, "{restored}");
    gateway.is(&then);

    let journal = gateway.restores().pop().unwrap().join("journal");
    let show = format!(r#"cp {} $'\377'; "$@" $'\377'"#, journal.display());
    for what in ["show", "verify"] {
        let said = inside(&show, &["--json", "journal", what]);
        assert_eq!(said.code(), 0, "{said}");
    }
    let made = inside(
        r#"made=$("$@" $'L\374beck') && test -s "$made""#,
        &["backup", "--output"],
    );
    assert_eq!(made.code(), 0, "{made}");
}

#[test]
fn a_worker_that_cannot_read_the_profile_any_more_says_why_nothing_began() {
    let Some((gateway, _, backup, now)) = changed() else {
        return;
    };
    // It is whole when the command reads it, and no more when its worker does.
    let broken = gateway.beside("broken.toml");
    let reads = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\necho gateway = 1 > {}\nexec \"$@\"\n",
        broken.display()
    );
    std::fs::copy(gateway.sample().profile(), &broken).unwrap();
    with_systemd(&gateway, &reads);
    let holdfast = &gateway.argv(&[])[0];
    let words = ["--config", path(&broken), "restore", path(&backup), "--yes"];
    let argv = [&[holdfast.as_str()], &words[..]].concat();
    let refused = gateway.sandbox.run(&argv).unwrap();
    gateway.run(&["rm", "-r", "/run/systemd"]);
    assert_eq!(refused.code(), 3, "{refused}");
    assert!(refused.stderr.contains("broken.toml"), "{refused}");
    gateway.is(&now);
}

#[test]
fn a_restore_goes_on_where_no_thread_is_to_be_had() {
    let Some((gateway, then, backup, _)) = changed() else {
        return;
    };
    // Stacks so large that no thread gets one.
    let without = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec env RUST_MIN_STACK=999999999999999 \"$@\"\n";
    with_systemd(&gateway, without);
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    gateway.run(&["rm", "-r", "/run/systemd"]);
    assert_eq!(done.code(), 0, "{done}");
    gateway.is(&then);
}
