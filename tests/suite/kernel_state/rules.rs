//! Rules as the kernel shows them: bytes that are no text, two backends, tables that cannot be read, what others load.

use super::*;

/// Rules of both families with a comment that is not UTF-8: one names a tunnel, the other none.
fn comment(gateway: &Gateway) {
    let tunnel = tunnel(gateway);
    for program in ["iptables", "ip6tables"] {
        for rule in [
            format!("-A FORWARD -i {tunnel} -m comment --comment \"$c\" -j ACCEPT"),
            "-A INPUT -p udp --dport 4711 -m comment --comment \"$c\" -j ACCEPT".to_owned(),
        ] {
            sh(
                gateway,
                &format!("c=$(printf 'L\\374beck \\363\\217\\277\\377'); {program} {rule}"),
            );
        }
    }
}

/// The bytes of the rules with such a comment.
fn comments(gateway: &Gateway) -> String {
    let of = |program: &str| {
        sh(
            gateway,
            &format!("{program} | LC_ALL=C grep -a beck | sort | od -An -v -tx1"),
        )
    };
    of("iptables-save") + &of("ip6tables-save")
}

#[test]
fn a_rule_whose_comment_is_not_utf8_is_backed_up_and_restored_byte_for_byte_there_and_back() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    comment(&gateway);
    let was = comments(&gateway);
    assert_eq!(
        was.matches("4c fc 62 65 63 6b").count() + was.matches("4c fc\n").count(),
        4,
        "{was}"
    );
    let backup = gateway.backup();
    gateway.holdfast(&["verify", path(&backup)]).ok().unwrap();
    rolled_back(&gateway, &backup);
    assert_eq!(comments(&gateway), was);

    for program in ["iptables", "ip6tables"] {
        gateway.run(&[program, "-F"]);
    }
    assert_eq!(comments(&gateway), "");
    let said = restored(&gateway, &backup, &[]);
    assert_eq!(comments(&gateway), was);
    // The safety backup has none of them.
    let safety = gateway.backups().pop().unwrap();
    restored(&gateway, &safety, &[]);
    assert_eq!(comments(&gateway), "");
    assert!(
        !said.contains('\u{fffd}') && !said.contains('\u{10fefc}'),
        "{said}"
    );
}

#[test]
fn a_rule_with_such_a_comment_that_goes_missing_is_shown_with_the_byte_spelled_out() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    comment(&gateway);
    let backup = gateway.backup();
    // What takes it out again each time is another's affair: here it makes the check fail.
    let real = sh(&gateway, "command -v iptables-restore");
    let here = sh(&gateway, "readlink /proc/self/ns/net");
    let script = format!(
        "#!/bin/sh\n{} \"$@\"\nstatus=$?\n[ \"$(readlink /proc/self/ns/net)\" != '{}' ] || iptables -F INPUT\nexit $status\n",
        real.trim(),
        here.trim()
    );
    crate::on_a_gateway::stand_in(&gateway, "iptables-restore", &script);
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_ne!(done.code(), 0, "{done}");
    assert!(done.stderr.contains(r"L\xfcbeck"), "{done}");
}

#[test]
fn a_rule_that_could_not_be_given_back_is_found_before_the_outage_and_named_by_the_backup() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let made = gateway.sandbox.run(&[
        "iptables",
        "-A",
        "INPUT",
        "-m",
        "comment",
        "--comment",
        "two\nlines",
        "-j",
        "ACCEPT",
    ]);
    made.unwrap().ok().unwrap();
    let before = gateway.run(&["iptables-save"]);
    assert!(before.contains("two\nlines"), "{before}");
    let lacks = gateway.holdfast(&["backup"]);
    assert_eq!(lacks.code(), 8, "{lacks}");
    assert!(
        lacks
            .stderr
            .contains("IPv4 firewall rules could not be saved"),
        "{lacks}"
    );
    let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");
    assert!(
        refused.stderr.contains("--keep-going-without-firewall"),
        "{refused}"
    );
    assert!(gateway.restores().is_empty());
}

/// One rule in the backend that is not the one in use.
fn mix(gateway: &Gateway) {
    let rule = "-t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE";
    sh(gateway, &format!("iptables-legacy {rule}"));
}

#[test]
fn rules_in_two_backends_keep_nothing_else_from_being_saved_or_restored() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let backup = gateway.backup();
    let config = sample
        .wireguard_dir()
        .join(format!("{}.conf", tunnel(&gateway)));
    let was = std::fs::read(&config).unwrap();
    let changed = [&was[..], b"# changed\n"].concat();
    std::fs::write(&config, &changed).unwrap();
    forward(&gateway, [0, 0]);
    mix(&gateway);

    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    let lacks = "the IPv4 firewall rules could not be saved: cannot take all of them: iptables-legacy-save shows rules that \
                 iptables-save does not";
    assert!(made.stderr.contains(lacks), "{made}");
    let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");

    let rules = || {
        let rules = ["iptables-save", "iptables-legacy-save"]
            .map(|p| sh(&gateway, &format!("{p} | grep ^-A | sort")));
        rules.concat()
    };
    let loaded = rules();
    let without = ["--keep-going-without-firewall"];
    let said = restored(&gateway, &backup, &without);
    assert!(
        said.contains("left out: the IPv4 firewall rules: the present ones cannot be read"),
        "{said}"
    );
    assert_eq!(std::fs::read(&config).unwrap(), was);
    assert_eq!(forwards(&gateway), "1 1 ");
    // None is gone; what hooks add is as it was.
    let mut now = rules();
    for rule in loaded.lines() {
        let at = now
            .find(rule)
            .unwrap_or_else(|| panic!("{rule} is gone\n{now}"));
        now.replace_range(at..at + rule.len(), "");
    }
    // The way back touches them as little.
    let once = Misbehaviour::FailStart { times: Some(2) };
    sample.misbehave(once).unwrap();
    let words = [&["restore", path(&backup), "--yes"], &without[..]].concat();
    let done = gateway.holdfast(&words);
    assert_eq!(done.code(), 4, "{done}");
    gateway.is_settled();
}

#[test]
fn a_table_that_iptables_cannot_show_whole_is_left_alone_and_the_rest_restored() {
    for rule in [
        "add rule ip6 filter INPUT meta mark set jhash ip6 saddr mod 2",
        // One that it leaves out, and would take away.
        "add chain ip6 filter own { type filter hook input priority 5; }",
    ] {
        let Some(gateway) = Gateway::small() else {
            return;
        };
        let backup = gateway.backup();
        gateway.run(&["nft", rule]);
        let listed = || {
            let tables = sh(&gateway, "nft -s list table ip6 filter");
            tables.replace(
                "# Warning: table ip6 filter is managed by iptables-nft, do not touch!\n",
                "",
            )
        };
        let up = || {
            let up = gateway.run(&["wg", "show", "interfaces"]);
            up.split_whitespace()
                .map(str::to_owned)
                .collect::<BTreeSet<_>>()
        };
        let (was, tunnels) = (listed(), up());
        let made = gateway.holdfast(&["backup"]);
        assert_eq!(made.code(), 8, "{made}");
        assert!(
            made.stderr
                .contains("a table has rules that iptables cannot show"),
            "{made}"
        );
        let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
        assert_eq!(refused.code(), 3, "{refused}");
        gateway.run(&["iptables", "-F", "FORWARD"]);
        let said = restored(&gateway, &backup, &["--keep-going-without-firewall"]);
        assert!(
            said.contains("left out: the IPv6 firewall rules: the present ones cannot be read"),
            "{said}"
        );
        assert_eq!(up(), tunnels);
        let forward = gateway.run(&["iptables", "-S", "FORWARD"]);
        assert!(forward.lines().count() > 1, "{forward}");
        let now = listed();
        // Hooks and services add theirs.
        for line in was.lines() {
            assert!(now.contains(line), "{line} is gone\n{now}");
        }
    }
}

#[test]
fn what_of_the_firewall_is_not_saved_is_named_by_survey_backup_and_plan() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    gateway.run(&["nft", "add", "table", "inet", "myfw"]);
    gateway.run(&["nft", "add", "table", "bridge", "mine"]);
    // One of `wg-quick` goes with its tunnel.
    gateway.run(&["nft", "add", "table", "ip", "wg-quick-x"]);
    let named = [
        "2 tables of nft are not saved: inet myfw, bridge mine",
        "1 set of ipset is not saved: blocked; rules name blocked",
    ];
    gateway.run(&["ipset", "create", "blocked", "hash:ip"]);
    gateway.run(&[
        "iptables",
        "-A",
        "INPUT",
        "-m",
        "set",
        "--match-set",
        "blocked",
        "src",
        "-j",
        "DROP",
    ]);
    let made = gateway.holdfast(&["backup"]).ok().unwrap();
    let backup = made.stdout.trim().to_owned();
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap();
    let planned = gateway
        .holdfast(&["restore", &backup, "--yes"])
        .ok()
        .unwrap();
    for said in [&made, &surveyed, &planned] {
        for words in named {
            assert!(format!("{said}").contains(words), "{words}: {said}");
        }
        assert!(!format!("{said}").contains("wg-quick-x"), "{said}");
    }
    assert!(!format!("{planned}").contains("inet holdfast"), "{planned}");
}

#[test]
fn firewalls_that_others_load_at_boot_are_named_where_they_are_in_use_and_only_there() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let beyond = |files: &[(&str, &[u8])]| {
        let mut world = s.world.clone();
        for (path, bytes) in files {
            world.disk.make_dirs(Path::new(path).parent().unwrap());
            world.disk.put(path, bytes, 0o644);
        }
        let sim = Sim::new(world, &s.places, None, false);
        survey::facts(&sim, &s.profile, &|_| true).unwrap().beyond
    };
    let nft = ("/etc/nftables.conf", &b"flush ruleset\n"[..]);
    let enabled = "/etc/systemd/system/sysinit.target.wants/nftables.service";
    let ufw = |word: &'static [u8]| [("/etc/ufw/ufw.conf", word)];
    assert_eq!(beyond(&[]), Vec::<String>::new());
    assert_eq!(beyond(&[nft]), Vec::<String>::new());
    assert_eq!(
        beyond(&ufw(b"# ENABLED=yes\nENABLED=no\n")),
        Vec::<String>::new()
    );
    let found = [
        beyond(&[nft, (enabled, b"")]),
        beyond(&ufw(b"LOGLEVEL=low\nENABLED=yes\n")),
    ];
    insta::assert_snapshot!(found.concat().join("\n"), @r"
    /etc/nftables.conf is not saved, and nftables.service loads it at each boot
    ufw is enabled: what it is set to (/etc/ufw) is not saved, and it loads that at each boot
    ");
}
