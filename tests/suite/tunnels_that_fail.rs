//! Tunnels that cannot be brought up, hooks that hang and processes that take their time, on gateways that run: whatever a tunnel
//! does, the others are up afterwards, and what is down is named.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use fixtures::hostile::Backup;
use fixtures::{Finished, Misbehaviour};

use crate::on_a_gateway::{Gateway, path};
use crate::restore_failures::take_port;

mod lacking;

/// Puts a line into a tunnel's config, in both places; gives what they held.
fn with_line(gateway: &Gateway, tunnel: &str, line: &str) -> Vec<(PathBuf, String)> {
    let sample = gateway.sample();
    let file = format!("{tunnel}.conf");
    let places = [sample.configs_dir(), sample.wireguard_dir()].map(|dir| dir.join(&file));
    let changed = places.map(|place| {
        let text = std::fs::read_to_string(&place).unwrap();
        let with = text.replacen("[Interface]", &format!("[Interface]\n{line}"), 1);
        std::fs::write(&place, with).unwrap();
        (place, text)
    });
    changed.into()
}

fn put_back(held: Vec<(PathBuf, String)>) {
    for (place, text) in held {
        std::fs::write(place, text).unwrap();
    }
}

fn up(gateway: &Gateway) -> Vec<String> {
    let up = gateway.run(&["wg", "show", "interfaces"]);
    // That one is not the gateway's.
    let up = up.split_whitespace().filter(|name| *name != "wg-admin");
    let mut up: Vec<String> = up.map(str::to_owned).collect();
    up.sort();
    up
}

/// What the last restore lacks, a line each.
fn lacks(gateway: &Gateway) -> Vec<String> {
    let journal = std::fs::read(gateway.last_restore().join("journal")).unwrap();
    let state = journal_format::scan(&journal).state.unwrap();
    state.lacks().into_iter().map(|lack| lack.text).collect()
}

fn is_open(gateway: &Gateway) -> bool {
    let tables = gateway.run(&["nft", "list", "tables"]);
    !tables.contains("holdfast")
}

/// `wg-quick` is ended after so many seconds, and so is a start of the service.
fn with_limit(gateway: &Gateway, seconds: u32) {
    let profile = gateway.sample().profile();
    let text = std::fs::read_to_string(&profile).unwrap();
    let line = format!(
        "[gateway]\ntunnel_seconds = {seconds}\nservice_seconds = {}\n",
        4 * seconds
    );
    let changed = text.replacen("[gateway]\n", &line, 1);
    assert_ne!(text, changed);
    std::fs::write(&profile, changed).unwrap();
}

fn restore(gateway: &Gateway, backup: &Path, more: &[&str]) -> Finished {
    let words = [&["restore", path(backup), "--yes"][..], more].concat();
    gateway.holdfast(&words)
}

/// Where nothing runs it in userspace any more, nothing of it is left.
fn leaves_nothing(gateway: &Gateway, tunnel: &str) {
    let links = gateway.run(&["ip", "-o", "link"]);
    assert!(!links.contains(tunnel), "{links}");
    let running = gateway
        .sandbox
        .run(&["pgrep", "-f", &format!("wireguard-go {tunnel}")]);
    let running = running.unwrap();
    assert_ne!(running.code(), 0, "{running}");
}

#[test]
fn on_the_way_back_a_tunnel_that_cannot_come_up_lacks_and_everything_else_is_as_before() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let [broken, other] = &gateway.sample().active().unwrap()[..] else {
        panic!("two tunnels");
    };
    with_line(&gateway, broken, "PostUp = echo it is broken >&2; false");
    let fails = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(fails).unwrap();
    let done = restore(&gateway, &backup, &[]);
    assert_eq!(done.code(), 4, "{done}");
    assert_eq!(up(&gateway), [other.as_str()]);
    let said = format!(
        "{broken} is down, though it was up before: this command failed: echo it is broken >&2; false; it says: it is broken"
    );
    assert_eq!(lacks(&gateway), [said.as_str()]);
    assert!(done.to_string().contains(&said), "{done}");
    leaves_nothing(&gateway, broken);
    assert!(is_open(&gateway));
    gateway.is_settled();
}

#[test]
fn forward_a_tunnel_that_cannot_come_up_turns_it_back_unless_the_admin_leaves_it_down() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let [broken, other] = &gateway.sample().active().unwrap()[..] else {
        panic!("two tunnels");
    };
    let held = with_line(&gateway, broken, "PostUp = false");
    let backup = gateway.backup();
    put_back(held);
    let before = gateway.picture();

    let done = restore(&gateway, &backup, &[]);
    assert_eq!(done.code(), 4, "{done}");
    gateway.is(&before);
    let flag = format!("--leave-down {broken}");
    assert!(done.stderr.contains(&flag), "{done}");

    let unknown = restore(&gateway, &backup, &["--leave-down", "nobody"]);
    assert_eq!(unknown.code(), 3, "{unknown}");
    let known = format!("name one of these: {broken}, {other}");
    let swapped = format!("name one of these: {other}, {broken}");
    assert!(
        unknown.stderr.contains(&known) || unknown.stderr.contains(&swapped),
        "{unknown}"
    );

    let accepted = restore(&gateway, &backup, &["--leave-down", broken]);
    assert!([0, 7].contains(&accepted.code()), "{accepted}");
    assert_eq!(up(&gateway), [other.as_str()]);
    assert_eq!(lacks(&gateway).len(), 1, "{accepted}");
    leaves_nothing(&gateway, broken);
    assert!(is_open(&gateway));
    gateway.is_settled();

    // Now it is down anyway.
    let again = restore(&gateway, &backup, &[]);
    assert!([0, 7].contains(&again.code()), "{again}");
    assert_eq!(up(&gateway), [other.as_str()]);
}

#[test]
fn a_hook_that_hangs_is_ended_and_named_and_keeps_no_other_tunnel_down() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    with_limit(&gateway, 3);
    let [hangs, other] = &gateway.sample().active().unwrap()[..] else {
        panic!("two tunnels");
    };
    // Or the start of its service would hang just so.
    let database = rusqlite::Connection::open(gateway.sample().client_database()).unwrap();
    database
        .busy_timeout(std::time::Duration::from_secs(10))
        .unwrap();
    let inactive = "UPDATE clients SET status = 'inactive' WHERE name = ?1";
    assert_eq!(database.execute(inactive, [hangs]).unwrap(), 1);
    drop(database);
    let held = with_line(&gateway, hangs, "PostUp = sleep 98765");
    let backup = gateway.backup();
    put_back(held);
    with_line(&gateway, hangs, "PreDown = sleep 98765");

    let done = restore(&gateway, &backup, &["--leave-down", hangs]);
    assert!([0, 7].contains(&done.code()), "{done}");
    let down = format!("{hangs} is down, but PreDown of {hangs} was ended after 3 s");
    assert!(done.stdout.contains(&down), "{done}");
    let said = format!("{hangs} is down: PostUp of {hangs} was ended after 3 s");
    assert_eq!(lacks(&gateway), [said]);
    assert_eq!(up(&gateway), [other.as_str()]);
    leaves_nothing(&gateway, hangs);
    let sleeps = gateway
        .sandbox
        .run(&["pgrep", "-f", "sleep 98765"])
        .unwrap();
    assert_ne!(sleeps.code(), 0, "{sleeps}");
    gateway.is_settled();
}

#[test]
fn a_hook_that_hangs_in_the_start_of_the_service_turns_the_restore_back_and_the_limit_is_named() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    with_limit(&gateway, 3);
    let hangs = gateway.sample().active().unwrap().remove(0);
    let held = with_line(&gateway, &hangs, "PostUp = sleep 98765");
    let backup = gateway.backup();
    put_back(held);
    let before = gateway.picture();
    // The service brings up what is active in the backup, whatever the restore may leave down.
    let done = restore(&gateway, &backup, &["--leave-down", &hangs]);
    assert_eq!(done.code(), 4, "{done}");
    let said = "start sample-gateway: it did not end within its time limit";
    let limit = "it was ended after 12 s (`service_seconds` of the profile)";
    assert!(done.stderr.contains(said), "{done}");
    assert!(done.stderr.contains(limit), "{done}");
    let sleeps = gateway
        .sandbox
        .run(&["pgrep", "-f", "sleep 98765"])
        .unwrap();
    assert_ne!(sleeps.code(), 0, "{sleeps}");
    gateway.is(&before);
    gateway.is_settled();
}

#[test]
fn forward_a_tunnel_that_may_stay_down_and_whose_port_is_taken_lacks() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let [deaf, other] = &gateway.sample().active().unwrap()[..] else {
        panic!("two tunnels");
    };
    let sample = gateway.sample();
    let config = std::fs::read_to_string(sample.config(deaf)).unwrap();
    let port = config
        .lines()
        .find(|l| l.starts_with("ListenPort"))
        .unwrap();
    let places = [sample.configs_dir(), sample.wireguard_dir()];
    for place in places.map(|dir| dir.join(format!("{deaf}.conf"))) {
        let text = std::fs::read_to_string(&place).unwrap();
        std::fs::write(&place, text.replace(port, "ListenPort = 45999")).unwrap();
    }
    let backup = gateway.backup();
    let _socket = take_port(&gateway, 45999);
    let done = restore(&gateway, &backup, &["--leave-down", deaf]);
    assert_eq!(done.code(), 7, "{done}");
    assert!(up(&gateway).contains(other));
    // In the kernel it does not come up at all.
    let lacks = lacks(&gateway);
    let why = ["did not listen on its port 45999", "Address already in use"];
    assert_eq!(lacks.len(), 1, "{lacks:?}");
    assert!(why.iter().any(|why| lacks[0].contains(why)), "{lacks:?}");
    assert!(
        lacks[0].starts_with(&format!("{deaf} is down: ")),
        "{lacks:?}"
    );
    assert!(is_open(&gateway));
    gateway.is_settled();
}

#[test]
fn a_hook_that_leaves_a_process_with_its_output_open_is_not_waited_for() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    with_limit(&gateway, 3);
    let before = up(&gateway);
    let tunnel = gateway.sample().active().unwrap().remove(0);
    with_line(&gateway, &tunnel, "PostUp = sleep 98765 &");
    let backup = gateway.backup();
    let done = gateway.restore(&backup);
    assert!(!done.to_string().contains("was ended"), "{done}");
    assert_eq!(up(&gateway), before);
    let sleeps = gateway.run(&["pgrep", "-x", "sleep"]);
    for pid in sleeps.split_whitespace() {
        gateway.run(&["kill", pid]);
    }
}

/// What runs a tunnel in userspace and takes its time to end, as under load: ends so long after its interface, and says whether
/// it met a successor.
const SLOW: &str = "#!/bin/sh
while ip link show dev \"$1\" >/dev/null 2>&1; do sleep 0.01; done
sleep \"$2\"
if ip link show dev \"$1\" >/dev/null 2>&1; then echo met; else echo alone; fi
";

#[test]
fn a_tunnel_comes_up_only_once_the_process_that_ran_it_before_has_ended() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let tunnel = gateway.sample().active().unwrap().remove(0);
    let program = gateway.beside("wireguard-go");
    std::fs::write(&program, SLOW).unwrap();
    gateway.run(&["chmod", "755", path(&program)]);
    let slow = gateway
        .sandbox
        .spawn(&[path(&program), &tunnel, "3"])
        .unwrap();
    gateway.restore(&backup);
    assert_eq!(slow.wait().unwrap().stdout, "alone\n");
}

#[test]
fn a_process_that_does_not_end_with_its_tunnel_is_named_and_turns_it_back() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let tunnel = gateway.sample().active().unwrap().remove(0);
    let before = gateway.picture();
    let program = gateway.beside("wireguard-go");
    std::fs::write(&program, SLOW).unwrap();
    gateway.run(&["chmod", "755", path(&program)]);
    let mut stays = gateway
        .sandbox
        .spawn(&[path(&program), &tunnel, "98765"])
        .unwrap();
    let done = restore(&gateway, &backup, &[]);
    stays.kill9().unwrap();
    assert_eq!(done.code(), 4, "{done}");
    let said = format!(" of {tunnel} is still there");
    assert!(
        done.stderr.contains("wireguard-go (pid ") && done.stderr.contains(&said),
        "{done}"
    );
    gateway.is(&before);
}

#[test]
fn a_tunnel_of_another_box_that_needs_what_is_missing_here_is_refused_until_it_is_left_down() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let has = |program: &str| gateway.sandbox.run(&["sh", "-c", program]).unwrap().code() == 0;
    if has("command -v resolvconf") {
        return;
    }
    let [needs, other] = &gateway.sample().active().unwrap()[..] else {
        panic!("two tunnels");
    };
    let held = with_line(&gateway, needs, "DNS = 192.0.2.53");
    let mut elsewhere = Backup::read(&gateway.backup()).unwrap();
    put_back(held);
    elsewhere.metadata["holdfast"]["host"] = "elsewhere".into();
    let backup = gateway.beside("elsewhere.zip");
    std::fs::write(&backup, elsewhere.bytes().unwrap()).unwrap();

    let refused = restore(&gateway, &backup, &[]);
    assert_eq!(refused.code(), 3, "{refused}");
    let why = format!("bring {needs} up: the config has DNS, and wg-quick needs resolvconf");
    let flag = format!("or leave it down: add --leave-down {needs}");
    assert!(
        refused.stderr.contains(&why) && refused.stderr.contains(&flag),
        "{refused}"
    );

    let accepted = restore(&gateway, &backup, &["--leave-down", needs]);
    assert_eq!(accepted.code(), 7, "{accepted}");
    let said = format!("the tunnel {needs} was up and stays down: the config has DNS");
    assert!(accepted.to_string().contains(&said), "{accepted}");
    assert!(lacks(&gateway)[0].starts_with(&said), "{accepted}");
    assert_eq!(up(&gateway), [other.as_str()]);
    let advice = format!("run: wg-quick up {}", path(&gateway.sample().config(needs)));
    assert!(accepted.to_string().contains(&advice), "{accepted}");

    // Now it is down anyway, and that is no news.
    let again = restore(&gateway, &backup, &[]);
    assert_eq!(again.code(), 0, "{again}");
    assert!(again.to_string().contains(&said), "{again}");
    assert_eq!(lacks(&gateway), [""; 0]);
    assert_eq!(gateway.sample().active().unwrap(), [other.as_str()]);
    let config = std::fs::read_to_string(gateway.sample().config(needs)).unwrap();
    assert!(config.contains("DNS = 192.0.2.53"));
}

#[test]
fn a_tunnel_that_wg_quick_would_refuse_lacks_where_it_was_up_and_is_only_named_where_it_was_down() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let [unfit, other] = &gateway.sample().active().unwrap()[..] else {
        panic!("two tunnels");
    };
    let held = with_line(&gateway, unfit, "MTU = much");
    let backup = gateway.backup();
    put_back(held);
    let said = format!("the tunnel {unfit} was up and stays down: ");

    let done = restore(&gateway, &backup, &[]);
    assert_eq!(done.code(), 7, "{done}");
    assert_eq!(up(&gateway), [other.as_str()]);
    let named = lacks(&gateway);
    assert!(named.len() == 1 && named[0].starts_with(&said), "{named:?}");
    let status = gateway.holdfast(&["status"]);
    assert_eq!(status.code(), 7, "{status}");
    assert!(status.stdout.contains(&said), "{status}");

    let again = restore(&gateway, &backup, &[]);
    assert_eq!(again.code(), 0, "{again}");
    assert!(again.to_string().contains(&said), "{again}");
    assert_eq!(lacks(&gateway), [""; 0]);
    assert_eq!(gateway.holdfast(&["status"]).code(), 0);

    let fails = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(fails).unwrap();
    let back = restore(&gateway, &backup, &[]);
    assert_eq!(back.code(), 4, "{back}");
    assert_eq!(lacks(&gateway), [""; 0]);
    assert_eq!(up(&gateway), [other.as_str()]);
    gateway.is_settled();
}

#[test]
fn what_was_set_by_hand_of_a_tunnel_is_named_beforehand_and_there_again_after_going_back() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let tunnel = gateway.sample().active().unwrap().remove(0);
    gateway.run(&["ip", "address", "add", "10.199.0.1/24", "dev", &tunnel]);
    let two_ends = "ip address add 10.199.1.1 peer 10.199.1.2/32 dev";
    let two_ends = [&two_ends.split(' ').collect::<Vec<_>>()[..], &[&tunnel]].concat();
    gateway.run(&two_ends);
    gateway.run(&["ip", "link", "set", "dev", &tunnel, "mtu", "1300"]);
    gateway.run(&["wg", "set", &tunnel, "listen-port", "45678"]);
    let by_hand = [
        "10.209.0.0/24 dev TUNNEL",
        "10.209.1.0/24 via 10.199.0.7 dev TUNNEL table 100 metric 7",
        "fd99::/64 dev TUNNEL table 100",
    ];
    let by_hand = by_hand.map(|route| route.replace("TUNNEL", &tunnel));
    for route in &by_hand {
        let add = format!("ip route add {route}");
        gateway.run(&add.split(' ').collect::<Vec<_>>());
    }
    // One of a daemon's, which sets it again itself.
    let of_daemon = ["10.209.2.0/24", "dev", &tunnel, "proto", "bird"];
    gateway.run(&[&["ip", "route", "add"], &of_daemon[..]].concat());
    let state = || {
        let port = gateway.run(&["wg", "show", &tunnel, "listen-port"]);
        let link = gateway.run(&["ip", "-o", "link", "show", "dev", &tunnel]);
        let mtu = link.split(" mtu ").nth(1).unwrap();
        let mtu = mtu.split(' ').next().unwrap().to_owned();
        let of_4 = gateway.run(&["ip", "-o", "-4", "address", "show", "dev", &tunnel]);
        let address =
            of_4.contains("10.199.0.1/24") && of_4.contains("10.199.1.1 peer 10.199.1.2/32");
        let routes = gateway.run(&["ip", "-o", "route", "show", "table", "all"]);
        let routes = routes
            .lines()
            .filter(|l| l.contains(&tunnel) && !l.contains(" proto "));
        let mut routes: Vec<String> = routes.map(str::to_owned).collect();
        routes.sort();
        (port.trim().to_owned(), mtu, address, routes)
    };
    let set = state();
    assert_eq!(
        (set.0.as_str(), set.1.as_str(), set.2),
        ("45678", "1300", true)
    );
    let found = |route: &&String| set.3.iter().any(|line| line.starts_with(&route[..12]));
    assert_eq!(by_hand.iter().filter(found).count(), 3, "{:?}", set.3);
    let fails = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(fails).unwrap();
    let done = restore(&gateway, &backup, &[]);
    assert_eq!(done.code(), 4, "{done}");
    let said = format!(
        "the tunnel {tunnel} has settings that are not in its config: the address 10.199.0.1/24"
    );
    assert!(done.to_string().contains(&said), "{done}");
    let two_ends = "the address 10.199.1.1 peer 10.199.1.2/32";
    assert!(done.to_string().contains(two_ends), "{done}");
    for route in &by_hand {
        assert!(
            done.to_string().contains(&format!("the route {route}")),
            "{done}"
        );
    }
    assert!(!done.to_string().contains("10.209.2.0/24"), "{done}");
    assert!(
        done.stdout
            .contains("gave 1 tunnel again the addresses, MTU, port and routes that they had"),
        "{done}"
    );
    assert_eq!(state(), set);
    gateway.is_settled();
}
