//! Makes the plan: what the gateway is, what the backup says, and so what one restore will do. Pure: all that it needs is
//! given to it. Refuses what could not end well, and warns of what an admin would want to know first.

mod left_out;
pub mod said;
mod targets;
mod tunnels;

pub use left_out::LaidAside;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use journal_format::{ArchiveInfo, Digest, Firewall, Plan, Policy, RestoreId, Service};

use crate::error::Problem;
use crate::gateway::account::{Account, MailRelay};
use crate::gateway::database::Client;
use crate::gateway::owner::Placement;
use crate::gateway::parts::{Part, PartFate};
use crate::gateway::profile::Profile;
use crate::plan::order;
use crate::plan::planner::said::Said;
use crate::plan::planner::tunnels::{fence, tunnels_down, tunnels_up};
use crate::survey::Survey;
use crate::text::iptables::Family;
use crate::text::wg_config::Prefix;

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
    let (databases, files, strangers) = targets::targets(profile, survey, backup, id);
    problems.extend(strangers);
    let (tunnels_up, unfit) = tunnels_up(profile, survey, backup, &mut warnings);
    problems.extend(unfit);
    let (tunnels_down, unknown) = tunnels_down(profile, survey);
    problems.extend(unknown);
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
    let rules = |family: Family| Some(backup.rules.get(family.rules_file())?.sha256.clone());
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
            v4: rules(Family::V4),
            v6: rules(Family::V6),
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

fn services(profile: &Profile, survey: &Survey) -> Vec<Service> {
    let all = profile
        .gateway
        .service
        .iter()
        .map(crate::gateway::profile::ServiceProfile::service);
    all.filter(|s| survey.facts.services.contains(&s.name))
        .collect()
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
mod tests;
