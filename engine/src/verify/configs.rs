//! The configs of a backup: read and parsed; whether their tunnels can come up, alone and beside each other, and what they
//! take over. Changes nothing.

use std::collections::BTreeMap;

use super::{CONFIG_MOST, FileInBackup, Found, in_backup};
use crate::archive::{Archive, Entry, Part};
use crate::consent::{self, Hook};
use crate::fault::{Fault, Problem, cannot};
use crate::mark::Mark;
use crate::redact;
use crate::wgconf::{self, Config, Prefix, merged};
use crate::wording::{Named, counted, name, names};

/// What is said of one config before the rest is only counted: nobody reads what stands behind 600 lines.
const SAID: usize = 10;

/// One config in a backup.
#[derive(Debug, Clone, Default)]
pub struct CheckedConfig {
    /// What belongs into the folder of configs; none if there was no copy there.
    pub first: Option<FileInBackup>,
    /// What belongs into the folder of `wg-quick`; none if there was no copy there.
    pub second: Option<FileInBackup>,
    /// The interface, if its name can be one.
    pub interface: Option<String>,
    /// Where it listens. This and the networks are of what `wg-quick` will read: the second copy, or else the first.
    pub listen_port: Option<u16>,
    /// The networks behind its peers.
    pub networks: Box<[Prefix]>,
    /// Whether `wg-quick` makes routes to them in the main table.
    pub makes_routes: bool,
    /// Whether it sets the box's resolver.
    pub sets_dns: bool,
    /// Stands for its private key.
    pub key: Option<Mark>,
    /// Why `wg-quick` could not bring it up.
    pub unfit: Vec<String>,
    /// What it runs as root, in either copy.
    pub hooks: Vec<Hook>,
}

impl CheckedConfig {
    /// Only what is needed later is kept: there are thousands.
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
        self.key = config.interface.key;
        self.unfit.clone_from(&config.unfit);
    }

    /// The routes that `wg-quick` makes in the main table.
    pub fn routes(&self) -> impl Iterator<Item = Prefix> {
        let networks = self.networks.iter().filter(|_| self.makes_routes);
        networks.filter(|n| !n.is_everything()).map(Prefix::network)
    }
}

/// Reads and parses all of them.
pub(super) fn check_configs(
    archive: &Archive,
    found: &mut Found,
) -> Result<BTreeMap<String, CheckedConfig>, Fault> {
    let mut configs: BTreeMap<String, CheckedConfig> = BTreeMap::new();
    let mut entries: Vec<&Entry> = archive.entries().iter().collect();
    entries.retain(|e| place(&e.part).is_some());
    for entry in entries.iter().filter(|e| e.size > CONFIG_MOST) {
        found.problems.push(cannot(
            format!(
                "accept the config {}: it has {} bytes, and the limit is {CONFIG_MOST}",
                entry.name.escape_debug(),
                entry.size
            ),
            "take another backup; this is no config of a gateway",
        ));
    }
    entries.retain(|e| e.size <= CONFIG_MOST);
    let look = |entry: &Entry, bytes: &[u8], copied| {
        let looked = wgconf::parse(&entry.name, bytes).map(|config| {
            let mut warnings = Vec::new();
            warn_of(&entry.name, &config, &mut warnings);
            (config, warnings)
        });
        (copied, looked)
    };
    archive.read_each(&entries, look, |entry, (copied, looked)| {
        match (place(&entry.part), looked) {
            (Some((file, is_first)), Ok((config, warnings))) => {
                found.warnings.extend(warnings);
                let in_backup = in_backup(archive, &entry.name, &copied);
                keep(&mut configs, file, is_first, in_backup, &config);
            }
            (_, Err(problem)) => found.problems.push(problem),
            (None, Ok(_)) => {}
        }
        Ok(())
    })?;
    let manifest = archive.metadata().holdfast.as_ref();
    for (file, config) in &mut configs {
        if config.second.is_none() {
            config.second = match manifest {
                // The gateway's own backup has one copy for both places.
                None => config.first.clone(),
                Some(m) => m.owner_of_second_copy(file).and_then(|owner| {
                    config.first.clone().map(|first| FileInBackup {
                        owner: Some(owner),
                        ..first
                    })
                }),
            };
        }
        let stem = file.strip_suffix(".conf").unwrap_or(file);
        match wgconf::interface_name(stem) {
            Ok(interface) => config.interface = Some(interface.to_owned()),
            Err(why) => found.warnings.push(format!(
                "the config {} can never come up: {why}",
                name(file)
            )),
        }
    }
    Ok(configs)
}

/// Of which file an entry is a copy, and whether it is the first one.
fn place(part: &Part) -> Option<(&str, bool)> {
    match part {
        Part::Config(file) => Some((file, true)),
        Part::SecondCopy(file) => Some((file, false)),
        _ => None,
    }
}

fn keep(
    configs: &mut BTreeMap<String, CheckedConfig>,
    file: &str,
    is_first: bool,
    in_backup: FileInBackup,
    config: &Config,
) {
    let seen = configs.entry(file.to_owned()).or_default();
    seen.hooks = consent::either(std::mem::take(&mut seen.hooks), &config.interface.hooks);
    if is_first {
        seen.first = Some(in_backup);
        if seen.second.is_none() {
            seen.set(config);
        }
    } else {
        seen.second = Some(in_backup);
        seen.set(config);
    }
}

/// Settings reach beyond the tunnel: whoever agrees to the restore must have read of them. Hooks are [`Consent`]'s.
fn warn_of(entry: &str, config: &Config, warnings: &mut Vec<String>) {
    let entry = Named(entry);
    if config.interface.save_config {
        warnings.push(format!(
            "{entry} has SaveConfig: the gateway writes over it when the tunnel goes down"
        ));
    }
    for (key, set) in [
        ("Table", &config.interface.table),
        ("FwMark", &config.interface.fwmark),
    ] {
        match set {
            Some(value) if redact::may_be_a_key(value) => {
                warnings.push(format!("{entry} sets {key}"));
            }
            Some(value) => warnings.push(format!("{entry} sets {key} = {}", Named(value))),
            None => {}
        }
    }
    let all = || config.unfit.iter().chain(&config.warnings);
    warnings.extend(
        all()
            .take(SAID)
            .map(|w| format!("{entry}: {}", w.escape_debug())),
    );
    let more = all().count().saturating_sub(SAID);
    if more > 0 {
        warnings.push(format!("{entry}: and {more} more lines like these"));
    }
}

/// Tunnels that take over more than a site's own networks (A17).
pub(super) fn leads_away(configs: &BTreeMap<String, CheckedConfig>, warnings: &mut Vec<String>) {
    let loopback = ["127.0.0.0/8", "::1/128"].map(Prefix::parse);
    let (mut everything, mut to_itself) = (Vec::new(), Vec::new());
    for (file, config) in configs {
        // Also in halves.
        if merged(config.networks.iter().map(Prefix::network).collect())
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
        match files.as_slice() {
            [] => {}
            [one] => warnings.push(format!(
                "{} sends {what} into its tunnel (AllowedIPs)",
                name(one)
            )),
            many => warnings.push(format!(
                "{} send {what} into their tunnels (AllowedIPs): {}",
                counted(many.len(), "config"),
                names(many)
            )),
        }
    }
}

/// Every reason why tunnels that belong up could not come up, alone or beside each other: known now, before any outage.
pub(super) fn unfit(
    tunnels_up: &[String],
    configs: &BTreeMap<String, CheckedConfig>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut keys: BTreeMap<Mark, &str> = BTreeMap::new();
    let mut ports: BTreeMap<u16, &str> = BTreeMap::new();
    let mut routes: BTreeMap<Prefix, &str> = BTreeMap::new();
    for tunnel in tunnels_up {
        let Some(config) = configs.get(&format!("{tunnel}.conf")) else {
            continue;
        };
        let mut refuse = |why: String| {
            problems.push(cannot(
                format!("bring {} of the backup up: {why}", name(tunnel)),
                "mend its config on the gateway that was backed up, or make it inactive there, and make a new backup; or take \
                 another backup",
            ));
        };
        for why in &config.unfit {
            refuse(why.escape_debug().to_string());
        }
        if let Some(other) = config.key.and_then(|key| keys.insert(key, tunnel)) {
            refuse(format!("it has the private key of {}", name(other)));
        }
        let port = config.listen_port.filter(|p| *p != 0);
        if let Some((port, other)) = port.and_then(|p| Some((p, ports.insert(p, tunnel)?))) {
            refuse(format!("{} listens on the same port, {port}", name(other)));
        }
        let same = config.routes().filter_map(|route| {
            let other = routes.insert(route, tunnel)?;
            (other != tunnel).then_some((route, other))
        });
        // One is enough to say.
        if let Some((route, other)) = same.last() {
            refuse(format!(
                "{} has the network {route} in its AllowedIPs as well",
                name(other)
            ));
        }
    }
    problems
}
