//! The steps: what one is, what it gets, and the two lists. Each step has its three functions side by side in a file of
//! its own; steps never import each other. Decides nothing about order or direction: that is `decide`'s.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use journal_format::{Control, Direction, Exchange, Move, Note, Plan, Service, Step, Target};

use crate::backup::{self, Made};
use crate::error::{Code, Fault, Problem, bug, cannot};
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::kernel_facts::Facts;
use crate::host::linux::Linux;
use crate::host::{Family, GatewayCommand, Holder, Host, Permit, Query, stirs};
use crate::restore::decide::Observed;
use crate::text::fence_rules;

mod clean_up;
mod configs;
mod databases;
mod fence;
mod rules;
mod safety_backup;
mod services;
mod stage;
mod tunnels;
mod verify;

/// How often a service that runs again is stopped in one go: a loop with a pause gives way to that.
const STOPS: u32 = 3;
/// A pause before a service is stopped once more, ms.
const AGAIN_MS: u64 = 200;

/// Where the contents of new files come from.
pub trait Source {
    /// Writes the bytes of one entry of the backup.
    fn copy(&self, entry: &str, out: &mut dyn Write) -> Result<(), Problem>;
    /// Nothing more is needed for now: what was kept for it may go.
    fn finished(&self) {}
}

/// The host of a restore, which can be saved before it is changed.
pub trait Machine: Host {
    /// Makes the safety backup; what it lacks is no fault here.
    fn safety_backup(&self, facts: &Facts) -> Result<Made, Fault>;
    /// How long a service is watched after its start, ms.
    fn watched_ms(&self) -> u64;
    /// Where the gateway keeps its clients; none where its profile names no such database.
    fn client_database(&self) -> Option<PathBuf>;
}

impl Machine for Linux {
    fn safety_backup(&self, facts: &Facts) -> Result<Made, Fault> {
        let dir = self.profile().backups_dir();
        let kernel = backup::Kernel::Known(facts);
        backup::make(
            self.profile(),
            &kernel,
            BackupKind::Safety,
            &dir,
            &mut |_| {},
        )
    }

    fn watched_ms(&self) -> u64 {
        self.profile().gateway.watch_seconds * 1000
    }

    fn client_database(&self) -> Option<PathBuf> {
        Some(self.profile().client_database()?.path.clone())
    }
}

/// What a step works with.
pub struct Env<'a> {
    /// The system.
    pub host: &'a dyn Machine,
    /// The plan.
    pub plan: &'a Plan,
    /// The restore's folder under `state_dir`.
    pub dir: &'a Path,
    /// Kernel facts as they were before.
    pub facts: &'a Facts,
    /// The backup; only while a restore prepares.
    pub source: Option<&'a dyn Source>,
    /// The machine has not been rebooted since the restore began.
    pub same_boot: bool,
    /// The services were started on the new databases, if only in an earlier boot: these are theirs to write to.
    pub served: bool,
    /// Some exchange may have been made: what is staged is whole, and may be what others left in a target's place.
    pub exchanged: bool,
    /// Nothing that the gateway uses was touched.
    pub untouched: bool,
    /// Some step that may take a tunnel down was begun: one on tunnels forward, or a start of the services.
    pub may_have_taken_down: bool,
    /// In this boot the backup's rules were loaded, or may have been.
    pub loaded: bool,
    /// What could not be brought up, and may lack.
    pub lacking: Lacking,
    /// It has its verdict, and what lacks is tried again, or it is cleaned up again.
    pub over: bool,
    /// The services were started in it, if it has its verdict since that.
    pub started: bool,
    /// The operator ended it where it stood.
    pub left: bool,
    /// The exchanges of the step, as its first intent noted them; most steps make none.
    pub exchanges: &'a [Exchange],
    /// The step was done before, and some of what it did is gone: the rest is whole.
    pub again: bool,
    /// Which try of the step it is in this boot, from 1.
    pub attempt: u32,
    /// Whether someone asked to turn back: a step that takes long before the first effect looks now and then.
    pub asked: &'a dyn Fn() -> bool,
}

impl Env<'_> {
    /// Every tunnel that goes down or comes up.
    pub fn replaced(&self) -> BTreeSet<&str> {
        let both = self.plan.tunnels_down.iter().chain(&self.plan.tunnels_up);
        let names = both.map(|t| t.name.as_str());
        names.filter(|name| !self.stays_up(name)).collect()
    }

    /// Whether this tunnel is left alone: the plan changes nothing of it, and it was up when this boot's restore began.
    pub fn stays_up(&self, tunnel: &str) -> bool {
        self.same_boot && self.plan.stays_up.iter().any(|name| name == tunnel)
    }

    /// Every file that is replaced, added or removed: databases first.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.plan.databases.iter().chain(&self.plan.files)
    }

    /// Whether the rules are in force before the services start, so that their start has to leave them so. Plans of older
    /// programs load them behind the start.
    pub fn loads_before_it_starts(&self, direction: Direction) -> bool {
        self.comes_before(direction, Step::LoadFirewall, Step::StartServices)
    }

    /// Whether the plan has the first of these steps before the second.
    pub fn comes_before(&self, direction: Direction, first: Step, second: Step) -> bool {
        let mut steps = self.plan.steps(direction).iter();
        steps.find(|s| [first, second].contains(s)) == Some(&first)
    }

    /// The tunnels that are up now.
    pub fn tunnels_up(&self) -> Result<BTreeSet<String>, Problem> {
        let out = self.host.ask(&Query::Tunnels, "")?;
        let out = out.expect_ok(
            Code::QUERY_FAILED,
            "list the tunnels",
            "install wireguard-tools",
        )?;
        Ok(out.split_whitespace().map(str::to_owned).collect())
    }

    /// Lets packets through the fence again.
    pub fn lift_fence(&self, permit: &Permit, advice: &str) -> Result<(), Problem> {
        let lifted = self
            .host
            .run(permit, &GatewayCommand::Nft, &fence_rules::lifted())?;
        lifted
            .expect_ok(Code::FENCE_REFUSED, "unblock tunnel traffic", advice)
            .map(drop)
    }

    /// Whether a service runs.
    pub fn runs(&self, service: &Service) -> Result<bool, Problem> {
        let active = Query::ServiceActive(service.control.clone());
        Ok(self.host.ask(&active, "")?.ok())
    }

    /// Stops one, whether it runs or is about to.
    pub fn stop_service(&self, permit: &Permit, service: &Service) -> Result<(), Problem> {
        let stop = GatewayCommand::ServiceStop(service.control.clone());
        let mut before: Option<RunSeen> = None;
        for tries in 1.. {
            let out = self.host.run(permit, &stop, "")?;
            if !stirs(self.host, &service.control)? {
                break;
            }
            let now = (self.run_of(service)?, self.holders());
            let is_another = before.is_some_and(|before| is_another_run(&before, &now));
            if tries == STOPS && is_another {
                return Err(started_again(service, &now.1));
            }
            if tries == STOPS {
                return Err(out.problem(
                    Code::SERVICE_DOES_NOT_STOP,
                    format!("stop {}: it still runs", service.name),
                    format!(
                        "stop {} by hand, and find out why it does not stop",
                        service.name
                    ),
                ));
            }
            before = Some(now);
            // A start of somebody else's may have been under way by then.
            self.host.sleep(AGAIN_MS);
        }
        Ok(())
    }

    /// What tells this run of a service from the next, where something does.
    pub fn run_of(&self, service: &Service) -> Result<Option<String>, Problem> {
        let run = Query::ServiceRun(service.control.clone());
        let run = self.host.ask(&run, "")?;
        let is_known = match service.control {
            Control::Unit(_) => run.ok(),
            // A command that says one number says which process runs.
            Control::Commands { .. } => run.stdout.trim().parse::<u32>().is_ok(),
        };
        Ok(is_known.then_some(run.stdout))
    }

    /// Why this service runs although it was stopped.
    pub fn started_again(&self, service: &Service) -> Problem {
        started_again(service, &self.holders())
    }

    /// Who has the gateway's databases open, in their places or put away; nobody where that cannot be told.
    fn holders(&self) -> Vec<Holder> {
        let files = self
            .plan
            .databases
            .iter()
            .flat_map(|t| [&t.path, &t.staged]);
        let files: Vec<PathBuf> = files.map(PathBuf::from).collect();
        self.host.holders(&files).unwrap_or_default()
    }

    /// The first of the services that runs, or is about to.
    pub fn stirring(&self) -> Result<Option<&Service>, Problem> {
        for service in &self.plan.services {
            if stirs(self.host, &service.control)? {
                return Ok(Some(service));
            }
        }
        Ok(None)
    }

    /// Whether nobody can demand of a service that it runs: it did not before, and that is how it shall be again.
    pub fn faltered(&self, service: &Service, direction: Direction) -> bool {
        direction == Direction::Back && self.facts.faltering.contains(&service.name)
    }

    /// The services that should run and do not, as a person reads it.
    pub fn silent(&self, direction: Direction) -> Result<Vec<String>, Problem> {
        let mut silent = Vec::new();
        for service in &self.plan.services {
            let may_be =
                self.faltered(service, direction) || self.lacking.services.contains(&service.name);
            if !may_be && !self.runs(service)? {
                silent.push(format!("{} does not run", service.name));
            }
        }
        Ok(silent)
    }

    /// Holds space on the disk while a restore is under way. Whoever goes back gives it up first: on a disk that is full
    /// the old services would not start either.
    pub fn ballast(&self) -> PathBuf {
        self.dir.join(BALLAST)
    }

    /// The rules to load, as the rehearsal printed them.
    pub fn after_rules(&self, family: Family) -> PathBuf {
        self.dir.join("after").join(family.rules_file())
    }
}

/// A run of a service, as far as something tells it from the next, and the processes that have the databases open.
type RunSeen = (Option<String>, Vec<Holder>);

/// Whether a service was stopped and runs again, rather than still.
fn is_another_run((run, had): &RunSeen, (now, have): &RunSeen) -> bool {
    let pids = |holders: &[Holder]| holders.iter().map(|h| h.pid).collect::<BTreeSet<_>>();
    let (had, have) = (pids(had), pids(have));
    let other = run.as_ref().zip(now.as_ref()).is_some_and(|(a, b)| a != b);
    other || !had.is_empty() && !have.is_empty() && had.is_disjoint(&have)
}

/// Why a service that was stopped runs all the same, and what may start it, as far as the processes tell that have its databases
/// open.
fn started_again(service: &Service, holders: &[Holder]) -> Problem {
    let child = |holder: &Holder| {
        let parent = holder.child_of.clone()?;
        let (command, pid) = (&holder.command, holder.pid);
        Some((
            format!("{command} (pid {pid}) is a child of {parent}"),
            parent,
        ))
    };
    // Who sits at a terminal mostly reads.
    let (reads, works): (Vec<&Holder>, Vec<&Holder>) =
        holders.iter().partition(|holder| holder.at_a_terminal);
    let child = works.into_iter().chain(reads).find_map(child);
    let mut what = format!("keep {} stopped: something starts it again", service.name);
    let meanwhile = "for as long as the restore takes";
    let advice = match (&service.control, child) {
        (_, Some((child, parent))) => {
            what.push_str(&format!("; {child}"));
            format!("see with `ps -fp PID` what {parent} is, and end it {meanwhile}")
        }
        (Control::Unit(unit), None) => format!(
            "find what starts it (`journalctl -u {unit}`, a cron job, a loop), and end that {meanwhile}"
        ),
        (Control::Commands { .. }, None) => format!(
            "find what starts it (a supervisor, a cron job, a loop), and end that {meanwhile}; or let its `stop` command in the \
             profile stop that as well"
        ),
    };
    cannot(Code::SERVICE_STARTED_AGAIN, what, advice)
}

/// The file in the restore's folder that holds space on its disk.
pub const BALLAST: &str = "ballast";

/// What a move did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// A line for each thing done.
    pub did: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<Note>,
}

/// What could not be brought up and may lack, by name: no check demands it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Services.
    pub services: BTreeSet<String>,
    /// Tunnels.
    pub tunnels: BTreeSet<String>,
    /// Clients whose status could not be set right.
    pub statuses: bool,
}

impl Lacking {
    /// As these notes say.
    pub fn of(notes: &[Note]) -> Lacking {
        let named = |code| {
            let lacks = notes.iter().filter(|n| n.is(&code));
            lacks.filter_map(|n| n.name.clone()).collect()
        };
        Lacking {
            services: named(Code::SERVICE_STAYS_DOWN),
            tunnels: named(Code::TUNNEL_STAYS_DOWN),
            statuses: notes.iter().any(|n| n.is(&Code::STATUS_STAYS_CHANGED)),
        }
    }

    /// The same once a step has found out anew what it is about.
    pub fn once(self, step: Step, notes: &[Note]) -> Lacking {
        let found = Lacking::of(notes);
        match step {
            Step::StartServices => Lacking {
                services: found.services,
                ..self
            },
            Step::TunnelsUp => Lacking {
                tunnels: found.tunnels,
                ..self
            },
            Step::SafetyBackup
            | Step::Stage
            | Step::Fence
            | Step::StopServices
            | Step::TunnelsDown
            | Step::ResetRules
            | Step::SettleDatabases
            | Step::SwapDatabases
            | Step::SwapConfigs
            | Step::VerifyAtRest
            | Step::LoadFirewall
            | Step::VerifyRunning
            | Step::LiftFence
            | Step::CleanUp => self,
        }
    }
}

impl Report {
    /// It did one thing.
    pub fn did(line: impl Into<String>) -> Report {
        Report {
            did: vec![line.into()],
            ..Report::default()
        }
    }
}

/// What every step has. Each function may run twice in a row, and after a crash at any point of an earlier run.
pub trait StepOps: Sync {
    /// The exchanges that it will make, as they are before the first of them; most steps make none.
    fn exchanges(&self, _env: &Env) -> Result<Vec<Exchange>, Problem> {
        Ok(Vec::new())
    }
    /// Keeps, before its intent, what it may undo and has to know later; says what it could not keep. Changes nothing of the
    /// gateway's; most steps keep nothing.
    fn prepare(&self, _env: &Env, _move: Move) -> Vec<Note> {
        Vec::new()
    }
    /// Does it.
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem>;
    /// Leads back to Before.
    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem>;
    /// Looks at the host: [`Observed::After`] is where the given direction leads.
    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem>;
}

/// The functions of a step.
pub fn ops(step: Step) -> &'static dyn StepOps {
    match step {
        Step::SafetyBackup => &safety_backup::SafetyBackup,
        Step::Stage => &stage::Stage,
        Step::Fence => &fence::Fence,
        Step::StopServices => &services::StopServices,
        Step::TunnelsDown => &tunnels::TunnelsDown,
        Step::ResetRules => &rules::ResetRules,
        Step::SettleDatabases => &databases::SettleDatabases,
        Step::SwapDatabases => &databases::SwapDatabases,
        Step::SwapConfigs => &configs::SwapConfigs,
        Step::TunnelsUp => &tunnels::TunnelsUp,
        Step::VerifyAtRest => &verify::VerifyAtRest,
        Step::StartServices => &services::StartServices,
        Step::LoadFirewall => &rules::LoadFirewall,
        Step::VerifyRunning => &verify::VerifyRunning,
        Step::LiftFence => &fence::LiftFence,
        Step::CleanUp => &clean_up::CleanUp,
    }
}

/// A step has no way back because the list back does not hold it.
fn no_way_back(step: Step) -> Problem {
    bug(format!("go back over {step}: it has no way back"))
}

/// The observation of a list in which nothing may be left.
fn seen(left: Vec<String>) -> Observed {
    if left.is_empty() {
        Observed::After
    } else {
        Observed::Between(left.join("; "))
    }
}
