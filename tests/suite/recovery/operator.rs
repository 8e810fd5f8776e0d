//! What the operator meets: a restore that is stuck, recoveries that die again and again, what is told while one runs, and at
//! login.
use super::*;

#[test]
fn a_service_that_cannot_be_started_again_is_all_that_a_rollback_lacks_and_it_says_so() {
    a_service_lacks(false);
}

#[test]
fn what_a_rollback_lacks_a_recovery_tries_again_until_it_works() {
    a_service_lacks(true);
}

/// The four lines of a gateway that lacks its service.
fn says_what_lacks(status: &fixtures::Finished) {
    let lines: Vec<&str> = status.stdout.lines().collect();
    let said = [
        "lacking: restore ",
        "in place:    files and databases are as before the restore",
        "now:         the service sample-gateway is down, since ",
        "in the way:  restore ",
        "what to do:  see why in the log of sample-gateway (its `start` command says where that is), then start it: ",
    ];
    for (line, said) in lines.iter().zip(said) {
        assert!(line.starts_with(said), "{said}: {status}");
    }
}

fn a_service_lacks(by_recovery: bool) {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    // The new state's service does not come up, and neither does the old one's when it goes back.
    two.sample()
        .misbehave(Misbehaviour::FailStart { times: None })
        .unwrap();
    let began = two.restores();
    let back = two.holdfast(&["restore", &two.other(), "--yes"]);
    assert_eq!(back.code(), 4, "{back}");
    assert_eq!(
        back.stdout.lines().last().unwrap(),
        "Rolled back: the gateway is as it was before, but what ran then does not run now: sample-gateway."
    );
    let note = back
        .stdout
        .lines()
        .find(|l| l.contains("though it ran before"));
    let service = program("sample-gateway-service").unwrap();
    let start = format!("{} start {}", path(&service), path(two.sample().root()));
    let said = format!(
        "does not work: sample-gateway does not run, though it ran before: its start failed: exit \
         status 1: the sample gateway was told not to start; \
         what to do: see why in the log of sample-gateway (its `start` command says where that is), then start it: {start}"
    );
    assert_eq!(note.unwrap().trim(), said);
    let verdict = state(&two.journal(&two.fresh(&began).unwrap())).verdict();
    assert_eq!(verdict, Some(Verdict::RolledBack));
    assert!(!two.sample().state_dir().join("open").exists());
    // Whoever asks is told; nothing waits for the operator, and another restore may begin.
    let status = two.holdfast(&["status"]);
    assert_eq!(status.code(), 7, "{status}");
    says_what_lacks(&status);
    // A recovery tries it again, as often as it is asked to, and says what does not work still.
    let active = start.replace(" start ", " active ");
    let runs = || {
        two.sandbox()
            .run(&active.split(' ').collect::<Vec<_>>())
            .unwrap()
            .ok()
            .is_ok()
    };
    for _ in 0..2 {
        let recovered = two.holdfast(&["recover"]);
        assert_eq!(recovered.code(), 4, "{recovered}");
        assert!(
            recovered.stdout.contains("still does not work"),
            "{recovered}"
        );
        assert!(recovered.stderr.contains(&said), "{recovered}");
    }

    // What the note says to do leads out, and so does a recovery once the cause is gone.
    two.sample().behave().unwrap();
    if !by_recovery {
        let started = two.sandbox().run(&start.split(' ').collect::<Vec<_>>());
        started.unwrap().ok().unwrap();
    }
    let status = two.holdfast(&["status"]);
    assert_eq!(status.code(), if by_recovery { 7 } else { 0 }, "{status}");
    let recovered = two.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 0, "{recovered}");
    assert!(
        recovered.stdout.contains("what it lacked works now"),
        "{recovered}"
    );
    assert!(runs());
    let recovered = two.holdfast(&["recover"]);
    assert!(recovered.stdout.contains("nothing to do"), "{recovered}");
    let status = two.holdfast(&["status"]);
    assert!(
        !status.stdout.contains("sample-gateway does not run"),
        "{status}"
    );
    let now = Picture::take(two.sandbox()).unwrap();
    let diff = two.before().diff(&now);
    assert!(diff.is_empty(), "{}", diff.join("\n"));
}

#[test]
fn what_a_recovery_that_was_cut_off_behind_the_start_of_a_service_left_is_put_right_by_the_next() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    two.sample()
        .misbehave(Misbehaviour::FailStart { times: None })
        .unwrap();
    let began = two.restores();
    assert_eq!(two.holdfast(&["restore", &two.other(), "--yes"]).code(), 4);
    let journal = two.journal(&two.fresh(&began).unwrap());
    two.sample().behave().unwrap();
    assert_eq!(two.holdfast(&["recover"]).code(), 0);
    // As if it had died right behind the start, which had taken a tunnel down.
    let bytes = std::fs::read(&journal).unwrap();
    let done = b"\"done\":{\"move\":{\"step\":\"start-services\",\"direction\":\"back\"";
    let at = bytes.windows(done.len()).rposition(|w| w == done).unwrap();
    let end = bytes[at..].iter().position(|b| *b == b'\n').unwrap();
    std::fs::write(&journal, &bytes[..=at + end]).unwrap();
    let tunnel = two.sample().active().unwrap().remove(0);
    let config = two.sample().config(&tunnel);
    let down = two.sandbox().run(&["wg-quick", "down", path(&config)]);
    down.unwrap().ok().unwrap();

    let status = two.holdfast(&["status"]);
    assert_eq!(status.code(), 7, "{status}");
    assert!(status.stdout.contains("was cut off"), "{status}");
    let recovered = two.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 0, "{recovered}");
    assert_eq!(two.holdfast(&["status"]).code(), 0);
    let now = Picture::take(two.sandbox()).unwrap();
    let diff = two.before().diff(&now);
    assert!(diff.is_empty(), "{}", diff.join("\n"));
}

#[test]
fn recoveries_that_die_again_and_again_end_with_the_operator() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let mut began = two.restores();
    // Whether all is in place by then or not.
    let profile = two.sample().profile();
    let text = std::fs::read_to_string(&profile).unwrap();
    std::fs::write(
        &profile,
        format!("{text}\n[recovery]\npolicy = \"roll-back\"\n"),
    )
    .unwrap();
    let mut journal = killed_in(&two, "swap-databases");
    let stops = |journal: &Path| {
        let text = String::from_utf8_lossy(&std::fs::read(journal).unwrap()).into_owned();
        let begun = "\"intent\":{\"move\":{\"step\":\"stop-services\",\"direction\":\"back\"";
        text.matches(begun).count()
    };
    let mut deaths = 0;
    let stuck = loop {
        let program = program("holdfast").unwrap();
        let profile = two.sample().profile();
        let argv = [
            program.to_str().unwrap(),
            "--config",
            profile.to_str().unwrap(),
            "work",
            "boot",
        ];
        let before = stops(&journal);
        let mut recovery = two.sandbox().spawn(&argv).unwrap();
        while stops(&journal) == before && !recovery.has_ended().unwrap() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let killed = recovery.kill9().unwrap();
        let ended = recovery.wait().unwrap();
        // On a machine that is busy the kill may come when all is done: then once more from the beginning.
        if !killed && ended.code() == 4 {
            began = two.restores();
            journal = killed_in(&two, "swap-databases");
        } else if !killed {
            break ended;
        }
        deaths += 1;
        assert!(deaths < 50);
    };
    assert_eq!(stuck.code(), 5, "{stuck}");
    assert!(state(&journal).stuck.is_some());
    std::fs::write(two.sample().profile(), text).unwrap();
    let by_hand = two.holdfast(&["recover"]);
    two.is_settled(&began, &by_hand, "by hand");
}

#[test]
fn while_a_restore_runs_a_second_one_a_recovery_and_a_backup_are_told_busy() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    let mut restore = start(&two);
    wait_for(&mut restore, &intent("stop-services"));
    for argv in [
        &["restore", &two.other(), "--yes", "--json"][..],
        &["recover", "--json"],
        &["backup", "--json"],
    ] {
        let busy = two.holdfast(argv);
        assert_eq!(busy.code(), 6, "{busy}");
        assert_eq!(codes(&busy), ["busy"]);
    }
    let done = restore.wait().unwrap();
    assert_eq!(done.code(), 0, "{done}");
    two.is_settled(&began, &done, "busy");
}

#[test]
fn who_asks_is_told_where_a_recovery_leads_and_it_leads_there() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    for (step, leads, code) in [
        ("stage", "which closes the restore: nothing was changed", 4),
        ("swap-databases", "which rolls back", 4),
        ("verify-at-rest", "which completes the restore", 0),
    ] {
        let began = two.restores();
        killed_in(&two, step);
        let status = two.holdfast(&["status"]);
        let said = format!("run `holdfast recover`, {leads}");
        assert!(status.stdout.contains(&said), "{step}: {status}");
        let recovered = two.holdfast(&["recover"]);
        assert_eq!(recovered.code(), code, "{step}: {recovered}");
        two.is_settled(&began, &recovered, step);
    }
}

/// Begins a rollback, and kills what works at its first step.
fn kill_a_rollback(two: &TwoStates, began: &BTreeSet<RestoreId>) -> fixtures::Finished {
    let began_back = "\"step\":\"stop-services\",\"direction\":\"back\"";
    let holdfast = program("holdfast").unwrap();
    let profile = two.sample().profile();
    let argv = [
        path(&holdfast),
        "--config",
        path(&profile),
        "recover",
        "--roll-back",
    ];
    let mut back = two.sandbox().spawn(&argv).unwrap();
    while !journal_so_far(two, began).contains(began_back) {
        assert!(!back.has_ended().unwrap(), "it ended");
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(back.kill_worker().unwrap());
    back.wait().unwrap()
}

#[test]
fn a_direction_that_has_no_effect_any_more_and_a_marker_that_is_gone_are_told() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    killed_in(&two, "swap-configs");
    let barrier = two.sample().state_dir().join("open");
    let text = std::fs::read(&barrier).unwrap();
    std::fs::remove_file(&barrier).unwrap();
    let status = two.holdfast(&["status"]);
    let gone = format!(
        "Somebody removed or changed its restore marker {}",
        path(&barrier)
    );
    assert!(status.stdout.contains(&gone), "{status}");
    std::fs::write(&barrier, text).unwrap();
    // A rollback is cut off.
    kill_a_rollback(&two, &began);
    let recovered = two.holdfast(&["recover", "--resume"]);
    assert!(
        recovered.stderr.contains("--resume has no effect"),
        "{recovered}"
    );
    assert!(
        recovered.stderr.contains("it rolls back already"),
        "{recovered}"
    );
    assert_eq!(recovered.code(), 4, "{recovered}");
    two.is_settled(&began, &recovered, "on the way back");
    // What is followed to its end says how the gateway stands then.
    let id = two.fresh(&began).unwrap();
    let followed = two.holdfast(&["journal", "follow", id.as_str()]);
    let end = "\nRolled back: the gateway is as it was before.\nin place:    files and databases";
    assert!(followed.stdout.contains(end), "{followed}");
}

#[test]
fn without_its_marker_a_restore_asks_for_a_direction_only_where_two_are_open() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let barrier = two.sample().state_dir().join("open");
    let began = two.restores();
    killed_in(&two, "swap-configs");
    let back = kill_a_rollback(&two, &began);
    assert_eq!(back.code(), 5, "{back}");
    std::fs::remove_file(&barrier).unwrap();
    // A boot may have started the gateway meanwhile: nothing goes on by itself.
    let at_boot = two.holdfast(&["work", "boot"]);
    assert_eq!(at_boot.code(), 5, "{at_boot}");
    let at_boot = two.holdfast(&["work", "boot", "--said"]);
    let only = "run `holdfast recover`: it can only roll back";
    assert!(at_boot.stderr.contains(only), "{at_boot}");
    let status = two.holdfast(&["status"]);
    for words in [
        "Somebody removed or changed its restore marker",
        ", so no recovery starts by itself",
        "run `holdfast recover`, which rolls back",
    ] {
        assert!(status.stdout.contains(words), "{words}: {status}");
    }
    let recovered = two.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 4, "{recovered}");
    two.is_settled(&began, &recovered, "rolling back without a marker");

    // Behind the commit only the clean-up is left, and a boot goes on with it.
    let began = two.restores();
    killed_in(&two, "clean-up");
    std::fs::remove_file(&barrier).unwrap();
    let status = two.holdfast(&["status"]);
    assert!(!status.stdout.contains("marker"), "{status}");
    let at_boot = two.holdfast(&["work", "boot"]);
    assert_eq!(at_boot.code(), 0, "{at_boot}");
    assert!(!barrier.exists());
    two.is_settled(&began, &at_boot, "committed without a marker");
}

#[test]
fn at_login_a_gateway_that_is_held_back_is_told_and_one_that_is_not_is_passed_over() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let holdfast = program("holdfast").unwrap();
    let profile = gateway.sample().profile();
    let text = format!(
        "#!/bin/sh\nexec {} --config {} \"$@\"\n",
        holdfast.display(),
        profile.display()
    );
    stand_in(&gateway, "holdfast", &text);
    let login = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/login");
    let said = || gateway.run(&["sh", login]);
    assert_eq!(said(), "", "no backup yet");
    let backup = gateway.backup();
    assert_eq!(said(), "", "a backup lies there");
    let mut restore = gateway.begin(&["restore", path(&backup), "--yes"]);
    assert!(gateway.barrier_is_up(&mut restore));
    restore.kill_worker().unwrap();
    restore.wait().unwrap();
    let told = said();
    assert!(told.contains("in the way:  restore "), "{told}");
    assert!(told.contains("`holdfast recover`"), "{told}");
    let lines = told.lines().filter(|line| !line.is_empty());
    assert_eq!(lines.count(), 5, "four below their heading: {told}");
    gateway.holdfast(&["recover"]);
    assert_eq!(said(), "", "it is settled");
}

#[test]
fn a_state_folder_that_cannot_be_used_is_a_refusal_that_says_so() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let dir = two.sample().state_dir();
    let dir = dir.to_str().unwrap();
    let inside = |script: &str| {
        drop(
            two.sandbox()
                .run(&["bash", "-c", script])
                .unwrap()
                .ok()
                .unwrap(),
        )
    };
    inside(&format!(
        "mount --bind {dir} {dir} && mount -o remount,bind,ro {dir}"
    ));
    for argv in [
        &["restore", &two.other(), "--yes", "--json"][..],
        &["recover", "--json"],
        &["backup", "--json"],
    ] {
        let refused = two.holdfast(argv);
        assert!(matches!(refused.code(), 1 | 3 | 5), "{refused}");
        assert_eq!(codes(&refused), ["read-only"]);
        assert!(refused.stdout.contains(dir), "{refused}");
    }
    inside(&format!("umount {dir} && chmod 755 {dir}"));
    let refused = two.holdfast(&["restore", &two.other(), "--yes", "--json"]);
    assert!(matches!(refused.code(), 1 | 3), "{refused}");
    assert_eq!(codes(&refused), ["open-to-others"]);
    inside(&format!("chmod 700 {dir} && mv {dir} {dir}.away"));
    let idle = two.holdfast(&["recover"]);
    assert_eq!(idle.code(), 0, "{idle}");
    let now = Picture::take(two.sandbox()).unwrap();
    let moved = |name: &str| name.contains("state.away");
    assert_eq!(two.before().diff(&now.without(moved)), Vec::<String>::new());
}
