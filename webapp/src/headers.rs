//! The headers that every answer carries. Which answers may be kept is the answer's own matter; all others may not.

use rocket::fairing::{Fairing, Info, Kind};
use rocket::{Request, Response};

pub struct Headers;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[rocket::async_trait]
impl Fairing for Headers {
    fn info(&self) -> Info {
        Info {
            name: "headers",
            kind: Kind::Response,
        }
    }

    async fn on_response<'r>(&self, _: &'r Request<'_>, response: &mut Response<'r>) {
        response.set_raw_header("Content-Security-Policy", POLICY);
        response.set_raw_header("Referrer-Policy", "same-origin");
        response.set_raw_header("X-Frame-Options", "DENY");
        response.set_raw_header("Cross-Origin-Opener-Policy", "same-origin");
        response.set_raw_header("Cross-Origin-Resource-Policy", "same-origin");
        let kind = response.content_type();
        if kind.is_some_and(|t| t.top() == "text" && t.sub() == "event-stream") {
            // A proxy that collects events before it passes them on shows each one late.
            response.set_raw_header("X-Accel-Buffering", "no");
            response.set_raw_header("Cache-Control", "no-store");
        } else if !response.headers().contains("Cache-Control") {
            response.set_raw_header("Cache-Control", "no-store");
        }
    }
}
