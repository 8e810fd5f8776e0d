//! Holdfast's own files and processes: they need no permit, and must not be the gateway's.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, OFlag};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;

use super::{Linux, hold, make_private_dir, remove, sync_dir};
use crate::error::{Code, Problem, cannot};
use crate::files::open::{again, errno, open_at, open_dir};
use crate::files::whole;
use crate::gateway::profile::ServiceProfile;
use crate::host::programs::{pid, processes};
use crate::host::{Append, Own, parent};

impl Own for Linux {
    fn keep_dir(&self, dir: &Path) -> Result<(), Problem> {
        let mut missing = Vec::new();
        let mut at = dir;
        while !at.exists() {
            missing.push(at.to_owned());
            at = parent(at)?;
        }
        for dir in missing.iter().rev() {
            make_private_dir(dir)?;
            sync_dir(parent(dir)?)?;
        }
        Ok(())
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), Problem> {
        let dir = parent(path)?;
        open_dir(dir).map_err(|e| errno("make a file in", dir, e))?;
        whole::write(path, bytes, 0o600).map_err(|e| errno("write", path, e))
    }

    fn discard(&self, path: &Path) -> Result<(), Problem> {
        remove(path, UnlinkatFlags::NoRemoveDir)?;
        sync_dir(parent(path)?)
    }

    fn reserve(&self, path: &Path, bytes: u64) -> Result<(), Problem> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT;
        let fd = open_at(path, flags, Mode::from_bits_truncate(0o600))
            .map_err(|e| errno("make", path, e))?;
        allocate(&fd, 0, bytes).map_err(|e| errno("reserve space for", path, e))
    }

    fn release_services(&self) {
        let units = self.profile.gateway.service.iter().filter_map(|s| match s {
            ServiceProfile::Unit(s) => Some(s.unit.as_str()),
            ServiceProfile::Commands(_) => None,
        });
        // What stays there binds nobody once the barrier is gone.
        if let Err(problem) = hold::release(units) {
            tracing::warn!("{problem}");
        }
    }

    fn open_journal(&self, path: &Path, reserve: u64) -> Result<Box<dyn Append>, Problem> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT;
        let fd = open_at(path, flags, Mode::from_bits_truncate(0o600))
            .map_err(|e| errno("open the journal", path, e))?;
        let file = File::from(fd);
        let end = file
            .metadata()
            .map_err(|e| errno("open the journal", path, e))?
            .len();
        allocate(&file, end, reserve)
            .map_err(|e| errno("reserve space for the journal", path, e))?;
        file.sync_all().map_err(|e| errno("sync", path, e))?;
        sync_dir(parent(path)?)?;
        Ok(Box::new(JournalFile {
            file,
            path: path.to_owned(),
            end,
        }))
    }

    fn end_session(
        &self,
        session: u32,
        started_ticks: u64,
        since_up_ms: u64,
    ) -> Result<Vec<String>, Problem> {
        // A process that began in the very tick may have begun after it.
        let since_ticks = since_up_ms.saturating_mul(ticks_a_second()) / 1000;
        let mut ended = Vec::new();
        for _ in 0..200 {
            let mut left = processes()?;
            // The number of a session stays taken while anything is in it; a process of that number that started at
            // another time means that nothing of the dead driver was left and the number went round.
            if left
                .iter()
                .any(|p| p.pid == session && p.started_ticks != started_ticks)
            {
                return Ok(ended);
            }
            left.retain(|p| {
                p.session == session
                    && p.pid != std::process::id()
                    && p.started_ticks >= started_ticks.max(since_ticks)
                    && !p.gone
                    && p.command != "wireguard-go"
            });
            if left.is_empty() {
                return Ok(ended);
            }
            for process in left {
                let line = format!("{} (pid {})", process.command, process.pid);
                if !ended.contains(&line) {
                    ended.push(line);
                }
                // It may have ended by itself in between.
                let _ = kill(pid(process.pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Err(cannot(
            Code::LEFT_RUNNING,
            format!(
                "end what the dead restore left running: {}",
                ended.join(", ")
            ),
            "end these processes by hand, then run `holdfast recover`",
        ))
    }
}

/// In what the kernel counts when a process began.
fn ticks_a_second() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    // It is a constant of Linux.
    let ticks = ticks.ok().flatten().and_then(|t| u64::try_from(t).ok());
    ticks.unwrap_or(100)
}

struct JournalFile {
    file: File,
    path: PathBuf,
    end: u64,
}

impl Append for JournalFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.file
            .write_all_at(bytes, self.end)
            .map_err(|e| errno("append to the journal", &self.path, e))?;
        self.file
            .sync_data()
            .map_err(|e| errno("sync the journal", &self.path, e))?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// Takes space on the disk without changing the file's size.
fn allocate(file: impl AsFd, from: u64, bytes: u64) -> nix::Result<()> {
    let (from, len) = (
        i64::try_from(from).unwrap_or(i64::MAX),
        i64::try_from(bytes).unwrap_or(i64::MAX),
    );
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    match again(|| nix::fcntl::fallocate(&file, keep, from, len)) {
        // Some filesystems reserve nothing; then a full disk is met by going back.
        Ok(()) | Err(nix::Error::EOPNOTSUPP) => Ok(()),
        Err(e) => Err(e),
    }
}
