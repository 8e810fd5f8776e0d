//! One restore from its archive to its verdict: check, survey, rehearse, plan; then the folder, the journal and the
//! drive. Owns what lies in a restore's folder before its journal begins.

pub mod decide;
pub mod driver;
pub mod expected_peers;
pub mod expected_rules;
pub mod journal;
pub mod process;
pub mod recover;
pub mod step;
pub mod swap;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use journal_format::{
    Change, Digest, Driver, Fate, FileFacts, Header, Plan, Problem, RestoreId, Role, State, Target,
    Verdict,
};
use sha2::Digest as _;

use crate::archive::Archive;
use crate::archive::lost::Lost;
use crate::archive::verify::{self, Checked, CopyOf, FileInBackup, Rebuilt};
use crate::backup;
use crate::error::{Fault, cannot};
use crate::gateway::account::Account;
use crate::gateway::consent::{Consent, Hook};
use crate::gateway::database::Origin;
use crate::gateway::kernel_facts::Facts;
use crate::gateway::owner;
use crate::gateway::owner::Placement;
use crate::gateway::parts::{self, Lack, Part};
use crate::gateway::peers::Peers;
use crate::gateway::profile::{DatabaseKind, Profile};
use crate::host::live_database::{Live, shapes};
use crate::host::{Family, Host};
use crate::plan::planner::said::{self, BothRules, Here, Said};
use crate::plan::planner::{self, BackupForPlan, Choices, LaidAside, Wanted};
use crate::plan::rehearsal::{self, Tried};
use crate::plan::replaced;
use crate::restore::driver::{BootStage, Drive, Ending, FACTS};
use crate::restore::journal::{JournalWriter, OnRecord};
use crate::state_dir;
use crate::survey::exposure::{self, Exposed};
use crate::survey::kept_rules::KeptPlace;
use crate::survey::preflight;
use crate::survey::{self, Survey};
use crate::text::iptables::{self, Entrance};
use crate::text::octets;
use crate::text::wg_config::{self, Prefix};
use crate::text::wording::quoted;
use crate::text::wording::{counted, in_a_line};
use step::{Machine, Source};

/// What the entries of rehearsed rules begin with; no entry of an archive does.
const RULES: &str = "rehearsed/";

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
    /// What of it is lost: so many of the plan's warnings, the first.
    pub lost: usize,
    /// What runs as root because of it.
    pub consent: Consent,
    /// What it replaces and the safety backup will lack, as far as that is known now.
    pub unsaved: Vec<Lack>,
    facts: Facts,
    rules: BTreeMap<&'static str, String>,
    file: File,
    exposed: Vec<Exposed>,
    rebuilt: Rebuilt,
}

impl Prepared {
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

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The gateway is as the backup says.
    Restored {
        /// What a person should know.
        warnings: Vec<String>,
    },
    /// Its journal could not be written any more: a fresh recovery must take over.
    HandOver(Problem),
}

/// What an admin approves: the plan's digest, less what differs between two restores of the same backup on the same
/// gateway: the restore's name, and what the admin accepts besides (a firewall that cannot be loaded, a safety backup that
/// lacks a part), which is agreed to at the same time and by itself.
pub fn approval(plan: &Plan) -> Digest {
    // All fields by name, so that a new one is not forgotten; by reference, since a plan may have megabytes.
    let Plan {
        archive,
        forward,
        back,
        policy,
        keep_going_without_firewall: _,
        staging: _,
        databases,
        files,
        services,
        tunnels_down,
        tunnels_up,
        fence,
        firewall,
        peers,
        without_safety_backup_of: _,
        left_out,
        warnings,
    } = plan;
    Digest::of_json(&(
        (archive, forward, back, policy),
        (approved(databases), approved(files)),
        (services, tunnels_down, tunnels_up, fence, firewall),
        (peers, left_out),
        warnings,
    ))
}

/// Targets as an admin approves them: less the names of staged files, which no two restores share.
fn approved(targets: &[Target]) -> Vec<(&String, &String, Change, &Option<FileFacts>)> {
    let mut views = Vec::with_capacity(targets.len());
    for target in targets {
        let Target {
            entry,
            path,
            staged: _,
            change,
            new,
        } = target;
        views.push((entry, path, *change, new));
    }
    views
}

/// What a restore would do, for a person: a line each. The warnings are the plan's own.
pub fn preview(plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!(
        "restores {}, made {} by {}{}",
        plan.archive.name,
        plan.archive.created_at,
        plan.archive.made_by,
        plan.archive
            .host
            .as_ref()
            .map(|h| format!(" on {h}"))
            .unwrap_or_default(),
    )];
    for database in &plan.databases {
        if swap::beside(database, &plan.databases).is_some() {
            lines.push(format!("puts {} beside it", database.path));
            continue;
        }
        let verb = if database.change == journal_format::Change::Add {
            "adds"
        } else {
            "overwrites"
        };
        lines.push(format!("{verb} the database {}", database.path));
    }
    let count = |change| plan.files.iter().filter(|f| f.change == change).count();
    let (replaced, added, removed) = (
        count(journal_format::Change::Replace),
        count(journal_format::Change::Add),
        count(journal_format::Change::Remove),
    );
    lines.push(format!(
        "overwrites {}, adds {added}, removes {removed}; what was there is kept",
        counted(replaced, "file")
    ));
    let names = |tunnels: &[journal_format::Tunnel]| {
        let shown: Vec<&str> = tunnels.iter().take(8).map(|t| t.name.as_str()).collect();
        format!(
            "{}{}{}",
            if tunnels.is_empty() { "" } else { ": " },
            shown.join(", "),
            if tunnels.len() > 8 { ", ..." } else { "" }
        )
    };
    lines.push(format!(
        "takes {} down{}",
        counted(plan.tunnels_down.len(), "tunnel"),
        names(&plan.tunnels_down)
    ));
    lines.push(format!(
        "brings {} up{}",
        counted(plan.tunnels_up.len(), "tunnel"),
        names(&plan.tunnels_up)
    ));
    for service in &plan.services {
        lines.push(format!("stops {} and starts it again", service.name));
    }
    for (family, rules) in [("IPv4", &plan.firewall.v4), ("IPv6", &plan.firewall.v6)] {
        if rules.is_some() {
            lines.push(format!(
                "replaces all {family} firewall rules by the backup's"
            ));
        }
    }
    lines
}

/// A name for a new restore, from the wall clock and random bytes.
pub fn new_id(host: &dyn Host) -> Result<RestoreId, Problem> {
    let mut random = [0_u8; 4];
    getrandom::fill(&mut random).map_err(|e| {
        cannot(
            format!("get random bytes: {e}"),
            "see that /dev/urandom is there",
        )
    })?;
    id_at(host.now().at_ms, u32::from_be_bytes(random))
}

/// The name of a restore that begins at this wall clock time (milliseconds since 1970 UTC).
pub fn id_at(at_ms: i64, random: u32) -> Result<RestoreId, Problem> {
    let failed =
        |e: &dyn std::fmt::Display| cannot(format!("name the restore: {e}"), "set the clock");
    let time = jiff::Timestamp::from_millisecond(at_ms).map_err(|e| failed(&e))?;
    RestoreId::new(format!("{}-{random:08x}", time.strftime("%Y%m%dT%H%M%SZ")))
        .map_err(|e| failed(&e))
}

/// Checks, surveys, rehearses and plans. Changes nothing.
pub fn prepare(
    profile: &Profile,
    host: &dyn Host,
    request: RestoreRequest,
) -> Result<Prepared, Fault> {
    // A gateway in the middle of another restore is not one to make a plan for.
    state_dir::none_open(profile, "restore")?;
    let file = again(&request.file, &request.name)?;
    let mut checked = verify::archive(profile, &shapes(profile), request.file, &request.name)?;
    let unready = preflight::check(host, profile);
    if !unready.is_empty() {
        return Err(Fault::Refused(unready));
    }
    let clients: HashSet<&str> = checked
        .clients
        .iter()
        .flatten()
        .map(|c| c.name.as_str())
        .collect();
    let backed_up = |name: &str| {
        let client = name
            .strip_suffix(".conf")
            .is_some_and(|n| clients.contains(n));
        client || checked.configs.contains_key(name)
    };
    let survey = survey::survey(host, profile, &backed_up).map_err(Fault::Refused)?;
    let unread = unread(&survey.facts, &request.choices);
    if !unread.is_empty() {
        return Err(Fault::Refused(unread));
    }
    let foreign = foreign_configs(profile, &survey, &checked);
    if !foreign.is_empty() {
        return Err(Fault::Refused(foreign));
    }
    let closed: Vec<Problem> = profile
        .gateway
        .database
        .iter()
        .filter(|d| survey.databases.contains_key(&d.name))
        .filter_map(|d| Live::new(profile).may_be_opened(&d.path).err())
        .collect();
    if !closed.is_empty() {
        return Err(Fault::Refused(closed));
    }
    let id = match request.id {
        Some(id) => id,
        None => new_id(host)?,
    };
    let clash = rehearsal::tunnels(host, profile, &mut checked)?;
    if !clash.is_empty() {
        return Err(Fault::Refused(clash));
    }
    leave_out_kept(host, profile, &mut checked)?;
    let consent = checked.consent(|tunnel| hooks_now(host, profile, &survey, tunnel));
    let left_behind: Vec<String> = checked.lost.iter().map(|l| l.said.clone()).collect();
    let (mut backup, rules, rebuilt) = wanted(host, &survey, checked, &request.choices)?;
    backup.warnings.splice(0..0, consent.sentences());
    let here = here(host, profile)?;
    let both = both_rules(&survey.facts, &rules)?;
    backup.said = said::said(&here, &survey, &backup, &both);
    backup.said.lost.extend(left_behind);
    let lost = backup.said.lost.len();
    let networks = networks_now(host, profile, &survey)?;
    let keep_open_folders = request.choices.keep_open_folders;
    let plan = planner::plan(profile, &survey, &networks, &backup, &id, request.choices)
        .map_err(Fault::Refused)?;
    drop(backup);
    let left = left_beside(host, &plan)?;
    if !left.is_empty() {
        return Err(Fault::Refused(left));
    }
    room(profile, host, &plan)?;
    if let Some(approved) = &request.approved
        && *approved != approval(&plan)
    {
        return Err(Fault::Refused(vec![cannot(
            "restore: the gateway or the backup changed since the plan was approved",
            "look at what it would do now, and approve that",
        )]));
    }
    Ok(Prepared {
        id,
        unsaved: replaced::unsaved(&plan, &survey.facts),
        plan: Arc::new(plan),
        lost,
        consent,
        facts: survey.facts,
        rules,
        file,
        exposed: match keep_open_folders {
            true => Vec::new(),
            false => survey.exposure.exposed,
        },
        rebuilt,
    })
}

/// Files of kept rules whose folder this box has not: what would read them is not installed here. They hold up nothing else.
fn leave_out_kept(
    host: &dyn Host,
    profile: &Profile,
    checked: &mut Checked,
) -> Result<(), Problem> {
    for family in Family::BOTH {
        let file = profile.gateway.firewall.kept_file(family);
        let file = file.map(KeptPlace::of).transpose()?;
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
            format!("see whether the service {service} runs: {why}"),
            "mend that, or name the service by commands in the profile; then try again",
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
        held.meta.uid != survey.owner.0
            && !survey.configs.contains_key(*name)
            && !clients.contains(stem)
    });
    foreign
        .map(|(name, _)| {
            let path = profile.gateway.wireguard_dir.join(name);
            cannot(
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

/// Begins the restore and runs it to its end. The caller holds the lock.
///
/// `seen` is told of every record once it is durable.
pub fn run<'a>(
    profile: &Profile,
    host: &'a dyn Machine,
    prepared: &'a Prepared,
    asked: &'a dyn Fn() -> bool,
    seen: OnRecord<'a>,
) -> Result<Ended, Fault> {
    state_dir::none_open(profile, "restore")?;
    let driver = process::driver(Role::Restore, host.boot()?, None)?;
    let source = Unpacked {
        profile,
        prepared,
        archive: RefCell::new(None),
    };
    let begin = Begin {
        id: &prepared.id,
        plan: &prepared.plan,
        facts: &prepared.facts,
        rules: &prepared.rules,
        source: &source,
        driver,
    };
    carry_out(profile, host, begin, asked, seen)
}

/// All that a restore begins with.
pub struct Begin<'a> {
    /// Its name.
    pub id: &'a RestoreId,
    /// What it will do.
    pub plan: &'a Arc<Plan>,
    /// Kernel facts as they are.
    pub facts: &'a Facts,
    /// What lies in `after/`, by the name of its file: the rules as the rehearsal printed them, and peers.
    pub rules: &'a BTreeMap<&'static str, String>,
    /// The contents of new files.
    pub source: &'a dyn Source,
    /// Who drives it.
    pub driver: Driver,
}

/// Keeps what going back needs, begins the journal, and drives. Sees everything through the host.
pub fn carry_out<'a>(
    profile: &Profile,
    host: &'a dyn Machine,
    begin: Begin<'a>,
    asked: &'a dyn Fn() -> bool,
    seen: OnRecord<'a>,
) -> Result<Ended, Fault> {
    let dir = profile.restore_dir(begin.id);
    let journal_path = state_dir::journal(profile, begin.id);
    if host.stat(&journal_path)?.is_some() {
        return Err(Fault::Refused(vec![cannot(
            format!("begin restore {}: it was begun before", begin.id),
            "see `holdfast journal show`",
        )]));
    }
    for sub in ["before", "after", "originals"] {
        host.keep_dir(&dir.join(sub))?;
    }
    let facts = serde_json::to_vec_pretty(begin.facts).map_err(|e| {
        cannot(
            format!("write the kernel facts: {e}"),
            "report this fault in holdfast",
        )
    })?;
    host.keep(&dir.join(FACTS), &facts)?;
    for (name, text) in begin.rules {
        host.keep(&dir.join("after").join(name), &octets::bytes(text))?;
    }
    let header = Header {
        format: begin.plan.format(),
        restore: begin.id.clone(),
        boot: begin.driver.boot.clone(),
        program: process::program(),
        plan: begin.plan.digest(),
    };
    let begun = JournalWriter::begin(
        host,
        &journal_path,
        header,
        begin.plan.clone(),
        begin.driver,
        seen,
    );
    let mut journal = match begun {
        Ok(journal) => journal,
        // Its name may be there although that is not known to last: then the restore is open, and must be closed.
        Err(problem) if host.stat(&journal_path)?.is_some() => {
            return Ok(Ended::HandOver(problem));
        }
        Err(problem) => return Err(problem.into()),
    };
    let barrier = profile.barrier();
    let drive = Drive {
        host,
        dir: &dir,
        barrier: &barrier,
        facts: begin.facts,
        source: Some(begin.source),
        asked,
        stage: BootStage::Whole,
    };
    let ending = match drive.run(&mut journal) {
        Ok(ending) => ending,
        Err(problem) => return Ok(Ended::HandOver(problem)),
    };
    conclude(ending, journal.state()).map(|warnings| Ended::Restored { warnings })
}

/// The ending as the exit status tells it: the warnings of a gateway that is restored, or the fault.
pub fn conclude(ending: Ending, state: &State) -> Result<Vec<String>, Fault> {
    match ending {
        Ending::Closed(Verdict::Restored) => {
            let mut warnings: Vec<String> = state
                .moves
                .iter()
                .flat_map(|m| m.warnings.clone())
                .collect();
            warnings.extend(state.closing_warnings.clone());
            Ok(warnings)
        }
        Ending::Closed(Verdict::RolledBack) => {
            Err(Fault::RolledBack(state.turned.clone().unwrap_or_else(
                || cannot("finish the restore", "see `holdfast journal show`"),
            )))
        }
        Ending::Closed(Verdict::NothingChanged) => {
            let failed = state
                .moves
                .iter()
                .rev()
                .find(|m| m.fate == Fate::Failed)
                .and_then(|m| m.problem.clone());
            Err(Fault::Failed(failed.unwrap_or_else(|| {
                cannot(
                    "finish the restore: it was ended before it changed anything",
                    "restore again",
                )
            })))
        }
        Ending::Stuck(problem) => Err(Fault::Stuck(problem)),
        Ending::BeforeNetwork => Ok(Vec::new()),
    }
}

/// The archive, the databases that were rebuilt, and the rules as the rehearsal printed them.
///
/// The archive's tables are kept only while it is unpacked: those of a large gateway are as large as the plan. What was
/// checked before is checked again against the plan, file by file, once it is staged.
struct Unpacked<'a> {
    profile: &'a Profile,
    prepared: &'a Prepared,
    archive: RefCell<Option<Archive>>,
}

impl Unpacked<'_> {
    fn open(&self) -> Result<Archive, Fault> {
        let name = &self.prepared.plan.archive.name;
        let databases = self.profile.gateway.database.iter();
        let databases: Vec<&str> = databases.map(|d| d.name.as_str()).collect();
        let file = again(&self.prepared.file, name)?;
        Archive::open_again(file, name, &self.profile.limits, &databases)
    }

    fn unpack(&self, entry: &str, out: &mut dyn Write) -> Result<(), Fault> {
        let mut kept = self.archive.borrow_mut();
        let archive = match kept.take() {
            Some(archive) => archive,
            None => self.open()?,
        };
        kept.insert(archive).copy(entry, out).map(drop)
    }
}

/// The same open file, not the same name, once more.
fn again(file: &File, name: &str) -> Result<File, Problem> {
    file.try_clone().map_err(|e| {
        cannot(
            format!("read the backup {}: {e}", name.escape_debug()),
            "see how many files this process may have open (ulimit -n)",
        )
    })
}

impl Source for Unpacked<'_> {
    fn copy(&self, entry: &str, out: &mut dyn Write) -> Result<(), Problem> {
        let rules = entry
            .strip_prefix(RULES)
            .and_then(|name| self.prepared.rules.get(name));
        if let Some(text) = rules {
            return out.write_all(&octets::bytes(text)).map_err(|e| {
                cannot(
                    format!("write the rules: {e}"),
                    "make room on that filesystem",
                )
            });
        }
        if let Some(path) = self.prepared.rebuilt.file(entry) {
            let copied = File::open(&path).and_then(|mut file| std::io::copy(&mut file, out));
            return copied.map(drop).map_err(|e| {
                cannot(
                    format!("copy the rebuilt {entry} from {}: {e}", path.display()),
                    "see whether a disk is full or failing, then restore again",
                )
            });
        }
        self.unpack(entry, out).map_err(|fault| match fault {
            Fault::Failed(p) => p,
            Fault::Refused(mut problems) if !problems.is_empty() => problems.remove(0),
            other => cannot(format!("unpack {entry}: {other}"), "restore again"),
        })
    }

    fn finished(&self) {
        self.archive.replace(None);
    }
}

/// What the planner needs of a checked backup; the rules are rehearsed on the way.
fn wanted(
    host: &dyn Host,
    survey: &Survey,
    checked: Checked,
    choices: &Choices,
) -> Result<(BackupForPlan, BTreeMap<&'static str, String>, Rebuilt), Fault> {
    let tried = rehearsal::rules(host, &checked.rules)?;
    let metadata = checked.archive.metadata();
    let mut warnings = Vec::new();
    let mut aside = LaidAside::of(metadata.holdfast.as_ref());
    aside.lost.clone_from(&checked.lost);
    let owners = metadata.holdfast.as_ref().map_or(&[][..], |m| &m.owners);
    // Names are looked up once each, not for every file.
    let mut placed: BTreeMap<usize, (Placement, Rc<str>)> = BTreeMap::new();
    let mut wanted = |file: FileInBackup| {
        let owner = file.owner.and_then(|place| {
            let facts = owners.get(place)?;
            let placed = placed.entry(place).or_insert_with(|| {
                let (owner, warning) = owner::placement(facts, survey.owner);
                warnings.extend(warning);
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
    };
    let (mut databases, mut users) = (BTreeMap::new(), BTreeMap::new());
    let mut mail = BTreeMap::new();
    let mut beside = BTreeMap::new();
    for database in checked.databases {
        if let Some(files) = database.beside {
            let files = files.into_iter().map(|(side, file)| (side, wanted(file)));
            beside.insert(database.name.clone(), files.collect());
        } else if database.kind == DatabaseKind::Users {
            let accounts = database.users.into_iter().map(Account::from).collect();
            users.insert(database.name.clone(), accounts);
            mail.extend(database.mail.map(|m| (database.name.clone(), m)));
        }
        databases.insert(database.name, wanted(database.file));
    }
    let (mut configs, mut wireguard) = (BTreeMap::new(), BTreeMap::new());
    let mut networks = BTreeMap::new();
    for (name, config) in checked.configs {
        let interface = name.strip_suffix(".conf").unwrap_or(&name);
        if config.can_be_a_tunnel {
            networks.insert(interface.to_owned(), config.networks.into_vec());
        }
        let mut file = |copy: CopyOf| copy.file(&checked.archive).map(&mut wanted);
        if let Some(copy) = config.first {
            configs.insert(name.clone(), file(copy)?);
        }
        if let Some(copy) = config.second {
            wireguard.insert(name, file(copy)?);
        }
    }
    let kept = checked.kept.into_iter();
    let kept = kept.map(|(family, file)| (family, wanted(file))).collect();
    let parts = metadata.holdfast.as_ref().map(|m| m.parts.clone());
    let parts = parts.unwrap_or_default();
    let was_not_there = |family: &Family| {
        let fate = parts.get(&Part::Kept(*family));
        checked.origin == Origin::Here && matches!(fate, Some(parts::PartFate::NotThere))
    };
    let kept_gone = Family::BOTH.into_iter().filter(was_not_there).collect();
    let (mut rules, mut texts) = (BTreeMap::new(), BTreeMap::new());
    for (family, tried) in tried {
        let facts = &survey.facts;
        if facts.rules(family).is_none() {
            let why = match facts.lack_protocol(family) {
                true => format!("the kernel of this box has no {}", family.name()),
                false => "those of now cannot be read, and so not be put back".to_owned(),
            };
            aside.rules.insert(family.name(), why);
            continue;
        }
        match tried {
            Tried::Loaded(text) => {
                let (sha256, size) = {
                    let bytes = octets::bytes(&text);
                    let sha256 = sha2::Sha256::digest(&bytes).into();
                    (Digest::of_bytes(sha256), bytes.len() as u64)
                };
                let entry = format!("{RULES}{}", family.rules_file());
                rules.insert(
                    family.rules_file(),
                    Wanted {
                        entry,
                        sha256,
                        size,
                        owner: None,
                        owner_shown: None,
                    },
                );
                texts.insert(family.rules_file(), text);
            }
            Tried::Refused(problem) | Tried::Untried(problem)
                if choices.keep_going_without_firewall =>
            {
                let why = in_a_line(&problem);
                aside.rules.insert(
                    family.name(),
                    format!("they cannot be loaded here, and that was accepted: {why}"),
                );
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
    let peers = match checked.peers.is_empty() {
        true => None,
        false => {
            let text = peers_text(&checked.peers)?;
            let sha256 = Digest::of_bytes(sha2::Sha256::digest(text.as_bytes()).into());
            texts.insert(expected_peers::FILE, text);
            Some(sha256)
        }
    };
    warnings.sort();
    warnings.dedup();
    warnings.extend(checked.warnings);
    Ok((
        BackupForPlan {
            archive: journal_format::ArchiveInfo {
                name: checked.archive.name().to_owned(),
                sha256: checked.sha256,
                size: checked.archive.size(),
                created_at: metadata.created_at.clone(),
                host: metadata.holdfast.as_ref().and_then(|m| m.host.clone()),
                made_by: metadata.made_by().to_owned(),
            },
            databases,
            beside,
            configs,
            wireguard,
            clients: checked.clients,
            users,
            mail,
            said: Said::default(),
            tunnels_up: checked.tunnels_up,
            networks,
            rules,
            ip_forward: checked.ip_forward,
            ipv6_forward: checked.ipv6_forward,
            peers,
            left_out: metadata
                .holdfast
                .as_ref()
                .map(|m| m.left_out.clone())
                .unwrap_or_default(),
            stays: checked.stays,
            parts,
            kept,
            kept_gone,
            aside,
            warnings,
        },
        texts,
        checked.rebuilt,
    ))
}

fn peers_text(peers: &BTreeMap<String, Peers>) -> Result<String, Problem> {
    serde_json::to_string(peers).map_err(|e| {
        cannot(
            format!("write the peers: {e}"),
            "report this fault in holdfast",
        )
    })
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
        host: backup::host_name().unwrap_or_default(),
        now_ms: host.now().at_ms,
        interfaces: rehearsal::interfaces(host)?,
        ssh: process::ssh_connection(),
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
                now: expected_rules::before(facts, family)?,
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
    for target in added.filter(|t| swap::beside(t, &plan.databases).is_none()) {
        let left = swap::side_files_there(host, &target.path)?;
        if !left.is_empty() {
            let moves = left.iter().map(|l| {
                let l = quoted(l);
                format!("mv {l} {l}.left")
            });
            problems.push(cannot(
                format!(
                    "put {} in place: {} lies there, of a database that is gone, and would be read as a part of the new one",
                    target.path,
                    left.join(" and ")
                ),
                format!(
                    "see whether that database was moved, and put it back; else: {}; then restore again",
                    moves.collect::<Vec<_>>().join("; ")
                ),
            ));
        }
    }
    Ok(problems)
}

/// Everything new beside everything old, on each filesystem, with something to spare.
fn room(profile: &Profile, host: &dyn Host, plan: &Plan) -> Result<(), Fault> {
    const SPARE: u64 = 16 << 20;
    let mut needed: BTreeMap<u64, (PathBuf, u64)> = BTreeMap::new();
    let mut add = |dir: &Path, bytes: u64| -> Result<(), Problem> {
        if let Some(meta) = host.stat(dir)? {
            needed
                .entry(meta.dev)
                .or_insert_with(|| (dir.to_owned(), SPARE))
                .1 += bytes;
        }
        Ok(())
    };
    for target in plan.databases.iter().chain(&plan.files) {
        let path = Path::new(&target.path);
        let Some(dir) = path.parent() else { continue };
        if host.stat(dir)?.is_none() {
            return Err(Fault::Refused(vec![cannot(
                format!(
                    "put {} in place: the folder {} is not there",
                    target.path,
                    dir.display()
                ),
                "make the folder, or name another place in the profile",
            )]));
        }
        // A filesystem gives a small file a whole block.
        let new = target.new.as_ref().map_or(0, |n| n.size.max(4096));
        let old = host.stat(path)?.map_or(0, |m| m.size.max(4096));
        add(dir, new)?;
        // Originals go into state_dir: nothing if it is the same filesystem, all of it if not; and the safety backup
        // holds them once more.
        add(&profile.state_dir, old)?;
    }
    for (dir, bytes) in needed.into_values() {
        let free = host.free_bytes(&dir)?;
        if free < bytes {
            return Err(Fault::Refused(vec![cannot(
                format!(
                    "restore: the filesystem of {} has {free} bytes free, and {bytes} are needed",
                    dir.display()
                ),
                "make room there, then try again",
            )]));
        }
    }
    Ok(())
}
