//! Makes the plan: what the gateway is, what the backup says, and so what one restore will do. Pure: all that it needs is
//! given to it. Refuses what could not end well, and warns of what an admin would want to know first.

mod left_out;
pub mod said;

pub use left_out::LaidAside;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use journal_format::{
    ArchiveInfo, Change, Digest, FenceRules, FileFacts, Firewall, Plan, Policy, RestoreId, Service,
    Target, Tunnel,
};

use crate::archive;
use crate::error::{Problem, cannot};
use crate::gateway::account::{Account, MailRelay};
use crate::gateway::database::Client;
use crate::gateway::owner::{CONFIG_MODE, DATABASE_MODE, KEPT_MODE, Placement};
use crate::gateway::parts::{Part, PartFate};
use crate::gateway::profile::Profile;
use crate::plan::order;
use crate::plan::planner::said::Said;
use crate::survey::{HeldConfig, Survey};
use crate::text::iptables::Family;
use crate::text::wg_config::{Prefix, interface_name, merged};
use crate::text::wording::name as shown;

/// One entry of a backup that becomes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The entry that holds its bytes.
    pub entry: String,
    /// SHA-256 of them.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// Whose it was, if the backup says and that user exists here.
    pub owner: Option<Placement>,
    /// The same as people know it.
    pub owner_shown: Option<Rc<str>>,
}

/// What a checked backup says, as far as a plan needs it.
#[derive(Debug, Clone)]
pub struct BackupForPlan {
    /// The backup itself.
    pub archive: ArchiveInfo,
    /// Databases, by name.
    pub databases: BTreeMap<String, Wanted>,
    /// The files beside databases that are there as bytes alone, by the database's name: what the file's name has behind the
    /// database's, and the file.
    pub beside: BTreeMap<String, Vec<(&'static str, Wanted)>>,
    /// Client configs, by name.
    pub configs: BTreeMap<String, Wanted>,
    /// The copies that `wg-quick` uses, by name.
    pub wireguard: BTreeMap<String, Wanted>,
    /// Clients; none if their database is not in it.
    pub clients: Option<Vec<Client>>,
    /// The users of each user database.
    pub users: BTreeMap<String, Vec<Account>>,
    /// The mail relay that each user database names.
    pub mail: BTreeMap<String, MailRelay>,
    /// Tunnels that belong up.
    pub tunnels_up: Vec<String>,
    /// Networks of every config that could be a tunnel's, by interface.
    pub networks: BTreeMap<String, Vec<Prefix>>,
    /// The rules as the rehearsal printed them, with their digest.
    pub rules: BTreeMap<&'static str, Wanted>,
    /// `net.ipv4.ip_forward`, if the backup says.
    pub ip_forward: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`, if the backup says.
    pub ipv6_forward: Option<bool>,
    /// SHA-256 of the file with the peers that its tunnels had besides those of their configs.
    pub peers: Option<Digest>,
    /// Configs that were there when it was made and that it could not take: they stay as they are.
    pub left_out: BTreeSet<String>,
    /// Configs that it has and that are not put back: what is here under that name stays as it is.
    pub stays: BTreeSet<String>,
    /// What became of each part when it was made, where it says.
    pub parts: BTreeMap<Part, PartFate>,
    /// The files in which the box keeps rules.
    pub kept: BTreeMap<Family, Wanted>,
    /// Those that were not there when it was made, on this very box.
    pub kept_gone: BTreeSet<Family>,
    /// What else of it does not go back.
    pub aside: LaidAside,
    /// What was found while it was checked.
    pub warnings: Vec<String>,
    /// What [`said`] found when it compared it with the gateway.
    pub said: Said,
}

/// What the admin chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// A restore whose rules cannot be loaded is accepted.
    pub keep_going_without_firewall: bool,
    /// What recovery does where the journal leaves the choice.
    pub policy: Policy,
    /// Files and folders that others may write or read stay as open as they are.
    pub keep_open_folders: bool,
    /// The safety backup may lack these, though then nothing brings them back.
    pub without_safety_backup_of: BTreeSet<Part>,
}

impl BackupForPlan {
    fn not_saved(&self, part: &Part) -> bool {
        matches!(self.parts.get(part), Some(PartFate::NotSaved { .. }))
    }

    /// Whether it says which configs there are: without any it says so only if it says that there were none, or that all
    /// were saved.
    fn speaks_of_configs(&self) -> bool {
        let all = matches!(
            self.parts.get(&Part::Configs),
            Some(PartFate::NotThere | PartFate::Saved)
        );
        all || !self.configs.is_empty() || !self.wireguard.is_empty()
    }

    /// Whether it has a config for this place.
    fn wants(&self, profile: &Profile, path: &Path) -> bool {
        let gateway = &profile.gateway;
        let name = path.file_name().and_then(|n| n.to_str());
        let of = |folder: &Path, files: &BTreeMap<String, Wanted>| {
            path.parent() == Some(folder) && name.is_some_and(|n| files.contains_key(n))
        };
        of(&gateway.configs_dir, &self.configs) || of(&gateway.wireguard_dir, &self.wireguard)
    }

    /// Whether the database of clients stays as it is.
    fn clients_stay(&self, profile: &Profile) -> bool {
        profile
            .client_database()
            .is_none_or(|known| !self.databases.contains_key(&known.name))
    }

    /// Whether the row of a client stays. Where the rows of now cannot be read, any may be one's.
    fn row_stays(&self, profile: &Profile, survey: &Survey, file: &str) -> bool {
        if !self.clients_stay(profile) {
            return false;
        }
        let client = file.strip_suffix(".conf");
        match &survey.clients {
            Some(now) => now.iter().any(|c| Some(c.name.as_str()) == client),
            None => profile
                .client_database()
                .is_some_and(|known| survey.databases.contains_key(&known.name)),
        }
    }

    /// Whether a config that it does not have stays as it is here: it could not be saved, or its client's row stays.
    fn leaves(&self, profile: &Profile, survey: &Survey, file: &str) -> bool {
        !self.speaks_of_configs()
            || self.leaves_by_name(file)
            || self.row_stays(profile, survey, file)
    }

    fn leaves_by_name(&self, file: &str) -> bool {
        self.not_saved(&Part::Configs) || self.left_out.contains(file) || self.stays.contains(file)
    }

    /// Whether a tunnel that is up stays so, as its config does: the service brings up whoever's row stays, and takes nobody
    /// down.
    fn leaves_up(&self, profile: &Profile, survey: &Survey, file: &str) -> bool {
        let there = self.wireguard.contains_key(file);
        self.row_stays(profile, survey, file)
            || !there && self.leaves_by_name(file)
            || !self.speaks_of_configs() && self.clients_stay(profile)
    }
}

/// The plan, or every reason why there is none.
pub fn plan(
    profile: &Profile,
    survey: &Survey,
    networks_now: &BTreeMap<String, Vec<Prefix>>,
    backup: &BackupForPlan,
    id: &RestoreId,
    choices: Choices,
) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut warnings = backup.said.lost.clone();
    warnings.extend(backup.said.known.iter().cloned());
    warnings.extend(backup.warnings.iter().cloned());
    warnings.extend(survey.warnings.iter().cloned());
    let mut strangers = Strangers::default();
    let databases = databases(profile, survey, backup, id, &mut strangers);
    let files = files(profile, survey, backup, id, &mut strangers);
    problems.extend(strangers.problems(profile));

    let (tunnels_up, unfit) = tunnels_up(profile, survey, backup, &mut warnings);
    problems.extend(unfit);
    let mut tunnels_down = Vec::new();
    for name in &survey.facts.tunnels {
        let file = format!("{name}.conf");
        match (survey.wireguard.contains_key(&file), survey.configs.contains_key(&file)) {
            (true, _) => tunnels_down.push(tunnel(&profile.gateway.wireguard_dir, name)),
            (false, true) => tunnels_down.push(tunnel(&profile.gateway.configs_dir, name)),
            (false, false) => problems.push(cannot(
                format!("take {name} down: it is up, but its config {file} is in neither folder"),
                "put the config back, or take the tunnel down by hand (ip link delete), then restore again",
            )),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }

    exposed(survey, &mut warnings);
    let names: BTreeSet<&str> = tunnels_down
        .iter()
        .chain(&tunnels_up)
        .map(|t| t.name.as_str())
        .collect();
    let fence = fence(
        &names,
        &[networks_now, &backup.networks],
        survey.clients.iter().chain(&backup.clients).flatten(),
    );
    let left_out = left_out::left_out(profile, survey, backup, &tunnels_up);
    let (forward, back) = order::lists();
    let services = services(profile, survey);
    let mut staging = BTreeSet::new();
    for target in databases.iter().chain(&files) {
        if let Some(dir) = Path::new(&target.staged).parent() {
            staging.insert(dir.display().to_string());
        }
    }
    Ok(Plan {
        archive: backup.archive.clone(),
        forward,
        back,
        policy: choices.policy,
        keep_going_without_firewall: choices.keep_going_without_firewall,
        staging: staging.into_iter().collect(),
        databases,
        files,
        services,
        tunnels_down,
        tunnels_up,
        fence,
        firewall: Firewall {
            v4: backup
                .rules
                .get(Family::V4.rules_file())
                .map(|w| w.sha256.clone()),
            v6: backup
                .rules
                .get(Family::V6.rules_file())
                .map(|w| w.sha256.clone()),
            ip_forward: forwarding(survey, backup, Family::V4),
            ipv6_forward: forwarding(survey, backup, Family::V6),
        },
        peers: backup.peers.clone(),
        without_safety_backup_of: parts(&choices.without_safety_backup_of),
        left_out,
        warnings,
    })
}

fn parts(parts: &BTreeSet<Part>) -> Vec<String> {
    parts.iter().map(Part::to_string).collect()
}

fn tunnel(dir: &Path, name: &str) -> Tunnel {
    Tunnel {
        name: name.to_owned(),
        config: dir.join(format!("{name}.conf")).display().to_string(),
    }
}

fn services(profile: &Profile, survey: &Survey) -> Vec<Service> {
    let all = profile
        .gateway
        .service
        .iter()
        .map(crate::gateway::profile::ServiceProfile::service);
    all.filter(|s| survey.facts.services.contains(&s.name))
        .collect()
}

/// Staged objects lie in a folder of root's beside their target, and so on the same filesystem.
fn staged(path: &Path, id: &RestoreId) -> Option<String> {
    let (dir, name) = (path.parent()?, path.file_name()?);
    Some(
        dir.join(format!(".holdfast-{id}"))
            .join(name)
            .display()
            .to_string(),
    )
}

fn target(
    path: &Path,
    id: &RestoreId,
    change: Change,
    wanted: Option<(&Wanted, Placement)>,
) -> Option<Target> {
    Some(Target {
        entry: wanted.map(|(w, _)| w.entry.clone()).unwrap_or_default(),
        path: path.display().to_string(),
        staged: staged(path, id)?,
        change,
        new: wanted.map(|(w, owner)| FileFacts {
            sha256: w.sha256.clone(),
            size: w.size,
            uid: owner.uid,
            gid: owner.gid,
            mode: owner.mode & 0o777,
        }),
    })
}

/// Files that a backup would give to somebody who has no part in the gateway: by that somebody, how many and the first.
#[derive(Default)]
struct Strangers(BTreeMap<Rc<str>, (usize, String)>);

impl Strangers {
    fn problems(self, profile: &Profile) -> Vec<Problem> {
        let more = |count: usize| match count {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let strangers = self.0.into_iter();
        strangers
            .map(|(who, (count, first))| {
                cannot(
                    format!(
                        "put {first}{} in place: in the backup it belongs to {who}, and that is neither root, nor the profile's \
                         owner {}, nor whose the present file is",
                        more(count),
                        profile.gateway.owner
                    ),
                    "if they are to belong to that account, name it as `owner` under [gateway] in the profile, or give it the \
                     present files (chown); else take another backup",
                )
            })
            .collect()
    }
}

/// As the backup has it, where that is somebody who has a part in the gateway; without a word in the backup the profile's
/// owner, and the mode of the file that it replaces. Never more open than `most`.
fn owner(
    wanted: &Wanted,
    survey: &Survey,
    (path, most): (&Path, u32),
    replaced: Option<Placement>,
    strangers: &mut Strangers,
) -> Placement {
    let (uid, gid) = survey.owner;
    let mut owner = wanted.owner.unwrap_or(Placement {
        uid,
        gid,
        mode: replaced.map_or(most, |m| m.mode),
    });
    if !owner.is_of(survey.owner, replaced.map(|m| (m.uid, m.gid))) {
        let shown = wanted.owner_shown.clone();
        let who = shown.unwrap_or_else(|| format!("{}:{}", owner.uid, owner.gid).into());
        let first = || (0, path.display().to_string());
        strangers.0.entry(who).or_insert_with(first).0 += 1;
    }
    owner.mode &= most;
    owner
}

fn databases(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    id: &RestoreId,
    strangers: &mut Strangers,
) -> Vec<Target> {
    let mut targets = Vec::new();
    for database in &profile.gateway.database {
        let Some(wanted) = backup.databases.get(&database.name) else {
            continue;
        };
        let now = survey.databases.get(&database.name);
        let change = if now.is_some() {
            Change::Replace
        } else {
            Change::Add
        };
        let place = (database.path.as_path(), DATABASE_MODE);
        let now = now.map(|m| Placement {
            uid: m.uid,
            gid: m.gid,
            mode: m.mode,
        });
        let given = owner(wanted, survey, place, now, strangers);
        targets.extend(target(&database.path, id, change, Some((wanted, given))));
        // Right behind their database, and so in place and away with it. What lies there now is gone by then: it is settled
        // into the database, or set aside.
        for (side, wanted) in backup.beside.get(&database.name).into_iter().flatten() {
            let mut path = database.path.clone().into_os_string();
            path.push(side);
            let path = PathBuf::from(path);
            let given = owner(wanted, survey, (&path, DATABASE_MODE), None, strangers);
            let made = target(&path, id, Change::Add, Some((wanted, given)));
            targets.extend(made.map(|made| Target {
                staged: staged_beside(profile, &database.path, &made.staged),
                ..made
            }));
        }
    }
    targets
}

/// Another name for the staged side file of a database: under its own lies what is set aside of the present one's.
fn staged_beside(profile: &Profile, database: &Path, staged: &str) -> String {
    let (folder, name) = staged.rsplit_once('/').unwrap_or(("", staged));
    let stem = database
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or(name);
    let mut prefix = "raw-".to_owned();
    // No other database is called so.
    let taken = |prefix: &str| {
        let mut names = profile
            .gateway
            .database
            .iter()
            .filter_map(|d| d.path.file_name()?.to_str());
        names.any(|n| n == format!("{prefix}{stem}"))
    };
    while taken(&prefix) {
        prefix.push_str("raw-");
    }
    format!("{folder}/{prefix}{name}")
}

fn has(held: &HeldConfig) -> Placement {
    Placement {
        uid: held.meta.uid,
        gid: held.meta.gid,
        mode: held.meta.mode,
    }
}

/// Only what changes: bytes, owner or mode. A file that is more open now than it may be is no change: who closes it is not
/// a restore's plan to say.
fn files(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    id: &RestoreId,
    strangers: &mut Strangers,
) -> Vec<Target> {
    let mut targets = Vec::new();
    let leaves = |path: &Path| {
        let name = path.file_name().and_then(|n| n.to_str());
        name.is_some_and(|n| backup.leaves(profile, survey, n))
    };
    let mut one = |path: PathBuf, now: Option<&HeldConfig>, wanted: Option<&Wanted>| {
        let made = match (now, wanted) {
            (None, None) => None,
            (Some(_), None) if leaves(&path) => None,
            (Some(_), None) => target(&path, id, Change::Remove, None),
            // What lies there, and where it may lead, is not touched.
            (None, Some(_)) if survey.no_files.contains(&path) => None,
            (None, Some(w)) => {
                let owner = owner(w, survey, (&path, CONFIG_MODE), None, strangers);
                target(&path, id, Change::Add, Some((w, owner)))
            }
            (Some(held), Some(w)) => {
                let place = (path.as_path(), CONFIG_MODE);
                let owner = owner(w, survey, place, Some(has(held)), strangers);
                let same = is_so(held, w, owner, CONFIG_MODE);
                if same {
                    None
                } else {
                    target(&path, id, Change::Replace, Some((w, owner)))
                }
            }
        };
        targets.extend(made);
    };
    if backup.speaks_of_configs() {
        let names: BTreeSet<&String> = survey.configs.keys().chain(backup.configs.keys()).collect();
        for name in names {
            one(
                profile.gateway.configs_dir.join(name),
                survey.configs.get(name),
                backup.configs.get(name),
            );
        }
        let names: BTreeSet<&String> = survey
            .wireguard
            .keys()
            .chain(backup.wireguard.keys())
            .collect();
        for name in names {
            one(
                profile.gateway.wireguard_dir.join(name),
                survey.wireguard.get(name),
                backup.wireguard.get(name),
            );
        }
    }
    targets.extend(kept(profile, survey, backup, id));
    targets
}

/// Whether a file is already as the backup has it.
fn is_so(held: &HeldConfig, wanted: &Wanted, owner: Placement, most: u32) -> bool {
    held.sha256 == wanted.sha256
        && (held.meta.uid, held.meta.gid, held.meta.mode & most)
            == (owner.uid, owner.gid, owner.mode)
}

/// The files in which the box keeps rules over a reboot, as they were: never the rules that are loaded now, of which the
/// gateway adds its own at each start.
fn kept(profile: &Profile, survey: &Survey, backup: &BackupForPlan, id: &RestoreId) -> Vec<Target> {
    let mut targets = Vec::new();
    for family in Family::BOTH {
        let Some(path) = profile.gateway.firewall.kept_file(family) else {
            continue;
        };
        let now = survey.kept.iter().find(|(f, _, _)| *f == family);
        let now = now.map(|(_, _, held)| held);
        let Some(wanted) = backup.kept.get(&family) else {
            if now.is_some() && backup.kept_gone.contains(&family) {
                let path = survey.kept_at.get(&family).map_or(path, PathBuf::as_path);
                let removed = target(path, id, Change::Remove, None);
                // The safety backup has to know it again, and behind a link it may have any name.
                targets.extend(removed.map(|target| Target {
                    entry: archive::kept(family).into(),
                    ..target
                }));
            }
            continue;
        };
        if survey.no_files.contains(path) {
            continue;
        }
        let path = survey.kept_at.get(&family).map_or(path, PathBuf::as_path);
        // A file of the box's, not of the gateway's: root's, whoever made the backup.
        let asked = wanted.owner.filter(|o| o.uid == 0);
        let mut owner = asked.or(now.map(has)).unwrap_or(Placement {
            uid: 0,
            gid: 0,
            mode: CONFIG_MODE,
        });
        owner.mode &= KEPT_MODE;
        match now {
            Some(held) if is_so(held, wanted, owner, KEPT_MODE) => {}
            Some(_) => targets.extend(target(path, id, Change::Replace, Some((wanted, owner)))),
            None => targets.extend(target(path, id, Change::Add, Some((wanted, owner)))),
        }
    }
    targets
}

fn tunnels_up(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    warnings: &mut Vec<String>,
) -> (Vec<Tunnel>, Vec<Problem>) {
    let (mut tunnels, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for name in backup.tunnels_up.iter().filter(|n| seen.insert(n.as_str())) {
        if let Err(why) = interface_name(name) {
            warnings.push(format!("{} stays down: {why}", shown(name)));
            continue;
        }
        let file = format!("{name}.conf");
        if survey
            .no_files
            .contains(&profile.gateway.wireguard_dir.join(&file))
        {
            warnings.push(format!(
                "{name} stays as it is: its config here is not a regular file"
            ));
            continue;
        }
        let stays = survey.wireguard.contains_key(&file) && backup.leaves(profile, survey, &file);
        if !backup.wireguard.contains_key(&file) && !stays {
            warnings.push(format!(
                "{name} stays down: the backup has no config for it"
            ));
            continue;
        }
        if survey.links.contains(name) && !survey.facts.tunnels.contains(name) {
            problems.push(cannot(
                format!("bring {name} up: this box has another interface of that name"),
                "rename that interface, or remove the client from the backup's gateway and back it up again",
            ));
            continue;
        }
        tunnels.push(tunnel(&profile.gateway.wireguard_dir, name));
    }
    // What stays as it is goes down with the others, and comes up again as it was.
    let stay = survey.facts.tunnels.iter().filter(|name| {
        let file = format!("{name}.conf");
        survey.wireguard.contains_key(&file) && backup.leaves_up(profile, survey, &file)
    });
    for name in stay.filter(|n| seen.insert(n.as_str())) {
        tunnels.push(tunnel(&profile.gateway.wireguard_dir, name));
    }
    tunnels.sort();
    (tunnels, problems)
}

/// The widest networks that are a site's own. What is wider is a way out (a default route, also one in two halves): a
/// fence around it would cut the box off, and its tunnel is fenced by name.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 16;

/// Tunnels by name, and their clients' networks; never everything, or the fence would cut the admin off.
fn fence<'c>(
    names: &BTreeSet<&str>,
    networks: &[&BTreeMap<String, Vec<Prefix>>],
    clients: impl Iterator<Item = &'c Client>,
) -> FenceRules {
    let mut found: BTreeSet<Prefix> = BTreeSet::new();
    for (_, prefixes) in networks
        .iter()
        .flat_map(|m| m.iter())
        .filter(|(name, _)| names.contains(name.as_str()))
    {
        found.extend(prefixes.iter().map(Prefix::network));
    }
    for client in clients.filter(|c| names.contains(c.name.as_str())) {
        found.extend(
            client
                .subnet
                .split(',')
                .filter_map(|s| Prefix::parse(s.trim()))
                .map(|p| p.network()),
        );
    }
    FenceRules {
        interfaces: names.iter().map(|n| (*n).to_owned()).collect(),
        networks: merged(found)
            .into_iter()
            .filter(|p| {
                p.length
                    >= if p.address.is_ipv4() {
                        WIDEST_V4
                    } else {
                        WIDEST_V6
                    }
            })
            .map(|p| format!("{}/{}", p.address, p.length))
            .collect(),
    }
}

fn forwarded(backup: &BackupForPlan, family: Family) -> Option<bool> {
    match family {
        Family::V4 => backup.ip_forward,
        Family::V6 => backup.ipv6_forward,
    }
}

/// What the backup says of forwarding, where that can be set here and put back.
fn forwarding(survey: &Survey, backup: &BackupForPlan, family: Family) -> Option<bool> {
    forwarded(backup, family).filter(|_| survey.facts.forwards(family).is_some())
}

/// The same words whatever is chosen: the choice is no part of what is approved.
fn exposed(survey: &Survey, warnings: &mut Vec<String>) {
    let closes = "the restore closes that first, unless --keep-open-folders leaves it";
    let sentences = survey.exposure.sentences().into_iter();
    warnings.extend(sentences.map(|said| format!("{said}: {closes}")));
    let problems = survey.exposure.problems.iter();
    warnings
        .extend(problems.map(|p| format!("{}: {}", crate::text::wording::in_a_line(p), p.advice)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fenced(allowed: &[&str]) -> Vec<String> {
        let prefixes = allowed.iter().map(|p| Prefix::parse(p).unwrap()).collect();
        let networks = BTreeMap::from([("wg0".to_owned(), prefixes)]);
        fence(&BTreeSet::from(["wg0"]), &[&networks], std::iter::empty()).networks
    }

    #[test]
    fn a_way_out_is_never_fenced_also_in_halves_and_a_sites_own_networks_are() {
        for way_out in [
            &["0.0.0.0/0", "::/0"][..],
            &["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"],
            &["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/1", "2000::/3"],
        ] {
            assert!(fenced(way_out).is_empty(), "{way_out:?}");
            let with_site = [way_out, &["10.1.2.3/24", "10.0.0.0/8", "fd00:1::/32"]].concat();
            assert!(fenced(&with_site).contains(&"10.0.0.0/8".to_owned()));
            assert!(fenced(&with_site).contains(&"fd00:1::/32".to_owned()));
        }
        assert_eq!(fenced(&["10.1.2.3/24", "10.1.3.0/24"]), ["10.1.2.0/23"]);
        assert_eq!(fenced(&["10.1.1.0/24", "10.1.2.0/24"]).len(), 2);
    }

    pub(super) fn survey(configs: BTreeMap<String, HeldConfig>) -> Survey {
        Survey {
            boot: journal_format::BootId::new("b").unwrap(),
            facts: crate::gateway::kernel_facts::Facts::default(),
            configs,
            wireguard: BTreeMap::new(),
            databases: BTreeMap::new(),
            no_files: BTreeSet::new(),
            kept: Vec::new(),
            kept_at: BTreeMap::new(),
            clients: None,
            users: BTreeMap::new(),
            mail: BTreeMap::new(),
            links: BTreeSet::new(),
            owner: (8, 9),
            exposure: Default::default(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn held(uid: u32, mode: u32) -> HeldConfig {
        HeldConfig {
            meta: crate::host::Meta {
                kind: crate::host::Kind::File,
                id: None,
                dev: 1,
                size: 1,
                uid,
                gid: 9,
                mode,
            },
            sha256: sha256(b"as it is"),
        }
    }

    fn sha256(bytes: &[u8]) -> Digest {
        Digest::of_blake3(blake3::hash(bytes))
    }

    pub(super) fn backup(configs: &[(&str, Wanted)]) -> BackupForPlan {
        let configs = configs.iter().map(|(n, w)| ((*n).to_owned(), w.clone()));
        BackupForPlan {
            archive: ArchiveInfo {
                name: "b.zip".into(),
                sha256: sha256(b"archive"),
                size: 1,
                created_at: "2026-11-22T18:52:20Z".into(),
                host: None,
                made_by: "gateway".into(),
            },
            databases: BTreeMap::new(),
            beside: BTreeMap::new(),
            configs: configs.collect(),
            wireguard: BTreeMap::new(),
            clients: None,
            users: BTreeMap::new(),
            mail: BTreeMap::new(),
            said: Said::default(),
            tunnels_up: Vec::new(),
            networks: BTreeMap::new(),
            rules: BTreeMap::new(),
            ip_forward: None,
            ipv6_forward: None,
            peers: None,
            left_out: BTreeSet::new(),
            stays: BTreeSet::new(),
            parts: BTreeMap::new(),
            kept: BTreeMap::new(),
            kept_gone: BTreeSet::new(),
            aside: LaidAside::default(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn wanted(owner: Option<(u32, u32, u32)>, bytes: &[u8]) -> Wanted {
        Wanted {
            entry: "x".into(),
            sha256: sha256(bytes),
            size: 1,
            owner: owner.map(|(uid, gid, mode)| Placement { uid, gid, mode }),
            owner_shown: owner.map(|(uid, gid, _)| format!("u{uid}:g{gid}").into()),
        }
    }

    fn planned(survey: &Survey, backup: &BackupForPlan) -> Result<Plan, Vec<Problem>> {
        let choices = Choices {
            keep_going_without_firewall: false,
            keep_open_folders: false,
            policy: Policy::Auto,
            without_safety_backup_of: BTreeSet::new(),
        };
        let id = RestoreId::new("20261122T185220Z-00000001").unwrap();
        let profile = Profile::default();
        plan(&profile, survey, &BTreeMap::new(), backup, &id, choices)
    }

    fn placed(survey: &Survey, backup: &BackupForPlan) -> Vec<(u32, u32, u32)> {
        let plan = planned(survey, backup).unwrap();
        let files = plan.databases.iter().chain(&plan.files);
        let new = files.filter_map(|f| f.new.as_ref());
        new.map(|n| (n.uid, n.gid, n.mode)).collect()
    }

    #[test]
    fn a_config_is_never_more_open_than_to_its_group_nor_is_one_that_is_replaced() {
        let now = BTreeMap::from([("a.conf".to_owned(), held(8, 0o666))]);
        for (asked, given) in [
            (Some((0, 0, 0o777)), (0, 0, 0o640)),
            (Some((8, 9, 0o600)), (8, 9, 0o600)),
            (Some((0, 9, 0o4755)), (0, 9, 0o640)),
            (None, (8, 9, 0o640)),
        ] {
            let backup = backup(&[("a.conf", wanted(asked, b"new"))]);
            assert_eq!(placed(&survey(BTreeMap::new()), &backup), [given]);
            assert_eq!(placed(&survey(now.clone()), &backup), [given]);
        }
    }

    #[test]
    fn a_database_is_never_open_to_everybody() {
        let mut backup = backup(&[]);
        let database = wanted(Some((8, 9, 0o666)), b"new");
        backup.databases.insert("configs.db".into(), database);
        let mut survey = survey(BTreeMap::new());
        assert_eq!(placed(&survey, &backup), [(8, 9, 0o660)]);
        survey
            .databases
            .insert("configs.db".into(), held(8, 0o666).meta);
        assert_eq!(placed(&survey, &backup), [(8, 9, 0o660)]);
        backup
            .databases
            .insert("configs.db".into(), wanted(None, b"new"));
        assert_eq!(placed(&survey, &backup), [(8, 9, 0o660)]);
    }

    #[test]
    fn a_config_stays_where_its_row_stays_or_may_be_there() {
        let removed = |change: &dyn Fn(&mut Survey, &mut BackupForPlan)| {
            let now = BTreeMap::from([("a.conf".to_owned(), held(8, 0o640))]);
            let mut survey = survey(now);
            let database = held(8, 0o640).meta;
            survey.databases.insert("configs.db".into(), database);
            survey.clients = Some(Vec::new());
            let mut backup = backup(&[("b.conf", wanted(None, b"new"))]);
            change(&mut survey, &mut backup);
            let plan = planned(&survey, &backup).unwrap();
            let mut files = plan.files.into_iter();
            files.any(|f| f.change == Change::Remove && f.path.ends_with("/a.conf"))
        };
        let client = || Client {
            name: "a".into(),
            config_path: String::new(),
            subnet: String::new(),
            status: "active".into(),
        };
        // No row names it, and none will.
        assert!(removed(&|_, _| ()));
        assert!(!removed(&|survey, _| survey.clients = Some(vec![client()])));
        // Rows that cannot be read are not none.
        assert!(!removed(&|survey, _| survey.clients = None));
        // One of bytes alone does not come from elsewhere: the rows of here stay.
        assert!(!removed(&|survey, backup| {
            survey.clients = Some(vec![client()]);
            let part = Part::Database("configs.db".into());
            let why = "file is not a database".into();
            backup.parts.insert(part, PartFate::SavedRaw { why });
        }));
    }

    #[test]
    fn a_file_of_kept_rules_is_known_again_by_its_entry_whatever_name_a_link_gives_it() {
        for (family, change, path) in [
            (Family::V4, Change::Replace, "/etc/fw/rules.conf"),
            (Family::V4, Change::Replace, "/etc/fw/other.v6"),
            (Family::V6, Change::Remove, "/etc/fw/rules.v4"),
        ] {
            let mut survey = survey(BTreeMap::new());
            survey.kept = vec![(family, path.into(), held(0, 0o640))];
            survey.kept_at = BTreeMap::from([(family, path.into())]);
            let mut backup = backup(&[]);
            if change == Change::Replace {
                let mut wanted = wanted(None, b"new");
                wanted.entry = archive::kept(family).into();
                backup.kept.insert(family, wanted);
            } else {
                backup.kept_gone.insert(family);
            }
            let plan = planned(&survey, &backup).unwrap();
            let changes: Vec<Change> = plan.files.iter().map(|f| f.change).collect();
            assert_eq!(changes, [change]);
            let parts = [
                Part::Configs,
                Part::Kept(Family::V4),
                Part::Kept(Family::V6),
            ];
            survey.facts.unread = parts.into_iter().map(|p| (p, String::new())).collect();
            let unsaved = crate::plan::replaced::unsaved(&plan, &survey.facts).into_iter();
            let unsaved: Vec<Part> = unsaved.map(|lack| lack.part).collect();
            assert_eq!(unsaved, [Part::Kept(family)], "{path}");
        }
    }

    #[test]
    fn configs_go_where_the_backup_says_that_there_were_none_and_stay_where_it_does_not_say() {
        let not_saved = || PartFate::NotSaved {
            why: "the folder cannot be read".into(),
        };
        for (fate, goes) in [
            (Some(PartFate::Saved), true),
            (Some(PartFate::NotThere), true),
            (Some(not_saved()), false),
            (None, false),
        ] {
            let now = BTreeMap::from([("a.conf".to_owned(), held(8, 0o640))]);
            let mut survey = survey(now);
            survey.clients = Some(Vec::new());
            let mut backup = backup(&[]);
            backup
                .parts
                .extend(fate.clone().map(|f| (Part::Configs, f)));
            let removed = |backup: &BackupForPlan| {
                let plan = planned(&survey, backup).unwrap();
                plan.files.iter().any(|f| f.change == Change::Remove)
            };
            assert_eq!(removed(&backup), goes, "{fate:?}");
            // One that could not be taken was there.
            backup.left_out.insert("a.conf".into());
            assert!(!removed(&backup), "{fate:?}");
        }
    }

    #[test]
    fn a_file_that_only_stands_open_is_no_change() {
        let same = |now: u32, asked: u32| {
            let now = BTreeMap::from([("a.conf".to_owned(), held(8, now))]);
            let backup = backup(&[("a.conf", wanted(Some((8, 9, asked)), b"as it is"))]);
            placed(&survey(now), &backup).is_empty()
        };
        assert!(same(0o644, 0o644) && same(0o666, 0o640));
        assert!(!same(0o600, 0o644));
    }

    #[test]
    fn an_owner_or_a_group_without_a_part_in_the_gateway_is_refused_by_name() {
        let of_seven = BTreeMap::from([("a.conf".to_owned(), held(7, 0o640))]);
        let backup = |uid, gid| {
            let wanted = wanted(Some((uid, gid, 0o640)), b"new");
            backup(&[("a.conf", wanted.clone()), ("b.conf", wanted)])
        };
        for (uid, gid) in [(7, 9), (8, 100), (65534, 65534)] {
            let problems = planned(&survey(BTreeMap::new()), &backup(uid, gid)).unwrap_err();
            let [problem] = &problems[..] else {
                panic!("{problems:?}")
            };
            let first = "instance/configs/a.conf and 1 more in place";
            assert!(problem.what.contains(first), "{problem}");
            let who = format!("it belongs to u{uid}:g{gid}, ");
            assert!(problem.what.contains(&who), "{problem}");
        }
        // Whose the present file is may have it again; the other file is no longer his.
        let problems = planned(&survey(of_seven), &backup(7, 9)).unwrap_err();
        assert!(problems[0].what.contains("b.conf in place"), "{problems:?}");
    }
}
