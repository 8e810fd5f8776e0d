//! What makes a backup acceptable, beyond its structure: every byte read against its digest, every database checked as a
//! private copy, every config parsed, rules readable, room to unpack. What it found is kept, so that nothing has to be
//! read twice to plan. Rights and tools of this host are not its business. Must not change anything but the spool.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use journal_format::Digest;
use sha2::Digest as _;

use crate::account::MailRelay;
use crate::archive::{Archive, Copied, Part, RULES_V4, RULES_V6};
use crate::consent::{self, Consent, Hook};
use crate::database::{self, Client, Origin, Terms, User};
use crate::fault::{Fault, Problem, cannot};
use crate::made;
use crate::mark::Mark;
use crate::profile::{self, DatabaseKind, Profile};
use crate::redact;
use crate::space::Needs;
use crate::spool::Room;
use crate::wgconf::{self, Config, Prefix, merged};
use crate::wording::{counted, name, names};

/// What is said of a backup that the gateway made itself.
pub const NO_MANIFEST: &str = "the backup has no manifest of Holdfast's (the gateway's own backups have none): nothing vouches \
     for what is in it, and nobody can tell whether it was changed since it was made";
/// A config of a gateway has a few hundred bytes.
pub const CONFIG_MOST: u64 = 1 << 20;
/// Configs read at once.
const BATCH: usize = 512;
/// `iptables-save` of a gateway with 10,000 tunnels has about 3 MiB.
const RULES_MOST: u64 = 16 << 20;

/// A backup that is acceptable, and what is in it.
#[derive(Debug)]
pub struct Checked {
    /// The open archive.
    pub archive: Archive,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// The databases, in the order of the profile.
    pub databases: Vec<CheckedDatabase>,
    /// Those that will not be put in place byte for byte as the archive has them.
    pub rebuilt: Rebuilt,
    /// The configs by file name, as `a.conf`.
    pub configs: BTreeMap<String, CheckedConfig>,
    /// The clients in its client database; none if it has no such database.
    pub clients: Option<Vec<Client>>,
    /// `iptables-save`, if it has it.
    pub rules_v4: Option<String>,
    /// `ip6tables-save`, if it has it.
    pub rules_v6: Option<String>,
    /// `net.ipv4.ip_forward`, if a manifest says it.
    pub ip_forward: Option<bool>,
    /// Tunnels that belong up afterwards, by interface: those that the manifest says were up, else the active clients.
    /// Only those whose config is in the backup and whose name an interface can have.
    pub tunnels_up: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Parts that the profile names and the backup lacks; a plan says it in its own words, knowing the gateway.
    pub missing: Vec<String>,
}

/// One file in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInBackup {
    /// The entry that holds it.
    pub entry: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
    /// Whose it was, as a place among the manifest's owners, if a manifest says it.
    pub owner: Option<usize>,
}

/// Databases as they will be put in place, in the spool for as long as this lives.
#[derive(Debug)]
pub struct Rebuilt {
    room: Room,
    entries: BTreeSet<String>,
}

impl Rebuilt {
    /// The file that takes the place of an entry; none where the entry itself is taken.
    pub fn file(&self, entry: &str) -> Option<PathBuf> {
        self.entries.contains(entry).then(|| self.place(entry))
    }

    fn place(&self, entry: &str) -> PathBuf {
        self.room.file(&format!("rebuilt-{entry}"))
    }
}

/// One database in a backup.
#[derive(Debug, Clone)]
pub struct CheckedDatabase {
    /// Its name in the profile, and its entry.
    pub name: String,
    /// What is in it.
    pub kind: DatabaseKind,
    /// The file, as it will be put in place.
    pub file: FileInBackup,
    /// Its users, if it is of that kind.
    pub users: Vec<User>,
    /// The mail relay that it names, if it is of that kind.
    pub mail: Option<MailRelay>,
}

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

/// Reads and checks a whole backup. `name` is what people are shown.
pub fn archive(profile: &Profile, file: File, name: &str) -> Result<Checked, Fault> {
    let databases: Vec<&str> = profile
        .gateway
        .database
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    let mut archive = Archive::open(file, name, &profile.limits, &databases)?;
    room_to_unpack(profile, &archive)?;
    let sha256 = archive.sha256()?;
    let mut found = Found::default();
    let origin = if made::knows(profile, &sha256)? {
        Origin::Here
    } else {
        Origin::Elsewhere
    };
    let (databases, clients, rebuilt) = check_databases(profile, &mut archive, origin, &mut found)?;
    let configs = check_configs(&mut archive, &mut found)?;
    let rules_v4 = rules(&mut archive, RULES_V4, &mut found)?;
    let rules_v6 = rules(&mut archive, RULES_V6, &mut found)?;
    let texts: Vec<String> = archive
        .entries()
        .iter()
        .filter(|e| matches!(e.part, Part::RulesNat | Part::RulesForward))
        .map(|e| e.name.clone())
        .collect();
    for text in texts {
        archive.copy(&text, &mut io::sink())?;
    }
    if !found.problems.is_empty() {
        return Err(Fault::Refused(found.problems));
    }
    let mut checked = Checked {
        ip_forward: archive
            .metadata()
            .holdfast
            .as_ref()
            .and_then(|m| m.ip_forward),
        archive,
        sha256,
        databases,
        rebuilt,
        configs,
        clients,
        rules_v4,
        rules_v6,
        tunnels_up: Vec::new(),
        warnings: found.warnings,
        missing: Vec::new(),
    };
    across_parts(profile, &mut checked);
    let unfit = unfit(&checked);
    if unfit.is_empty() {
        Ok(checked)
    } else {
        Err(Fault::Refused(unfit))
    }
}

impl Checked {
    /// What its configs run as root and do not run today, where `now` tells what a tunnel runs.
    pub fn consent(&self, now: impl FnMut(&str) -> Vec<Hook>) -> Consent {
        let hooks = self.configs.iter().map(|(file, config)| {
            let stem = file.strip_suffix(".conf").unwrap_or(file);
            (stem, config.hooks.as_slice())
        });
        Consent::new(hooks, now)
    }
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

/// Databases are unpacked into the spool to be checked, and rebuilt there; then all may be staged beside their targets.
fn room_to_unpack(profile: &Profile, archive: &Archive) -> Result<(), Fault> {
    let mut spool = Needs::default();
    let mut targets = Needs::default();
    let g = &profile.gateway;
    for entry in archive.entries() {
        let target = match &entry.part {
            Part::Database(name) => {
                spool.file(&profile.spool_dir(), entry.size.saturating_mul(2))?;
                g.database
                    .iter()
                    .find(|d| d.name == *name)
                    .and_then(|d| d.path.parent())
            }
            Part::Config(_) => Some(g.configs_dir.as_path()),
            Part::SecondCopy(_) => Some(g.wireguard_dir.as_path()),
            Part::Metadata
            | Part::RulesV4
            | Part::RulesNat
            | Part::RulesForward
            | Part::RulesV6 => None,
        };
        if let Some(target) = target {
            targets.file(target, entry.size)?;
        }
    }
    for needs in [spool, targets] {
        needs.check("unpack the backup").map_err(Fault::Refused)?;
    }
    Ok(())
}

type Databases = (Vec<CheckedDatabase>, Option<Vec<Client>>, Rebuilt);

fn check_databases(
    profile: &Profile,
    archive: &mut Archive,
    origin: Origin,
    found: &mut Found,
) -> Result<Databases, Fault> {
    let mut databases = Vec::new();
    let mut clients = None;
    let mut rebuilt = Rebuilt {
        room: Room::new(&profile.spool_dir())?,
        entries: BTreeSet::new(),
    };
    for known in &profile.gateway.database {
        if archive.entry(&known.name).is_none() {
            continue;
        }
        let path = rebuilt.room.file("database");
        let copied = extract(archive, &known.name, &path)?;
        let mut file = in_backup(archive, &known.name, &copied);
        let made = rebuilt.place(&known.name);
        let taken = database::check(&path, &known.name, known.kind, origin).and_then(|said| {
            found.warnings.extend(said);
            match origin {
                Origin::Here => keep_own(&path, &made, known, found),
                Origin::Elsewhere => copy_rows(profile, &path, &made, known, found),
            }
        });
        remove(&path)?;
        if let Err(problems) = taken {
            found.problems.extend(problems);
            continue;
        }
        let digest = digest(&made)?;
        if digest.sha256 != file.sha256 {
            rebuilt.entries.insert(known.name.clone());
            (file.size, file.sha256) = (digest.size, digest.sha256);
        }
        let unreadable = |problem: Problem| {
            Fault::Refused(vec![Problem {
                what: format!(
                    "accept the database {} of the backup: cannot {}",
                    known.name, problem.what
                ),
                advice: "make a new backup, or take another one".into(),
                ..problem
            }])
        };
        let mut mail = None;
        let users = match known.kind {
            DatabaseKind::Users => {
                mail = database::mail_relay_of_copy(&made).map_err(unreadable)?;
                database::users_of_copy(&made).map_err(unreadable)?
            }
            DatabaseKind::Clients => {
                clients = Some(database::clients_of_copy(&made).map_err(unreadable)?);
                Vec::new()
            }
        };
        if !rebuilt.entries.contains(&known.name) {
            remove(&made)?;
        }
        databases.push(CheckedDatabase {
            name: known.name.clone(),
            kind: known.kind,
            file,
            users,
            mail,
        });
    }
    Ok((databases, clients, rebuilt))
}

/// A database of this box's own goes back as it is, with what the application needs besides.
fn keep_own(
    path: &Path,
    made: &Path,
    known: &profile::Database,
    found: &mut Found,
) -> Result<(), Vec<Problem>> {
    let added = database::add_what_is_missing(path, &known.name, known.kind)?;
    found.warnings.extend(added);
    std::fs::rename(path, made).map_err(|e| vec![spool_problem(made, &e)])
}

/// Of a database from elsewhere only the rows come.
fn copy_rows(
    profile: &Profile,
    path: &Path,
    made: &Path,
    known: &profile::Database,
    found: &mut Found,
) -> Result<(), Vec<Problem>> {
    let live = database::Live::new(profile);
    let present = match known.path.exists().then(|| live.shape(&known.path)) {
        None => None,
        Some(Ok(shape)) => Some(shape),
        Some(Err(problem)) => {
            found.warnings.push(format!(
                "what the gateway's present {} has besides the usual tables is not known: cannot {}",
                known.name, problem.what
            ));
            None
        }
    };
    let terms = Terms {
        name: &known.name,
        kind: known.kind,
        present: present.as_ref(),
        folders: folders(profile),
    };
    found
        .warnings
        .extend(database::copy_rows(path, made, terms)?);
    Ok(())
}

fn spool_problem(path: &Path, e: &io::Error) -> Problem {
    cannot(
        format!("keep {}: {e}", path.display()),
        "see whether that disk is full or failing",
    )
}

fn remove(path: &Path) -> Result<(), Problem> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(spool_problem(path, &e)),
        _ => Ok(()),
    }
}

fn digest(path: &Path) -> Result<Copied, Problem> {
    let hashed = || -> io::Result<Copied> {
        let mut file = File::open(path)?;
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        let mut size = 0;
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            size += n as u64;
        }
        let sha256 = Digest::of_bytes(hash.finalize().into());
        Ok(Copied { size, sha256 })
    };
    hashed().map_err(|e| spool_problem(path, &e))
}

fn extract(archive: &mut Archive, entry: &str, path: &Path) -> Result<Copied, Fault> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| {
            cannot(
                format!("make {}: {e}", path.display()),
                "see whether that disk is full or failing",
            )
        })?;
    archive.copy(entry, &mut file)
}

fn in_backup(archive: &Archive, entry: &str, copied: &Copied) -> FileInBackup {
    let manifest = archive.metadata().holdfast.as_ref();
    FileInBackup {
        entry: entry.to_owned(),
        size: copied.size,
        sha256: copied.sha256.clone(),
        owner: manifest.and_then(|m| m.owner_of_entry(entry)),
    }
}

fn check_configs(
    archive: &mut Archive,
    found: &mut Found,
) -> Result<BTreeMap<String, CheckedConfig>, Fault> {
    let entries: Vec<(String, String, bool)> = archive
        .entries()
        .iter()
        .filter_map(|e| match &e.part {
            Part::Config(file) => Some((file.clone(), e.name.clone(), true)),
            Part::SecondCopy(file) => Some((file.clone(), e.name.clone(), false)),
            _ => None,
        })
        .collect();
    let mut configs: BTreeMap<String, CheckedConfig> = BTreeMap::new();
    let mut left = entries.as_slice();
    while !left.is_empty() {
        let (batch, rest) = left.split_at(next_batch(left, archive));
        left = rest;
        let names: Vec<String> = batch.iter().map(|(_, entry, _)| entry.clone()).collect();
        if let [name] = names.as_slice()
            && let Some(size) = archive
                .entry(name)
                .map(|e| e.size)
                .filter(|size| *size > CONFIG_MOST)
        {
            found.problems.push(cannot(
                format!(
                    "accept the config {}: it has {size} bytes, and the limit is {CONFIG_MOST}",
                    name.escape_debug()
                ),
                "take another backup; this is no config of a gateway",
            ));
            continue;
        }
        let read = archive.read_many(&names)?;
        let mut start = 0;
        for ((file, entry, is_first), (end, copied)) in batch.iter().zip(&read.entries) {
            let config = wgconf::parse(entry, &read.bytes[start..*end]);
            start = *end;
            match config {
                Ok(config) => {
                    warn_of(entry, &config, found);
                    keep(
                        &mut configs,
                        file,
                        *is_first,
                        in_backup(archive, entry, copied),
                        &config,
                    );
                }
                Err(problem) => found.problems.push(problem),
            }
        }
    }
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

/// How many of these to read at once: of modest size together, at least one.
fn next_batch(entries: &[(String, String, bool)], archive: &Archive) -> usize {
    let mut size = 0u64;
    let fits = |(_, entry, _): &&(String, String, bool)| {
        size = size.saturating_add(archive.entry(entry).map_or(0, |e| e.size));
        size <= CONFIG_MOST
    };
    entries.iter().take(BATCH).take_while(fits).count().max(1)
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
fn warn_of(entry: &str, config: &Config, found: &mut Found) {
    let entry = name(entry);
    if config.interface.save_config {
        found.warnings.push(format!(
            "{entry} has SaveConfig: the gateway writes over it when the tunnel goes down"
        ));
    }
    for (key, set) in [
        ("Table", &config.interface.table),
        ("FwMark", &config.interface.fwmark),
    ] {
        match set {
            Some(value) if redact::may_be_a_key(value) => {
                found.warnings.push(format!("{entry} sets {key}"));
            }
            Some(value) => found
                .warnings
                .push(format!("{entry} sets {key} = {}", name(value))),
            None => {}
        }
    }
    let all = config.warnings.iter().chain(&config.unfit);
    found
        .warnings
        .extend(all.map(|w| format!("{entry}: {}", w.escape_debug())));
}

fn rules(archive: &mut Archive, entry: &str, found: &mut Found) -> Result<Option<String>, Fault> {
    if archive.entry(entry).is_none() {
        return Ok(None);
    }
    let bytes = archive.read_small(entry, RULES_MOST)?;
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|t| !t.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    match text {
        None => {
            found.problems.push(cannot(
                format!("accept {entry} of the backup: it is not text"),
                "make a new backup, or take another one",
            ));
            Ok(None)
        }
        // Where Holdfast wrote it, it was so: no rules. The gateway's own backup writes an empty file when it may not look.
        Some(text) if text.trim().is_empty() && archive.metadata().holdfast.is_none() => {
            found
                .warnings
                .push(format!("{entry} is empty: the rules stay as they are"));
            Ok(None)
        }
        Some(text) => Ok(Some(text)),
    }
}

/// Where configs of clients lie on this gateway, or on a usual one.
fn folders(profile: &Profile) -> [&Path; 4] {
    [
        &profile.gateway.wireguard_dir,
        &profile.gateway.configs_dir,
        Path::new("/etc/wireguard"),
        Path::new("/opt/wireguard-gateway/instance/configs"),
    ]
}

/// What one part says of another.
fn across_parts(profile: &Profile, checked: &mut Checked) {
    let warnings = &mut checked.warnings;
    let manifest = checked.archive.metadata().holdfast.as_ref();
    match manifest {
        Some(manifest) => warnings.extend(
            manifest
                .warnings
                .iter()
                .map(|w| format!("when the backup was made: {}", w.escape_debug())),
        ),
        // It could have been cut out as well (A8).
        None => warnings.push(NO_MANIFEST.into()),
    }
    for known in &profile.gateway.database {
        if known.path.exists() && !checked.databases.iter().any(|d| d.name == known.name) {
            checked.missing.push(format!(
                "the backup has no {}: that database stays as it is",
                known.name
            ));
        }
    }
    if checked.rules_v4.is_none() {
        checked
            .missing
            .push("the backup has no rules for IPv4: they stay as they are".into());
    }
    if checked.rules_v6.is_none() {
        checked
            .missing
            .push("the backup has no rules for IPv6: they stay as they are".into());
    }
    let clients = checked.clients.as_deref().unwrap_or_default();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    let mut without_config = Vec::new();
    for client in clients {
        let shown = name(&client.name);
        if !named.insert(&client.name) {
            warnings.push(format!("two clients of the backup are named {shown}"));
        }
        let file = format!("{}.conf", client.name);
        if !checked.configs.contains_key(&file) {
            without_config.push(&client.name);
        }
        let path = Path::new(&client.config_path);
        let plain = path.file_name().is_some_and(|n| n == file.as_str())
            && path.parent().is_some_and(|p| folders(profile).contains(&p));
        if !plain {
            warnings.push(format!(
                "the database says that the config of client {shown} lies at {}, which is not a place for it; Holdfast does not use that path, the gateway does",
                name(&client.config_path)
            ));
        }
    }
    match without_config.as_slice() {
        [] => {}
        [one] => warnings.push(format!(
            "the client {} of the backup has no config in it",
            name(one)
        )),
        many => warnings.push(format!(
            "{} of the backup have no config in it: {}",
            counted(many.len(), "client"),
            names(many)
        )),
    }
    leads_away(&checked.configs, warnings);
    let wanted: BTreeSet<&str> = match manifest {
        Some(m) => m.tunnels_up.iter().map(String::as_str).collect(),
        None => clients
            .iter()
            .filter(|c| c.status == "active")
            .map(|c| c.name.as_str())
            .collect(),
    };
    for tunnel in wanted {
        let config = checked.configs.get(&format!("{tunnel}.conf"));
        if config.is_some_and(|c| c.interface.is_some() && c.second.is_some()) {
            checked.tunnels_up.push(tunnel.to_owned());
        } else {
            warnings.push(format!(
                "the tunnel {} was up and cannot be here: it has no usable config",
                name(tunnel)
            ));
        }
    }
    // The others may come up later.
    let up: BTreeSet<&str> = checked.tunnels_up.iter().map(String::as_str).collect();
    let mut ports: BTreeMap<u16, Vec<&String>> = BTreeMap::new();
    for (file, config) in &checked.configs {
        if let Some(port) = config.listen_port.filter(|p| *p != 0) {
            ports.entry(port).or_default().push(file);
        }
    }
    for (port, files) in ports.iter().filter(|(_, files)| files.len() > 1) {
        let belongs_up = |file: &&&String| {
            let stem = file.strip_suffix(".conf");
            stem.is_some_and(|s| up.contains(s))
        };
        // Two of those are refused.
        if files.iter().filter(belongs_up).count() < 2 {
            checked
                .warnings
                .push(format!("{} listen on the same port, {port}", names(files)));
        }
    }
}

/// Tunnels that take over more than a site's own networks (A17).
fn leads_away(configs: &BTreeMap<String, CheckedConfig>, warnings: &mut Vec<String>) {
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
fn unfit(checked: &Checked) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut keys: BTreeMap<Mark, &str> = BTreeMap::new();
    let mut ports: BTreeMap<u16, &str> = BTreeMap::new();
    let mut routes: BTreeMap<Prefix, &str> = BTreeMap::new();
    for tunnel in &checked.tunnels_up {
        let Some(config) = checked.configs.get(&format!("{tunnel}.conf")) else {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn profile(dir: &Path) -> Profile {
        let mut profile = Profile {
            state_dir: dir.join("state"),
            ..Profile::default()
        };
        profile.gateway.configs_dir = dir.join("configs");
        profile.gateway.wireguard_dir = dir.join("wireguard");
        for database in &mut profile.gateway.database {
            database.path = dir.join(&database.name);
        }
        profile
    }

    fn fixture(name: &str) -> File {
        File::open(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../fixtures/data")
                .join(name),
        )
        .unwrap()
    }

    fn left_in_spool(profile: &Profile) -> usize {
        profile.spool_dir().read_dir().unwrap().count()
    }

    #[test]
    fn a_backup_that_the_gateway_made_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(dir.path());
        let checked = archive(&profile, fixture("gateway-5-own-backup.zip"), "b.zip").unwrap();
        let names: Vec<_> = checked.databases.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["configs.db", "wireguard.db", "app.db"]);
        assert_eq!(checked.clients.as_ref().unwrap().len(), 5);
        assert_eq!(checked.configs.len(), 5);
        assert!(
            checked.configs.values().all(|c| c.first == c.second),
            "one copy serves both places"
        );
        assert_eq!(checked.tunnels_up, ["c00000_30058fa2"]);
        assert!(checked.rules_v4.as_ref().unwrap().contains("*nat"));
        assert_eq!(checked.rules_v6, None);
        assert_eq!(checked.ip_forward, None);
        assert_eq!(checked.databases[1].users[0].username, "admin");
        assert_eq!(
            checked.missing,
            ["the backup has no rules for IPv6: they stay as they are"]
        );
        drop(checked);
        assert_eq!(left_in_spool(&profile), 0);
    }

    /// A backup like the gateway's own, of these active clients with these configs.
    fn of_configs(dir: &Path, configs: &[(&str, String)]) -> Result<Checked, Fault> {
        let profile = profile(dir);
        let database = dir.join("clients.db");
        let conn = rusqlite::Connection::open(&database).unwrap();
        conn.execute_batch("CREATE TABLE clients (id TEXT, name TEXT, config_path TEXT, subnet TEXT, public_key TEXT, status TEXT)")
            .unwrap();
        for (client, _) in configs {
            let row = "INSERT INTO clients VALUES (?1, ?1, '/etc/wireguard/' || ?1 || '.conf', '10.9.0.0/24', 'k', 'active')";
            conn.execute(row, [client]).unwrap();
        }
        conn.close().unwrap();
        let names: Vec<String> = configs.iter().map(|(c, _)| format!("{c}.conf")).collect();
        let metadata = serde_json::json!({
            "backup_version": "1.0",
            "created_at": "2026-11-22T18:52:20.618214+00:00",
            "contents": {"databases": ["configs.db"], "configs": names, "iptables_rules": []},
        });
        let path = dir.join("b.zip");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        let mut put = |name: &str, bytes: &[u8]| {
            use std::io::Write;
            zip.start_file(name, zip::write::SimpleFileOptions::default())
                .unwrap();
            zip.write_all(bytes).unwrap();
        };
        put("configs.db", &std::fs::read(&database).unwrap());
        for (name, (_, text)) in names.iter().zip(configs) {
            put(&format!("configs/{name}"), text.as_bytes());
        }
        put("backup_metadata.json", metadata.to_string().as_bytes());
        zip.finish().unwrap();
        archive(&profile, File::open(&path).unwrap(), "b.zip")
    }

    fn config(key: char, interface: &str, allowed: &str) -> String {
        let key = format!("{}A=", key.to_string().repeat(42));
        format!(
            "[Interface]\nPrivateKey = {key}\n{interface}\n[Peer]\nPublicKey = {key}\nAllowedIPs = {allowed}\n"
        )
    }

    #[test]
    fn tunnels_that_could_not_come_up_beside_each_other_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let beside = |a: String, b: String| {
            let made = dir.path().join("made");
            if made.exists() {
                std::fs::remove_dir_all(&made).unwrap();
            }
            std::fs::create_dir(&made).unwrap();
            match of_configs(&made, &[("a", a), ("b", b)]) {
                Ok(_) => String::new(),
                Err(Fault::Refused(problems)) => {
                    problems.iter().map(|p| format!("{}\n", p.what)).collect()
                }
                Err(other) => panic!("{other:?}"),
            }
        };
        let a = || config('x', "ListenPort = 5000", "10.9.0.0/24");
        assert_eq!(
            beside(a(), config('y', "ListenPort = 5001", "10.9.1.0/24")),
            ""
        );
        assert_eq!(
            beside(a(), config('x', "", "10.9.1.0/24")),
            "bring b of the backup up: it has the private key of a\n"
        );
        assert_eq!(
            beside(a(), config('y', "ListenPort = 5000", "10.9.1.0/24")),
            "bring b of the backup up: a listens on the same port, 5000\n"
        );
        assert_eq!(
            beside(a(), config('y', "", "10.9.1.0/24, 10.9.0.7/24")),
            "bring b of the backup up: a has the network 10.9.0.0/24 in its AllowedIPs as well\n"
        );
        assert_eq!(beside(a(), config('y', "Table = off", "10.9.0.0/24")), "");
        assert_eq!(
            beside(a(), config('y', "ListenPort = 0", "10.9.0.0/16")),
            ""
        );
        let bad = config('y', "Address = $(id)\nFoo = 1", "10.9.1.0/24");
        assert_eq!(
            beside(a(), bad),
            "bring b of the backup up: line 3: Address $(id) is not an address\n\
             bring b of the backup up: line 4: nothing knows the setting Foo here\n"
        );
    }

    #[test]
    fn a_tunnel_that_takes_all_traffic_is_named_also_in_halves() {
        let dir = tempfile::tempdir().unwrap();
        let configs = [
            ("a", config('x', "", "0.0.0.0/1, 128.0.0.0/1")),
            ("b", config('y', "", "127.0.0.0/8")),
            ("c", config('z', "", "10.9.0.0/24, ::/0")),
        ];
        let checked = of_configs(dir.path(), &configs).unwrap();
        let said = checked.warnings.join("\n");
        assert!(
            said.contains(
                "2 configs send all traffic into their tunnels (AllowedIPs): a.conf, c.conf"
            ),
            "{said}"
        );
        assert!(
            said.contains("b.conf sends the box's traffic with itself (127.0.0.0/8 or ::1)"),
            "{said}"
        );
    }

    #[test]
    fn a_backup_without_rules_is_accepted_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let checked = archive(
            &profile(dir.path()),
            fixture("backup_without_iptables.zip"),
            "b.zip",
        )
        .unwrap();
        assert_eq!(checked.rules_v4, None);
        insta::assert_snapshot!([checked.warnings, checked.missing].concat().join("\n"), @r"
        the config Zweigstelle Köln_e16e2613.conf can never come up: Zweigstelle Köln_e16e2613 cannot be the name of an interface: it has 26 bytes, 1 to 15 are allowed
        the config branch-office-3_2308c6cb.conf can never come up: branch-office-3_2308c6cb cannot be the name of an interface: it has 24 bytes, 1 to 15 are allowed
        the backup has no manifest of Holdfast's (the gateway's own backups have none): nothing vouches for what is in it, and nobody can tell whether it was changed since it was made
        the backup has no rules for IPv4: they stay as they are
        the backup has no rules for IPv6: they stay as they are
        ");
    }

    /// A backup with this client database, and no manifest, as a file.
    fn packed(dir: &Path, sql: &str) -> PathBuf {
        let database = dir.join("packed.db");
        let _ = std::fs::remove_file(&database);
        let conn = rusqlite::Connection::open(&database).unwrap();
        conn.execute_batch(include_str!("../../fixtures/data/clients.sql"))
            .unwrap();
        conn.execute_batch(sql).unwrap();
        conn.close().unwrap();
        let path = dir.join("packed.zip");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        let metadata = r#"{"backup_version":"1.0","created_at":"2026-11-22T18:52:20+00:00",
            "contents":{"databases":["configs.db"],"configs":[],"iptables_rules":[]}}"#;
        for (name, bytes) in [
            ("configs.db", std::fs::read(&database).unwrap()),
            ("backup_metadata.json", metadata.into()),
        ] {
            zip.start_file(name, zip::write::SimpleFileOptions::default())
                .unwrap();
            io::Write::write_all(&mut zip, &bytes).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    const ROWS: &str = "INSERT INTO clients (id, name, config_path, subnet, public_key) VALUES
          ('1', 'beta', '/tmp/evil.conf', '10.2.0.0/24', 'k');
        CREATE TABLE own (a CHECK (a > 0)); INSERT INTO own VALUES (1);
        CREATE TRIGGER t AFTER INSERT ON own BEGIN SELECT 1; END;";

    #[test]
    fn a_backup_of_this_box_goes_back_as_it_is_and_the_same_one_from_elsewhere_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(dir.path());
        let path = packed(dir.path(), ROWS);
        let refused = archive(&profile, File::open(&path).unwrap(), "b.zip").unwrap_err();
        assert!(
            refused.to_string().contains("it has a trigger, t"),
            "{refused}"
        );
        let sha256 = digest(&path).unwrap().sha256;
        std::fs::create_dir_all(&profile.state_dir).unwrap();
        made::remember(&profile, &sha256).unwrap();
        let checked = archive(&profile, File::open(&path).unwrap(), "b.zip").unwrap();
        assert_eq!(checked.rebuilt.file("configs.db"), None);
        let packed = digest(&dir.path().join("packed.db")).unwrap();
        assert_eq!(checked.databases[0].file.sha256, packed.sha256);
        let clients = checked.clients.as_ref().unwrap();
        assert_eq!(clients[0].config_path, "/tmp/evil.conf");
        assert!(
            checked
                .warnings
                .iter()
                .any(|w| w.contains("lies at /tmp/evil.conf")),
            "{:?}",
            checked.warnings
        );
    }

    #[test]
    fn of_a_backup_from_elsewhere_the_plan_gets_the_fresh_file_twice_the_same_and_none_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(dir.path());
        let rows = ROWS.split("CREATE TRIGGER").next().unwrap();
        let path = packed(dir.path(), rows);
        let checked = || archive(&profile, File::open(&path).unwrap(), "b.zip").unwrap();
        let (one, two) = (checked(), checked());
        assert_eq!(one.databases[0].file, two.databases[0].file);
        assert_eq!(one.warnings, two.warnings);
        let fresh = one.rebuilt.file("configs.db").unwrap();
        let is = digest(&fresh).unwrap();
        let planned = &one.databases[0].file;
        assert_eq!((is.size, is.sha256), (planned.size, planned.sha256.clone()));
        let own = profile.gateway.wireguard_dir.join("beta.conf");
        let clients = one.clients.as_ref().unwrap();
        assert_eq!(Path::new(&clients[0].config_path), own);
        let said = one.warnings.join("\n");
        assert!(said.contains("will name"), "{said}");
        assert!(said.contains("no table own: its 1 row"), "{said}");
        drop((one, two));
        assert_eq!(left_in_spool(&profile), 0);
    }
}
