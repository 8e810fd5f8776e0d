//! Starts a worker: this same program, for a restore or a recovery, apart from whoever started it. Owns the way there and what
//! workers say of themselves; what a worker does is `work`'s.
//!
//! Where systemd runs, a worker gets a scope of its own: a session alone ends with the login, the timer or the unit that it was
//! started from. A service of systemd's would leave the caller's network namespace, and end `wireguard-go` with itself. A scope
//! takes the very process that is started here, so its number and its namespaces stay.

use std::fs::DirBuilder;
use std::io::{Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::order::{WorkOrder, WorkReport, WorkerState};
use crate::error::{Code, OrCannot, Problem, bug, cannot};
use crate::files::whole;
use crate::host::programs;

/// The command of `holdfast` that is a worker.
pub const COMMAND: &str = "work";

/// Where workers say how they stand. It is for this boot alone, and can be written to while the disk of `state_dir` cannot.
const SAID: &str = "/run/holdfast/work";
/// What a worker said is kept for whoever comes back to it.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long systemd may take to make a scope.
const SCOPE: Duration = Duration::from_secs(5);
/// How often it is looked whether a worker has its order.
const LOOK: Duration = Duration::from_millis(2);

/// A worker that this process started.
pub struct Worker {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
}

/// Starts a worker and returns once it has its order. `name` tells it from others, in what it says and in lists of processes.
pub fn launch(config: &Path, name: &str, order: &WorkOrder) -> Result<Worker, Problem> {
    let config = std::path::absolute(config).or_cannot(
        Code::IO,
        format_args!("find the profile {}", config.display()),
        "name it by its whole path",
    )?;
    let order = serde_json::to_vec(order).map_err(|e| bug(format!("write an order: {e}")))?;
    make()?;
    forget(name);
    let program = programs::this_program().map_err(not_started)?;
    let mut tried = None;
    if Path::new("/run/systemd/system").exists() {
        let mut command = scope(name);
        command.arg(&program);
        tried = begin(command, &config, name, &order, Some(SCOPE)).unwrap_or_default();
    }
    match tried {
        Some(worker) => Ok(worker),
        None => begin(plain(&program), &config, name, &order, None)
            .map_err(not_started)?
            .ok_or_else(|| not_started("it ended at once")),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "Holdfast starts itself: a worker is a process of its own"
)]
fn plain(program: &Path) -> Command {
    Command::new(program)
}

/// What ends a scope (a shutdown) does so by a kill: a restore that is cut off is settled at the next boot, while one that were
/// asked to turn back could not start services any more.
#[expect(
    clippy::disallowed_methods,
    reason = "a worker outlives the limits of what `programs` runs"
)]
fn scope(name: &str) -> Command {
    let mut command = Command::new(programs::found("systemd-run"));
    command
        .args(["--scope", "--quiet", "--collect", "--no-ask-password"])
        .arg("--slice=system.slice")
        .arg(format!("--unit=holdfast-{name}"))
        .args(["--property=KillSignal=SIGKILL", "--"]);
    command
}

fn not_started(why: impl std::fmt::Display) -> Problem {
    cannot(
        Code::UNFIT_SYSTEM,
        format!("start the process that does the work: {why}"),
        "see that the holdfast program is where it was, then try again; nothing was changed",
    )
}

/// None where it did not come so far as to take its order: then nothing has begun.
fn begin(
    mut command: Command,
    config: &Path,
    name: &str,
    order: &[u8],
    within: Option<Duration>,
) -> std::io::Result<Option<Worker>> {
    let mut stdin = programs::in_memory()?;
    stdin.write_all(order)?;
    stdin.rewind()?;
    command.arg("--config").arg(config).args([COMMAND, name]);
    let command = command
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn()?;
    loop {
        // Looked at before what it said: what an ended process said is then all there.
        let ended = child.try_wait()?.is_some();
        if said(name).is_some() {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
            let (name, child) = (name.to_owned(), Mutex::new(child));
            return Ok(Some(Worker { name, pid, child }));
        }
        if ended {
            return Ok(None);
        }
        if within.is_some_and(|limit| began.elapsed() > limit) {
            child.kill()?;
            child.wait()?;
            forget(name);
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

impl Worker {
    /// The name that it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// How its process ended; none while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        // What cannot be asked has not been waited for by anybody else.
        self.child().try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&self) -> std::io::Result<ExitStatus> {
        // Not taken off the list of processes before others are kept out: until then its number is nobody else's.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while let Err(nix::Error::EINTR) = waitid(Id::Pid(self.pid), look) {}
        self.child().wait()
    }

    /// Asks it to turn back, if it still can.
    pub fn turn_back(&self) {
        let mut child = self.child();
        if matches!(child.try_wait(), Ok(None)) {
            // It may have ended in between, and is then still on the list of processes.
            let _ = kill(self.pid, Signal::SIGTERM);
        }
    }

    /// What it left behind at its end; none if it was killed.
    pub fn report(&self) -> Option<WorkReport> {
        report(&self.name)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the worker of this name said last; none if it was never there, or long ago.
pub fn said(name: &str) -> Option<WorkerState> {
    serde_json::from_slice(&std::fs::read(place(name)).ok()?).ok()
}

/// What the worker of this name left behind at its end.
pub fn report(name: &str) -> Option<WorkReport> {
    match said(name)? {
        WorkerState::Ended(report) => Some(*report),
        WorkerState::Runs(_) => None,
    }
}

/// Takes away what the worker of this name said.
pub fn forget(name: &str) {
    // If it stays it is swept in a day.
    let _ = std::fs::remove_file(place(name));
}

/// Of a worker: says how it stands.
pub(super) fn say(name: &str, said: &WorkerState) -> Result<(), Problem> {
    make()?;
    let bytes = serde_json::to_vec(said);
    let bytes = bytes.map_err(|e| bug(format!("say how a worker stands: {e}")))?;
    whole::write(&place(name), &bytes, 0o600).or_cannot(
        Code::IO,
        format_args!("write {}", place(name).display()),
        "see that /run can be written to",
    )
}

fn place(name: &str) -> PathBuf {
    Path::new(SAID).join(name)
}

/// Makes the folder, and removes from it what is old.
fn make() -> Result<(), Problem> {
    let made = || -> std::io::Result<()> {
        std::fs::create_dir_all(Path::new(SAID).parent().unwrap_or(Path::new("/")))?;
        match DirBuilder::new().mode(0o700).create(SAID) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
            Ok(()) | Err(_) => {}
        }
        for entry in std::fs::read_dir(SAID)?.flatten() {
            let at = entry.metadata().and_then(|m| m.modified());
            if at.is_ok_and(is_old) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    };
    made().or_cannot(
        Code::IO,
        format_args!("use the folder {SAID}"),
        "run it as root, and see that /run can be written to",
    )
}

fn is_old(at: SystemTime) -> bool {
    at.elapsed().is_ok_and(|age| age > KEPT)
}
