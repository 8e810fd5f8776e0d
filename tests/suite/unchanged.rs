//! A restore touches only what must change: what is as the backup has it stays as it is, with every packet.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use fixtures::{Finished, program};

use crate::on_a_gateway::{Gateway, path};

fn database(gateway: &Gateway, name: &str) -> String {
    let all = gateway.sample().databases();
    let found = all.into_iter().find(|d| d.name == name).unwrap();
    path(&found.path).to_owned()
}

fn sql(gateway: &Gateway, name: &str, text: &str) {
    let conn = rusqlite::Connection::open(database(gateway, name)).unwrap();
    conn.execute_batch(text).unwrap();
}

/// Index and other signs of an interface that is made anew when its tunnel goes down and comes up.
fn interfaces(gateway: &Gateway) -> String {
    gateway.run(&[
        "sh",
        "-c",
        "ip -o link | cut -d: -f1,2; wg show all public-key",
    ])
}

#[test]
fn a_backup_of_this_very_gateway_has_nothing_to_do_and_touches_nothing() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let (before, up) = (gateway.picture(), interfaces(&gateway));
    let done = gateway.holdfast(&["restore", path(&backup), "--yes", "--changes-only"]);
    assert_eq!(done.code(), 0, "{done}");
    assert!(
        done.stdout
            .starts_with("Nothing to do: the gateway is as the backup says."),
        "{done}"
    );
    gateway.is(&before);
    assert_eq!(interfaces(&gateway), up);
    assert!(gateway.restores().is_empty());
}

#[test]
fn each_single_change_is_no_nothing_and_only_what_changed_is_replaced() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let tunnels = gateway.sample().active().unwrap();
    let [one, other] = [&tunnels[0], &tunnels[1]];
    let config = gateway.sample().config(one);
    let before = gateway.picture();
    for (what, change) in [
        (
            "a peer that is removed by hand",
            format!("wg set {one} peer $(wg show {one} peers | head -1) remove"),
        ),
        ("an MTU", format!("ip link set mtu 1333 dev {one}")),
        ("a port", format!("wg set {one} listen-port 45999")),
        (
            "a route",
            format!(
                "ip route del $(ip route show dev {one} | grep -v kernel | head -1) dev {one} || ip route add 10.96.0.0/24 dev {one}"
            ),
        ),
        (
            "a config",
            format!("sed -i '$a # edited' {}", path(&config)),
        ),
        ("a rule", "iptables -t filter -D FORWARD 1".to_owned()),
        (
            "forwarding",
            "sysctl -qw net.ipv4.ip_forward=$((1 - $(sysctl -n net.ipv4.ip_forward)))".to_owned(),
        ),
    ] {
        let index = |tunnel: &str| {
            gateway.run(&["sh", "-c", &format!("cat /sys/class/net/{tunnel}/ifindex")])
        };
        let (of_one, of_other) = (index(one), index(other));
        gateway.run(&["sh", "-c", &change]);
        let done = gateway.holdfast(&["restore", path(&backup), "--yes", "--changes-only"]);
        assert_eq!(done.code(), 0, "{what}: {done}");
        assert!(done.stdout.contains("Restored: "), "{what}: {done}");
        gateway.is(&before);
        assert_eq!(index(other), of_other, "{what}: {done}");
        let is_of_a_tunnel = !["a rule", "forwarding"].contains(&what);
        assert_eq!(index(one) != of_one, is_of_a_tunnel, "{what}: {done}");
    }
}

#[test]
fn a_row_that_changed_replaces_its_database_alone_and_no_tunnel() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let (before, up) = (gateway.picture(), interfaces(&gateway));
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        Path::new(&database(&gateway, name))
            .metadata()
            .unwrap()
            .ino()
    };
    let (users, clients) = (inode("wireguard.db"), inode("configs.db"));
    sql(
        &gateway,
        "wireguard.db",
        "UPDATE user SET password = 'changed'",
    );
    let done = gateway.holdfast(&["restore", path(&backup), "--yes", "--changes-only"]);
    assert_eq!(done.code(), 0, "{done}");
    gateway.is(&before);
    assert_eq!(interfaces(&gateway), up, "{done}");
    assert_ne!(inode("wireguard.db"), users, "{done}");
    assert_eq!(inode("configs.db"), clients, "{done}");
    assert!(!done.stdout.contains("Block tunnel traffic"), "{done}");
}

#[test]
fn without_that_option_everything_is_replaced() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let (before, up) = (gateway.picture(), interfaces(&gateway));
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    assert!(done.stdout.contains("Block tunnel traffic"), "{done}");
    gateway.is(&before);
    assert_ne!(interfaces(&gateway), up);
}

/// The restore of what changed alone, by a process that dies at this moment; its effects, if it does not.
fn crash(gateway: &Gateway, moment: &str, backup: &Path) -> Finished {
    let crash = program("holdfast-crash").unwrap();
    let profile = gateway.sample().profile();
    let words = [
        "env",
        "HOLDFAST_CHANGES_ONLY=1",
        path(&crash),
        path(&profile),
        moment,
        "restore",
        path(backup),
    ];
    gateway.sandbox.run(&words).unwrap()
}

/// At every effect: a database, the config of one tunnel, both, or the rules alone.
#[test]
fn a_restore_of_what_changed_alone_that_dies_anywhere_ends_in_before_or_after_and_touches_no_other_tunnel()
 {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    gateway.holdfast(&["secure"]).ok().unwrap();
    let backup = gateway.backup();
    let tunnels = gateway.sample().active().unwrap();
    let [one, other] = [&tunnels[0], &tunnels[1]];
    let config = path(&gateway.sample().config(one)).to_owned();
    let after = gateway.picture();
    let row = "a row";
    let edit = format!("sed -i '$a # edited' {config}");
    let rule = "iptables -t filter -I FORWARD -i lo -j ACCEPT";
    for parts in [
        &[row][..],
        &[&edit],
        &[rule],
        &[row, &edit],
        &[row, &edit, rule],
    ] {
        let change = || {
            for part in parts {
                match *part == row {
                    true => sql(
                        &gateway,
                        "wireguard.db",
                        "UPDATE user SET password = 'changed'",
                    ),
                    false => drop(gateway.run(&["sh", "-c", part])),
                }
            }
        };
        change();
        let before = gateway.picture();
        let index = || gateway.run(&["cat", &format!("/sys/class/net/{other}/ifindex")]);
        let stays = index();
        let whole = crash(&gateway, "never", &backup).ok().unwrap();
        gateway.is(&after);
        change();
        let effects = whole.stdout.lines().count();
        assert!(effects > 10, "{whole}");
        for at in (1..=effects).step_by(5) {
            crash(&gateway, &format!("before:{at}"), &backup);
            let recovered = gateway.holdfast(&["recover"]);
            let what = format!("{parts:?} at {at} of {effects}: {recovered}");
            let now = gateway.picture();
            let is_after = after.diff(&now).is_empty();
            assert!(
                is_after || before.diff(&now).is_empty(),
                "{what}: {:?}",
                before.diff(&now)
            );
            assert_eq!(index(), stays, "{what}");
            let idle = gateway.holdfast(&["status"]);
            assert!(idle.stdout.starts_with("idle"), "{what}: {idle}");
            if is_after {
                change();
            }
        }
        // Leaves it as it was for the next part.
        let done = gateway.holdfast(&["restore", path(&backup), "--yes", "--changes-only"]);
        assert_eq!(done.code(), 0, "{done}");
        gateway.is(&after);
    }
}
