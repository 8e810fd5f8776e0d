//! WireGuard configs as `wg-quick` reads them: a strict parser, names of interfaces, and the few rewritings that a
//! restore needs.
//!
//! `wg-quick` is bash: it drops NUL bytes, ignores case, cuts comments anywhere and runs hooks as root, so a filter over
//! text can be got round. Here every line must be one that both `wg-quick` and this parser understand in the same way;
//! anything else refuses the config. Must not: keep, show or name a private or preshared key.

use std::fmt;
use std::net::IpAddr;

use crate::fault::{Problem, cannot};

/// What a config says, less its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `[Interface]`.
    pub interface: Interface,
    /// `[Peer]`, in order.
    pub peers: Vec<Peer>,
    /// What will not work, or not as meant; the file is kept all the same.
    pub warnings: Vec<String>,
}

/// The interface's side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its addresses.
    pub addresses: Vec<Prefix>,
    /// `ListenPort`.
    pub listen_port: Option<u16>,
    /// `DNS`: servers and search domains.
    pub dns: Vec<String>,
    /// `MTU`.
    pub mtu: Option<u32>,
    /// `Table`.
    pub table: Option<String>,
    /// `FwMark`.
    pub fwmark: Option<String>,
    /// `SaveConfig`: going down writes over the file.
    pub save_config: bool,
    /// Commands that run as root, as (key, command), wherever in the file they stand.
    pub hooks: Vec<(String, String)>,
}

/// One peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// `PublicKey`; empty if there is none.
    pub public_key: String,
    /// `AllowedIPs`.
    pub allowed_ips: Vec<Prefix>,
    /// `Endpoint`, as `host:port`.
    pub endpoint: Option<String>,
    /// The host of the endpoint is a name and not an address.
    pub endpoint_is_name: bool,
}

/// An address with the length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The address as written, host bits and all.
    pub address: IpAddr,
    /// Bits of the network.
    pub length: u8,
}

impl Prefix {
    /// Reads `address` or `address/length`.
    pub fn parse(text: &str) -> Option<Prefix> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(l) if l.bytes().all(|b| b.is_ascii_digit()) => {
                l.parse().ok().filter(|l| *l <= most)?
            }
            Some(_) => return None,
        };
        Some(Prefix { address, length })
    }

    /// The network, host bits cleared.
    pub fn network(&self) -> Prefix {
        let address = match self.address {
            IpAddr::V4(a) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.length))
                    .unwrap_or(0);
                IpAddr::V4((a.to_bits() & mask).into())
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.length))
                    .unwrap_or(0);
                IpAddr::V6((a.to_bits() & mask).into())
            }
        };
        Prefix {
            address,
            length: self.length,
        }
    }

    /// Every address there is (`0.0.0.0/0`, `::/0`).
    pub fn is_everything(&self) -> bool {
        self.length == 0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// One line, comment cut off, that means something.
enum Line<'a> {
    Interface,
    Peer,
    Setting { key: &'a str, value: &'a str },
}

const HOOKS: [&str; 4] = ["PreUp", "PostUp", "PreDown", "PostDown"];
const INTERFACE_KEYS: [&str; 8] = [
    "PrivateKey",
    "ListenPort",
    "FwMark",
    "Address",
    "DNS",
    "MTU",
    "Table",
    "SaveConfig",
];
const PEER_KEYS: [&str; 5] = [
    "PublicKey",
    "PresharedKey",
    "AllowedIPs",
    "Endpoint",
    "PersistentKeepalive",
];

/// Parses a config. `name` is what problems call it.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Config, Problem> {
    let refuse = |line: Option<usize>, why: &str| {
        let place = line.map(|n| format!(", line {n}")).unwrap_or_default();
        cannot(
            format!("accept the config {}{place}: {why}", name.escape_debug()),
            "mend that line by hand where the backup was made and make a new backup, or take another backup",
        )
    };
    let text = std::str::from_utf8(bytes).map_err(|_| refuse(None, "it is not UTF-8"))?;
    let mut config = Config::default();
    let (mut in_interface, mut in_peer, mut interfaces) = (false, false, 0u32);
    for (n, raw) in lines(text).enumerate() {
        let n = n + 1;
        let line = read_line(raw).map_err(|why| refuse(Some(n), why))?;
        match line {
            None => {}
            Some(Line::Interface) => {
                (in_interface, in_peer) = (true, false);
                interfaces += 1;
            }
            Some(Line::Peer) => {
                (in_interface, in_peer) = (false, true);
                config.peers.push(Peer::default());
            }
            Some(Line::Setting { key, value }) => {
                if !in_interface && !in_peer {
                    return Err(refuse(Some(n), "a setting stands before the first section"));
                }
                let known = setting(&mut config, in_peer, key, value)
                    .map_err(|why| refuse(Some(n), why))?;
                if !known {
                    config.warnings.push(unknown(n, key));
                }
            }
        }
    }
    if interfaces == 0 {
        return Err(refuse(None, "it has no [Interface]"));
    }
    if config.peers.is_empty() {
        return Err(refuse(None, "it has no [Peer]"));
    }
    if interfaces > 1 {
        config
            .warnings
            .push("it has more than one [Interface]".into());
    }
    if config.peers.iter().any(|p| p.public_key.is_empty()) {
        config
            .warnings
            .push("it has a peer without a usable PublicKey".into());
    }
    Ok(config)
}

/// A key in the wrong place must not be shown as if it were the name of a setting.
fn unknown(line: usize, key: &str) -> String {
    if key.len() <= 32 && key.bytes().all(|b| b.is_ascii_alphabetic()) {
        format!("line {line}: nothing knows the setting {key} here")
    } else {
        format!("line {line}: nothing knows this setting here")
    }
}

/// Lines without their ends. A last line needs none; `\r` counts as part of an end only right before `\n` or at the end.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l))
}

fn blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn read_line(raw: &str) -> Result<Option<Line<'_>>, &'static str> {
    if raw.starts_with('\u{feff}') {
        return Err("it begins with a byte order mark");
    }
    if raw.chars().any(|c| c.is_control() && c != '\t') {
        return Err("it holds a control character");
    }
    let meant = raw
        .split('#')
        .next()
        .unwrap_or_default()
        .trim_matches(blank);
    if meant.is_empty() {
        return Ok(None);
    }
    if meant.starts_with('[') {
        return if meant.eq_ignore_ascii_case("[Interface]") {
            Ok(Some(Line::Interface))
        } else if meant.eq_ignore_ascii_case("[Peer]") {
            Ok(Some(Line::Peer))
        } else {
            Err("it is neither [Interface] nor [Peer]")
        };
    }
    let (key, value) = meant
        .split_once('=')
        .ok_or("it is neither a section nor `Key = value`")?;
    let (key, value) = (key.trim_matches(blank), value.trim_matches(blank));
    if !key.starts_with(|c: char| c.is_ascii_alphabetic())
        || !key.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return Err("the name of a setting is not letters and digits");
    }
    Ok(Some(Line::Setting { key, value }))
}

/// Takes one setting into the model; false if nothing knows it in this section.
fn setting(
    config: &mut Config,
    in_peer: bool,
    key: &str,
    value: &str,
) -> Result<bool, &'static str> {
    if let Some(hook) = HOOKS.iter().find(|h| h.eq_ignore_ascii_case(key)) {
        // In [Peer] wg-quick passes it over; it is told of all the same, since one moved line makes it live.
        config
            .interface
            .hooks
            .push(((*hook).to_owned(), value.to_owned()));
        return Ok(!in_peer);
    }
    let table: &[&str] = if in_peer { &PEER_KEYS } else { &INTERFACE_KEYS };
    let Some(known) = table.iter().find(|k| k.eq_ignore_ascii_case(key)) else {
        return Ok(false);
    };
    let warnings = &mut config.warnings;
    match (*known, config.peers.last_mut()) {
        ("PublicKey", Some(peer)) => {
            peer.public_key = if is_key(value) {
                value.to_owned()
            } else {
                String::new()
            }
        }
        ("AllowedIPs", Some(peer)) => peer.allowed_ips.extend(prefixes(known, value, warnings)),
        ("Endpoint", Some(peer)) => {
            if value.contains(blank) {
                return Err("an endpoint holds a blank");
            }
            peer.endpoint_is_name = match endpoint_host(value) {
                Some(host) => host.parse::<IpAddr>().is_err(),
                None => {
                    warnings.push(format!("Endpoint {value} is not `host:port`"));
                    false
                }
            };
            peer.endpoint = Some(value.to_owned());
        }
        ("Address", _) => {
            no_patterns(value)?;
            config
                .interface
                .addresses
                .extend(prefixes(known, value, warnings));
        }
        ("DNS", _) => {
            no_patterns(value)?;
            config.interface.dns.extend(items(value).map(str::to_owned));
        }
        ("ListenPort", _) => config.interface.listen_port = number(known, plain(value)?, warnings),
        ("MTU", _) => config.interface.mtu = number(known, plain(value)?, warnings),
        ("Table", _) => config.interface.table = Some(plain(value)?.to_owned()),
        ("FwMark", _) => config.interface.fwmark = Some(plain(value)?.to_owned()),
        ("SaveConfig", _) => match plain(value)? {
            "true" => config.interface.save_config = true,
            "false" => config.interface.save_config = false,
            _ => return Err("SaveConfig is neither true nor false"),
        },
        ("PersistentKeepalive", _) => {
            plain(value)?;
        }
        // Keys are never looked at.
        _ => {}
    }
    Ok(true)
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(|c| c == ',' || blank(c))
        .filter(|s| !s.is_empty())
}

/// `wg-quick` expands these two values without quotes: a pattern would become file names of the gateway.
fn no_patterns(value: &str) -> Result<(), &'static str> {
    if value.contains(['*', '?', '[', ']', '\\']) {
        Err("an address holds a pattern character")
    } else {
        Ok(())
    }
}

fn plain(value: &str) -> Result<&str, &'static str> {
    let ok = value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if ok && !value.is_empty() && !value.starts_with('-') {
        Ok(value)
    } else {
        Err("its value is not a number or a word")
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str, warnings: &mut Vec<String>) -> Option<T> {
    let number = value.parse().ok();
    if number.is_none() {
        warnings.push(format!("{key} {value} is not a number that fits"));
    }
    number
}

fn prefixes(key: &str, value: &str, warnings: &mut Vec<String>) -> Vec<Prefix> {
    let mut found = Vec::new();
    for item in items(value) {
        match Prefix::parse(item) {
            Some(prefix) => found.push(prefix),
            None => warnings.push(format!("{key} {item} is not an address or a network")),
        }
    }
    found
}

/// 32 bytes in base64: 43 characters, the last of which carries four bits, and one `=`.
fn is_key(value: &str) -> bool {
    let bytes = value.as_bytes();
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || *b == b'+' || *b == b'/';
    bytes.len() == 44
        && bytes[43] == b'='
        && bytes[..43].iter().all(base64)
        && b"AEIMQUYcgkosw048".contains(&bytes[42])
}

/// The host in `host:port`, without the brackets of an IPv6 address.
fn endpoint_host(endpoint: &str) -> Option<&str> {
    let (host, port) = endpoint.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty()).then_some(host)
}

/// The stem of a config as the name of an interface, if `wg-quick` takes it for one.
pub fn interface_name(stem: &str) -> Result<&str, String> {
    let shown = stem.escape_debug();
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

/// The config without these settings, for going down from a copy: without `SaveConfig` hooks run and the live file stays.
pub fn without(bytes: &[u8], settings: &[&str]) -> Vec<u8> {
    let dropped = |key: &str| settings.iter().any(|s| key.eq_ignore_ascii_case(s));
    rewrite(bytes, |line| match read_line(line) {
        Ok(Some(Line::Setting { key, .. })) if dropped(key) => Rewritten::Dropped,
        _ => Rewritten::Kept,
    })
}

/// The config with the endpoint that `choose(public key, host:port)` gives each peer; none drops the line. For names
/// that do not resolve, over which `wg-quick up` would wait for more than a minute.
pub fn with_endpoints(
    bytes: &[u8],
    mut choose: impl FnMut(&str, &str) -> Option<String>,
) -> Vec<u8> {
    // The key of a peer may stand after its endpoint.
    let keys: Vec<String> = parse("config", bytes)
        .map(|c| c.peers.into_iter().map(|p| p.public_key).collect())
        .unwrap_or_default();
    let mut peer = 0usize;
    let mut in_peer = false;
    rewrite(bytes, |line| match read_line(line) {
        Ok(Some(Line::Peer)) => {
            (peer, in_peer) = (peer + 1, true);
            Rewritten::Kept
        }
        Ok(Some(Line::Interface)) => {
            in_peer = false;
            Rewritten::Kept
        }
        Ok(Some(Line::Setting { key, value }))
            if in_peer && key.eq_ignore_ascii_case("Endpoint") =>
        {
            let public_key = keys.get(peer.saturating_sub(1)).map_or("", String::as_str);
            match choose(public_key, value) {
                Some(endpoint) if endpoint == value => Rewritten::Kept,
                Some(endpoint) => Rewritten::New(format!("Endpoint = {endpoint}")),
                None => Rewritten::Dropped,
            }
        }
        _ => Rewritten::Kept,
    })
}

enum Rewritten {
    Kept,
    Dropped,
    New(String),
}

/// Line by line; lines that are kept stay byte for byte, ends included.
fn rewrite(bytes: &[u8], mut each: impl FnMut(&str) -> Rewritten) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        let end = &line[body.len()..];
        match std::str::from_utf8(body).map_or(Rewritten::Kept, &mut each) {
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

#[cfg(test)]
mod tests;
