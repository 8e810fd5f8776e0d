//! What makes a backup acceptable, beyond its structure: every byte read against its digest, every database checked as a
//! private copy, every config parsed, rules readable, room to unpack. What it found is kept, so that nothing has to be
//! read twice to plan. Of this host it asks the present databases' shapes and the room on its disks; whether its programs and
//! its kernel can do it is asked elsewhere. Must not change anything but the spool.

mod across;
mod checked;
mod configs;
mod databases;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use checked::{BackupRules, Checked, CheckedDatabase, FileInBackup};
pub use configs::CheckedConfig;
pub use databases::rows;
use databases::{check_databases, digest, extract};
use journal_format::{ArchiveInfo, Digest, Note};

use crate::archive::lost::Lost;
use crate::archive::{Archive, EntryKind, RULES_V4, RULES_V6};
use crate::error::{Code, Fault, Problem, cannot};
use crate::files::space::Needs;
use crate::files::spool::Room;
use crate::gateway::database::{self, Origin, Shape};
use crate::gateway::parts::Part;
use crate::gateway::profile::{DatabaseKind, Profile};
use crate::parallel;
use crate::state_dir::made;
use crate::text::iptables::{Family, Rules};
use crate::text::wording::{name, names};

/// What is said of a backup that the gateway made itself.
pub const NO_MANIFEST: &str = "the backup has no manifest of Holdfast's (the gateway's own backups have none): nothing vouches \
     for what is in it, and nobody can tell whether it was changed since it was made";

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
    let databases = profile.gateway.database_names();
    let made_here = |digest: &Digest| made::knows(profile, digest);
    let mut archive = Archive::open(file, name, &profile.limits, &databases, &made_here)?;
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
    let info = info(&archive, sha256);
    let mut manifest = archive.metadata.holdfast.take();
    let peers = manifest.as_mut().map(|m| std::mem::take(&mut m.peers));
    let mut checked = Checked {
        origin,
        manifest,
        peers: peers.unwrap_or_default(),
        databases,
        lists_configs: archive.metadata.contents.configs.is_some(),
        configs: rest.configs,
        clients,
        rules,
        tunnels_up: Vec::new(),
        lost: found.lost,
        warnings: found.warnings,
        missing: Vec::new(),
        stays: found.stays,
        kept: rest.kept,
        kept_rules: rest.kept_rules,
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

fn info(archive: &Archive, sha256: Digest) -> ArchiveInfo {
    let metadata = &archive.metadata;
    ArchiveInfo {
        name: archive.name.clone(),
        sha256,
        size: archive.size,
        created_at: metadata.created_at.clone(),
        host: metadata.holdfast.as_ref().and_then(|m| m.host.clone()),
        made_by: metadata.made_by().to_owned(),
    }
}

/// What is neither a database nor rules in force.
struct Rest {
    configs: BTreeMap<String, CheckedConfig>,
    kept: BTreeMap<Family, FileInBackup>,
    kept_rules: BTreeMap<Family, Rules>,
    found: Findings,
}

fn check_rest(archive: &Archive, origin: Origin) -> Result<Rest, Fault> {
    let mut found = Findings::default();
    let configs = configs::check_configs(archive, &mut found)?;
    let (kept, kept_rules) = rules::kept(archive, origin, &mut found)?;
    if archive.passed_over() > 0 {
        let text = format!(
            "passed over {} that a tool added when the backup was packed again (__MACOSX, .DS_Store and the like)",
            match archive.passed_over() {
                1 => "1 entry".to_owned(),
                n => format!("{n} entries"),
            }
        );
        found
            .warnings
            .push(Note::known(Code::ARCHIVE_REPACKED, text));
    }
    for entry in archive.entries().iter().filter(|e| only_read(&e.part())) {
        archive.copy(&entry.name, &mut io::sink())?;
    }
    Ok(Rest {
        configs,
        kept,
        kept_rules,
        found,
    })
}

impl Checked {
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
            let said = format!(
                "the tunnel {shown} was up and stays down: {why}; its config is put in place{client}"
            );
            Lost::tunnel(&shown, said)
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
    warnings: Vec<Note>,
    stays: BTreeSet<String>,
}

/// What is read for its digest alone: it is not looked into, or not before a plan.
fn only_read(part: &EntryKind<'_>) -> bool {
    match part {
        EntryKind::RulesText | EntryKind::RawDatabase { .. } | EntryKind::UnknownDatabase => true,
        // Those that are not put back.
        EntryKind::RawConfig(name) | EntryKind::RawSecondCopy(name) => {
            !configs::can_be_put_back(name)
        }
        EntryKind::Metadata
        | EntryKind::Database(_)
        | EntryKind::Config(_)
        | EntryKind::SecondCopy(_)
        | EntryKind::Rules
        | EntryKind::Kept(_) => false,
    }
}

impl Findings {
    /// What a database has in it that is worth a word.
    fn odd(&mut self, database: &str, said: impl IntoIterator<Item = String>) {
        let notes = said
            .into_iter()
            .map(|said| Note::known(Code::DATABASE_ODD, said));
        self.warnings.extend(notes.map(|note| note.about(database)));
    }

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
                Code::ARCHIVE_UNFIT,
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
            | EntryKind::Rules
            | EntryKind::RulesText
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
