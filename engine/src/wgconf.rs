//! WireGuard configs as `wg-quick` reads them: a strict parser, names of interfaces, and the few rewritings that a
//! restore needs.
//!
//! `wg-quick` is bash: it drops NUL bytes, ignores case, cuts comments anywhere and runs hooks as root, so a filter over
//! text can be got round. Here every line must be one that both `wg-quick` and this parser understand in the same way;
//! anything else refuses the config. Must not: keep, show or name a private or preshared key; two private keys are told
//! apart by their marks.

mod prefix;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use prefix::{Prefix, merged};

use crate::fault::{Problem, cannot};
use crate::mark::Mark;
use crate::redact;

/// What a config says, less its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `[Interface]`.
    pub interface: Interface,
    /// `[Peer]`, in order.
    pub peers: Vec<Peer>,
    /// What will not work, or not as meant; the file is kept all the same.
    pub warnings: Vec<String>,
    /// With which `wg-quick` cannot bring it up, or takes so long that an outage would last: the file is kept, but a
    /// restore that would bring the tunnel up must not begin.
    pub unfit: Vec<String>,
}

/// The interface's side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its addresses.
    pub addresses: Vec<Prefix>,
    /// Stands for `PrivateKey`, if that is a key.
    pub key: Option<Mark>,
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
    /// Stands for `PresharedKey`; none for a key of zeros, which is none.
    pub preshared_key: Option<Mark>,
    /// `PersistentKeepalive`, if it is on.
    pub keepalive: Option<u16>,
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
    let mut reading = Reading::default();
    for (n, raw) in lines(text).enumerate() {
        let n = n + 1;
        reading.line(n, raw);
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
                let known = setting(&mut config, in_peer, key, value, n)
                    .map_err(|why| refuse(Some(n), why))?;
                if !known {
                    config.unfit.push(unknown(n, key));
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
            .unfit
            .push("it has a peer without a usable PublicKey".into());
    }
    bounds(&mut config, &reading);
    Ok(config)
}

/// What reading a config costs `wg-quick`: its patterns take time by the square of a line's length, and by the cube of a run
/// of blanks in it.
#[derive(Default)]
struct Reading {
    ns: u64,
    /// The line that costs most: its cost, number, characters, and its longest run of blanks.
    worst: (u64, usize, usize, usize),
}

impl Reading {
    fn line(&mut self, number: usize, raw: &str) {
        /// As measured with bash 5.2 on a slow core, nanoseconds.
        const SQUARE: u64 = 32;
        const CUBE: u64 = 4;
        // What stands behind `#` is cut off first.
        let meant = raw.split('#').next().unwrap_or_default();
        let run = meant
            .split(|c: char| !c.is_whitespace())
            .map(str::len)
            .max()
            .unwrap_or_default();
        let power =
            |n: usize, times: u32| u64::try_from(n).unwrap_or(u64::MAX).saturating_pow(times);
        let ns = power(meant.len(), 2)
            .saturating_mul(SQUARE)
            .saturating_add(power(run, 3).saturating_mul(CUBE));
        self.ns = self.ns.saturating_add(ns);
        self.worst = self.worst.max((ns, number, meant.len(), run));
    }
}

/// The longest that `wg-quick` may take to read a config, nanoseconds.
const READING: u64 = 3_000_000_000;
/// Networks behind the peers of one tunnel: each is a route, of 4 to 15 ms.
const NETWORKS: usize = 4000;
/// Peers of one tunnel; and addresses, hooks.
pub const PEERS: usize = 4000;
const ADDRESSES: usize = 250;
const HOOKS_MOST: usize = 250;

/// `wg-quick` has a minute for a tunnel, and the gateway is down meanwhile.
fn bounds(config: &mut Config, reading: &Reading) {
    if reading.ns > READING {
        let (_, line, length, run) = reading.worst;
        config.unfit.push(format!(
            "wg-quick would take about {} s to read it, and {} s are allowed: line {line} has {length} characters, {run} \
             blanks of them in a row",
            reading.ns / 1_000_000_000,
            READING / 1_000_000_000
        ));
    }
    let networks = config.peers.iter().map(|p| p.allowed_ips.len()).sum();
    for (count, most, of) in [
        (config.peers.len(), PEERS, "peers"),
        (networks, NETWORKS, "networks in AllowedIPs"),
        (config.interface.addresses.len(), ADDRESSES, "addresses"),
        (config.interface.hooks.len(), HOOKS_MOST, "hooks"),
    ] {
        if count > most {
            config.unfit.push(format!(
                "it has {count} {of}, and {most} are allowed: the gateway is down while wg-quick goes through them"
            ));
        }
    }
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
    line: usize,
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
    let Config {
        interface,
        peers,
        warnings,
        unfit,
    } = config;
    // A value that is none is not shown: it may be a key that stands in the wrong place.
    let none = |value: &str, what: &str| format!("line {line}: {known} {}", not(value, what));
    match (*known, peers.last_mut()) {
        ("PrivateKey", _) => {
            interface.key = is_key(value).then(|| Mark::of(value)).flatten();
            if !is_key(value) {
                unfit.push(format!("line {line}: PrivateKey is no key"));
            }
        }
        ("PresharedKey", _) if !is_key(value) => {
            unfit.push(format!("line {line}: PresharedKey is no key"));
        }
        ("PresharedKey", Some(peer)) => {
            peer.preshared_key = preshared(value);
        }
        ("PublicKey", Some(peer)) => {
            peer.public_key = if is_key(value) {
                value.to_owned()
            } else {
                String::new()
            }
        }
        ("AllowedIPs", Some(peer)) if !value.is_empty() => {
            // wg takes blanks out, and splits at commas.
            for item in value.split(',') {
                match Prefix::parse(item.trim_matches(blank)) {
                    Some(prefix) => peer.allowed_ips.push(prefix),
                    None => unfit.push(none(item, "an address or a network")),
                }
            }
        }
        ("Endpoint", Some(peer)) => {
            if value.contains(blank) {
                return Err("an endpoint holds a blank");
            }
            let host = endpoint_host(value);
            let address = host.is_some_and(|h| h.parse::<IpAddr>().is_ok());
            match host {
                None => unfit.push(none(value, "`host:port`")),
                Some(host) if !address && !is_host_name(host) => warnings.push(format!(
                    "line {line}: Endpoint {}: its peer will have none",
                    not(value, "an address or the name of a host")
                )),
                Some(_) => {}
            }
            peer.endpoint_is_name = host.is_some() && !address;
            peer.endpoint = Some(value.to_owned());
        }
        ("Address", _) => {
            no_patterns(value)?;
            for item in items(value) {
                match address(item) {
                    Some(prefix) if interface.addresses.contains(&prefix) => {
                        unfit.push(format!("line {line}: it has the address {prefix} twice"));
                    }
                    Some(prefix) => interface.addresses.push(prefix),
                    None => unfit.push(none(item, "an address")),
                }
            }
        }
        ("DNS", _) => {
            no_patterns(value)?;
            for item in items(value) {
                if item.parse::<IpAddr>().is_err() && !is_host_name(item) {
                    warnings.push(none(item, "an address or the name of a domain"));
                }
                interface.dns.push(item.to_owned());
            }
        }
        ("ListenPort", _) => match plain(value)?.parse() {
            Ok(port) => interface.listen_port = Some(port),
            Err(_) => unfit.push(none(value, "a port")),
        },
        ("MTU", _) => match plain(value)?.parse() {
            Ok(mtu @ 68..=65_535) => interface.mtu = Some(mtu),
            Ok(_) | Err(_) => unfit.push(none(value, "a number from 68 to 65535")),
        },
        ("Table", _) => interface.table = Some(plain(value)?.to_owned()),
        ("FwMark", _) => {
            let mark = plain(value)?;
            let hex = mark.strip_prefix("0x").map(|h| u32::from_str_radix(h, 16));
            if mark != "off" && hex.unwrap_or_else(|| mark.parse()).is_err() {
                unfit.push(none(value, "a number or `off`"));
            }
            interface.fwmark = Some(mark.to_owned());
        }
        ("SaveConfig", _) => match plain(value)? {
            "true" => interface.save_config = true,
            "false" => interface.save_config = false,
            _ => return Err("SaveConfig is neither true nor false"),
        },
        ("PersistentKeepalive", _) => {
            let seconds = plain(value)?;
            let on = seconds.parse::<u16>();
            if seconds != "off" && on.is_err() {
                unfit.push(none(value, "a number from 0 to 65535 or `off`"));
            }
            if let Some(peer) = peers.last_mut() {
                peer.keepalive = on.ok().filter(|on| *on != 0);
            }
        }
        _ => {}
    }
    Ok(true)
}

/// Stands for a preshared key; none for one of zeros, by which `wg` takes it away.
pub fn preshared(key: &str) -> Option<Mark> {
    const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    (key != ZEROS).then(|| Mark::of(key)).flatten()
}

/// `x is not an address`; without the `x` where that may be a key.
fn not(value: &str, what: &str) -> String {
    const MOST: usize = 60;
    if value.len() > MOST || redact::may_be_a_key(value) {
        format!("is not {what}")
    } else {
        format!("{value} is not {what}")
    }
}

/// As `ip address add` takes it: also with the mask in place of a length.
fn address(item: &str) -> Option<Prefix> {
    let masked = |item: &str| {
        let (address, mask) = item.split_once('/')?;
        let mask = u32::from(mask.parse::<Ipv4Addr>().ok()?);
        let length = mask.leading_ones();
        (mask.count_ones() == length).then(|| Prefix::parse(&format!("{address}/{length}")))?
    };
    Prefix::parse(item).or_else(|| masked(item))
}

/// Letters, digits, dots, dashes and underscores, and no dash first: what a resolver may know.
fn is_host_name(host: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || "._-".contains(c);
    host.len() <= 253 && !host.starts_with('-') && host.chars().all(letter)
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
fn endpoint_host(endpoint: &str) -> Option<&str> {
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
