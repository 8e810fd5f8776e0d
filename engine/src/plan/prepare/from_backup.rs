//! What the planner needs of a checked backup: its files with their owners as they are here, its rules as the rehearsal
//! printed them. Decides nothing about the gateway.

use std::collections::BTreeMap;
use std::rc::Rc;

use journal_format::{ArchiveInfo, Digest};
use sha2::Digest as _;

use crate::archive::Archive;
use crate::archive::verify::{
    Checked, CheckedConfig, CheckedDatabase, CopyOf, FileInBackup, Rebuilt,
};
use crate::error::{Fault, Problem, cannot};
use crate::gateway::account::Account;
use crate::gateway::database::Origin;
use crate::gateway::kernel_facts::Facts;
use crate::gateway::owner::{self, OwnerFacts, Placement};
use crate::gateway::parts::{Part, PartFate};
use crate::gateway::peers::Peers;
use crate::gateway::profile::DatabaseKind;
use crate::host::{Family, Host};
use crate::plan::planner::said::Said;
use crate::plan::planner::{BackupForPlan, Choices, LaidAside, Wanted};
use crate::plan::rehearsal::{self, Rehearsed, Tried};
use crate::survey::Survey;
use crate::text::octets;
use crate::text::wording::in_a_line;

/// What the entries of rehearsed rules begin with; no entry of an archive does.
pub(super) const RULES: &str = "rehearsed/";

/// The file of a restore's peers, in its folder `after/`.
pub const PEERS: &str = "peers";

/// What will lie in a restore's folder `after/`, by the name of its file.
type After = BTreeMap<&'static str, String>;

/// Whose files are to be. Names are looked up once each, not for every file.
struct Placing<'c> {
    owners: &'c [OwnerFacts],
    gateway: (u32, u32),
    placed: BTreeMap<usize, (Placement, Rc<str>)>,
    warnings: Vec<String>,
}

impl Placing<'_> {
    fn wanted(&mut self, file: FileInBackup) -> Wanted {
        let owner = file.owner.and_then(|place| {
            let facts = self.owners.get(place)?;
            let placed = self.placed.entry(place).or_insert_with(|| {
                let (owner, warning) = owner::placement(facts, self.gateway);
                self.warnings.extend(warning);
                (owner, facts.shown().into())
            });
            Some(placed.clone())
        });
        let (owner, owner_shown) = owner.unzip();
        Wanted {
            owner,
            owner_shown,
            entry: file.entry,
            sha256: file.sha256,
            size: file.size,
        }
    }
}

/// What the planner needs of a checked backup; the rules are rehearsed on the way.
pub(super) fn wanted(
    host: &dyn Host,
    survey: &Survey,
    checked: Checked,
    choices: &Choices,
) -> Result<(BackupForPlan, After, Rebuilt), Fault> {
    let tried = rehearsal::rules(host, &checked.rules)?;
    let metadata = checked.archive.metadata();
    let holdfast = metadata.holdfast.as_ref();
    let mut placing = Placing {
        owners: holdfast.map_or(&[][..], |m| &m.owners),
        gateway: survey.owner,
        placed: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let mut aside = LaidAside::of(holdfast);
    aside.lost = checked.lost;
    let parts = holdfast.map(|m| m.parts.clone()).unwrap_or_default();
    let was_not_there = |family: &Family| {
        let fate = parts.get(&Part::Kept(*family));
        checked.origin == Origin::Here && matches!(fate, Some(PartFate::NotThere))
    };
    let kept_gone = Family::BOTH.into_iter().filter(was_not_there).collect();
    let mut backup = BackupForPlan {
        archive: ArchiveInfo {
            name: checked.archive.name().to_owned(),
            sha256: checked.sha256,
            size: checked.archive.size(),
            created_at: metadata.created_at.clone(),
            host: holdfast.and_then(|m| m.host.clone()),
            made_by: metadata.made_by().to_owned(),
        },
        databases: BTreeMap::new(),
        beside: BTreeMap::new(),
        configs: BTreeMap::new(),
        wireguard: BTreeMap::new(),
        clients: checked.clients,
        users: BTreeMap::new(),
        mail: BTreeMap::new(),
        said: Said::default(),
        tunnels_up: checked.tunnels_up,
        networks: BTreeMap::new(),
        rules: BTreeMap::new(),
        ip_forward: checked.ip_forward,
        ipv6_forward: checked.ipv6_forward,
        peers: None,
        left_out: holdfast.map(|m| m.left_out.clone()).unwrap_or_default(),
        stays: checked.stays,
        parts,
        kept: BTreeMap::new(),
        kept_gone,
        aside,
        warnings: Vec::new(),
    };
    databases(&mut backup, checked.databases, &mut placing);
    configs(&mut backup, checked.configs, &checked.archive, &mut placing)?;
    let kept = checked.kept.into_iter();
    backup.kept = kept
        .map(|(family, file)| (family, placing.wanted(file)))
        .collect();
    let mut after = rules(&mut backup, tried, &survey.facts, choices)?;
    if !checked.peers.is_empty() {
        let text = peers_text(&checked.peers)?;
        backup.peers = Some(digest(text.as_bytes()));
        after.insert(PEERS, text);
    }
    backup.warnings = placing.warnings;
    backup.warnings.sort();
    backup.warnings.dedup();
    backup.warnings.extend(checked.warnings);
    Ok((backup, after, checked.rebuilt))
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of_bytes(sha2::Sha256::digest(bytes).into())
}

fn databases(backup: &mut BackupForPlan, found: Vec<CheckedDatabase>, placing: &mut Placing) {
    for database in found {
        if let Some(files) = database.beside {
            let files = files.into_iter();
            let files = files.map(|(side, file)| (side, placing.wanted(file)));
            backup.beside.insert(database.name.clone(), files.collect());
        } else if database.kind == DatabaseKind::Users {
            let accounts = database.users.into_iter().map(Account::from).collect();
            backup.users.insert(database.name.clone(), accounts);
            let mail = database.mail.map(|m| (database.name.clone(), m));
            backup.mail.extend(mail);
        }
        let wanted = placing.wanted(database.file);
        backup.databases.insert(database.name, wanted);
    }
}

fn configs(
    backup: &mut BackupForPlan,
    found: BTreeMap<String, CheckedConfig>,
    archive: &Archive,
    placing: &mut Placing,
) -> Result<(), Fault> {
    for (name, config) in found {
        let interface = name.strip_suffix(".conf").unwrap_or(&name);
        if config.can_be_a_tunnel {
            let networks = config.networks.into_vec();
            backup.networks.insert(interface.to_owned(), networks);
        }
        let mut file = |copy: CopyOf| copy.file(archive).map(|file| placing.wanted(file));
        if let Some(copy) = config.first {
            backup.configs.insert(name.clone(), file(copy)?);
        }
        if let Some(copy) = config.second {
            backup.wireguard.insert(name, file(copy)?);
        }
    }
    Ok(())
}

/// The rules that will be loaded, and why others will not be.
fn rules(
    backup: &mut BackupForPlan,
    tried: Rehearsed,
    now: &Facts,
    choices: &Choices,
) -> Result<After, Fault> {
    let mut texts = After::new();
    for (family, tried) in tried {
        if now.rules(family).is_none() {
            let why = match now.lack_protocol(family) {
                true => format!("the kernel of this box has no {}", family.name()),
                false => "those of now cannot be read, and so not be put back".to_owned(),
            };
            backup.aside.rules.insert(family.name(), why);
            continue;
        }
        match tried {
            Tried::Loaded(text) => {
                let bytes = octets::bytes(&text);
                let rules = Wanted {
                    entry: format!("{RULES}{}", family.rules_file()),
                    sha256: digest(&bytes),
                    size: bytes.len() as u64,
                    owner: None,
                    owner_shown: None,
                };
                drop(bytes);
                backup.rules.insert(family.rules_file(), rules);
                texts.insert(family.rules_file(), text);
            }
            Tried::Refused(problem) | Tried::Untried(problem)
                if choices.keep_going_without_firewall =>
            {
                let why = in_a_line(&problem);
                let why = format!("they cannot be loaded here, and that was accepted: {why}");
                backup.aside.rules.insert(family.name(), why);
            }
            Tried::Refused(problem) | Tried::Untried(problem) => {
                return Err(Fault::Refused(vec![Problem {
                    advice: format!(
                        "{}; to restore all but the firewall, add --keep-going-without-firewall",
                        problem.advice
                    ),
                    ..problem
                }]));
            }
        }
    }
    Ok(texts)
}

fn peers_text(peers: &BTreeMap<String, Peers>) -> Result<String, Problem> {
    serde_json::to_string(peers).map_err(|e| {
        cannot(
            format!("write the peers: {e}"),
            "report this fault in holdfast",
        )
    })
}
