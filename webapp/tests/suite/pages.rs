//! What an admin sees: each page as it is sent, and the headers that go with it.

use agent_protocol::{BackupLine, Backups, Halt, Refusal, Running, ScheduleLine, UnfitTunnel};
use insta::assert_snapshot;
use journal_format::{AskedBy, Direction, Policy, RestoreId, Standing, Step};
use rocket::http::{ContentType, Cookie, Header, Status};
use rocket::local::blocking::{Client, LocalResponse};

use crate::agent::{FakeAgent, Told, backup, lacks, problem, waits};
use crate::journals::{ID, Journal};

/// The page without what changes from build to build and from one request to the next.
fn shown(answer: LocalResponse<'_>) -> String {
    let status = answer.status();
    let html = answer.into_string().unwrap();
    let (_, body) = html.split_once("</svg>\n<header").unwrap();
    let main = body
        .split_once("<main>")
        .unwrap()
        .1
        .split_once("</main>")
        .unwrap()
        .0;
    let lines: Vec<_> = main
        .lines()
        .map(str::trim_end)
        .filter(|l| !l.trim().is_empty())
        .collect();
    format!("{status}\n{}", lines.join("\n"))
}

fn without_random(f: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(
        r#"name="request" value="[0-9a-f]{32}""#,
        r#"name="request" value="(random)""#,
    );
    settings.add_filter(
        r#"name="token" value="[0-9a-f]{64}""#,
        r#"name="token" value="(token)""#,
    );
    settings.add_filter(r"\d+ (minute|hour|day|month|year)s? ago", "(some time) ago");
    settings.add_filter(r#"data-ms="\d+">[^<]+<"#, r#"data-ms="(so far)">(so far)<"#);
    settings.bind(f);
}

fn restore_page(journal: Journal) -> String {
    let shown_all = journal.shown();
    let agent = FakeAgent::start(Told {
        published: shown_all.len(),
        journal: shown_all,
        ..Told::default()
    });
    shown(
        agent
            .client_of("admin")
            .get(format!("/restores/{ID}"))
            .dispatch(),
    )
}

fn get(client: &Client, address: &str) -> String {
    shown(client.get(address).dispatch())
}

#[test]
fn the_sign_in_page_reads_like_this() {
    let agent = FakeAgent::start(Told::default());
    without_random(|| assert_snapshot!("sign_in", get(&agent.client(), "/sign-in")));
}

#[test]
fn the_first_page_reads_like_this() {
    let agent = FakeAgent::start(Told {
        limit_mib: 512,
        backups: Backups {
            last_backup: Some(backup(12_345_678)),
            ..Backups::default()
        },
        ..Told::default()
    });
    without_random(|| assert_snapshot!("home", get(&agent.client_of("admin"), "/")));
}

/// The part of the first page that tells of backups.
fn backups_on_the_first_page(backups: Backups) -> String {
    let agent = FakeAgent::start(Told {
        backups,
        ..Told::default()
    });
    let page = get(&agent.client_of("admin"), "/");
    let (_, behind) = page.split_once("</h1>").unwrap();
    behind
        .split_once("<p><a class=\"button")
        .unwrap()
        .0
        .to_string()
}

#[test]
fn the_first_page_says_that_the_last_backup_is_incomplete_and_which_is_the_last_good_one() {
    let incomplete = BackupLine {
        name: "wireguard_backup_20261123_180000.zip".into(),
        lacks: lacks(),
        ..backup(5)
    };
    let shown = backups_on_the_first_page(Backups {
        last_backup: Some(backup(5)),
        incomplete_backup: Some(incomplete),
        unknown_backups: false,
        schedule: None,
    });
    assert_snapshot!("home_incomplete", shown);
}

#[test]
fn the_first_page_says_that_a_backups_time_lies_in_the_future_and_that_none_is_known_to_be_good() {
    let of_2036 = BackupLine {
        name: "wireguard_backup_20360101_000000.zip".into(),
        made_ms: 2_082_758_400_000,
        in_future: true,
        ..backup(5)
    };
    let future = backups_on_the_first_page(Backups {
        last_backup: Some(of_2036),
        ..Backups::default()
    });
    let unknown = backups_on_the_first_page(Backups {
        unknown_backups: true,
        ..Backups::default()
    });
    let none = backups_on_the_first_page(Backups::default());
    assert_snapshot!("home_backups", [future, unknown, none].join("\n---\n"));
}

#[test]
fn the_first_page_says_how_the_schedule_stands_and_warns_where_somebody_has_to_do_something() {
    let scheduled = |text: &str, needs_somebody| {
        backups_on_the_first_page(Backups {
            schedule: Some(ScheduleLine {
                text: text.into(),
                needs_somebody,
            }),
            ..Backups::default()
        })
    };
    let good = scheduled(
        "good, 3 hours ago: wireguard_backup_20261123_030000.zip",
        false,
    );
    let failed = scheduled("FAILED, 3 hours ago: cannot write <b>: no space", true);
    assert_snapshot!("home_schedule", [good, failed].join("\n---\n"));
}

#[test]
fn an_incomplete_backup_reads_like_this() {
    let agent = FakeAgent::start(Told {
        lacks: lacks(),
        ..Told::default()
    });
    let client = agent.client_of("admin");
    let request = client.get("/system/backup");
    let answer = request
        .header(Header::new("Sec-Fetch-Site", "none"))
        .dispatch();
    assert_snapshot!("incomplete", shown(answer));
}

#[test]
fn the_first_page_says_what_runs() {
    let restore = |standing, interrupted| Running::Restore {
        id: RestoreId::new(ID).unwrap(),
        standing,
        interrupted,
        step: Some("swap databases".into()),
        done: 7,
        total: 16,
        now: interrupted.then(|| waits(&[Policy::Auto])),
    };
    let lost = Running::Lost {
        now: waits(&[]),
        problem: problem("tell how the gateway stands: its journal is not in <there>"),
    };
    let lacking = Running::Lacking {
        id: RestoreId::new(ID).unwrap(),
        now: waits(&[Policy::Auto]),
    };
    let backup = Running::Backup {
        began_ms: 1_795_373_540_000,
        step: "configs.db".into(),
        done: 1,
        total: 4,
    };
    let banner = |running| {
        let agent = FakeAgent::start(Told {
            running: Some(running),
            ..Told::default()
        });
        let page = get(&agent.client_of("admin"), "/");
        let banner = page
            .split_once("<section class=\"verdict")
            .unwrap()
            .1
            .split_once("</section>")
            .unwrap()
            .0;
        banner.to_string()
    };
    let all = [
        banner(restore(Standing::Forward, false)),
        banner(restore(Standing::Stuck, true)),
        banner(restore(Standing::Back, true)),
        banner(lacking),
        banner(lost),
        banner(backup),
    ];
    // What is lost has no page, and no button could find it.
    assert!(
        !all[4].contains("<a ") && !all[4].contains("<form"),
        "{}",
        all[4]
    );
    without_random(|| assert_snapshot!("running", all.join("\n---\n")));
}

#[test]
fn the_upload_page_reads_like_this() {
    let agent = FakeAgent::start(Told {
        limit_mib: 512,
        ..Told::default()
    });
    without_random(|| {
        assert_snapshot!("upload", get(&agent.client_of("admin"), "/system/restore"))
    });
}

#[test]
fn the_confirmation_says_what_will_be_overwritten() {
    let agent = FakeAgent::start(Told::default());
    let address = format!("/system/restore?upload={}", crate::agent::UPLOAD);
    without_random(|| assert_snapshot!("confirm", get(&agent.client_of("admin"), &address)));
}

#[test]
fn the_confirmation_offers_to_go_without_a_safety_backup_of_what_cannot_be_saved() {
    let agent = FakeAgent::start(Told {
        lacks: lacks(),
        ..Told::default()
    });
    let address = format!("/system/restore?upload={}", crate::agent::UPLOAD);
    let page = get(&agent.client_of("admin"), &address);
    let (_, behind) = page.split_once("name=\"keep_open_folders\"").unwrap();
    let (_, ticks) = behind.split_once("</label>").unwrap();
    assert_snapshot!("confirm_unsaved", ticks.split_once("<button").unwrap().0);
}

#[test]
fn the_confirmation_demands_a_tick_for_each_tunnel_that_cannot_come_up() {
    let agent = FakeAgent::start(Told {
        unfit: vec![UnfitTunnel {
            name: "wg0".into(),
            why: "bring wg0 up: its config has DNS <b>".into(),
        }],
        ..Told::default()
    });
    let address = format!("/system/restore?upload={}", crate::agent::UPLOAD);
    let page = get(&agent.client_of("admin"), &address);
    let (_, tick) = page.split_once("name=\"leave_down\"").unwrap();
    let (tick, _) = tick.split_once("</label>").unwrap();
    assert!(tick.starts_with(" value=\"wg0\" required>"), "{tick}");
    let said = "This gateway cannot bring wg0 up: its config has DNS &lt;b&gt;. Without this the restore cannot start.";
    assert!(tick.contains(said), "{tick}");
}

#[test]
fn a_restore_that_ended_for_want_of_a_part_says_which_and_how_it_is_accepted() {
    let page = restore_page(Journal::new().without_a_part());
    let (verdict, _) = page.split_once("<section id=\"progress\"").unwrap();
    let (_, verdict) = verdict.split_once("<section id=\"verdict\"").unwrap();
    assert_snapshot!("restore_without_a_part", verdict);
    let rolled_back = restore_page(Journal::new().rolled_back());
    assert!(!rolled_back.contains("/again\""), "{rolled_back}");
}

#[test]
fn a_restore_that_left_something_out_does_not_say_that_the_gateway_is_as_the_backup_says() {
    let journal = Journal::leaving_out(&[
        (
            "the IPv4 firewall rules",
            "those of the backup do not load here (no such set <x>), and you chose to continue without them. The current rules stay",
        ),
        (
            "the database app.db",
            "the backup has none; /srv/app.db stays as it is",
        ),
    ]);
    let page = restore_page(journal.restored());
    let (above, _) = page.split_once("<section id=\"progress\"").unwrap();
    assert_snapshot!("restore_in_part", above);
}

#[test]
fn a_restore_that_runs_reads_like_this() {
    let journal = Journal::new()
        .forward_until(Step::TunnelsUp)
        .begin(Step::TunnelsUp, Direction::Forward);
    without_random(|| assert_snapshot!("restore_running", restore_page(journal)));
}

#[test]
fn a_restore_that_gets_no_further_does_not_look_alive() {
    let journal = Journal::new()
        .forward_until(Step::TunnelsUp)
        .begin(Step::TunnelsUp, Direction::Forward)
        .shown();
    let agent = FakeAgent::start(Told {
        published: journal.len(),
        journal,
        ..Told::default()
    });
    let client = agent.client_of("admin");
    let unreadable = Halt::Unreadable {
        problem: problem("read the journal to its end: line 9 is damaged"),
    };
    for (halt, says) in [
        (Halt::Interrupted, "On the gateway, run `holdfast recover`."),
        (unreadable, "line 9 is damaged"),
    ] {
        agent.told.lock().unwrap().halt = Some(halt);
        let page = get(&client, &format!("/restores/{ID}"));
        assert!(page.contains(says), "{page}");
        assert!(
            !page.contains("data-ms") && !page.contains("step running"),
            "{page}"
        );
        assert!(page.contains("class=\"step interrupted\""), "{page}");
        assert!(
            page.contains("data-over=\"false\""),
            "what comes is still waited for"
        );
    }
}

/// The card at the top of the page of a restore that nothing works on.
fn card(journal: Journal, halt: Option<Halt>, recoveries: &[Policy]) -> String {
    let journal = journal.shown();
    let agent = FakeAgent::start(Told {
        published: journal.len(),
        journal,
        halt,
        now: Some(waits(recoveries)),
        ..Told::default()
    });
    let page = get(&agent.client_of("admin"), &format!("/restores/{ID}"));
    let (_, card) = page.split_once("<section id=\"verdict\"").unwrap();
    card.split_once("</section>").unwrap().0.to_owned()
}

#[test]
fn a_restore_that_waits_says_how_the_gateway_stands_and_has_a_button_for_each_way_on() {
    let half = || Journal::new().forward_until(Step::TunnelsUp);
    let all = [Policy::Auto, Policy::RollBack, Policy::Resume];
    let interrupted = card(half(), Some(Halt::Interrupted), &all);
    let stuck = card(Journal::new().stuck(), None, &[Policy::Auto]);
    let nowhere = card(half(), Some(Halt::Interrupted), &[]);
    assert!(!nowhere.contains("<form"), "{nowhere}");
    without_random(|| {
        assert_snapshot!("restore_waits", [interrupted, stuck].join("\n---\n"));
    });
}

#[test]
fn a_restores_page_says_who_asked_for_it_in_words_that_steer_nothing() {
    let address = "10.0.0.7".parse().ok();
    let who = AskedBy::on_page(Some("anna <b>\u{1b}"), true, address);
    let page = restore_page(Journal::new().asked_by(who).restored());
    let says = page.lines().find(|l| l.contains("Asked by")).unwrap();
    let by = r"admin &#x27;anna &lt;b&gt;\u{1b}&#x27; on the page from 10.0.0.7";
    assert_eq!(says, format!("<dt>Asked by</dt><dd>{by}</dd>"));
    let unknown = restore_page(Journal::new().restored());
    assert!(!unknown.contains("Asked by"));
}

#[test]
fn a_restore_that_succeeded_reads_like_this() {
    assert_snapshot!("restore_restored", restore_page(Journal::new().restored()));
}

#[test]
fn a_restore_that_went_back_says_why_and_shows_both_lists() {
    let page = restore_page(Journal::new().rolled_back());
    assert!(
        !page.contains("<script>"),
        "what a command said must be escaped"
    );
    assert_snapshot!("restore_rolled_back", page);
}

#[test]
fn a_stuck_restore_says_what_to_do() {
    let page = restore_page(Journal::new().stuck());
    assert!(page.contains("make it writable, then run holdfast recover"));
    assert_snapshot!(
        "restore_stuck",
        page.split_once("id=\"progress\"").unwrap().0
    );
}

#[test]
fn every_refusal_reads_as_a_page_with_its_status_and_a_way_on() {
    let refusals = [
        Refusal::Unacceptable {
            problems: vec![problem("read configs/a.conf"), problem("use app.db")],
        },
        Refusal::Busy {
            problem: problem("restore now"),
            restore: Some(RestoreId::new(ID).unwrap()),
        },
        Refusal::Gone {
            problem: problem("find that upload"),
        },
        Refusal::Used {
            restore: RestoreId::new(ID).unwrap(),
        },
        Refusal::Failed {
            problem: problem("write the spool"),
        },
        Refusal::TooLarge { limit_mib: 512 },
    ];
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let pages: Vec<_> = refusals
        .into_iter()
        .map(|refusal| {
            agent.told.lock().unwrap().refuse = Some(refusal);
            get(&client, "/")
        })
        .collect();
    assert_snapshot!("refusals", pages.join("\n---\n"));
}

#[test]
fn while_the_agent_is_away_the_page_says_so_and_tries_again() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    agent.kill();
    let answer = client.get(format!("/restores/{ID}")).dispatch();
    assert_eq!(answer.status(), Status::ServiceUnavailable);
    assert_eq!(answer.headers().get_one("Retry-After"), Some("5"));
    let page = answer.into_string().unwrap();
    assert!(
        page.contains("<meta http-equiv=\"refresh\" content=\"5\">"),
        "{page}"
    );
    assert!(page.contains("The agent does not answer"), "{page}");
    // What a form asked for cannot be asked for again by itself: there is a way on instead.
    let sent = client
        .post("/system/restore/discard")
        .header(ContentType::Form);
    let sent = sent
        .body(format!("token=x&upload={}", "0".repeat(32)))
        .dispatch();
    assert_eq!(sent.status(), Status::ServiceUnavailable);
    let page = sent.into_string().unwrap();
    assert!(
        !page.contains("http-equiv") && !page.contains("tries again"),
        "{page}"
    );
    assert!(page.contains(">Back to the overview</a>"), "{page}");
    agent.listen();
    assert_eq!(client.get("/").dispatch().status(), Status::Ok);
}

#[test]
fn whoever_holds_a_session_that_is_over_is_told_why_they_must_sign_in_again() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client();
    let gone = Cookie::new("holdfast-session", "0".repeat(64));
    let answer = client.get("/").cookie(gone).dispatch();
    let leads = answer.headers().get_one("Location").map(str::to_owned);
    assert_eq!(leads.as_deref(), Some("/sign-in?ended=yes"));
    let page = client.get(leads.unwrap()).dispatch().into_string().unwrap();
    assert!(page.contains("Your session has ended"), "{page}");
    assert!(
        page.contains("the passwords are those of its backup"),
        "{page}"
    );
    let page = client.get("/sign-in").dispatch().into_string().unwrap();
    assert!(!page.contains("Your session has ended"), "{page}");
}

/// Where an incomplete backup is downloaded all the same.
fn all_the_same() -> String {
    format!("/system/backup/{}", "e".repeat(64))
}

#[test]
fn without_a_session_every_page_leads_to_the_sign_in() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client();
    for address in [
        "/",
        "/system/backup",
        &all_the_same(),
        "/system/restore",
        "/system/backup-status",
    ] {
        let answer = client.get(address).dispatch();
        assert_eq!(
            (answer.status(), answer.headers().get_one("Location")),
            (Status::SeeOther, Some("/sign-in")),
            "{address}"
        );
    }
    let answer = client.get(format!("/restores/{ID}")).dispatch();
    assert_eq!(
        answer.headers().get_one("Location"),
        Some(format!("/sign-in?restore={ID}").as_str())
    );
    assert!(agent.told.lock().unwrap().asked.is_empty());
}

#[test]
fn a_user_who_is_no_admin_gets_403_everywhere_and_the_agent_is_asked_for_nothing() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("viewer");
    let restore = format!("/restores/{ID}");
    let events = format!("/restores/{ID}/events");
    for address in [
        "/",
        "/system/backup",
        &all_the_same(),
        "/system/restore",
        "/system/backup-status",
        &restore,
        &events,
    ] {
        let answer = client.get(address).dispatch();
        assert_eq!(answer.status(), Status::Forbidden, "{address}");
        assert!(
            answer
                .into_string()
                .unwrap()
                .contains("viewer is signed in, but is not an admin")
        );
    }
    assert!(agent.told.lock().unwrap().asked.is_empty());
}

#[test]
fn every_answer_carries_the_headers_that_keep_a_browser_safe() {
    let agent = FakeAgent::start(Told {
        backup: b"zip".to_vec(),
        ..Told::default()
    });
    let client = agent.client_of("admin");
    for address in [
        "/",
        "/sign-in",
        "/system/restore",
        "/nowhere",
        "/system/backup-status",
    ] {
        let answer = client.get(address).dispatch();
        let header = |name| {
            answer
                .headers()
                .get_one(name)
                .unwrap_or_default()
                .to_string()
        };
        let policy = header("Content-Security-Policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{address}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("Cache-Control"), "no-store", "{address}");
        assert_eq!(header("X-Content-Type-Options"), "nosniff", "{address}");
        assert_eq!(header("X-Frame-Options"), "DENY", "{address}");
        assert_eq!(header("Referrer-Policy"), "same-origin", "{address}");
    }
}

#[test]
fn styles_and_script_come_with_the_program_and_pages_ask_for_nothing_else() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    for (address, kind) in [
        ("/assets/holdfast.css", "text/css; charset=utf-8"),
        ("/assets/holdfast.js", "text/javascript"),
        ("/assets/holdfast.svg", "image/svg+xml"),
    ] {
        let answer = client.get(address).dispatch();
        assert_eq!(answer.status(), Status::Ok);
        assert_eq!(answer.headers().get_one("Content-Type"), Some(kind));
        assert_eq!(
            answer.headers().get_one("Cache-Control"),
            Some("public, max-age=31536000, immutable")
        );
        assert!(!answer.into_string().unwrap().contains("//cdn"));
    }
    let page = client.get("/").dispatch().into_string().unwrap();
    assert!(
        !page.contains("src=\"http") && !page.contains("href=\"http"),
        "{page}"
    );
    // The policy forbids them: they would silently do nothing.
    assert!(
        !page.contains(" style=") && !page.contains("<style") && !page.contains(" onclick="),
        "{page}"
    );
}

#[test]
fn what_does_not_exist_is_a_page_too() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    for address in ["/nowhere", "/restores/..%2f..%2fetc", "/restores/x/events"] {
        let answer = client.get(address).dispatch();
        assert_eq!(answer.status(), Status::NotFound, "{address}");
        assert!(
            answer
                .into_string()
                .unwrap()
                .contains("There is no such page.")
        );
    }
}

#[test]
fn under_a_name_that_is_not_its_own_no_address_answers_and_the_agent_is_asked_for_nothing() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let evil = || Header::new("Host", "evil.example:8080");
    let token = webapp::form_token(crate::agent::token("admin").reveal());
    for address in [
        "/",
        "/sign-in",
        "/system/backup",
        "/assets/holdfast.js",
        "/x",
    ] {
        let answer = client.get(address).header(evil()).dispatch();
        assert_eq!(answer.status(), Status::MisdirectedRequest, "{address}");
        assert_eq!(answer.headers().get("Set-Cookie").count(), 0);
    }
    let form = client
        .post("/system/restore/discard")
        .header(ContentType::Form);
    let body = format!("token={token}&upload={}", crate::agent::UPLOAD);
    let page = form.header(evil()).body(body).dispatch();
    assert_eq!(page.status(), Status::MisdirectedRequest);
    let page = page.into_string().unwrap();
    assert!(
        page.contains("Host name not allowed") && page.contains("hosts"),
        "{page}"
    );
    assert!(agent.told.lock().unwrap().asked.is_empty());
    for own in ["127.0.0.1:8080", "localhost", "gw:8080"] {
        let answer = client.get("/").header(Header::new("Host", own)).dispatch();
        assert_eq!(answer.status(), Status::Ok, "{own}");
    }
}

#[test]
fn what_would_steer_a_page_or_a_terminal_is_shown_as_what_it_is() {
    let mut steering = problem("read \u{1b}[31mred\u{7}\u{202e}evil\u{9b}");
    steering.stderr = Some("first\u{1b}c line\n\tsecond".into());
    let agent = FakeAgent::start(Told {
        refuse: Some(Refusal::Failed { problem: steering }),
        ..Told::default()
    });
    let page = agent
        .client_of("admin")
        .get("/")
        .dispatch()
        .into_string()
        .unwrap();
    assert!(
        page.contains(r"read \u{1b}[31mred\u{7}\u{202e}evil\u{9b}"),
        "{page}"
    );
    assert!(page.contains("first\\u{1b}c line\n\tsecond"), "{page}");
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
    assert!(!page.contains(steers));
}
