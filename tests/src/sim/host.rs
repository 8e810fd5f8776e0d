//! The second host: the engine's seam to the system over a simulated machine. Every change that a call makes is one
//! effect, and after each one a picture of the world can be taken: a crash is a world that is taken up again from there.
//!
//! Watches laws that only the host can see: an intent is durable before each change (I2), so is the barrier before each
//! change of the gateway, the fence is closed around tunnels and rules, and no name outside the restore's places is
//! touched (I8).

mod act;
mod databases;
mod look;
mod own;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::error::{Code, cannot};
use engine::host::Permit;
use journal_format::{Direction, Fate, Plan, Problem, Step, scan};

use super::world::World;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It does nothing and says so.
    Refused,
    /// It does its work and then reports failure; an append is written and its sync fails.
    AfterTheFact,
    /// It does half of its work.
    HalfWay,
    /// A command does half of its work, and is ended at its time limit; so is a program that is asked, before it answers.
    Hangs,
    /// A command does nothing and says that it did its work; what is no command does not lie.
    Lies,
}

/// Which calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// The first call that fails, from 0.
    pub at: u64,
    /// All calls that change something fail from there on.
    pub for_ever: bool,
    /// How.
    pub how: How,
}

/// The world after one effect.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The effect.
    pub what: String,
    /// The world.
    pub world: World,
}

/// The places of one restore.
#[derive(Debug, Clone)]
pub struct Places {
    /// Holdfast's own folder.
    pub state_dir: String,
    /// The journal.
    pub journal: PathBuf,
    /// The barrier.
    pub barrier: PathBuf,
    /// Every target, staged name and side file.
    pub names: BTreeSet<String>,
    /// Staging folders.
    pub staging: BTreeSet<String>,
}

impl Places {
    /// Where nothing is changed.
    pub fn nowhere() -> Places {
        Places {
            state_dir: String::new(),
            journal: PathBuf::new(),
            barrier: PathBuf::new(),
            names: BTreeSet::new(),
            staging: BTreeSet::new(),
        }
    }

    /// The places that a plan names.
    pub fn of(plan: &Plan, state_dir: &Path, journal: PathBuf, barrier: PathBuf) -> Places {
        let mut names = BTreeSet::new();
        for target in plan.databases.iter().chain(&plan.files) {
            for name in [&target.path, &target.staged] {
                names.insert(name.clone());
                names.extend(super::world::side_files(name));
                // What lay beside a database that went back.
                names.extend(super::world::side_files(name).map(|side| format!("{side}.left")));
            }
        }
        // A config over which a start of the service wrote is put back from beside it.
        let id = journal.parent().and_then(Path::file_name);
        let id = id.unwrap_or_default().display().to_string();
        let tunnels = plan.tunnels_down.iter().chain(&plan.tunnels_up);
        let configs = tunnels.map(|t| &t.config);
        for config in configs.chain(plan.files.iter().map(|t| &t.path)) {
            if let Some((dir, name)) = config.rsplit_once('/') {
                names.insert(format!("{dir}/.{name}.holdfast-{id}"));
            }
        }
        let staging: BTreeSet<String> = plan.staging.iter().cloned().collect();
        for dir in &staging {
            names.extend([format!("{dir}/trial-a"), format!("{dir}/trial-b")]);
        }
        Places {
            state_dir: state_dir.display().to_string(),
            journal,
            barrier,
            names,
            staging,
        }
    }

    fn hold(&self, path: &Path) -> bool {
        let text = path.display().to_string();
        text.starts_with(&self.state_dir)
            || self.names.contains(&text)
            || self.staging.contains(&text)
    }
}

/// A restore makes some 570 calls, and one with all of its tries a few thousand: what goes on is taken for endless.
const ENDLESS: u64 = 20_000;

struct Inner {
    world: Mutex<World>,
    moments: Mutex<Option<Vec<Moment>>>,
    places: Places,
    trouble: Option<Trouble>,
    calls: AtomicU64,
    commands: Mutex<Vec<u64>>,
    asked: Mutex<Vec<u64>>,
    effects: AtomicU64,
}

/// A machine that a restore or a recovery runs on.
#[derive(Clone)]
pub struct Sim(Arc<Inner>);

fn failed(why: String) -> Problem {
    cannot(Code::IO, why, "this is a simulated machine")
}

/// The step that a journal is at, and its direction if that is back.
pub fn step_of(journal: &[u8]) -> String {
    let moves = scan(journal).state.map(|s| s.moves).unwrap_or_default();
    match moves.last() {
        None => "before the first effect".to_owned(),
        Some(last) if last.step.is_preparation() => "before the first effect".to_owned(),
        Some(last) => match (last.step, last.direction, last.fate) {
            (Step::VerifyRunning, _, Fate::Done) | (Step::LiftFence | Step::CleanUp, ..) => {
                "after the last look".to_owned()
            }
            (step, Direction::Forward, _) => step.slug().to_owned(),
            (step, Direction::Back, _) => format!("{} back", step.slug()),
        },
    }
}

impl Sim {
    /// Takes a world up. With `watched`, a moment is kept after every effect.
    pub fn new(world: World, places: &Places, trouble: Option<Trouble>, watched: bool) -> Sim {
        Sim(Arc::new(Inner {
            moments: Mutex::new(watched.then(Vec::new)),
            world: Mutex::new(world),
            places: places.clone(),
            trouble,
            calls: AtomicU64::new(0),
            commands: Mutex::new(Vec::new()),
            asked: Mutex::new(Vec::new()),
            effects: AtomicU64::new(0),
        }))
    }

    /// The world as it is now.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every moment since it was taken up.
    pub fn moments(&self) -> Vec<Moment> {
        let mut moments = self
            .0
            .moments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        moments.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Which of them ran a command, from 0.
    pub fn command_calls(&self) -> Vec<u64> {
        let commands = self.0.commands.lock();
        commands.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which of them asked a program, from 0.
    pub fn asking_calls(&self) -> Vec<u64> {
        let asked = self.0.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fails(&self, changes: bool) -> Option<How> {
        self.next_call(changes).1.filter(|how| *how != How::Lies)
    }

    fn command_fails(&self) -> Option<How> {
        let (n, how) = self.next_call(true);
        let commands = self.0.commands.lock();
        commands.unwrap_or_else(PoisonError::into_inner).push(n);
        how
    }

    fn next_call(&self, changes: bool) -> (u64, Option<How>) {
        let n = self.0.calls.fetch_add(1, Ordering::Relaxed);
        assert!(n < ENDLESS, "a run that makes {n} calls does not end");
        let mut world = self.world();
        if let Some(actor) = world.actor.take_if(|actor| actor.at == n) {
            let journal = world.disk.read(&self.0.places.journal);
            world.acted = Some(step_of(&journal.unwrap_or_else(|| Arc::from([]))));
            actor.deed.act(&mut world);
        }
        drop(world);
        let fails = |t: &Trouble| n == t.at || t.for_ever && changes && n > t.at;
        (n, self.0.trouble.filter(fails).map(|t| t.how))
    }

    fn looks(&self, what: &str) -> Result<MutexGuard<'_, World>, Problem> {
        match self.fails(false) {
            None => Ok(self.world()),
            Some(_) => Err(failed(format!("{what}: input/output error"))),
        }
    }

    fn effect(&self, world: &mut World, what: &str, path: &Path) {
        // What an earlier driver left behind goes on in its own time.
        let n = self.0.effects.fetch_add(1, Ordering::Relaxed);
        if n == 3 && !world.under_way.pieces.is_empty() {
            world.finish_under_way();
        }
        self.moment(world, what, path);
    }

    fn moment(&self, world: &World, what: &str, path: &Path) {
        let mut moments = self
            .0
            .moments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(moments) = moments.as_mut() {
            moments.push(Moment {
                what: format!("{what} {}", path.display()),
                world: world.clone(),
            });
        }
    }

    /// One change of what is Holdfast's own.
    fn own(
        &self,
        world: &mut World,
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut World) -> Result<(), String>,
    ) -> Result<(), Problem> {
        if !path.starts_with(&self.0.places.state_dir) {
            world.breaks(format!("I8: {what} {} as its own", path.display()));
        }
        act(world).map_err(|e| failed(format!("{what} {e}")))?;
        self.effect(world, what, path);
        Ok(())
    }

    /// Whether the restore is over: its rules are in force.
    fn is_over(&self, world: &World) -> bool {
        let journal = world.disk.read_durable(&self.0.places.journal);
        let journal = journal.unwrap_or_else(|| Arc::from([]));
        let mut lines = journal.split(|b| *b == b'\n');
        lines.any(|line| String::from_utf8_lossy(line).contains(r#""entry":{"closed""#))
    }

    /// I2, I8, and the order of barrier and fence.
    fn watch(&self, world: &mut World, permit: &Permit, what: &str, path: &Path) {
        let step = permit.r#move().step;
        let journal = world
            .disk
            .read_durable(&self.0.places.journal)
            .unwrap_or_else(|| Arc::from([]));
        let body = journal.strip_suffix(b"\n").unwrap_or(&journal);
        let last = body.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let last = String::from_utf8_lossy(last);
        if !last.contains(r#""intent""#) || !last.contains(&format!("\"{}\"", step.slug())) {
            world.breaks(format!(
                "I2: {what} {} without a durable intent of {step}",
                path.display()
            ));
        }
        // Once it is over, what lacks is tried again without one: whatever ends that, the gateway is one set's.
        if !self.is_over(world)
            && !step.is_preparation()
            && step != Step::CleanUp
            && world.disk.read_durable(&self.0.places.barrier).is_none()
        {
            world.breaks(format!(
                "{what} {} of {step} before the barrier is durable",
                path.display()
            ));
        }
        let named = path.starts_with("/") && !what.starts_with("sync");
        if named && !self.0.places.hold(path) {
            world.breaks(format!(
                "I8: {what} {} is outside of the restore's places",
                path.display()
            ));
        }
    }
}
