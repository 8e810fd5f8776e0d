//! What makes a backup acceptable, beyond its structure: every byte read against its digest, every database checked as a
//! private copy, every config parsed, rules readable, room to unpack. What it found is kept, so that nothing has to be
//! read twice to plan. Of this host it asks the present databases' shapes and the room on its disks; whether its programs and
//! its kernel can do it is asked elsewhere. Must not change anything but the spool.

mod configs;
mod databases;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use configs::{CheckedConfig, CopyOf};
use databases::{check_databases, digest, extract};
use journal_format::Digest;

use crate::archive::lost::Lost;
use crate::archive::{
    Archive, ArchiveEntry, Copied, EntryKind, KEPT_V4, KEPT_V6, RULES_V4, RULES_V6,
};
use crate::error::{Fault, Problem, cannot};
use crate::files::space::Needs;
use crate::files::spool::Room;
use crate::gateway::account::MailRelay;
use crate::gateway::consent::{Consent, Hook};
use crate::gateway::database::{self, Client, Origin, Shape, User};
use crate::gateway::parts::{self, PartFate};
use crate::gateway::peers::{self, Peers};
use crate::gateway::profile::{DatabaseKind, Profile};
use crate::parallel;
use crate::state_dir::made;
use crate::text::iptables::{self, Family};
use crate::text::octets;
use crate::text::wg_config;
use crate::text::wording::{Named, counted, name, names};

/// What is said of a backup that the gateway made itself.
pub const NO_MANIFEST: &str = "the backup has no manifest of Holdfast's (the gateway's own backups have none): nothing vouches \
     for what is in it, and nobody can tell whether it was changed since it was made";
/// Characters that are shown of what a backup says itself.
const SAID_MOST: usize = 4096;
/// `iptables-save` of a gateway with 10,000 tunnels has about 3 MiB.
const RULES_MOST: u64 = 16 << 20;

/// A backup that is acceptable, and what is in it.
#[derive(Debug)]
pub struct Checked {
    /// The open archive.
    pub archive: Archive,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Whether this box made it.
    pub origin: Origin,
    /// The databases, in the order of the profile.
    pub databases: Vec<CheckedDatabase>,
    /// Those that will not be put in place byte for byte as the archive has them.
    pub rebuilt: Rebuilt,
    /// The configs by file name, as `a.conf`.
    pub configs: BTreeMap<String, CheckedConfig>,
    /// The clients in its client database, without the places of their configs; none if it has no such database.
    pub clients: Option<Vec<Client>>,
    /// Its firewall rules.
    pub rules: BackupRules,
    /// `net.ipv4.ip_forward`, if a manifest says it.
    pub ip_forward: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`, if a manifest says it.
    pub ipv6_forward: Option<bool>,
    /// The peers of tunnels that had others than those of their configs, if a manifest says it: only of tunnels that belong up.
    pub peers: BTreeMap<String, Peers>,
    /// Tunnels that belong up afterwards, by interface: those that the manifest says were up, else the active clients.
    /// Only those whose config is in the backup and whose name an interface can have.
    pub tunnels_up: Vec<String>,
    /// What of its databases has no place on this gateway, or is here now and will be empty.
    pub lost: Vec<Lost>,
    /// What else a person should know.
    pub warnings: Vec<String>,
    /// Parts that the profile names and the backup lacks; a plan says it in its own words, knowing the gateway.
    pub missing: Vec<String>,
    /// Configs that it does not put back although they are in it, by file name: what is here stays as it is.
    pub stays: BTreeSet<String>,
    /// The files in which the box keeps rules, as the backup has them.
    pub kept: BTreeMap<Family, FileInBackup>,
}

/// The firewall rules of a backup, each family's if it has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupRules {
    /// `iptables-save`.
    pub v4: Option<String>,
    /// `ip6tables-save`.
    pub v6: Option<String>,
}

impl BackupRules {
    /// Those of a family.
    pub fn of(&self, family: Family) -> Option<&str> {
        match family {
            Family::V4 => self.v4.as_deref(),
            Family::V6 => self.v6.as_deref(),
        }
    }
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
    /// Of one that is there as bytes alone, the files beside it: what each name has behind the database's.
    pub beside: Option<Vec<(&'static str, FileInBackup)>>,
    /// Its users, if it is of that kind.
    pub users: Vec<User>,
    /// The mail relay that it names, if it is of that kind.
    pub mail: Option<MailRelay>,
}

/// Tells the tables of a database of the gateway's.
pub type Present<'p> = dyn Fn(&Path) -> Result<Shape, Problem> + Sync + 'p;

/// Reads and checks a whole backup. `name` is what people are shown.
pub fn archive(
    profile: &Profile,
    present: &Present<'_>,
    file: File,
    name: &str,
) -> Result<Checked, Fault> {
    archive_beside(profile, present, file, name, |_| ()).map(|(checked, ())| checked)
}

/// The same with other work, which needs nothing but the rules, beside it.
pub fn archive_beside<T: Send>(
    profile: &Profile,
    present: &Present<'_>,
    file: File,
    name: &str,
    work: impl Fn(&BackupRules) -> T + Sync,
) -> Result<(Checked, T), Fault> {
    let databases: Vec<&str> = profile
        .gateway
        .database
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    let made_here = |digest: &Digest| made::knows(profile, digest);
    let mut archive = Archive::open_hashed(file, name, &profile.limits, &databases, &made_here)?;
    room_to_unpack(profile, &archive)?;
    let sha256 = archive.sha256()?;
    let origin = match archive.made_here() {
        true => Origin::Here,
        false => Origin::Elsewhere,
    };
    let mut of_rules = Findings::default();
    let rules = BackupRules {
        v4: rules(&archive, RULES_V4, &mut of_rules)?,
        v6: rules(&archive, RULES_V6, &mut of_rules)?,
    };
    // Databases take the longest; the rest is read beside them.
    let (databases, (worked, rest)) = parallel::both(
        || check_databases(profile, present, &archive, origin),
        || parallel::both(|| work(&rules), || check_rest(&archive, origin)),
    );
    let (mut found, (databases, clients, rebuilt)) = databases?;
    let rest = rest?;
    for more in [rest.found, of_rules] {
        found.problems.extend(more.problems);
        found.warnings.extend(more.warnings);
        found.lost.splice(0..0, more.lost);
        found.stays.extend(more.stays);
    }
    let anything_else =
        rules != BackupRules::default() || !(databases.is_empty() && rest.configs.is_empty());
    found.judge_databases(anything_else);
    found.judge_unknown(&archive.unknown_databases(), anything_else);
    if !found.problems.is_empty() {
        return Err(Fault::Refused(found.problems));
    }
    let manifest = archive.metadata().holdfast.as_ref();
    let mut checked = Checked {
        ipv6_forward: manifest.and_then(|m| m.ipv6_forward),
        peers: manifest.map(|m| m.peers.clone()).unwrap_or_default(),
        ip_forward: archive
            .metadata()
            .holdfast
            .as_ref()
            .and_then(|m| m.ip_forward),
        archive,
        sha256,
        origin,
        databases,
        rebuilt,
        configs: rest.configs,
        clients,
        rules,
        tunnels_up: Vec::new(),
        lost: found.lost,
        warnings: found.warnings,
        missing: Vec::new(),
        stays: found.stays,
        kept: rest.kept,
    };
    across_parts(profile, &mut checked);
    fit_peers(&mut checked);
    let belong_up = std::mem::take(&mut checked.tunnels_up);
    let able = configs::able(origin, belong_up, &checked.configs);
    if !able.problems.is_empty() {
        return Err(Fault::Refused(able.problems));
    }
    checked.tunnels_up = able.up;
    checked.stay_down(able.down)?;
    Ok((checked, worked))
}

/// What is neither a database nor rules in force.
struct Rest {
    configs: BTreeMap<String, CheckedConfig>,
    kept: BTreeMap<Family, FileInBackup>,
    found: Findings,
}

fn check_rest(archive: &Archive, origin: Origin) -> Result<Rest, Fault> {
    let mut found = Findings::default();
    let configs = configs::check_configs(archive, &mut found)?;
    let kept = kept(archive, origin, &mut found)?;
    if archive.passed_over() > 0 {
        found.warnings.push(format!(
            "passed over {} that a tool added when the backup was packed again (__MACOSX, .DS_Store and the like)",
            match archive.passed_over() {
                1 => "1 entry".to_owned(),
                n => format!("{n} entries"),
            }
        ));
    }
    for entry in archive.entries().iter().filter(|e| only_read(&e.part())) {
        archive.copy(&entry.name, &mut io::sink())?;
    }
    Ok(Rest {
        configs,
        kept,
        found,
    })
}

impl Checked {
    /// What its configs run as root and do not run today, where `now` tells what a tunnel runs.
    pub fn consent(&self, now: impl FnMut(&str) -> Vec<Hook>) -> Consent {
        let hooks = self.configs.iter().map(|(file, config)| {
            let stem = file.strip_suffix(".conf").unwrap_or(file);
            (stem, config.hooks())
        });
        let opaque = self
            .configs
            .values()
            .flat_map(|c| c.opaque().iter().cloned());
        Consent::new(hooks, now).with_opaque(opaque)
    }

    /// Keeps these tunnels down: each is named among what is lost, with the reason, and its client is called inactive.
    pub fn stay_down(&mut self, tunnels: BTreeMap<String, String>) -> Result<(), Fault> {
        let names: BTreeSet<String> = tunnels.keys().cloned().collect();
        let called = self.call_inactive(&names)?;
        let said = tunnels.into_iter().map(|(tunnel, why)| {
            let client = match called.contains(&tunnel) {
                true => " and its client is called inactive",
                false => "",
            };
            let shown = name(&tunnel);
            Lost::tunnel(format!(
                "the tunnel {shown} was up and stays down: {why}; its config is put in place{client}"
            ))
        });
        self.lost.splice(0..0, said);
        Ok(())
    }

    /// Those of these clients that the database of clients has, and that were active.
    fn call_inactive(&mut self, names: &BTreeSet<String>) -> Result<BTreeSet<String>, Fault> {
        let clients = self.clients.iter_mut().flatten();
        let mut called = BTreeSet::new();
        for client in clients.filter(|c| c.status == "active" && names.contains(&c.name)) {
            client.status = "inactive".into();
            called.insert(client.name.clone());
        }
        let mut databases = self.databases.iter_mut();
        let database = databases.find(|d| d.kind == DatabaseKind::Clients);
        if let Some(database) = database
            && !called.is_empty()
        {
            let path = self.rebuilt.place(&database.name);
            if self.rebuilt.entries.insert(database.name.clone()) {
                extract(&self.archive, &database.name, &path)?;
            }
            database::call_inactive(&path, &called)?;
            let is = digest(&path)?;
            (database.file.size, database.file.sha256) = (is.size, is.sha256);
        }
        Ok(called)
    }
}

#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    /// Databases of the backup that cannot be restored, and so count as absent.
    unfit: Vec<(String, Vec<Problem>)>,
    lost: Vec<Lost>,
    warnings: Vec<String>,
    stays: BTreeSet<String>,
}

/// What is read for its digest alone: it is not looked into, or not before a plan.
fn only_read(part: &EntryKind<'_>) -> bool {
    match part {
        EntryKind::RulesNat
        | EntryKind::RulesForward
        | EntryKind::RawDatabase { .. }
        | EntryKind::UnknownDatabase => true,
        // Those that are not put back.
        EntryKind::RawConfig(name) | EntryKind::RawSecondCopy(name) => {
            !configs::can_be_put_back(name)
        }
        EntryKind::Metadata
        | EntryKind::Database(_)
        | EntryKind::Config(_)
        | EntryKind::SecondCopy(_)
        | EntryKind::RulesV4
        | EntryKind::RulesV6
        | EntryKind::Kept(_) => false,
    }
}

impl Findings {
    /// A database that cannot be restored keeps nothing else from it, and comes first of what is lost. Where nothing else is
    /// in the backup, it is refused.
    fn judge_databases(&mut self, anything_else: bool) {
        let unfit = std::mem::take(&mut self.unfit);
        if !anything_else {
            self.problems
                .extend(unfit.into_iter().flat_map(|(_, why)| why));
            return;
        }
        let named = unfit.into_iter().map(|(name, problems)| {
            let why: Vec<String> = problems.into_iter().map(|p| p.what).collect();
            let said = format!(
                "the database {name} of the backup will not be restored, and the one that is here stays as it is: cannot {}",
                why.join("; ")
            );
            Lost::of(parts::Part::Database(name).shown(), said)
        });
        self.lost.splice(0..0, named);
    }

    /// So it is with databases that have no place here, since the profile does not name them.
    fn judge_unknown(&mut self, unknown: &[String], anything_else: bool) {
        const WHY: &str = "the profile has no [[gateway.database]] of that name";
        let what = match unknown {
            [] => return,
            [one] => format!("the database {}", name(one)),
            many => format!("the databases {}", names(many)),
        };
        if anything_else {
            let said = format!(
                "{what} of the backup will not be restored: {WHY}; add it there to restore that, too"
            );
            self.lost.insert(0, Lost::of(what, said));
        } else {
            self.problems.push(cannot(
                format!("restore {what}, and nothing else is in the backup: {WHY}"),
                "add it to the profile, then try again; nothing was changed",
            ));
        }
    }
}

/// Databases are unpacked into the spool to be checked, and rebuilt there; then all may be staged beside their targets.
fn room_to_unpack(profile: &Profile, archive: &Archive) -> Result<(), Fault> {
    let mut spool = Needs::default();
    let mut targets = Needs::default();
    let g = &profile.gateway;
    for entry in archive.entries() {
        let target = match entry.part() {
            EntryKind::Database(name) => {
                spool.file(&profile.spool_dir(), entry.size.saturating_mul(2))?;
                g.database
                    .iter()
                    .find(|d| d.name == name)
                    .and_then(|d| d.path.parent())
            }
            EntryKind::Config(_) | EntryKind::RawConfig(_) => Some(g.configs_dir.as_path()),
            EntryKind::SecondCopy(_) | EntryKind::RawSecondCopy(_) => {
                Some(g.wireguard_dir.as_path())
            }
            EntryKind::RawDatabase { name, .. } => g
                .database
                .iter()
                .find(|d| d.name == name)
                .and_then(|d| d.path.parent()),
            EntryKind::Kept(family) => g.firewall.kept_file(family).and_then(Path::parent),
            EntryKind::Metadata
            | EntryKind::RulesV4
            | EntryKind::RulesNat
            | EntryKind::RulesForward
            | EntryKind::RulesV6
            | EntryKind::UnknownDatabase => None,
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

fn in_backup(archive: &Archive, entry: &str, copied: &Copied) -> FileInBackup {
    FileInBackup {
        entry: entry.to_owned(),
        size: copied.size,
        sha256: copied.sha256.clone(),
        owner: archive.entry(entry).and_then(ArchiveEntry::owner),
    }
}

fn rules(archive: &Archive, entry: &str, found: &mut Findings) -> Result<Option<String>, Fault> {
    if archive.entry(entry).is_none() {
        return Ok(None);
    }
    let bytes = archive.read_small(entry, RULES_MOST)?;
    // A comment may have any byte but this one.
    let text = Some(octets::text(&bytes)).filter(|t| !t.contains('\0'));
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

/// The files in which the box keeps rules. They are loaded at each boot, as root: of those from elsewhere only what would be
/// taken as rules is put in place.
fn kept(
    archive: &Archive,
    origin: Origin,
    found: &mut Findings,
) -> Result<BTreeMap<Family, FileInBackup>, Fault> {
    let mut kept = BTreeMap::new();
    for (family, entry) in [(Family::V4, KEPT_V4), (Family::V6, KEPT_V6)] {
        let Some(size) = archive.entry(entry).map(|e| e.size) else {
            continue;
        };
        let vetted = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            // An empty file keeps no rules.
            let rules = match text.trim() {
                "" => return Ok(()),
                _ => iptables::parse(text, "it"),
            };
            rules.map(drop).map_err(|p| format!("cannot {}", p.what))
        };
        let (copied, taken) = if origin == Origin::Elsewhere && size <= RULES_MOST {
            let mut bytes = Vec::new();
            let copied = archive.copy(entry, &mut bytes)?;
            (copied, vetted(&bytes))
        } else {
            let taken = match origin {
                Origin::Here => Ok(()),
                Origin::Elsewhere => Err(format!("it has over {RULES_MOST} bytes")),
            };
            (archive.copy(entry, &mut io::sink())?, taken)
        };
        match taken {
            Ok(()) => {
                kept.insert(family, in_backup(archive, entry, &copied));
            }
            Err(why) => {
                let said = format!(
                    "the file in which the gateway that was backed up kept its {} rules is not put in place: {why}; the one \
                     here stays as it is",
                    family.name()
                );
                let part = parts::Part::Kept(family);
                found.lost.push(Lost::of(part.shown(), said));
            }
        }
    }
    Ok(kept)
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

/// Why these peers are not taken. As many as ran on this box can run on it again.
fn unfit(peers: &Peers, origin: Origin) -> Option<String> {
    if !peers::are_plain(peers) {
        return Some("they are not what wg prints of peers".into());
    }
    let too_many = origin == Origin::Elsewhere && peers.len() > wg_config::PEERS;
    too_many.then(|| {
        format!(
            "they are {}, and of a backup from elsewhere {} are taken at most",
            peers.len(),
            wg_config::PEERS
        )
    })
}

/// Keeps the peers of tunnels that belong up, if they are peers and nothing else.
fn fit_peers(checked: &mut Checked) {
    let origin = checked.origin;
    let up: BTreeSet<&String> = checked.tunnels_up.iter().collect();
    let (warnings, lost) = (&mut checked.warnings, &mut checked.lost);
    checked.peers.retain(|tunnel, peers| {
        if !up.contains(tunnel) {
            return false;
        }
        let unfit = unfit(peers, origin);
        if let Some(why) = &unfit {
            let said = format!(
                "the peers that {} had besides those of its config are not taken: {why}",
                name(tunnel)
            );
            lost.push(Lost::of(parts::Part::Peers.shown(), said));
        }
        unfit.is_none()
    });
    for (tunnel, peers) in &checked.peers {
        warnings.push(format!(
            "{} gets {} once it is up, as it had when the backup was made: its config has others",
            name(tunnel),
            counted(peers.len(), "peer")
        ));
    }
}

/// What one part says of another.
fn across_parts(profile: &Profile, checked: &mut Checked) {
    // Before what is said of single configs, of which there may be thousands.
    let mut first = Vec::new();
    let warnings = &mut checked.warnings;
    let manifest = checked.archive.metadata().holdfast.as_ref();
    match manifest {
        Some(manifest) => warnings.extend(
            manifest
                .warnings
                .iter()
                // Of any length: none is a reason not to take a backup.
                .map(|w| w.chars().take(SAID_MOST).collect::<String>())
                .map(|w| format!("when the backup was made: {}", journal_format::visible(&w))),
        ),
        // It could have been cut out as well.
        None => first.push(NO_MANIFEST.into()),
    }
    let fate = |part: parts::Part| manifest.and_then(|m| m.parts.get(&part));
    let mut missing = |part: parts::Part, what: &str, stays: &str| match fate(part) {
        // Said below, among what is lost.
        Some(PartFate::NotSaved { .. }) => {}
        Some(PartFate::NotThere) => checked.missing.push(format!(
            "there was no {what} when the backup was made: {stays}"
        )),
        Some(PartFate::Saved | PartFate::SavedRaw { .. }) | None => checked
            .missing
            .push(format!("the backup has no {what}: {stays}")),
    };
    for known in &profile.gateway.database {
        let raw = || {
            matches!(
                fate(parts::Part::Database(known.name.clone())),
                Some(PartFate::SavedRaw { .. })
            )
        };
        let there = checked.databases.iter().any(|d| d.name == known.name);
        if known.path.exists() && !there && !raw() {
            let part = parts::Part::Database(known.name.clone());
            missing(part, &known.name, "that database stays as it is");
        }
    }
    for family in Family::BOTH {
        if checked.rules.of(family).is_none() {
            let what = format!("rules for {}", family.name());
            missing(parts::Part::Rules(family), &what, "they stay as they are");
        }
    }
    if let Some(manifest) = manifest {
        let lacks = manifest.lacks().into_iter();
        // Read as if it had not been asked for, never as if it had not been there.
        checked.lost.splice(
            0..0,
            lacks.map(|lack| Lost::of_a_line(format!("{lack}; {}", lack.part.without()))),
        );
        checked.lost.extend(manifest.links.iter().map(|(path, target)| {
            Lost::of_a_line(format!(
                "{} was a link to {} and is not in the backup: what is here under that name stays as it is",
                name(path),
                name(target)
            ))
        }));
        if !manifest.unpaired.is_empty() {
            let count = manifest.unpaired.len();
            first.push(format!(
                "of {} the row and the files are not of one moment, since they changed while the backup was made: {}",
                counted(count, "client"),
                names(&manifest.unpaired)
            ));
        }
    }
    let clients = checked.clients.as_deref().unwrap_or_default();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    let mut without_config = Vec::new();
    for client in clients {
        let shown = Named(&client.name);
        if !named.insert(&client.name) {
            warnings.push(format!("two clients of the backup are named {shown}"));
        }
        let file = format!("{}.conf", client.name);
        if !checked.configs.contains_key(&file) {
            without_config.push(&client.name);
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
    configs::leads_away(&checked.configs, &mut first);
    warnings.splice(0..0, first);
    let known = manifest.filter(|m| {
        let tunnels = m.parts.get(&parts::Part::Tunnels);
        !matches!(tunnels, Some(PartFate::NotSaved { .. }))
    });
    let wanted: BTreeSet<&str> = match known {
        Some(m) => m.tunnels_up.iter().map(String::as_str).collect(),
        None => clients
            .iter()
            .filter(|c| c.status == "active")
            .map(|c| c.name.as_str())
            .collect(),
    };
    for tunnel in wanted {
        let config = checked.configs.get(&format!("{tunnel}.conf"));
        // Without any config in the backup those of now stay, and the planner sees to it.
        if checked.configs.is_empty()
            || config.is_some_and(|c| c.can_be_a_tunnel && c.second.is_some())
        {
            checked.tunnels_up.push(tunnel.to_owned());
        } else {
            let shown = name(tunnel);
            let said =
                format!("the tunnel {shown} was up and cannot be here: it has no usable config");
            match known {
                Some(_) => checked.lost.push(Lost::tunnel(said)),
                None => warnings.push(said),
            }
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

#[cfg(test)]
mod tests;
