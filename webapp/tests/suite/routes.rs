//! Every route there is, asked for from another site with all that the admin's own browser has: whatever makes, changes or
//! ends something is not asked of the agent.

use agent_protocol::Ask;
use rocket::http::{ContentType, Header, Method, Status};
use rocket::local::blocking::{Client, LocalRequest};

use crate::agent::{FakeAgent, PASSWORD, Told, UPLOAD, token};
use crate::journals::ID;

/// Method, name and address of each, with something in the place of each parameter; HEAD where there is GET.
fn all(client: &Client) -> Vec<(Method, String, String)> {
    let mut all = Vec::new();
    for route in client.rocket().routes() {
        let name = route.name.as_deref().unwrap_or_default().to_owned();
        let path = route.uri.path().to_string();
        let address = path
            .replace("<id>", ID)
            .replace("<sha256>", &"e".repeat(64));
        assert!(!address.contains('<'), "what stands for {address}?");
        if route.method == Method::Get {
            all.push((Method::Head, name.clone(), address.clone()));
        }
        all.push((route.method, name, address));
    }
    all
}

/// With the fields of every form, and the tokens of both kinds.
fn request<'c>(
    client: &'c Client,
    (method, name, address): &(Method, String, String),
    headers: &[(&'static str, &'static str)],
) -> LocalRequest<'c> {
    let sign_in = client
        .cookies()
        .get("holdfast-sign-in")
        .map(|c| c.value().to_owned());
    let token = match (address.as_str(), sign_in) {
        ("/sign-in", Some(secret)) => webapp::form_token(&secret),
        _ => webapp::form_token(token("admin").reveal()),
    };
    let (plan, wish) = ("c".repeat(64), "d".repeat(32));
    let password = PASSWORD.replace(' ', "+");
    let mut request = client.req(*method, address.clone());
    if name == "upload" {
        let kind = ContentType::new("multipart", "form-data").with_params(("boundary", "b"));
        let head = "--b\r\nContent-Disposition: form-data; name=";
        let body = format!(
            "{head}\"token\"\r\n\r\n{token}\r\n{head}\"archive\"; filename=\"a.zip\"\r\n\r\nx\r\n--b--\r\n"
        );
        request = request.header(kind).body(body);
    } else if *method == Method::Post {
        let body = format!(
            "token={token}&upload={UPLOAD}&plan={plan}&request={wish}&user=admin&password={password}"
        );
        request = request.header(ContentType::Form).body(body);
    }
    for (name, value) in headers {
        request.add_header(Header::new(*name, *value));
    }
    request
}

/// Whether the agent does nothing for it but look.
fn only_looks(ask: &Ask) -> bool {
    match ask {
        Ask::Overview
        | Ask::Status
        | Ask::Preview { .. }
        | Ask::Restore { .. }
        | Ask::Events { .. } => true,
        Ask::MakeBackup
        | Ask::GiveBackup { .. }
        | Ask::Upload { .. }
        | Ask::Again { .. }
        | Ask::Discard { .. }
        | Ask::Start { .. }
        | Ask::Recover { .. } => false,
    }
}

/// The routes that had the agent do more than look, for a request with these headers.
fn doing(headers: &[(&'static str, &'static str)]) -> Vec<String> {
    let told = || Told {
        limit_mib: 4,
        ..Told::default()
    };
    let routes = all(&FakeAgent::start(told()).client());
    let mut doing = Vec::new();
    for route in &routes {
        let agent = FakeAgent::start(told());
        let client = agent.client_of("admin");
        client.get("/sign-in").dispatch();
        let before = agent.told.lock().unwrap().sessions;
        let answer = request(&client, route, headers).dispatch();
        let status = answer.status();
        drop(answer);
        let told = agent.told.lock().unwrap();
        let (method, name, address) = route;
        if !told.asked.iter().all(only_looks) || told.sessions != before {
            doing.push(format!("{method} {address} ({name})"));
        } else if *method == Method::Post {
            assert_eq!(status, Status::Forbidden, "{method} {address}");
        }
    }
    doing
}

#[test]
fn no_route_has_the_agent_do_anything_for_another_site_and_each_does_for_its_own_page() {
    let elsewhere: [&[(&str, &str)]; 4] = [
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "")],
        &[("Origin", "https://evil.example"), ("Host", "gw:8080")],
    ];
    for headers in elsewhere {
        assert_eq!(doing(headers), Vec::<String>::new(), "{headers:?}");
    }
    let mut ours = doing(&[("Sec-Fetch-Site", "same-origin")]);
    // Rocket gives its routes in no order.
    ours.sort();
    insta::assert_snapshot!(ours.join("\n"));
}
