//! Rules that others add while a restore is under way: a ban comes every moment on a box that faces the internet.
#![allow(clippy::unwrap_used)]

use crate::on_a_gateway::{Gateway, path};

const BANS: usize = 200;

/// Makes the chain that bans go to, and a change that a restore takes back.
fn watched() -> Option<(Gateway, std::path::PathBuf)> {
    let gateway = Gateway::small()?;
    gateway.run(&["iptables", "-N", "f2b-sshd"]);
    let jump = ["-p", "tcp", "--dport", "22", "-j", "f2b-sshd"];
    gateway.run(&[&["iptables", "-I", "INPUT"][..], &jump].concat());
    let backup = gateway.backup();
    let more = ["-A", "FORWARD", "-s", "10.99.0.0/16", "-j", "DROP"];
    gateway.run(&[&["iptables"][..], &more].concat());
    Some((gateway, backup))
}

/// Twenty bans a second from the moment at which a restore stands to be recovered, and a chain of somebody else's.
fn bans(gateway: &Gateway) -> fixtures::Running {
    let open = gateway.sample().state_dir().join("open");
    let script = format!(
        "until [ -e {} ]; do sleep 0.01; done
         iptables -w -N DOCKER-USER && iptables -w -A DOCKER-USER -j RETURN && iptables -w -A FORWARD -j DOCKER-USER
         for n in $(seq {BANS}); do
             iptables -w -I f2b-sshd 1 -s 192.0.2.$n/32 -j REJECT || echo \"refused $n\"
             sleep 0.03
         done",
        path(&open)
    );
    gateway.sandbox.spawn(&["bash", "-c", &script]).unwrap()
}

fn all_stand(gateway: &Gateway) {
    let rules = gateway.run(&["iptables-save"]);
    let bans = rules
        .lines()
        .filter(|l| l.starts_with("-A f2b-sshd -s 192.0.2."));
    assert_eq!(bans.count(), BANS, "{rules}");
    for rule in ["-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER"] {
        assert_eq!(rules.lines().filter(|l| *l == rule).count(), 1, "{rules}");
    }
}

#[test]
fn bans_that_come_at_any_moment_of_a_restore_neither_fail_it_nor_get_lost() {
    let Some((gateway, backup)) = watched() else {
        return;
    };
    let bans = bans(&gateway);
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    let banned = bans.wait().unwrap();
    assert_eq!((banned.code(), banned.stdout.as_str()), (0, ""), "{banned}");
    all_stand(&gateway);
    let rules = gateway.run(&["iptables-save"]);
    assert!(!rules.contains("10.99.0.0/16"), "{rules}");
}

#[test]
fn bans_that_come_while_a_restore_turns_back_are_there_afterwards() {
    let Some((gateway, backup)) = watched() else {
        return;
    };
    gateway
        .sample()
        .misbehave(fixtures::Misbehaviour::FailStart { times: Some(2) })
        .unwrap();
    let bans = bans(&gateway);
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 4, "{done}");
    let banned = bans.wait().unwrap();
    assert_eq!((banned.code(), banned.stdout.as_str()), (0, ""), "{banned}");
    all_stand(&gateway);
    let rules = gateway.run(&["iptables-save"]);
    assert!(rules.contains("10.99.0.0/16"), "{rules}");
}
