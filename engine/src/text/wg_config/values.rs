//! What a value of a config may be: keys, addresses, hosts, names. Pure, and owns no setting.

use super::Prefix;
use crate::text::mark::Mark;
use crate::text::redact;
use crate::text::wording::Named;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Stands for a preshared key; none for one of zeros, by which `wg` takes it away.
pub fn preshared(key: &str) -> Option<Mark> {
    const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    (key != ZEROS).then(|| Mark::of(key)).flatten()
}

/// `x is not an address`; without the `x` where that may be a key.
pub(super) fn not(value: &str, what: &str) -> String {
    const MOST: usize = 60;
    if value.len() > MOST || redact::may_be_a_key(value) {
        format!("is not {what}")
    } else {
        format!("{value} is not {what}")
    }
}

/// As `ip address add` takes it: also with the mask in place of a length.
pub(super) fn address(item: &str) -> Option<Prefix> {
    let masked = |item: &str| {
        let (address, mask) = item.split_once('/')?;
        let mask = u32::from(mask.parse::<Ipv4Addr>().ok()?);
        let length = mask.leading_ones();
        (mask.count_ones() == length).then(|| Prefix::parse(&format!("{address}/{length}")))?
    };
    Prefix::parse(item).or_else(|| masked(item))
}

/// Letters, digits, dots, dashes and underscores, and no dash first: what a resolver may know.
pub(super) fn is_host_name(host: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || "._-".contains(c);
    host.len() <= 253 && !host.starts_with('-') && host.chars().all(letter)
}

pub(super) fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', ' ', '\t']).filter(|s| !s.is_empty())
}

/// `wg-quick` expands these two values without quotes: a pattern would become file names of the gateway.
pub(super) fn no_patterns(value: &str) -> Result<(), &'static str> {
    if value.contains(['*', '?', '[', ']', '\\']) {
        Err("an address holds a pattern character")
    } else {
        Ok(())
    }
}

pub(super) fn plain(value: &str) -> Result<&str, &'static str> {
    let ok = value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if ok && !value.is_empty() && !value.starts_with('-') {
        Ok(value)
    } else {
        Err("its value is not a number or a word")
    }
}

/// 32 bytes in base64: 43 characters, the last of which carries four bits, and one `=`.
pub fn is_key(value: &str) -> bool {
    let bytes = value.as_bytes();
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || *b == b'+' || *b == b'/';
    bytes.len() == 44
        && bytes[43] == b'='
        && bytes[..43].iter().all(base64)
        && b"AEIMQUYcgkosw048".contains(&bytes[42])
}

/// The host in `host:port`, without the brackets that an IPv6 address may have.
pub(super) fn endpoint_host(endpoint: &str) -> Option<&str> {
    let (host, port) = endpoint.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') && host.parse::<Ipv6Addr>().is_err() => return None,
        None => host,
    };
    (!host.is_empty()).then_some(host)
}

/// The stem of a config as the name of an interface, if `wg-quick` takes it for one.
pub fn interface_name(stem: &str) -> Result<&str, String> {
    let shown = Named(stem);
    if stem.is_empty() || stem.len() > 15 {
        return Err(format!(
            "{shown} cannot be the name of an interface: it has {} bytes, 1 to 15 are allowed",
            stem.len()
        ));
    }
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"_=+.-".contains(&b);
    if !stem.bytes().all(letter) || stem.starts_with('-') || stem == "." || stem == ".." {
        return Err(format!(
            "{shown} cannot be the name of an interface: only letters, digits and _=+.- are allowed, and no leading -"
        ));
    }
    Ok(stem)
}
