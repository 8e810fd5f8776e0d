//! The live step list: every record's event once, in order, whatever breaks off in between.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_protocol::Halt;
use journal_format::{Direction, Step};
use rocket::http::{Header, Status};
use rocket::local::blocking::Client;

use crate::agent::{FakeAgent, Told};
use crate::journals::{ID, Journal, Shown};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sent {
    id: Option<u64>,
    name: Option<String>,
    data: String,
}

fn parse(text: &str) -> Vec<Sent> {
    let mut all = Vec::new();
    for block in text.split("\n\n") {
        let mut sent = Sent::default();
        for line in block.lines() {
            match line.split_once(':') {
                Some(("id", v)) => sent.id = v.trim().parse().ok(),
                Some(("event", v)) => sent.name = Some(v.trim().into()),
                Some(("data", v)) => sent.data.push_str(v),
                _ => {}
            }
        }
        if sent != Sent::default() {
            all.push(sent);
        }
    }
    all
}

fn ids(sent: &[Sent]) -> Vec<u64> {
    sent.iter().filter_map(|s| s.id).collect()
}

fn agent_with(journal: Vec<Shown>, published: usize) -> FakeAgent {
    FakeAgent::start(Told {
        journal,
        published,
        ..Told::default()
    })
}

fn events(client: &Client, query: &str, last: Option<u64>) -> (Status, String) {
    let mut request = client.get(format!("/restores/{ID}/events{query}"));
    if let Some(last) = last {
        request.add_header(Header::new("Last-Event-ID", last.to_string()));
    }
    let answer = request.dispatch();
    (answer.status(), answer.into_string().unwrap_or_default())
}

#[test]
fn a_reconnecting_browser_gets_just_what_it_missed_wherever_it_broke_off() {
    let journal = Journal::new().rolled_back().shown();
    let count = journal.len() as u64;
    let agent = agent_with(journal, count as usize);
    let client = agent.client_of("admin");
    let all: Vec<u64> = (0..count).collect();
    assert_eq!(ids(&parse(&events(&client, "", None).1)), all);
    for last in 0..count - 1 {
        let expected = &all[last as usize + 1..];
        let got = ids(&parse(&events(&client, "?after=0", Some(last)).1));
        assert_eq!(
            got, expected,
            "after {last}: what came since goes before what the page had"
        );
    }
    let got = ids(&parse(&events(&client, "?after=30", None).1));
    assert_eq!(
        got,
        &all[31..],
        "a page that has seen no event yet has what it was made with"
    );
}

#[test]
fn when_it_is_over_and_nothing_was_missed_the_browser_is_told_not_to_come_back() {
    let journal = Journal::new().restored().shown();
    let count = journal.len();
    let agent = agent_with(journal, count);
    let (status, body) = events(&agent.client_of("admin"), "", Some(count as u64 - 1));
    assert_eq!((status, body.as_str()), (Status::NoContent, ""));
}

#[test]
fn the_last_event_leaves_the_page_as_a_fresh_one_would_be() {
    let journal = Journal::new().rolled_back().shown();
    let count = journal.len();
    let agent = agent_with(journal, count);
    let client = agent.client_of("admin");
    let sent = parse(&events(&client, "", None).1);
    let last: serde_json::Value = serde_json::from_str(&sent.last().unwrap().data).unwrap();
    let page = client
        .get(format!("/restores/{ID}"))
        .dispatch()
        .into_string()
        .unwrap();
    assert!(page.contains(last["html"].as_str().unwrap().trim()));
    assert_eq!(last["over"], true);
    assert_eq!(last["verdict"], "rolled-back");
    assert_eq!(last["title"], "Rolled back · Holdfast");
}

#[test]
fn an_event_says_for_programs_which_step_changed() {
    let journal = Journal::new()
        .begin(Step::SafetyBackup, Direction::Forward)
        .shown();
    let last = journal.len() - 1;
    let shown = serde_json::to_value(&journal[last].0).unwrap();
    assert_eq!(shown["steps"][0]["state"], "running");
    let agent = agent_with(journal, last + 1);
    let address = format!("/restores/{ID}/events?after={}", last - 1);
    with_server(&agent, |port| {
        let mut stream = Stream::open(port, &address, None);
        let event: serde_json::Value = serde_json::from_str(&stream.next().data).unwrap();
        for key in ["seq", "headline", "standing", "steps", "over"] {
            assert_eq!(event[key], shown[key], "{key}");
        }
        assert!(
            event["html"]
                .as_str()
                .unwrap()
                .contains("id=\"step-forward-safety-backup\" class=\"step running\"")
        );
    });
}

#[test]
fn that_nothing_works_on_a_restore_any_more_is_told_without_a_record_of_it() {
    let journal = Journal::new()
        .forward_until(Step::TunnelsUp)
        .begin(Step::TunnelsUp, Direction::Forward)
        .shown();
    let count = journal.len();
    let agent = agent_with(journal, count);
    let address = format!("/restores/{ID}/events?after={}", count - 1);
    with_server(&agent, |port| {
        let mut stream = Stream::open(port, &address, None);
        agent.told.lock().unwrap().halt = Some(Halt::Interrupted);
        let told = stream.next();
        assert_eq!((told.name.as_deref(), told.id), (Some("halt"), None));
        assert!(told.data.contains("holdfast recover"), "{}", told.data);
        assert!(!told.data.contains("step running"), "{}", told.data);
        agent.told.lock().unwrap().halt = None;
        let told = stream.next();
        assert_eq!(told.name.as_deref(), Some("halt"));
        assert!(told.data.contains("step running"), "{}", told.data);
    });
}

#[test]
fn events_carry_the_headers_that_keep_a_proxy_from_holding_them_back() {
    let journal = Journal::new().restored().shown();
    let count = journal.len();
    let agent = agent_with(journal, count);
    let client = agent.client_of("admin");
    let answer = client.get(format!("/restores/{ID}/events")).dispatch();
    assert_eq!(
        answer.headers().get_one("Content-Type"),
        Some("text/event-stream")
    );
    assert_eq!(answer.headers().get_one("X-Accel-Buffering"), Some("no"));
    assert_eq!(answer.headers().get_one("Cache-Control"), Some("no-store"));
}

#[test]
fn an_agent_that_is_started_again_in_the_middle_costs_no_event_and_repeats_none() {
    let journal = Journal::new().restored().shown();
    let count = journal.len();
    let agent = agent_with(journal, 10);
    with_server(&agent, |port| {
        let mut stream = Stream::open(port, &format!("/restores/{ID}/events"), None);
        let mut got: Vec<u64> = (0..10).map(|_| stream.next().id.unwrap()).collect();
        agent.kill();
        let away = stream.next();
        assert_eq!(
            (away.name.as_deref(), away.data.as_str()),
            (Some("agent"), "away")
        );
        agent.told.lock().unwrap().published = count;
        agent.listen();
        let back = stream.next();
        assert_eq!(
            (back.name.as_deref(), back.data.as_str()),
            (Some("agent"), "back")
        );
        got.extend((10..count).map(|_| stream.next().id.unwrap()));
        assert_eq!(got, (0..count as u64).collect::<Vec<_>>());
        assert!(stream.is_at_end());
    });
}

#[test]
fn a_web_server_that_is_started_again_in_the_middle_costs_no_event_and_repeats_none() {
    let journal = Journal::new().restored().shown();
    let count = journal.len();
    let agent = agent_with(journal, 10);
    let mut got = Vec::new();
    with_server(&agent, |port| {
        let mut stream = Stream::open(port, &format!("/restores/{ID}/events"), None);
        got.extend((0..10).map(|_| stream.next().id.unwrap()));
    });
    agent.told.lock().unwrap().published = count;
    with_server(&agent, |port| {
        let mut stream = Stream::open(port, &format!("/restores/{ID}/events"), got.last().copied());
        got.extend((10..count).map(|_| stream.next().id.unwrap()));
        assert!(stream.is_at_end());
    });
    assert_eq!(got, (0..count as u64).collect::<Vec<_>>());
}

/// The real server on a port of its own, and its orderly end while a stream may be open.
pub fn with_server(agent: &FakeAgent, test: impl FnOnce(u16)) {
    let rocket = webapp::rocket(webapp::App {
        settings: agent.settings(),
    })
    .unwrap();
    let (tell_port, port) = std::sync::mpsc::channel();
    let (tell_handle, handle) = std::sync::mpsc::channel();
    let told = AtomicBool::new(false);
    let rocket = rocket.attach(rocket::fairing::AdHoc::on_liftoff("port", move |rocket| {
        if !told.swap(true, Ordering::SeqCst) {
            tell_port.send(rocket.config().port).unwrap();
            tell_handle.send(rocket.shutdown()).unwrap();
        }
        Box::pin(async {})
    }));
    let server =
        std::thread::spawn(move || rocket::execute(rocket.launch()).map(drop).map_err(Box::new));
    test(port.recv_timeout(Duration::from_secs(30)).unwrap());
    handle.recv().unwrap().notify();
    server.join().unwrap().unwrap();
}

/// A browser's end of an event stream, read line by line.
struct Stream {
    lines: std::io::Lines<std::io::BufReader<std::net::TcpStream>>,
}

impl Stream {
    fn open(port: u16, address: &str, last: Option<u64>) -> Stream {
        use std::io::{BufRead, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let token = crate::agent::token("admin");
        let last = last.map_or(String::new(), |l| format!("Last-Event-ID: {l}\r\n"));
        // HTTP/1.0: no chunks to take apart.
        let cookie = token.reveal();
        write!(
            stream,
            "GET {address} HTTP/1.0\r\nHost: gw\r\nCookie: holdfast-session={cookie}\r\n{last}\r\n"
        )
        .unwrap();
        let mut lines = std::io::BufReader::new(stream).lines();
        assert!(lines.next().unwrap().unwrap().contains(" 200 "));
        while !lines.next().unwrap().unwrap().is_empty() {}
        Stream { lines }
    }

    /// The next event that says something: signs of life and settings are passed over.
    fn next(&mut self) -> Sent {
        loop {
            let block: Vec<_> = self
                .lines
                .by_ref()
                .map(|l| l.unwrap())
                .take_while(|l| !l.is_empty())
                .collect();
            assert!(!block.is_empty(), "the stream ended");
            let sent = parse(&block.join("\n"));
            if let Some(sent) = sent.into_iter().next() {
                return sent;
            }
        }
    }

    fn is_at_end(&mut self) -> bool {
        self.lines.by_ref().all(|l| l.unwrap().is_empty())
    }
}
