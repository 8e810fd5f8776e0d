//! Makes the plan: what the gateway is, what the backup says, and so what one restore will do. Pure: all that it needs is
//! given to it. Refuses what could not end well, and warns of what an admin would want to know first.

mod left_out;
pub mod said;
mod targets;
mod tunnels;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use journal_format::{
    ArchiveInfo, Code, Digest, Firewall, Note, Plan, Policy, RestoreId, Service, Tunnel, Weight,
};

use crate::archive::verify::Checked;
use crate::error::Problem;
use crate::gateway::owner::Owner;
use crate::gateway::parts::Part;
use crate::gateway::profile::{Profile, ServiceProfile};
use crate::plan::order;
use crate::plan::order::PlannedWork;
use crate::plan::planner::tunnels::{fence, stays_up, tunnels_down, tunnels_up};
use crate::survey::Survey;
use crate::text::iptables::Family;
use crate::text::wg_config::Prefix;
use crate::text::wording::{of_problem, start_command};

/// A checked backup, and what only this gateway tells of it.
#[derive(Debug, Clone)]
pub struct BackupForPlan {
    /// The backup itself.
    pub archive: ArchiveInfo,
    /// What is in it.
    pub checked: Checked,
    /// Whose its files are to be here, by the places of its manifest, and as people know them.
    pub owners: BTreeMap<usize, (Owner, String)>,
    /// SHA-256 of the rules as the rehearsal printed them; or why a family's rules will not be loaded.
    pub rules: BTreeMap<Family, Result<Digest, String>>,
    /// SHA-256 of the file with the peers that its tunnels had besides those of their configs.
    pub peers: Option<Digest>,
    /// The databases of the gateway, by entry, whose rows are as those of the backup.
    pub same_rows: BTreeSet<String>,
    /// What was found on the way to the plan: what its configs run, whose its files are.
    pub found: Vec<Note>,
    /// What [`said`] found when it compared it with the gateway.
    pub said: Vec<Note>,
}

/// What the admin chose.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Choices {
    /// A restore whose rules cannot be loaded is accepted.
    pub keep_going_without_firewall: bool,
    /// What recovery does where the journal leaves the choice.
    pub policy: Policy,
    /// Files and folders that others may write or read stay as open as they are.
    pub keep_open_folders: bool,
    /// The safety backup may lack these, though then nothing brings them back.
    pub without_safety_backup_of: BTreeSet<Part>,
    /// Services that do not run afterwards are accepted.
    pub keep_going_without_services: bool,
    /// Tunnels, by name, that may be down afterwards.
    pub leave_down: BTreeSet<String>,
    /// Databases and tunnels that are as the backup has them are replaced as well.
    pub full_stop: bool,
}

impl BackupForPlan {
    /// Whether it says which configs there are. Without any it says that there were none only if nothing in it says
    /// otherwise: its list of them is there and empty, and its own database of clients is there and has no client. Else they
    /// are absent.
    fn speaks_of_configs(&self) -> bool {
        let checked = &self.checked;
        let no_client = checked.clients.as_ref().is_some_and(Vec::is_empty);
        let none = checked.lists_configs && no_client && !checked.lacks(&Part::Configs);
        none || !checked.configs.is_empty()
    }

    /// The rules that will be loaded.
    fn loads(&self, family: Family) -> Option<&Digest> {
        self.rules.get(&family)?.as_ref().ok()
    }

    /// Configs that were there when it was made and that it could not take: they stay as they are.
    fn could_not_take(&self) -> Option<&BTreeSet<String>> {
        self.checked.manifest.as_ref().map(|m| &m.left_out)
    }

    /// Whether the database of clients stays as it is.
    fn clients_stay(&self, profile: &Profile) -> bool {
        profile
            .client_database()
            .is_none_or(|known| !self.checked.databases.contains_key(&known.name))
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
        self.checked.lacks(&Part::Configs)
            || self.could_not_take().is_some_and(|c| c.contains(file))
            || self.checked.stays.contains(file)
    }

    /// Whether a tunnel that is up stays so, as its config does: the service brings up whoever's row stays, and takes nobody
    /// down. Where the backup says nothing of configs, none of them goes down for good.
    fn leaves_up(&self, profile: &Profile, survey: &Survey, file: &str) -> bool {
        let there = self.checked.second(file).is_some();
        self.row_stays(profile, survey, file)
            || !there && self.leaves_by_name(file)
            || !self.speaks_of_configs()
    }
}

/// What is known of a backup, whatever the gateway.
fn said_of(backup: &BackupForPlan) -> Vec<Note> {
    let checked = &backup.checked;
    let lost = checked.lost.iter().map(|lost| &lost.note);
    let known = backup.found.iter().chain(&checked.warnings);
    backup
        .said
        .iter()
        .chain(lost)
        .chain(known)
        .cloned()
        .collect()
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
    let checked = &backup.checked;
    let mut warnings = said_of(backup);
    let (databases, files, strangers) = targets::targets(profile, survey, backup, id);
    problems.extend(strangers);
    let (tunnels_up, unfit) = tunnels_up(profile, survey, backup, &mut warnings);
    problems.extend(unfit);
    let (tunnels_down, unknown) = tunnels_down(profile, survey);
    problems.extend(unknown);
    if !problems.is_empty() {
        return Err(problems);
    }

    warnings.extend(found_here(survey, &tunnels_down, checked));
    as_it_is(profile, survey, &mut warnings);
    warnings.sort_by_key(|note| note.weight);
    let both = (&tunnels_down[..], &tunnels_up[..]);
    let stays_up = stays_up(survey, backup, both, &files, &choices);
    let now = networks_now
        .iter()
        .map(|(name, networks)| (name.as_str(), networks.as_slice()));
    let fence = fence(
        (&tunnels_down, &tunnels_up, &stays_up),
        now.chain(checked.networks()),
        survey.clients.iter().chain(&checked.clients).flatten(),
    );
    let may_stay_down = may_stay_down(survey, &tunnels_up, &choices);
    let left_out = left_out::left_out(profile, survey, backup, &tunnels_up);
    let work = match choices.full_stop {
        true => PlannedWork::ALL,
        false => PlannedWork::of(&databases, &files, &fence),
    };
    let (forward, back) = order::lists(work);
    let services = services(profile, survey);
    let names = services.iter().map(|s| s.name.clone());
    let may_not_run = names.filter(|_| choices.keep_going_without_services);
    let may_not_run = may_not_run.collect();
    let targets = databases.iter().chain(&files);
    let staging = targets.filter_map(|t| Path::new(&t.staged).parent());
    let staging: BTreeSet<String> = staging.map(|dir| dir.display().to_string()).collect();
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
            v4: backup.loads(Family::V4).cloned(),
            v6: backup.loads(Family::V6).cloned(),
            ip_forward: forwarding(survey, backup, Family::V4),
            ipv6_forward: forwarding(survey, backup, Family::V6),
        },
        peers: backup.peers.clone(),
        without_safety_backup_of: parts(&choices.without_safety_backup_of),
        may_not_run,
        may_stay_down,
        stays_up,
        left_out,
        warnings,
    })
}

/// What the survey found, as a restore weighs it.
fn found_here(survey: &Survey, down: &[Tunnel], checked: &Checked) -> Vec<Note> {
    let found = survey.warnings.iter();
    let weighed = found.map(|note| goes_with_its_tunnel(note, down, checked));
    weighed.collect()
}

/// What was set by hand of a tunnel goes with the tunnel, and is lost where the backup brings nothing of the kind.
fn goes_with_its_tunnel(note: &Note, down: &[Tunnel], checked: &Checked) -> Note {
    let tunnel = note
        .name
        .as_deref()
        .filter(|name| down.iter().any(|t| t.name == **name));
    let goes = tunnel.is_some_and(|tunnel| {
        let peers = note.is(&Code::PEERS_BEYOND_CONFIG) && !checked.peers.contains_key(tunnel);
        peers || note.is(&Code::SET_BY_HAND)
    });
    let weight = if goes { Weight::Lost } else { note.weight };
    Note {
        weight,
        ..note.clone()
    }
}

/// Those that the admin leaves down, and those that are down now: these are no worse off.
fn may_stay_down(survey: &Survey, tunnels_up: &[Tunnel], choices: &Choices) -> Vec<String> {
    let names = tunnels_up.iter().map(|t| &t.name);
    let may =
        |name: &&String| choices.leave_down.contains(*name) || !survey.facts.tunnels.contains(name);
    names.filter(may).cloned().collect()
}

fn parts(parts: &BTreeSet<Part>) -> Vec<String> {
    parts.iter().map(Part::to_string).collect()
}

fn services(profile: &Profile, survey: &Survey) -> Vec<Service> {
    let all = profile.gateway.service.iter().map(ServiceProfile::service);
    all.filter(|s| survey.facts.services.contains(&s.name))
        .collect()
}

/// Services that do not run now: a restore starts only what ran before it, or would run but for the last restore.
fn stay_down(profile: &Profile, survey: &Survey) -> Vec<Note> {
    let facts = &survey.facts;
    let known =
        |name: &String| facts.services.contains(name) || facts.unanswered.contains_key(name);
    let all = profile.gateway.service.iter().map(ServiceProfile::service);
    let down = all.filter(|service| !known(&service.name));
    let note = |service: Service| {
        let name = &service.name;
        let text = format!("{name} does not run now, and this restore does not start it");
        let start = start_command(&service.control);
        let note = Note::down(Code::SERVICE_IS_DOWN, text).about(name);
        note.advising(format!("start it first, or after the restore: {start}"))
    };
    down.map(note).collect()
}

/// What the backup says of forwarding, where that can be set here and put back.
fn forwarding(survey: &Survey, backup: &BackupForPlan, family: Family) -> Option<bool> {
    let says = backup.checked.forwards(family);
    says.filter(|_| survey.facts.forwards(family).is_some())
}

/// The same words whatever is chosen: the choice is no part of what is approved.
fn as_it_is(profile: &Profile, survey: &Survey, warnings: &mut Vec<Note>) {
    warnings.extend(stay_down(profile, survey));
    let closes = "A restore removes this access first, unless you add --keep-open-folders";
    let sentences = survey.exposure.sentences().into_iter();
    let open = |said| Note::known(Code::OPEN_TO_OTHERS, format!("{said}. {closes}"));
    warnings.extend(sentences.map(open));
    warnings.extend(survey.exposure.problems.iter().map(of_problem));
}

#[cfg(test)]
mod tests;
