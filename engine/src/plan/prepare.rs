//! A restore up to its approval: the backup checked, the gateway surveyed, the rules rehearsed, the plan made, or every
//! reason why it cannot begin. Changes nothing, but for what others may write, which its caller has it close.

mod from_backup;
mod room;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use journal_format::{Change, Digest, Plan, Problem, RestoreId};

use crate::archive::lost::Lost;
use crate::archive::verify::{self, Checked, Opened, Rebuilt};
use crate::error::{Code, Fault, cannot};
use crate::gateway::consent::{Consent, Hook};
use crate::gateway::database::Origin;
use crate::gateway::kernel_facts::Facts;
use crate::gateway::parts::{Lack, Part};
use crate::gateway::profile::Profile;
use crate::host::{Family, Host, this_box};
use crate::plan::needs_here::InterfacesHere;
use crate::plan::planner::said::{self, BothRules, Here};
use crate::plan::planner::{self, Choices};
use crate::plan::preview::{self, approval};
use crate::plan::side_files::{beside, side_files_there};
use crate::plan::{in_place, left_down};
use crate::plan::{rehearsal, replaced};
use crate::state_dir;
use crate::survey::exposure::{self, Exposed};
use crate::survey::kept_rules::KeptPlace;
use crate::survey::preflight;
use crate::survey::{self, Survey};
use crate::text::iptables::{self, Entrance};
use crate::text::wg_config::{self, Prefix};
use crate::text::wording::{name, names, quoted};

pub use from_backup::{COMMANDS, PEERS};

/// What is to be restored, and how.
pub struct RestoreRequest {
    /// The archive: one open file, never opened again by its name.
    pub file: File,
    /// The name that is shown.
    pub name: String,
    /// What the admin chose.
    pub choices: Choices,
    /// The restore's name; a new one if none.
    pub id: Option<RestoreId>,
    /// The plan that was approved, by [`approval`]; any other is refused.
    pub approved: Option<Digest>,
}

/// A restore that could begin.
pub struct Prepared {
    /// Its name.
    pub id: RestoreId,
    /// What it will do.
    pub plan: Arc<Plan>,
    /// What runs as root because of it.
    pub consent: Consent,
    /// What it replaces and the safety backup will lack, as far as that is known now.
    pub unsaved: Vec<Lack>,
    /// The kernel facts that the plan goes by.
    pub(crate) facts: Facts,
    /// What will lie in its folder `after/`, by the name of its file: the rules as the rehearsal printed them, peers, and what
    /// runs as root.
    pub(crate) after: BTreeMap<&'static str, String>,
    /// Where the new files come from.
    pub(crate) contents: NewFiles,
    exposed: Vec<Exposed>,
    changes_nothing: bool,
}

/// Where new files come from, as it was checked.
pub(crate) struct NewFiles {
    /// The archive: the one open file, never opened again by its name.
    pub file: File,
    /// The databases that were rebuilt from its entries.
    pub rebuilt: Rebuilt,
}

impl Prepared {
    /// Whether the gateway is as the backup says in all that is compared: then there is nothing to restore.
    pub fn changes_nothing(&self) -> bool {
        self.changes_nothing
    }

    /// Whether [`Prepared::close_what_is_open`] has something to do.
    pub fn closes_something(&self) -> bool {
        !self.exposed.is_empty()
    }

    /// Closes what the plan said that others may write or read, and tells of each that it did; nothing if the admin chose to
    /// leave it.
    /// The caller holds the lock. It comes before the journal begins and stays, whatever becomes of the restore.
    pub fn close_what_is_open(&self, done: impl FnMut(String)) -> Result<(), Problem> {
        exposure::close(&self.exposed, done)
    }
}

/// Checks, surveys, rehearses and plans. Changes nothing.
pub fn prepare(
    profile: &Profile,
    host: &dyn Host,
    request: RestoreRequest,
) -> Result<Prepared, Fault> {
    // A gateway in the middle of another restore is not one to make a plan for.
    state_dir::none_open(profile, host, "restore")?;
    let file = again(&request.file, &request.name)?;
    let shapes = |path: &Path| Ok(host.databases().shape(path)?);
    let (mut checked, mut opened) = verify::archive(profile, &shapes, request.file, &request.name)?;
    none(preflight::check(host, profile))?;
    let survey = surveyed(profile, host, &checked)?;
    none(unread(&survey.facts, &request.choices))?;
    none(foreign_configs(profile, &survey, &checked))?;
    none(out_of_reach(profile, host, &survey))?;
    let id = match request.id {
        Some(id) => id,
        None => state_dir::new_id(host)?,
    };
    let leave_down = &request.choices.leave_down;
    none(unknown_tunnels(leave_down, &survey, &checked))?;
    let up_now = |tunnel: &str| survey.facts.tunnels.iter().any(|t| t == tunnel);
    let may_stay_down = |tunnel: &str| leave_down.contains(tunnel) || !up_now(tunnel);
    let unfit = rehearsal::tunnels(host, profile, &mut checked, &mut opened, &may_stay_down)?;
    none(unfit)?;
    leave_out_kept(host, profile, &mut checked)?;
    let consent = checked.consent(|tunnel| hooks_now(host, profile, &survey, tunnel));
    let same_rows = match request.choices.full_stop {
        true => BTreeSet::new(),
        false => same_rows(host, profile, &survey, &opened, &checked)?,
    };
    // Its tables are as large as the plan.
    drop(opened.archive);
    let interfaces = InterfacesHere::look(host, &survey, &checked)?;
    let (mut backup, after) = from_backup::for_plan(
        host,
        &survey,
        opened.info,
        checked,
        &consent,
        (&interfaces, &request.choices),
    )?;
    backup.same_rows = same_rows;
    let here = here(host, profile)?;
    let both = both_rules(&survey.facts, &after)?;
    let said = &mut backup.found;
    said.extend(interfaces.said(&both, &survey, &backup.checked));
    said.extend(interfaces.starts(host, profile, &survey, &backup.checked));
    backup.said = said::said(&here, &survey, &backup, &both);
    let networks = networks_now(host, profile, &survey)?;
    let (keep_open_folders, full_stop) =
        (request.choices.keep_open_folders, request.choices.full_stop);
    let plan = planner::plan(profile, &survey, &networks, &backup, &id, request.choices)
        .map_err(Fault::Refused)?;
    drop(backup);
    none(left_beside(host, &plan)?)?;
    none(in_place::problems(host, &plan)?)?;
    room::enough(profile, host, &survey, &plan)?;
    none(drifted(request.approved.as_ref(), &plan))?;
    let changes_nothing = !full_stop && preview::changes_nothing(&plan, &survey.facts, &both);
    Ok(Prepared {
        id,
        changes_nothing,
        unsaved: replaced::unsaved(&plan, &survey.facts),
        plan: Arc::new(plan),
        consent,
        facts: survey.facts,
        after,
        contents: NewFiles {
            file,
            rebuilt: opened.rebuilt,
        },
        exposed: match keep_open_folders {
            true => Vec::new(),
            false => survey.exposure.exposed,
        },
    })
}

/// Another plan than the one that was approved.
fn drifted(approved: Option<&Digest>, plan: &Plan) -> Vec<Problem> {
    let differs = approved.filter(|approved| **approved != approval(plan));
    let problem = |_| {
        cannot(
            Code::PLAN_DRIFTED,
            "restore: the gateway or the backup changed since the plan was approved",
            "look at what it would do now, and approve that",
        )
    };
    differs.map(problem).into_iter().collect()
}

/// Tunnels that are to be left down, and that the restore would not bring up anyway.
fn unknown_tunnels(
    leave_down: &BTreeSet<String>,
    survey: &Survey,
    checked: &Checked,
) -> Vec<Problem> {
    let known: BTreeSet<&String> = checked
        .tunnels_up
        .iter()
        .chain(&survey.facts.tunnels)
        .collect();
    let unknown = leave_down.iter().filter(|tunnel| !known.contains(tunnel));
    let problem = |tunnel: &String| {
        cannot(
            Code::NOT_THERE,
            format!("leave {} down: no such tunnel comes up", name(tunnel)),
            match known.is_empty() {
                true => "leave it out: this restore brings no tunnel up".to_owned(),
                false => format!("name one of these: {}", names(&known)),
            },
        )
    };
    unknown.map(problem).collect()
}

/// The databases whose rows are as the backup has them. Where those of now cannot be read, that is not known, and they are replaced.
fn same_rows(
    host: &dyn Host,
    profile: &Profile,
    survey: &Survey,
    opened: &Opened,
    checked: &Checked,
) -> Result<BTreeSet<String>, Fault> {
    let then = verify::rows(&opened.archive, &opened.rebuilt, checked)?;
    let databases = profile.gateway.database.iter();
    let there = databases.filter(|d| survey.databases.contains_key(&d.name));
    let same = there.filter(|d| {
        let then = then.get(&d.name);
        let now = then.and_then(|_| host.databases().row_sums(&d.path).ok());
        then.zip(now)
            .is_some_and(|(then, now)| then.differing(&now).is_empty())
    });
    Ok(same.map(|d| d.name.clone()).collect())
}

fn none(problems: Vec<Problem>) -> Result<(), Fault> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Fault::Refused(problems)),
    }
}

fn surveyed(profile: &Profile, host: &dyn Host, checked: &Checked) -> Result<Survey, Fault> {
    let clients = checked.clients.iter().flatten();
    let clients: HashSet<&str> = clients.map(|c| c.name.as_str()).collect();
    let backed_up = |name: &str| {
        let client = name
            .strip_suffix(".conf")
            .is_some_and(|n| clients.contains(n));
        client || checked.configs.contains_key(name)
    };
    let mut survey = survey::survey(host, profile, &backed_up).map_err(Fault::Refused)?;
    left_down::count_as_running(profile, host, &mut survey);
    Ok(survey)
}

/// Databases that are here and that the gateway's account may not open.
fn out_of_reach(profile: &Profile, host: &dyn Host, survey: &Survey) -> Vec<Problem> {
    let databases = profile.gateway.database.iter();
    databases
        .filter(|d| survey.databases.contains_key(&d.name))
        .filter_map(|d| host.databases().may_be_opened(&d.path).err())
        .collect()
}

/// Files of kept rules whose folder this box has not: what would read them is not installed here. They hold up nothing else.
fn leave_out_kept(
    host: &dyn Host,
    profile: &Profile,
    checked: &mut Checked,
) -> Result<(), Problem> {
    for family in Family::BOTH {
        let file = profile.gateway.firewall.kept_file(family);
        let file = file.map(|f| KeptPlace::of(host, f)).transpose()?;
        let Some(folder) = file.as_ref().and_then(|f| f.path()?.parent()) else {
            continue;
        };
        if host.stat(folder)?.is_none() && checked.kept.remove(&family).is_some() {
            let said = format!(
                "the file that keeps {} rules over a reboot is not put back: the folder {} is not there (install \
                 iptables-persistent, then restore again, to have it)",
                family.name(),
                folder.display()
            );
            let part = Part::Kept(family);
            checked.lost.push(Lost::of(part.shown(), said));
        }
    }
    Ok(())
}

/// What of now cannot be read and so not be put back, if the restore would touch it.
fn unread(facts: &Facts, choices: &Choices) -> Vec<Problem> {
    let mut problems = Vec::new();
    for part in facts.unread.keys() {
        let rules = matches!(part, Part::Rules(_));
        let touched = match part {
            Part::Rules(_) => !choices.keep_going_without_firewall,
            // It stays as it is; the plan says so.
            Part::Forwarding(_) => false,
            // The safety backup decides: it may be saved by then.
            Part::Database(_) => false,
            Part::Tunnels | Part::Peers | Part::Configs | Part::Kept(_) => true,
            // A restore touches what the profile names.
            Part::Unnamed(_) | Part::OtherDatabases => false,
        };
        if let Some(mut problem) = facts.why_unread(part).filter(|_| touched) {
            if rules {
                problem.advice +=
                    "; to restore all but the firewall, add --keep-going-without-firewall";
            }
            problems.push(problem);
        }
    }
    // One that runs would go on writing.
    problems.extend(facts.unanswered.iter().map(|(service, why)| {
        cannot(
            Code::SERVICE_UNKNOWN,
            format!("tell whether the service {service} runs: {why}"),
            "fix that (`systemctl status`), or name the service by its commands under `gateway.service` in the profile; then try again",
        )
    }));
    problems
}

/// Configs that a backup from elsewhere would take over although they are somebody else's here: neither among the gateway's
/// configs nor of one of its clients, and not its account's (`wg-quick` runs what they say as root).
fn foreign_configs(profile: &Profile, survey: &Survey, checked: &Checked) -> Vec<Problem> {
    if checked.origin == Origin::Here {
        return Vec::new();
    }
    let clients: HashSet<&str> = survey
        .clients
        .iter()
        .flatten()
        .map(|c| c.name.as_str())
        .collect();
    let foreign = survey.wireguard.iter().filter(|(name, held)| {
        let stem = name.strip_suffix(".conf").unwrap_or(name);
        held.uid != survey.owner.0 && !survey.configs.contains_key(*name) && !clients.contains(stem)
    });
    foreign
        .map(|(name, _)| {
            let path = profile.gateway.wireguard_dir.join(name);
            cannot(
                Code::NAME_TAKEN,
                format!(
                    "take {} over: it is not the gateway's, and a backup from elsewhere has a config of that name",
                    path.display()
                ),
                "rename it and its interface, or take that config out of the backup's gateway; where it is a leftover of the \
                 gateway's: remove it, then restore again",
            )
        })
        .collect()
}

/// What a tunnel runs as root today: the hooks of the config that `wg-quick` reads. One that it could not bring up is not in
/// force.
fn hooks_now(host: &dyn Host, profile: &Profile, survey: &Survey, tunnel: &str) -> Vec<Hook> {
    let file = format!("{tunnel}.conf");
    if !survey.wireguard.contains_key(&file) {
        return Vec::new();
    }
    let read = host.read(&profile.gateway.wireguard_dir.join(&file), wg_config::MOST);
    let config = read
        .ok()
        .and_then(|bytes| wg_config::parse(&file, &bytes).ok());
    config
        .filter(|c| c.unfit.is_empty() && c.slow.is_empty())
        .map_or_else(Vec::new, |c| c.interface.hooks)
}

/// This box, as a backup is held against it.
fn here(host: &dyn Host, profile: &Profile) -> Result<Here, Problem> {
    let address = profile.web.address.parse::<IpAddr>();
    Ok(Here {
        host: this_box::host_name().unwrap_or_default(),
        now_ms: host.now().at_ms,
        interfaces: rehearsal::interfaces(host)?,
        ssh: this_box::ssh_connection(),
        page: Some(Entrance {
            port: profile.web.port,
            loopback: address.is_ok_and(|a| a.is_loopback()),
        }),
    })
}

/// The rules of now and those of the backup, of each family whose rules will be loaded.
fn both_rules(
    facts: &Facts,
    texts: &BTreeMap<&'static str, String>,
) -> Result<Vec<BothRules>, Problem> {
    let mut both = Vec::new();
    for family in Family::BOTH {
        if let Some(text) = texts.get(family.rules_file()) {
            both.push(BothRules {
                family,
                now: facts.parsed_rules(family)?,
                then: iptables::parse(text, "the rehearsed rules")?,
            });
        }
    }
    Ok(both)
}

fn prefixes(config: &wg_config::Config) -> Vec<Prefix> {
    config
        .peers
        .iter()
        .flat_map(|p| p.allowed_ips.iter().copied())
        .collect()
}

/// Networks of the tunnels that are up now, by interface.
fn networks_now(
    host: &dyn Host,
    profile: &Profile,
    survey: &Survey,
) -> Result<BTreeMap<String, Vec<Prefix>>, Problem> {
    let mut networks = BTreeMap::new();
    for name in &survey.facts.tunnels {
        let file = format!("{name}.conf");
        if survey.wireguard.contains_key(&file) {
            let bytes = host.read(
                &profile.gateway.wireguard_dir.join(&file),
                wg_config::FILE_MOST,
            )?;
            // A config that is up but does not parse is fenced by its interface and its client's subnet.
            if let Ok(config) = wg_config::parse(&file, &bytes) {
                networks.insert(name.clone(), prefixes(&config));
            }
        }
    }
    Ok(networks)
}

/// What lies beside a database that is gone and that the restore puts there: SQLite would play it into the new one.
fn left_beside(host: &dyn Host, plan: &Plan) -> Result<Vec<Problem>, Problem> {
    let mut problems = Vec::new();
    let added = plan.databases.iter().filter(|t| t.change == Change::Add);
    for target in added.filter(|t| beside(t, &plan.databases).is_none()) {
        let left = side_files_there(host, &target.path)?;
        if !left.is_empty() {
            let moves = left.iter().map(|l| {
                let l = quoted(l);
                format!("mv {l} {l}.left")
            });
            problems.push(cannot(
                Code::SIDE_FILES_LEFT,
                format!(
                    "put {} in place: {} lies there, of a database that is gone, and would be read as a part of the new one",
                    target.path,
                    left.join(" and ")
                ),
                format!(
                    "if the database was moved, put it back; if not: {}; then restore again",
                    moves.collect::<Vec<_>>().join("; ")
                ),
            ));
        }
    }
    Ok(problems)
}

/// The same open file, not the same name, once more.
pub(crate) fn again(file: &File, archive: &str) -> Result<File, Problem> {
    file.try_clone().map_err(|e| {
        cannot(
            Code::UNFIT_SYSTEM,
            format!("read the backup {}: {e}", name(archive)),
            "see how many files this process may have open (ulimit -n)",
        )
    })
}
