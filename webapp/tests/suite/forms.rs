//! Forms: who may send them, and what the agent is then asked. A forged one asks it for nothing.

use agent_protocol::{Ask, Refusal};
use journal_format::{Policy, RestoreId};
use rocket::http::{ContentType, Header, Status};
use rocket::local::blocking::Client;

use crate::agent::{FakeAgent, PASSWORD, Told, UPLOAD, token};
use crate::journals::ID;

fn form_token(of: &str) -> String {
    webapp::form_token(token(of).reveal())
}

fn confirm_body(form_token: &str) -> String {
    let (plan, request) = ("c".repeat(64), "d".repeat(32));
    format!("token={form_token}&upload={UPLOAD}&plan={plan}&request={request}")
}

fn post(
    client: &Client,
    address: &str,
    body: String,
    headers: &[(&'static str, &'static str)],
) -> (Status, Option<String>, String) {
    let mut request = client
        .post(address.to_string())
        .header(ContentType::Form)
        .body(body);
    for (name, value) in headers {
        request.add_header(Header::new(*name, *value));
    }
    let answer = request.dispatch();
    let location = answer.headers().get_one("Location").map(str::to_owned);
    (
        answer.status(),
        location,
        answer.into_string().unwrap_or_default(),
    )
}

/// The value of the hidden field in the sign-in form.
fn sign_in_token(client: &Client) -> String {
    let page = client.get("/sign-in").dispatch().into_string().unwrap();
    page.split_once("name=\"token\" value=\"").unwrap().1[..64].to_string()
}

#[test]
fn an_admin_signs_in_and_gets_a_cookie_that_scripts_and_other_sites_cannot_use() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client();
    let token = sign_in_token(&client);
    let body = format!(
        "token={token}&user=admin&password={}",
        PASSWORD.replace(' ', "+")
    );
    let answer = client
        .post("/sign-in")
        .header(ContentType::Form)
        .body(body)
        .dispatch();
    assert_eq!(
        (answer.status(), answer.headers().get_one("Location")),
        (Status::SeeOther, Some("/"))
    );
    let cookie = answer.cookies().get("holdfast-session").unwrap().clone();
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.same_site(), Some(rocket::http::SameSite::Strict));
    assert_eq!(cookie.path(), Some("/"));
    assert!(cookie.max_age().is_none(), "it ends with the browser");
    drop(answer);
    assert_eq!(client.get("/").dispatch().status(), Status::Ok);
}

#[test]
fn a_browser_in_which_an_admin_signed_in_is_known_the_next_time_and_says_it_nowhere_else() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client();
    let sign_in = || {
        let token = sign_in_token(&client);
        let body = format!(
            "token={token}&user=admin&password={}",
            PASSWORD.replace(' ', "+")
        );
        let request = client.post("/sign-in").header(ContentType::Form);
        let answer = request.body(body).dispatch();
        answer.cookies().get("holdfast-device").unwrap().clone()
    };
    let cookie = sign_in();
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.same_site(), Some(rocket::http::SameSite::Strict));
    assert_eq!(cookie.path(), Some("/sign-in"));
    assert!(cookie.max_age().unwrap().whole_days() >= 365);
    let out = format!("token={}", form_token("admin"));
    post(&client, "/sign-out", out, &[]);
    sign_in();
    let device = token("device");
    assert_eq!(agent.told.lock().unwrap().devices, [None, Some(device)]);
}

#[test]
fn who_must_change_the_password_reads_where_and_gets_no_session() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client();
    let body = format!(
        "token={}&user=fresh&password=admin123",
        sign_in_token(&client)
    );
    let (status, _, page) = post(&client, "/sign-in", body, &[]);
    assert_eq!(status, Status::Forbidden);
    assert!(page.contains("Sign in to the gateway once and choose another"));
    assert_eq!(
        client.get("/").dispatch().headers().get_one("Location"),
        Some("/sign-in")
    );
}

#[test]
fn behind_tls_the_cookie_is_for_tls_only() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client();
    let token = sign_in_token(&client);
    let body = format!(
        "token={token}&user=admin&password={}",
        PASSWORD.replace(' ', "+")
    );
    let request = client
        .post("/sign-in")
        .header(ContentType::Form)
        .header(Header::new("X-Forwarded-Proto", "https"));
    let answer = request.body(body).dispatch();
    assert_eq!(
        answer.cookies().get("holdfast-session").unwrap().secure(),
        Some(true)
    );
}

#[test]
fn a_wrong_password_is_said_without_telling_what_was_wrong_and_without_repeating_it() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client();
    let token = sign_in_token(&client);
    let body = format!("token={token}&user=admin%22%3E%3Cscript%3E&password=hunter2");
    let (status, _, page) = post(&client, "/sign-in", body, &[]);
    assert_eq!(status, Status::Unauthorized);
    assert!(page.contains("The user or the password is wrong, or the user is not active."));
    assert!(
        !page.contains("hunter2") && !page.contains("\"><script>"),
        "{page}"
    );
}

#[test]
fn a_user_who_is_no_admin_signs_in_to_a_403() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client();
    let token = sign_in_token(&client);
    let body = format!(
        "token={token}&user=viewer&password={}",
        PASSWORD.replace(' ', "+")
    );
    let (status, _, page) = post(&client, "/sign-in", body, &[]);
    assert_eq!(status, Status::Forbidden);
    assert!(page.contains("viewer is signed in, but is not an admin"));
}

#[test]
fn after_signing_in_one_comes_back_to_a_restore_and_to_no_other_address() {
    let agent = FakeAgent::start(Told::default());
    for (restore, leads_to) in [
        (ID, format!("/restores/{ID}")),
        ("//evil.example", "/".into()),
    ] {
        let client = agent.client();
        let token = sign_in_token(&client);
        let body = format!(
            "token={token}&user=admin&password={}&restore={restore}",
            PASSWORD.replace(' ', "+")
        );
        assert_eq!(post(&client, "/sign-in", body, &[]).1, Some(leads_to));
    }
}

#[test]
fn every_form_without_its_token_or_with_anothers_is_refused_and_the_agent_is_asked_for_nothing() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let bodies = |token: &str| {
        let with = |rest: &str| {
            if token.is_empty() {
                rest.into()
            } else {
                format!("token={token}&{rest}")
            }
        };
        let confirm = confirm_body("x").replace("token=x&", "");
        [
            ("/sign-in", with("user=admin&password=x")),
            ("/sign-out", with("a=b")),
            ("/system/restore/confirm", with(&confirm)),
            ("/system/restore/discard", with(&format!("upload={UPLOAD}"))),
        ]
    };
    let anothers = form_token("viewer");
    for token in ["", "0", &"0".repeat(64), &anothers, token("admin").reveal()] {
        for (address, body) in bodies(token) {
            let (status, _, page) = post(&client, address, body, &[]);
            assert_eq!(status, Status::Forbidden, "{address} with {token:?}");
            assert!(page.contains("This form is not accepted"), "{page}");
        }
    }
    assert!(agent.told.lock().unwrap().asked.is_empty());
}

#[test]
fn a_form_that_comes_from_another_site_is_refused_even_with_the_right_token() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let from: [&[(&str, &str)]; 5] = [
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Origin", "https://evil.example"), ("Host", "gw:8080")],
        &[("Origin", "null"), ("Host", "gw:8080")],
        &[
            ("Sec-Fetch-Site", "cross-site"),
            ("Origin", "http://gw:8080"),
            ("Host", "gw:8080"),
        ],
    ];
    for headers in from {
        let (status, ..) = post(
            &client,
            "/system/restore/confirm",
            confirm_body(&form_token("admin")),
            headers,
        );
        assert_eq!(status, Status::Forbidden, "{headers:?}");
    }
    assert!(agent.told.lock().unwrap().asked.is_empty());
}

#[test]
fn a_confirmation_starts_the_restore_that_was_approved_and_leads_to_its_page() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let right: [&[(&str, &str)]; 3] = [
        &[],
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Origin", "http://gw:8080"), ("Host", "gw:8080")],
    ];
    for headers in right {
        let (status, location, _) = post(
            &client,
            "/system/restore/confirm",
            confirm_body(&form_token("admin")),
            headers,
        );
        assert_eq!(
            (status, location),
            (Status::SeeOther, Some(format!("/restores/{ID}"))),
            "{headers:?}"
        );
    }
    let body = confirm_body(&form_token("admin"))
        + "&keep_going_without_firewall=yes&keep_going_without_services=yes&keep_open_folders=yes";
    post(&client, "/system/restore/confirm", body, &[]);
    let asked = std::mem::take(&mut agent.told.lock().unwrap().asked);
    let choices: Vec<_> = asked
        .iter()
        .map(|ask| match ask {
            Ask::Start {
                upload,
                plan,
                keep_going_without_firewall,
                keep_going_without_services,
                keep_open_folders,
                ..
            } => {
                assert_eq!(
                    (upload.as_str(), plan.to_string().as_str()),
                    (UPLOAD, "c".repeat(64).as_str())
                );
                assert_eq!(keep_going_without_firewall, keep_open_folders);
                assert_eq!(keep_going_without_services, keep_open_folders);
                *keep_going_without_firewall
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(choices, [false, false, false, true]);
}

#[test]
fn the_parts_and_tunnels_that_were_ticked_are_accepted_and_no_other() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let body = confirm_body(&form_token("admin"));
    let ticked =
        "&without_safety_backup_of=configs.db&without_safety_backup_of=rules-v4&leave_down=wg0";
    post(&client, "/system/restore/confirm", body.clone(), &[]);
    post(&client, "/system/restore/confirm", body + ticked, &[]);
    let asked = std::mem::take(&mut agent.told.lock().unwrap().asked);
    let accepted: Vec<(Vec<String>, Vec<String>)> = asked
        .into_iter()
        .map(|ask| match ask {
            Ask::Start {
                without_safety_backup_of,
                leave_down,
                ..
            } => (without_safety_backup_of, leave_down),
            other => panic!("{other:?}"),
        })
        .collect();
    let parts = ["configs.db", "rules-v4"].map(str::to_owned);
    assert_eq!(
        accepted,
        [(vec![], vec![]), (parts.to_vec(), vec!["wg0".to_owned()])]
    );
}

#[test]
fn after_a_restore_that_lacked_a_part_the_same_upload_leads_to_the_confirmation_again() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let again = format!("/restores/{ID}/again");
    let ours = Header::new("Sec-Fetch-Site", "same-origin");
    let answer = client.get(again.clone()).header(ours).dispatch();
    let confirmation = format!("/system/restore?upload={UPLOAD}");
    assert_eq!(
        (answer.status(), answer.headers().get_one("Location")),
        (Status::SeeOther, Some(confirmation.as_str()))
    );
    let id = RestoreId::new(ID).unwrap();
    assert_eq!(agent.told.lock().unwrap().asked, [Ask::Again { id }]);
    let viewer = agent.client_of("viewer");
    assert_eq!(viewer.get(again).dispatch().status(), Status::Forbidden);
}

#[test]
fn a_confirmation_that_was_used_leads_to_the_restore_that_it_started() {
    let agent = FakeAgent::start(Told::default());
    agent.told.lock().unwrap().refuse = Some(Refusal::Used {
        restore: RestoreId::new(ID).unwrap(),
    });
    let (status, _, page) = post(
        &agent.client_of("admin"),
        "/system/restore/confirm",
        confirm_body(&form_token("admin")),
        &[],
    );
    assert_eq!(status, Status::Conflict);
    assert!(
        page.contains(&format!("href=\"&#x2f;restores&#x2f;{ID}\"")),
        "{page}"
    );
}

#[test]
fn ids_that_are_none_never_reach_the_agent() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let body = confirm_body(&form_token("admin")).replace(UPLOAD, "../../etc/shadow");
    assert_eq!(
        post(&client, "/system/restore/confirm", body, &[]).0,
        Status::BadRequest
    );
    assert_eq!(
        client
            .get("/system/restore?upload=../../etc/shadow")
            .dispatch()
            .status(),
        Status::NotFound
    );
    assert!(agent.told.lock().unwrap().asked.is_empty());
}

#[test]
fn signing_out_ends_the_session_at_the_agent_and_in_the_browser() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let body = format!("token={}", form_token("admin"));
    let answer = client
        .post("/sign-out")
        .header(ContentType::Form)
        .body(body)
        .dispatch();
    assert_eq!(answer.headers().get_one("Location"), Some("/sign-in"));
    assert_eq!(
        answer.cookies().get("holdfast-session").unwrap().value(),
        ""
    );
}

#[test]
fn the_button_of_an_interrupted_restore_recovers_it_in_the_direction_that_was_chosen() {
    let agent = FakeAgent::start(Told::default());
    let client = agent.client_of("admin");
    let address = format!("/restores/{ID}/recover");
    let token = webapp::form_token(token("admin").reveal());
    let press = |body: String| {
        let form = client.post(&address).header(ContentType::Form).body(body);
        let answer = form.dispatch();
        (
            answer.status(),
            answer.headers().get_one("Location").map(str::to_owned),
        )
    };
    let there = Some(format!("/restores/{ID}"));
    for policy in ["", "&policy=auto", "&policy=roll-back", "&policy=resume"] {
        let pressed = press(format!("token={token}{policy}"));
        assert_eq!(pressed, (Status::SeeOther, there.clone()), "{policy}");
    }
    assert_eq!(
        press(format!("token={token}&policy=left")).0,
        Status::BadRequest
    );
    assert_eq!(press("token=&policy=auto".into()).0, Status::Forbidden);
    let id = || RestoreId::new(ID).unwrap();
    let chosen = [None, None, Some(Policy::RollBack), Some(Policy::Resume)];
    let asked = chosen.map(|policy| Ask::Recover { id: id(), policy });
    assert_eq!(agent.told.lock().unwrap().asked, asked);
}
