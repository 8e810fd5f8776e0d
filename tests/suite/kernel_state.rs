//! What is in the kernel alone comes back as it was, byte for byte; what cannot be read keeps nothing else from being saved
//! and restored; what is not saved is named. On real gateways.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;

use engine::survey;
use fixtures::Misbehaviour;
use journal_format::Policy;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::Sim;

use crate::on_a_gateway::{Gateway, files_below, path};

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
    let once = Misbehaviour::FailStart { times: Some(1) };
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
    let said = restored(&gateway, &backup, &[]);
    assert!(
        said.contains("left out: the IPv6 forwarding: the kernel of this box has no IPv6"),
        "{said}"
    );
    assert_eq!(gateway.run(&["sysctl", "-n", FORWARDING[0]]), "1\n");
    restored(&gateway, Path::new(made.stdout.trim()), &[]);
}

/// A tunnel that is up.
fn tunnel(gateway: &Gateway) -> String {
    gateway.sample().active().unwrap().remove(0)
}

/// The peers of a tunnel as the kernel has them, but for where they are heard.
fn peers(gateway: &Gateway, tunnel: &str) -> Vec<String> {
    let dump = gateway.run(&["wg", "show", tunnel, "dump"]);
    let plain = |line: &str| {
        let words: Vec<&str> = line.split('\t').collect();
        [words[0], words[1], words[3], words[7]].join(" ")
    };
    let mut peers: Vec<String> = dump.lines().skip(1).map(plain).collect();
    peers.sort();
    peers
}

/// Brings a tunnel down and up by its file, as a reboot does that writes nothing.
fn from_its_file(gateway: &Gateway, tunnel: &str) {
    gateway.run(&["ip", "link", "delete", tunnel]);
    let config = gateway
        .sample()
        .wireguard_dir()
        .join(format!("{tunnel}.conf"));
    gateway.run(&["wg-quick", "up", path(&config)]);
}

#[test]
fn peers_that_are_in_no_file_are_named_and_backed_up_and_come_back_with_their_keys() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let tunnel = tunnel(&gateway);
    let secret = gateway.beside("secret");
    std::fs::write(&secret, SECRET).unwrap();
    gateway.run(&[
        "wg",
        "set",
        &tunnel,
        "peer",
        KEY,
        "allowed-ips",
        "10.77.0.0/16,fd77::/64",
        "preshared-key",
        path(&secret),
        "persistent-keepalive",
        "21",
    ]);
    let was = peers(&gateway, &tunnel);
    let backup = gateway.backup();
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    let named = format!(
        "the tunnel {tunnel} runs with other peers than those of its config: 1 is in no file"
    );
    assert!(surveyed.contains(&named), "{surveyed}");

    from_its_file(&gateway, &tunnel);
    let is = peers(&gateway, &tunnel);
    assert_ne!(is, was);
    rolled_back(&gateway, &backup);
    assert_eq!(peers(&gateway, &tunnel), is);
    let said = restored(&gateway, &backup, &[]);
    assert_eq!(peers(&gateway, &tunnel), was);
    let gets = format!("{tunnel} gets 2 peers once it is up");
    assert!(said.contains(&gets), "{said}");

    // The way back of a restore from a backup without them has them, too, and so has its safety backup.
    from_its_file(&gateway, &tunnel);
    let without = gateway.backup();
    restored(&gateway, &backup, &[]);
    rolled_back(&gateway, &without);
    assert_eq!(peers(&gateway, &tunnel), was);
    let said = restored(&gateway, &without, &[]);
    assert!(said.contains(&named), "{said}");
    assert_eq!(peers(&gateway, &tunnel), is);

    // Nothing that is written of it says its key.
    let shown = gateway.holdfast(&[
        "journal",
        "show",
        path(&gateway.last_restore().join("journal")),
    ]);
    assert!(!said.contains(SECRET) && !shown.stdout.contains(SECRET));
    for restore in gateway.restores() {
        for file in files_below(&restore) {
            let is_for_going_back = ["before", "after"]
                .iter()
                .any(|f| file.starts_with(restore.join(f)));
            let bytes = std::fs::read(&file).unwrap();
            let told = bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
            assert!(!told || is_for_going_back, "{}", file.display());
        }
    }
}

#[test]
fn a_peer_that_was_taken_away_while_its_tunnel_ran_stays_away_although_its_config_has_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let tunnel = tunnel(&gateway);
    let all = peers(&gateway, &tunnel);
    let key = all[0].split(' ').next().unwrap();
    gateway.run(&["wg", "set", &tunnel, "peer", key, "remove"]);
    assert!(peers(&gateway, &tunnel).is_empty());
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    assert!(
        surveyed.contains("1 of the config is not there"),
        "{surveyed}"
    );
    let backup = gateway.backup();
    from_its_file(&gateway, &tunnel);
    assert_eq!(peers(&gateway, &tunnel), all);
    restored(&gateway, &backup, &[]);
    assert!(peers(&gateway, &tunnel).is_empty());
}

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
    let once = Misbehaviour::FailStart { times: Some(1) };
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
        let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
        assert_eq!(refused.code(), 3, "{refused}");
        assert!(
            refused
                .stderr
                .contains("what cannot be read could not be put back"),
            "{refused}"
        );
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

#[test]
fn a_tunnel_whose_file_has_no_peer_since_all_were_set_while_it_runs_comes_back_with_them() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let tunnel = tunnel(&gateway);
    let sample = gateway.sample();
    for dir in [sample.configs_dir(), sample.wireguard_dir()] {
        let file = dir.join(format!("{tunnel}.conf"));
        let text = std::fs::read_to_string(&file).unwrap();
        let interface = text.split("[Peer]").next().unwrap();
        std::fs::write(&file, format!("{interface}SaveConfig = true\n")).unwrap();
    }
    from_its_file(&gateway, &tunnel);
    gateway.run(&[
        "wg",
        "set",
        &tunnel,
        "peer",
        KEY,
        "allowed-ips",
        "10.77.0.0/16",
    ]);
    let was = peers(&gateway, &tunnel);
    assert_eq!(was.len(), 1);
    let backup = gateway.backup();
    from_its_file(&gateway, &tunnel);
    assert!(peers(&gateway, &tunnel).is_empty());
    restored(&gateway, &backup, &[]);
    assert_eq!(peers(&gateway, &tunnel), was);
    // As before, going down writes them into the file.
    let config = sample.wireguard_dir().join(format!("{tunnel}.conf"));
    gateway.run(&["wg-quick", "down", path(&config)]);
    assert!(std::fs::read_to_string(&config).unwrap().contains(KEY));
}

#[test]
fn a_client_that_is_added_while_the_backup_is_made_is_in_it_with_its_tunnel_and_peers() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let database = sample.client_database();
    let added = gateway.beside("added");
    // The client comes right after the first look at the tunnels.
    let script = format!(
        "#!/bin/sh\n/usr/bin/wg \"$@\"; ended=$?\n\
         case \"$*\" in\n\
         'show interfaces') test ! -e {added} || echo late ;;\n\
         'show all dump') if test -e {added}\n\
           then printf 'late\\t{KEY}\\t(none)\\t(none)\\t10.9.9.9/32\\t0\\t0\\t0\\toff\\n'\n\
           else touch {added}\n\
             printf '[Interface]\\nPrivateKey = {KEY}\\n[Peer]\\nPublicKey = {SECRET}\\nAllowedIPs = 10.9.9.8/32\\n' > {configs}/late.conf\n\
             cp {configs}/late.conf {wireguard}/late.conf\n\
             sqlite3 {database} \"INSERT INTO clients (id, name, config_path, subnet, public_key, status) VALUES ('late', 'late', 'p', 's', 'k', 'active')\"\n\
           fi ;;\n\
         esac\nexit $ended\n",
        added = added.display(),
        configs = sample.configs_dir().display(),
        wireguard = sample.wireguard_dir().display(),
        database = database.display(),
    );
    crate::on_a_gateway::stand_in(&gateway, "wg", &script);
    let backup = gateway.backup();
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&backup).unwrap()).unwrap();
    let metadata = zip.by_name("backup_metadata.json").unwrap();
    let metadata: serde_json::Value = serde_json::from_reader(metadata).unwrap();
    let manifest = &metadata["holdfast"];
    assert!(manifest["entries"]["configs/late.conf"].is_object());
    let up = manifest["tunnels_up"].as_array().unwrap();
    assert!(up.iter().any(|name| name == "late"), "{up:?}");
    assert!(manifest["peers"]["late"][KEY].is_object(), "{manifest}");
    assert!(manifest.get("unpaired").is_none(), "{manifest}");
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
