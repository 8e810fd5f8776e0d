#![allow(clippy::unwrap_used)]
use super::*;

fn here(lan: Option<&str>) -> InterfacesHere {
    InterfacesHere {
        known: ["ens3", "wg0", "lo"].map(str::to_owned).into(),
        tunnels: ["wg0".to_owned()].into(),
        lan: lan.map(str::to_owned),
    }
}

fn said(lan: Option<&str>, asked: &str, active: usize) -> Vec<String> {
    let notes = here(lan).start(&Profile::default(), "gw.service", asked, active);
    let line = |note: Note| format!("{}: {}", note.text, note.advice.unwrap());
    notes.into_iter().map(line).collect()
}

#[test]
fn a_start_that_needs_a_default_route_or_more_time_than_it_has_is_named_and_one_without_clients_needs_neither()
 {
    let fits = "LoadState=loaded\nTimeoutStartUSec=1min 30s";
    assert_eq!(said(Some("ens3"), fits, 500), [""; 0]);
    assert_eq!(said(None, fits, 0), [""; 0]);
    assert_eq!(
        said(None, fits, 1),
        [
            "this gateway has no default route: the start of gw.service fails for that, and takes the tunnels of 1 active client down: \
             add a default route first: ip route add default via ADDRESS"
        ]
    );
    assert_eq!(
        said(Some("ens3"), fits, 2000),
        [
            "the start of gw.service takes about 70 s for 2000 active clients, and systemd ends it after 90 s: run `systemctl edit \
             gw.service`, and set TimeoutStartSec=140 under [Service]"
        ]
    );
    assert_eq!(
        said(Some("ens3"), "TimeoutStartUSec=infinity", 10_000),
        [
            "the start of gw.service takes about 350 s for 10000 active clients, and Holdfast ends it after 120 s: set \
             service_seconds = 700 under [gateway] in the profile"
        ]
    );
}

#[test]
fn a_start_that_is_too_slow_for_both_is_one_note_with_both_settings() {
    let [line] = &said(Some("ens3"), "TimeoutStartUSec=1min 30s", 10_000)[..] else {
        panic!("one line");
    };
    for part in [
        "systemd ends it after 90 s, and Holdfast ends it after 120 s",
        "TimeoutStartSec=700 under [Service]; and set service_seconds = 700",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_unit_that_is_not_installed_is_named_alone() {
    let [line] = &said(
        None,
        "LoadState=not-found\nTimeoutStartUSec=1min 30s",
        5_000,
    )[..] else {
        panic!("one line");
    };
    assert!(
        line.starts_with("the unit gw.service is not installed on this gateway"),
        "{line}"
    );
}

#[test]
fn times_are_read_as_systemd_prints_them() {
    for (text, seconds) in [
        ("1min 30s", Some(90.0)),
        ("2h 1min 500ms", Some(7260.5)),
        ("infinity", None),
        ("", None),
        ("5 parsecs", None),
    ] {
        let read = time_span(text).map(|time| time.as_secs_f64());
        assert_eq!(read, seconds, "{text}");
    }
}

#[test]
fn a_name_with_a_plus_stands_for_all_that_begin_so() {
    let here = here(None);
    assert!(here.has("ens+") && here.has("+") && here.has("wg0") && here.has("lo"));
    assert!(!here.has("eth+") && !here.has("ens30") && !here.has("eth0"));
}

#[test]
fn of_a_command_only_what_iptables_is_told_is_an_interface() {
    let found = |command: &str| {
        in_command(command.as_bytes())
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found(
            "iptables -A FORWARD -i %i -o eth0 -j ACCEPT; /usr/sbin/ip6tables -t nat -A POSTROUTING -o \"eth1\" -j MASQUERADE"
        ),
        ["eth0", "eth1"]
    );
    assert_eq!(
        found("sed -i s/a/b/ /etc/x && curl -o /tmp/y $URL"),
        [""; 0]
    );
    assert_eq!(found("iptables -D INPUT -i $LAN -j DROP"), [""; 0]);
}
