//! WireGuard configs as `wg-quick` reads them: a parser of bytes, names of interfaces, and the few rewritings that a
//! restore needs.
//!
//! `wg-quick` is bash, runs hooks as root and hands the rest to `wg`, so a filter over text can be got round. Here each line is
//! read as both of them read it, in the locale `C` as `wg-quick` does: what they pass over is passed over, and what they
//! would not take makes a config unfit. What only looks like a hook, to another shell or another eye, counts as one. Only
//! what would have to be guessed at cannot be vetted. Must not: keep, show or name a private or preshared key; two private
//! keys are told apart by their marks.

mod prefix;
mod rewriting;
mod settings;
mod values;

pub use prefix::{Prefix, merged};

use crate::error::{Code, OrCannot, Problem};
use crate::text::mark::Mark;
use crate::text::wording::Named;
pub use rewriting::{with_endpoints, without};
use settings::{for_quick, for_wg, unknown};
pub use values::{interface_name, is_key, preshared};

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
            let hook = (hook.to_owned(), value.to_vec());
            config.interface.hooks.push(hook);
        }
        match known {
            Ok(true) => {}
            Ok(false) => config.unfit.push(unknown(n, key)),
            Err(why) => config.unfit.push(format!("line {n}: {why}")),
        }
    }
    // wg-quick makes an interface of these as well.
    let odd = [
        (interfaces == 0, "it has no [Interface]"),
        (config.peers.is_empty(), "it has no [Peer]"),
        (interfaces > 1, "it has more than one [Interface]"),
    ];
    let said = odd.into_iter().filter(|(is_so, _)| *is_so);
    config.warnings.extend(said.map(|(_, said)| said.into()));
    if config.peers.iter().any(|p| p.public_key.is_empty()) {
        let unfit = "it has a peer without a usable PublicKey";
        config.unfit.push(unfit.into());
    }
    bounds(&mut config, &reading);
    Ok(config)
}

/// The same, with a problem that calls the config `name`.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Config, Problem> {
    let what = format!("vet the config {}", Named(name));
    read(bytes).or_cannot(
        Code::NOT_UNDERSTOOD,
        what,
        "look at its bytes with `cat -A`, and correct the line",
    )
}

/// Whether going down by this config may write over it. Of one that cannot be vetted nobody knows.
pub fn saves(bytes: &[u8]) -> bool {
    read(bytes).map_or(true, |config| config.interface.save_config)
}

/// Whether this looks as `wg-quick` writes over a config that says `SaveConfig`: no comment, no blank before the first section.
pub fn is_as_saved(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|b| *b == b'\n');
    lines.next() == Some(b"[Interface]")
        && lines.any(|line| line == b"SaveConfig = true")
        && !bytes.contains(&b'#')
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
    let letters = key.iter().copied().filter(u8::is_ascii_alphabetic);
    let letters: Vec<u8> = letters.collect();
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
        let runs = meant.split(|b| !blank(*b)).map(<[u8]>::len);
        let run = runs.max().unwrap_or_default();
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
