//! What only this gateway tells of a checked backup: whose its files are to be here, and which of its rules load. Decides
//! nothing about the gateway.

use std::collections::{BTreeMap, BTreeSet};

use journal_format::{ArchiveInfo, Code, Digest, Note};
use sha2::Digest as _;

use crate::archive::verify::Checked;
use crate::error::{Fault, bug};
use crate::gateway::consent::Consent;
use crate::gateway::kernel_facts::Facts;
use crate::gateway::owner::{self, Owner};
use crate::host::{Family, Host};
use crate::plan::needs_here::InterfacesHere;
use crate::plan::planner::{BackupForPlan, Choices};
use crate::plan::rehearsal::{self, Tried};
use crate::survey::Survey;
use crate::text::wording::why;
use crate::text::{iptables, octets};

/// The file of a restore's peers, in its folder `after/`.
pub const PEERS: &str = "peers";

/// The file of what runs as root because of a restore, in its folder `after/`: for whoever follows one that was not asked about.
pub const COMMANDS: &str = "commands";

/// What will lie in a restore's folder `after/`, by the name of its file.
type After = BTreeMap<&'static str, String>;

/// A checked backup as the planner takes it; its rules are rehearsed on the way.
pub(super) fn for_plan(
    host: &dyn Host,
    survey: &Survey,
    archive: ArchiveInfo,
    checked: Checked,
    consent: &Consent,
    (here, choices): (&InterfacesHere, &Choices),
) -> Result<(BackupForPlan, After), Fault> {
    let Fitted {
        rules,
        mut after,
        notes,
    } = rules(host, &checked, &survey.facts, here, choices)?;
    let (owners, unknown) = owners(&checked, survey.owner);
    let mut peers = None;
    if !checked.peers.is_empty() {
        let text = serde_json::to_string(&checked.peers)
            .map_err(|e| bug(format!("write the peers: {e}")))?;
        peers = Some(digest(text.as_bytes()));
        after.insert(PEERS, text);
    }
    let commands = consent.lines();
    if !commands.is_empty() {
        let text = serde_json::to_string(&commands)
            .map_err(|e| bug(format!("write the commands: {e}")))?;
        after.insert(COMMANDS, text);
    }
    let unknown = unknown
        .into_iter()
        .map(|said| Note::known(Code::OWNER_UNKNOWN, said));
    let backup = BackupForPlan {
        archive,
        checked,
        owners,
        rules,
        peers,
        same_rows: BTreeSet::new(),
        found: consent
            .notes()
            .into_iter()
            .chain(unknown)
            .chain(notes)
            .collect(),
        said: Vec::new(),
    };
    Ok((backup, after))
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of_bytes(sha2::Sha256::digest(bytes).into())
}

type Owners = BTreeMap<usize, (Owner, String)>;

/// Whose files are to be, and a sentence for each owner who is not here. Names are looked up once each, not for every file.
fn owners(checked: &Checked, gateway: (u32, u32)) -> (Owners, BTreeSet<String>) {
    let known = checked.manifest.as_ref().map_or(&[][..], |m| &m.owners);
    let (mut owners, mut warnings) = (Owners::new(), BTreeSet::new());
    for place in checked.files().filter_map(|file| file.facts.owner) {
        if let Some(facts) = known.get(place) {
            owners.entry(place).or_insert_with(|| {
                let (owner, warning) = owner::placement(facts, gateway);
                warnings.extend(warning);
                (owner, facts.shown())
            });
        }
    }
    (owners, warnings)
}

/// The rules that will be loaded, or why others will not be.
type Loaded = BTreeMap<Family, Result<Digest, String>>;

/// The same, with their text and what is said of it.
#[derive(Default)]
struct Fitted {
    rules: Loaded,
    after: After,
    notes: Vec<Note>,
}

fn rules(
    host: &dyn Host,
    checked: &Checked,
    now: &Facts,
    here: &InterfacesHere,
    choices: &Choices,
) -> Result<Fitted, Fault> {
    let mut fitted = Fitted::default();
    for (family, tried) in rehearsal::rules(host, &checked.rules)? {
        let rules = match tried {
            _ if now.rules(family).is_none() => Err(match now.lack_protocol(family) {
                true => format!("the kernel of this machine has no {}", family.name()),
                false => "the current ones cannot be read, and so could not be put back".to_owned(),
            }),
            Tried::Loaded(text) => {
                let mut rules = iptables::parse(&text, "the rehearsed rules")?;
                let note = here.fit(&mut rules, &now.parsed_rules(family)?);
                let text = if note.is_some() { rules.text() } else { text };
                fitted.notes.extend(note);
                let rules = digest(&octets::bytes(&text));
                fitted.after.insert(family.rules_file(), text);
                Ok(rules)
            }
            Tried::Refused(mut problem) | Tried::Untried(mut problem) => {
                if !choices.keep_going_without_firewall {
                    problem.advice +=
                        "; to restore all but the firewall, add --keep-going-without-firewall";
                    return Err(Fault::Refused(vec![problem]));
                }
                Err(format!(
                    "those of the backup do not load here ({}), and you chose to continue without them",
                    why(&problem)
                ))
            }
        };
        fitted.rules.insert(family, rules);
    }
    Ok(fitted)
}
