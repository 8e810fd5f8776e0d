//! Each state as it is said, at a terminal and at the page.
#![allow(clippy::unwrap_used)]

use journal_format::{Code, Note, Policy, Problem, RestoreId};

use super::*;

const ID: &str = "20261122T185220Z-0a1b2c3d";

fn names(all: &[&str]) -> FirstNames {
    FirstNames::of(all)
}

fn many(count: usize) -> FirstNames {
    let all: Vec<String> = (0..count).map(|n| format!("c{n:05}")).collect();
    FirstNames::of(&all)
}

fn since(seconds: u64) -> Option<Since> {
    Some(Since {
        at_ms: 1_795_373_540_123,
        age_ms: seconds * 1000,
    })
}

fn up(up: usize) -> UpAndDown {
    down(up, names(&[]), None)
}

fn down(up: usize, down: FirstNames, since: Option<Since>) -> UpAndDown {
    UpAndDown::Seen { up, down, since }
}

/// A gateway where all is well.
fn idle() -> StateOfGateway {
    StateOfGateway {
        condition: Condition::Idle,
        restore: None,
        files: SetInPlace::NotReplaced,
        databases: SetInPlace::NotReplaced,
        services: up(1),
        tunnels: up(5),
        traffic: Traffic::Open,
        forwarding_off: Vec::new(),
        headline: None,
        view: None,
        problem: None,
        lacks: Vec::new(),
        pid: None,
        is_halted: false,
        heading: None,
        marker_gone: None,
        lost_in_place: false,
        work: None,
        recoveries: Vec::new(),
        may_be_left: false,
        safety_backup: None,
    }
}

/// A restore that was interrupted in the middle of its exchanges.
fn interrupted() -> StateOfGateway {
    StateOfGateway {
        condition: Condition::Interrupted,
        restore: Some(RestoreId::new(ID).unwrap()),
        files: SetInPlace::Mixed {
            before: many(9),
            after: names(&["c00010.conf", "c00011.conf", "rules.v4"]),
            foreign: names(&[]),
        },
        databases: SetInPlace::After(names(&["configs.db", "wireguard.db"])),
        services: down(0, names(&["wireguard-gateway.service"]), since(13)),
        tunnels: down(1, many(9), since(12)),
        traffic: Traffic::Blocked { since: since(12) },
        headline: Some("Restoring: step 9 of 16, swap configs.".into()),
        recoveries: vec![Policy::Auto, Policy::RollBack, Policy::Resume],
        heading: Some(Heading::Back),
        may_be_left: true,
        safety_backup: Some(
            "/var/lib/holdfast/backups/wireguard_backup_20261122_185220.zip".into(),
        ),
        ..idle()
    }
}

fn stuck(problem: Problem) -> StateOfGateway {
    StateOfGateway {
        condition: Condition::Stuck,
        headline: Some("Stuck: Holdfast cannot finish this restore by itself, and an operator must fix the cause.".into()),
        files: SetInPlace::Before(many(12)),
        databases: SetInPlace::Before(names(&["configs.db", "wireguard.db"])),
        recoveries: vec![Policy::Auto],
        problem: Some(problem),
        ..interrupted()
    }
}

fn lacking(text: &str, advice: &str) -> StateOfGateway {
    StateOfGateway {
        condition: Condition::Lacking,
        headline: Some("Rolled back.".into()),
        files: SetInPlace::Before(many(12)),
        databases: SetInPlace::Before(names(&["configs.db"])),
        traffic: Traffic::Open,
        lacks: vec![Note::down(Code::SERVICE_STAYS_DOWN, text).advising(advice)],
        recoveries: vec![Policy::Auto],
        heading: None,
        ..interrupted()
    }
}

fn problem(what: &str, advice: &str) -> Problem {
    Problem::new(Code::IO, what, advice)
}

/// Every state that is told apart, with what it is called here.
///
/// Long: a table, one entry a state.
fn states() -> Vec<(&'static str, StateOfGateway)> {
    let rules = Problem {
        stderr: Some("iptables-restore: line 12 failed\n".into()),
        ..problem(
            "load the firewall rules: exit status 1 (going back, in the step \"load old firewall rules\": tried 3 times)",
            "look at the line that it names, in /var/lib/holdfast/restores/ID/refused-rules; then run `holdfast recover`",
        )
    };
    let tunnel = problem(
        "finish this step: c00000 is not up (going back, in the step \"verify the running gateway\": tried 3 times)",
        "run `wg-quick up /etc/wireguard/c00000.conf` and see what it says; then run `holdfast recover`",
    );
    let object = problem(
        "put /etc/wireguard/c00003.conf back: its original is neither there nor in /etc/wireguard/.holdfast-ID/c00003.conf",
        "somebody else removed it; take it from the safety backup and put it there; then run `holdfast recover`",
    );
    let lost =
        "nothing was changed. Mount the disk of /var/lib/holdfast; then run `holdfast recover`";
    let service = "wireguard-gateway.service does not run, though it ran before: its start failed";
    vec![
        ("idle", idle()),
        (
            "a backup runs",
            StateOfGateway {
                condition: Condition::Busy,
                pid: Some(812),
                work: Some("a backup".into()),
                ..idle()
            },
        ),
        (
            "running",
            StateOfGateway {
                condition: Condition::Running,
                pid: Some(812),
                recoveries: Vec::new(),
                ..interrupted()
            },
        ),
        ("interrupted in the exchanges", interrupted()),
        (
            "interrupted before anything was exchanged",
            StateOfGateway {
                files: SetInPlace::Before(many(12)),
                databases: SetInPlace::Before(names(&["configs.db"])),
                services: up(1),
                tunnels: up(10),
                traffic: Traffic::Open,
                headline: Some("Preparing, nothing has changed yet.".into()),
                recoveries: vec![Policy::Auto],
                heading: Some(Heading::Nowhere),
                may_be_left: false,
                safety_backup: None,
                ..interrupted()
            },
        ),
        (
            "interrupted, and its restore marker is gone",
            StateOfGateway {
                recoveries: vec![Policy::RollBack, Policy::Resume],
                marker_gone: Some("/var/lib/holdfast/open".into()),
                ..interrupted()
            },
        ),
        (
            "interrupted with all in place, and the kernel forwards nothing",
            StateOfGateway {
                files: SetInPlace::After(many(12)),
                heading: Some(Heading::Forward),
                forwarding_off: vec!["IPv4"],
                ..interrupted()
            },
        ),
        (
            "running, and somebody has stopped its process",
            StateOfGateway {
                condition: Condition::Running,
                pid: Some(812),
                is_halted: true,
                recoveries: Vec::new(),
                ..interrupted()
            },
        ),
        (
            "left as it is",
            StateOfGateway {
                condition: Condition::Left,
                traffic: Traffic::Open,
                lacks: vec![
                    Note::known(Code::LEFT_AS_IT_IS, "some files and databases are old, the others are from the backup").advising(
                        "run `holdfast restore B`: all files, databases and rules are then as before the restore",
                    ),
                    Note::down(
                        Code::LEFT_AS_IT_IS,
                        "the service wireguard-gateway.service does not run",
                    )
                    .advising("then run `systemctl start wireguard-gateway.service`, then `holdfast restore B` once more, since that start may add firewall rules twice"),
                ],
                recoveries: Vec::new(),
                heading: None,
                may_be_left: false,
                ..interrupted()
            },
        ),
        (
            "interrupted, of databases alone, for hours",
            StateOfGateway {
                files: SetInPlace::NotReplaced,
                services: down(1, names(&["a", "b"]), since(7_380)),
                tunnels: up(1),
                traffic: Traffic::Open,
                ..interrupted()
            },
        ),
        ("stuck over rules", stuck(rules)),
        (
            "stuck over a tunnel",
            StateOfGateway {
                tunnels: down(9, names(&["c00000"]), since(200_000)),
                ..stuck(tunnel)
            },
        ),
        (
            "stuck over an object that others put there",
            StateOfGateway {
                files: SetInPlace::Mixed {
                    before: many(11),
                    after: names(&[]),
                    foreign: names(&["c00003.conf"]),
                },
                ..stuck(object)
            },
        ),
        (
            "lacking a service",
            StateOfGateway {
                tunnels: up(10),
                ..lacking(
                    service,
                    "see why in the log of the gateway (its `start` command says where that is), then start it: systemctl start wireguard-gateway",
                )
            },
        ),
        (
            "lacking a tunnel, restored",
            StateOfGateway {
                files: SetInPlace::After(many(12)),
                databases: SetInPlace::After(names(&["configs.db"])),
                services: up(1),
                tunnels: down(9, names(&["c00000"]), since(60)),
                ..lacking(
                    "c00000 is down: its endpoint does not resolve",
                    "see what wg-quick up c00000 says",
                )
            },
        ),
        (
            "lost",
            StateOfGateway {
                condition: Condition::Lost,
                files: SetInPlace::Unknown {
                    why: "the restore's journal is not here".into(),
                },
                databases: SetInPlace::Unknown {
                    why: "the restore's journal is not here".into(),
                },
                tunnels: up(0),
                traffic: Traffic::Blocked { since: None },
                problem: Some(problem(
                    "tell how the gateway stands: restore ID was under way, and its journal is not in /var/lib/holdfast/restores",
                    lost,
                )),
                recoveries: Vec::new(),
                safety_backup: None,
                ..interrupted()
            },
        ),
        (
            "lost, and only its journal is gone",
            StateOfGateway {
                condition: Condition::Lost,
                lost_in_place: true,
                files: SetInPlace::Unknown {
                    why: "the restore's journal is not here".into(),
                },
                databases: SetInPlace::Unknown {
                    why: "the restore's journal is not here".into(),
                },
                recoveries: Vec::new(),
                ..interrupted()
            },
        ),
        (
            "a journal that is damaged, and nothing that can be asked",
            StateOfGateway {
                condition: Condition::Unreadable,
                files: SetInPlace::Unknown {
                    why: "cannot look at /etc/wireguard: Input/output error".into(),
                },
                services: UpAndDown::Unknown {
                    why: "wireguard-gateway.service: cannot ask: no end within its time limit"
                        .into(),
                },
                tunnels: UpAndDown::Unknown {
                    why: "cannot run wg: there is no such program".into(),
                },
                traffic: Traffic::Unknown {
                    why: "cannot run nft: there is no such program".into(),
                },
                problem: Some(problem(
                    "use the journal /var/lib/holdfast/restores/ID/journal of restore ID: it is damaged",
                    "`holdfast journal verify ID` says what is wrong with it; put it back from a copy, then run `holdfast recover`. The last way out: `mv J J.unusable && rm -f B`, then `holdfast recover`",
                )),
                recoveries: Vec::new(),
                ..interrupted()
            },
        ),
    ]
}

#[test]
fn each_state_says_what_is_in_place_what_works_what_stands_in_the_way_and_what_goes_on() {
    let texts = states().into_iter().map(|(name, state)| {
        let told: String = state
            .lines(Audience::Page)
            .iter()
            .skip(3)
            .map(|l| format!("\nat the page:\n{l}"))
            .collect();
        format!(
            "== {name}: {}\n{}{told}\n",
            state.exit_status(),
            state.text()
        )
    });
    insta::assert_snapshot!(texts.collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_state_takes_four_lines_at_most_and_only_an_idle_gateway_names_no_way_on() {
    for (name, state) in states() {
        for reader in [Audience::Terminal, Audience::Page] {
            let lines = state.lines(reader);
            assert!(lines.len() <= 4, "{name}: {lines:?}");
            let way_on = lines
                .iter()
                .any(|l| l.label == "what to do" && !l.text.is_empty());
            assert_eq!(
                way_on,
                state.condition != Condition::Idle,
                "{name}: {lines:?}"
            );
        }
        assert_eq!(
            state.text().lines().count(),
            state.lines(Audience::Terminal).len()
        );
    }
}

#[test]
fn of_two_files_with_one_name_the_whole_paths_are_shown() {
    let all = [
        "/etc/wireguard/a.conf",
        "/opt/configs/a.conf",
        "/opt/configs/b.conf",
    ];
    let shown = FirstNames::of_files(&all[1..], &all);
    assert_eq!(shown.first, ["/opt/configs/a.conf", "b.conf"]);
}

#[test]
fn what_an_outsider_named_steers_no_terminal_and_adds_no_line() {
    let mut state = interrupted();
    state.tunnels = down(0, names(&["a\u{1b}[2J\nb"]), None);
    state.problem = Some(problem("x\ny\u{1b}", "z\nw"));
    for condition in [
        Condition::Stuck,
        Condition::Interrupted,
        Condition::Unreadable,
    ] {
        state.condition = condition;
        let text = state.text();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
