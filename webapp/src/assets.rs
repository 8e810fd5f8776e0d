//! Templates, style and script. All of it is in the program: gateways have no internet.

use rocket::http::{ContentType, Header};
use rocket::response::Responder;

/// Every template, by the name that pages use.
pub const TEMPLATES: [(&str, &str); 10] = [
    ("layout.html", include_str!("../templates/layout.html.j2")),
    ("parts.html", include_str!("../templates/parts.html.j2")),
    ("live.html", include_str!("../templates/live.html.j2")),
    ("sign_in.html", include_str!("../templates/sign_in.html.j2")),
    ("home.html", include_str!("../templates/home.html.j2")),
    ("upload.html", include_str!("../templates/upload.html.j2")),
    ("confirm.html", include_str!("../templates/confirm.html.j2")),
    ("restore.html", include_str!("../templates/restore.html.j2")),
    ("message.html", include_str!("../templates/message.html.j2")),
    (
        "incomplete.html",
        include_str!("../templates/incomplete.html.j2"),
    ),
];

const STYLE: &str = include_str!("../assets/holdfast.css");
const SCRIPT: &str = include_str!("../assets/holdfast.js");
const ICON: &str = include_str!("../assets/holdfast.svg");

/// The part of an asset's address that changes with its content, so that a browser may keep it for good.
pub fn version() -> String {
    let mut hash = blake3::Hasher::new();
    for text in [STYLE, SCRIPT, ICON] {
        hash.update(text.as_bytes());
    }
    hash.finalize().to_hex()[..12].to_string()
}

/// An asset with how long it may be kept.
#[derive(Responder)]
pub struct Asset {
    text: &'static str,
    kind: ContentType,
    keep: Header<'static>,
}

fn asset(text: &'static str, kind: ContentType) -> Asset {
    Asset {
        text,
        kind,
        keep: Header::new("Cache-Control", "public, max-age=31536000, immutable"),
    }
}

#[rocket::get("/assets/holdfast.css")]
pub fn style() -> Asset {
    asset(STYLE, ContentType::CSS)
}

#[rocket::get("/assets/holdfast.js")]
pub fn script() -> Asset {
    asset(SCRIPT, ContentType::JavaScript)
}

#[rocket::get("/assets/holdfast.svg")]
pub fn icon() -> Asset {
    asset(ICON, ContentType::SVG)
}
