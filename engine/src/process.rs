//! This process among others: the one lock, a session of its own, the signals that turn a restore back. Owns no file of
//! the gateway.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use journal_format::{BootId, Driver, Policy, Role};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::Signal;

use crate::fault::{Fault, Problem, cannot};
use crate::host::linux;
use crate::profile::Profile;

/// How long a lock is waited for that a process has which is gone.
const LINGERS: Duration = Duration::from_secs(2);

/// The one lock: held by a restore, a recovery or a backup for as long as it runs, and given up with the process.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it, or says who holds it. `what` is what the holder is doing, for others to read.
    pub fn take(profile: &Profile, what: &str) -> Result<Lock, Fault> {
        let path = profile.lock();
        let failed = |e: std::io::Error| {
            cannot(
                format!("take the lock {}: {e}", path.display()),
                "run it as root, and see that state_dir of the profile is there and can be written to",
            )
        };
        crate::state_dir::make(profile)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        // Whoever may read it could hold a lock on it and keep every restore from beginning.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(failed)?;
        let began = Instant::now();
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
                Ok(_) => break,
                // A child of a killed driver shares its lock until its own program begins, a moment later.
                Err(nix::Error::EAGAIN | nix::Error::EACCES)
                    if began.elapsed() < LINGERS && !its_holder_lives(&mut file) =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(nix::Error::EAGAIN | nix::Error::EACCES) => {
                    return Err(Fault::Busy(busy(&mut file)));
                }
                Err(e) => return Err(failed(e.into()).into()),
            }
        }
        // It may have been read to its end while the lock was waited for.
        file.rewind()
            .and_then(|()| file.set_len(0))
            .and_then(|()| file.write_all(format!("{} {what}\n", std::process::id()).as_bytes()))
            .map_err(failed)?;
        Ok(Lock { _file: file })
    }

    /// Who holds it, as `PID WHAT`; none if nobody does.
    pub fn holder(profile: &Profile) -> Option<(u32, String)> {
        let mut file = File::open(profile.lock()).ok()?;
        // Asked, not tried: a look must not keep a driver from its lock.
        let mut lock = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
        if lock.l_type == libc::F_UNLCK as libc::c_short {
            return None;
        }
        named(&mut file)
    }
}

/// A lock for writing on all of a file, of the open file and not of the process: another thread is another holder, and
/// closing some other descriptor of the file does not give it up.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// What the holder wrote, as `PID WHAT`; none if it has not yet.
fn named(file: &mut File) -> Option<(u32, String)> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    let (pid, what) = text.trim().split_once(' ')?;
    Some((pid.parse().ok()?, what.to_owned()))
}

fn its_holder_lives(file: &mut File) -> bool {
    // Without a name somebody is about to write it.
    named(file).is_none_or(|(pid, _)| linux::process(pid).is_some_and(|p| !p.gone))
}

fn busy(file: &mut File) -> Problem {
    let who = match named(file) {
        Some((pid, what)) => format!("{what} runs, process {pid}"),
        None => "another holdfast runs".to_owned(),
    };
    cannot(
        format!("begin: {who}"),
        "wait for its end; `holdfast status` says where it stands",
    )
}

/// Where the SSH session that this process is in comes from, and the port of this box that it came to.
pub fn ssh_connection() -> Option<(std::net::IpAddr, u16)> {
    let text = std::env::var("SSH_CONNECTION").ok()?;
    let mut words = text.split(' ');
    let from = words.next()?.parse().ok()?;
    Some((from, words.nth(2)?.parse().ok()?))
}

/// Leaves the session of whoever started this process, so that the end of a terminal or of the agent does not end it,
/// and recovery can end what this one leaves behind. Not where [`must_start_anew`] says so.
pub fn own_session() -> Result<(), Problem> {
    if leads_its_session() {
        return Ok(());
    }
    match nix::unistd::setsid() {
        Ok(_) => Ok(()),
        Err(e) => Err(cannot(
            format!("begin a session of its own: {e}"),
            "start it from a shell or a service, not as the leader of a process group",
        )),
    }
}

/// Whether this process must start itself anew to have a session of its own, and stay behind itself: one that leads its
/// group cannot leave its session, and one that leaves a terminal's does not hear its Ctrl-C any more, whether a shell
/// started it as a job or a script or `sudo` did. What no operator started is not to hear it: an agent may run at one.
pub fn must_start_anew(unattended: bool) -> bool {
    let leads_its_group = nix::unistd::getpgrp() == nix::unistd::getpid();
    !leads_its_session() && (leads_its_group || !unattended && has_a_terminal())
}

fn leads_its_session() -> bool {
    nix::unistd::getsid(None) == Ok(nix::unistd::getpid())
}

fn has_a_terminal() -> bool {
    // It opens for a process whose session has a terminal, and for no other: tty(4).
    File::open("/dev/tty").is_ok()
}

/// Ends this process with the one that started it. For the second half of an interactive restore or recovery: to the
/// outside both are one, and a kill of the first is a kill of it.
pub fn end_with_parent() -> Result<(), Problem> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| {
        cannot(
            format!("be ended with the process that started it: {e}"),
            "run it without a terminal",
        )
    })
}

/// The signals that turn a restore back, and those that are as good as not sent.
///
/// They are handled and not blocked or ignored: a handler is gone after `exec`, so that what a restore starts, a service
/// that runs for months among it, hears every signal.
pub struct Signals {
    turn: Arc<AtomicBool>,
}

impl Signals {
    /// From here SIGINT and SIGTERM are only noted, and SIGHUP is not heard. SIGPIPE is ignored in every Rust program.
    pub fn hold() -> Result<Signals, Problem> {
        let failed = |e: std::io::Error| {
            cannot(
                format!("hold signals back: {e}"),
                "this is a fault in holdfast; report it",
            )
        };
        let turn = Arc::new(AtomicBool::new(false));
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            signal_hook::flag::register(signal as i32, Arc::clone(&turn)).map_err(failed)?;
        }
        let unheard = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(Signal::SIGHUP as i32, unheard).map_err(failed)?;
        Ok(Signals { turn })
    }

    /// Whether one was sent. It stays so.
    pub fn asked(&self) -> bool {
        self.turn.load(Ordering::SeqCst)
    }
}

/// This process as a journal names a driver.
pub fn driver(role: Role, boot: BootId, policy: Option<Policy>) -> Result<Driver, Problem> {
    let unseen = || cannot("find this process in /proc", "mount /proc");
    let this = linux::process(std::process::id()).ok_or_else(unseen)?;
    Ok(Driver {
        role,
        boot,
        pid: this.pid,
        // In a namespace of its own the session's leader may have no number here; then the kernel says 0, and nothing
        // of it can be ended by number.
        session: this.session,
        started_ticks: this.started_ticks,
        policy,
    })
}

/// Whether a driver that a journal names still runs.
pub fn runs(driver: &Driver, boot: &BootId) -> bool {
    driver.boot == *boot
        && linux::process(driver.pid)
            .is_some_and(|p| p.started_ticks == driver.started_ticks && !p.gone)
}

static PROGRAM: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();

/// Where the `holdfast` program is, for one that uses this crate as a library. Counts the first time.
pub fn program_is(path: std::path::PathBuf) {
    let _ = PROGRAM.set(path);
}

/// This program, to be started anew: the very one that runs, also when an upgrade has put another one in its place. What
/// began a restore ends it.
pub fn this_program() -> std::io::Result<std::path::PathBuf> {
    if let Some(program) = PROGRAM.get() {
        return Ok(program.clone());
    }
    let named = std::env::current_exe()?;
    if named.exists() {
        Ok(named)
    } else {
        Ok("/proc/self/exe".into())
    }
}

/// This program's name in what it writes.
pub fn program() -> String {
    concat!("holdfast ", env!("CARGO_PKG_VERSION")).to_owned()
}

/// A folder must be there and root's alone before anything is trusted in it. Others may walk through it to what is lent
/// to them below, if anything is; they may not list it.
pub fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|m| {
        m.is_dir() && m.uid() == nix::unistd::geteuid().as_raw() && m.mode() & 0o066 == 0
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn profile(dir: &Path) -> Profile {
        Profile {
            state_dir: dir.join("state"),
            ..Profile::default()
        }
    }

    /// A lock that is held, with this in it.
    fn held(profile: &Profile, text: &str) -> File {
        crate::state_dir::make(profile).unwrap();
        std::fs::write(profile.lock(), text).unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .open(profile.lock())
            .unwrap();
        fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())).unwrap();
        file
    }

    #[test]
    fn a_lock_that_outlives_its_holder_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(dir.path());
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let lingers = held(&profile, &format!("{} a restore\n", ended.id()));
        let giver = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(lingers);
        });
        let _taken = Lock::take(&profile, "a recovery").unwrap();
        giver.join().unwrap();
        let holder = (std::process::id(), "a recovery".to_owned());
        assert_eq!(Lock::holder(&profile), Some(holder));
    }

    #[test]
    fn a_lock_whose_holder_runs_is_told_with_what_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(dir.path());
        let _held = held(&profile, &format!("{} a restore\n", std::process::id()));
        let Err(Fault::Busy(problem)) = Lock::take(&profile, "a recovery") else {
            panic!("it was taken");
        };
        assert_eq!(
            problem.what,
            format!("begin: a restore runs, process {}", std::process::id())
        );
    }
}
