#![allow(clippy::unwrap_used)]
use super::*;
use crate::text::mark::Mark;
use journal_format::Weight;

fn texts(said: &[Note]) -> String {
    let texts: Vec<&str> = said.iter().map(|n| &*n.text).collect();
    texts.join("\n")
}

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

fn here() -> Here {
    Here {
        host: "here".into(),
        now_ms: 1_795_373_540_000, // 2026-11-22
        interfaces: vec![
            ("eth0".into(), prefix("192.0.2.1/24")),
            ("c0".into(), prefix("10.9.0.1/24")),
        ],
        ssh: Some(("198.51.100.7".parse().unwrap(), 22)),
        page: None,
    }
}

#[test]
fn another_host_an_old_date_and_one_in_the_future_are_said_and_yesterday_here_is_not() {
    let said = |host: Option<&str>, created_at: &str| {
        let archive = ArchiveInfo {
            name: "b.zip".into(),
            sha256: journal_format::Digest::of_bytes([0; 32]),
            size: 1,
            created_at: created_at.into(),
            host: host.map(str::to_owned),
            made_by: "holdfast".into(),
        };
        let mut said = Vec::new();
        origin(&here(), &archive, &mut said);
        let codes = said.into_iter().filter_map(|note| note.code);
        codes.collect::<Vec<Code>>()
    };
    assert_eq!(said(Some("here"), "2026-11-21T00:00:00.000000+00:00"), []);
    assert_eq!(said(None, "2026-11-22T18:52:20Z"), []);
    let elsewhere = said(Some("there"), "2026-11-21T00:00:00Z");
    assert_eq!(elsewhere, [Code::MADE_ELSEWHERE]);
    assert_eq!(said(None, "2019-01-01T00:00:00Z"), [Code::BACKUP_OLD]);
    assert_eq!(said(None, "2099-01-01T00:00:00Z"), [Code::DATE_IN_FUTURE]);
}

#[test]
fn tunnels_that_take_the_boxs_network_or_its_admins_are_named() {
    let a = [prefix("192.0.2.128/25")];
    let b = [prefix("198.51.100.0/24"), prefix("0.0.0.0/0")];
    let c0 = [prefix("10.9.0.0/24"), prefix("10.0.0.0/8")];
    let networks_of = BTreeMap::from([("a", &a[..]), ("b", &b[..]), ("c0", &c0[..])]);
    let mut said = Vec::new();
    networks(&here(), &|i| i == "c0", &networks_of, &mut said);
    assert!(said.iter().all(|n| n.weight == Weight::Down));
    assert_eq!(
        said.iter().map(|n| &*n.text).collect::<Vec<_>>(),
        [
            "AllowedIPs of the backup's configs lead a tunnel to what lies in a network of this machine itself: \
             a (192.0.2.128/25, of eth0's 192.0.2.0/24)",
            "AllowedIPs of the backup's configs lead a tunnel to the network that your SSH session comes from: \
             b (198.51.100.0/24, 198.51.100.7)",
        ]
    );
}

#[test]
fn where_the_admin_is_unknown_only_other_rules_for_who_gets_in_are_said() {
    let rules = |rules: &str| Rules::parse(&format!("*filter\n{rules}COMMIT\n")).unwrap();
    let both = |now: &str, then: &str| BothRules {
        family: Family::V4,
        now: rules(now),
        then: rules(then),
    };
    let drop = both("", ":INPUT DROP [0:0]\n");
    let forward = both(":INPUT ACCEPT [0:0]\n", "-A FORWARD -j DROP\n");
    let known = here();
    let unknown = Here {
        ssh: None,
        ..here()
    };
    let found = unknown_admin(&unknown, &[forward.clone(), drop.clone()]);
    assert!(found.unwrap().is(&Code::ADMIN_UNKNOWN));
    assert_eq!(unknown_admin(&known, &[drop]), None);
    assert_eq!(unknown_admin(&unknown, &[forward]), None);
}

#[test]
fn accounts_that_change_hands_are_named_and_counted_beyond_ten() {
    let account = |id: i64, username: &str, password: &str| Account {
        id,
        username: username.into(),
        active: true,
        is_admin: false,
        password: Mark::of(password),
    };
    let now = [
        account(1, "ann", "a"),
        account(2, "bob", "b"),
        account(3, "cid", "c"),
    ];
    let mut then = vec![account(2, "ann", "a"), account(1, "bob", "other")];
    then[1].is_admin = true;
    then.extend((10..25).map(|i| account(i, &format!("new{i}"), "n")));
    let mut said = Vec::new();
    users("wireguard.db", &now, &then, &mut said);
    assert!(said[0].weight == Weight::Lost && said[0].is(&Code::USERS_GONE));
    insta::assert_snapshot!(texts(&said), @r"
    1 user of wireguard.db is not in the backup and will be gone: cid
    15 users of wireguard.db are in the backup and not here: they come back, or are new: new10, new11, new12, new13, new14, new15, new16, new17, new18, new19 and 5 more
    1 user of wireguard.db loses the current password and gets the one of the backup back: bob
    1 user of wireguard.db becomes an admin of the gateway: bob
    2 users of wireguard.db have ids that are other users' in the backup, and so will open sessions be: ann (id 1, then bob), bob (id 2, then ann)
    ");
    // Those that the sentence does not name are there all the same.
    let named: Vec<usize> = said.iter().map(|note| note.names.len()).collect();
    assert_eq!(named, [1, 15, 1, 1, 2]);
    let lost = said.iter().filter(|note| note.weight == Weight::Lost);
    assert_eq!(
        lost.count(),
        2,
        "an old password that holds again is a loss"
    );
    let mut none = Vec::new();
    users("wireguard.db", &now, &now, &mut none);
    assert_eq!(none, []);
}
