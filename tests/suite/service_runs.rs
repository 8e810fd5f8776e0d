//! A gateway's service on a real gateway: whether it runs is looked at for long enough, and what it does while it must be down.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use fixtures::{Finished, Misbehaviour, program};
use nix::sys::signal::{Signal, kill};

use crate::a_unit::with_a_unit;
use crate::on_a_gateway::{Gateway, hold_clients, path};

mod started_again;

/// From now on the service is watched for longer than one that dies later lives.
fn watches(gateway: &Gateway) {
    let profile = gateway.sample().profile();
    let text = std::fs::read_to_string(&profile).unwrap();
    let changed = text.replacen("watch_seconds = 0\n", "watch_seconds = 3\n", 1);
    assert_ne!(text, changed);
    std::fs::write(&profile, changed).unwrap();
}

#[test]
fn a_service_that_dies_while_it_is_watched_is_started_once_more() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    watches(&gateway);
    let backup = gateway.backup();
    let how = Misbehaviour::DieLater { times: Some(1) };
    gateway.sample().misbehave(how).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    gateway.is_settled();
}

#[test]
fn a_service_that_always_dies_while_it_is_watched_turns_the_restore_back_and_is_stopped() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    watches(&gateway);
    let backup = gateway.backup();
    let how = Misbehaviour::DieLater { times: None };
    gateway.sample().misbehave(how).unwrap();
    let before = gateway.picture();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 4, "{done}");
    assert!(
        done.stderr.contains("it ended soon after its start"),
        "{done}"
    );
    assert!(
        done.stdout.contains("does not run, though it ran before"),
        "{done}"
    );
    let differs = before.diff(&gateway.picture());
    assert_eq!(differs.len(), 1, "{differs:?}");
    assert!(differs[0].contains("service sample-gateway"), "{differs:?}");
    let status = gateway.holdfast(&["status"]);
    assert!(
        status.stdout.contains("sample-gateway does not run"),
        "{status}"
    );
}

#[test]
fn a_client_that_a_start_called_inactive_is_active_again_after_both_endings_and_named() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let active = sample.active().unwrap();
    // Another client of the same name, whose row nobody touches.
    let database = rusqlite::Connection::open(sample.client_database()).unwrap();
    let twin = "INSERT INTO clients (id, name, config_path, subnet, public_key, status) SELECT 'twin', name, config_path, subnet, \
                'another', 'inactive' FROM clients WHERE name = ?1";
    database.execute(twin, [&active[1]]).unwrap();
    drop(database);
    let backup = gateway.backup();
    sample.starts_cannot_see_to(&[&active[0]]).unwrap();
    let before = gateway.picture();
    for (fails, status) in [(None, 0), (Some(2), 4)] {
        if let Some(times) = fails {
            let how = Misbehaviour::FailStart { times: Some(times) };
            sample.misbehave(how).unwrap();
        }
        let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
        assert_eq!(done.code(), status, "{done}");
        let named = format!("marked 1 client ({}) inactive", active[0]);
        assert!(done.stdout.contains(&named), "{done}");
        assert_eq!(sample.active().unwrap(), active, "{done}");
        let mut differs = before.diff(&gateway.picture());
        // The time of the change is that of the row's last.
        differs.retain(|line| !line.contains("database configs.db clients"));
        assert!(differs.is_empty(), "{differs:?}");
    }
}

#[test]
fn a_client_that_cannot_be_set_active_again_lacks_until_a_recovery_can() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    gateway.is_impatient();
    let (sample, backup) = (gateway.sample(), gateway.backup());
    let active = sample.active().unwrap();
    sample.starts_cannot_see_to(&[&active[0]]).unwrap();
    let mut held = None;
    // The look that follows leaves time enough before the clean-up.
    let ended = meanwhile(&gateway, &backup, "start-services", || {
        held = Some(hold_clients(sample));
    });
    assert_eq!(ended.code(), 7, "{ended}");
    let status = gateway.holdfast(&["status"]);
    assert_eq!(status.code(), 7, "{status}");
    assert!(
        status
            .stdout
            .contains("no later boot brings up such a client"),
        "{status}"
    );
    let still = gateway.holdfast(&["recover"]);
    assert_eq!(still.code(), 7, "{still}");
    drop(held);
    let recovered = gateway.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 0, "{recovered}");
    assert_eq!(sample.active().unwrap(), active);
    assert_eq!(gateway.holdfast(&["status"]).code(), 0);
    gateway.is_settled();
}

#[test]
fn a_unit_that_its_manager_refuses_to_start_once_more_is_started_all_the_same() {
    let Some(gateway) = with_a_unit() else {
        return;
    };
    let backup = gateway.backup();
    std::fs::write(gateway.sample().root().join("start-limit-hit"), "").unwrap();
    let refused = gateway
        .sandbox
        .run(&["systemctl", "start", "sample.service"]);
    assert_eq!(refused.unwrap().code(), 1);
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    gateway.is_settled();
}

#[test]
fn a_unit_that_dies_and_is_started_again_by_its_manager_while_it_is_watched_does_not_run() {
    let Some(gateway) = with_a_unit() else {
        return;
    };
    watches(&gateway);
    let backup = gateway.backup();
    let dies = gateway.sample().root().join("dies");
    std::fs::write(&dies, "").unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    std::fs::remove_file(&dies).unwrap();
    assert_eq!(done.code(), 4, "{done}");
    let said = "start sample.service: it ended soon after its start";
    assert!(done.stderr.contains(said), "{done}");
    let said = "sample.service does not run, though it ran before: it ended soon after its start";
    assert!(done.stdout.contains(said), "{done}");
}

/// The journal of the last restore.
fn journal(gateway: &Gateway) -> String {
    let restores = gateway.restores();
    let journal = restores.last().map(|dir| dir.join("journal"));
    let text = journal.and_then(|file| std::fs::read_to_string(file).ok());
    text.unwrap_or_default()
}

/// How often it says this of a stop of the services.
fn stops(gateway: &Gateway, what: &str) -> usize {
    let said = format!("\"{what}\":{{\"move\":{{\"step\":\"stop-services\"");
    journal(gateway).matches(&said).count()
}

#[test]
fn a_unit_that_somebody_starts_over_and_over_stays_down_until_the_restore_starts_it() {
    let Some(gateway) = with_a_unit() else {
        return;
    };
    let backup = gateway.backup();
    let watchdog = "while :; do systemctl start sample.service; sleep 0.02; done";
    let mut watchdog = gateway.sandbox.spawn(&["sh", "-c", watchdog]).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert!(watchdog.kill9().unwrap());
    assert_eq!(done.code(), 0, "{done}");
    let held = std::fs::read_to_string(gateway.sample().root().join("held"));
    assert!(held.unwrap().lines().count() > 5, "nobody was held back");
    assert_eq!(stops(&gateway, "intent"), 1);
    let left = gateway.run(&["find", "/run/systemd/system", "-name", "*.conf"]);
    assert_eq!(left, "");
    gateway.is_settled();
}

#[test]
fn after_a_crash_the_unit_is_held_until_the_recovery_starts_it_and_free_afterwards() {
    let Some(gateway) = with_a_unit() else {
        return;
    };
    let backup = gateway.backup();
    let held = "/run/systemd/system/sample.service.d/50-holdfast-held.conf";
    let mut restore = gateway.begin(&["restore", path(&backup), "--yes"]);
    assert!(gateway.await_while(&mut restore, || stops(&gateway, "done") == 1));
    assert!(restore.kill_worker().unwrap());
    assert_eq!(restore.wait().unwrap().code(), 5);
    gateway.run(&["systemctl", "start", "sample.service"]);
    assert_eq!(
        gateway.run(&["systemctl", "show", "-p=ActiveState"]),
        "inactive\n"
    );
    let done = gateway.holdfast(&["recover"]);
    assert!([0, 4].contains(&done.code()), "{done}");
    assert!(!gateway.sandbox.inside(held).exists());
    assert_eq!(
        gateway.run(&["systemctl", "show", "-p=ActiveState"]),
        "active\n"
    );
    gateway.is_settled();
}

/// The databases that the service has open, as it has their names now.
fn open_databases(gateway: &Gateway) -> Vec<String> {
    let root = path(gateway.sample().root());
    let list = format!("set -- $(cat $(find {root} -name service.pid)); ls -l /proc/$1/fd");
    let fds = gateway.run(&["sh", "-c", &list]);
    let targets = fds.lines().filter_map(|line| line.split_once(" -> "));
    let named = targets.map(|(_, target)| target.to_owned());
    named.filter(|target| target.contains(".db")).collect()
}

/// Stops the worker of a restore once this step is done, lets somebody act, and goes on to the end.
fn meanwhile(gateway: &Gateway, backup: &Path, step: &str, act: impl FnOnce()) -> Finished {
    let mut restore = gateway.begin(&["restore", path(backup), "--yes"]);
    let done = format!("\"done\":{{\"move\":{{\"step\":\"{step}\"");
    assert!(gateway.await_while(&mut restore, || journal(gateway).contains(&done)));
    let worker = restore.worker().unwrap().unwrap();
    kill(worker, Signal::SIGSTOP).unwrap();
    act();
    kill(worker, Signal::SIGCONT).unwrap();
    restore.wait().unwrap()
}

fn start_behind_its_back(gateway: &Gateway) {
    let service = program("sample-gateway-service").unwrap();
    gateway.run(&[path(&service), "start", path(gateway.sample().root())]);
}

/// Where the clients' database lies that the restore took out of its place.
fn old_database(gateway: &Gateway) -> String {
    let database = gateway.sample().client_database();
    let folder = path(database.parent().unwrap()).to_owned();
    format!(
        "{folder}/.holdfast-*/{}",
        database.file_name().unwrap().to_str().unwrap()
    )
}

#[test]
fn a_service_that_somebody_starts_while_it_must_be_down_ends_on_the_databases_in_place() {
    for step in [
        "settle-databases",
        "tunnels-down",
        "swap-databases",
        "swap-configs",
    ] {
        let Some(gateway) = Gateway::small() else {
            return;
        };
        let backup = gateway.backup();
        // A `wg-quick` of the restore may be under way, and the start may then fail over that tunnel.
        let service = program("sample-gateway-service").unwrap();
        let start = [path(&service), "start", path(gateway.sample().root())];
        let ended = meanwhile(&gateway, &backup, step, || {
            gateway.sandbox.run(&start).unwrap();
        });
        assert!([0, 4].contains(&ended.code()), "{step}: {ended}");
        let open = open_databases(&gateway);
        assert!(open.len() >= 3, "{step}: {open:?}");
        for name in open {
            let is_old = ["deleted", ".holdfast", "originals", "found"];
            assert!(
                !is_old.iter().any(|word| name.contains(word)),
                "{step}: {name}"
            );
        }
        gateway.is_settled();
    }
}

#[test]
fn a_process_that_still_works_on_a_replaced_database_is_named_with_the_command_that_ends_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let line = format!(
        "exec 3< $(ls {}); echo holds; exec sleep 1000",
        old_database(&gateway)
    );
    let mut holder = None;
    let ended = meanwhile(&gateway, &backup, "swap-databases", || {
        let process = gateway.sandbox.spawn(&["sh", "-c", &line]).unwrap();
        while process.stdout_so_far().unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        holder = Some(process);
    });
    assert_eq!(ended.code(), 0, "{ended}");
    let said = format!(
        "still has a {} open that is not in its place any more: what it writes there is lost",
        path(&gateway.sample().client_database())
    );
    assert!(ended.stdout.contains(&said), "{ended}");
    assert!(ended.stdout.contains("or end it: kill "), "{ended}");
    assert!(journal(&gateway).contains("\"old-database-held\""));
    assert!(holder.unwrap().kill9().unwrap());
    gateway.is_settled();
}

#[test]
fn a_new_file_that_somebody_removes_or_changes_after_the_look_at_rest_is_named() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let (sample, backup) = (gateway.sample(), gateway.backup());
    let active = sample.active().unwrap();
    let mut down = sample.clients().unwrap();
    down.retain(|client| !active.contains(client));
    let [gone, changed] = [0, 1].map(|n| sample.config(&down[n]));
    for config in [&gone, &changed] {
        let text = std::fs::read_to_string(config).unwrap();
        std::fs::write(config, format!("{text}# changed since\n")).unwrap();
    }
    let ended = meanwhile(&gateway, &backup, "verify-at-rest", || {
        std::fs::remove_file(&gone).unwrap();
        std::fs::write(&changed, "# an editor's\n").unwrap();
    });
    assert_eq!(ended.code(), 0, "{ended}");
    for (path, what) in [(&gone, "is gone"), (&changed, "was changed by others")] {
        let said = format!("{} {what}", path.display());
        assert!(ended.stdout.contains(&said), "{said}: {ended}");
    }
}

#[test]
fn a_service_that_works_on_a_replaced_database_is_started_anew_and_nobody_is_named() {
    let Some(gateway) = with_a_unit() else {
        return;
    };
    let backup = gateway.backup();
    // There is time while the fence is lifted.
    let slow = "#!/bin/sh\nsleep 0.5\nexec /usr/sbin/nft \"$@\"\n";
    std::fs::write(gateway.sandbox.inside("/usr/local/sbin/nft"), slow).unwrap();
    gateway.run(&["chmod", "755", "/usr/local/sbin/nft"]);
    let holder = gateway.sample().root().join("holder");
    let line = format!(
        "exec 3< $(ls {}); setsid sleep 1000 & echo $! > {}",
        old_database(&gateway),
        path(&holder)
    );
    let ended = meanwhile(&gateway, &backup, "verify-at-rest", || {
        start_behind_its_back(&gateway);
        gateway.run(&["sh", "-c", &line]);
    });
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(journal(&gateway).contains("started sample.service"));
    assert!(!journal(&gateway).contains("old-database-held"));
    gateway.is_settled();
}

#[test]
fn a_process_that_does_not_let_go_of_a_new_database_keeps_no_rollback_from_its_end_and_is_named() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let before = gateway.picture();
    let how = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(how).unwrap();
    let database = gateway.sample().client_database();
    let line = format!("exec 3< '{}'; echo holds; exec sleep 1000", path(&database));
    let mut holder = None;
    let ended = meanwhile(&gateway, &backup, "swap-databases", || {
        let process = gateway.sandbox.spawn(&["sh", "-c", &line]).unwrap();
        while process.stdout_so_far().unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        holder = Some(process);
    });
    assert_eq!(ended.code(), 4, "{ended}");
    assert!(
        ended.stdout.contains("is not in its place any more"),
        "{ended}"
    );
    assert!(holder.unwrap().kill9().unwrap());
    gateway.is(&before);
    gateway.is_settled();
}

#[test]
fn where_that_is_accepted_a_restore_ends_without_the_service_and_names_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let how = |times| Misbehaviour::FailStart { times };
    gateway.sample().misbehave(how(Some(2))).unwrap();
    let words = ["restore", path(&backup), "--yes"];
    let refused = gateway.holdfast(&words);
    assert_eq!(refused.code(), 4, "{refused}");
    assert!(
        refused.stderr.contains("--keep-going-without-services"),
        "{refused}"
    );
    gateway.sample().misbehave(how(None)).unwrap();
    let done = gateway.holdfast(&[&words[..], &["--keep-going-without-services"]].concat());
    assert_eq!(done.code(), 7, "{done}");
    assert!(
        done.stdout
            .contains("sample-gateway does not run, though it ran before"),
        "{done}"
    );
    assert!(journal(&gateway).contains("\"verdict\":\"restored\""));

    // Whoever restores again has that service started, and is told if it does not run then either.
    let still = gateway.holdfast(&["undo", "--yes", "--keep-going-without-services"]);
    assert_eq!(still.code(), 7, "{still}");
    assert!(
        still.to_string().contains("this restore starts it"),
        "{still}"
    );
    let status = gateway.holdfast(&["status"]);
    assert_eq!(status.code(), 7, "{status}");
    gateway.sample().behave().unwrap();
    let undone = gateway.holdfast(&["undo", "--yes"]);
    assert_eq!(undone.code(), 0, "{undone}");
    assert_eq!(gateway.holdfast(&["status"]).code(), 0);
    let runs = gateway.holdfast(&["--json", "survey"]).stdout;
    assert!(
        runs.contains("\"services_running\":[\"sample-gateway\"]"),
        "{runs}"
    );
    gateway.is_settled();
}
