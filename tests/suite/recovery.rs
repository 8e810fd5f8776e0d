//! What recovery does where a restore was left open: after another boot, over leftovers, over a damaged journal, when it is
//! stuck, and while something else runs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod foreign;
mod left;
mod left_running;
mod lost;
mod operator;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fixtures::{Misbehaviour, Picture, Running, Shape, program};
use journal_format::{Format, Phase, RestoreId, State, Verdict};
use rusqlite::config::DbConfig;

use crate::on_a_gateway::{Gateway, codes, path, stand_in};
use crate::two_states::{TwoStates, holdfast};

fn small() -> Shape {
    Shape {
        active: 2,
        ..Shape::of(5)
    }
}

fn start(two: &TwoStates) -> Running {
    let holdfast = program("holdfast").unwrap();
    two.sandbox()
        .spawn(&[
            holdfast.to_str().unwrap(),
            "--config",
            two.sample().profile().to_str().unwrap(),
            "--json",
            "restore",
            &two.other(),
            "--yes",
        ])
        .unwrap()
}

fn wait_for(restore: &mut Running, text: &str) {
    while !restore.stdout_so_far().unwrap().contains(text) {
        assert!(
            !restore.has_ended().unwrap(),
            "no {text}: {}{}",
            restore.stdout_so_far().unwrap(),
            restore.stderr_so_far().unwrap()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills a restore once it has begun this step.
pub fn killed_in(two: &TwoStates, step: &str) -> PathBuf {
    let began = two.restores();
    let mut restore = start(two);
    // In the journal, not in what the command shows of it, which comes a moment later.
    while !journal_so_far(two, &began).contains(&intent(step)) {
        assert!(!restore.has_ended().unwrap(), "it ended before {step}");
        std::thread::sleep(Duration::from_micros(500));
    }
    restore.kill_worker().unwrap();
    let ended = restore.wait().unwrap();
    assert_eq!(ended.code(), 5, "{ended}");
    assert!(ended.stderr.contains("no process continues it"), "{ended}");
    two.journal(&two.fresh(&began).unwrap())
}

/// The journal of the restore that is new, if it has begun.
fn journal_so_far(two: &TwoStates, began: &BTreeSet<RestoreId>) -> String {
    let journal = two.fresh(began).map(|id| two.journal(&id));
    let bytes = journal.and_then(|journal| std::fs::read(journal).ok());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn intent(step: &str) -> String {
    format!("\"step\":\"{step}\"")
}

fn state(journal: &Path) -> State {
    journal_format::scan(&std::fs::read(journal).unwrap())
        .state
        .unwrap()
}

/// Rules that name a tunnel of the gateway, by table: what a recovery after a reboot answers for.
fn own_rules(picture: &Picture) -> Vec<String> {
    let tables = picture
        .parts()
        .filter(|(name, _)| name.contains("tables-save"));
    tables
        .flat_map(|(name, is)| is.lines().map(move |l| format!("{name}: {l}")))
        .filter(|l| l.contains(": -A") && l.contains("c0000"))
        .collect()
}

/// What a boot does that no restore holds back. Nothing of the gateway ran before.
fn boots_the_gateway(two: &TwoStates) {
    let (sandbox, sample) = (two.sandbox(), two.sample());
    let path = |p: std::path::PathBuf| p.to_str().unwrap().to_owned();
    let tunnels = sandbox.run(&["wg", "show", "interfaces"]).unwrap();
    assert_eq!(tunnels.stdout.trim(), "wg-admin");
    let admins = path(sample.config("wg-admin"));
    sandbox
        .run(&["wg-quick", "down", &admins])
        .unwrap()
        .ok()
        .unwrap();
    let program = path(fixtures::program("holdfast-sample").unwrap());
    let root = path(sample.root().to_owned());
    sandbox.run(&[&program, "up", &root]).unwrap().ok().unwrap();
}

#[test]
fn after_another_boot_everything_is_rebuilt_from_the_set_that_holds() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    for (step, choice) in [
        ("tunnels-down", None),
        ("swap-databases", Some("--resume")),
        ("swap-configs", None),
        ("tunnels-up", None),
        ("load-firewall", None),
        ("load-firewall", Some("--roll-back")),
        ("clean-up", None),
    ] {
        if step == "clean-up" && two.at == 0 {
            // Into which set the cases before led depends on the moment of a kill; an ordinary boot brings only the first
            // set's rules wholly, and this case is to end in that.
            let other = two.other();
            two.holdfast(&["restore", &other, "--yes"]).ok().unwrap();
            two.at = 1;
        }
        let before = two.before().clone();
        let journal = killed_in(&two, step);
        two.reboot();
        let argv: Vec<&str> = std::iter::once("recover").chain(choice).collect();
        let recovered = two.holdfast(&argv);
        let what = format!("{step} {choice:?}: {recovered}");
        let verdict = state(&journal).verdict().expect(&what);
        let status = if verdict == Verdict::Restored { 0 } else { 4 };
        assert_eq!(recovered.code(), status, "{what}");
        match (step, choice) {
            ("tunnels-down", _) | (_, Some("--roll-back")) => {
                assert_eq!(verdict, Verdict::RolledBack, "{what}");
            }
            ("tunnels-up" | "load-firewall" | "clean-up", None) | (_, Some("--resume")) => {
                assert_eq!(verdict, Verdict::Restored, "{what}");
            }
            _ => {}
        }
        if verdict == Verdict::Restored {
            two.at = 1 - two.at;
        }
        if step == "clean-up" {
            // It was committed in the boot before: this one is ordinary, and starts the gateway as it is now.
            boots_the_gateway(&two);
        }
        let now = Picture::take(two.sandbox()).unwrap();
        // Whether packets are forwarded is, in an ordinary boot, what the gateway's own start says.
        let boots = |name: &str| step == "clean-up" && name.ends_with("_forward");
        let rules = |name: &str| name.contains("tables-save") || boots(name);
        let expected = two.before().clone();
        let diff = expected
            .clone()
            .without(rules)
            .diff(&now.clone().without(rules));
        assert!(diff.is_empty(), "{what}\n{}", diff.join("\n"));
        // The gateway's own start adds some more; none is there twice.
        let there = own_rules(&now);
        for rule in own_rules(&expected) {
            let times = there.iter().filter(|r| **r == rule).count();
            assert_eq!(times, 1, "{rule}: {what}");
        }
        if verdict == Verdict::Restored {
            assert_ne!(before, now);
            let (expected, now) = (expected.without(boots), now.without(boots));
            assert_eq!(expected.diff(&now), Vec::<String>::new(), "{what}");
        }
        assert!(!two.sample().state_dir().join("open").exists(), "{what}");
        // Others' rules are not the recovery's: load them, as their own boot would.
        let backup = two.backups[two.at].display().to_string();
        holdfast(two.sandbox(), &["restore", &backup, "--yes"])
            .ok()
            .unwrap();
        let now = Picture::take(two.sandbox()).unwrap();
        assert_eq!(two.before().diff(&now), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn what_a_dead_restore_left_running_is_ended_before_anything_is_looked_at() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    // A tunnel of the other state whose PostUp adds a rule long after the interface is up.
    let kept = two.sample().active().unwrap().remove(0);
    let slow = "PostUp = sleep 2; iptables -A FORWARD -s 192.0.2.77/32 -j ACCEPT";
    for path in [
        two.sample().config(&kept),
        two.sample().configs_dir().join(format!("{kept}.conf")),
    ] {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replacen("[Interface]", &format!("[Interface]\n{slow}"), 1);
        std::fs::write(&path, text).unwrap();
    }
    let dir = two.sample().state_dir().join("backups");
    let backup = two.holdfast(&["backup", "--output", dir.to_str().unwrap()]);
    let backup = PathBuf::from(backup.ok().unwrap().stdout.trim());
    let settle = |two: &TwoStates, backup: &Path| {
        let done = two.holdfast(&["restore", backup.to_str().unwrap(), "--yes"]);
        done.ok().unwrap();
    };
    settle(&two, &two.backups[1].clone());
    two.backups[0] = backup;

    let began = two.restores();
    let mut restore = start(&two);
    wait_for(&mut restore, &intent("tunnels-up"));
    let sleeps = || {
        let found = two.sandbox().run(&["pgrep", "-x", "sleep"]).unwrap();
        found.status.success()
    };
    while !sleeps() {
        std::thread::sleep(Duration::from_millis(5));
    }
    restore.kill_worker().unwrap();
    restore.wait().unwrap();
    assert!(sleeps(), "nothing was left running");
    let recovered = two.holdfast(&["recover", "--roll-back"]);
    assert!(
        recovered
            .stdout
            .contains("ended what it left running: wg-quick"),
        "{recovered}"
    );
    assert!(!recovered.stdout.contains("wireguard-go"), "{recovered}");
    assert_eq!(
        two.is_settled(&began, &recovered, "slow PostUp"),
        Some(Verdict::RolledBack)
    );
    // Past the moment at which the script would have added its rule.
    std::thread::sleep(Duration::from_millis(2500));
    let now = Picture::take(two.sandbox()).unwrap();
    assert_eq!(two.before().diff(&now), Vec::<String>::new());
}

#[test]
fn a_torn_tail_is_mended_and_kept_and_a_damaged_or_newer_journal_stops_everything() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    let journal = killed_in(&two, "swap-configs");
    let barrier = two.sample().state_dir().join("open");
    let whole = std::fs::read(&journal).unwrap();
    let own = format!("\"minor\":{}", Format::CURRENT.minor);
    let newer = String::from_utf8_lossy(&whole).replace(&own, "\"minor\":7");
    assert_ne!(newer.as_bytes(), whole);
    // A line changed in the middle; a version of tomorrow, with hashes to match; another restore's journal.
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let other = began.iter().next().unwrap();
    let closed = std::fs::read(two.journal(other)).unwrap();
    let others = closed[..closed.len() / 2].to_vec();
    let cut = others.iter().rposition(|b| *b == b'\n').unwrap();
    for (what, bytes) in [
        ("a bit", flipped),
        ("the version", rehash(&newer)),
        ("another restore's", others[..=cut].to_vec()),
        ("another restore's that is over", closed.clone()),
    ] {
        std::fs::write(&journal, &bytes).unwrap();
        let now = Picture::take(two.sandbox()).unwrap();
        for argv in [
            &["recover", "--json"][..],
            &["recover", "--json", "--resume"],
            &["recover", "--json", "--roll-back"],
        ] {
            let refused = two.holdfast(argv);
            assert_eq!(refused.code(), 5, "{what}: {refused}");
            assert_eq!(codes(&refused), ["journal-unusable"], "{what}");
        }
        assert_eq!(std::fs::read(&journal).unwrap(), bytes, "{what}");
        assert!(barrier.exists(), "{what}");
        let later = Picture::take(two.sandbox()).unwrap();
        assert_eq!(now.diff(&later), Vec::<String>::new(), "{what}");
    }
    std::fs::write(&journal, &closed).unwrap();
    let id = two.fresh(&began).unwrap();
    let verify = two.holdfast(&["journal", "verify", id.as_str()]);
    assert_eq!(verify.code(), 12, "{verify}");
    let said = format!("it is the journal of restore {:?}", other.as_str());
    assert!(verify.stdout.contains(&said), "{verify}");
    std::fs::remove_file(&journal).unwrap();
    let refused = two.holdfast(&["recover", "--json"]);
    assert_eq!(refused.code(), 5, "{refused}");
    assert_eq!(codes(&refused), ["journal-unusable"]);

    let torn = [&whole[..], b"0123456789abcdef0123456789"].concat();
    std::fs::write(&journal, &torn).unwrap();
    let verify = two.holdfast(&["journal", "verify", journal.to_str().unwrap()]);
    assert_eq!(verify.code(), 11, "{verify}");
    let recovered = two.holdfast(&["recover"]);
    assert!(recovered.stdout.contains("cut off"), "{recovered}");
    two.is_settled(&began, &recovered, "torn tail");
    let copy = journal.with_extension(format!("torn-{}", whole.len()));
    assert_eq!(std::fs::read(copy).unwrap(), &torn[whole.len()..]);
}

#[test]
fn what_was_swapped_without_a_record_that_says_so_is_stuck_and_not_called_fine() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    let journal = killed_in(&two, "tunnels-up");
    let whole = std::fs::read(&journal).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    for step in ["swap-configs", "swap-databases"] {
        // An intent that was once acknowledged, and all behind it, is gone as if it had never been written.
        let kept = text
            .lines()
            .take_while(|l| !(l.contains("\"entry\":{\"intent\":") && l.contains(&intent(step))));
        let kept: String = kept.map(|l| format!("{l}\n")).collect();
        assert!(kept.len() < text.len(), "{step}");
        for choice in [
            &["recover"][..],
            &["recover", "--resume"],
            &["recover", "--roll-back"],
        ] {
            std::fs::write(&journal, &kept).unwrap();
            let stuck = two.holdfast(choice);
            assert_eq!(stuck.code(), 5, "{step}: {stuck}");
        }
        assert!(two.sample().state_dir().join("open").exists());
    }
    std::fs::write(&journal, whole).unwrap();
    let recovered = two.holdfast(&["recover"]);
    two.is_settled(&began, &recovered, "the whole journal");
}

#[test]
fn rows_written_between_settling_and_swapping_are_not_lost_and_not_mixed() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    let crash = |moment: &str, archive: &Path| {
        let program = program("holdfast-crash").unwrap();
        let profile = two.sample().profile();
        two.sandbox()
            .run(&[
                program.to_str().unwrap(),
                profile.to_str().unwrap(),
                moment,
                "restore",
                archive.to_str().unwrap(),
            ])
            .unwrap()
    };
    let dry = crash("never", &two.backups[0]).ok().unwrap();
    crash("never", &two.backups[1]).ok().unwrap();
    let settled = dry.stdout.lines().position(|l| l == "settle a database");
    let swap = (settled.unwrap()..)
        .zip(dry.stdout.lines().skip(settled.unwrap()))
        .find(|(_, name)| *name == "exchange")
        .unwrap()
        .0;
    crash(&format!("before:{}", swap + 1), &two.backups[0]);

    let path = two.sample().client_database();
    let late = "late row";
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .unwrap();
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database
        .execute(
            "INSERT INTO monitoring_logs (event_type, message) VALUES ('late', ?1)",
            [late],
        )
        .unwrap();
    drop(database);
    let wal = path.with_extension("db-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() > 0);

    let recovered = two.holdfast(&["recover", "--resume"]);
    assert_eq!(recovered.code(), 4, "{recovered}");
    assert!(
        recovered.stdout.contains("configs.db-wal is there"),
        "{recovered}"
    );
    let now = Picture::take(two.sandbox()).unwrap();
    let diff = two.before().diff(&now);
    assert!(
        diff.iter().any(|l| l.contains(late)) && diff.iter().all(|l| l.contains("monitoring_logs")),
        "{}",
        diff.join("\n")
    );
}

/// The journal's lines with hashes that fit.
fn rehash(text: &str) -> Vec<u8> {
    let mut last = [0_u8; 32];
    let mut out = Vec::new();
    for line in text.lines() {
        let json = &line[65..];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&last);
        hasher.update(json.as_bytes());
        last = *hasher.finalize().as_bytes();
        out.extend(format!("{} {json}\n", blake3::Hash::from_bytes(last).to_hex()).bytes());
    }
    out
}

#[test]
fn a_barrier_that_is_missing_left_over_or_unreadable_is_told_from_one_that_stands() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let barrier = two.sample().state_dir().join("open");
    let began = two.restores();
    let first = two.holdfast(&["restore", &two.other(), "--yes"]);
    two.is_settled(&began, &first, "the first");
    let over = two.fresh(&began).unwrap();
    let began = two.restores();
    let journal = killed_in(&two, "swap-configs");
    let text = std::fs::read(&barrier).unwrap();

    // Effects and no barrier: only the operator chooses, and until the verdict it is there again.
    std::fs::remove_file(&barrier).unwrap();
    let refused = two.holdfast(&["recover"]);
    assert_eq!(refused.code(), 5, "{refused}");
    assert!(
        refused.stderr.contains("its restore marker is gone"),
        "{refused}"
    );
    let at_boot = two.holdfast(&["work", "boot"]);
    assert_eq!(at_boot.code(), 5, "{at_boot}");
    assert_eq!(
        at_boot.stdout.clone() + &at_boot.stderr,
        "",
        "a worker prints nothing"
    );
    let said = two.holdfast(&["work", "boot", "--said"]);
    assert_eq!(said.code(), 5, "{said}");
    assert!(said.stderr.contains("its restore marker is gone"), "{said}");
    std::fs::write(&barrier, "who knows\n").unwrap();
    let refused = two.holdfast(&["recover", "--json"]);
    assert_eq!(refused.code(), 5, "{refused}");
    assert_eq!(codes(&refused), ["barrier-unusable"]);
    // A restore that is over is named in it: the other is open all the same, and its fence stays.
    std::fs::write(&barrier, format!("# holdfast {over}\n")).unwrap();
    let refused = two.holdfast(&["recover"]);
    assert_eq!(refused.code(), 5, "{refused}");
    let said = "its restore marker names another restore or none";
    assert!(refused.stderr.contains(said), "{refused}");
    let recovered = two.holdfast(&["recover", "--roll-back"]);
    two.is_settled(&began, &recovered, "no barrier");

    // It was over; only the barrier was left.
    std::fs::write(&barrier, &text).unwrap();
    assert!(matches!(state(&journal).phase, Phase::Closed(_)));
    let again = two.holdfast(&["recover"]);
    assert_eq!(again.code(), 4, "{again}");
    assert!(again.stdout.contains("was over (rolled back)"), "{again}");
    assert!(!barrier.exists());
    let now = Picture::take(two.sandbox()).unwrap();
    assert_eq!(two.before().diff(&now), Vec::<String>::new());
}
