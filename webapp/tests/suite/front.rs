//! The front on real connections, with limits small enough to be met.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rocket::http::Status;
use webapp::{App, FrontLimits, Settings};

use crate::agent::{FakeAgent, Told, token};

const PATIENT: FrontLimits = FrontLimits {
    connections: 200,
    head_within: Duration::from_secs(600),
    rate: 10_000,
    patience: Duration::from_secs(600),
};

/// The real server behind its front, as long as the test runs.
fn behind_front(agent: &FakeAgent, limits: FrontLimits, test: impl FnOnce(u16)) {
    behind_front_with(agent.settings(), limits, test);
}

fn behind_front_with(settings: Settings, limits: FrontLimits, test: impl FnOnce(u16)) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell_handle, handle) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        rocket::execute(async {
            let rocket = webapp::behind_front(App { settings }, listener, limits).unwrap();
            let rocket = rocket.ignite().await.unwrap();
            tell_handle.send(rocket.shutdown()).unwrap();
            rocket.launch().await.map(drop).map_err(Box::new)
        })
    });
    let handle = handle.recv().unwrap();
    test(port);
    handle.notify();
    server.join().unwrap().unwrap();
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap()
}

/// All that is answered, up to the end of the connection; also of one that was broken off.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut part) {
        bytes.extend_from_slice(&part[..n]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn get(port: u16, address: &str) -> String {
    get_with(port, address, "")
}

fn get_with(port: u16, address: &str, lines: &str) -> String {
    let mut stream = connect(port);
    write!(
        stream,
        "GET {address} HTTP/1.1\r\nHost: gw\r\nCookie: holdfast-session={}\r\nSec-Fetch-Site: none\r\n{lines}\r\n",
        token("admin").reveal()
    )
    .unwrap();
    rest(stream)
}

/// The head of an upload by an admin, whose body has this length.
fn upload(port: u16, length: usize) -> TcpStream {
    let mut stream = connect(port);
    write!(
        stream,
        "POST /system/restore HTTP/1.1\r\nHost: gw\r\nCookie: holdfast-session={}\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {length}\r\n\r\n",
        token("admin").reveal()
    )
    .unwrap();
    stream
}

fn form(archive: &[u8]) -> Vec<u8> {
    let form_token = webapp::form_token(token("admin").reveal());
    let start = format!(
        "--b\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n{form_token}\r\n--b\r\nContent-Disposition: \
         form-data; name=\"archive\"; filename=\"a.zip\"\r\n\r\n"
    );
    [start.as_bytes(), archive, b"\r\n--b--\r\n"].concat()
}

#[test]
fn a_page_a_large_download_and_a_large_upload_pass_through_whole() {
    let agent = FakeAgent::start(Told {
        backup: (0..3_000_000u32).map(|i| (i % 251) as u8 & 0x7f).collect(),
        limit_mib: 64,
        ..Told::default()
    });
    behind_front(&agent, FrontLimits::default(), |port| {
        let page = get(port, "/");
        assert!(page.starts_with("HTTP/1.1 200") && page.trim_end().ends_with("</html>"));
        let download = get(port, "/system/backup");
        let (_, body) = download.split_once("\r\n\r\n").unwrap();
        assert!(body.as_bytes() == agent.told.lock().unwrap().backup);
        let archive = vec![b'z'; 3_000_000];
        let body = form(&archive);
        let mut stream = upload(port, body.len());
        stream.write_all(&body).unwrap();
        assert!(rest(stream).starts_with("HTTP/1.1 303"));
        let told = agent.told.lock().unwrap();
        assert!(told.uploads[0].1 && told.uploads[0].0 == archive);
    });
}

#[test]
fn a_connection_is_for_one_request_and_what_comes_after_it_is_not_read() {
    let agent = FakeAgent::start(Told::default());
    behind_front(&agent, PATIENT, |port| {
        let mut stream = connect(port);
        let one = "GET /sign-in HTTP/1.1\r\nHost: gw\r\n\r\n";
        write!(stream, "{one}{one}").unwrap();
        assert_eq!(rest(stream).matches("HTTP/1.1 200").count(), 1);
    });
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let agent = FakeAgent::start(Told::default());
    let limits = FrontLimits {
        head_within: Duration::from_millis(50),
        ..PATIENT
    };
    behind_front(&agent, limits, |port| {
        for begun in ["", "\r\n\r\n\r\n", "GET /sign-in HTTP/1.1\r\nHost: gw\r\n"] {
            let mut stream = connect(port);
            stream.write_all(begun.as_bytes()).unwrap();
            assert_eq!(rest(stream), "", "{begun:?}");
        }
    });
}

#[test]
fn connections_that_say_nothing_make_way_the_oldest_first() {
    let agent = FakeAgent::start(Told::default());
    let limits = FrontLimits {
        connections: 8,
        ..PATIENT
    };
    behind_front(&agent, limits, |port| {
        let idle: Vec<_> = (0..100).map(|_| connect(port)).collect();
        for _ in 0..20 {
            assert!(get(port, "/").starts_with("HTTP/1.1 200"));
        }
        for old in idle.into_iter().take(90) {
            assert_eq!(rest(old), "");
        }
    });
}

#[test]
fn small_bodies_that_do_not_come_make_way_and_an_upload_that_flows_does_not() {
    let agent = FakeAgent::start(Told {
        limit_mib: 64,
        ..Told::default()
    });
    let limits = FrontLimits {
        connections: 4,
        ..PATIENT
    };
    behind_front(&agent, limits, |port| {
        let body = form(&vec![b'z'; 400_000]);
        let mut flows = upload(port, body.len());
        flows.write_all(&body[..300_000]).unwrap();
        while agent.told.lock().unwrap().received < 200_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let forms: Vec<_> = (0..50)
            .map(|_| {
                let mut stream = connect(port);
                let head = "POST /sign-in HTTP/1.1\r\nHost: gw\r\nExpect: 100-continue\r\nContent-Type: \
                            application/x-www-form-urlencoded\r\nContent-Length: 30000\r\n\r\nuser=";
                stream.write_all(head.as_bytes()).unwrap();
                stream
            })
            .collect();
        assert!(get(port, "/").starts_with("HTTP/1.1 200"));
        flows.write_all(&body[300_000..]).unwrap();
        assert!(rest(flows).starts_with("HTTP/1.1 303"));
        drop(forms);
    });
}

#[test]
fn an_upload_that_trickles_is_cut_and_the_agent_keeps_nothing_of_it() {
    let agent = FakeAgent::start(Told {
        limit_mib: 64,
        ..Told::default()
    });
    let limits = FrontLimits {
        patience: Duration::from_millis(200),
        ..PATIENT
    };
    behind_front(&agent, limits, |port| {
        let body = form(&vec![b'z'; 200_000]);
        let mut stream = upload(port, body.len());
        // The agent is asked for a place.
        let mut sent = 1000;
        stream.write_all(&body[..sent]).unwrap();
        // A byte every few milliseconds: never silent for long.
        while sent < body.len() && stream.write_all(&body[sent..=sent]).is_ok() {
            sent += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(sent < body.len());
        while agent.told.lock().unwrap().uploads.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!agent.told.lock().unwrap().uploads[0].1);
    });
}

#[test]
fn heads_that_no_browser_sends_are_refused_here() {
    let agent = FakeAgent::start(Told::default());
    behind_front(&agent, PATIENT, |port| {
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40_000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(200));
        let chunked =
            "POST /sign-in HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let cases = [
            (long.as_str(), "431"),
            (many.as_str(), "431"),
            (chunked, "411"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
            ("\u{1}\r\n\r\n", "400"),
        ];
        for (head, status) in cases {
            let mut stream = connect(port);
            // It may be refused before all of it was sent.
            let _ = stream.write_all(head.as_bytes());
            let answer = rest(stream);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
    });
}

#[test]
fn events_pass_through_as_they_come_and_a_browser_that_goes_away_ends_its_stream() {
    let agent = FakeAgent::start(Told {
        published: 3,
        journal: crate::journals::Journal::new().restored().shown(),
        ..Told::default()
    });
    let limits = FrontLimits {
        patience: Duration::from_millis(50),
        ..PATIENT
    };
    behind_front(&agent, limits, |port| {
        let mut stream = connect(port);
        write!(
            stream,
            "GET /restores/{}/events HTTP/1.1\r\nHost: gw\r\nCookie: holdfast-session={}\r\n\r\n",
            crate::journals::ID,
            token("admin").reveal()
        )
        .unwrap();
        let mut seen = String::new();
        let mut until = |what: &str, stream: &mut TcpStream| {
            let mut part = [0; 4096];
            while !seen.contains(what) {
                let n = stream.read(&mut part).unwrap();
                assert!(n > 0, "{seen}");
                seen.push_str(&String::from_utf8_lossy(&part[..n]));
            }
        };
        until("id:2", &mut stream);
        // Longer than anything that is owed may take: nothing is owed.
        std::thread::sleep(Duration::from_millis(200));
        agent.told.lock().unwrap().published = 4;
        until("id:3", &mut stream);
        let mut to_agent = {
            let told = agent.told.lock().unwrap();
            told.streams.last().unwrap().try_clone().unwrap()
        };
        drop(stream);
        to_agent.set_nonblocking(true).unwrap();
        while to_agent.read(&mut [0; 64]).is_err() {
            // With the next event it is noticed that nobody takes it.
            let mut told = agent.told.lock().unwrap();
            told.published = (told.published + 1).min(told.journal.len() - 1);
            drop(told);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn no_answer_to_a_stranger_is_so_long_that_its_connection_need_not_make_way() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client();
    for address in [
        "/sign-in",
        "/nothing",
        "/assets/holdfast.css",
        "/assets/holdfast.js",
        "/assets/holdfast.svg",
    ] {
        let answer = client.get(address).dispatch();
        assert_ne!(answer.status(), Status::InternalServerError);
        assert!(answer.into_bytes().unwrap().len() < 32 << 10, "{address}");
    }
}

#[test]
fn the_agent_is_told_where_a_browser_is_and_only_a_proxy_that_is_trusted_may_say_otherwise() {
    let agent = FakeAgent::start(Told::default());
    let says = "X-Forwarded-For: 6.6.6.6, 10.0.0.7\r\nX-Real-IP: 6.6.6.6\r\n";
    let told = || agent.told.lock().unwrap().from.map(|at| at.to_string());
    behind_front(&agent, PATIENT, |port| {
        for lines in ["", says] {
            assert!(get_with(port, "/", lines).starts_with("HTTP/1.1 200"));
            assert_eq!(told().as_deref(), Some("127.0.0.1"), "{lines}");
        }
    });
    let settings = Settings {
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..agent.settings()
    };
    behind_front_with(settings, PATIENT, |port| {
        for (lines, at) in [(says, "10.0.0.7"), ("", "127.0.0.1")] {
            assert!(get_with(port, "/", lines).starts_with("HTTP/1.1 200"));
            assert_eq!(told().as_deref(), Some(at), "{lines}");
        }
    });
    // Past the front nobody knows.
    let answer = agent.client_of("admin");
    let header = rocket::http::Header::new("X-Forwarded-For", "6.6.6.6");
    assert_eq!(
        answer.get("/").header(header).dispatch().status(),
        Status::Ok
    );
    assert_eq!(told(), None);
}
