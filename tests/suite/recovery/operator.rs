//! What the operator meets: a restore that is stuck, recoveries that die again and again, what is told while one runs, and at
//! login.
use super::*;

#[test]
fn stuck_over_a_service_keeps_the_barrier_until_the_operator_mended_it_and_lets_traffic_flow() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    let barrier = two.sample().state_dir().join("open");
    // The new state's service does not come up, and neither does the old one's when it goes back.
    two.sample()
        .misbehave(Misbehaviour::FailStart { times: None })
        .unwrap();
    let stuck = two.holdfast(&["restore", &two.other(), "--yes"]);
    assert_eq!(stuck.code(), 5, "{stuck}");
    assert!(stuck.stderr.contains("holdfast recover"), "{stuck}");
    let id = two.fresh(&began).unwrap();
    let journal = two.journal(&id);
    let look = |two: &TwoStates| {
        assert!(barrier.exists());
        let fence = two
            .sandbox()
            .run(&["nft", "list", "table", "inet", "holdfast"]);
        // Files, tunnels and rules are those of before.
        assert!(!fence.unwrap().status.success(), "the fence is closed");
        let status = two.holdfast(&["status"]);
        assert_eq!(status.code(), 0);
        for words in [id.as_str(), "Stuck", "start services", "holdfast recover"] {
            assert!(status.stdout.contains(words), "{words}: {status}");
        }
        assert!(state(&journal).stuck.is_some());
    };
    look(&two);
    for argv in [&["restore", &two.other(), "--yes"][..], &["backup"]] {
        let busy = two.holdfast(argv);
        assert_eq!(busy.code(), 6, "{busy}");
        assert!(busy.stderr.contains(id.as_str()), "{busy}");
    }
    let written = std::fs::read(&journal).unwrap();
    let at_boot = two.holdfast(&["work", "boot"]);
    assert_eq!(at_boot.code(), 5, "{at_boot}");
    assert_eq!(std::fs::read(&journal).unwrap(), written);
    // Tried anew, in bounds (I6), and stuck again.
    let by_hand = two.holdfast(&["recover"]);
    assert_eq!(by_hand.code(), 5, "{by_hand}");
    look(&two);
    let tries = by_hand.stdout.matches("start services").count();
    assert!((1..=12).contains(&tries), "{by_hand}");

    two.sample().behave().unwrap();
    let mended = two.holdfast(&["recover"]);
    assert_eq!(
        two.is_settled(&began, &mended, "mended"),
        Some(Verdict::RolledBack)
    );
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
    assert!(told.contains("the gateway is held back"), "{told}");
    assert!(told.contains("`holdfast recover`"), "{told}");
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
