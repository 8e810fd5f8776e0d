//! Under which names this page may be asked for: an IP address, `localhost`, and the names of `[web]` in the profile. A
//! page of another site whose name was made to lead here is refused, on every route (DNS rebinding).

use std::net::{Ipv4Addr, Ipv6Addr};

use rocket::data::Data;
use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Method;
use rocket::{Request, get, uri};

use crate::page::Page;

/// The names besides addresses and `localhost`.
pub struct Hosts(pub Vec<String>);

impl Hosts {
    /// Whether a `Host` header names this page.
    fn know(&self, header: &str) -> bool {
        let name = match header.strip_prefix('[') {
            Some(rest) => {
                let Some((address, port)) = rest.split_once(']') else {
                    return false;
                };
                let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
                return port && address.parse::<Ipv6Addr>().is_ok();
            }
            None => match header.split_once(':') {
                Some((name, port)) if is_port(port) => name,
                Some(_) => return false,
                None => header,
            },
        };
        name.parse::<Ipv4Addr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.0.iter().any(|known| name.eq_ignore_ascii_case(known))
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[rocket::async_trait]
impl Fairing for Hosts {
    fn info(&self) -> Info {
        Info {
            name: "hosts",
            kind: Kind::Request,
        }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        // No browser leaves the header out.
        if !request.headers().get("Host").all(|host| self.know(host)) {
            request.set_method(Method::Get);
            // A fairing cannot answer by itself.
            request.set_uri(uri!("/wrong-host"));
        }
    }
}

#[get("/wrong-host")]
pub fn refused() -> Page {
    Page::wrong_host()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_listed_names_are_known_and_nothing_else_is() {
        let hosts = Hosts(vec!["gw.example.org".into()]);
        for known in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
            "localhost",
            "LocalHost:80",
            "gw.example.org",
            "GW.example.org:443",
        ] {
            assert!(hosts.know(known), "{known}");
        }
        for foreign in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "gw.example.org.evil.example",
            "[::1",
            "[::1]evil.example",
            "[localhost]",
            "::1",
            "localhost:",
            "localhost:80@evil.example",
        ] {
            assert!(!hosts.know(foreign), "{foreign}");
        }
    }
}
