//! What is in the kernel alone comes back as it was, byte for byte; what cannot be read keeps nothing else from being saved
//! and restored; what is not saved is named. On real gateways.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod peers;
mod rules;

use std::collections::BTreeSet;
use std::path::Path;

use engine::survey;
use fixtures::Misbehaviour;
use journal_format::Policy;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::Sim;

use crate::on_a_gateway::{Gateway, codes, files_below, path};

const FORWARDING: [&str; 2] = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
/// A public key, and a preshared one.
const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const SECRET: &str = "bHXnZ3T2zYgKQ0fOzq1sWJVjK4Jq2m3XwzRr0H5b3Qw=";

fn forwards(gateway: &Gateway) -> String {
    gateway
        .run(&["sysctl", "-n", FORWARDING[0], FORWARDING[1]])
        .replace('\n', " ")
}

fn forward(gateway: &Gateway, on: [u8; 2]) {
    for (setting, on) in FORWARDING.iter().zip(on) {
        gateway.run(&["sysctl", "-qw", &format!("{setting}={on}")]);
    }
}

fn sh(gateway: &Gateway, script: &str) -> String {
    gateway.run(&["sh", "-c", script])
}

fn restored(gateway: &Gateway, backup: &Path, words: &[&str]) -> String {
    let words = [&["restore", path(backup), "--yes"], words].concat();
    let done = gateway.holdfast(&words).ok().unwrap();
    gateway.is_settled();
    done.stdout + &done.stderr
}

/// A restore of this backup that fails behind the barrier, and goes back.
fn rolled_back(gateway: &Gateway, backup: &Path) {
    let once = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(once).unwrap();
    let done = gateway.holdfast(&["restore", path(backup), "--yes"]);
    assert_eq!(done.code(), 4, "{done}");
    gateway.is_settled();
}

#[test]
fn forwarding_of_each_protocol_is_restored_and_on_the_way_back_is_as_it_was() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    for (then, now) in [([1, 1], [0, 0]), ([0, 0], [1, 1]), ([0, 1], [1, 0])] {
        forward(&gateway, then);
        let backup = gateway.backup();
        let was = forwards(&gateway);
        forward(&gateway, now);
        let is = forwards(&gateway);
        rolled_back(&gateway, &backup);
        assert_eq!(forwards(&gateway), is);
        restored(&gateway, &backup, &[]);
        assert_eq!(forwards(&gateway), was);
        let safety = gateway.backups().pop().unwrap();
        restored(&gateway, &safety, &[]);
        assert_eq!(forwards(&gateway), is);
    }
}

#[test]
fn a_kernel_without_ipv6_is_backed_up_whole_and_restored_to_without_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    forward(&gateway, [1, 1]);
    let backup = gateway.backup();
    gateway.run(&["ip6tables-restore", "-c", "/dev/null"]);
    gateway.run(&["mount", "-t", "tmpfs", "none", "/proc/sys/net/ipv6"]);
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    assert!(surveyed.contains("has no IPv6"), "{surveyed}");
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
    gateway.run(&["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    // Tunnels with addresses of IPv6 were up, and stay down.
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 7, "{done}");
    gateway.is_settled();
    let said = done.stdout;
    assert!(
        said.contains("left out: the IPv6 forwarding: the kernel of this machine has no IPv6"),
        "{said}"
    );
    assert_eq!(gateway.run(&["sysctl", "-n", FORWARDING[0]]), "1\n");
    restored(&gateway, Path::new(made.stdout.trim()), &[]);
}

/// A tunnel that is up.
fn tunnel(gateway: &Gateway) -> String {
    gateway.sample().active().unwrap().remove(0)
}

/// What cannot be read of the kernel, by breaking what reads it.
#[test]
fn tunnels_peers_and_forwarding_that_cannot_be_read_are_what_a_backup_lacks_and_no_more() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let wg = sh(&gateway, "command -v wg");
    let fails = |words: &str| {
        let script = format!(
            "#!/bin/sh\n[ \"$*\" != '{words}' ] || exit 1\nexec {} \"$@\"\n",
            wg.trim()
        );
        crate::on_a_gateway::stand_in(&gateway, "wg", &script);
    };
    for (words, lacks) in [
        (
            "show all dump",
            "lacks: the peers that only the kernel has could not be saved",
        ),
        (
            "show interfaces",
            "lacks: the tunnels that are up could not be saved",
        ),
    ] {
        fails(words);
        let made = gateway.holdfast(&["backup"]);
        assert_eq!(made.code(), 8, "{made}");
        assert_eq!(made.stderr.matches("lacks: ").count(), 1, "{made}");
        assert!(made.stderr.contains(lacks), "{made}");
        let refused = gateway.holdfast(&["restore", path(&backup), "--yes", "--json"]);
        assert_eq!(refused.code(), 3, "{refused}");
        assert_eq!(codes(&refused), ["gateway-unreadable"]);
        gateway.run(&["umount", "/usr/local/sbin"]);
    }
    gateway.run(&["mount", "-t", "tmpfs", "none", "/proc/sys/net/ipv4"]);
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    assert!(
        made.stderr
            .contains("lacks: the IPv4 forwarding could not be saved"),
        "{made}"
    );
    let said = restored(&gateway, &backup, &[]);
    assert!(
        said.contains("left out: the IPv4 forwarding: it cannot be read here"),
        "{said}"
    );
}

#[test]
fn an_interface_whose_forwarding_is_set_apart_keeps_it_whatever_sets_that_of_all() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let apart = [
        "net.ipv4.conf.eth0.forwarding",
        "net.ipv6.conf.eth0.forwarding",
    ];
    let of_eth0 = || gateway.run(&["sysctl", "-n", apart[0], apart[1]]);
    // A hook that turns forwarding on for all, as many configs have one.
    let tunnel = tunnel(&gateway);
    for dir in [
        gateway.sample().configs_dir(),
        gateway.sample().wireguard_dir(),
    ] {
        let file = dir.join(format!("{tunnel}.conf"));
        let text = std::fs::read_to_string(&file).unwrap();
        let hook = "[Interface]\nPostUp = sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1\n";
        std::fs::write(&file, text.replacen("[Interface]\n", hook, 1)).unwrap();
    }
    forward(&gateway, [1, 1]);
    let on = gateway.backup();
    forward(&gateway, [0, 0]);
    let off = gateway.backup();
    for setting in apart {
        gateway.run(&["sysctl", "-qw", &format!("{setting}=1")]);
    }
    assert_eq!(
        (forwards(&gateway).as_str(), of_eth0()),
        ("0 0 ", "1\n1\n".into())
    );
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    for said in [
        "net.ipv4.ip_forward is 0, and the IPv4 forwarding of eth0 is not: that is in no backup",
        "the IPv6 forwarding of eth0 is not",
    ] {
        assert!(surveyed.contains(said), "{surveyed}");
    }
    for backup in [&on, &off] {
        rolled_back(&gateway, backup);
        assert_eq!(
            (forwards(&gateway).as_str(), of_eth0()),
            ("0 0 ", "1\n1\n".into())
        );
    }
    let said = restored(&gateway, &off, &[]);
    assert!(said.contains("that is in no backup"), "{said}");
    assert_eq!(
        (forwards(&gateway).as_str(), of_eth0()),
        ("0 0 ", "1\n1\n".into())
    );
    restored(&gateway, &on, &[]);
    assert_eq!(
        (forwards(&gateway).as_str(), of_eth0()),
        ("1 1 ", "1\n1\n".into())
    );
}
