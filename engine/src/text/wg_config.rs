//! WireGuard configs as `wg-quick` reads them: a parser of bytes, names of interfaces, and the few rewritings that a
//! restore needs.
//!
//! `wg-quick` is bash, runs hooks as root and hands the rest to `wg`, so a filter over text can be got round. Here each line is
//! read as both of them read it, in the locale `C` as `wg-quick` does: what they pass over is passed over, and what they
//! would not take makes a config unfit. What only looks like a hook, to another shell or another eye, counts as one. Only
//! what would have to be guessed at cannot be vetted. Must not: keep, show or name a private or preshared key; two private
//! keys are told apart by their marks.

mod prefix;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use prefix::{Prefix, merged};

use crate::error::{Problem, cannot};
use crate::text::mark::Mark;
use crate::text::redact;

/// Longest name of a file, as filesystems have it.
pub const NAME: usize = 255;
/// A config of a gateway has a few hundred bytes.
pub const MOST: u64 = 1 << 20;

/// A setting, as `PostUp`, and the command that it runs, which may be of any bytes.
pub type Hook = (String, Vec<u8>);

/// What is larger than this is no config, whatever its name.
pub const FILE_MOST: u64 = 16 << 20;

/// Nobody can say what a config does: it is not looked into any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unvetted(pub String);

/// What a config says, less its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `[Interface]`.
    pub interface: Interface,
    /// `[Peer]`, in order.
    pub peers: Vec<Peer>,
    /// What will not work, or not as meant; the file is kept all the same.
    pub warnings: Vec<String>,
    /// With which `wg-quick` cannot bring it up: the file is kept, and the tunnel stays down.
    pub unfit: Vec<String>,
    /// With which `wg-quick` takes so long that an outage would last.
    pub slow: Vec<String>,
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
    pub hooks: Vec<Hook>,
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

const HOOKS: [&str; 4] = ["PreUp", "PostUp", "PreDown", "PostDown"];
/// What `wg-quick` takes itself.
const QUICK_KEYS: [&str; 9] = [
    "Address",
    "MTU",
    "DNS",
    "Table",
    "PreUp",
    "PreDown",
    "PostUp",
    "PostDown",
    "SaveConfig",
];
/// What `wg` knows of the interface.
const WG_KEYS: [&str; 3] = ["PrivateKey", "ListenPort", "FwMark"];
/// What `wg` knows of a peer.
const PEER_KEYS: [&str; 5] = [
    "PublicKey",
    "PresharedKey",
    "AllowedIPs",
    "Endpoint",
    "PersistentKeepalive",
];

/// Reads a config.
pub fn read(bytes: &[u8]) -> Result<Config, Unvetted> {
    if bytes.len() as u64 > MOST {
        return Err(Unvetted(format!(
            "it has {} bytes, and no config has more than {MOST}",
            bytes.len()
        )));
    }
    let mut config = Config::default();
    let mut sections = Sections::default();
    let mut interfaces = 0u32;
    let mut reading = ConfigReading::default();
    for (n, raw) in bytes.split(|b| *b == b'\n').enumerate() {
        let n = n + 1;
        // Bash leaves them out, and others end a line there.
        if raw.contains(&0) {
            return Err(Unvetted(format!("line {n} holds a NUL byte")));
        }
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        reading.line(n, raw);
        let meant = meant(raw);
        let (key, value) = key_and_value(meant);
        let known = match sections.enter(meant) {
            Line::Nothing => Ok(true),
            Line::Interface => {
                interfaces += 1;
                Ok(true)
            }
            Line::Peer => {
                config.peers.push(Peer::default());
                Ok(true)
            }
            Line::ForQuick => for_quick(&mut config, key, value, n),
            Line::ForWg => for_wg(&mut config, &sections, meant, n),
        };
        if let Some(hook) = looks_like_a_hook(key) {
            // Where wg-quick passes it over it is told of all the same: one moved line, or another shell, makes it live.
            config
                .interface
                .hooks
                .push((hook.to_owned(), value.to_vec()));
        }
        match known {
            Ok(true) => {}
            Ok(false) => config.unfit.push(unknown(n, key)),
            Err(why) => config.unfit.push(format!("line {n}: {why}")),
        }
    }
    // wg-quick makes an interface of these as well.
    if interfaces == 0 {
        config.warnings.push("it has no [Interface]".into());
    }
    if config.peers.is_empty() {
        config.warnings.push("it has no [Peer]".into());
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

/// The same, with a problem that calls the config `name`.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Config, Problem> {
    read(bytes).map_err(|why| {
        cannot(
            format!("vet the config {}: {why}", name.escape_debug()),
            "look into it by hand",
        )
    })
}

/// Whether the gateway's own reader takes a config of this name and these bytes, so that it may stand under `configs/` and in
/// `contents` of a backup. It refuses the whole backup for one that it does not take.
pub fn gateway_takes(name: &[u8], bytes: &[u8]) -> bool {
    let has = |section: &str| {
        let found = std::str::from_utf8(bytes).map(|text| text.contains(section));
        found.unwrap_or_default()
    };
    plain_config_name(name).is_some() && has("[Interface]") && has("[Peer]")
}

/// Which section a line stands in, for each of the two that read it.
#[derive(Default)]
struct Sections {
    /// `wg-quick` takes its own settings here.
    quick_interface: bool,
    wg: Section,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Section {
    #[default]
    None,
    Interface,
    Peer,
}

/// What a line is.
enum Line {
    Nothing,
    Interface,
    Peer,
    /// A setting of `wg-quick`'s own, in its section.
    ForQuick,
    /// A setting that it hands to `wg`, which may not know it.
    ForWg,
}

impl Sections {
    /// Goes through a line, comment cut off.
    fn enter(&mut self, meant: &[u8]) -> Line {
        let (key, _) = key_and_value(meant);
        if key.first() == Some(&b'[') {
            self.quick_interface = key.eq_ignore_ascii_case(b"[Interface]");
        } else if self.quick_interface && QUICK_KEYS.iter().any(|k| is(key, k)) {
            return Line::ForQuick;
        }
        // wg takes every blank out of a line.
        let line = without_blanks(meant);
        if line.is_empty() {
            Line::Nothing
        } else if line.eq_ignore_ascii_case(b"[Interface]") {
            self.wg = Section::Interface;
            Line::Interface
        } else if line.eq_ignore_ascii_case(b"[Peer]") {
            self.wg = Section::Peer;
            Line::Peer
        } else {
            Line::ForWg
        }
    }
}

fn is(key: &[u8], known: &str) -> bool {
    key.eq_ignore_ascii_case(known.as_bytes())
}

/// A line as far as it means something.
fn meant(raw: &[u8]) -> &[u8] {
    raw.split(|b| *b == b'#').next().unwrap_or_default()
}

/// What stands before the first `=` and behind it, without the blanks around; where there is none, each is the whole line.
fn key_and_value(meant: &[u8]) -> (&[u8], &[u8]) {
    let equals = meant.iter().position(|b| *b == b'=');
    let (key, value) = equals.map_or((meant, meant), |at| (&meant[..at], &meant[at + 1..]));
    (trimmed(key), trimmed(value))
}

/// `[[:space:]]` of the locale `C`, but for the end of a line.
fn blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | 0x0B | 0x0C | b'\r')
}

fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && blank(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && blank(*last)
    {
        bytes = rest;
    }
    bytes
}

fn without_blanks(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|b| !blank(*b)).collect()
}

/// The hook whose name a key has once everything is left out of it that is no letter.
fn looks_like_a_hook(key: &[u8]) -> Option<&'static str> {
    let letters: Vec<u8> = key
        .iter()
        .copied()
        .filter(u8::is_ascii_alphabetic)
        .collect();
    HOOKS.into_iter().find(|hook| is(&letters, hook))
}

/// What reading a config costs `wg-quick`: its patterns take time by the square of a line's length, and by the cube of a run
/// of blanks in it.
#[derive(Default)]
struct ConfigReading {
    ns: u64,
    /// The line that costs most: its cost, number, characters, and its longest run of blanks.
    worst: (u64, usize, usize, usize),
}

impl ConfigReading {
    fn line(&mut self, number: usize, raw: &[u8]) {
        /// As measured with bash 5.2 on a slow core, nanoseconds.
        const SQUARE: u64 = 32;
        const CUBE: u64 = 4;
        // What stands behind `#` is cut off first.
        let meant = meant(raw);
        let run = meant
            .split(|b| !blank(*b))
            .map(<[u8]>::len)
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
fn bounds(config: &mut Config, reading: &ConfigReading) {
    if reading.ns > READING {
        let (_, line, length, run) = reading.worst;
        config.slow.push(format!(
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
            config.slow.push(format!(
                "it has {count} {of}, and {most} are allowed: the gateway is down while wg-quick goes through them"
            ));
        }
    }
}

/// A key in the wrong place must not be shown as if it were the name of a setting.
fn unknown(line: usize, key: &[u8]) -> String {
    let plain = key.len() <= 32 && key.iter().all(u8::is_ascii_alphabetic);
    if let Ok(key) = std::str::from_utf8(key)
        && plain
    {
        format!("line {line}: nothing knows the setting {key} here")
    } else {
        format!("line {line}: nothing knows this setting here")
    }
}

/// Takes a setting of `wg-quick`'s own into the model; false if it is none that could work.
fn for_quick(
    config: &mut Config,
    key: &[u8],
    value: &[u8],
    line: usize,
) -> Result<bool, &'static str> {
    let Some(known) = QUICK_KEYS.into_iter().find(|k| is(key, k)) else {
        return Ok(false);
    };
    if HOOKS.contains(&known) {
        return Ok(true);
    }
    let interface = &mut config.interface;
    // A value that is none is not shown: it may be a key that stands in the wrong place.
    let none = |value: &str, what: &str| format!("line {line}: {known} {}", not(value, what));
    let Ok(value) = std::str::from_utf8(value) else {
        return Err("its value is not UTF-8");
    };
    match known {
        "Address" => {
            no_patterns(value)?;
            for item in items(value) {
                match address(item) {
                    Some(prefix) if interface.addresses.contains(&prefix) => {
                        config
                            .unfit
                            .push(format!("line {line}: it has the address {prefix} twice"));
                    }
                    Some(prefix) => interface.addresses.push(prefix),
                    None => config.unfit.push(none(item, "an address")),
                }
            }
        }
        "DNS" => {
            no_patterns(value)?;
            for item in items(value) {
                if item.parse::<IpAddr>().is_err() && !is_host_name(item) {
                    let why = none(item, "an address or the name of a domain");
                    config.warnings.push(why);
                }
                interface.dns.push(item.to_owned());
            }
        }
        // As if it were not there.
        "MTU" | "Table" if value.is_empty() => {}
        "MTU" => match plain(value)?.parse() {
            Ok(mtu @ 68..=65_535) => interface.mtu = Some(mtu),
            Ok(_) | Err(_) => config.unfit.push(none(value, "a number from 68 to 65535")),
        },
        "Table" => interface.table = Some(plain(value)?.to_owned()),
        "SaveConfig" if value.eq_ignore_ascii_case("true") => interface.save_config = true,
        "SaveConfig" if value.eq_ignore_ascii_case("false") => interface.save_config = false,
        "SaveConfig" => return Err("SaveConfig is neither true nor false"),
        _ => {}
    }
    Ok(true)
}

/// Takes a line that `wg` is given into the model; false if it does not know it.
fn for_wg(
    config: &mut Config,
    sections: &Sections,
    meant: &[u8],
    line: usize,
) -> Result<bool, &'static str> {
    let cleaned = without_blanks(meant);
    let Some(equals) = cleaned.iter().position(|b| *b == b'=') else {
        return Ok(false);
    };
    let (key, value) = (&cleaned[..equals], &cleaned[equals + 1..]);
    let known: &[&str] = match sections.wg {
        Section::None => &[],
        Section::Interface => &WG_KEYS,
        Section::Peer => &PEER_KEYS,
    };
    let Some(known) = known.iter().find(|k| is(key, k)) else {
        return Ok(false);
    };
    let Ok(value) = std::str::from_utf8(value) else {
        return Err("its value is not UTF-8");
    };
    let Config {
        interface,
        peers,
        warnings,
        unfit,
        slow: _,
    } = config;
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
            for item in value.split(',') {
                match Prefix::parse(item) {
                    Some(prefix) => peer.allowed_ips.push(prefix),
                    None => unfit.push(none(item, "an address or a network")),
                }
            }
        }
        ("Endpoint", Some(peer)) => {
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
        ("ListenPort", _) => match value.parse() {
            Ok(port) => interface.listen_port = Some(port),
            Err(_) => unfit.push(none(value, "a port")),
        },
        ("FwMark", _) => {
            let hex = value.strip_prefix("0x").map(|h| u32::from_str_radix(h, 16));
            if value != "off" && hex.unwrap_or_else(|| value.parse()).is_err() {
                unfit.push(none(value, "a number or `off`"));
            }
            interface.fwmark = Some(value.to_owned());
        }
        ("PersistentKeepalive", peer) => {
            let on = value.parse::<u16>();
            if value != "off" && on.is_err() {
                unfit.push(none(value, "a number from 0 to 65535 or `off`"));
            }
            if let Some(peer) = peer {
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
    value.split([',', ' ', '\t']).filter(|s| !s.is_empty())
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

enum Rewritten {
    Kept,
    Dropped,
    New(String),
}

/// Line by line; lines that are kept stay byte for byte, ends included.
fn rewrite(bytes: &[u8], mut each: impl FnMut(&[u8]) -> Rewritten) -> Vec<u8> {
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

/// The name of a config, as an entry in a form for the gateway's own reader can have it; none if its bytes stand below
/// `holdfast/raw`, whatever is in it.
pub fn plain_config_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let stem = name.strip_suffix(".conf")?;
    let plain = !stem.is_empty()
        && name.len() <= NAME
        // The gateway's own reader takes no name that could lead out.
        && !name.contains("..")
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control);
    plain.then_some(name)
}

#[cfg(test)]
mod tests;
