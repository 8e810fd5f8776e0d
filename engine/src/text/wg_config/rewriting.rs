//! A config with some lines changed and every other byte as it was. Must not read what it does not change.

use super::{Line, Section, Sections, is, key_and_value, meant, read, without_blanks};

/// The config without these settings, for going down from a copy: without `SaveConfig` hooks run and the live file stays.
pub fn without(bytes: &[u8], settings: &[&str]) -> Vec<u8> {
    rewrite(bytes, |line| {
        let (key, _) = key_and_value(meant(line));
        match settings.iter().any(|s| is(key, s)) {
            true => Rewritten::Dropped,
            false => Rewritten::Kept,
        }
    })
}

/// The config with the endpoint that `choose(public key, host:port)` gives each peer; none drops the line. For names
/// that do not resolve, over which `wg-quick up` would wait for more than a minute.
pub fn with_endpoints(
    bytes: &[u8],
    mut choose: impl FnMut(&str, &str) -> Option<String>,
) -> Vec<u8> {
    // The key of a peer may stand after its endpoint.
    let keys: Vec<String> = read(bytes)
        .map(|c| c.peers.into_iter().map(|p| p.public_key).collect())
        .unwrap_or_default();
    let mut peer = 0usize;
    let mut sections = Sections::default();
    rewrite(bytes, |line| {
        let meant = meant(line);
        match sections.enter(meant) {
            Line::Peer => {
                peer += 1;
                Rewritten::Kept
            }
            Line::ForWg if sections.wg == Section::Peer => {
                let cleaned = without_blanks(meant);
                let (key, value) = key_and_value(&cleaned);
                let Some(endpoint) = std::str::from_utf8(value)
                    .ok()
                    .filter(|_| is(key, "Endpoint") && cleaned.contains(&b'='))
                else {
                    return Rewritten::Kept;
                };
                let public_key = keys.get(peer.saturating_sub(1)).map_or("", String::as_str);
                match choose(public_key, endpoint) {
                    Some(same) if same == endpoint => Rewritten::Kept,
                    Some(other) => Rewritten::New(format!("Endpoint = {other}")),
                    None => Rewritten::Dropped,
                }
            }
            Line::Nothing | Line::Interface | Line::ForQuick | Line::ForWg => Rewritten::Kept,
        }
    })
}

pub enum Rewritten {
    Kept,
    Dropped,
    New(String),
}

/// Line by line; lines that are kept stay byte for byte, ends included.
pub fn rewrite(bytes: &[u8], mut each: impl FnMut(&[u8]) -> Rewritten) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        let end = &line[body.len()..];
        match each(body) {
            Rewritten::Kept => out.extend_from_slice(line),
            Rewritten::Dropped => {}
            Rewritten::New(text) => {
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(end);
            }
        }
    }
    out
}
