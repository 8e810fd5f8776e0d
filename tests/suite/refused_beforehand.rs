//! What could not end well is refused by name before any outage, by `verify` and `restore` alike; and what cannot be told is
//! said.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use fixtures::format_1_0;

use crate::on_a_gateway::{Gateway, json, path, stand_in};

/// A gateway, and a backup of the kind that it makes itself: nothing in it vouches for the rest.
fn gateway() -> Option<(Gateway, PathBuf)> {
    let gateway = Gateway::small()?;
    let backup = gateway.beside("own.zip");
    format_1_0::write(gateway.sample(), &backup, true).unwrap();
    Some((gateway, backup))
}

/// The same backup with one entry changed.
fn with(backup: &Path, to: &Path, entry: &str, change: &dyn Fn(&str) -> String) {
    let mut from = zip::ZipArchive::new(std::fs::File::open(backup).unwrap()).unwrap();
    let mut zip = zip::ZipWriter::new(std::fs::File::create(to).unwrap());
    let mut hit = false;
    for i in 0..from.len() {
        let mut read = from.by_index(i).unwrap();
        let name = read.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).unwrap();
        if name == entry {
            hit = true;
            bytes = change(&String::from_utf8(bytes).unwrap()).into_bytes();
        }
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(&bytes).unwrap();
    }
    assert!(hit, "{entry}");
    zip.finish().unwrap();
}

/// The entry of the config of the tunnel that is up, number `i`.
fn config(gateway: &Gateway, i: usize) -> String {
    let up = gateway.run(&["wg", "show", "interfaces"]);
    let mut names: Vec<&str> = up
        .split_whitespace()
        .filter(|n| n.starts_with("c0"))
        .collect();
    names.sort_unstable();
    format!("configs/{}.conf", names[i])
}

fn line<'t>(text: &'t str, key: &str) -> &'t str {
    text.lines().find(|l| l.starts_with(key)).unwrap()
}

/// What is changed, in which entry, how, and what is said of it.
type Case<'c> = (&'c str, &'c str, Box<dyn Fn(&str) -> String + 'c>, &'c str);

/// One line of a config changed.
fn setting<'c>(
    entry: &'c str,
    what: &'c str,
    from: &'c str,
    to: &'c str,
    says: &'c str,
) -> Case<'c> {
    let change = move |text: &str| {
        let old = line(text, from).to_owned();
        text.replacen(&old, to, 1)
    };
    (what, entry, Box::new(change), says)
}

/// What no restore may bring: of the second config beside the text of another one, and of the rules.
fn to_be_refused<'c>(second: &'c str, other: &'c str) -> Vec<Case<'c>> {
    let mut cases: Vec<Case> = vec![
        setting(
            second,
            "own-network",
            "AllowedIPs",
            "AllowedIPs = 10.1.0.0/24",
            "that is the network of eth0",
        ),
        setting(
            second,
            "strange-port",
            "ListenPort",
            "ListenPort = 61999",
            "another tunnel of this machine, wg-admin",
        ),
        (
            "same-key",
            second,
            Box::new(|text: &str| {
                text.replace(line(text, "PrivateKey"), line(other, "PrivateKey"))
            }),
            "it has the private key of c0",
        ),
        (
            "same-port",
            second,
            Box::new(|text: &str| {
                text.replace(line(text, "ListenPort"), line(other, "ListenPort"))
            }),
            "listens on the same port",
        ),
    ];
    for (what, text, says) in [
        (
            "syntax",
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j NOSUCH\nCOMMIT\n",
            "cannot rehearse the backup's firewall rules",
        ),
        (
            "table",
            "*filter\n-A INPUT -t nat -j ACCEPT\nCOMMIT\n",
            "names no table",
        ),
        (
            "commit",
            "*filter\n:INPUT ACCEPT [0:0]\n",
            "does not end with COMMIT",
        ),
    ] {
        cases.push((
            what,
            "iptables_rules.txt",
            Box::new(move |_| text.to_owned()),
            says,
        ));
    }
    cases
}

/// What holds up nobody but the tunnel of this config.
fn to_stay_down(second: &str) -> Vec<Case<'_>> {
    vec![
        setting(
            second,
            "no-key",
            "PrivateKey",
            "PrivateKey = short",
            "PrivateKey is no key",
        ),
        setting(
            second,
            "address",
            "Address",
            "Address = $(id)",
            "Address $(id) is not an address",
        ),
        setting(
            second,
            "networks",
            "AllowedIPs",
            "AllowedIPs = $(id)",
            "AllowedIPs $(id) is not",
        ),
        setting(
            second,
            "unknown",
            "ListenPort",
            "Foo = 1",
            "nothing knows the setting Foo",
        ),
        (
            "blanks",
            second,
            Box::new(|text: &str| {
                text.replacen(
                    "[Peer]",
                    &format!("PostUp = a{}b\n[Peer]", " ".repeat(3000)),
                    1,
                )
            }),
            "3000 blanks of them in a row",
        ),
        (
            "peers",
            second,
            Box::new(|text: &str| {
                let peer = format!(
                    "[Peer]\nPublicKey = {}=\nAllowedIPs = 10.77.0.1/32\n",
                    "A".repeat(43)
                );
                format!("{text}\n{}", peer.repeat(9000))
            }),
            "900", // and one or two that were there
        ),
    ]
}

#[test]
fn what_restore_must_refuse_verify_does_not_call_sound() {
    let Some((gateway, backup)) = gateway() else {
        return;
    };
    let (first, second) = (config(&gateway, 0), config(&gateway, 1));
    let read = |entry: &str| {
        let file = entry.strip_prefix("configs/").unwrap();
        std::fs::read_to_string(gateway.sample().configs_dir().join(file)).unwrap()
    };
    let other = read(&first);
    let before = gateway.picture();
    for (what, entry, change, says) in to_stay_down(&second) {
        let archive = gateway.beside(&format!("{what}.zip"));
        with(&backup, &archive, entry, &*change);
        let done = gateway.holdfast(&["verify", path(&archive)]);
        assert_eq!(done.code(), 0, "{what}: {done}");
        let stays = |line: &str| line.contains("was up and stays down: ") && line.contains(says);
        assert!(done.stdout.lines().any(stays), "{what}: {done}");
    }
    for (what, entry, change, says) in to_be_refused(&second, &other) {
        let archive = gateway.beside(&format!("{what}.zip"));
        with(&backup, &archive, entry, &*change);
        for words in [
            &["verify", path(&archive)][..],
            &["restore", path(&archive), "--yes"],
        ] {
            let done = gateway.holdfast(words);
            assert_eq!(done.code(), 3, "{what}: {done}");
            assert!(done.stderr.contains(says), "{what}: {done}");
        }
    }
    gateway.is(&before);
    assert!(gateway.restores().is_empty());
    gateway.holdfast(&["verify", path(&backup)]).ok().unwrap();
}

#[test]
fn where_rules_cannot_be_tried_verify_says_so() {
    let Some((gateway, backup)) = gateway() else {
        return;
    };
    stand_in(
        &gateway,
        "unshare",
        "#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n",
    );
    let done = gateway.holdfast(&["verify", path(&backup)]).ok().unwrap();
    assert!(
        done.stdout
            .starts_with("own.zip: sound, but for its firewall rules, which were not tried\n"),
        "{done}"
    );
    assert!(
        done.stdout
            .contains("  not tried: whether its IPv4 firewall rules load: cannot try")
            && done.stdout.contains("Operation not permitted"),
        "{done}"
    );
    let done = gateway
        .holdfast(&["--json", "verify", path(&backup)])
        .ok()
        .unwrap();
    let said = json(&done.stdout);
    assert_eq!(said["rules_not_tried"][0]["family"], "IPv4");
    assert_eq!(said["manifest"], false);
}

/// The gateway goes on after its backup: other users, another mail relay, more rules. The name of the user that it changed.
fn goes_on(gateway: &Gateway) -> String {
    let users = &gateway.sample().databases()[1].path;
    let change = rusqlite::Connection::open(users).unwrap();
    let name: String = change
        .query_row("SELECT username FROM user ORDER BY id LIMIT 1", [], |r| {
            r.get(0)
        })
        .unwrap();
    change
        .execute(
            "UPDATE user SET password = 'x' || password, active = 0 WHERE username = ?1",
            [&name],
        )
        .unwrap();
    change
        .execute_batch("UPDATE user SET id = id + 100; INSERT INTO user (id, username, password, active) VALUES (1, 'new', 'h', 1); \
                        UPDATE email_settings SET smtp_host = 'mail.example'; CREATE TABLE own (x);")
        .unwrap();
    change.close().unwrap();
    for argv in [
        &["iptables", "-t", "nat", "-N", "f2b-sshd"][..],
        &[
            "iptables",
            "-t",
            "raw",
            "-A",
            "PREROUTING",
            "-p",
            "icmp",
            "-j",
            "ACCEPT",
        ],
    ] {
        gateway.run(argv);
    }
    name
}

#[test]
fn what_a_backup_changes_is_said_by_name_before_the_question() {
    let Some((gateway, backup)) = gateway() else {
        return;
    };
    let name = goes_on(&gateway);
    let archive = gateway.beside("changes.zip");
    let rules = |text: &str| {
        text.replacen(
            "*filter\n",
            "*filter\n-A INPUT -p tcp -m tcp --dport 22 -j DROP\n-A OUTPUT -o lo -j DROP\n-A FORWARD -j NFLOG --nflog-group 5\n",
            1,
        )
    };
    let between = gateway.beside("rules.zip");
    // The chains are declared before the rules.
    with(&backup, &between, "iptables_rules.txt", &|text| {
        let added = rules(text);
        let (filter, rest): (Vec<&str>, Vec<&str>) = added
            .lines()
            .partition(|l| l.contains("dport 22") || l.contains("-o lo") || l.contains("NFLOG"));
        let mut out = String::new();
        let mut inside = false;
        for line in rest {
            inside |= line == "*filter";
            if line == "COMMIT" && inside {
                out += &(filter.join("\n") + "\n");
                inside = false;
            }
            out += &format!("{line}\n");
        }
        // First in their chains.
        out
    });
    let first = config(&gateway, 0);
    with(&between, &archive, &first, &|text| {
        text.replacen("[Peer]", "PostUp = exec -a token /bin/true\n[Peer]", 1)
    });
    let own =
        "  lost: wireguard.db: the backup has no table own, which is here now: it will be empty\n";
    let verified = gateway.holdfast(&["verify", path(&archive)]).stdout;
    let at = |what: &str| {
        verified
            .find(what)
            .unwrap_or_else(|| panic!("{what}\n{verified}"))
    };
    assert!(at(own) < at("  runs as root for"), "{verified}");
    let done = gateway.holdfast(&["restore", path(&archive), "--yes"]);
    let shown = done.stdout.clone() + &done.stderr;
    for says in [
        own,
        "  lost: 1 user of wireguard.db is not in the backup and will be gone: new\n",
        "  lost: 1 chain of the IPv4 firewall that the backup lacks goes: nat f2b-sshd\n",
        "  lost: 1 rule of the IPv4 firewall that the backup lacks goes: raw: -A PREROUTING -p icmp -j ACCEPT\n",
        "    PostUp = exec -a token /bin/true\n",
        "nothing vouches for what is in it",
        &format!(
            "  lost: 1 user of wireguard.db loses the current password and gets the one of the backup back: {name}\n"
        ),
        &format!(
            "  lost: 1 user of wireguard.db is switched off now and becomes active again: {name}\n"
        ),
        &format!("new (id 1, then {name})"),
        "; now to mail.example:",
        "hand packets to somebody else where the current ones do not, 1 time: filter: -A FORWARD -j NFLOG",
        "the backup's configs run 1 command as root that the current configs do not run",
    ] {
        assert!(shown.contains(says), "{says}\n{shown}");
    }
    let at = |what: &str| shown.find(what).unwrap();
    assert!(at("  lost: ") < at("will run as root") && at("will run as root") < at("  warning: "));
    // The journal names the digest, not the command.
    let journal = std::fs::read_to_string(gateway.last_restore().join("journal")).unwrap();
    assert!(!journal.contains("exec -a token"));
}

#[test]
fn a_disk_that_would_not_hold_the_restore_is_named_with_what_is_needed_before_anything_is_asked() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let elsewhere = gateway.sample().root().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let made = gateway.holdfast(&["backup", "--output", path(&elsewhere)]);
    let backup = made.ok().unwrap().stdout;
    let state_dir = gateway.sample().state_dir();
    gateway.run(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=1m,mode=0700",
        "none",
        path(&state_dir),
    ]);
    let before = gateway.picture();
    let refused = gateway.holdfast(&["restore", backup.trim(), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");
    for says in [
        "not enough space in ",
        " for what is written, 16.0 MiB in reserve), ",
        " free\n",
        "`df -h ",
        "`state_dir`",
    ] {
        assert!(refused.stderr.contains(says), "{says}: {refused}");
    }
    gateway.is(&before);
}
