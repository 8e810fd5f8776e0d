//! A restore whose journal is not here: its staging folders beside the targets and its fence outlive a `state_dir` that is gone,
//! not mounted, or not the one that the profile names. Looks alone, and changes nothing; what goes on in `state_dir` itself is its
//! parent's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use journal_format::RestoreId;

use super::{journal, left_over, safety_backup, targets};
use crate::error::{Code, Fault, Problem, cannot};
use crate::gateway::profile::Profile;
use crate::host::{Look, Query};
use crate::text::wording::{quoted_path, start_command};

/// How the folder of staged objects is called, before the restore's name.
const STAGING: &str = ".holdfast-";
/// Where the advice has them copied.
const FOUND: &str = "/root/holdfast-found";
/// So many folders are named in what could not be done; the advice names all.
const SHOWN: usize = 3;

/// What is left of restores whose journals are not in `state_dir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// Their staging folders.
    pub staging: BTreeMap<RestoreId, Vec<PathBuf>>,
    /// The fence is closed.
    pub fence: bool,
    /// Those of them whose folders are here, only without their journals.
    pub here: BTreeSet<RestoreId>,
    /// The safety backup that the newest of those made, if it is there.
    pub safety_backup: Option<PathBuf>,
}

/// What is left of restores that this `state_dir` does not know; none where nothing is. To be asked where no restore is open.
pub fn find(profile: &Profile, host: &dyn Look) -> Result<Option<Traces>, Problem> {
    let mut staging: BTreeMap<RestoreId, Vec<PathBuf>> = BTreeMap::new();
    for (id, folder) in staging_folders(profile) {
        // A restore that is over and could not clean up has its journal.
        if !journal(profile, &id).exists() {
            staging.entry(id).or_default().push(folder);
        }
    }
    // Where that cannot be told, it keeps nobody from working: the staging folders tell.
    let fence = host.ask(&Query::Fence, "")?.ok();
    // That of a restore whose clean-up failed is that clean-up's; that of one that runs is not left.
    let is_left = fence && left_over(profile)?.is_empty() && !targets::somebody_restores();
    if !is_left && staging.is_empty() {
        return Ok(None);
    }
    let is_here = |id: &&RestoreId| profile.restore_dir(id).is_dir();
    let here: BTreeSet<RestoreId> = staging.keys().filter(is_here).cloned().collect();
    let mut newest = here.iter().rev();
    Ok(Some(Traces {
        safety_backup: newest.find_map(|id| safety_backup(profile, host, id)),
        staging,
        fence,
        here,
    }))
}

/// Refuses where a restore is under way whose journal is not here.
pub fn none(profile: &Profile, host: &dyn Look) -> Result<(), Problem> {
    match find(profile, host)? {
        None => Ok(()),
        Some(found) => Err(found.problem(profile)),
    }
}

/// The same for work that would go on over it.
pub fn none_in_the_way(profile: &Profile, host: &dyn Look) -> Result<(), Fault> {
    none(profile, host).map_err(|problem| match problem.is(&Code::RESTORE_LOST) {
        true => Fault::Busy(problem),
        false => Fault::Failed(problem),
    })
}

/// The staging folders beside what the profile names. What cannot be listed shows none.
fn staging_folders(profile: &Profile) -> Vec<(RestoreId, PathBuf)> {
    let gateway = &profile.gateway;
    let files = gateway.database.iter().map(|d| &d.path);
    let files = files.chain(&gateway.firewall.kept);
    let mut places: BTreeSet<PathBuf> = files.filter_map(|f| Some(f.parent()?.into())).collect();
    places.extend([gateway.configs_dir.clone(), gateway.wireguard_dir.clone()]);
    let mut found = Vec::new();
    for place in places {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(STAGING));
            if let Some(id) = id.and_then(|id| RestoreId::new(id).ok()) {
                found.push((id, entry.path()));
            }
        }
    }
    found.sort();
    found
}

impl Traces {
    /// What cannot be said, why, and what to do: a line each for the steps of the last way out.
    pub fn problem(&self, profile: &Profile) -> Problem {
        let ids: Vec<&str> = self.staging.keys().map(RestoreId::as_str).collect();
        let journals = profile.restores_dir();
        let what = match ids.as_slice() {
            [] => format!(
                "tell how the gateway stands: no restore in {} is open, and something is left of one",
                journals.display()
            ),
            ids => format!(
                "tell how the gateway stands: restore {} was under way, and its journal is not in {}. Its folders lie beside \
                 what it replaces: {}",
                ids.join(", "),
                journals.display(),
                self.shown()
            ),
        };
        let traffic = match self.fence {
            true => "Forwarded traffic of the tunnels that it replaces is blocked",
            false => "No traffic is blocked",
        };
        let steps = self.last_exit(profile);
        let steps = steps.iter().zip(1..);
        let steps: String = steps.map(|(step, n)| format!("\n{n}. {step}")).collect();
        let advice = format!("nothing was changed. {}{steps}", self.ways_back(profile));
        cannot(
            Code::RESTORE_LOST,
            format!("{what}. {traffic}. Services and tunnels are as that restore left them"),
            advice,
        )
    }

    /// How its journal comes back; and when not.
    fn ways_back(&self, profile: &Profile) -> String {
        let gone: Vec<PathBuf> = self.here.iter().map(|id| journal(profile, id)).collect();
        let shown = |path: &PathBuf| path.display().to_string();
        match gone.first().and_then(|journal| journal.parent()) {
            None => format!(
                "Mount the disk of {}, or name the right state_dir in the profile. Then run `holdfast recover`. Only if that \
                 state_dir is lost for good, run these commands in this order:",
                profile.state_dir.display()
            ),
            // Somebody moved the journal away, or removed it: no disk is missing.
            Some(folder) => format!(
                "Put a sound copy of the journal back as {}. It may lie beside it under another name: `ls {}`. Then run \
                 `holdfast recover`. Only if there is no copy, run these commands in this order:",
                gone.iter().map(shown).collect::<Vec<_>>().join(", "),
                quoted_path(folder)
            ),
        }
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        self.staging.values().flatten()
    }

    fn shown(&self) -> String {
        let all: Vec<String> = self.folders().map(|f| f.display().to_string()).collect();
        match all.len().checked_sub(SHOWN) {
            None | Some(0) => all.join(", "),
            Some(more) => format!("{} and {more} more", all[..SHOWN].join(", ")),
        }
    }

    /// The steps that lead out without the journal, in their order: a command each, and what it does. What may be the only copy of
    /// an old file is copied first. Another restore is refused while a folder or the fence is there, so traffic flows before it.
    fn last_exit(&self, profile: &Profile) -> Vec<String> {
        let folders: Vec<String> = self.folders().map(|f| quoted_path(f)).collect();
        let mut steps = Vec::new();
        if !folders.is_empty() {
            // From the root: some versions of cp copy no whole path with its parents' attributes.
            let below: Vec<String> = self
                .folders()
                .map(|f| quoted_path(f.strip_prefix("/").unwrap_or(f)))
                .collect();
            steps.push(format!(
                "`mkdir -p {FOUND} && cd / && cp -a --parents {} {FOUND}` copies the folders. They may contain the only copy of an \
                 old file.",
                below.join(" ")
            ));
            steps.push(format!(
                "Only if step 1 printed no error: `rm -r {}` deletes them.",
                folders.join(" ")
            ));
        }
        if self.fence {
            steps.push(
                "`nft delete table inet holdfast` unblocks the traffic. It flows under the firewall rules that are loaded now, until \
                 the next step."
                    .into(),
            );
        }
        let (backup, which) = match &self.safety_backup {
            Some(path) => (
                quoted_path(path),
                "the safety backup that the lost restore made".to_owned(),
            ),
            // With state_dir its backups are gone.
            None if self.here.is_empty() => (
                "/PATH/TO/BACKUP.zip".into(),
                format!(
                    "a backup. Use the newest one made before the lost restore. The backups in {} are lost with state_dir: take a \
                     copy that you keep elsewhere",
                    profile.backups_dir().display()
                ),
            ),
            None => (
                "BACKUP".into(),
                "the newest backup that was made before the lost restore".into(),
            ),
        };
        let restore = format!("`holdfast restore {backup} --yes`");
        steps.push(format!(
            "{restore} restores {which}. It blocks the traffic of the tunnels that it replaces until it is done."
        ));
        // The restore that is lost had stopped them, and another one starts only what ran before it.
        for service in &profile.gateway.service {
            let start = start_command(&service.service().control);
            steps.push(format!(
                "`{start}` starts a service that the lost restore may have stopped."
            ));
        }
        if !profile.gateway.service.is_empty() {
            steps.push(format!(
                "{restore} again, since that start may have added firewall rules twice. Traffic is blocked again meanwhile."
            ));
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_said_of_a_restore_that_is_lost_names_all_that_it_left_and_every_way_on() {
        let id = |id: &str| RestoreId::new(id).unwrap();
        let one = id("20261122T185220Z-0a1b2c3d");
        let folder = |dir: &str| PathBuf::from(format!("{dir}/{STAGING}{one}"));
        let dirs = ["/etc/iptables", "/etc/wireguard", "/opt/a b", "/var/lib/c"];
        let whole = Traces {
            staging: BTreeMap::from([(one.clone(), dirs.map(folder).into())]),
            fence: true,
            here: BTreeSet::new(),
            safety_backup: None,
        };
        let staging_alone = Traces {
            staging: BTreeMap::from([(one.clone(), vec![folder(dirs[1])])]),
            fence: false,
            ..whole.clone()
        };
        let fence_alone = Traces {
            staging: BTreeMap::new(),
            ..whole.clone()
        };
        let journal_moved_away = Traces {
            here: BTreeSet::from([one.clone()]),
            safety_backup: Some("/var/lib/holdfast/backups/a b.zip".into()),
            ..whole.clone()
        };
        let profile = Profile::default();
        let shown = [whole, staging_alone, fence_alone, journal_moved_away];
        let shown = shown.map(|t| t.problem(&profile).to_string());
        insta::assert_snapshot!(shown.join("\n\n"));
    }
}
