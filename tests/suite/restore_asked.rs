//! What an admin asks of a restore that runs, or before it runs: to wait its turn, to turn back, to go on without the
//! rules, to survive a terminal; and that an archive which is not acceptable is refused before anything is touched.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fixtures::{Picture, skip};
use nix::sys::signal::Signal;

use crate::on_a_gateway::{Gateway, codes, json, path, stand_in};

/// A small gateway, a picture of it when it was backed up, the backup, and a picture of it now that it is changed.
fn changed() -> Option<(Gateway, Picture, PathBuf, Picture)> {
    let gateway = Gateway::small()?;
    let then = gateway.picture();
    let backup = gateway.backup();
    let sample = gateway.sample();
    let name = &sample.clients().unwrap()[5];
    std::fs::remove_file(sample.config(name)).unwrap();
    gateway.run(&["iptables", "-P", "FORWARD", "DROP"]);
    let now = gateway.picture();
    // Where the box keeps its rules, they become those of the backup, which were never kept there.
    let then = then.without(is_kept);
    Some((gateway, then, backup, now))
}

fn is_kept(part: &str) -> bool {
    part.starts_with("file etc_iptables/")
}

fn is_restored(gateway: &Gateway, then: &Picture) {
    let now = gateway.picture().without(is_kept);
    assert_eq!(then.diff(&now), Vec::<String>::new());
    gateway.is_settled();
}

#[test]
fn a_second_restore_is_told_at_once_that_the_first_runs() {
    let Some((gateway, then, backup, _)) = changed() else {
        return;
    };
    // A shell between: what enters the sandbox would stop together with its child.
    let line = gateway.argv(&["restore", path(&backup), "--yes"]).join(" ");
    let line = format!("{line}; exit $?");
    let mut first = gateway.sandbox.spawn(&["bash", "-c", &line]).unwrap();
    assert!(gateway.barrier_is_up(&mut first));
    let status = gateway.holdfast(&["--json", "status"]).ok().unwrap();
    let status = json(&status.stdout);
    assert_eq!(status["status"], "running");
    // It stands still, so that it cannot end before the others have come.
    let pid = status["pid"].to_string();
    gateway.run(&["kill", "-STOP", &pid]);
    for words in [
        &["restore", path(&backup), "--yes", "--json"][..],
        &["recover", "--json"],
        &["backup", "--json"],
    ] {
        let second = gateway.holdfast(words);
        assert_eq!(second.code(), 6, "{second}");
        assert_eq!(codes(&second), ["busy"]);
    }
    gateway.run(&["kill", "-CONT", &pid]);
    first.wait().unwrap().ok().unwrap();
    is_restored(&gateway, &then);
}

#[test]
fn a_running_restore_that_is_told_to_end_turns_back() {
    let Some((gateway, _, backup, before)) = changed() else {
        return;
    };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut restore = gateway.begin(&["restore", path(&backup), "--yes"]);
        // From here on there is something to turn back.
        let served = gateway.sample().root().join("run/service.pid");
        assert!(gateway.await_while(&mut restore, || !served.exists()));
        assert!(restore.signal(signal).unwrap());
        let done = restore.wait().unwrap();
        assert_eq!(done.code(), 4, "{done}");
        gateway.is(&before);
        gateway.is_settled();
        assert!(
            done.stderr
                .contains("it was stopped on request (Ctrl-C, SIGINT or SIGTERM)"),
            "{done}"
        );
    }
}

#[test]
fn a_question_without_a_terminal_is_a_usage_error() {
    let Some((gateway, _, backup, before)) = changed() else {
        return;
    };
    let done = gateway.holdfast(&["restore", path(&backup)]);
    assert_eq!(done.code(), 2, "{done}");
    assert!(done.stderr.contains("add --yes"), "{done}");
    gateway.is(&before);
    assert!(gateway.restores().is_empty());
}

/// How a terminal's user starts a program.
#[derive(Clone, Copy, Debug)]
enum From {
    /// At the prompt: a job, which leads its process group.
    Prompt,
    /// By a script that the user started: in the script's group.
    Script,
    /// As the terminal's only program: it leads the session.
    Alone,
}

const FROM: [From; 3] = [From::Prompt, From::Script, From::Alone];

/// Holdfast at a terminal.
fn terminal(gateway: &Gateway, from: From, words: &[&str]) -> Command {
    let line = gateway.argv(words).join(" ");
    let line = match from {
        // With something after it, the shell stays.
        From::Prompt => format!("set -m; {line}; exit $?"),
        From::Script => format!("{line}; exit $?"),
        From::Alone => line,
    };
    let line = format!("bash -c '{line}'");
    let mut command = gateway
        .sandbox
        .command(&["script", "-qefc", &line, "/dev/null"]);
    // A shell that replaces itself by the last program of its line: with another one between, that one's status counts.
    command.env("SHELL", "/bin/bash");
    command
}

/// At a terminal; what is typed there. Its exit status, and what the terminal showed.
fn at_a_terminal(gateway: &Gateway, from: From, words: &[&str], typed: &str) -> (i32, String) {
    let mut script = terminal(gateway, from, words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let mut shown = String::new();
    let mut bytes = [0; 4096];
    let mut answered = false;
    loop {
        let n = screen.read(&mut bytes).unwrap();
        if n == 0 {
            break;
        }
        shown.push_str(&String::from_utf8_lossy(&bytes[..n]));
        if !answered && shown.contains("Type yes: ") {
            keys.write_all(typed.as_bytes()).unwrap();
            answered = true;
        }
    }
    (script.wait().unwrap().code().unwrap(), shown)
}

#[test]
fn at_a_terminal_it_asks_and_takes_only_yes_for_yes() {
    if skip::lacks(&["script"]) {
        return;
    }
    let Some((gateway, then, backup, before)) = changed() else {
        return;
    };
    for answer in ["no\n", "y\n", "\n", "\u{4}"] {
        let (status, shown) =
            at_a_terminal(&gateway, From::Prompt, &["restore", path(&backup)], answer);
        assert_eq!(status, 1, "{answer:?}: {shown}");
        assert!(shown.contains("declined; nothing was changed"), "{shown}");
        gateway.is(&before);
        assert!(gateway.restores().is_empty());
    }
    let (status, shown) =
        at_a_terminal(&gateway, From::Prompt, &["restore", path(&backup)], "yes\n");
    assert_eq!(status, 0, "{shown}");
    assert!(
        shown.contains("Restored: the gateway is as the backup says."),
        "{shown}"
    );
    is_restored(&gateway, &then);
}

#[test]
fn ctrl_c_at_the_terminal_turns_it_back() {
    for from in FROM {
        ctrl_c_turns_it_back(from);
    }
}

fn ctrl_c_turns_it_back(from: From) {
    if skip::lacks(&["script"]) {
        return;
    }
    let Some((gateway, _, backup, before)) = changed() else {
        return;
    };
    let served = gateway.sample().root().join("run/service.pid");
    assert!(served.exists());
    let mut script = terminal(&gateway, from, &["restore", path(&backup), "--yes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    while served.exists() && script.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    keys.write_all(b"\x03").unwrap();
    let mut shown = String::new();
    let mut screen = script.stdout.take().unwrap();
    screen.read_to_string(&mut shown).unwrap();
    assert_eq!(script.wait().unwrap().code(), Some(4), "{from:?}: {shown}");
    gateway.is(&before);
    gateway.is_settled();
}

#[test]
fn the_end_of_its_terminal_changes_nothing_for_a_restore() {
    for from in FROM {
        the_end_of_its_terminal_changes_nothing(from);
    }
}

fn the_end_of_its_terminal_changes_nothing(from: From) {
    if skip::lacks(&["script"]) {
        return;
    }
    let Some((gateway, then, backup, _)) = changed() else {
        return;
    };
    let restore = terminal(&gateway, from, &["restore", path(&backup), "--yes"]);
    let mut terminal = gateway.sandbox.spawn_command(restore).unwrap();
    assert!(gateway.barrier_is_up(&mut terminal));
    assert!(terminal.kill9().unwrap());
    terminal.wait().unwrap();
    while !gateway.holdfast(&["status"]).stdout.starts_with("idle\n") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    is_restored(&gateway, &then);
}

#[test]
fn a_recovery_at_a_terminal_ends_however_it_was_started() {
    if skip::lacks(&["script"]) {
        return;
    }
    let Some((gateway, ..)) = changed() else {
        return;
    };
    for from in FROM {
        let (status, shown) = at_a_terminal(&gateway, from, &["recover"], "");
        assert_eq!(status, 0, "{from:?}: {shown}");
        let idle = "nothing to do: no restore is open; state_dir is ";
        assert!(
            shown.starts_with(idle) && shown.lines().count() == 1,
            "{from:?}: {shown}"
        );
    }
}

/// It takes no rules in the rehearsal.
const NOT_REHEARSED: &str = "#!/bin/sh\n[ $# -gt 0 ] || { echo 'no such match here' >&2; exit 2; }\nexec /usr/sbin/iptables-restore \"$@\"\n";

/// The rules of a picture, by chain, but for those that name one of these.
fn rules(picture: &Picture, program: &str, without: &[String]) -> Vec<String> {
    let prefix = format!("{program} ");
    let mut found: Vec<String> = picture
        .parts()
        .filter_map(|(name, is)| Some((name.strip_prefix(&prefix)?, is)))
        .flat_map(|(table, is)| is.lines().map(move |line| format!("{table}: {line}")))
        .filter(|line| !without.iter().any(|name| line.contains(name)))
        .collect();
    found.sort();
    found
}

/// Restored but for the rules of these: those of before, less the tunnels', plus what hooks and the service add.
fn is_restored_but_for_the_rules(
    gateway: &Gateway,
    then: &Picture,
    before: &Picture,
    programs: &[&str],
) {
    let now = gateway.picture();
    let is_rules =
        |part: &str| is_kept(part) || programs.iter().any(|p| part.starts_with(&format!("{p} ")));
    let but_rules = |picture: &Picture| picture.clone().without(is_rules);
    assert_eq!(but_rules(then).diff(&but_rules(&now)), Vec::<String>::new());
    gateway.is_settled();
    let tunnels = gateway.sample().active().unwrap();
    for program in programs {
        assert_eq!(
            rules(&now, program, &tunnels),
            rules(before, program, &tunnels)
        );
        for tunnel in &tunnels {
            let all = rules(&now, program, &[]);
            let own = all.iter().filter(|r| r.contains(tunnel)).count();
            let config = std::fs::read_to_string(gateway.sample().config(tunnel)).unwrap();
            let added = if *program == "iptables-save" {
                3 + config.matches("PostUp").count()
            } else {
                0
            };
            assert_eq!(own, added, "{tunnel}: {all:?}");
        }
    }
}

#[test]
fn rules_that_fail_when_loaded_are_left_out_only_where_that_was_accepted() {
    let Some((gateway, then, backup, before)) = changed() else {
        return;
    };
    stand_in(&gateway, "iptables-restore", crate::restore_failures::HALF);
    let done = gateway.holdfast(&[
        "restore",
        path(&backup),
        "--yes",
        "--keep-going-without-firewall",
    ]);
    assert_eq!(done.code(), 0, "{done}");
    for refused in 1..=3 {
        gateway.run(&["rmdir", &format!("/run/lock/refused{refused}")]);
    }
    is_restored_but_for_the_rules(
        &gateway,
        &then,
        &before,
        &["iptables-save", "ip6tables-save"],
    );
    let warned = "does not work: the backup's firewall rules are not loaded: cannot load the firewall rules: exit status ";
    assert!(
        done.stderr.contains(warned) && done.stderr.contains("NOT_THERE"),
        "{done}"
    );
    let verdict =
        "Restored in part: the gateway is as the backup says, but for the firewall rules.\n";
    assert!(done.stdout.ends_with(verdict), "{done}");
}

#[test]
fn rules_that_fail_in_the_rehearsal_are_refused_or_left_out_where_that_was_accepted() {
    let Some((gateway, then, backup, before)) = changed() else {
        return;
    };
    stand_in(&gateway, "iptables-restore", NOT_REHEARSED);
    let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");
    gateway.is(&before);
    assert!(gateway.restores().is_empty());
    insta::assert_snapshot!("refused", gateway.plain(&refused.stderr));

    let done = gateway.holdfast(&[
        "restore",
        path(&backup),
        "--yes",
        "--keep-going-without-firewall",
    ]);
    assert_eq!(done.code(), 0, "{done}");
    is_restored_but_for_the_rules(&gateway, &then, &before, &["iptables-save"]);
    // Whether the gateway is seen to write just then is chance.
    let told = done.stdout.lines().filter(|l| !l.contains("may not match"));
    let told: Vec<&str> = told.take(16).collect();
    insta::assert_snapshot!("accepted", gateway.plain(&told.join("\n")));
    let verdict =
        "Restored in part: the gateway is as the backup says, but for the IPv4 firewall rules.";
    let lines: Vec<&str> = done.stdout.lines().rev().take(2).collect();
    assert_eq!(lines[0], verdict, "{done}");
    assert!(
        lines[1]
            .starts_with("left out: the IPv4 firewall rules: those of the backup do not load here")
    );
    assert!(
        !done
            .stdout
            .contains("the backup has no IPv4 firewall rules")
    );
    let list = gateway.holdfast(&["journal", "list"]).stdout;
    assert!(list.contains("restored in part"), "{list}");
    let id = gateway.last_restore();
    let id = id.file_name().unwrap().to_str().unwrap();
    let shown = gateway.holdfast(&["journal", "show", id]).stdout;
    let kept = "no IPv4 rules of the backup were loaded: the old ones stay";
    assert!(shown.contains(verdict) && shown.contains(kept), "{shown}");
}

/// A copy of a backup with one entry more.
fn with_entry(backup: &Path, to: &Path, name: &str, bytes: &[u8]) {
    std::fs::copy(backup, to).unwrap();
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(to)
        .unwrap();
    let mut zip = zip::ZipWriter::new_append(file).unwrap();
    zip.start_file(name, zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap();
}

#[test]
fn an_archive_that_is_not_acceptable_is_refused_and_nothing_is_touched() {
    let Some((gateway, _, backup, before)) = changed() else {
        return;
    };
    let whole = std::fs::read(&backup).unwrap();
    let mut archives = Vec::new();
    let mut put = |name: &str, bytes: &[u8]| {
        let file = gateway.beside(name);
        std::fs::write(&file, bytes).unwrap();
        archives.push(file);
    };
    put("empty.zip", b"");
    put("text.zip", b"this is no zip\n");
    put("cut.zip", &whole[..whole.len() / 2]);
    put("behind.zip", &[&whole[..], b"more"].concat());
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 1;
    std::fs::write(gateway.beside("flipped.zip"), &flipped).unwrap();
    for (name, entry, bytes) in [
        ("leads-out.zip", "../evil.conf", &b"x"[..]),
        ("absolute.zip", "/etc/evil.conf", b"x"),
        ("nested.zip", "configs/deeper/evil.conf", b"x"),
        (
            "hook-nul.zip",
            "configs/evil.conf",
            b"[Interface]\nPost\0Up = touch /evil\n[Peer]\n",
        ),
    ] {
        let file = gateway.beside(name);
        with_entry(&backup, &file, entry, bytes);
        archives.push(file);
    }
    archives.push(gateway.beside("not-there.zip"));

    // What is damaged, and how, depends on where the bit lies.
    let done = gateway.holdfast(&["verify", path(&gateway.beside("flipped.zip"))]);
    assert_eq!(done.code(), 3, "{done}");
    let known = ["is damaged", "unpacks to more than it says"];
    let words = known.iter().any(|words| done.stderr.contains(words));
    assert!(words, "{done}");

    let mut told = String::new();
    for archive in archives {
        for words in [
            &["verify", path(&archive)][..],
            &["restore", path(&archive), "--yes"],
        ] {
            let done = gateway.holdfast(words);
            assert_eq!(done.code(), 3, "{done}");
            if words[0] == "restore" {
                let name = archive.file_name().unwrap().to_str().unwrap();
                let folder = archive.parent().unwrap().display().to_string();
                told += &format!(
                    "--- {name}\n{}",
                    gateway.plain(&done.stderr.replace(&folder, "DIR"))
                );
            }
        }
    }
    gateway.is(&before);
    assert!(gateway.restores().is_empty());
    insta::assert_snapshot!(told);
}
