//! The agent: the gate between the page and the gateway. Checks who asks and hands out sessions, takes uploads, gives
//! backups, starts restores, and tells what they do. Takes ids and bytes, never paths or commands.
//!
//! It may end at any time: a restore is a process of its own, and what the agent knows of one is the journal.

mod allowance;
mod answer;
mod backups;
mod devices;
mod door;
mod follow;
mod gateway_lines;
mod overview;
mod queue;
mod recoveries;
mod refusal;
mod sessions;
mod sign_in;
mod slot;
mod start;
mod streams;
mod trail;
mod uploads;
mod users;

use std::fmt::Display;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use journal_format::Problem;

use crate::backup::on_backup;
use crate::error::{Code, Fault, OrCannot, cannot, cause};
use crate::files::whole;
use crate::gateway::profile::Profile;
use crate::host::linux::Linux;
use crate::state_dir::{self, schedule};

use allowance::Allowance;
use backups::BackupDesk;
use devices::Devices;
use door::Door;
use gateway_lines::LastLook;
use overview::Lines;
use sessions::Sessions;
use sign_in::SignInGuard;
use start::Starts;
use streams::Streams;
use trail::Trail;
use uploads::Uploads;

/// How often what was left over is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How often it is looked whether a scheduled backup is overdue.
const SCHEDULE: Duration = Duration::from_secs(3600);

/// All that a connection may use.
struct Agent {
    profile: Profile,
    host: Linux,
    sessions: Sessions,
    sign_in: SignInGuard,
    devices: Devices,
    uploads: Uploads,
    backups: BackupDesk,
    starts: Starts,
    streams: Streams,
    lines: Lines,
    last_look: LastLook,
    trail: Trail,
    allowance: Allowance,
}

impl Agent {
    fn new(profile: &Profile, config: PathBuf) -> Result<Agent, Problem> {
        let host = Linux::new(profile);
        Ok(Agent {
            profile: profile.clone(),
            host,
            sessions: Sessions::open(profile)?,
            sign_in: SignInGuard::new(profile),
            devices: Devices::open(profile).map_err(|e| {
                cannot(
                    Code::UNFIT_SYSTEM,
                    e.to_string(),
                    "mount /dev: `ls -l /dev/urandom` shows whether the file is there",
                )
            })?,
            uploads: Uploads::open(profile)?,
            backups: BackupDesk::default(),
            starts: Starts::new(config),
            streams: Streams::default(),
            lines: Lines::default(),
            last_look: LastLook::default(),
            trail: Trail::default(),
            allowance: Allowance::default(),
        })
    }
}

/// Serves requests on a socket until the process ends; settles an open restore first, beside it.
pub fn serve(profile: &Profile, config_file: &Path, socket: &Path) -> Result<(), Fault> {
    state_dir::make(profile)?;
    let config = std::path::absolute(config_file).or_cannot(
        Code::IO,
        format_args!("find the profile {}", config_file.display()),
        "name it by its whole path",
    )?;
    // Before anything is touched that a living agent may be using.
    let _only = only_one(profile)?;
    let door = Door::open(profile, socket)?;
    for folder in [
        &profile.state_dir,
        &profile.spool_dir(),
        &profile.backups_dir(),
    ] {
        sweep(folder);
    }
    let agent = Arc::new(Agent::new(profile, config.clone())?);
    // The page must still come up, to say so.
    if let Err(problem) = recoveries::recover(profile, config) {
        tracing::error!("{problem}");
    }
    let keeper = agent.clone();
    spawn("housekeeping", move || {
        loop {
            keeper.uploads.expire();
            keeper.trail.sum_up(&keeper.profile);
            std::thread::sleep(HOUSEKEEPING);
        }
    })?;
    let reader = agent.clone();
    spawn("restores", move || reader.streams.read(&reader))?;
    let keeper = agent.clone();
    spawn("orphans", move || recoveries::of_orphans(&keeper))?;
    let scheduled = profile.clone();
    spawn("schedule", move || {
        let mut told_ms = None;
        loop {
            // First of all, so that what a boot catches up with has come by then.
            std::thread::sleep(SCHEDULE);
            on_backup::tell_if_overdue(&scheduled, schedule::stands(&scheduled), &mut told_ms);
        }
    })?;
    tracing::info!("the agent listens on {}", socket.display());
    door.let_in(move |stream| answer::answer(&agent, stream))
}

/// Held as long as the process lives: a state folder has one agent.
fn only_one(profile: &Profile) -> Result<std::fs::File, Fault> {
    let path = profile.state_dir.join("agent.lock");
    let failed = |e: std::io::Error| {
        cannot(
            cause(&e),
            format!("take the agent's lock {}: {e}", path.display()),
            "run it as root; `findmnt -T` of `state_dir` (a key of the profile) shows whether it can be written to",
        )
    };
    let file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    // Whoever may read it could hold a lock on it and keep the agent from starting.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::Busy(cannot(
            Code::BUSY,
            format!(
                "start the agent: another one runs with {}",
                profile.state_dir.display()
            ),
            "stop that one first; one agent is enough for a gateway",
        ))),
        Err(TryLockError::Error(e)) => Err(failed(e).into()),
    }
}

/// Removes files that an ended agent or driver was writing.
fn sweep(folder: &Path) {
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry
            .file_name()
            .to_string_lossy()
            .starts_with(whole::ASIDE);
        if ours && entry.file_type().is_ok_and(|t| t.is_file()) {
            removed(&entry.path(), entry.path().display());
        }
    }
}

/// Removes a file of the agent's own, as `shown` names it, if it is there. Says whether it is gone.
fn removed(path: &Path, shown: impl Display) -> bool {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            tracing::warn!("cannot remove {shown}: {e}");
            false
        }
        Ok(()) | Err(_) => true,
    }
}

/// What came of it, if anything did; the log has why nothing did.
fn warned<T>(done: Result<T, Problem>) -> Option<T> {
    done.inspect_err(|problem| tracing::warn!("{problem}")).ok()
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Problem> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map(drop)
        .or_cannot(
            Code::UNFIT_SYSTEM,
            "start a thread",
            "check how many processes and threads run (`ps -eLf | wc -l`) and may run (`ulimit -u`)",
        )
}

/// The wall clock, milliseconds since 1970 UTC.
fn now_ms() -> i64 {
    let since = UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What another thread left behind when it panicked is still whole: each of these holds plain values.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a file of the agent's own so that it is there whole or as it was: root only, synced, renamed into place.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    whole::write(path, bytes, 0o600).or_cannot(
        Code::IO,
        format_args!("write {}", path.display()),
        "check with `df -h` whether the disk is full, and with `systemctl status holdfast-agent` whether the agent runs as root",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_agent_is_refused_before_it_touches_anything_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut profile = Profile {
            state_dir: folder.path().join("state"),
            ..Profile::default()
        };
        profile.web.user = nix::unistd::Uid::current().to_string();
        state_dir::make(&profile).unwrap();
        let first = only_one(&profile).unwrap();
        let half = profile.spool_dir().join("upload-x.part");
        std::fs::write(&half, "comes in").unwrap();
        let socket = folder.path().join("other.sock");
        let second = serve(&profile, Path::new("/holdfast.toml"), &socket).unwrap_err();
        assert_eq!(second.problems()[0].code, Some(Code::BUSY), "{second}");
        assert_eq!(second.exit_status(), 6);
        assert!(half.exists() && !socket.exists());
        drop(first);
        only_one(&profile).unwrap();
    }

    #[test]
    fn files_that_an_ended_agent_was_writing_are_swept_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".keep-abc", "sessions.json", ".wireguard_backup_x.zip.part"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        keep(&folder.path().join("kept"), b"x").unwrap();
        sweep(folder.path());
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [".wireguard_backup_x.zip.part", "kept", "sessions.json"]
        );
    }
}
