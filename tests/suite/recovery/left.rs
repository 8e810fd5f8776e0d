//! The last exit: the operator ends a restore where it stands.
use super::*;

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
        // A backup brings back what was; a restore starts only what ran before it.
        let service = program("sample-gateway-service").unwrap();
        let root = two.sample().root().to_owned();
        let started = two
            .sandbox()
            .run(&[path(&service), "start", path(&root)])
            .unwrap();
        started.ok().unwrap();
        let of_before = two.backups[two.at].display().to_string();
        let back = two.holdfast(&["restore", &of_before, "--yes"]);
        assert_eq!(back.code(), 0, "{step}: {back}");
        let diff = two.before().diff(&Picture::take(two.sandbox()).unwrap());
        assert!(diff.is_empty(), "{step}: {}", diff.join("\n"));
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
