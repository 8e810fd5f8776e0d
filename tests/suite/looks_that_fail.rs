//! A look that failed is not one that found nothing: whatever could not be looked at is said, lacks in a backup where it is a
//! part of it, and keeps a restore from beginning where it would touch it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use engine::gateway::parts::Part;
use engine::host::Family;
use engine::survey;
use fixtures::program;
use journal_format::Policy;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::{How, Sim, Trouble};

use crate::on_a_gateway::{Gateway, path, stand_in};

#[test]
fn no_program_that_fails_or_hangs_while_it_is_asked_leaves_the_facts_as_if_there_were_nothing() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let facts = |trouble: Option<Trouble>| {
        let sim = Sim::new(s.world.clone(), &s.places, trouble, false);
        let facts = survey::facts(&sim, &s.profile, &|_| true);
        (facts, sim)
    };
    let (whole, sim) = facts(None);
    let whole = whole.unwrap();
    assert!(whole.unread.is_empty() && whole.unanswered.is_empty());
    let asked = sim.asking_calls();
    assert!(asked.len() > 10, "{asked:?}");
    let mut said = Vec::new();
    for at in asked {
        for how in [How::Refused, How::Hangs] {
            let trouble = Trouble {
                at,
                for_ever: false,
                how,
            };
            let facts = facts(Some(trouble)).0.unwrap();
            assert_ne!(facts, whole, "call {at}, {how:?}");
            said.extend(facts.unread.keys().map(Part::to_string));
            said.extend(facts.unanswered.keys().cloned());
            said.extend(facts.beyond);
        }
    }
    said.sort();
    said.dedup();
    insta::assert_snapshot!(said.join("\n"));
}

/// What stands in for a program, and does not work.
fn broken(gateway: &Gateway, name: &str) {
    stand_in(
        gateway,
        name,
        "#!/bin/sh\necho 'it does not work' >&2\nexit 1\n",
    );
}

fn one_whose_service_is_a_unit() -> Option<Gateway> {
    let gateway = Gateway::small()?;
    let file = gateway.sample().profile();
    let profile = std::fs::read_to_string(&file).unwrap();
    let (before, service) = profile.split_once("name = \"sample-gateway\"\n").unwrap();
    let rest = &service[service.find("\n\n").unwrap()..];
    std::fs::write(&file, format!("{before}unit = \"sample.service\"{rest}")).unwrap();
    Some(gateway)
}

#[test]
fn where_systemd_does_not_answer_databases_lack_and_a_restore_does_not_begin_beside_a_service_that_may_run()
 {
    let Some(gateway) = one_whose_service_is_a_unit() else {
        return;
    };
    stand_in(
        &gateway,
        "systemctl",
        "#!/bin/sh\ncase \"$*\" in *ActiveState*) echo active;; esac\n",
    );
    let whole = gateway.backup();
    // It is there, and does not answer.
    let managed = "mount -t tmpfs run /run && mkdir -p /run/systemd/system";
    gateway.run(&["sh", "-c", managed]);
    broken(&gateway, "systemctl");
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    assert!(
        made.stderr
            .contains("what databases there are that the profile does not name could not be saved"),
        "{made}"
    );
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    for said in [
        "whether the service sample.service runs could not be looked at",
        "it does not work",
    ] {
        assert!(surveyed.contains(said), "{surveyed}");
    }
    let refused = gateway.holdfast(&["restore", path(&whole), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");
    assert!(
        refused
            .stderr
            .contains("tell whether the service sample.service runs"),
        "{refused}"
    );
    assert!(gateway.restores().is_empty());

    // Where nothing manages units, as in a rescue system on the mounted disk, none runs.
    gateway.run(&["umount", "/run"]);
    if !Path::new("/run/systemd/system").exists() {
        let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
        assert!(
            !surveyed.contains("runs could not be looked at"),
            "{surveyed}"
        );
    }
}

#[test]
fn sets_that_could_not_be_listed_are_not_none() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    if !Path::new("/sys/module/ip_set").exists() {
        return;
    }
    broken(&gateway, "ipset");
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    let said = "Holdfast does not know whether ipset has sets";
    assert!(surveyed.contains(said), "{surveyed}");
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
    assert!(made.stderr.contains(said), "{made}");
}

#[test]
fn rules_that_could_not_be_read_are_not_counted_as_none() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    broken(&gateway, "ip6tables-save");
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    assert!(
        surveyed.contains("rules for IPv4, unknown for IPv6"),
        "{surveyed}"
    );
}

fn config(dir: PathBuf, name: &str) -> PathBuf {
    dir.join(format!("{name}.conf"))
}

/// The rows of clients cannot be read, and this active client has no first copy.
fn without_rows(gateway: &Gateway) -> String {
    let program = program("sample-gateway-service").unwrap();
    gateway.run(&[path(&program), "stop", path(gateway.sample().root())]);
    let client = gateway.sample().active().unwrap().remove(0);
    std::fs::remove_file(config(gateway.sample().configs_dir(), &client)).unwrap();
    std::fs::write(gateway.sample().client_database(), b"no database").unwrap();
    client
}

#[test]
fn where_nobody_can_read_the_rows_a_backup_says_which_configs_may_be_clients() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let client = without_rows(&gateway);
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    let says = "the clients cannot be read, so Holdfast does not know";
    let line = made.stderr.lines().find(|l| l.contains(says));
    assert!(line.is_some_and(|l| l.contains(&client)), "{made}");
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    let line = surveyed
        .lines()
        .find(|l| l.contains("since the rows of clients cannot be read"));
    assert!(line.unwrap().contains(&client), "{surveyed}");
    let secured = gateway.holdfast(&["secure", "--dry-run"]);
    assert!(
        secured.stderr.contains("are clients'") && secured.stderr.contains(&client),
        "{secured}"
    );
}

#[test]
fn a_safety_backup_that_lacks_a_config_which_the_restore_replaces_stops_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let client = without_rows(&gateway);
    let second = config(gateway.sample().wireguard_dir(), &client);
    let mut text = std::fs::read_to_string(&second).unwrap();
    text.push_str("# changed\n");
    std::fs::write(&second, &text).unwrap();
    let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_ne!(refused.code(), 0, "{refused}");
    assert!(
        refused
            .stderr
            .contains("--without-safety-backup-of configs"),
        "{refused}"
    );
    assert_eq!(std::fs::read_to_string(&second).unwrap(), text);
    let words = [
        "restore",
        path(&backup),
        "--yes",
        "--without-safety-backup-of",
        "configs",
    ];
    gateway.holdfast(&words).ok().unwrap();
    assert_ne!(std::fs::read_to_string(&second).unwrap(), text);
}

#[test]
fn a_service_by_commands_that_cannot_be_run_is_not_one_that_is_stopped() {
    let mut s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let profile = &mut s.profile;
    profile.gateway.service.clear();
    let sim = Sim::new(s.world.clone(), &s.places, None, false);
    let facts = survey::facts(&sim, &s.profile, &|_| true).unwrap();
    assert!(facts.unanswered.is_empty() && facts.rules(Family::V4).is_some());
    let control = journal_format::Control::Commands {
        stop: vec!["/bin/true".into()],
        start: vec!["/bin/true".into()],
        active: vec!["/bin/sh".into(), "-c".into(), "/nowhere/at/all".into()],
    };
    let host = engine::host::linux::Linux::new(&s.profile);
    assert!(engine::host::stirs(&host, &control).is_err());
}
