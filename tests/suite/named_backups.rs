//! A backup need not be called by its path: the list names it, `latest` is the last good one, and a restore is undone with the
//! backup that it made.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::on_a_gateway::{Gateway, codes, json, path};

#[test]
fn the_latest_backup_is_restored_and_the_restore_undone_and_the_list_tells_them_apart() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let say = |words: &[&str]| {
        let done = gateway.holdfast(words).ok().unwrap();
        let said = gateway.plain(&(done.stdout + &done.stderr));
        let lines = said.lines().map(|line| match line.split_once("; ") {
            Some((told, free)) if free.ends_with("are free there") => format!("{told}; FREE\n"),
            Some(_) | None => format!("{line}\n"),
        });
        lines.collect::<String>()
    };
    insta::assert_snapshot!("none", say(&["backups"]));
    for words in [
        ["undo", "--yes", "--json"],
        ["restore", "latest", "--json"],
        ["verify", "19", "--json"],
    ] {
        let refused = gateway.holdfast(&words);
        assert_eq!(refused.status.code(), Some(3), "{refused}");
        assert!(codes(&refused)[0].starts_with("no-such-"), "{refused}");
    }
    let then = gateway.picture();
    let backup = gateway.backup();
    let client = gateway.sample().clients().unwrap().remove(0);
    for file in [
        gateway.sample().config(&client),
        gateway
            .sample()
            .configs_dir()
            .join(format!("{client}.conf")),
    ] {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("[Peer]", "# edited\n[Peer]")).unwrap();
    }
    let edited = gateway.picture();
    gateway
        .holdfast(&["restore", "latest", "--yes"])
        .ok()
        .unwrap();
    gateway.is(&then);
    insta::assert_snapshot!("two", say(&["backups"]));
    let listed = json(
        &gateway
            .holdfast(&["backups", "--json"])
            .ok()
            .unwrap()
            .stdout,
    );
    let listed = listed["backups"].as_array().unwrap().clone();
    let kinds: Vec<_> = listed.iter().map(|b| b["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["safety", "by-hand"]);
    assert_eq!(listed[1]["path"], path(&backup));
    assert_eq!(
        (&listed[0]["latest"], &listed[1]["latest"]),
        (&false.into(), &true.into())
    );
    gateway.holdfast(&["undo", "--yes"]).ok().unwrap();
    gateway.is(&edited);
    // Undone once more it is as it was restored.
    gateway.holdfast(&["undo", "--yes"]).ok().unwrap();
    gateway.is(&then);
    let id = gateway.last_restore();
    let id = id.file_name().unwrap().to_str().unwrap();
    for named in [id, &id[..id.len() - 3], "latest"] {
        let shown = say(&["journal", "show", named]);
        assert!(shown.contains("Restored"), "{shown}");
    }
    let many = gateway.holdfast(&["journal", "show", &id[..2]]);
    assert_eq!(many.status.code(), Some(1), "{many}");
    std::fs::remove_dir_all(gateway.sample().state_dir().join("backups")).unwrap();
    let gone = gateway.holdfast(&["undo", "--yes"]);
    insta::assert_snapshot!("gone", gateway.plain(&(gone.stdout + &gone.stderr)));
}
