//! What an editor, of whatever kind, leaves in the place of a file while a restore is under way: the way back puts the original
//! there, and keeps what it found.

use super::*;
use crate::crash::crash;

/// What lies in a folder of the newest restore under this path, read with links followed by nobody.
fn kept(two: &TwoStates, began: &BTreeSet<RestoreId>, path: &Path) -> PathBuf {
    let id = two.fresh(began).unwrap();
    let dir = two.journal(&id).parent().unwrap().to_owned();
    dir.join("found").join(path.strip_prefix("/").unwrap())
}

/// The moment right before an effect of this name: the first, or right behind the last one's outcome.
fn moments(two: &TwoStates) -> (String, String) {
    let dry = crash(two, "never", &["restore", &two.other()])
        .ok()
        .unwrap();
    let mine = two.backups[two.at].display().to_string();
    two.holdfast(&["restore", &mine, "--yes"]).ok().unwrap();
    let effects: Vec<&str> = dry.stdout.lines().collect();
    let first = effects.iter().position(|e| *e == "exchange").unwrap();
    let last = effects.iter().rposition(|e| *e == "exchange").unwrap();
    // Effects count from 1.
    (
        format!("before:{}", first + 1),
        format!("before:{}", last + 2),
    )
}

/// What each editor runs, and a command that says whether what it left lies there.
fn editors(path: &str) -> [(&'static str, String, &'static str); 6] {
    [
        (
            "a file renamed over it",
            format!("sed -i '$a # edited' {path}"),
            "grep -q '# edited'",
        ),
        (
            "the file written in place",
            format!("echo '# edited' >> {path}"),
            "grep -q '# edited'",
        ),
        (
            "a link in its place",
            format!("ln -sfn /etc/hostname {path}"),
            "test -L",
        ),
        (
            "a folder in its place",
            format!("rm {path} && mkdir {path} && touch {path}/inside"),
            "test -d",
        ),
        (
            "a pipe in its place",
            format!("rm {path} && mkfifo {path}"),
            "test -p",
        ),
        ("nothing in its place", format!("rm {path}"), "test ! -e"),
    ]
}

#[test]
fn whatever_lies_in_the_place_of_a_file_the_way_back_puts_the_original_there_and_keeps_what_it_found()
 {
    found_is_kept(false);
}

#[test]
fn across_mounts_of_one_filesystem_the_way_back_keeps_what_it_found_too() {
    found_is_kept(true);
}

fn found_is_kept(mounted: bool) {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    if mounted {
        let folder = two.sample().wireguard_dir();
        let bind = ["mount", "--bind", path(&folder), path(&folder)];
        two.sandbox().run(&bind).unwrap().ok().unwrap();
    }
    let (_, exchanged) = moments(&two);
    let name = two.sample().active().unwrap().remove(0);
    let config = two.sample().config(&name);
    for (what, edit, is_it) in editors(path(&config)) {
        let began = two.restores();
        crash(&two, &exchanged, &["restore", &two.other()]);
        let edited = two.sandbox().run(&["sh", "-c", &edit]).unwrap();
        edited.ok().unwrap();
        let recovered = two.holdfast(&["recover"]);
        let mut found = kept(&two, &began, &config);
        let is_file = edit.contains("# edited");
        if mounted && !is_file && what != "nothing in its place" {
            found = config.with_extension("conf.found");
        }
        let look = format!("{is_it} {}", path(&found));
        let looked = two.sandbox().run(&["sh", "-c", &look]).unwrap();
        assert!(looked.status.success(), "{what}: {look}: {recovered}");
        if what != "nothing in its place" {
            assert!(
                recovered.stdout.contains(path(&found)),
                "{what}: {recovered}"
            );
        }
        if mounted {
            let beside = config.with_extension("conf.found");
            let clear = ["rm", "-rf", path(&beside)];
            two.sandbox().run(&clear).unwrap().ok().unwrap();
        }
        let verdict = two.is_settled(&began, &recovered, what);
        assert_eq!(verdict, Some(Verdict::RolledBack), "{what}: {recovered}");
    }
}

#[test]
fn what_an_editor_saved_before_the_exchange_stays_on_the_way_back_and_is_named() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let (not_yet, _) = moments(&two);
    let name = two.sample().active().unwrap().remove(0);
    let config = two.sample().config(&name);
    for (what, edit, is_it) in editors(path(&config)) {
        let before = std::fs::read(&config).unwrap();
        crash(&two, &not_yet, &["restore", &two.other()]);
        let edited = two.sandbox().run(&["sh", "-c", &edit]).unwrap();
        edited.ok().unwrap();
        let recovered = two.holdfast(&["recover", "--resume"]);
        assert_eq!(recovered.code(), 4, "{what}: {recovered}");
        let look = format!("{is_it} {}", path(&config));
        let looked = two.sandbox().run(&["sh", "-c", &look]).unwrap();
        assert!(looked.status.success(), "{what}: {recovered}");
        let again = two.holdfast(&["recover"]);
        assert!(again.stdout.contains("nothing to do"), "{what}: {again}");
        let clear = format!("rm -rf {}", path(&config));
        two.sandbox()
            .run(&["sh", "-c", &clear])
            .unwrap()
            .ok()
            .unwrap();
        std::fs::write(&config, &before).unwrap();
    }
}

#[test]
fn a_config_that_somebody_empties_before_the_recovery_is_named_in_the_headline_and_with_what_to_do()
{
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    killed_in(&two, "start-services");
    let name = two.sample().active().unwrap().remove(0);
    let config = two.sample().wireguard_dir().join(format!("{name}.conf"));
    let opened = std::fs::OpenOptions::new().write(true).open(&config);
    opened.unwrap().set_len(0).unwrap();
    let recovered = two.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 0, "{recovered}");
    let headline = format!(
        "Restored in part: the gateway is as the backup says, but for {}.",
        path(&config)
    );
    assert!(recovered.to_string().contains(&headline), "{recovered}");
    let advice = "changed by others while the restore ran; what to do: look at that file; to have it as \
                  the backup says, restore again";
    assert!(recovered.to_string().contains(advice), "{recovered}");
    let again = two.holdfast(&["restore", &two.other(), "--yes"]);
    assert_eq!(again.code(), 0, "{again}");
    assert!(again.stdout.contains("Restored: "), "{again}");
    assert_ne!(std::fs::metadata(&config).unwrap().len(), 0);
}
