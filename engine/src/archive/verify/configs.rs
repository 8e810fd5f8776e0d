//! The configs of a backup: read and parsed; whether their tunnels can come up, alone and beside each other, and what they
//! take over. Changes nothing.

use std::collections::BTreeMap;

use journal_format::{Note, visible};

use super::{FileInBackup, Findings};
use crate::archive::lost::Lost;
use crate::archive::manifest::EntryFacts;
use crate::archive::{Archive, ArchiveEntry, EntryKind};
use crate::error::{Code, Fault, Problem, cannot};
use crate::gateway::consent::{self, Hook, Opaque};
use crate::gateway::database::Origin;
use crate::text::mark::Mark;
use crate::text::redact;
use crate::text::wg_config::{self, Config, Prefix, merged};
use crate::text::wording::{Named, counted, name, names};

/// What is said of one config before the rest is only counted: nobody reads what stands behind 600 lines.
const SAID: usize = 10;

/// One config in a backup. There are tens of thousands, and only what is needed later is kept.
#[derive(Debug, Clone, Default)]
pub struct CheckedConfig {
    /// What belongs into the folder of configs; none if there was no copy there.
    pub first: Option<FileInBackup>,
    /// What belongs into the folder of `wg-quick`; none if there was no copy there.
    pub second: Option<FileInBackup>,
    /// Whether its name can be an interface's.
    pub can_be_a_tunnel: bool,
    /// Where it listens. This and the networks are of what `wg-quick` will read: the second copy, or else the first.
    pub listen_port: Option<u16>,
    /// The networks behind its peers.
    pub networks: Box<[Prefix]>,
    /// Whether `wg-quick` makes routes to them in the main table.
    pub makes_routes: bool,
    /// Whether it sets the box's resolver.
    pub sets_dns: bool,
    /// Whether it has addresses or routes of IPv6.
    pub needs_v6: bool,
    /// Stands for its private key.
    pub key: Option<Mark>,
    odd: Option<Box<Odd>>,
}

/// What few configs have.
#[derive(Debug, Clone, Default)]
struct Odd {
    unfit: Vec<String>,
    slow: Vec<String>,
    opaque: Vec<Opaque>,
    hooks: Vec<Hook>,
}

impl CheckedConfig {
    /// Why `wg-quick` could not bring it up.
    pub fn unfit(&self) -> &[String] {
        self.odd.as_ref().map_or(&[], |odd| &odd.unfit)
    }

    /// Why `wg-quick` would take too long over it.
    pub fn slow(&self) -> &[String] {
        self.odd.as_ref().map_or(&[], |odd| &odd.slow)
    }

    /// The copies of which nobody can say what they run.
    pub fn opaque(&self) -> &[Opaque] {
        self.odd.as_ref().map_or(&[], |odd| &odd.opaque)
    }

    /// What it runs as root, in either copy.
    pub fn hooks(&self) -> &[Hook] {
        self.odd.as_ref().map_or(&[], |odd| &odd.hooks)
    }

    fn odd(&mut self) -> &mut Odd {
        self.odd.get_or_insert_default()
    }

    fn set(&mut self, config: &Config) {
        self.listen_port = config.interface.listen_port;
        let networks = config.peers.iter().flat_map(|p| &p.allowed_ips);
        self.networks = networks.copied().collect();
        let table = config.interface.table.as_deref();
        self.makes_routes = table.is_none_or(|t| t.eq_ignore_ascii_case("auto"));
        self.sets_dns = config
            .interface
            .dns
            .iter()
            .any(|d| d.parse::<std::net::IpAddr>().is_ok());
        let has_v6 = |prefixes: &[Prefix]| prefixes.iter().any(|p| p.address.is_ipv6());
        let no_routes = table.is_some_and(|t| t.eq_ignore_ascii_case("off"));
        self.needs_v6 = has_v6(&config.interface.addresses) || has_v6(&self.networks) && !no_routes;
        self.key = config.interface.key;
        if self.odd.is_some() || !config.unfit.is_empty() || !config.slow.is_empty() {
            let odd = self.odd();
            odd.unfit.clone_from(&config.unfit);
            odd.slow.clone_from(&config.slow);
        }
    }

    fn place(&mut self, is_first: bool, copy: FileInBackup) {
        match is_first {
            true => self.first = Some(copy),
            false => self.second = Some(copy),
        }
    }

    /// Whether `wg-quick` makes it the way out of the box for IPv4.
    pub fn is_default_route(&self) -> bool {
        let mut networks = self.networks.iter();
        self.makes_routes && networks.any(|n| n.is_everything() && n.address.is_ipv4())
    }

    /// The routes that `wg-quick` makes in the main table.
    pub fn routes(&self) -> impl Iterator<Item = Prefix> {
        let networks = self.networks.iter().filter(|_| self.makes_routes);
        networks.filter(|n| !n.is_everything()).map(Prefix::network)
    }
}

/// Names the configs that are not put back, with the command that takes them out.
fn name_what_is_not_put_back(archive: &Archive, found: &mut Findings) {
    for entry in archive.entries() {
        let (EntryKind::RawConfig(name) | EntryKind::RawSecondCopy(name)) = entry.part() else {
            continue;
        };
        if can_be_put_back(&name) {
            continue;
        }
        let said = format!(
            "a config whose name is no plain text is not put back, and what is here stays as it is; to take it out: unzip -p {} \
             {} > {}",
            quoted(archive.name().as_bytes()),
            entry.name,
            quoted(&name)
        );
        found
            .lost
            .push(Lost::of("configs whose names are no plain text", said));
        // In a listing of a folder it goes by this name, if by any.
        found.stays.extend(String::from_utf8(name));
    }
}

/// Whether a file of this name is one that a plan can name.
pub(super) fn can_be_put_back(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|text| !text.chars().any(char::is_control))
}

/// As bash takes it, in plain letters.
fn quoted(name: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._=+-/,:@".contains(b);
    if !name.is_empty() && name.iter().all(plain) {
        return String::from_utf8_lossy(name).into_owned();
    }
    let one = |b: &u8| match b {
        b if plain(b) || *b == b' ' => char::from(*b).to_string(),
        b => format!("\\x{b:02x}"),
    };
    format!("$'{}'", name.iter().map(one).collect::<String>())
}

/// Reads and parses all of them.
pub(super) fn check_configs(
    archive: &Archive,
    found: &mut Findings,
) -> Result<BTreeMap<String, CheckedConfig>, Fault> {
    let mut configs: BTreeMap<String, CheckedConfig> = BTreeMap::new();
    name_what_is_not_put_back(archive, found);
    let (mut read, mut too_large) = (Vec::new(), Vec::new());
    for (place, entry) in archive.entries().iter().enumerate() {
        match place_of(&entry.part()) {
            Some(_) if entry.size > wg_config::MOST => too_large.push(entry),
            Some(_) => read.push(place),
            None => {}
        }
    }
    for entry in too_large {
        let facts = archive.copy(&entry.name, &mut std::io::sink())?;
        let why = format!(
            "it has {} bytes, and no config has more than {}",
            entry.size,
            wg_config::MOST
        );
        keep_opaque(&mut configs, entry, facts, why);
    }
    let take = |(entry, facts, looked): (&ArchiveEntry, EntryFacts, _)| match looked {
        Ok((config, warnings)) => {
            found.warnings.extend::<Vec<Note>>(warnings);
            keep(&mut configs, entry, facts, &config);
        }
        Err(why) => keep_opaque(&mut configs, entry, facts, why),
    };
    let look = |bytes: &[u8], entry: &str| {
        let config = wg_config::read(bytes).map_err(|why| why.to_string())?;
        let mut warnings = Vec::new();
        warn_of(entry, &config, &mut warnings);
        Ok::<_, String>((config, warnings))
    };
    archive.read_each(
        &read,
        |entry, facts, bytes| (entry, facts, look(bytes, &entry.name)),
        take,
    )?;
    for (file, config) in &mut configs {
        if let (None, Some(first)) = (&config.second, &config.first) {
            config.second = match &archive.metadata.holdfast {
                // The gateway's own backup has one copy for both places.
                None => Some(first.clone()),
                Some(_) => {
                    let entry = archive.entry(&first.entry);
                    let owner = entry.and_then(|e| e.owner_of_second);
                    owner.map(|owner| {
                        let mut second = first.clone();
                        second.facts.owner = Some(owner.into());
                        second
                    })
                }
            };
        }
        let stem = file.strip_suffix(".conf").unwrap_or(file);
        match wg_config::interface_name(stem) {
            Ok(_) => config.can_be_a_tunnel = true,
            Err(why) => {
                let text = format!("the config {} can never come up: {why}", name(file));
                let note = Note::known(Code::TUNNEL_UNFIT, text);
                found.warnings.push(note.about(file));
            }
        }
    }
    Ok(configs)
}

fn keep_opaque(
    configs: &mut BTreeMap<String, CheckedConfig>,
    entry: &ArchiveEntry,
    facts: EntryFacts,
    why: String,
) {
    let part = entry.part();
    let Some((file, is_first)) = place_of(&part) else {
        return;
    };
    let config = configs.entry(file.to_owned()).or_default();
    config.odd().opaque.push(Opaque {
        tunnel: file.strip_suffix(".conf").unwrap_or(file).to_owned(),
        entry: entry.name.clone().into(),
        why,
        size: facts.size,
        sha256: facts.sha256.clone(),
    });
    config.place(is_first, FileInBackup::new(&entry.name, facts));
}

/// Of which file an entry is a copy, and whether it is the first one; none if it is none that can be put back.
fn place_of<'p>(part: &'p EntryKind<'_>) -> Option<(&'p str, bool)> {
    let raw = |name: &'p [u8]| {
        let text = std::str::from_utf8(name).ok();
        text.filter(|_| can_be_put_back(name))
    };
    match part {
        EntryKind::Config(file) => Some((file, true)),
        EntryKind::SecondCopy(file) => Some((file, false)),
        EntryKind::RawConfig(name) => Some((raw(name)?, true)),
        EntryKind::RawSecondCopy(name) => Some((raw(name)?, false)),
        EntryKind::Metadata
        | EntryKind::Database(_)
        | EntryKind::Rules
        | EntryKind::RulesText
        | EntryKind::RawDatabase { .. }
        | EntryKind::Kept(_)
        | EntryKind::UnknownDatabase => None,
    }
}

fn keep(
    configs: &mut BTreeMap<String, CheckedConfig>,
    entry: &ArchiveEntry,
    facts: EntryFacts,
    config: &Config,
) {
    let part = entry.part();
    let Some((file, is_first)) = place_of(&part) else {
        return;
    };
    let seen = configs.entry(file.to_owned()).or_default();
    if !config.interface.hooks.is_empty() {
        let hooks = &mut seen.odd().hooks;
        *hooks = consent::either(std::mem::take(hooks), &config.interface.hooks);
    }
    seen.place(is_first, FileInBackup::new(&entry.name, facts));
    if !is_first || seen.second.is_none() {
        seen.set(config);
    }
}

/// Settings reach beyond the tunnel: whoever agrees to the restore must have read of them. Hooks are [`Consent`]'s.
fn warn_of(file: &str, config: &Config, warnings: &mut Vec<Note>) {
    let entry = Named(file);
    let mut warn = |text: String| {
        warnings.push(Note::known(Code::CONFIG_ODD, text).about(file));
    };
    if config.interface.save_config {
        warn(format!(
            "{entry} has SaveConfig: the gateway writes over it when the tunnel goes down"
        ));
    }
    for (key, set) in [
        ("Table", &config.interface.table),
        ("FwMark", &config.interface.fwmark),
    ] {
        match set {
            Some(value) if redact::may_be_a_key(value) => {
                warn(format!("{entry} sets {key}"));
            }
            Some(value) => warn(format!("{entry} sets {key} = {}", Named(value))),
            None => {}
        }
    }
    let all = || {
        let unfit = config.unfit.iter().chain(&config.slow);
        unfit.chain(&config.warnings)
    };
    for said in all().take(SAID) {
        warn(format!("{entry}: {}", visible(said)));
    }
    let more = all().count().saturating_sub(SAID);
    if more > 0 {
        warn(format!("{entry}: and {more} more lines like these"));
    }
}

/// Tunnels that take over more than a site's own networks.
pub(super) fn leads_away(configs: &BTreeMap<String, CheckedConfig>, warnings: &mut Vec<Note>) {
    let loopback = ["127.0.0.0/8", "::1/128"].map(Prefix::parse);
    let (mut everything, mut to_itself) = (Vec::new(), Vec::new());
    for (file, config) in configs {
        // Also in halves: but never of fewer networks than there are of the largest one's size.
        let largest = config.networks.iter().map(|n| n.length).min();
        let may_be = largest.is_some_and(|length| config.networks.len() >> length.min(63) > 0);
        if may_be
            && merged(config.networks.iter().map(Prefix::network).collect())
                .iter()
                .any(Prefix::is_everything)
        {
            everything.push(file);
            continue;
        }
        if config.networks.iter().any(|n| {
            loopback
                .iter()
                .flatten()
                .any(|l| l.contains(n) || n.contains(l))
        }) {
            to_itself.push(file);
        }
    }
    for (files, what) in [
        (everything, "all traffic"),
        (
            to_itself,
            "the box's traffic with itself (127.0.0.0/8 or ::1)",
        ),
    ] {
        let text = match files.as_slice() {
            [] => continue,
            [one] => format!("{} sends {what} into its tunnel (AllowedIPs)", name(one)),
            many => format!(
                "{} send {what} into their tunnels (AllowedIPs): {}",
                counted(many.len(), "config"),
                names(many)
            ),
        };
        warnings.push(Note::known(Code::TRAFFIC_TAKEN, text));
    }
}

/// Which of the tunnels that belong up can come up, known before any outage. One whose own config is the reason stays down
/// and is named: its file is put back, and the others are not held up by it. Two that are in each other's way are refused in
/// a backup from elsewhere, which could bring up either; a backup of this box brings up the first, as they were here.
pub(super) fn able(
    origin: Origin,
    tunnels_up: Vec<String>,
    configs: &BTreeMap<String, CheckedConfig>,
) -> Able {
    let mut able = Able::default();
    let mut keys: BTreeMap<Mark, String> = BTreeMap::new();
    let mut ports: BTreeMap<u16, String> = BTreeMap::new();
    let mut routes: BTreeMap<Prefix, String> = BTreeMap::new();
    for tunnel in tunnels_up {
        // The planner knows whether one is here.
        let Some(config) = configs.get(&format!("{tunnel}.conf")) else {
            able.up.push(tunnel);
            continue;
        };
        let mut own: Vec<String> = config.unfit().to_vec();
        if origin == Origin::Elsewhere {
            own.extend(config.slow().iter().cloned());
            own.extend(config.opaque().iter().map(|o| o.why.clone()));
        }
        if let Some(why) = own.first() {
            let more = match own.len() - 1 {
                0 => String::new(),
                more => format!(", and {}", counted(more, "more reason")),
            };
            able.down.insert(tunnel, format!("{}{more}", visible(why)));
            continue;
        }
        let mut others = Vec::new();
        if let Some(other) = config.key.and_then(|key| keys.get(&key))
            // Two of this box's own may have one, as they had here.
            && origin == Origin::Elsewhere
        {
            others.push(format!("it has the private key of {}", name(other)));
        }
        let port = config.listen_port.filter(|p| *p != 0);
        if let Some((port, other)) = port.and_then(|p| Some((p, ports.get(&p)?))) {
            others.push(format!("{} listens on the same port, {port}", name(other)));
        }
        let mut same = config
            .routes()
            .filter_map(|route| Some((route, routes.get(&route)?)));
        // One is enough to say.
        if let Some((route, other)) = same.next() {
            others.push(format!(
                "{} has the network {route} in its AllowedIPs as well",
                name(other)
            ));
        }
        match (origin, others.is_empty()) {
            (_, true) => {}
            (Origin::Here, false) => {
                able.down.insert(tunnel, others.join(", and "));
                continue;
            }
            (Origin::Elsewhere, false) => able.problems.extend(others.into_iter().map(|why| {
                cannot(
                    Code::TUNNEL_UNFIT,
                    format!("bring {} of the backup up: {why}", name(&tunnel)),
                    "fix its config on the gateway that was backed up, or make it inactive there, and make a new backup; or take \
                     another backup",
                )
            })),
        }
        keys.extend(config.key.map(|key| (key, tunnel.clone())));
        ports.extend(port.map(|port| (port, tunnel.clone())));
        routes.extend(config.routes().map(|route| (route, tunnel.clone())));
        able.up.push(tunnel);
    }
    able
}

/// What can become of the tunnels that belong up.
#[derive(Debug, Default)]
pub(super) struct Able {
    /// These come up.
    pub(super) up: Vec<String>,
    /// These stay down, and why.
    pub(super) down: BTreeMap<String, String>,
    /// Why nothing is restored.
    pub(super) problems: Vec<Problem>,
}
