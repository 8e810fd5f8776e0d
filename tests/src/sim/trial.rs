//! Runs a restore and recoveries on simulated machines, as the program does at its start. Owns how one run follows
//! another; judges nothing.

use engine::error::Fault;
use engine::host::Look;
use engine::restore::driver::BootStage;
use engine::restore::recover::{self, Recovered};
use engine::restore::{self, Begin, Ended, again};
use engine::state_dir::OpenRestore;
use journal_format::{
    BootId, Driver, Entry, Policy, RestoreId, Role, Soundness, Step, Verdict, scan,
};

use super::gateway::Scenario;
use super::host::{Moment, Sim, Trouble};
use super::world::World;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Nothing was open.
    Idle,
    /// With this verdict.
    Closed(Verdict),
    /// It was over before this run.
    Over,
    /// Files and databases are settled; the rest waits for the network.
    BeforeNetwork,
    /// The operator is needed; why.
    Stuck(String),
    /// The journal could not be written: a fresh recovery must take over; or it never began.
    Broken(String),
}

/// One run and what came of it.
pub struct Run {
    /// How it ended.
    pub end: End,
    /// The world after it.
    pub world: World,
    /// The world after each effect, if that was asked for.
    pub moments: Vec<Moment>,
    /// How many calls it made.
    pub calls: u64,
    /// Which of them ran a command.
    pub commands: Vec<u64>,
}

/// How a recovery is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Why.
    pub role: Role,
    /// The choice made for it.
    pub policy: Option<Policy>,
    /// How far it goes.
    pub stage: BootStage,
}

impl Start {
    /// At boot once the network is there, or by the agent.
    pub const AUTO: Start = Start {
        role: Role::Recover,
        policy: None,
        stage: BootStage::Whole,
    };
    /// At boot, before the network.
    pub const BEFORE_NETWORK: Start = Start {
        role: Role::Recover,
        policy: None,
        stage: BootStage::BeforeNetwork,
    };
    /// `holdfast recover --resume`.
    pub const RESUME: Start = Start {
        role: Role::RecoverByHand,
        policy: Some(Policy::Resume),
        stage: BootStage::Whole,
    };
    /// `holdfast recover --roll-back`.
    pub const ROLL_BACK: Start = Start {
        role: Role::RecoverByHand,
        policy: Some(Policy::RollBack),
        stage: BootStage::Whole,
    };
    /// All of them.
    pub const ALL: [Start; 3] = [Start::AUTO, Start::RESUME, Start::ROLL_BACK];
}

fn driver(world: &World, start: Start) -> Option<Driver> {
    Some(Driver {
        role: start.role,
        boot: BootId::new(format!("boot-{}", world.boot)).ok()?,
        pid: 7,
        session: 7,
        started_ticks: world.clock,
        policy: start.policy,
    })
}

impl Scenario {
    /// Runs the restore.
    pub fn restore(&self, trouble: Option<Trouble>, watched: bool) -> Run {
        self.restore_on(self.world.clone(), trouble, watched, None)
    }

    /// Runs the restore; someone asks to turn back once so many records are durable.
    pub fn restore_on(
        &self,
        world: World,
        trouble: Option<Trouble>,
        watched: bool,
        asked_at: Option<u64>,
    ) -> Run {
        let start = Start {
            role: Role::Restore,
            policy: None,
            stage: BootStage::Whole,
        };
        let Some(driver) = driver(&world, start) else {
            return Run {
                end: End::Broken("no driver".into()),
                world,
                moments: Vec::new(),
                calls: 0,
                commands: Vec::new(),
            };
        };
        let sim = Sim::new(world, &self.places, trouble, watched);
        let begin = Begin {
            id: &self.id,
            plan: &self.plan,
            facts: &self.facts,
            rules: &self.rules,
            source: self,
            start: driver.into(),
            format: self.format,
        };
        let records = || {
            let journal = sim.world().disk.read_durable(&self.places.journal);
            let lines = journal.map_or(0, |j| j.iter().filter(|b| **b == b'\n').count());
            lines.saturating_sub(1) as u64
        };
        let asked = || asked_at.is_some_and(|at| records() >= at);
        let ended = restore::carry_out(&self.profile, &sim, begin, &asked);
        let end = match ended {
            Ok(Ended::Restored { .. }) => End::Closed(Verdict::Restored),
            Ok(Ended::HandOver(problem)) => End::Broken(problem.to_string()),
            Err(fault) => of_fault(fault),
        };
        finish(&sim, end)
    }

    /// The world of a restore that nothing disturbs, when the intent of this step is first there.
    pub fn begun(&self, step: Step) -> Option<World> {
        let is_begun = |m: &Moment| {
            let journal = m.world.disk.read(&self.places.journal).unwrap_or_default();
            let mut entries = scan(&journal).records.into_iter().map(|r| r.entry);
            entries.any(|e| matches!(e, Entry::Intent { r#move, .. } if r#move.step == step))
        };
        let mut moments = self.restore(None, true).moments.into_iter();
        Some(moments.find(is_begun)?.world)
    }

    /// What `holdfast recover` does at its start: finds the open restore, and settles it.
    pub fn recover(
        &self,
        world: World,
        start: Start,
        trouble: Option<Trouble>,
        watched: bool,
    ) -> Run {
        let Some(driver) = driver(&world, start) else {
            return Run {
                end: End::Broken("no driver".into()),
                world,
                moments: Vec::new(),
                calls: 0,
                commands: Vec::new(),
            };
        };
        let open = match self.open_restore(&world) {
            Ok(Some(open)) => open,
            Ok(None) => return self.try_again(world, driver, start, trouble, watched),
            Err(why) => {
                return Run {
                    end: End::Stuck(why),
                    world,
                    moments: Vec::new(),
                    calls: 0,
                    commands: Vec::new(),
                };
            }
        };
        let mut world = world;
        world.orphan();
        let sim = Sim::new(world, &self.places, trouble, watched);
        let asked = || false;
        let recovered = recover::settle(
            &self.profile,
            &sim,
            open,
            (driver, start.stage),
            &asked,
            |_| {},
        );
        let end = match recovered {
            Ok(recovered) => of_recovered(recovered),
            Err(fault) => of_fault(fault),
        };
        finish(&sim, end)
    }

    /// What a recovery does that finds no restore open.
    fn try_again(
        &self,
        world: World,
        driver: Driver,
        start: Start,
        trouble: Option<Trouble>,
        watched: bool,
    ) -> Run {
        let is_over = world.disk.find(&self.places.journal).is_some();
        let mut world = world;
        world.orphan();
        let sim = Sim::new(world, &self.places, trouble, watched);
        if !is_over || start.stage == BootStage::BeforeNetwork {
            return finish(&sim, End::Idle);
        }
        let tried = again::run(&self.profile, &sim, &self.id, driver);
        let end = match tried {
            Ok(None) => End::Idle,
            Ok(Some(tried)) => End::Closed(tried.verdict),
            Err(problem) => End::Stuck(problem.to_string()),
        };
        finish(&sim, end)
    }

    /// The barrier's restore, else one whose journal is not closed.
    fn open_restore(&self, world: &World) -> Result<Option<OpenRestore>, String> {
        if let Some(bytes) = world.disk.read(&self.places.barrier) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let id = text
                .lines()
                .next()
                .and_then(|l| l.strip_prefix("# holdfast "))
                .and_then(|n| RestoreId::new(n).ok())
                .ok_or("the barrier names no restore")?;
            return Ok(Some(OpenRestore { id, barrier: true }));
        }
        let Some(bytes) = world.disk.read(&self.places.journal) else {
            return Ok(None);
        };
        Ok(match scan(&bytes).soundness() {
            Soundness::Closed(_) => None,
            _ => Some(OpenRestore {
                id: self.id.clone(),
                barrier: false,
            }),
        })
    }
}

fn of_recovered(recovered: Recovered) -> End {
    match recovered {
        Recovered::Idle(_) | Recovered::NothingToDo(_) => End::Idle,
        Recovered::Over(..) => End::Over,
        Recovered::BeforeNetwork(_) => End::BeforeNetwork,
        Recovered::TriedAgain { verdict, .. } => End::Closed(verdict),
        Recovered::Settled { result, .. } => match result {
            Ok(_) => End::Closed(Verdict::Restored),
            Err(fault) => of_fault(fault),
        },
    }
}

fn of_fault(fault: Fault) -> End {
    match fault {
        Fault::RolledBack(_) => End::Closed(Verdict::RolledBack),
        Fault::Failed(_) => End::Closed(Verdict::NothingChanged),
        Fault::Stuck(problem) => End::Stuck(problem.to_string()),
        Fault::Declined | Fault::Usage(_) | Fault::Refused(_) | Fault::Busy(_) => {
            End::Broken(fault.to_string())
        }
    }
}

fn finish(sim: &Sim, end: End) -> Run {
    let moments = sim.moments();
    let (calls, commands) = (sim.calls(), sim.command_calls());
    let mut world = sim.world().clone();
    world.finish_under_way();
    world.finish_orphaned();
    let _ = sim.now();
    Run {
        end,
        world,
        moments,
        calls,
        commands,
    }
}
