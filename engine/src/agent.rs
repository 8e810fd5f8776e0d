//! The agent: the gate between the page and the gateway. Checks who asks and hands out sessions, takes uploads, gives
//! backups, starts restores, and tells what they do. Takes ids and bytes, never paths or commands.
//!
//! It may end at any time: a restore is a process of its own, and what the agent knows of one is the journal.

mod answer;
mod backups;
mod door;
mod follow;
mod overview;
mod sessions;
mod sign_in;
mod start;
mod uploads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use journal_format::Problem;

use crate::fault::{Fault, cannot};
use crate::host::linux::Linux;
use crate::process::Lock;
use crate::profile::Profile;
use crate::state_dir;

use backups::Backups;
use door::Door;
use overview::Lines;
use sessions::Sessions;
use sign_in::SignIn;
use start::Starts;
use uploads::Uploads;

/// How often what was left over is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// All that a connection may use.
struct Agent {
    profile: Profile,
    host: Linux,
    sessions: Sessions,
    sign_in: SignIn,
    uploads: Uploads,
    backups: Backups,
    starts: Starts,
    lines: Lines,
}

/// Serves requests on a socket until the process ends; settles an open restore first, beside it.
pub fn serve(profile: &Profile, config_file: &Path, socket: &Path) -> Result<(), Fault> {
    state_dir::make(profile)?;
    let config = std::path::absolute(config_file).map_err(|e| {
        cannot(
            format!("find the profile {}: {e}", config_file.display()),
            "name it by its whole path",
        )
    })?;
    let agent = Arc::new(Agent {
        profile: profile.clone(),
        host: Linux::new(profile),
        sessions: Sessions::open(profile)?,
        sign_in: SignIn::default(),
        uploads: Uploads::open(profile)?,
        backups: Backups::default(),
        starts: Starts::new(config.clone()),
        lines: Lines::default(),
    });
    let door = Door::open(profile, socket)?;
    recover(profile, config)?;
    let keeper = agent.clone();
    spawn("housekeeping", move || {
        loop {
            keeper.uploads.expire();
            std::thread::sleep(HOUSEKEEPING);
        }
    })?;
    tracing::info!("the agent listens on {}", socket.display());
    door.let_in(move |stream| answer::answer(&agent, stream))
}

/// Settles an open restore that nothing works on, in a process of its own.
fn recover(profile: &Profile, config: PathBuf) -> Result<(), Problem> {
    let open = match state_dir::open_restore(profile) {
        Ok(open) => open,
        // The page must still come up, to say so.
        Err(problem) => {
            tracing::error!("{problem}");
            return Ok(());
        }
    };
    let Some(open) = open else {
        return Ok(());
    };
    if let Some((pid, what)) = Lock::holder(profile) {
        tracing::info!(
            "restore {} is open and {what} runs, process {pid}: it is left alone",
            open.id
        );
        return Ok(());
    }
    tracing::info!(
        "restore {} is open and nothing works on it: recovering",
        open.id
    );
    let mut child = start::program(&config)?
        .args(["recover", "--unattended"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .map_err(|e| {
            cannot(
                format!("start the recovery of restore {}: {e}", open.id),
                "run `holdfast recover`",
            )
        })?;
    spawn("recovery", move || match child.wait() {
        Ok(status) => tracing::info!("the recovery of restore {} ended: {status}", open.id),
        Err(e) => tracing::error!("cannot wait for the recovery of restore {}: {e}", open.id),
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Problem> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map(drop)
        .map_err(|e| {
            cannot(
                format!("start a thread: {e}"),
                "see how many processes and threads run on this box",
            )
        })
}

/// The wall clock, milliseconds since 1970 UTC.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What another thread left behind when it panicked is still whole: each of these holds plain values.
fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Writes a file of the agent's own so that it is there whole or as it was: root only, synced, renamed into place.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    use std::io::Write;
    let write = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new().prefix(".keep-").tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|e| {
        cannot(
            format!("write {}: {e}", path.display()),
            "see whether that disk is full, and whether the agent runs as root",
        )
    })
}
