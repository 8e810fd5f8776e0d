//! A restore that fails after the barrier goes back: everything is as before, and what it says is what an admin needs to
//! know. One that fails before the barrier touched nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use fixtures::{Finished, Misbehaviour, Picture, program, skip};
use nix::sched::{CloneFlags, setns};

use crate::on_a_gateway::{Gateway, path, small, stand_in, without_what_programs_said};
use crate::traced;

/// A small gateway that was changed after its backup, with the backup, and the picture of it now.
fn changed() -> Option<(Gateway, PathBuf, Picture)> {
    let gateway = Gateway::small()?;
    let backup = gateway.backup();
    let sample = gateway.sample();
    let database = rusqlite::Connection::open(sample.client_database()).unwrap();
    database
        .busy_timeout(std::time::Duration::from_secs(10))
        .unwrap();
    database
        .execute_batch("UPDATE clients SET subnet = '10.77.0.0/24' WHERE rowid = 4; DELETE FROM test_history WHERE id % 3 = 0;")
        .unwrap();
    let names = sample.clients().unwrap();
    std::fs::remove_file(sample.config(&names[5])).unwrap();
    let config = sample.config(&names[4]);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "# changed\n").unwrap();
    gateway.run(&[
        "iptables",
        "-A",
        "INPUT",
        "-s",
        "192.0.2.0/24",
        "-j",
        "DROP",
    ]);
    let picture = gateway.picture();
    Some((gateway, backup, picture))
}

/// The restore went back: everything is as before. What it says at its end, for a person.
fn went_back(gateway: &Gateway, done: &Finished, before: &Picture) -> String {
    assert_eq!(done.code(), 4, "{done}");
    gateway.is(before);
    gateway.is_settled();
    assert!(
        done.stdout
            .trim_end()
            .ends_with("Rolled back: the gateway is as it was before."),
        "{done}"
    );
    gateway.plain(&done.stderr)
}

/// Takes a UDP port in the gateway's network for as long as the socket lives.
pub fn take_port(gateway: &Gateway, port: u16) -> UdpSocket {
    let namespace = File::open(format!("/proc/{}/ns/net", gateway.sandbox.pid())).unwrap();
    // A thread of its own: the namespace is the thread's, the socket stays in it.
    std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        UdpSocket::bind(("0.0.0.0", port)).unwrap()
    })
    .join()
    .unwrap()
}

#[test]
fn a_tunnel_that_was_down_and_whose_port_is_taken_lacks_also_where_it_comes_up_and_hears_nothing() {
    let Some((gateway, backup, _)) = changed() else {
        return;
    };
    let sample = gateway.sample();
    let (name, port) = sample
        .active()
        .unwrap()
        .into_iter()
        .find_map(|name| {
            let text = std::fs::read_to_string(sample.config(&name)).unwrap();
            let port = text.lines().find_map(|l| l.strip_prefix("ListenPort = "))?;
            Some((name, port.trim().parse::<u16>().unwrap()))
        })
        .expect("an active client with a port of its own");
    gateway.run(&["ip", "link", "delete", "dev", &name]);
    let _socket = take_port(&gateway, port);
    // The service calls the client inactive within two seconds; after that nothing changes by itself.
    while sample.active().unwrap().contains(&name) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    // It was down before, and may be so afterwards.
    assert_eq!(done.code(), 7, "{done}");
    let headline = done.stdout.lines().find(|l| l.contains("or is down:"));
    assert!(headline.is_some_and(|l| l.contains(&name)), "{done}");
    // In userspace it comes up at first, and hears nothing.
    let deaf = format!("{name} is down: it did not listen on its port {port}");
    assert!(
        done.stderr.contains("Address already in use") || done.stdout.contains(&deaf),
        "{done}"
    );
}

#[test]
fn peers_that_were_set_while_a_tunnel_ran_are_there_again_after_going_back() {
    let Some((gateway, backup, _)) = changed() else {
        return;
    };
    let sample = gateway.sample();
    let tunnel = sample.active().unwrap().remove(0);
    let of_config = gateway.run(&["wg", "show", &tunnel, "peers"]);
    gateway.run(&["wg", "set", &tunnel, "peer", of_config.trim(), "remove"]);
    let secret = gateway.beside("secret");
    std::fs::write(&secret, gateway.run(&["wg", "genpsk"])).unwrap();
    for (key, allowed) in [("1", "10.99.0.2/32,fd99::/64"), ("2", "")] {
        let key = format!("{}{key}=", "A".repeat(42))
            .replace("1=", "E=")
            .replace("2=", "I=");
        let set = ["wg", "set", &tunnel, "peer", &key, "allowed-ips", allowed];
        let rest = ["persistent-keepalive", "25", "preshared-key", path(&secret)];
        gateway.run(&[&set[..], &rest].concat());
    }
    let how = Misbehaviour::FailStart { times: Some(2) };
    sample.misbehave(how).unwrap();
    let before = gateway.picture();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    went_back(&gateway, &done, &before);
    let said = "gave 1 tunnel the peers again that were set while it ran";
    assert!(done.stdout.contains(said), "{done}");
    let secret = std::fs::read_to_string(secret).unwrap();
    assert!(!done.to_string().contains(secret.trim()));
    let journal = std::fs::read_to_string(gateway.last_restore().join("journal")).unwrap();
    assert!(!journal.contains(secret.trim()));
}

#[test]
fn tunnels_whose_peers_were_all_taken_away_have_none_after_going_back() {
    let Some((gateway, backup, _)) = changed() else {
        return;
    };
    let sample = gateway.sample();
    for tunnel in sample.active().unwrap() {
        for peer in gateway.run(&["wg", "show", &tunnel, "peers"]).lines() {
            gateway.run(&["wg", "set", &tunnel, "peer", peer, "remove"]);
        }
    }
    let how = Misbehaviour::FailStart { times: Some(2) };
    sample.misbehave(how).unwrap();
    let before = gateway.picture();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    went_back(&gateway, &done, &before);
}

#[test]
fn a_tunnel_whose_pre_down_fails_goes_down_and_the_operator_is_told() {
    let Some((gateway, backup, before)) = changed() else {
        return;
    };
    let sample = gateway.sample();
    let tunnel = &sample.active().unwrap()[0];
    let config = sample.config(tunnel);
    let text = std::fs::read_to_string(&config).unwrap();
    let hook = "[Interface]\nPreDown = iptables -D FORWARD -i %i -j DROP";
    std::fs::write(&config, text.replacen("[Interface]", hook, 1)).unwrap();
    let how = Misbehaviour::FailStart { times: Some(2) };
    sample.misbehave(how).unwrap();
    let mine = format!("file etc_wireguard/{tunnel}.conf");
    let but_mine = |picture: Picture| picture.without(|part| part == mine);
    let told = format!("{tunnel} is down, but a command of its config failed: iptables: Bad rule");

    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 4, "{done}");
    assert!(done.stdout.contains(&told), "{done}");
    assert_eq!(
        but_mine(before).diff(&but_mine(gateway.picture())),
        Vec::<String>::new()
    );

    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    assert!(done.stdout.contains(&told), "{done}");
    gateway.is_settled();
}

/// `iptables-restore` takes the backup's rules in the rehearsal, and loads half of them when it counts, each time that the step tries.
pub const HALF: &str = r#"#!/bin/sh
real=/usr/sbin/iptables-restore
rules=$(cat)
comes=$(printf '%s\n' "$rules" | grep -cE '^-[AI] .*MASQUERADE')
for try in 1 2 3; do
    if [ "$1" = --noflush ] && [ "$comes" -gt 0 ] && mkdir /run/lock/refused$try 2>/dev/null; then
        printf '%s\n' "$rules" | sed 's/-j MASQUERADE/-j NOT_THERE/' | $real "$@"
        exit
    fi
done
printf '%s\n' "$rules" | $real "$@"
"#;

#[test]
fn rules_that_are_refused_half_way_turn_it_back_and_no_table_stays_half_loaded() {
    let Some((gateway, backup, before)) = changed() else {
        return;
    };
    stand_in(&gateway, "iptables-restore", HALF);
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert!(gateway.sandbox.inside("/run/lock/refused3").exists());
    for refused in 1..=3 {
        gateway.run(&["rmdir", &format!("/run/lock/refused{refused}")]);
    }
    let said = went_back(&gateway, &done, &before);
    assert!(
        said.contains("\n  | ") && said.contains("NOT_THERE"),
        "{said}"
    );
    insta::assert_snapshot!(without_what_programs_said(&said));
}

#[test]
fn a_service_that_does_not_start_turns_it_back() {
    let Some((gateway, backup, before)) = changed() else {
        return;
    };
    let how = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(how).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    insta::assert_snapshot!(went_back(&gateway, &done, &before));
}

#[test]
fn a_service_that_ends_right_after_its_start_turns_it_back() {
    let Some((gateway, backup, before)) = changed() else {
        return;
    };
    let how = Misbehaviour::DieAfterStart { times: Some(2) };
    gateway.sample().misbehave(how).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    insta::assert_snapshot!(went_back(&gateway, &done, &before));
}

#[test]
fn a_service_that_does_not_stop_turns_it_back_before_any_tunnel_went_down() {
    let Some((gateway, backup, before)) = changed() else {
        return;
    };
    let how = Misbehaviour::IgnoreStop { times: None };
    gateway.sample().misbehave(how).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    insta::assert_snapshot!(went_back(&gateway, &done, &before));
    assert!(!done.stdout.contains("take tunnels down"), "{done}");
}

#[test]
fn a_process_that_holds_a_database_and_does_not_go_turns_it_back() {
    let Some((gateway, backup, before)) = changed() else {
        return;
    };
    let database = gateway.sample().client_database();
    let line = format!("exec 3<'{}'; echo holds; exec sleep 1000", path(&database));
    let mut holder = gateway.sandbox.spawn(&["bash", "-c", &line]).unwrap();
    while holder.stdout_so_far().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    let said = went_back(&gateway, &done, &before);
    assert!(holder.kill9().unwrap());
    let settings = {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"\(pid \d+\)", "(pid PID)");
        settings
    };
    settings.bind(|| insta::assert_snapshot!(said));
}

#[test]
fn a_process_that_lets_go_of_a_database_in_time_is_waited_for() {
    let Some((gateway, backup, _)) = changed() else {
        return;
    };
    let database = gateway.sample().client_database();
    let journals = gateway.sample().state_dir().join("restores");
    let line = format!(
        "exec 3<'{}'; echo holds; \
         until grep -qs '\"step\":\"settle-databases\",\"direction\"' '{}'/*/journal; do sleep 0.02; done; \
         sleep 0.5; echo lets go",
        path(&database),
        path(&journals)
    );
    let mut holder = gateway.sandbox.spawn(&["bash", "-c", &line]).unwrap();
    while holder.stdout_so_far().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    let said = holder.stdout_so_far().unwrap();
    let _ = holder.kill9();
    assert_eq!(done.code(), 0, "{done}");
    assert!(said.contains("lets go"), "{said}");
}

/// Runs a restore with one call of one kind failing with EIO, the `when`th. None if there is no such call.
fn with_a_failing(gateway: &Gateway, call: &str, when: usize, backup: &Path) -> Option<Finished> {
    let log = gateway.beside(&format!("{call}-{when}"));
    let (trace, inject) = (
        format!("trace={call}"),
        format!("inject={call}:error=EIO:when={when}"),
    );
    let options = ["-o", path(&log), "-e", &trace, "-e", &inject];
    let restore = ["restore", path(backup), "--yes"];
    let done = traced::workers(&gateway.sandbox, &options, || gateway.holdfast(&restore));
    let log = std::fs::read_to_string(log).unwrap();
    log.contains("INJECTED").then_some(done)
}

/// Ends as before, whichever call of a kind fails once: 4 after the first effect, 1 or 3 before it. Only from the commit on
/// it ends restored; then there is a verdict too. A few are taken: `system_calls.rs` takes calls of every kind.
fn a_failing(call: &str, whens: impl IntoIterator<Item = usize>) {
    if skip::lacks(&["strace"]) {
        return;
    }
    let Some((gateway, backup, before)) = changed() else {
        return;
    };
    let (mut nothing, mut back) = (0, 0);
    for when in whens {
        let there = gateway.backups();
        let Some(done) = with_a_failing(&gateway, call, when, &backup) else {
            break;
        };
        let why = format!("the {when}. {call}: {done}");
        assert!(
            done.stderr.contains("Input/output error") || done.code() == 0,
            "{why}"
        );
        if done.code() == 0 {
            let committed = gateway.records().iter().any(|r| r["entry"] == "committed");
            assert!(committed, "{why}");
            gateway.is_settled();
            break;
        }
        assert_eq!(
            before.diff(&gateway.picture()),
            Vec::<String>::new(),
            "{why}"
        );
        let status = gateway.holdfast(&["status"]).stdout;
        assert!(status.starts_with("idle\n"), "{why}: {status}");
        match done.code() {
            1 | 3 => {
                assert_eq!(back, 0, "nothing changed any more? {why}");
                // What it saved is what is there.
                assert_eq!(gateway.backups(), there, "{why}");
                nothing += 1;
            }
            4 => {
                gateway.is_settled();
                back += 1;
            }
            _ => panic!("{why}"),
        }
    }
    assert!(
        nothing > 0 && back > 0,
        "{call}: {nothing} ended before the first effect, {back} after it"
    );
}

#[test]
fn an_fsync_that_fails_once_turns_it_back_or_keeps_it_from_beginning() {
    a_failing("fsync", [12, 34, 42]);
}

#[test]
fn a_failing_sync_of_a_filesystem_turns_it_back_or_keeps_it_from_beginning() {
    a_failing("syncfs", 1..);
}

#[test]
fn a_journal_that_cannot_be_synced_is_handed_over_to_a_recovery_that_goes_back() {
    a_failing("fdatasync", [1, 9, 19]);
}

#[test]
fn a_disk_that_fills_up_turns_it_back_and_leaves_room_for_the_old_service() {
    let Some(gateway) = Gateway::bare(small) else {
        return;
    };
    let root = path(gateway.sample().root()).to_owned();
    gateway.run(&["cp", "-a", &root, "/run/copy"]);
    gateway.run(&["mount", "-t", "tmpfs", "-o", "size=48m", "disk", &root]);
    gateway.run(&[
        "bash",
        "-c",
        &format!("cp -a /run/copy/. {root} && rm -r /run/copy"),
    ]);
    let born = gateway.run(&["stat", "-c", "%W", &root]);
    if born.trim() == "0" {
        skip::record("needs a tmpfs that keeps times of birth");
        return;
    }
    gateway.sandbox.bring_up().unwrap();
    let helper = program("holdfast-sample").unwrap();
    let picture = || gateway.run(&[path(&helper), "picture", &root]);

    let backup = gateway.backup();
    gateway.run(&[
        "iptables",
        "-A",
        "INPUT",
        "-s",
        "192.0.2.0/24",
        "-j",
        "DROP",
    ]);
    let before = picture();
    // Full from its first effect for as long as it goes forward, also where something is freed on the way: the service cannot write its pid, which
    // it must to start.
    let filler = format!(
        "until [ -e {root}/state/restores/*/before/tunnels ]; do :; done
         head -c 64M /dev/zero >> {root}/run/filler
         while ls {root}/state/restores/*/ballast > /dev/null; do head -c 64K /dev/zero >> {root}/run/filler; done; true"
    );
    let filler = gateway.sandbox.spawn(&["bash", "-c", &filler]).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    let filled = filler.wait().unwrap();
    assert!(
        filled.stderr.contains("No space left on device"),
        "{filled}"
    );
    assert_eq!(done.code(), 4, "{done}");
    gateway.run(&["rm", &format!("{root}/run/filler")]);
    assert_eq!(picture(), before);
    gateway.run(&["test", "!", "-e", &format!("{root}/state/open")]);
    let status = gateway.holdfast(&["status"]).stdout;
    assert!(status.starts_with("idle\n"), "{status}");
    insta::assert_snapshot!(gateway.plain(&done.stderr));
}

#[test]
fn what_a_clean_up_leaves_over_is_named_and_tried_again_at_each_start() {
    let Some((gateway, backup, _)) = changed() else {
        return;
    };
    let mut restore = gateway.begin(&["restore", path(&backup), "--yes"]);
    assert!(gateway.barrier_is_up(&mut restore));
    let plan = &gateway.records()[1]["entry"]["plan"];
    let staging = PathBuf::from(plan["staging"][0].as_str().unwrap());
    // It takes files away, and this is none.
    let foreign = staging.join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    let done = restore.wait().unwrap();
    assert_eq!(done.code(), 0, "{done}");
    let warned = |said: &str| said.contains("the clean-up is not complete: cannot remove");
    assert!(warned(&done.stderr), "{done}");
    gateway.is_settled();

    let id = gateway.last_restore();
    let id = id.file_name().unwrap().to_str().unwrap();
    let again = gateway.holdfast(&["recover"]);
    assert_eq!(again.code(), 0, "{again}");
    let failed = format!("warning: restore {id} is over, but not cleaned up: cannot remove");
    assert!(again.stderr.contains(&failed), "{again}");

    std::fs::remove_dir(&foreign).unwrap();
    let again = gateway.holdfast(&["recover"]);
    let state_dir = gateway.sample().state_dir();
    let state_dir = state_dir.display();
    let tidied = format!(
        "nothing to do: no restore is open; state_dir is {state_dir}\nrestore {id}: what was left over is cleaned up\n"
    );
    assert_eq!((again.code(), &again.stdout), (0, &tidied), "{again}");
    assert!(!staging.exists());
    gateway.is_settled();
    let idle = gateway.holdfast(&["recover"]);
    assert_eq!(
        idle.stdout,
        format!("nothing to do: no restore is open; state_dir is {state_dir}\n"),
        "{idle}"
    );
}
