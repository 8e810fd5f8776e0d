//! A tunnel that a restore lacks: since when, until when, and through a recovery that is killed over it.
use super::*;

/// A gateway whose restore was rolled back and lacks this tunnel, for a hook of its config fails.
fn lacks_a_tunnel() -> Option<(Gateway, String)> {
    let gateway = Gateway::small()?;
    let backup = gateway.backup();
    let broken = gateway.sample().active().unwrap().remove(0);
    with_line(&gateway, &broken, "PostUp = false");
    let fails = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(fails).unwrap();
    let done = restore(&gateway, &backup, &[]);
    assert_eq!(done.code(), 4, "{done}");
    assert_eq!(lacks(&gateway).len(), 1, "{done}");
    Some((gateway, broken))
}

#[test]
fn a_tunnel_lacks_since_it_was_first_tried_and_until_its_client_is_deleted() {
    let Some((gateway, broken)) = lacks_a_tunnel() else {
        return;
    };
    let since = || {
        let status = gateway.holdfast(&["status"]);
        assert_eq!(status.code(), 7, "{status}");
        let now = status.stdout.lines().find(|l| l.starts_with("now:"));
        let since = now.unwrap().split_once(", since ").unwrap().1;
        since.split(' ').next().unwrap().to_owned()
    };
    let first = since();
    let tried = gateway.holdfast(&["recover"]);
    assert_eq!(tried.code(), 4, "{tried}");
    assert_eq!(since(), first);
    assert_eq!(lacks(&gateway).len(), 1);

    let sample = gateway.sample();
    for dir in [sample.configs_dir(), sample.wireguard_dir()] {
        let _ = std::fs::remove_file(dir.join(format!("{broken}.conf")));
    }
    let status = gateway.holdfast(&["status"]);
    assert_eq!(status.code(), 0, "{status}");
    let told = gateway.holdfast(&["recover"]);
    assert_eq!(told.code(), 0, "{told}");
    let deleted = format!("{broken} was deleted after the restore");
    assert!(told.to_string().contains(&deleted), "{told}");
    assert_eq!(lacks(&gateway), [""; 0]);
    let once = gateway.holdfast(&["recover"]);
    assert_eq!(once.code(), 0, "{once}");
    assert!(!once.to_string().contains("was deleted"), "{once}");
}

#[test]
fn a_recovery_that_is_killed_while_it_tries_a_tunnel_again_leaves_it_lacking_and_no_hook_behind_the_next()
 {
    let Some((gateway, broken)) = lacks_a_tunnel() else {
        return;
    };
    let config = gateway.sample().config(&broken);
    let places = [
        config.clone(),
        gateway
            .sample()
            .wireguard_dir()
            .join(format!("{broken}.conf")),
    ];
    let hook = |hook: &str| {
        for place in places.iter().filter(|place| place.exists()) {
            let text = std::fs::read_to_string(place).unwrap();
            let lines = text
                .lines()
                .map(|line| match line.starts_with("PostUp = ") {
                    true => format!("PostUp = {hook}\n"),
                    false => format!("{line}\n"),
                });
            std::fs::write(place, lines.collect::<String>()).unwrap();
        }
    };
    hook("sleep 98764");
    let sleeps = || {
        let found = gateway.sandbox.run(&["pgrep", "-fx", "sleep 98764"]);
        found.unwrap().status.success()
    };
    let others = up(&gateway);
    let mut recovery = gateway.begin(&["recover"]);
    assert!(gateway.await_while(&mut recovery, sleeps));
    assert!(recovery.kill_worker().unwrap());
    recovery.wait().unwrap();
    assert!(up(&gateway).contains(&broken), "its hook has not begun");
    let status = gateway.holdfast(&["status"]);
    assert_eq!(status.code(), 7, "{status}");
    assert!(status.stdout.contains("was cut off"), "{status}");

    hook("true");
    let recovered = gateway.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 0, "{recovered}");
    assert!(!sleeps(), "{recovered}");
    assert!(
        recovered
            .to_string()
            .contains("ended what it left running: "),
        "{recovered}"
    );
    assert_eq!(lacks(&gateway), [""; 0]);
    let all = up(&gateway);
    assert!(
        all.contains(&broken) && others.iter().all(|other| all.contains(other)),
        "{all:?}"
    );
    assert_eq!(gateway.holdfast(&["status"]).code(), 0);
    gateway.is_settled();
}

#[test]
fn a_tunnel_that_a_service_brings_up_on_the_way_back_gets_what_was_set_by_hand_as_well() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let tunnel = gateway.sample().active().unwrap().remove(0);
    // It fails as often as Holdfast tries it; the start of the service is the next to try.
    let tries = gateway.sample().root().join("tries");
    let tries = path(&tries);
    let hook = format!("PostUp = echo >> {tries}; [ $(wc -l < {tries}) -gt 2 ]");
    with_line(&gateway, &tunnel, &hook);
    gateway.run(&["ip", "link", "set", "dev", &tunnel, "mtu", "1333"]);
    gateway.run(&["wg", "set", &tunnel, "listen-port", "45678"]);
    gateway.run(&["ip", "address", "add", "10.199.0.1/24", "dev", &tunnel]);
    gateway.run(&["ip", "route", "add", "10.209.0.0/24", "dev", &tunnel]);
    let state = || {
        let port = gateway.run(&["wg", "show", &tunnel, "listen-port"]);
        let link = gateway.run(&["ip", "-o", "link", "show", "dev", &tunnel]);
        let addresses = gateway.run(&["ip", "-o", "-4", "address", "show", "dev", &tunnel]);
        let routes = gateway.run(&["ip", "-o", "route", "show", "dev", &tunnel]);
        [
            port.contains("45678"),
            link.contains(" mtu 1333 "),
            addresses.contains("10.199.0.1/24"),
            routes.contains("10.209.0.0/24"),
        ]
    };
    assert_eq!(state(), [true; 4]);
    let fails = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(fails).unwrap();
    let done = restore(&gateway, &backup, &[]);
    assert_eq!(done.code(), 4, "{done}");
    let up = format!("{tunnel} is up: something else brought it up");
    assert!(done.to_string().contains(&up), "{done}");
    assert_eq!(state(), [true; 4], "{done}");
    assert!(done.stdout.contains("gave 1 tunnel again"), "{done}");
    assert_eq!(lacks(&gateway), [""; 0]);
    gateway.is_settled();
}
