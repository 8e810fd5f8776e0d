//! The last exit: the operator ends a restore where it stands.
use super::*;
use crate::crash::crash;

fn ends_here(two: &TwoStates, journal: &Path) {
    assert_eq!(state(journal).verdict(), Some(Verdict::Left));
    assert!(!two.sample().state_dir().join("open").exists());
    let table = two
        .sandbox()
        .run(&["nft", "list", "table", "inet", "holdfast"])
        .unwrap();
    assert!(!table.stdout.contains("drop"), "{table}");
    let again = two.holdfast(&["recover"]);
    assert!(
        again.code() == 0 && again.stdout.contains("nothing to do"),
        "{again}"
    );
}

/// Whoever asks is told what is in place and what is down, as long as it is so.
fn still_differs(two: &TwoStates, step: &str) {
    let status = two.holdfast(&["status"]);
    if step == "stop-services" && status.code() == 0 {
        // It was killed before it had stopped anything.
        return;
    }
    assert_eq!(status.code(), 7, "{step}: {status}");
    for words in [
        "left: restore ",
        "was left as it is by an operator",
        "the service sample-gateway does not run",
    ] {
        assert!(status.stdout.contains(words), "{step}, {words}: {status}");
    }
    let starts = ["sample-gateway-service start ", "that restore also starts"];
    assert!(
        starts.iter().any(|words| status.stdout.contains(words)),
        "{step}: {status}"
    );
    let json = two.holdfast(&["--json", "status"]);
    assert!(json.stdout.contains("\"status\":\"left\""), "{json}");
}

#[test]
fn of_what_was_left_half_exchanged_it_is_said_that_it_is_not_of_one_set_and_what_leads_back() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let dry = crash(&two, "never", &["restore", &two.other()])
        .ok()
        .unwrap();
    let mine = two.backups[two.at].display().to_string();
    two.holdfast(&["restore", &mine, "--yes"]).ok().unwrap();
    let effects: Vec<&str> = dry.stdout.lines().collect();
    let last = effects.iter().rposition(|effect| *effect == "exchange");
    // Effects count from 1: right before the last exchange.
    let moment = format!("before:{}", last.unwrap() + 1);
    crash(&two, &moment, &["restore", &two.other()]);
    let left = two.holdfast(&["recover", "--leave-as-it-is", "--yes"]);
    assert_eq!(left.code(), 0, "{left}");
    let status = two.holdfast(&["status"]).stdout;
    // Whoever follows it from the top starts nothing over the rules of two sets.
    let restore = status
        .find("what to do:  run `holdfast restore ")
        .expect(&status);
    let start = status.find("that restore also starts sample-gateway again");
    assert!(restore < start.expect(&status), "{status}");
    let said = "the restore of the safety backup starts it";
    assert!(left.to_string().contains(said), "{left}");
    for told in [left.stderr, status] {
        assert!(told.contains("some files and databases are old"), "{told}");
        assert!(told.contains("are then as before the restore"), "{told}");
    }
    // A later restore that changes nothing leads to the same.
    let staging = effects.iter().position(|effect| *effect == "exchange");
    let moment = format!("before:{}", staging.unwrap() + 1);
    crash(&two, &moment, &["restore", &two.other()]);
    let closed = two.holdfast(&["recover"]);
    assert_eq!(closed.code(), 4, "{closed}");
    let status = two.holdfast(&["status"]);
    assert_eq!(status.code(), 7, "{status}");
    assert!(
        status.stdout.contains("some files and databases are old"),
        "{status}"
    );
}

#[test]
fn what_was_left_as_it_is_is_done_with_once_nothing_differs_any_more() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    killed_in(&two, "settle-databases");
    let left = two.holdfast(&["recover", "--leave-as-it-is", "--yes"]);
    assert_eq!(left.code(), 0, "{left}");
    assert!(
        left.stderr.contains("was left as it is by an operator"),
        "{left}"
    );
    still_differs(&two, "settle-databases");
    let again = two.holdfast(&["recover"]);
    assert!(
        again.stderr.contains("was left as it is by an operator"),
        "{again}"
    );
    let service = program("sample-gateway-service").unwrap();
    let root = two.sample().root().to_owned();
    let start = [path(&service), "start", path(&root)];
    two.sandbox().run(&start).unwrap().ok().unwrap();
    let status = two.holdfast(&["status"]);
    assert_eq!(status.code(), 0, "{status}");
    assert!(status.stdout.starts_with("idle"), "{status}");
}

#[test]
fn wherever_a_restore_stands_the_operator_can_end_it_and_no_original_is_lost() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    for step in [
        "stop-services",
        "reset-rules",
        "swap-databases",
        "swap-configs",
        "tunnels-up",
    ] {
        let old = originals(&two);
        let journal = killed_in(&two, step);
        let before = std::fs::read(&journal).unwrap();
        let asked = two.holdfast(&["recover", "--leave-as-it-is"]);
        assert_eq!(asked.code(), 3, "{step}: {asked}");
        assert!(asked.stderr.contains("will end where it stands"), "{asked}");
        let stopped = asked.stderr.contains("sample-gateway does not run");
        assert!(stopped || step == "stop-services", "{asked}");
        assert_eq!(std::fs::read(&journal).unwrap(), before, "{step}");

        let left = two.holdfast(&["recover", "--leave-as-it-is", "--yes"]);
        assert_eq!(left.code(), 0, "{step}: {left}");
        assert!(left.stdout.contains("Left as it is"), "{left}");
        ends_here(&two, &journal);
        still_differs(&two, step);
        let kept = journal.parent().unwrap().join("originals");
        for (path, bytes) in old {
            let there = |at: PathBuf| std::fs::read(at).is_ok_and(|now| now == bytes);
            let kept = kept.join(path.strip_prefix("/").unwrap());
            assert!(
                there(path.clone()) || there(kept),
                "{step}: {} is nowhere",
                path.display()
            );
        }
        // A backup brings back what was, and its restore starts what the last one stopped.
        let of_before = two.backups[two.at].display().to_string();
        let back = two.holdfast(&["restore", &of_before, "--yes"]);
        assert_eq!(back.code(), 0, "{step}: {back}");
        let diff = two.before().diff(&Picture::take(two.sandbox()).unwrap());
        assert!(diff.is_empty(), "{step}: {}", diff.join("\n"));
        // Another restore is the end of it.
        let status = two.holdfast(&["status"]);
        assert_eq!(status.code(), 0, "{step}: {status}");
        assert!(status.stdout.starts_with("idle"), "{step}: {status}");
    }
}

/// The bytes of every config and database of the gateway.
fn originals(two: &TwoStates) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut dirs = vec![two.sample().root().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let is = |end: &str| path.extension().is_some_and(|e| e == end);
            if path.is_dir() && path != two.sample().state_dir() {
                dirs.push(path);
            } else if is("conf") {
                all.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    assert!(all.len() > 5);
    all
}

#[test]
fn there_is_nothing_to_leave_where_no_restore_is_open_or_nothing_was_changed() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let none = two.holdfast(&["recover", "--leave-as-it-is", "--yes"]);
    assert_eq!(none.code(), 3, "{none}");
    assert!(none.stderr.contains("no restore is open"), "{none}");
    let journal = killed_in(&two, "safety-backup");
    let refused = two.holdfast(&["recover", "--leave-as-it-is", "--yes"]);
    assert_eq!(refused.code(), 5, "{refused}");
    assert!(
        refused
            .stderr
            .contains("run `holdfast recover`, which closes it"),
        "{refused}"
    );
    assert_eq!(two.holdfast(&["recover"]).code(), 4);
    assert_eq!(state(&journal).verdict(), Some(Verdict::NothingChanged));
}

#[test]
fn a_restore_that_was_given_up_leaves_its_safety_backup_only_where_somebody_pinned_it() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    for pinned in [false, true] {
        let journal = killed_in(&two, "stage");
        let made = std::fs::read_to_string(journal.with_file_name("safety-backup")).unwrap();
        assert!(Path::new(&made).exists(), "{made}");
        if pinned {
            two.holdfast(&["pin", &made]).ok().unwrap();
        }
        assert_eq!(two.holdfast(&["recover"]).code(), 4);
        assert_eq!(state(&journal).verdict(), Some(Verdict::NothingChanged));
        assert_eq!(Path::new(&made).exists(), pinned, "{made}");
    }
}
