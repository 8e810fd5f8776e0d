//! A restore whose journal is not where the profile says, and two profiles of one gateway: nobody takes a gateway that is half
//! restored for one that is idle, and nobody restores over another's restore.
use super::*;
use fixtures::Finished;
use nix::sys::signal::{Signal, kill};

/// What would go on over it, and how each of them ends.
const GOES_ON: [(&[&str], i32); 7] = [
    (&["recover"], 5),
    (&["work", "boot-before-network"], 5),
    (&["work", "boot"], 5),
    (&["backup"], 6),
    (&["survey"], 6),
    (&["secure"], 6),
    (&["boot-units", "--init", "--output", "/run/units"], 6),
];

/// `holdfast` by this profile.
fn by(two: &TwoStates, profile: &Path, words: &[&str]) -> Finished {
    let holdfast = program("holdfast").unwrap();
    let argv = [&[path(&holdfast), "--config", path(profile)], words].concat();
    two.sandbox().run(&argv).unwrap()
}

/// A place that is no part of the gateway.
fn beside(two: &TwoStates, name: &str) -> PathBuf {
    let folder = two.backups[0].parent().and_then(Path::parent);
    folder.unwrap().join(name)
}

/// Another profile of the same gateway, with a `state_dir` of its own.
fn another(two: &TwoStates) -> PathBuf {
    let own = two.sample().profile();
    let state_dir = two.sample().state_dir();
    let other = beside(two, "another");
    let text = std::fs::read_to_string(&own).unwrap();
    let changed = text.replace(path(&state_dir), path(&other));
    assert_ne!(text, changed);
    let profile = beside(two, "another.toml");
    std::fs::write(&profile, changed).unwrap();
    profile
}

/// Nobody goes on, and who asks is told of it.
fn is_lost(two: &TwoStates, profile: &Path, id: &RestoreId) {
    let status = by(two, profile, &["status"]);
    assert_eq!(status.code(), 5, "{status}");
    let folder = two.sample().configs_dir().join(format!(".holdfast-{id}"));
    for words in [
        "lost: restore",
        "cannot tell how the gateway stands",
        id.as_str(),
        path(&folder),
        "Forwarded traffic of the tunnels",
        "run `holdfast recover`",
        "`nft delete table inet holdfast`",
    ] {
        assert!(status.stdout.contains(words), "{words}: {status}");
    }
    assert!(!status.stdout.contains("idle"), "{status}");
    let json = by(two, profile, &["--json", "status"]);
    assert!(json.stdout.contains("\"status\":\"lost\""), "{json}");
    let other = two.other();
    let restore = ["restore", &other, "--yes"];
    for (words, code) in GOES_ON.into_iter().chain([(&restore[..], 6)]) {
        let ended = by(two, profile, words);
        assert_eq!(ended.code(), code, "{words:?}: {ended}");
        let said = match words {
            ["work", stage] => by(two, profile, &["work", stage, "--said"]),
            _ => ended,
        };
        assert!(said.stderr.contains(id.as_str()), "{words:?}: {said}");
    }
}

#[test]
fn a_restore_whose_state_dir_is_gone_is_never_taken_for_idle() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    killed_in(&two, "swap-configs");
    let id = two.fresh(&began).unwrap();
    let own = two.sample().profile();
    let state_dir = two.sample().state_dir();
    let away = beside(&two, "away");
    std::fs::rename(&state_dir, &away).unwrap();
    is_lost(&two, &own, &id);
    let _ = std::fs::remove_dir_all(&state_dir);
    std::fs::rename(&away, &state_dir).unwrap();

    // The profile names another one, which is there.
    let another = another(&two);
    is_lost(&two, &another, &id);

    let recovered = two.holdfast(&["recover"]);
    two.is_settled(&began, &recovered, "it is back").unwrap();
    // What a restore that is over left is no trace of one that is lost, and what another left is one without a fence, too.
    let staging = |id: &str| two.sample().configs_dir().join(format!(".holdfast-{id}"));
    std::fs::create_dir(staging(id.as_str())).unwrap();
    let status = two.holdfast(&["status"]);
    assert!(status.stdout.contains("idle"), "{status}");
    std::fs::create_dir(staging("20261122T185220Z-0a1b2c3d")).unwrap();
    let status = two.holdfast(&["status"]);
    assert!(status.stdout.contains("20261122T185220Z"), "{status}");
    assert!(status.stdout.contains("No traffic is blocked"), "{status}");
}

#[test]
fn a_restore_that_is_lost_for_good_is_left_by_the_commands_that_the_message_names() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    killed_in(&two, "swap-configs");
    let state_dir = two.sample().state_dir();
    std::fs::remove_dir_all(&state_dir).unwrap();
    let told = two.holdfast(&["recover"]);
    assert_eq!(told.code(), 5, "{told}");
    // No boot unit starts the gateway meanwhile.
    let held = two.sandbox().inside(engine::state_dir::barrier::LOST);
    assert!(held.exists());
    let (_, last_exit) = told.stderr.split_once("lost for good").unwrap();
    // One command to a step.
    let steps = last_exit.lines().skip(1).zip(1..);
    let numbered = |(line, n): &(&str, usize)| line.starts_with(&format!("    {n}. "));
    let steps = steps.take_while(numbered);
    let commands: Vec<&str> = steps
        .filter_map(|(line, _)| line.split('`').nth(1))
        .collect();
    let [copy, remove, lift, restore, start, once_more] = commands.as_slice() else {
        panic!("{told}");
    };
    let kept = beside(&two, "kept");
    for command in [copy, remove, lift] {
        let command = command.replace("/root/holdfast-found", path(&kept));
        let ran = two.sandbox().run(&["bash", "-c", &command]).unwrap();
        ran.ok().unwrap();
    }
    assert!(kept.is_dir());
    assert_eq!(*restore, "holdfast restore /PATH/TO/BACKUP.zip --yes");
    let other = two.other();
    let restored = two.holdfast(&["restore", &other, "--yes"]);
    restored.ok().unwrap();
    let started = two.sandbox().run(&["bash", "-c", start]).unwrap();
    started.ok().unwrap();
    assert_eq!(once_more, restore);
    two.holdfast(&["restore", &other, "--yes"]).ok().unwrap();
    two.at = 1 - two.at;
    let now = Picture::take(two.sandbox()).unwrap();
    assert_eq!(two.before().diff(&now), Vec::<String>::new());
    assert!(!held.exists());
    let status = two.holdfast(&["status"]);
    assert!(status.stdout.contains("idle"), "{status}");
}

#[test]
fn of_a_restore_whose_journal_was_moved_away_the_message_names_its_safety_backup_and_asks_for_no_disk()
 {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let journal = killed_in(&two, "swap-configs");
    let made = std::fs::read_to_string(journal.with_file_name("safety-backup")).unwrap();
    std::fs::rename(&journal, journal.with_extension("unusable")).unwrap();
    let told = two.holdfast(&["recover"]);
    assert_eq!(told.code(), 5, "{told}");
    let barrier = two.sample().state_dir().join("open");
    let advised = format!("`rm -f {}`, then `holdfast recover`", path(&barrier));
    assert!(told.stderr.contains(&advised), "{told}");
    std::fs::remove_file(&barrier).unwrap();
    let told = two.holdfast(&["recover"]);
    assert_eq!(told.code(), 5, "{told}");
    let status = two.holdfast(&["status"]);
    for all in [told.stderr.clone(), status.stdout.clone()] {
        let restore = format!("`holdfast restore {made} --yes`");
        for words in [restore.as_str(), path(&journal), "somebody moved it away"] {
            assert!(all.contains(words), "{words}: {all}");
        }
        assert!(!all.contains("ount the disk"), "{all}");
    }
    // A sound copy of it is what leads on.
    std::fs::rename(journal.with_extension("unusable"), &journal).unwrap();
    let recovered = two.holdfast(&["recover", "--roll-back"]);
    assert_eq!(recovered.code(), 4, "{recovered}");
}

#[test]
fn two_profiles_of_one_gateway_keep_each_other_out() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let another = another(&two);
    let began = two.restores();
    let mut restore = start(&two);
    while !journal_so_far(&two, &began).contains(&intent("swap-databases")) {
        assert!(!restore.has_ended().unwrap(), "it ended");
        std::thread::sleep(Duration::from_micros(500));
    }
    let worker = restore.worker().unwrap().unwrap();
    kill(worker, Signal::SIGSTOP).unwrap();
    let stood = journal_so_far(&two, &began);
    let other = two.other();
    let state_dir = two.sample().state_dir();
    let who = format!("by the profile whose state_dir is {}", path(&state_dir));
    // The first finds no state_dir of its own yet.
    for words in [
        &["recover"][..],
        &["restore", &other, "--yes"],
        &["backup"],
        &["recover"],
    ] {
        let busy = by(&two, &another, words);
        assert_eq!(busy.code(), 6, "{words:?}: {busy}");
        for words in ["a restore runs, process ", &who] {
            assert!(busy.stderr.contains(words), "{words}: {busy}");
        }
    }
    let status = by(&two, &another, &["status"]);
    assert!(
        status.stdout.starts_with("busy: a restore runs"),
        "{status}"
    );
    assert!(status.stdout.contains(&who), "{status}");
    // Whoever asks is told that it does nothing, and how it goes on.
    let own = two.holdfast(&["status"]);
    for words in [
        "running: restore",
        "somebody has stopped it",
        "`kill -CONT ",
    ] {
        assert!(own.stdout.contains(words), "{words}: {own}");
    }
    assert_eq!(journal_so_far(&two, &began), stood);

    // Nobody works on it any more: what it left says that it is open.
    assert!(restore.kill_worker().unwrap());
    restore.wait().unwrap();
    let id = two.fresh(&began).unwrap();
    is_lost(&two, &another, &id);
    let recovered = two.holdfast(&["recover"]);
    assert!(two.is_settled(&began, &recovered, "two profiles").is_some());
}
