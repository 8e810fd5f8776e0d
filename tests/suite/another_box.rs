//! A backup on another gateway than its own: what that lacks of what the backup counts on is named before the restore begins.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use fixtures::hostile::Backup;

use crate::a_unit::with_a_unit;
use crate::on_a_gateway::{Gateway, path};

/// A backup of another gateway: in the rules and the commands of its configs the LAN's interface has another name.
fn of_another(gateway: &Gateway, name: &str) -> PathBuf {
    let mut backup = Backup::read(&gateway.backup()).unwrap();
    let rules = backup.entry("iptables_rules.txt").unwrap();
    let rules = String::from_utf8(rules.to_vec()).unwrap();
    backup = backup.with(
        "iptables_rules.txt",
        rules.replace("eth0", "lan9").as_bytes(),
    );
    let kept = backup.entry("holdfast/kept/rules.v4").unwrap();
    let kept = String::from_utf8(kept.to_vec()).unwrap();
    backup = backup.with(
        "holdfast/kept/rules.v4",
        kept.replace("eth0", "lan9").as_bytes(),
    );
    let active = &gateway.sample().active().unwrap()[1];
    let entry = format!("configs/{active}.conf");
    let config = String::from_utf8(backup.entry(&entry).unwrap().to_vec()).unwrap();
    let hook = "PostUp = true -o lan9; true -i %i\n[Peer]";
    backup = backup.with(&entry, config.replacen("[Peer]", hook, 1).as_bytes());
    backup.metadata["holdfast"]["host"] = "elsewhere".into();
    let file = gateway.beside(name);
    std::fs::write(&file, backup.bytes().unwrap()).unwrap();
    file
}

/// The rules of the gateway's own that let traffic through between the LAN and a tunnel.
fn through(gateway: &Gateway) -> Vec<String> {
    let rules = gateway.run(&["iptables", "-S", "FORWARD"]);
    let active = gateway.sample().active().unwrap();
    let own = |rule: &&str| {
        let words: Vec<&str> = rule.split(' ').collect();
        let lan = words.iter().any(|w| ["eth0", "lan9"].contains(w));
        lan && active.iter().any(|tunnel| words.contains(&tunnel.as_str()))
    };
    let mut own: Vec<String> = rules.lines().filter(own).map(str::to_owned).collect();
    own.sort();
    own
}

#[test]
fn rules_and_commands_that_name_an_interface_which_is_not_here_are_named_with_their_count() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = of_another(&gateway, "elsewhere.zip");
    // The application's start leaves its own where it finds no default route.
    let done = gateway.holdfast(&["restore", path(&backup), "--yes", "--verbose"]);
    let said = done.stdout + &done.stderr;
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("{what}\n{said}"));
    let rules =
        at("6 IPv4 firewall rules of the backup name lan9, and this gateway has no such interface");
    let hooks =
        at("commands in the configs of 1 tunnel name lan9, and this gateway has no such interface");
    let boot = at(
        "6 rules in the backup's file that keeps IPv4 rules over a reboot name lan9, and this gateway has no such interface",
    );
    assert!(boot < at("safety backup"), "{said}");
    assert!(
        rules < at("safety backup") && hooks < at("safety backup"),
        "{said}"
    );
    assert!(
        !said.contains("of the gateway's own in the backup"),
        "{said}"
    );

    // They stand now as well: that is no news.
    let again = gateway.told_by_restore(&backup);
    assert!(!again.contains("no such interface"), "{again}");
}

#[test]
fn the_gateways_own_rules_are_loaded_for_the_lan_of_this_gateway_once_each() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    gateway.run(&[
        "ip",
        "route",
        "add",
        "default",
        "via",
        "10.1.0.254",
        "dev",
        "eth0",
    ]);
    let before = through(&gateway);
    assert_eq!(before.len(), 4, "{before:?}");
    let backup = of_another(&gateway, "elsewhere.zip");
    let said = gateway.told_by_restore(&backup);
    let own = "4 firewall rules of the gateway's own in the backup name lan9, which this gateway lacks: the restore loads them for \
               eth0, the interface of its default route";
    assert!(said.contains(own), "{said}");
    let others =
        "2 IPv4 firewall rules of the backup name lan9, and this gateway has no such interface";
    assert!(said.contains(others), "{said}");
    assert_eq!(through(&gateway), before, "{said}");
    gateway.is_settled();
}

#[test]
fn what_the_start_of_the_unit_needs_and_does_not_find_is_named_with_what_to_do() {
    let Some(gateway) = with_a_unit() else {
        return;
    };
    let backup = gateway.backup();
    let unit = gateway.sample().root().join("unit");
    let said = |settings: &str| {
        std::fs::write(&unit, settings).unwrap();
        gateway.told_by_restore(&backup)
    };
    let no_route = "this gateway has no default route: the start of sample.service fails for that, and takes the tunnels of 2 active \
                    clients down";
    let first = said("LoadState=loaded\nTimeoutStartUSec=1min 30s\n");
    assert!(first.contains(no_route), "{first}");
    assert!(first.contains("ip route add default via"), "{first}");
    assert!(
        first.find(no_route) < first.find("safety backup"),
        "{first}"
    );

    gateway.run(&[
        "ip",
        "route",
        "add",
        "default",
        "via",
        "10.1.0.254",
        "dev",
        "eth0",
    ]);
    let slow = said("LoadState=loaded\nTimeoutStartUSec=60ms\n");
    assert!(!slow.contains("default route"), "{slow}");
    let too_slow = "the start of sample.service takes about 0 s for 2 active clients, and systemd ends it after 0 s";
    assert!(
        slow.contains(too_slow) && slow.contains("TimeoutStartSec="),
        "{slow}"
    );

    let gone = said("LoadState=not-found\nTimeoutStartUSec=1min 30s\n");
    assert!(
        gone.contains("the unit sample.service is not installed on this gateway"),
        "{gone}"
    );

    let fine = said("LoadState=loaded\nTimeoutStartUSec=1min 30s\n");
    for not in ["default route", "takes about", "not installed"] {
        assert!(!fine.contains(not), "{not}: {fine}");
    }
}

#[test]
fn where_ipv6_is_switched_off_every_tunnel_that_needs_it_is_named_in_one_line_with_the_setting() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let mut elsewhere = Backup::read(&gateway.backup()).unwrap();
    elsewhere.metadata["holdfast"]["host"] = "elsewhere".into();
    for tunnel in gateway.sample().active().unwrap() {
        let entry = format!("configs/{tunnel}.conf");
        let config = String::from_utf8(elsewhere.entry(&entry).unwrap().to_vec()).unwrap();
        let with_v6 = config.replacen("/32", "/32, fd00:77::1/128", 1);
        elsewhere = elsewhere.with(&entry, with_v6.as_bytes());
    }
    let backup = gateway.beside("elsewhere.zip");
    std::fs::write(&backup, elsewhere.bytes().unwrap()).unwrap();
    for of in ["all", "default"] {
        gateway.run(&[
            "sysctl",
            "-qw",
            &format!("net.ipv6.conf.{of}.disable_ipv6=1"),
        ]);
    }
    let up = gateway.sample().active().unwrap();
    let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");
    let said = &refused.stderr;
    assert_eq!(
        said.matches("IPv6, which is switched off").count(),
        1,
        "{said}"
    );
    let flags: Vec<String> = up.iter().map(|t| format!("--leave-down {t}")).collect();
    assert!(said.contains(&flags.join(" ")), "{said}");
    assert!(said.contains("net.ipv6.conf.all.disable_ipv6=0"), "{said}");
}
