//! Downloads and uploads: whole, broken off, over the limit, and asked for by somebody else.

use agent_protocol::{Ask, Backups};
use rocket::http::{ContentType, Header, Status};
use rocket::local::blocking::{Client, LocalResponse};

use crate::agent::{FakeAgent, Told, UPLOAD, backup, lacks, token};

const BOUNDARY: &str = "----boundary";

fn part(name: &str, file: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let file = file.map_or(String::new(), |f| {
        format!("; filename=\"{f}\"\r\nContent-Type: application/zip")
    });
    let head =
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

fn end() -> Vec<u8> {
    format!("--{BOUNDARY}--\r\n").into_bytes()
}

fn form_token() -> Vec<u8> {
    webapp::form_token(token("admin").reveal()).into_bytes()
}

fn upload<'c>(client: &'c Client, body: Vec<u8>) -> LocalResponse<'c> {
    let kind = ContentType::new("multipart", "form-data").with_params(("boundary", BOUNDARY));
    client
        .post("/system/restore")
        .header(kind)
        .body(body)
        .dispatch()
}

#[test]
fn an_upload_goes_to_the_agent_byte_for_byte_and_leads_to_its_confirmation() {
    let agent = FakeAgent::start(Told {
        limit_mib: 4,
        ..Told::default()
    });
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let body = [
        part("token", None, &form_token()),
        part("archive", Some("C:\\x\\../../nightly.zip"), &bytes),
        end(),
    ]
    .concat();
    let client = agent.client_of("admin");
    let answer = upload(&client, body);
    let confirmation = format!("/system/restore?upload={UPLOAD}");
    assert_eq!(
        (answer.status(), answer.headers().get_one("Location")),
        (Status::SeeOther, Some(confirmation.as_str()))
    );
    let told = agent.told.lock().unwrap();
    assert!(told.uploads == [(bytes, true)]);
    assert_eq!(
        told.asked,
        [Ask::Upload {
            name: "nightly.zip".into()
        }]
    );
}

#[test]
fn an_upload_without_its_token_is_refused_before_a_byte_of_it_reaches_the_agent() {
    let agent = FakeAgent::start(Told {
        limit_mib: 4,
        ..Told::default()
    });
    let client = agent.client_of("admin");
    let file = || part("archive", Some("a.zip"), b"zip");
    for body in [
        [file(), end()].concat(),
        [file(), part("token", None, &form_token()), end()].concat(),
        [part("token", None, &[b'0'; 64]), file(), end()].concat(),
        [part("token", None, b""), end()].concat(),
    ] {
        assert_eq!(upload(&client, body).status(), Status::Forbidden);
    }
    assert!(agent.told.lock().unwrap().asked.is_empty());
}

#[test]
fn an_upload_that_breaks_off_is_said_to_be_so_to_both_sides() {
    let agent = FakeAgent::start(Told {
        limit_mib: 4,
        ..Told::default()
    });
    let whole = [
        part("token", None, &form_token()),
        part("archive", Some("a.zip"), &[7; 200_000]),
        end(),
    ]
    .concat();
    let client = agent.client_of("admin");
    let answer = upload(&client, whole[..whole.len() - 60_000].to_vec());
    assert_eq!(answer.status(), Status::BadRequest);
    assert!(
        answer
            .into_string()
            .unwrap()
            .contains("The upload broke off")
    );
    let told = wait_for_upload(&agent);
    assert_eq!(told.len(), 1);
    assert!(!told[0].1, "the agent must not take it for whole");
}

/// The agent hears of it on a thread of its own.
fn wait_for_upload(agent: &FakeAgent) -> Vec<(Vec<u8>, bool)> {
    loop {
        let told = agent.told.lock().unwrap().uploads.clone();
        if !told.is_empty() {
            return told;
        }
        std::thread::yield_now();
    }
}

#[test]
fn an_upload_over_the_limit_gets_a_page_that_names_the_limit() {
    let agent = FakeAgent::start(Told {
        limit_mib: 1,
        ..Told::default()
    });
    let client = agent.client_of("admin");
    let body = [
        part("token", None, &form_token()),
        part("archive", Some("a.zip"), &vec![7; (1 << 20) + 1]),
        end(),
    ]
    .concat();
    let answer = upload(&client, body);
    assert_eq!(answer.status(), Status::PayloadTooLarge);
    assert!(
        answer
            .into_string()
            .unwrap()
            .contains("The limit is 1 MiB.")
    );
    assert!(
        !wait_for_upload(&agent)[0].1,
        "the agent must not take it for whole"
    );
    let body = [
        part("token", None, &form_token()),
        part("archive", Some("a.zip"), &vec![7; 1 << 20]),
        end(),
    ]
    .concat();
    assert_eq!(
        upload(&client, body).status(),
        Status::SeeOther,
        "the limit itself is allowed"
    );
}

#[test]
fn a_browser_that_sends_all_of_a_too_large_upload_still_reads_the_answer() {
    use std::io::{Read, Write};
    let agent = FakeAgent::start(Told {
        limit_mib: 1,
        ..Told::default()
    });
    let body = [
        part("token", None, &form_token()),
        part("archive", Some("a.zip"), &vec![7; 9 << 20]),
        end(),
    ]
    .concat();
    crate::events::with_server(&agent, |port| {
        let mut browser = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (length, session) = (body.len(), token("admin"));
        write!(
            browser,
            "POST /system/restore HTTP/1.1\r\nHost: gw\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Cookie: holdfast-session={}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n",
            session.reveal()
        )
        .unwrap();
        // As browsers do: first all of it, then the answer.
        browser.write_all(&body).unwrap();
        let mut answer = String::new();
        browser.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("The limit is 1 MiB."), "{answer}");
    });
}

#[test]
fn a_form_over_its_limit_gets_a_page_too() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let body = format!("user=admin&password={}", "x".repeat(1 << 20));
    let answer = client
        .post("/sign-in")
        .header(ContentType::Form)
        .body(body)
        .dispatch();
    assert_eq!(answer.status(), Status::PayloadTooLarge);
    assert!(answer.into_string().unwrap().contains("over the limit"));
}

#[test]
fn a_form_without_a_file_asks_for_one() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    for archive in [part("archive", Some(""), b""), vec![]] {
        let answer = upload(
            &client,
            [part("token", None, &form_token()), archive, end()].concat(),
        );
        assert_eq!(answer.status(), Status::BadRequest);
        assert!(
            answer
                .into_string()
                .unwrap()
                .contains("No file was chosen.")
        );
    }
}

fn download<'c>(client: &'c Client, site: Option<&'static str>) -> LocalResponse<'c> {
    let mut request = client.get("/system/backup");
    if let Some(site) = site {
        request.add_header(Header::new("Sec-Fetch-Site", site));
    }
    request.dispatch()
}

#[test]
fn a_download_is_the_agents_bytes_under_the_backups_name_and_is_not_kept() {
    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i * 11 % 253) as u8).collect();
    let agent = FakeAgent::start(Told {
        backup: bytes.clone(),
        ..Told::default()
    });
    let client = agent.client_of("admin");
    for site in ["same-origin", "none"] {
        let answer = download(&client, Some(site));
        assert_eq!(answer.status(), Status::Ok);
        let header = |name| {
            answer
                .headers()
                .get_one(name)
                .unwrap_or_default()
                .to_string()
        };
        assert_eq!(header("Content-Length"), "200000");
        assert_eq!(header("Content-Type"), "application/zip");
        assert_eq!(header("Cache-Control"), "no-store");
        assert_eq!(
            header("Content-Disposition"),
            "attachment; filename=\"wireguard_backup_20261122_180000.zip\""
        );
        assert!(answer.into_bytes().unwrap() == bytes);
    }
}

#[test]
fn a_download_that_another_site_causes_makes_no_backup() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    for site in [Some("cross-site"), Some("same-site"), Some(""), None] {
        let answer = download(&client, site);
        assert_eq!(answer.status(), Status::Forbidden, "{site:?}");
        assert!(answer.into_string().unwrap().contains("No backup was made"));
    }
    assert!(agent.told.lock().unwrap().asked.is_empty());
}

#[test]
fn a_download_that_breaks_off_is_an_error_and_never_a_shorter_file() {
    let agent = FakeAgent::start(Told {
        backup: vec![7; 200_000],
        break_off_at: Some(70_000),
        ..Told::default()
    });
    let client = agent.client_of("admin");
    let answer = download(&client, Some("same-origin"));
    assert_eq!(answer.headers().get_one("Content-Length"), Some("200000"));
    assert!(
        answer.into_bytes().is_none(),
        "the body must end with an error"
    );
}

#[test]
fn an_incomplete_backup_is_no_download_and_says_what_it_lacks_and_where_its_bytes_are() {
    let agent = FakeAgent::start(Told {
        backup: b"a zip".to_vec(),
        lacks: lacks(),
        ..Told::default()
    });
    let client = agent.client_of("admin");
    let answer = download(&client, Some("same-origin"));
    // What a script saves with `curl --fail` is no backup, and it knows.
    assert_eq!(answer.status(), Status::Conflict);
    assert!(answer.headers().get_one("Content-Disposition").is_none());
    let page = answer.into_string().unwrap();
    assert!(page.contains("lacks the database configs.db: database is locked"));
    let address = format!("/system/backup/{}", "e".repeat(64));
    assert!(page.contains(&format!("href=\"{address}\">Download all the same")));
    // The button is a link: it needs no script.
    let all_the_same = |site| {
        let request = client.get(address.clone());
        request
            .header(Header::new("Sec-Fetch-Site", site))
            .dispatch()
    };
    let answer = all_the_same("same-origin");
    assert_eq!(answer.status(), Status::Ok);
    assert_eq!(answer.into_bytes().unwrap(), b"a zip");
    assert_eq!(all_the_same("cross-site").status(), Status::Forbidden);
    let told = agent.told.lock().unwrap();
    let sha256 = backup(5).sha256;
    assert_eq!(told.asked, [Ask::MakeBackup, Ask::GiveBackup { sha256 }]);
}

#[test]
fn a_backup_is_asked_for_by_its_digest_and_by_nothing_else() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    for name in ["..", "wireguard_backup_1.zip", "..%2fmade", &"E".repeat(64)] {
        let request = client.get(format!("/system/backup/{name}"));
        let answer = request
            .header(Header::new("Sec-Fetch-Site", "none"))
            .dispatch();
        assert_eq!(answer.status(), Status::NotFound, "{name}");
    }
    assert!(agent.told.lock().unwrap().asked.is_empty());
}

#[test]
fn the_status_is_json_of_what_runs() {
    let running = agent_protocol::Running::Backup {
        began_ms: 5,
        step: "configs.db".into(),
        done: 1,
        total: 4,
    };
    let agent = FakeAgent::start(Told {
        running: Some(running),
        backups: Backups {
            last_backup: Some(backup(5)),
            incomplete_backup: Some(agent_protocol::BackupLine {
                lacks: lacks(),
                in_future: true,
                ..backup(4)
            }),
            unknown_backups: false,
            schedule: None,
        },
        ..Told::default()
    });
    let json = agent
        .client_of("admin")
        .get("/system/backup-status")
        .dispatch()
        .into_string()
        .unwrap();
    insta::assert_snapshot!("status", json);
}
