//! What makes a backup acceptable, beyond its structure: every byte read against its digest, every database checked as a
//! private copy, every config parsed, rules readable, room to unpack. What it found is kept, so that nothing has to be
//! read twice to plan. Of this host it asks the present databases' shapes and the room on its disks; whether its programs and
//! its kernel can do it is asked elsewhere. Must not change anything but the spool.

mod across;
mod configs;
mod databases;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use configs::CheckedConfig;
use databases::{check_databases, digest, extract};
use journal_format::{ArchiveInfo, Digest};

use crate::archive::lost::Lost;
use crate::archive::manifest::{EntryFacts, Manifest};
use crate::archive::{Archive, EntryKind, RULES_V4, RULES_V6};
use crate::error::{Fault, Problem, cannot};
use crate::files::space::Needs;
use crate::files::spool::Room;
use crate::gateway::account::{Account, MailRelay};
use crate::gateway::consent::{Consent, Hook};
use crate::gateway::database::{self, Client, Origin, Shape};
use crate::gateway::parts::{Part, PartFate};
use crate::gateway::peers::Peers;
use crate::gateway::profile::{DatabaseKind, Profile};
use crate::parallel;
use crate::state_dir::made;
use crate::text::iptables::Family;
use crate::text::wg_config::Prefix;
use crate::text::wording::{name, names};

/// What is said of a backup that the gateway made itself.
pub const NO_MANIFEST: &str = "the backup has no manifest of Holdfast's (the gateway's own backups have none): nothing vouches \
     for what is in it, and nobody can tell whether it was changed since it was made";

/// What is in a backup that is acceptable.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Whether this box made it.
    pub origin: Origin,
    /// Holdfast's manifest, less what became of it below; none in a backup that the gateway made.
    pub manifest: Option<Manifest>,
    /// The databases, by name.
    pub databases: BTreeMap<String, CheckedDatabase>,
    /// The configs by file name, as `a.conf`.
    pub configs: BTreeMap<String, CheckedConfig>,
    /// The clients in its client database, without the places of their configs; none if it has no such database.
    pub clients: Option<Vec<Client>>,
    /// Its firewall rules.
    pub rules: BackupRules,
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

/// One file in a backup, which was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInBackup {
    /// The entry that holds it.
    pub entry: Box<str>,
    /// What it holds, and whose it was.
    pub facts: EntryFacts,
}

/// The archive of a backup that was checked.
#[derive(Debug)]
pub struct Opened {
    /// What a plan says of it.
    pub info: ArchiveInfo,
    /// The open archive; its manifest went to [`Checked`].
    pub archive: Archive,
    /// The databases that will not be put in place byte for byte as the archive has them.
    pub rebuilt: Rebuilt,
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
    /// What is in it.
    pub kind: DatabaseKind,
    /// The file, as it will be put in place.
    pub file: FileInBackup,
    /// Of one that is there as bytes alone, the files beside it: what each name has behind the database's.
    pub beside: Option<Vec<(&'static str, FileInBackup)>>,
    /// Its users, if it is of that kind.
    pub users: Vec<Account>,
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
) -> Result<(Checked, Opened), Fault> {
    archive_beside(profile, present, file, name, |_| ()).map(|(checked, ())| checked)
}

/// The same with other work, which needs nothing but the rules, beside it.
pub fn archive_beside<T: Send>(
    profile: &Profile,
    present: &Present<'_>,
    file: File,
    name: &str,
    work: impl Fn(&BackupRules) -> T + Sync,
) -> Result<((Checked, Opened), T), Fault> {
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
        v4: rules::rules(&archive, RULES_V4, &mut of_rules)?,
        v6: rules::rules(&archive, RULES_V6, &mut of_rules)?,
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
    let metadata = &archive.metadata;
    let info = ArchiveInfo {
        name: archive.name.clone(),
        sha256,
        size: archive.size,
        created_at: metadata.created_at.clone(),
        host: metadata.holdfast.as_ref().and_then(|m| m.host.clone()),
        made_by: metadata.made_by().to_owned(),
    };
    let mut manifest = archive.metadata.holdfast.take();
    let peers = manifest.as_mut().map(|m| std::mem::take(&mut m.peers));
    let mut checked = Checked {
        origin,
        manifest,
        peers: peers.unwrap_or_default(),
        databases,
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
    across::across_parts(profile, &mut checked);
    let belong_up = std::mem::take(&mut checked.tunnels_up);
    let able = configs::able(origin, belong_up, &checked.configs);
    if !able.problems.is_empty() {
        return Err(Fault::Refused(able.problems));
    }
    checked.tunnels_up = able.up;
    let mut opened = Opened {
        info,
        archive,
        rebuilt,
    };
    checked.stay_down(&mut opened, able.down)?;
    Ok(((checked, opened), worked))
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
    let kept = rules::kept(archive, origin, &mut found)?;
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
    /// All files that may be put in place.
    pub fn files(&self) -> impl Iterator<Item = &FileInBackup> {
        let databases = self.databases.values().flat_map(|d| {
            let beside = d.beside.iter().flatten().map(|(_, file)| file);
            beside.chain([&d.file])
        });
        let configs = self.configs.values();
        let configs = configs.flat_map(|c| c.first.iter().chain(&c.second));
        databases.chain(configs).chain(self.kept.values())
    }

    /// What belongs into the folder of configs under this name.
    pub fn first(&self, file: &str) -> Option<&FileInBackup> {
        self.configs.get(file)?.first.as_ref()
    }

    /// What belongs into the folder of `wg-quick` under this name.
    pub fn second(&self, file: &str) -> Option<&FileInBackup> {
        self.configs.get(file)?.second.as_ref()
    }

    /// The networks of every config that could be a tunnel's, by interface.
    pub fn networks(&self) -> BTreeMap<&str, &[Prefix]> {
        let tunnels = self.configs.iter().filter(|(_, c)| c.can_be_a_tunnel);
        tunnels
            .map(|(file, c)| (file.strip_suffix(".conf").unwrap_or(file), &*c.networks))
            .collect()
    }

    /// What became of a part when it was made, where it says.
    pub fn fate(&self, part: &Part) -> Option<&PartFate> {
        self.manifest.as_ref()?.parts.get(part)
    }

    /// Whether packets were forwarded, where it says.
    pub fn forwards(&self, family: Family) -> Option<bool> {
        let manifest = self.manifest.as_ref()?;
        match family {
            Family::V4 => manifest.ip_forward,
            Family::V6 => manifest.ipv6_forward,
        }
    }

    /// Whether the file that keeps these rules was not there when it was made, on this very box.
    pub fn kept_gone(&self, family: Family) -> bool {
        let fate = self.fate(&Part::Kept(family));
        self.origin == Origin::Here && matches!(fate, Some(PartFate::NotThere))
    }

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
    pub fn stay_down(
        &mut self,
        opened: &mut Opened,
        tunnels: BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        let names: BTreeSet<String> = tunnels.keys().cloned().collect();
        let called = self.call_inactive(opened, &names)?;
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
    fn call_inactive(
        &mut self,
        Opened {
            archive, rebuilt, ..
        }: &mut Opened,
        names: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Fault> {
        let clients = self.clients.iter_mut().flatten();
        let mut called = BTreeSet::new();
        for client in clients.filter(|c| c.status == "active" && names.contains(&c.name)) {
            client.status = "inactive".into();
            called.insert(client.name.clone());
        }
        let mut databases = self.databases.iter_mut();
        let database = databases.find(|(_, d)| d.kind == DatabaseKind::Clients);
        if let Some((name, database)) = database
            && !called.is_empty()
        {
            let path = rebuilt.place(name);
            if rebuilt.entries.insert(name.clone()) {
                extract(archive, name, &path)?;
            }
            database::call_inactive(&path, &called)?;
            database.file.facts = digest(&path, database.file.facts.owner)?;
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
            Lost::of(Part::Database(name).shown(), said)
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
    let folder_of = |name: &str| {
        let known = g.database.iter().find(|d| d.name == name)?;
        known.path.parent()
    };
    for entry in archive.entries() {
        let target = match entry.part() {
            EntryKind::Database(name) => {
                spool.file(&profile.spool_dir(), entry.size.saturating_mul(2))?;
                folder_of(name)
            }
            EntryKind::Config(_) | EntryKind::RawConfig(_) => Some(g.configs_dir.as_path()),
            EntryKind::SecondCopy(_) | EntryKind::RawSecondCopy(_) => {
                Some(g.wireguard_dir.as_path())
            }
            EntryKind::RawDatabase { name, .. } => folder_of(&name),
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

/// Where configs of clients lie on this gateway, or on a usual one.
fn folders(profile: &Profile) -> [&Path; 4] {
    [
        &profile.gateway.wireguard_dir,
        &profile.gateway.configs_dir,
        Path::new("/etc/wireguard"),
        Path::new("/opt/wireguard-gateway/instance/configs"),
    ]
}

#[cfg(test)]
mod tests;
