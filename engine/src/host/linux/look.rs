//! What Linux is asked without a program's help: files, processes, forwarding, the clock. Changes nothing, and follows no link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use journal_format::{BootId, Digest, FileId};
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::Mode;

use super::{Linux, ask, forwarding, forwarding_of, is_gone, on_path, open_file};
use crate::error::{Code, Problem, cannot};
use crate::files::open::{again, errno, names_in, open_at, open_dir};
use crate::files::{access, attributes};
use crate::files::{space, whole};
use crate::gateway::database::{Client, clients_of_copy};
use crate::gateway::owner;
use crate::host::live_database::Live;
use crate::host::programs::{ProcessInfo, processes};
use crate::host::{
    Family, Fixed, FoundFile, Held, Holder, Kind, LiveDatabases, Look, Meta, Now, OpenFile,
    OpenFiles, Output, Query,
};
use crate::parallel;

/// Files that one thread looks at, at a time.
const BATCH: usize = 64;
/// A gateway's service has a handful of processes, and each a handful of files: of what is looked at for databases, so many.
const PROCESSES_MOST: usize = 256;
const OPEN_MOST: usize = 10_000;
/// What every database of SQLite begins with.
const SQLITE: &[u8; 16] = b"SQLite format 3\0";

impl Look for Linux {
    fn stat(&self, path: &Path) -> Result<Option<Meta>, Problem> {
        let fd = match open_at(path, OFlag::O_PATH, Mode::empty()) {
            Ok(fd) => fd,
            Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => return Ok(None),
            Err(e) => return Err(errno("look at", path, e)),
        };
        let meta = File::from(fd)
            .metadata()
            .map_err(|e| errno("look at", path, e))?;
        Ok(Some(meta_of(&meta)))
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Problem> {
        let file = open_file(path)?;
        let mut bytes = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| errno("read", path, e))?;
        if bytes.len() as u64 > limit {
            return Err(cannot(
                Code::WRONG_KIND,
                format!("read {}: it is larger than {limit} bytes", path.display()),
                "such a file is not the gateway's; take it away",
            ));
        }
        Ok(bytes)
    }

    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let target = std::fs::read_link(path).map(Some);
        target.or_else(|e| match e.raw_os_error() {
            // It is no link, or nothing.
            Some(libc::EINVAL | libc::ENOENT | libc::ENOTDIR) => Ok(None),
            _ => Err(e),
        })
    }

    fn access(&self, path: &Path) -> io::Result<Option<FoundFile>> {
        access::look(path)
    }

    fn owner(&self, owner: &str) -> Result<(u32, u32), Problem> {
        owner::resolve(owner)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Problem> {
        names_in(dir).map_err(|e| errno("list", dir, e))
    }

    fn sha256(&self, path: &Path) -> Result<Digest, Problem> {
        let file = open_file(path)?;
        let size = file.metadata().map_err(|e| errno("read", path, e))?.len();
        whole::sha256(&file, size, &mut Vec::new()).map_err(|e| errno("read", path, e))
    }

    fn held(&self, dir: &Path, names: &[String]) -> Result<Vec<Option<Held>>, Problem> {
        let folder = open_dir(dir).map_err(|e| errno("look into", dir, e))?;
        let one = |buffer: &mut Vec<u8>, name: &String| -> Result<Option<Held>, Problem> {
            let path = dir.join(name);
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let open = || nix::fcntl::openat(&folder, name.as_str(), flags, Mode::empty());
            let file = match again(open) {
                Ok(fd) => File::from(fd),
                Err(nix::Error::ENOENT) => return Ok(None),
                // A link, or what cannot be opened for reading.
                Err(e) => {
                    return match self.stat(&path)? {
                        Some(meta) if meta.kind == Kind::File => Err(errno("read", &path, e)),
                        other => Ok(other.map(|meta| Held { meta, sha256: None })),
                    };
                }
            };
            let meta = file.metadata().map_err(|e| errno("read", &path, e))?;
            let meta = meta_of(&meta);
            let sha256 = match meta.kind {
                Kind::File => {
                    let hashed = whole::sha256(&file, meta.size, buffer);
                    Some(hashed.map_err(|e| errno("read", &path, e))?)
                }
                Kind::Dir | Kind::Other => None,
            };
            Ok(Some(Held { meta, sha256 }))
        };
        let batches: Vec<&[String]> = names.chunks(BATCH).collect();
        let all = |buffer: &mut Vec<u8>, names: &&[String]| -> Result<Vec<_>, Problem> {
            names.iter().map(|name| one(buffer, name)).collect()
        };
        let mut found = Vec::with_capacity(names.len());
        parallel::in_order(&batches, Vec::new, all, |batch| {
            found.extend(batch?);
            Ok::<(), Problem>(())
        })?;
        Ok(found)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, Problem> {
        space::free_of(dir).map_err(|e| errno("ask for the free space of", dir, e))
    }

    fn holders(&self, files: &[PathBuf]) -> Result<Vec<Holder>, Problem> {
        let mut wanted = Vec::new();
        for path in files {
            if let Ok(meta) = std::fs::symlink_metadata(path) {
                wanted.push(((meta.dev(), meta.ino()), path));
            }
        }
        let mut holders = Vec::new();
        for process in processes()? {
            if process.pid == std::process::id() {
                continue;
            }
            let Ok(fds) = std::fs::read_dir(format!("/proc/{}/fd", process.pid)) else {
                continue;
            };
            for fd in fds.flatten() {
                // The link's target is the open file itself, also where its name is gone or in another namespace.
                let Ok(meta) = std::fs::metadata(fd.path()) else {
                    continue;
                };
                if let Some((_, path)) = wanted
                    .iter()
                    .find(|(key, _)| *key == (meta.dev(), meta.ino()))
                {
                    let holder = Holder {
                        pid: process.pid,
                        command: process.command.clone(),
                        uid: process.uid,
                        at_a_terminal: process.at_a_terminal,
                        child_of: process.child_of(),
                        is_daemon: process.is_daemon(),
                        path: (*path).clone(),
                    };
                    if !holders.contains(&holder) {
                        holders.push(holder);
                    }
                }
            }
        }
        Ok(holders)
    }

    fn open_files(&self, pids: &[u32]) -> Result<OpenFiles, Problem> {
        let mut found = OpenFiles {
            are_more: pids.len() > PROCESSES_MOST,
            ..OpenFiles::default()
        };
        let mut looked_at = 0;
        for pid in pids.iter().take(PROCESSES_MOST) {
            let folder = PathBuf::from(format!("/proc/{pid}/fd"));
            let fds = match std::fs::read_dir(&folder) {
                Ok(fds) => fds,
                Err(e) if is_gone(&e) => continue,
                Err(e) => {
                    let problem = errno("look at what is open in", &folder, e);
                    found.unseen.push(problem);
                    continue;
                }
            };
            for fd in fds {
                let at = match fd {
                    Ok(fd) => fd.path(),
                    Err(e) if is_gone(&e) => break,
                    Err(e) => {
                        let problem = errno("look at what is open in", &folder, e);
                        found.unseen.push(problem);
                        break;
                    }
                };
                if looked_at == OPEN_MOST {
                    found.are_more = true;
                    return Ok(found);
                }
                looked_at += 1;
                // The link's target is the open file itself, also where its name is gone or in another namespace.
                let (meta, path) = match (std::fs::metadata(&at), std::fs::read_link(&at)) {
                    (Ok(meta), Ok(path)) => (meta, path),
                    (Err(e), _) | (_, Err(e)) if is_gone(&e) => continue,
                    (Err(e), _) | (_, Err(e)) => {
                        found.unseen.push(errno("look at", &at, e));
                        continue;
                    }
                };
                let object = (meta.dev(), meta.ino());
                let known = |f: &OpenFile| f.object == object;
                if meta.is_file() && meta.nlink() > 0 && !found.files.iter().any(known) {
                    found.files.push(OpenFile { path, object, at });
                }
            }
        }
        Ok(found)
    }

    fn clients_of_copy(&self, path: &Path) -> Result<Vec<Client>, Problem> {
        clients_of_copy(path)
    }

    fn databases(&self) -> Box<dyn LiveDatabases + '_> {
        Box::new(Live::new(&self.profile))
    }

    fn is_sqlite(&self, path: &Path) -> Result<bool, Problem> {
        begins_as_sqlite(open_file(path)?).map_err(|e| errno("read", path, e))
    }

    fn is_sqlite_open(&self, file: &OpenFile) -> Result<bool, Problem> {
        match same_file(file) {
            Ok(Some(same)) => begins_as_sqlite(same).map_err(|e| errno("read", &file.at, e)),
            Ok(None) => Ok(false),
            Err(e) if is_gone(&e) => Ok(false),
            Err(e) => Err(errno("read", &file.at, e)),
        }
    }

    fn ask(&self, query: &Query, input: &str) -> Result<Output, Problem> {
        ask::ask(query, input)
    }

    fn has_program(&self, name: &str) -> bool {
        on_path(name)
    }

    fn can_write(&self, dir: &Path) -> Result<(), Problem> {
        nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK)
            .map_err(|e| errno("write to", dir, e))
    }

    fn fixed(&self, path: &Path) -> Result<Option<Fixed>, Problem> {
        attributes::fixed(path).map_err(|e| errno("look at", path, e))
    }

    fn mount_points(&self) -> Result<Vec<String>, Problem> {
        let path = Path::new("/proc/self/mountinfo");
        let text = std::fs::read_to_string(path).map_err(|e| errno("read", path, e))?;
        // A space in a path is written as \040, a tab as \011, a backslash as \134.
        let plain = |p: &str| {
            p.replace("\\040", " ")
                .replace("\\011", "\t")
                .replace("\\134", "\\")
        };
        Ok(text
            .lines()
            .filter_map(|l| l.split(' ').nth(4))
            .map(plain)
            .collect())
    }

    fn forwarding(&self, family: Family) -> Result<Option<bool>, Problem> {
        let path = Path::new(forwarding(family));
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim() != "0")),
            // IPv6 may be left out of a kernel, or switched off at its start.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && family == Family::V6 => Ok(None),
            Err(e) => Err(errno("read", path, e)),
        }
    }

    fn forwarding_interfaces(&self, family: Family) -> Result<Vec<String>, Problem> {
        let mut names = self.list(&Path::new("/proc/sys").join(family.interfaces()))?;
        names.retain(|name| name != "all");
        Ok(names)
    }

    fn forwarding_of(&self, family: Family, interface: &str) -> Result<Option<bool>, Problem> {
        let path = forwarding_of(family, interface);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim() != "0")),
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(errno("read", &path, e)),
        }
    }

    fn boot(&self) -> Result<BootId, Problem> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let text = std::fs::read_to_string(path).map_err(|e| errno("read", path, e))?;
        BootId::new(text.trim()).map_err(|e| {
            cannot(
                Code::UNFIT_SYSTEM,
                format!("read {}: {e}", path.display()),
                "mount /proc",
            )
        })
    }

    fn now(&self) -> Now {
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // The clock is always there: it is one of the kernel's own.
        let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .map(Duration::from)
            .unwrap_or_default();
        Now {
            at_ms: i64::try_from(at.as_millis()).unwrap_or(i64::MAX),
            up_ms: u64::try_from(up.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn sleep(&self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn userspace(&self, tunnels: &BTreeSet<&str>) -> Result<BTreeMap<String, String>, Problem> {
        let sockets = Path::new(SOCKETS);
        let mut found = BTreeMap::new();
        // Where the kernel runs all of them nobody made that folder.
        if tunnels.is_empty() || !sockets.exists() {
            return Ok(found);
        }
        for tunnel in tunnels {
            let socket = sockets.join(format!("{tunnel}.sock"));
            if socket.exists() {
                found.insert((*tunnel).to_owned(), socket.display().to_string());
            }
        }
        for process in processes()? {
            for tunnel in tunnels_of(&process) {
                if tunnels.contains(tunnel.as_str()) {
                    let shown = format!("{} (pid {})", process.command, process.pid);
                    found.insert(tunnel, shown);
                }
            }
        }
        Ok(found)
    }

    fn tunnel_limit(&self) -> Duration {
        Duration::from_secs(self.profile.gateway.tunnel_seconds)
    }
}

/// Where programs that run WireGuard in userspace are spoken to.
const SOCKETS: &str = "/var/run/wireguard";
/// What these programs are called.
const USERSPACE: [&str; 3] = ["wireguard-go", "boringtun", "boringtun-cli"];

/// The tunnels that a process may run, by its arguments; none for one in another network namespace.
fn tunnels_of(process: &ProcessInfo) -> Vec<String> {
    if process.gone || !USERSPACE.contains(&process.command.as_str()) {
        return Vec::new();
    }
    let of = |pid: &str, file: &str| Path::new("/proc").join(pid).join(file);
    let pid = process.pid.to_string();
    let network = |pid| std::fs::read_link(of(pid, "ns/net")).ok();
    if network(&pid) != network("self") {
        return Vec::new();
    }
    let line = std::fs::read(of(&pid, "cmdline")).unwrap_or_default();
    let words = line.split(|b| *b == 0).skip(1);
    words
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect()
}

/// Opens a regular file for reading; a fifo or a device is refused without waiting for it.
fn begins_as_sqlite(file: File) -> std::io::Result<bool> {
    let mut begins = Vec::new();
    file.take(SQLITE.len() as u64).read_to_end(&mut begins)?;
    Ok(begins == SQLITE)
}

/// The file that a process has open, if its descriptor leads to that one still. By now it may be a pipe, whose opening waits for
/// ever, or a database of the profile, whose closing drops locks: what it is, is seen by a descriptor that does neither.
fn same_file(file: &OpenFile) -> std::io::Result<Option<File>> {
    // A link of the kernel's, to the very file.
    let seen = File::options()
        .read(true)
        .custom_flags(OFlag::O_PATH.bits())
        .open(&file.at)?;
    let meta = seen.metadata()?;
    if !meta.is_file() || (meta.dev(), meta.ino()) != file.object {
        return Ok(None);
    }
    let it = format!("/proc/self/fd/{}", seen.as_raw_fd());
    let flags = OFlag::O_NONBLOCK.bits();
    let opened = File::options().read(true).custom_flags(flags).open(it)?;
    Ok(Some(opened))
}

fn meta_of(meta: &std::fs::Metadata) -> Meta {
    let ns = |time: io::Result<SystemTime>| {
        let since = time.ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_nanos()).ok()
    };
    let ino = meta.ino();
    let id = ns(meta.created()).map(|born_ns| FileId { ino, born_ns });
    Meta {
        kind: Kind::of(meta),
        id,
        dev: meta.dev(),
        size: meta.size(),
        uid: meta.uid(),
        gid: meta.gid(),
        mode: meta.mode() & 0o7777,
        changed_ns: ns(meta.modified()).unwrap_or(i64::MIN),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gateway::profile::Profile;

    #[test]
    fn a_descriptor_that_cannot_be_looked_at_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        // A path that is longer than the kernel tells.
        let name = "n".repeat(250);
        let mut folder = open_dir(dir.path()).unwrap();
        for _ in 0..17 {
            nix::sys::stat::mkdirat(&folder, name.as_str(), Mode::S_IRWXU).unwrap();
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            folder = nix::fcntl::openat(&folder, name.as_str(), flags, Mode::empty()).unwrap();
        }
        let path = dir.path().join("a.db");
        std::fs::write(&path, "").unwrap();
        let _file = File::open(&path).unwrap();
        let host = Linux::new(&Profile::default());
        let open = host.open_files(&[std::process::id()]).unwrap();
        assert!(open.files.iter().any(|f| f.path == path), "{open:?}");
        let at = format!("/fd/{}: ", folder.as_raw_fd());
        let told = |p: &Problem| p.what.contains(&at);
        assert!(open.unseen.iter().any(told), "{open:?}");
    }

    #[test]
    fn a_descriptor_that_leads_elsewhere_by_now_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let host = Linux::new(&Profile::default());
        let made = |name: &str| {
            let path = dir.path().join(name);
            let mut begins = SQLITE.to_vec();
            begins.extend(b"more");
            std::fs::write(&path, begins).unwrap();
            File::open(path).unwrap()
        };
        let database = made("a.db");
        let meta = database.metadata().unwrap();
        let of = |at: &dyn AsRawFd| OpenFile {
            path: dir.path().join("a.db"),
            object: (meta.dev(), meta.ino()),
            at: format!("/proc/self/fd/{}", at.as_raw_fd()).into(),
        };
        assert!(host.is_sqlite_open(&of(&database)).unwrap());
        let other = made("other.db");
        assert!(!host.is_sqlite_open(&of(&other)).unwrap());
        // Nobody will ever write to this pipe: whoever opened it would wait for that.
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR).unwrap();
        let pipe = open_at(&pipe, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).unwrap();
        assert!(!host.is_sqlite_open(&of(&pipe)).unwrap());
        let closed = OpenFile {
            at: "/proc/self/fd/1000000".into(),
            ..of(&database)
        };
        assert!(!host.is_sqlite_open(&closed).unwrap());
    }
}
