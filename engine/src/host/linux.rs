//! The one file that changes the system; `programs` runs the programs for it. Owns how: no link is followed, and each
//! command of the engine is these words to that program, with this time limit. Decides nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "the one file that changes the system"
)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use journal_format::{BootId, Control, Digest, FileId};
use nix::fcntl::{FallocateFlags, OFlag, RenameFlags};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;
use sha2::Digest as _;

use super::live_database::Live;
use super::programs::{self, PATH, execute, execute_exactly, pid, processes};
use super::{
    Act, Append, ExitKind, Family, Fill, GatewayCommand, Held, Holder, Kind, Look, MAY_START, Meta,
    Now, OpenFile, OpenFiles, Output, Own, Owner, Permit, Query, parent,
};
use crate::error::{Problem, cannot};
use crate::files::open::{again, errno, names_in, open_at, open_dir};
use crate::gateway::database::Settled;
use crate::gateway::profile::Profile;
use crate::parallel;

/// Files that one thread looks at, at a time.
const BATCH: usize = 64;
/// A gateway's service has a handful of processes, and each a handful of files: of what is looked at for databases, so many.
const PROCESSES_MOST: usize = 256;
const OPEN_MOST: usize = 10_000;
/// What every database of SQLite begins with.
const SQLITE: &[u8; 16] = b"SQLite format 3\0";
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const SERVICE_LIMIT: Duration = Duration::from_secs(120);

/// The machine that this program runs on.
pub struct Linux {
    profile: Profile,
}

impl Linux {
    /// The machine, with a gateway on it as the profile says.
    pub fn new(profile: &Profile) -> Linux {
        Linux {
            profile: profile.clone(),
        }
    }

    /// What gateway is on it.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }
}

fn meta_of(meta: &std::fs::Metadata) -> Meta {
    let kind = match () {
        () if meta.is_file() => Kind::File,
        () if meta.is_dir() => Kind::Dir,
        () => Kind::Other,
    };
    let born = meta
        .created()
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let id = born
        .and_then(|b| i64::try_from(b.as_nanos()).ok())
        .map(|born_ns| FileId {
            ino: meta.ino(),
            born_ns,
        });
    Meta {
        kind,
        id,
        dev: meta.dev(),
        size: meta.size(),
        uid: meta.uid(),
        gid: meta.gid(),
        mode: meta.mode() & 0o7777,
    }
}

/// SHA-256 of an open file that is expected to have this size: a small one in one read.
fn hashed(mut file: impl Read, size: u64, buffer: &mut Vec<u8>) -> std::io::Result<Digest> {
    let mut hasher = sha2::Sha256::new();
    let portion = usize::try_from(size)
        .unwrap_or(usize::MAX)
        .clamp(1, 64 << 10);
    if buffer.len() < portion {
        buffer.resize(portion, 0);
    }
    let mut left = size;
    while left > 0 {
        let portion = usize::try_from(left).unwrap_or(usize::MAX).min(portion);
        match file.read(&mut buffer[..portion]) {
            // It is shorter by now.
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                left = left.saturating_sub(n as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Digest::of_bytes(hasher.finalize().into()))
}

fn split<'p>(path: &'p Path, what: &str) -> Result<(OwnedFd, &'p OsStr), Problem> {
    let dir = parent(path)?;
    let name = path.file_name().ok_or_else(|| {
        cannot(
            format!("{what} {}: it has no name", path.display()),
            "name a file",
        )
    })?;
    Ok((open_dir(dir).map_err(|e| errno(what, path, e))?, name))
}

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
                format!("read {}: it is larger than {limit} bytes", path.display()),
                "such a file is not the gateway's; take it away",
            ));
        }
        Ok(bytes)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Problem> {
        names_in(dir).map_err(|e| errno("list", dir, e))
    }

    fn sha256(&self, path: &Path) -> Result<Digest, Problem> {
        let file = open_file(path)?;
        let size = file.metadata().map_err(|e| errno("read", path, e))?.len();
        hashed(&file, size, &mut Vec::new()).map_err(|e| errno("read", path, e))
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
                    let hashed = hashed(&file, meta.size, buffer);
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
        let stat = again(|| nix::sys::statvfs::statvfs(dir))
            .map_err(|e| errno("ask for the free space of", dir, e))?;
        Ok(stat.blocks_available() * stat.fragment_size())
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
                        is_daemon: programs::process(process.session)
                            .is_none_or(|leader| leader.parent <= 1),
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
        let tools = |family: Family| match family {
            Family::V4 => ("iptables-save", "iptables-restore"),
            Family::V6 => ("ip6tables-save", "ip6tables-restore"),
        };
        // Constant text: nothing is put into it. Rules may name sets, which are a namespace's own: empty ones will do.
        let rehearse = |(save, restore): (&str, &str)| {
            let load = format!("{restore} && exec {save}");
            match may_have_sets() {
                false => words(&["unshare", "--net", "--", "sh", "-c", &load]),
                true => words(&[
                    "sh",
                    "-c",
                    &format!(
                        "sets=$(ipset save 2>/dev/null | grep '^create '); \
                         exec unshare --net -- sh -c \
                         '[ -z \"$1\" ] || printf \"%s\\n\" \"$1\" | ipset restore; {load}' sh \"$sets\""
                    ),
                ]),
            }
        };
        let argv: Vec<String> = match query {
            Query::Rules(Family::V4) => words(&["iptables-save"]),
            Query::Rules(Family::V6) => words(&["ip6tables-save"]),
            Query::LegacyRules(family) => {
                let (names, program) = match family {
                    Family::V4 => ("/proc/net/ip_tables_names", "iptables-legacy-save"),
                    Family::V6 => ("/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
                };
                // Asking the program itself would load the module and make its tables.
                let tables = match std::fs::read_to_string(names) {
                    Ok(tables) => tables,
                    Err(e) if is_gone(&e) => String::new(),
                    Err(e) => return Err(errno("read", Path::new(names), e)),
                };
                if tables.trim().is_empty() || !on_path(program) && is_legacy(tools(*family).0)? {
                    return Ok(nothing(program));
                }
                if !on_path(program) {
                    return Err(cannot(
                        format!(
                            "see the rules of the legacy backend: it has tables ({}), and there is no {program} to show them",
                            tables.split_whitespace().collect::<Vec<_>>().join(", ")
                        ),
                        format!(
                            "install {program}; or, where nobody uses those tables, unload their modules (rmmod)"
                        ),
                    ));
                }
                words(&[program])
            }
            Query::Rehearse(family) => rehearse(tools(*family)),
            Query::Tunnels => words(&["wg", "show", "interfaces"]),
            Query::Peers => words(&["wg", "show", "all", "dump"]),
            Query::ListenPorts => words(&["wg", "show", "all", "listen-port"]),
            Query::Links => words(&["ip", "-o", "link", "show"]),
            Query::Addresses => words(&["ip", "-o", "address", "show"]),
            Query::ServiceActive(Control::Unit(unit)) => {
                words(&["systemctl", "is-active", "--quiet", "--", unit])
            }
            Query::ServiceState(Control::Unit(unit)) => words(&[
                "systemctl",
                "show",
                "--property=ActiveState",
                "--value",
                "--",
                unit,
            ]),
            Query::ServiceActive(Control::Commands { active, .. })
            | Query::ServiceState(Control::Commands { active, .. }) => active.clone(),
            Query::ServiceSettings(unit) => words(&[
                "systemctl",
                "show",
                "--property=Environment,EnvironmentFiles,ExecStart,WorkingDirectory,MainPID,ControlGroup",
                "--",
                unit,
            ]),
            Query::RealPath(path) => words(&[
                "readlink",
                "-e",
                "-v",
                "-z",
                "--",
                &path.display().to_string(),
            ]),
            Query::Fence => words(&[
                "nft",
                "list",
                "table",
                "inet",
                crate::text::fence_rules::TABLE,
            ]),
            Query::NftTables if !on_path("nft") => {
                return match Path::new("/sys/module/nf_tables").exists() {
                    false => Ok(nothing("nft list tables")),
                    true => Err(cannot(
                        "list the tables of nft: there is no nft",
                        "install nftables",
                    )),
                };
            }
            Query::NftTables => words(&["nft", "list", "tables"]),
            Query::Firewalld => {
                let asks = [
                    "systemctl",
                    "is-active",
                    "--quiet",
                    "--",
                    "firewalld.service",
                ];
                if !on_path("firewalld") {
                    let end = ExitKind::Exit(4);
                    return Ok(Output {
                        end,
                        ..nothing(&asks.join(" "))
                    });
                }
                words(&asks)
            }
            // Asking the program itself would load the module.
            Query::Sets if !Path::new("/sys/module/ip_set").exists() => {
                return Ok(nothing("ipset list -name"));
            }
            Query::Sets if !on_path("ipset") => {
                return Err(cannot(
                    "list the sets of ipset: there is no ipset",
                    "install ipset",
                ));
            }
            Query::Sets => words(&["ipset", "list", "-name"]),
        };
        let exactly = matches!(
            query,
            Query::Rules(_) | Query::LegacyRules(_) | Query::Rehearse(_)
        );
        let run = if exactly { execute_exactly } else { execute };
        let mut out = run(&argv, input, COMMAND_LIMIT)?;
        if let Query::Rehearse(family) = query {
            let (save, restore) = tools(*family);
            out.shown = format!("unshare --net -- sh -c '{restore} && {save}'");
        }
        Ok(out)
    }

    fn has_program(&self, name: &str) -> bool {
        on_path(name)
    }

    fn can_write(&self, dir: &Path) -> Result<(), Problem> {
        nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK)
            .map_err(|e| errno("write to", dir, e))
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
        BootId::new(text.trim())
            .map_err(|e| cannot(format!("read {}: {e}", path.display()), "mount /proc"))
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
}

fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => "/proc/sys/net/ipv4/ip_forward",
        Family::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}

fn forwarding_of(family: Family, interface: &str) -> PathBuf {
    let folder = Path::new("/proc/sys").join(family.interfaces());
    folder.join(interface).join("forwarding")
}

/// The answer of a program that is not asked, since there is nothing that it could tell.
fn nothing(program: &str) -> Output {
    Output {
        shown: program.into(),
        end: ExitKind::Exit(0),
        stdout: String::new(),
        stderr: String::new(),
    }
}

fn is_gone(e: &std::io::Error) -> bool {
    e.kind() == std::io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH)
}

/// Whether this `iptables-save` is the legacy backend's itself: then it shows what that has.
fn is_legacy(save: &str) -> Result<bool, Problem> {
    let version = execute(&words(&[save, "--version"]), "", COMMAND_LIMIT)?;
    // `iptables-save v1.8.9 (nf_tables)`; what is older than both has no word there.
    let version = version.expect_ok("ask which backend iptables has", "install iptables")?;
    Ok(!version.contains("nf_tables"))
}

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|s| (*s).to_owned()).collect()
}

/// Whether there can be sets of addresses. Asking the program itself would load the module.
fn may_have_sets() -> bool {
    Path::new("/sys/module/ip_set").exists() && on_path("ipset")
}

fn on_path(program: &str) -> bool {
    PATH.split(':')
        .any(|dir| Path::new(dir).join(program).exists())
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

fn open_file(path: &Path) -> Result<File, Problem> {
    let fd = open_at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())
        .map_err(|e| errno("read", path, e))?;
    let file = File::from(fd);
    let meta = file.metadata().map_err(|e| errno("read", path, e))?;
    if meta.is_file() {
        Ok(file)
    } else {
        Err(cannot(
            format!("read {}: it is not a regular file", path.display()),
            "take it away, or name another place",
        ))
    }
}

impl Act for Linux {
    fn make_dir(&self, _: &Permit, dir: &Path) -> Result<(), Problem> {
        make_private_dir(dir)
    }

    fn create(
        &self,
        _: &Permit,
        path: &Path,
        owner: Owner,
        fill: &mut Fill,
    ) -> Result<(), Problem> {
        let (dir, name) = split(path, "make")?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = again(|| nix::fcntl::openat(&dir, name, flags, Mode::from_bits_truncate(0o600)))
            .map_err(|e| errno("make", path, e))?;
        let mut file = File::from(fd);
        fill(&mut file).map_err(|p| Problem {
            what: format!("write {}: {}", path.display(), p.what),
            ..p
        })?;
        give(&file, owner).map_err(|e| errno("set owner and mode of", path, e))
    }

    fn exchange(&self, _: &Permit, a: &Path, b: &Path) -> Result<(), Problem> {
        rename(a, b, RenameFlags::RENAME_EXCHANGE, "exchange")
    }

    fn rename(&self, _: &Permit, from: &Path, to: &Path) -> Result<(), Problem> {
        rename(from, to, RenameFlags::RENAME_NOREPLACE, "rename")
    }

    fn copy(&self, _: &Permit, from: &Path, to: &Path) -> Result<(), Problem> {
        let mut source = open_file(from)?;
        let meta = source.metadata().map_err(|e| errno("read", from, e))?;
        let (dir, name) = split(to, "make")?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = again(|| nix::fcntl::openat(&dir, name, flags, Mode::from_bits_truncate(0o600)))
            .map_err(|e| errno("make", to, e))?;
        let mut file = File::from(fd);
        std::io::copy(&mut source, &mut file).map_err(|e| errno("write", to, e))?;
        give(
            &file,
            Owner {
                uid: meta.uid(),
                gid: meta.gid(),
                mode: meta.mode() & 0o777,
            },
        )
        .map_err(|e| errno("set owner and mode of", to, e))?;
        file.sync_all().map_err(|e| errno("sync", to, e))
    }

    fn remove_file(&self, _: &Permit, path: &Path) -> Result<(), Problem> {
        remove(path, UnlinkatFlags::NoRemoveDir)
    }

    fn remove_dir(&self, _: &Permit, dir: &Path) -> Result<(), Problem> {
        remove(dir, UnlinkatFlags::RemoveDir)
    }

    fn sync_file(&self, _: &Permit, path: &Path) -> Result<(), Problem> {
        open_file(path)?
            .sync_all()
            .map_err(|e| errno("sync", path, e))
    }

    fn sync_dir(&self, _: &Permit, dir: &Path) -> Result<(), Problem> {
        sync_dir(dir)
    }

    fn sync_filesystem(&self, _: &Permit, dir: &Path) -> Result<(), Problem> {
        let fd = open_dir(dir).map_err(|e| errno("sync the filesystem of", dir, e))?;
        again(|| nix::unistd::syncfs(fd.as_fd()))
            .map_err(|e| errno("sync the filesystem of", dir, e))
    }

    fn settle_database(&self, _: &Permit, path: &Path) -> Result<Settled, Problem> {
        Live::new(&self.profile).settle(path)
    }

    fn set_forwarding(&self, _: &Permit, family: Family, on: bool) -> Result<(), Problem> {
        let path = Path::new(forwarding(family));
        std::fs::write(path, if on { "1" } else { "0" }).map_err(|e| errno("write", path, e))
    }

    fn set_forwarding_of(
        &self,
        _: &Permit,
        family: Family,
        interface: &str,
        on: bool,
    ) -> Result<(), Problem> {
        let path = forwarding_of(family, interface);
        match std::fs::write(&path, if on { "1" } else { "0" }) {
            Err(e) if is_gone(&e) => Ok(()),
            done => done.map_err(|e| errno("write", &path, e)),
        }
    }

    fn run(&self, _: &Permit, command: &GatewayCommand, input: &str) -> Result<Output, Problem> {
        match command {
            GatewayCommand::ServiceStart(Control::Unit(_)) => let_start(true)?,
            GatewayCommand::ServiceStop(Control::Unit(_)) => let_start(false)?,
            GatewayCommand::ServiceStart(Control::Commands { .. })
            | GatewayCommand::ServiceStop(Control::Commands { .. })
            | GatewayCommand::LoadRules(_)
            | GatewayCommand::EditRules(_)
            | GatewayCommand::Nft
            | GatewayCommand::TunnelUp(_)
            | GatewayCommand::TunnelDown(_)
            | GatewayCommand::PeersAdd(_)
            | GatewayCommand::PeerRemove(_, _) => {}
        }
        let (argv, limit) = match command {
            GatewayCommand::LoadRules(Family::V4) => {
                (words(&["iptables-restore", "--wait", "10"]), COMMAND_LIMIT)
            }
            GatewayCommand::LoadRules(Family::V6) => {
                (words(&["ip6tables-restore", "--wait", "10"]), COMMAND_LIMIT)
            }
            GatewayCommand::EditRules(Family::V4) => (
                words(&["iptables-restore", "--noflush", "--wait", "10"]),
                COMMAND_LIMIT,
            ),
            GatewayCommand::EditRules(Family::V6) => (
                words(&["ip6tables-restore", "--noflush", "--wait", "10"]),
                COMMAND_LIMIT,
            ),
            GatewayCommand::Nft => (words(&["nft", "-f", "-"]), COMMAND_LIMIT),
            GatewayCommand::TunnelUp(config) => (words(&["wg-quick", "up", config]), COMMAND_LIMIT),
            GatewayCommand::TunnelDown(config) => {
                (words(&["wg-quick", "down", config]), COMMAND_LIMIT)
            }
            GatewayCommand::PeersAdd(tunnel) => (
                words(&["wg", "addconf", tunnel, "/dev/stdin"]),
                COMMAND_LIMIT,
            ),
            GatewayCommand::PeerRemove(tunnel, key) => (
                words(&["wg", "set", tunnel, "peer", key, "remove"]),
                COMMAND_LIMIT,
            ),
            GatewayCommand::ServiceStart(Control::Unit(unit)) => (
                words(&["systemctl", "--no-ask-password", "start", "--", unit]),
                SERVICE_LIMIT,
            ),
            GatewayCommand::ServiceStop(Control::Unit(unit)) => (
                words(&["systemctl", "--no-ask-password", "stop", "--", unit]),
                SERVICE_LIMIT,
            ),
            GatewayCommand::ServiceStart(Control::Commands { start, .. }) => {
                (start.clone(), SERVICE_LIMIT)
            }
            GatewayCommand::ServiceStop(Control::Commands { stop, .. }) => {
                (stop.clone(), SERVICE_LIMIT)
            }
        };
        let exactly = matches!(
            command,
            GatewayCommand::LoadRules(_) | GatewayCommand::EditRules(_)
        );
        let run = if exactly { execute_exactly } else { execute };
        run(&argv, input, limit)
    }
}

/// Says to units that a boot holds back whether they may start now.
fn let_start(now: bool) -> Result<(), Problem> {
    let path = Path::new(MAY_START);
    if !now {
        return remove(path, UnlinkatFlags::NoRemoveDir);
    }
    let dir = parent(path)?;
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(path, ""))
        .map_err(|e| errno("write", path, e))
}

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
        let mut file = tempfile::Builder::new()
            .prefix(".keep-")
            .tempfile_in(dir)
            .map_err(|e| errno("make a file in", dir, e))?;
        file.write_all(bytes).map_err(|e| errno("write", path, e))?;
        file.as_file()
            .sync_all()
            .map_err(|e| errno("sync", path, e))?;
        file.persist(path)
            .map_err(|e| errno("write", path, e.error))?;
        sync_dir(dir)
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

    fn end_session(&self, session: u32, started_ticks: u64) -> Result<Vec<String>, Problem> {
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
                    && p.started_ticks >= started_ticks
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
            format!(
                "end what the dead restore left running: {}",
                ended.join(", ")
            ),
            "end these processes by hand, then run `holdfast recover`",
        ))
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

fn make_private_dir(dir: &Path) -> Result<(), Problem> {
    let (at, name) = split(dir, "make the folder")?;
    match nix::sys::stat::mkdirat(&at, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) => Ok(()),
        Err(nix::Error::EEXIST) => {
            // Someone else's folder of that name could be read or written by them.
            let meta = std::fs::symlink_metadata(dir).map_err(|e| errno("look at", dir, e))?;
            if meta.is_dir()
                && meta.uid() == nix::unistd::geteuid().as_raw()
                && meta.mode() & 0o077 == 0
            {
                Ok(())
            } else {
                Err(cannot(
                    format!(
                        "use the folder {}: it is there already and not root's alone",
                        dir.display()
                    ),
                    "look at what is in it, then take it away or make it root's with mode 0700",
                ))
            }
        }
        Err(e) => Err(errno("make the folder", dir, e)),
    }
}

fn give(file: &File, owner: Owner) -> nix::Result<()> {
    let uid = nix::unistd::Uid::from_raw(owner.uid);
    let gid = nix::unistd::Gid::from_raw(owner.gid);
    let mode = Mode::from_bits_truncate(owner.mode & 0o777);
    again(|| nix::unistd::fchown(file, Some(uid), Some(gid)))?;
    again(|| nix::sys::stat::fchmod(file, mode))
}

fn rename(from: &Path, to: &Path, flags: RenameFlags, what: &str) -> Result<(), Problem> {
    let (from_dir, from_name) = split(from, what)?;
    let (to_dir, to_name) = split(to, what)?;
    nix::fcntl::renameat2(&from_dir, from_name, &to_dir, to_name, flags)
        .map_err(|e| errno(format!("{what} {} and", from.display()), to, e))
}

fn remove(path: &Path, flags: UnlinkatFlags) -> Result<(), Problem> {
    let (dir, name) = match open_dir(parent(path)?) {
        Ok(dir) => (dir, path.file_name().unwrap_or_default()),
        Err(nix::Error::ENOENT) => return Ok(()),
        Err(e) => return Err(errno("remove", path, e)),
    };
    match nix::unistd::unlinkat(&dir, name, flags) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        Err(e) => Err(errno("remove", path, e)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), Problem> {
    let fd = open_dir(dir).map_err(|e| errno("sync the folder", dir, e))?;
    again(|| nix::unistd::fsync(fd.as_fd())).map_err(|e| errno("sync the folder", dir, e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file whose reads a signal interrupts every other time.
    struct Interrupted(&'static [u8], bool);

    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = !self.1;
            match self.1 {
                true => Err(std::io::ErrorKind::Interrupted.into()),
                false => {
                    let most = buffer.len().min(3);
                    self.0.read(&mut buffer[..most])
                }
            }
        }
    }

    #[test]
    fn a_signal_during_a_read_changes_no_digest() {
        let bytes = b"[Interface]\n";
        let digest = hashed(
            Interrupted(bytes, false),
            bytes.len() as u64,
            &mut Vec::new(),
        );
        let wanted = Digest::of_bytes(sha2::Sha256::digest(bytes).into());
        assert_eq!(digest.unwrap(), wanted);
    }

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
