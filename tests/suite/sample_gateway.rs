//! The sample gateway and its sandbox are what the other tests take them for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fixtures::{Misbehaviour, Picture, Real, Sample, Sandbox, Shape, format_1_0, program, skip};

fn helper(name: &str) -> String {
    program(name).unwrap().to_str().unwrap().to_owned()
}

/// Runs the gateway's service command inside.
fn service(sandbox: &Sandbox, command: &str) -> fixtures::Finished {
    let root = sandbox.sample().root().to_str().unwrap().to_owned();
    sandbox
        .run(&[&helper("sample-gateway-service"), command, &root])
        .unwrap()
}

/// Waits until a process is gone.
fn is_gone(pid: i32) -> bool {
    for _ in 0..500 {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn the_real_gateway_of_5_comes_up_and_two_pictures_of_it_are_equal() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sample = Real::gateway_5().unpack(folder.path()).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();

    let first = Picture::take(&sandbox).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    let second = Picture::take(&sandbox).unwrap();
    assert_eq!(first.diff(&second), Vec::<String>::new());
    assert_ne!(
        Picture::take_whole(&sandbox).unwrap().diff(&second),
        Vec::<String>::new(),
        "the service has written nothing"
    );

    assert_eq!(first.part("service sample-gateway"), Some("runs"));
    for forward in ["ip_forward", "ipv6_forward"] {
        assert_eq!(first.part(forward), Some("1"));
    }
    assert!(
        first
            .part("tunnel c00000_30058fa2")
            .unwrap()
            .contains("allowed-ips 10.2.0.0/24")
    );
    let rules = first.part("iptables-save nat").unwrap();
    assert_eq!(
        rules.matches("-o c00000_30058fa2 -j MASQUERADE").count(),
        1,
        "{rules}"
    );
    assert_eq!(
        first.part("database configs.db sqlite_sequence 'test_history'"),
        Some("'test_history', 60")
    );
}

#[test]
fn a_picture_shows_what_changed() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::generate(&folder.path().join("gateway"), &Shape::default()).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();
    let before = Picture::take(&sandbox).unwrap();

    let database = rusqlite::Connection::open(sample.client_database()).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    database
        .execute(
            "UPDATE clients SET subnet = '10.9.0.0/24' WHERE rowid = 2",
            [],
        )
        .unwrap();
    let name = &sample.clients().unwrap()[1];
    std::fs::write(sample.config(name), "[Interface]\n").unwrap();
    std::fs::write(sample.wireguard_dir().join(".left-over"), "").unwrap();
    for argv in [
        &["iptables", "-A", "FORWARD", "-j", "DROP"][..],
        &["ip6tables", "-A", "INPUT", "-j", "DROP"],
        &["nft", "add", "table", "inet", "stranger"],
        &["wg", "set", "wg-admin", "listen-port", "61998"],
        &["sysctl", "-qw", "net.ipv4.ip_forward=0"],
        &["sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"],
    ] {
        sandbox.run(argv).unwrap().ok().unwrap();
    }
    service(&sandbox, "stop").ok().unwrap();

    let differs: Vec<String> = before
        .diff(&Picture::take(&sandbox).unwrap())
        .iter()
        .map(|line| line.splitn(3, ": ").take(2).collect::<Vec<_>>().join(": "))
        .collect();
    assert_eq!(
        differs,
        [
            "changed: database configs.db clients row 2".to_owned(),
            format!("changed: file etc_wireguard/{name}.conf"),
            "changed: ip6tables-save filter".to_owned(),
            "changed: ip_forward".to_owned(),
            "changed: iptables-save filter".to_owned(),
            "changed: ipv6_forward".to_owned(),
            "changed: service sample-gateway".to_owned(),
            "changed: tunnel wg-admin".to_owned(),
            "new: file etc_wireguard/.left-over".to_owned(),
            "new: nft table inet stranger".to_owned(),
        ]
    );
}

#[test]
fn every_active_client_of_a_generated_gateway_is_a_tunnel_that_comes_up() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        active: 12,
        wal: true,
        hooks: true,
        owner: (999, 995),
        ..Shape::of(48)
    };
    let sample = Sample::generate(&folder.path().join("gateway"), &shape).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();
    let picture = Picture::take(&sandbox).unwrap();
    let mut expected = sample.active().unwrap();
    assert_eq!(expected.len(), 12);
    expected.push("wg-admin".into());
    let up: Vec<&str> = picture
        .parts()
        .filter_map(|(name, _)| name.strip_prefix("tunnel "))
        .collect();
    assert_eq!(up, expected);
}

#[test]
fn the_service_holds_every_database_and_calls_a_client_inactive_whose_tunnel_is_gone() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::generate(&folder.path().join("gateway"), &Shape::default()).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();

    let held = sandbox
        .run(&["bash", "-c", "readlink /proc/[0-9]*/fd/*"])
        .unwrap()
        .stdout;
    for database in sample.databases() {
        assert!(
            held.lines().any(|line| Path::new(line) == database.path),
            "{held}"
        );
    }

    let name = sample.active().unwrap().remove(0);
    let config = sample.config(&name);
    sandbox
        .run(&["wg-quick", "down", config.to_str().unwrap()])
        .unwrap()
        .ok()
        .unwrap();
    let mut active = sample.active().unwrap();
    for _ in 0..50 {
        if active.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        active = sample.active().unwrap();
    }
    assert_eq!(active, Vec::<String>::new());
}

#[test]
fn the_service_adds_its_rules_a_second_time_when_it_starts_again() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::generate(&folder.path().join("gateway"), &Shape::default()).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();
    service(&sandbox, "stop").ok().unwrap();
    assert_eq!(service(&sandbox, "active").code(), 1);
    service(&sandbox, "start").ok().unwrap();
    assert_eq!(service(&sandbox, "active").code(), 0);
    let name = sample.active().unwrap().remove(0);
    let picture = Picture::take(&sandbox).unwrap();
    let rules = picture.part("iptables-save nat").unwrap();
    assert_eq!(
        rules.matches(&format!("-o {name} -j MASQUERADE")).count(),
        2,
        "{rules}"
    );
}

#[test]
fn the_service_misbehaves_as_often_as_it_is_told() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::generate(&folder.path().join("gateway"), &Shape::default()).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();

    sample
        .misbehave(Misbehaviour::IgnoreStop { times: Some(1) })
        .unwrap();
    assert_eq!(service(&sandbox, "stop").code(), 1);
    assert_eq!(service(&sandbox, "active").code(), 0);
    assert_eq!(service(&sandbox, "stop").code(), 0);
    assert_eq!(service(&sandbox, "active").code(), 1);

    sample
        .misbehave(Misbehaviour::FailStart { times: Some(1) })
        .unwrap();
    assert_eq!(service(&sandbox, "start").code(), 1);
    assert_eq!(service(&sandbox, "active").code(), 1);
    assert_eq!(service(&sandbox, "start").code(), 0);
    assert_eq!(service(&sandbox, "active").code(), 0);
}

#[test]
fn a_wal_gateway_comes_up_with_the_rows_that_only_its_wal_has() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sample = Real::gateway_wal_100().unpack(folder.path()).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();
    let picture = Picture::take(&sandbox).unwrap();
    let rows = picture
        .parts()
        .filter(|(name, _)| name.starts_with("database configs.db monitoring_logs row"));
    assert_eq!(rows.count(), 2700);
    let rows = picture
        .parts()
        .filter(|(name, _)| name.starts_with("database app.db alert_history row"));
    assert_eq!(rows.count(), 1500);
}

#[test]
fn nothing_of_a_sandbox_is_left_when_it_is_dropped_or_its_holder_is_killed() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sample = Real::gateway_5().unpack(folder.path()).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();
    let first = sandbox.pid();
    let mut sleeper = sandbox.spawn(&["sleep", "1000"]).unwrap();
    let sleeping = sleeper.pid().unwrap().unwrap();
    drop(sandbox);
    assert!(is_gone(first));
    assert!(is_gone(sleeping));
    assert_eq!(sleeper.wait().unwrap().code(), 128 + 9);

    let mut holder = Command::new(helper("holdfast-sample"))
        .arg("sandbox")
        .arg(sample.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut pid)
        .unwrap();
    let first: i32 = pid.trim().parse().unwrap();
    assert!(Path::new(&format!("/proc/{first}")).exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(is_gone(first));
}

#[test]
fn a_program_in_a_sandbox_is_killed_by_its_own_pid() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::generate(&folder.path().join("gateway"), &Shape::default()).unwrap();
    let sandbox = Sandbox::bare(&sample).unwrap();
    let mut program = sandbox
        .spawn(&["bash", "-c", "echo begun; sleep 1000"])
        .unwrap();
    while program.stdout_so_far().unwrap() != "begun\n" {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(program.kill9().unwrap());
    assert_eq!(program.wait().unwrap().code(), 128 + 9);
}

#[test]
fn a_reboot_takes_tunnels_rules_and_the_service_and_leaves_the_files() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::generate(&folder.path().join("gateway"), &Shape::default()).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();
    let boot = |sandbox: &Sandbox| {
        sandbox
            .run(&["cat", "/proc/sys/kernel/random/boot_id"])
            .unwrap()
            .ok()
            .unwrap()
            .stdout
    };
    let (before, first_boot) = (Picture::take(&sandbox).unwrap(), boot(&sandbox));
    let sandbox = sandbox.reboot().unwrap();
    assert_ne!(boot(&sandbox), first_boot);
    let after = Picture::take(&sandbox).unwrap();
    assert_eq!(after.part("service sample-gateway"), Some("does not run"));
    assert!(!after.parts().any(|(name, _)| name.starts_with("tunnel ")));
    sandbox.bring_up().unwrap();
    assert_eq!(
        before.diff(&Picture::take(&sandbox).unwrap()),
        Vec::<String>::new()
    );
}

#[test]
fn the_applications_own_backups_are_read_by_the_rules_of_format_1_0() {
    let folder = tempfile::tempdir().unwrap();
    for (real, clients) in [(Real::gateway_5(), 5), (Real::gateway_100(), 100)] {
        let sample = real.unpack(folder.path()).unwrap();
        let backup = format_1_0::read(&sample.gateway_backup().unwrap()).unwrap();
        assert_eq!(backup.configs.len(), clients);
        assert_eq!(backup.databases.len(), 3);
        assert!(
            backup.rules.is_some() && backup.nat_rules.is_some() && backup.forward_rules.is_some()
        );
    }
}

#[test]
fn the_same_shape_gives_the_same_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape::of(40);
    let one = Sample::generate(&folder.path().join("one"), &shape).unwrap();
    let two = Sample::generate(&folder.path().join("two"), &shape).unwrap();
    let other =
        Sample::generate(&folder.path().join("other"), &Shape { seed: 2, ..shape }).unwrap();
    let picture = |sample: &Sample| {
        Picture::of_files(sample)
            .unwrap()
            .without(|name| name == "file holdfast.toml")
    };
    assert_eq!(picture(&one).diff(&picture(&two)), Vec::<String>::new());
    assert_ne!(picture(&one).diff(&picture(&other)), Vec::<String>::new());
}

#[test]
fn the_profile_of_a_sample_is_one_that_the_engine_reads() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::generate(&folder.path().join("gateway"), &Shape::default()).unwrap();
    let profile = engine::gateway::profile::Profile::read(&sample.profile(), false).unwrap();
    assert_eq!(profile.state_dir, sample.state_dir());
    assert_eq!(profile.gateway.configs_dir, sample.configs_dir());
    assert_eq!(profile.gateway.wireguard_dir, sample.wireguard_dir());
    let names: Vec<&str> = profile
        .gateway
        .database
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(names, ["configs.db", "wireguard.db", "app.db"]);
    assert_eq!(profile.gateway.service.len(), 1);
}
