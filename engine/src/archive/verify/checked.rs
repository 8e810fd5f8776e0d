//! What the check of a backup found, as the planner takes it. Pure data.

use std::collections::{BTreeMap, BTreeSet};

use journal_format::Note;

use super::CheckedConfig;
use crate::archive::lost::Lost;
use crate::archive::manifest::{EntryFacts, Manifest};
use crate::gateway::account::{Account, MailRelay};
use crate::gateway::consent::{Consent, Hook};
use crate::gateway::database::{Client, Origin};
use crate::gateway::parts::{Part, PartFate};
use crate::gateway::peers::Peers;
use crate::gateway::profile::DatabaseKind;
use crate::text::iptables::{Family, Rules};
use crate::text::wg_config::Prefix;

/// What is in a backup that is acceptable.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Whether this box made it.
    pub origin: Origin,
    /// Holdfast's manifest, without the peers, which are below; none in a backup that the gateway made.
    pub manifest: Option<Manifest>,
    /// The databases, by name.
    pub databases: BTreeMap<String, CheckedDatabase>,
    /// Whether it says which configs there were: it has a list of them, also an empty one.
    pub lists_configs: bool,
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
    pub warnings: Vec<Note>,
    /// Parts that the profile names and the backup lacks; a plan says it in its own words, knowing the gateway.
    pub missing: Vec<Note>,
    /// Configs that it does not put back although they are in it, by file name: what is here stays as it is.
    pub stays: BTreeSet<String>,
    /// The files in which the box keeps rules, as the backup has them.
    pub kept: BTreeMap<Family, FileInBackup>,
    /// What stands in those of a backup from elsewhere.
    pub kept_rules: BTreeMap<Family, Rules>,
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

impl FileInBackup {
    /// The file behind an entry.
    pub fn new(entry: &str, facts: EntryFacts) -> FileInBackup {
        let entry = entry.into();
        FileInBackup { entry, facts }
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

    /// Whether a part could not be saved, or not whole.
    pub fn lacks(&self, part: &Part) -> bool {
        matches!(self.fate(part), Some(PartFate::NotSaved { .. }))
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
}
