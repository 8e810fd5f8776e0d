//! The worker apart from whoever started it: an output that nobody reads, a session that is killed, files that are handed on, a
//! systemd that does not answer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fixtures::{Picture, Running};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::on_a_gateway::{Gateway, path, stand_in};

/// A gateway, a picture of it when it was backed up, the backup, and a picture of it now that it is changed.
pub fn changed() -> Option<(Gateway, Picture, PathBuf, Picture)> {
    let gateway = Gateway::small()?;
    let first = gateway.backup();
    // What a restore itself settles, the kept rules, it has settled once.
    gateway.restore(&first);
    let (backup, then) = (gateway.backup(), gateway.picture());
    let name = &gateway.sample().clients().unwrap()[5];
    std::fs::remove_file(gateway.sample().config(name)).unwrap();
    gateway.run(&["iptables", "-P", "FORWARD", "DROP"]);
    let now = gateway.picture();
    Some((gateway, then, backup, now))
}

/// A restore whose output goes into a pipe that is full and that nobody empties.
fn unread(gateway: &Gateway, backup: &Path) -> (Running, PathBuf) {
    all_unread(gateway, &["restore", path(backup), "--yes"])
}

/// The same of any command.
fn all_unread(gateway: &Gateway, words: &[&str]) -> (Running, PathBuf) {
    let pipe = gateway.beside("unread");
    let _ = std::fs::remove_file(&pipe);
    gateway.run(&["mkfifo", path(&pipe)]);
    let line = format!(
        "exec 3<>{}; head -c 65536 /dev/zero >&3; exec \"$@\" >&3 2>&3",
        pipe.display()
    );
    let mut argv = vec!["bash".to_owned(), "-c".into(), line, "bash".into()];
    argv.extend(gateway.argv(words));
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    (gateway.sandbox.spawn(&argv).unwrap(), pipe)
}

/// Reads the pipe to its end: what was said, and the exit status.
fn read_at_last(running: Running, pipe: &Path) -> (String, i32) {
    let mut bytes = Vec::new();
    std::fs::File::open(pipe)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    let ended = running.wait().unwrap();
    let said = bytes.into_iter().filter(|b| *b != 0).collect();
    (String::from_utf8(said).unwrap(), ended.code())
}

/// The journal of the restore that was not there before.
fn journal(gateway: &Gateway, began: &[PathBuf]) -> String {
    let restores = gateway.restores();
    let fresh = restores.iter().find(|r| !began.contains(r));
    let bytes = fresh.and_then(|r| std::fs::read(r.join("journal")).ok());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn wait_for(gateway: &Gateway, began: &[PathBuf], text: &str) {
    while !journal(gateway, began).contains(text) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_idle(gateway: &Gateway) -> bool {
    gateway.holdfast(&["status"]).stdout.starts_with("idle\n")
}

#[test]
fn a_restore_whose_output_nobody_reads_ends_as_any_other_and_says_so_once_it_is_read() {
    let Some((gateway, then, backup, _)) = changed() else {
        return;
    };
    let began = gateway.restores();
    let (restore, pipe) = unread(&gateway, &backup);
    wait_for(&gateway, &began, "\"closed\"");
    while !is_idle(&gateway) {
        std::thread::sleep(Duration::from_millis(10));
    }
    gateway.is(&then);
    let (said, status) = read_at_last(restore, &pipe);
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("Restored: the gateway is as the backup says."),
        "{said}"
    );
}

#[test]
fn ctrl_c_turns_a_restore_back_whose_output_nobody_reads_whatever_step_it_is_in() {
    let Some((gateway, then, backup, before)) = changed() else {
        return;
    };
    let mut back = 0;
    let steps = [
        "safety-backup",
        "stage",
        "stop-services",
        "tunnels-down",
        "swap-databases",
        "swap-configs",
        "tunnels-up",
        "load-firewall",
        "start-services",
    ];
    for step in steps {
        let began = gateway.restores();
        let (mut restore, pipe) = unread(&gateway, &backup);
        wait_for(&gateway, &began, &format!("\"step\":\"{step}\""));
        assert!(restore.signal(Signal::SIGINT).unwrap());
        wait_for(&gateway, &began, "\"closed\"");
        while !is_idle(&gateway) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (said, status) = read_at_last(restore, &pipe);
        match status {
            // It had not changed anything yet, or it went back.
            1 | 4 => {
                back += 1;
                let why = [
                    "it was stopped on request",
                    "it was ended before it changed anything",
                ];
                assert!(why.iter().any(|why| said.contains(why)), "{step}: {said}");
                gateway.is(&before);
            }
            // On a busy machine it was past that.
            0 => {
                gateway.is(&then);
                gateway.run(&["iptables", "-P", "FORWARD", "DROP"]);
                let name = &gateway.sample().clients().unwrap()[5];
                std::fs::remove_file(gateway.sample().config(name)).unwrap();
            }
            _ => panic!("{step}: {status}: {said}"),
        }
    }
    assert!(back * 2 > steps.len(), "only {back} turned back");
}

#[test]
fn a_recovery_whose_output_nobody_reads_settles_the_restore_and_ctrl_c_then_ends_with_its_status() {
    let Some((gateway, _, backup, before)) = changed() else {
        return;
    };
    let began = gateway.restores();
    let mut restore = gateway.begin(&["restore", path(&backup), "--yes"]);
    wait_for(&gateway, &began, "\"step\":\"swap-databases\"");
    assert!(restore.kill_worker().unwrap());
    let killed = restore.wait().unwrap();
    assert_eq!(killed.code(), 5, "{killed}");
    let (mut recovery, _) = all_unread(&gateway, &["recover", "--roll-back"]);
    wait_for(&gateway, &began, "\"closed\"");
    while !is_idle(&gateway) {
        std::thread::sleep(Duration::from_millis(10));
    }
    gateway.is(&before);
    // Its output is still to be written, and is given up: it ends as the recovery did.
    while recovery.worker().unwrap().is_some_and(lives) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(recovery.signal(Signal::SIGINT).unwrap());
    assert_eq!(recovery.wait().unwrap().code(), 4);
}

#[test]
fn where_run_cannot_be_written_to_restores_recoveries_and_boots_go_on() {
    let Some((gateway, then, backup, _)) = changed() else {
        return;
    };
    gateway.run(&["mkdir", "-p", "/run/holdfast/work"]);
    for options in ["ro", "nr_inodes=1"] {
        gateway.run(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            options,
            "full",
            "/run/holdfast/work",
        ]);
        let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
        assert_eq!(done.code(), 0, "{options}: {done}");
        assert!(done.stdout.contains("Restored: "), "{options}: {done}");
        for words in [&["recover"][..], &["work", "boot"]] {
            let idle = gateway.holdfast(words);
            assert_eq!(idle.code(), 0, "{options}: {idle}");
        }
        let none = gateway.beside("none.zip");
        std::fs::write(&none, "no zip").unwrap();
        let refused = gateway.holdfast(&["restore", path(&none), "--yes"]);
        assert_eq!(refused.code(), 3, "{options}: {refused}");
        gateway.run(&["umount", "/run/holdfast/work"]);
    }
    gateway.is(&then);
    gateway.is_settled();
}

#[test]
fn what_a_caller_blocked_or_masked_reaches_no_worker_and_so_no_service_that_it_starts() {
    let Some((gateway, then, backup, _)) = changed() else {
        return;
    };
    let line = gateway.argv(&["restore", path(&backup), "--yes"]).join(" ");
    let habits = "umask 077; exec env --ignore-signal=CHLD --block-signal=USR1";
    let mut restore = gateway
        .sandbox
        .spawn(&["bash", "-c", &format!("{habits} {line}")])
        .unwrap();
    // Of the worker: a service may well have ways of its own.
    assert!(gateway.barrier_is_up(&mut restore));
    let worker = restore.worker().unwrap().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    assert!(status.contains("SigBlk:\t0000000000000000\n"), "{status}");
    assert!(status.contains("Umask:\t0022\n"), "{status}");
    restore.wait().unwrap().ok().unwrap();
    gateway.is(&then);
}

#[test]
fn a_profile_that_can_be_read_only_once_is_refused() {
    let Some((gateway, ..)) = changed() else {
        return;
    };
    let holdfast = &gateway.argv(&[])[0];
    let profile = gateway.sample().profile();
    let line = format!("{holdfast} --config <(cat {}) recover", profile.display());
    let refused = gateway.sandbox.run(&["bash", "-c", &line]).unwrap();
    assert_eq!(refused.code(), 3, "{refused}");
    assert!(refused.stderr.contains("it is no plain file"), "{refused}");
}

#[test]
fn ctrl_c_once_more_ends_the_watching_alone() {
    let Some((gateway, _, backup, before)) = changed() else {
        return;
    };
    let began = gateway.restores();
    let (mut restore, pipe) = unread(&gateway, &backup);
    wait_for(&gateway, &began, "\"step\":\"stage\"");
    // It stands still, so that it cannot end before the second signal.
    let worker = restore.worker().unwrap().unwrap();
    kill(worker, Signal::SIGSTOP).unwrap();
    assert!(restore.signal(Signal::SIGINT).unwrap());
    let mut said = String::new();
    let mut end = std::fs::File::open(&pipe).unwrap();
    // One signal of a kind is as good as two, until it was taken.
    while !said.contains("rolls back if it still can") {
        let mut bytes = [0; 4096];
        let n = end.read(&mut bytes).unwrap();
        said += &String::from_utf8_lossy(&bytes[..n]);
    }
    assert!(restore.signal(Signal::SIGINT).unwrap());
    end.read_to_string(&mut said).unwrap();
    assert_eq!(restore.wait().unwrap().code(), 130);
    assert!(said.contains("holdfast journal follow "), "{said}");
    kill(worker, Signal::SIGCONT).unwrap();
    while !is_idle(&gateway) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let written = journal(&gateway, &began);
    let turned = ["rolled-back", "nothing-changed"].map(|v| format!("\"verdict\":\"{v}\""));
    assert!(turned.iter().any(|v| written.contains(v)), "{written}");
    gateway.is(&before);
}

/// Whether a process is more than an entry in the list.
fn lives(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim());
    !(state.is_empty() || state.starts_with(['Z', 'X']))
}

/// What is open in a process, as it is seen from outside; none if it is gone, or closed a file meanwhile.
fn open_files(pid: Pid) -> Option<BTreeSet<String>> {
    let listed = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let open = listed.map(|e| std::fs::read_link(e.ok()?.path()).ok());
    open.map(|to| Some(to?.to_str()?.to_owned())).collect()
}

#[test]
fn a_worker_has_only_null_its_locks_and_its_journal_open_whatever_was_handed_on() {
    let Some((gateway, _, backup, _)) = changed() else {
        return;
    };
    let began = gateway.restores();
    let handed_on = gateway.beside("handed-on");
    gateway.run(&["mkfifo", "/run/lock/pipe"]);
    let line = format!(
        "exec 5>{} 7<>/run/lock/pipe; exec \"$@\"",
        handed_on.display()
    );
    let mut argv = vec!["bash".to_owned(), "-c".into(), line, "bash".into()];
    argv.extend(gateway.argv(&["restore", path(&backup), "--yes"]));
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let mut restore = gateway.sandbox.spawn(&argv).unwrap();
    assert!(gateway.barrier_is_up(&mut restore));
    let worker = restore.worker().unwrap().unwrap();
    let restores = gateway.restores();
    let fresh = restores.iter().find(|r| !began.contains(r)).unwrap();
    let journal = fresh.join("journal");
    let lock = gateway.sample().state_dir().join("lock");
    let wanted: BTreeSet<String> = ["/dev/null", path(&journal), path(&lock)]
        .map(String::from)
        .into();
    let (mut met, mut seen) = (false, BTreeSet::new());
    while !met && !restore.has_ended().unwrap() {
        let Some(open) = open_files(worker) else {
            continue;
        };
        // Between two moves; within one it has the files of the gateway open that it works on.
        let (locks, others): (BTreeSet<_>, BTreeSet<_>) = open
            .iter()
            .cloned()
            .partition(|file| file.contains("/holdfast/targets/"));
        met = others == wanted && !locks.is_empty();
        seen.insert(open.clone());
        for file in &open {
            assert!(!file.contains("pipe"), "{open:?}");
            assert_ne!(Path::new(file), handed_on, "{open:?}");
        }
    }
    assert!(met, "never were only these open: {wanted:?}, but {seen:#?}");
    restore.wait().unwrap().ok().unwrap();
}

#[test]
fn a_restore_goes_on_when_all_of_the_session_is_killed_that_it_was_started_from() {
    let Some((gateway, then, backup, _)) = changed() else {
        return;
    };
    let line = gateway.argv(&["restore", path(&backup), "--yes"]).join(" ");
    let session = gateway.beside("session");
    let line = format!("echo $$ > {}; {line}; exit $?", session.display());
    let mut shell = gateway
        .sandbox
        .spawn(&["setsid", "bash", "-c", &line])
        .unwrap();
    assert!(gateway.barrier_is_up(&mut shell));
    let session = std::fs::read_to_string(session).unwrap();
    gateway.run(&["pkill", "-KILL", "-s", session.trim()]);
    shell.wait().unwrap();
    while !is_idle(&gateway) {
        std::thread::sleep(Duration::from_millis(10));
    }
    gateway.is(&then);
    gateway.is_settled();
}

#[test]
fn a_worker_stays_in_the_network_namespace_that_it_was_started_in() {
    let Some((gateway, ..)) = changed() else {
        return;
    };
    // Another one than the gateway's: what would reach out of it would reach these rules.
    let rules = || gateway.run(&["sh", "-c", "iptables-save | grep -v '^#'"]);
    let before = rules();
    let line = gateway.argv(&["recover"]).join(" ");
    let line = format!(
        "readlink /proc/self/ns/net > /run/lock/ns; strace -f -o /run/lock/calls -e trace=setns {line}"
    );
    let done = gateway
        .sandbox
        .run(&["unshare", "-n", "bash", "-c", &line])
        .unwrap();
    assert_eq!(done.code(), 0, "{done}");
    let calls = gateway.run(&["cat", "/run/lock/calls"]);
    assert!(!calls.contains("setns("), "{calls}");
    assert_eq!(before, rules());
}

/// `systemd-run`, as one box or another has it.
pub fn with_systemd(gateway: &Gateway, text: &str) {
    gateway.run(&["mkdir", "-p", "/run/systemd/system"]);
    stand_in(gateway, "systemd-run", text);
}

#[test]
fn where_systemd_runs_a_worker_gets_a_scope_and_where_that_fails_or_hangs_it_goes_without() {
    let Some((gateway, ..)) = changed() else {
        return;
    };
    let backup = gateway.backup();
    let makes = "#!/bin/sh\necho \"$@\" >> /run/lock/scopes\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n";
    for (systemd, scopes) in [
        (makes, 1),
        ("#!/bin/sh\necho no bus >&2\nexit 1\n", 0),
        ("#!/bin/sh\nexec sleep 1000\n", 0),
    ] {
        with_systemd(&gateway, systemd);
        gateway.run(&["rm", "-f", "/run/lock/scopes"]);
        let done = gateway.restore(&backup);
        assert!(done.stdout.contains("Restored: "), "{done}");
        gateway.is_settled();
        let made = gateway.run(&["sh", "-c", "cat /run/lock/scopes || true"]);
        assert_eq!(made.lines().count(), scopes, "{made}");
        for line in made.lines() {
            assert!(line.contains("--scope"), "{line}");
            assert!(line.contains("--slice=system.slice"), "{line}");
            assert!(
                !line.contains(path(&backup)),
                "the order is not there: {line}"
            );
        }
        gateway.run(&["umount", "/usr/local/sbin"]);
    }
    let left = gateway.run(&["sh", "-c", "ls /run/holdfast/work"]);
    assert_eq!(left, "", "what was read is taken away");
}
