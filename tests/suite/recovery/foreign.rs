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

/// Whether a tunnel is up by its old config does not hang on what others made of that since: it goes down without it.
#[test]
fn a_config_that_others_made_something_else_of_holds_no_other_tunnel_down() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let name = two.sample().active().unwrap().remove(0);
    let config = two.sample().config(&name);
    for (what, edit, _) in editors(path(&config)) {
        let began = two.restores();
        killed_in(&two, "start-services");
        two.sandbox()
            .run(&["sh", "-c", &edit])
            .unwrap()
            .ok()
            .unwrap();
        let recovered = two.holdfast(&["recover", "--roll-back"]);
        two.is_settled(&began, &recovered, what);
    }
}

/// Whoever may write beside a database can put there what is no file of SQLite's.
#[test]
fn what_is_no_file_beside_a_database_is_moved_away_and_holds_nothing() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let database = two.sample().client_database();
    for (side, made) in [
        ("-wal", "mkdir"),
        ("-journal", "ln -s /etc/hostname"),
        ("-shm", "mkfifo"),
    ] {
        let began = two.restores();
        killed_in(&two, "tunnels-up");
        let beside = format!("{}{side}", path(&database));
        let make = format!("{made} {beside}");
        two.sandbox()
            .run(&["sh", "-c", &make])
            .unwrap()
            .ok()
            .unwrap();
        let recovered = two.holdfast(&["recover", "--roll-back"]);
        two.is_settled(&began, &recovered, &make);
        let found = kept(&two, &began, Path::new(&beside));
        assert!(found.symlink_metadata().is_ok(), "{make}: {recovered}");
    }
}

/// A disk is moved, or a tree of files is put back from a backup of the machine: other objects, and the same files.
#[test]
fn whoever_copies_the_gateways_folders_between_a_crash_and_its_recovery_finds_one_set() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let instance = two.sample().root().join("instance");
    let wireguard = two.sample().wireguard_dir();
    for (step, folders) in [
        ("tunnels-up", vec![&instance]),
        ("start-services", vec![&instance, &wireguard]),
        ("swap-configs", vec![&wireguard]),
    ] {
        let began = two.restores();
        killed_in(&two, step);
        let service = program("sample-gateway-service").unwrap();
        let root = path(two.sample().root()).to_owned();
        two.sandbox().run(&[path(&service), "stop", &root]).unwrap();
        for folder in folders {
            let folder = path(folder);
            let copy =
                format!("mv {folder} {folder}.o && cp -a {folder}.o {folder} && rm -r {folder}.o");
            two.sandbox()
                .run(&["sh", "-c", &copy])
                .unwrap()
                .ok()
                .unwrap();
        }
        let recovered = two.holdfast(&["recover", "--roll-back"]);
        two.is_settled(&began, &recovered, step);
    }
}

#[test]
fn where_the_staged_configs_are_gone_before_their_exchange_the_restore_rolls_back() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    killed_in(&two, "swap-databases");
    let gone = format!("rm -rf {}/.holdfast-*", path(&two.sample().wireguard_dir()));
    two.sandbox()
        .run(&["sh", "-c", &gone])
        .unwrap()
        .ok()
        .unwrap();
    let recovered = two.holdfast(&["recover"]);
    two.is_settled(&began, &recovered, "no staging");
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
