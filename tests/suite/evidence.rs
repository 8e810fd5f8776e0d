//! What a recovery goes by is damaged or gone: it says what to do, and fence and barrier stay; where another file lies in the place
//! of an original, it says so. And what a restore could not keep its promise on is refused before anything changes: found by
//! trying, with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use fixtures::{Finished, Picture, skip};

use crate::crash::small;
use crate::on_a_gateway::{codes, path};
use crate::recovery::killed_in;
use crate::traced;
use crate::two_states::TwoStates;

fn inside(two: &TwoStates, script: &str) {
    let done = two.sandbox().run(&["bash", "-c", script]).unwrap();
    done.ok().unwrap();
}

/// `holdfast`, whose worker is under `strace` with this option.
fn traced(two: &TwoStates, inject: &str, words: &[&str]) -> Finished {
    let options = ["-o", "/dev/null", "-e", inject];
    traced::workers(two.sandbox(), &options, || two.holdfast(words))
}

/// It asks for the operator with these words, changes nothing, and fence and barrier stay.
fn is_stuck(two: &TwoStates, what: &str, words: &[&str]) {
    let before = Picture::take(two.sandbox()).unwrap();
    for argv in [
        &["recover"][..],
        &["recover", "--resume"],
        &["recover", "--roll-back"],
    ] {
        let stuck = two.holdfast(argv);
        assert_eq!(stuck.code(), 5, "{what}: {stuck}");
        for word in words {
            assert!(stuck.stderr.contains(word), "{what}, {word}: {stuck}");
        }
    }
    let after = Picture::take(two.sandbox()).unwrap();
    assert_eq!(before.diff(&after), Vec::<String>::new(), "{what}");
    assert!(two.sample().state_dir().join("open").exists(), "{what}");
    let fence = ["nft", "list", "table", "inet", "holdfast"];
    let fence = two.sandbox().run(&fence).unwrap();
    assert!(fence.status.success(), "{what}: the fence is gone");
}

#[test]
fn kernel_facts_that_are_changed_or_gone_are_not_gone_by() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    let journal = killed_in(&two, "swap-configs");
    let facts = journal.parent().unwrap().join("before/facts.json");
    let whole = std::fs::read(&facts).unwrap();
    let mut other = whole.clone();
    other.push(b' ');
    std::fs::write(&facts, other).unwrap();
    is_stuck(&two, "changed", &["kernel facts", "Put the file back"]);
    // Who asks is told of it, and of a way that leads out, before a recovery fails.
    let status = two.holdfast(&["status"]);
    assert_eq!(status.code(), 5, "{status}");
    for words in [
        "stuck: restore",
        "kernel facts",
        "`holdfast recover --leave-as-it-is`",
        "backups/",
    ] {
        assert!(status.stdout.contains(words), "{words}: {status}");
    }
    std::fs::remove_file(&facts).unwrap();
    is_stuck(&two, "gone", &["facts.json"]);
    std::fs::write(&facts, whole).unwrap();
    let recovered = two.holdfast(&["recover"]);
    two.is_settled(&began, &recovered, "the facts are back");
}

/// A restore that died with its files exchanged, and where it put the original of one.
fn with_originals(two: &TwoStates) -> (String, PathBuf) {
    let journal = killed_in(two, "tunnels-up");
    let text = std::fs::read_to_string(&journal).unwrap();
    let plan = text.lines().nth(1).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan[65..]).unwrap();
    let files = plan["entry"]["plan"]["files"].as_array().unwrap();
    let changed = files.iter().find(|f| f["change"] == "replace").unwrap();
    let named = |key: &str| changed[key].as_str().unwrap().to_owned();
    (named("path"), PathBuf::from(named("staged")))
}

#[test]
fn an_original_that_someone_took_is_waited_for() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    let (_, original) = with_originals(&two);
    let aside = original.with_extension("aside");
    std::fs::rename(&original, &aside).unwrap();
    for argv in [&["recover", "--roll-back"][..], &["recover"]] {
        let stuck = two.holdfast(argv);
        assert_eq!(stuck.code(), 5, "{stuck}");
        assert!(stuck.stderr.contains("its original is neither"), "{stuck}");
        assert!(two.sample().state_dir().join("open").exists());
    }
    std::fs::rename(&aside, &original).unwrap();
    let recovered = two.holdfast(&["recover", "--roll-back"]);
    two.is_settled(&began, &recovered, "the original is back");
}

/// The original of a file was taken away, and this is what somebody puts in its place: how the rollback ends.
fn put_by_hand(what: impl Fn(&[u8]) -> Vec<u8>) -> Option<(String, Finished)> {
    let two = TwoStates::make(&small())?;
    let (target, original) = with_originals(&two);
    let was = std::fs::read(&original).unwrap();
    let like = path(&original).to_owned() + ".like";
    inside(&two, &format!("mv {} {like}", path(&original)));
    let stuck = two.holdfast(&["recover", "--roll-back"]);
    assert_eq!(stuck.code(), 5, "{stuck}");
    assert!(stuck.stderr.contains("install -D -o"), "{stuck}");
    inside(&two, &format!("cp -a {like} {target}.new && rm {like}"));
    std::fs::write(format!("{target}.new"), what(&was)).unwrap();
    inside(&two, &format!("mv {target}.new {target}"));
    let recovered = two.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 4, "{recovered}");
    Some((target, recovered))
}

#[test]
fn an_original_that_was_put_back_by_hand_is_as_it_was_before() {
    let Some((_, recovered)) = put_by_hand(<[u8]>::to_vec) else {
        return;
    };
    let said = "Rolled back: the gateway is as it was before.";
    assert!(recovered.stdout.contains(said), "{recovered}");
    assert!(
        !recovered.stdout.contains("original is gone"),
        "{recovered}"
    );
}

#[test]
fn what_was_put_in_the_place_of_an_original_and_is_another_is_named_by_the_verdict() {
    let other = |was: &[u8]| [was, b"# other\n"].concat();
    let Some((target, recovered)) = put_by_hand(other) else {
        return;
    };
    let verdict = format!("as it was before, but for what the warnings say of {target}.");
    let note = format!(
        "{target} is not as it was when the restore began: its original is gone, and what somebody put there has other bytes"
    );
    for said in [verdict, note] {
        assert!(recovered.stdout.contains(&said), "{said}: {recovered}");
    }
}

#[test]
fn of_a_damaged_journal_nothing_is_told_that_is_not_known_and_nothing_promised() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let journal = killed_in(&two, "swap-configs");
    let mut bytes = std::fs::read(&journal).unwrap();
    let ends: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] == b'\n').collect();
    bytes[ends[3] + 80] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    for argv in [
        &["recover"][..],
        &["recover", "--leave-as-it-is"],
        &["recover", "--leave-as-it-is", "--yes"],
        &["status", "--verbose"],
    ] {
        let told = two.holdfast(argv);
        assert_eq!(told.code(), 5, "{told}");
        let all = told.stdout.clone() + &told.stderr;
        for untrue in [
            "Preparing",
            "nothing has changed",
            "will end where it stands",
        ] {
            assert!(!all.contains(untrue), "{untrue}: {told}");
        }
        assert!(all.contains("it is damaged"), "{told}");
    }
}

/// As whoever replaced the target in the moment before its exchange, whose file the exchange moved there.
#[test]
fn an_original_that_is_another_file_than_was_noted_goes_back_and_is_named() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let (target, original) = with_originals(&two);
    std::fs::remove_file(&original).unwrap();
    std::fs::write(&original, "# of somebody else\n").unwrap();
    let recovered = two.holdfast(&["recover", "--roll-back"]);
    assert_eq!(recovered.code(), 4, "{recovered}");
    let said = format!("{target} was replaced or removed by others meanwhile");
    assert!(recovered.stdout.contains(&said), "{recovered}");
    assert_eq!(
        std::fs::read_to_string(&target).unwrap(),
        "# of somebody else\n"
    );
}

#[test]
fn a_state_folder_that_is_full_keeps_a_recovery_waiting_and_no_longer() {
    if skip::lacks(&["strace"]) {
        return;
    }
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    killed_in(&two, "swap-configs");
    let barrier = two.sample().state_dir().join("open");
    for inject in [
        "inject=fallocate:error=ENOSPC",
        "inject=pwrite64:error=ENOSPC",
    ] {
        let stuck = traced(&two, inject, &["recover", "--json"]);
        assert_eq!(stuck.code(), 5, "{inject}: {stuck}");
        assert_eq!(codes(&stuck), ["no-space"], "{inject}: {stuck}");
        assert!(barrier.exists(), "{inject}");
    }
    let recovered = two.holdfast(&["recover"]);
    two.is_settled(&began, &recovered, "there is room again");
}

#[test]
fn where_the_promise_could_not_be_kept_a_restore_is_refused_before_anything_changes() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let sample = two.sample();
    // One that differs in the two states.
    let config = sample.config(&sample.active().unwrap()[0]);
    let config = config.to_str().unwrap();
    // Not the one that the running service writes to.
    let mut databases = sample.databases().into_iter();
    let database = databases.find(|d| d.kind == "users").unwrap().path;
    let database = database.to_str().unwrap();
    let folder = sample.wireguard_dir();
    let folder = folder.to_str().unwrap();
    let cases = [
        (
            "a target that is a mount point",
            format!("mount --bind {config} {config}"),
            format!("umount {config}"),
            "it is a mount point",
        ),
        (
            "a database that is a link",
            format!("mv {database} {database}.real && ln -s {database}.real {database}"),
            format!("mv {database}.real {database}"),
            "it is a link to",
        ),
        (
            "a folder that is mounted read-only",
            format!("mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"),
            format!("umount {folder}"),
            "Read-only file system",
        ),
        (
            "files that are immutable or append-only",
            format!("chattr +i {config}; chattr +a {database}"),
            format!("chattr -i {config}; chattr -a {database}"),
            "is immutable",
        ),
        (
            "a folder that is immutable",
            format!("chattr +i {folder}"),
            format!("chattr -i {folder}"),
            "is immutable",
        ),
    ];
    for (what, make, mend, word) in cases {
        inside(&two, &make);
        let before = Picture::take(two.sandbox()).unwrap();
        let refused = two.holdfast(&["restore", &two.other(), "--yes"]);
        assert_eq!(refused.code(), 3, "{what}: {refused}");
        assert!(refused.stderr.contains(word), "{what}: {refused}");
        if word == "is immutable" {
            // The advice, followed to the letter, leads out.
            let advice = refused.stderr.split_once("chattr -i ").unwrap().1;
            let advice = format!("chattr -i {}", advice.split_once("; then").unwrap().0);
            assert_eq!(advice, mend, "{what}");
        }
        let after = Picture::take(two.sandbox()).unwrap();
        assert_eq!(before.diff(&after), Vec::<String>::new(), "{what}");
        assert!(!sample.state_dir().join("open").exists(), "{what}");
        inside(&two, &mend);
    }
    let now = Picture::take(two.sandbox()).unwrap();
    assert_eq!(two.before().diff(&now), Vec::<String>::new());
}

#[test]
fn on_a_filesystem_that_cannot_exchange_a_restore_is_refused_before_anything_changes() {
    if skip::lacks(&["strace"]) {
        return;
    }
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let restore = ["restore", &two.other(), "--yes"];
    let refused = traced(&two, "inject=renameat2:error=EINVAL", &restore);
    assert!(matches!(refused.code(), 1 | 3), "{refused}");
    let advice = "this filesystem cannot exchange two files: use ext4, xfs or btrfs";
    assert!(refused.stderr.contains(advice), "{refused}");
    let now = Picture::take(two.sandbox()).unwrap();
    assert_eq!(two.before().diff(&now), Vec::<String>::new());
    assert!(!two.sample().state_dir().join("open").exists());
}
