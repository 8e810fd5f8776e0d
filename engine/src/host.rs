//! The seam to the system: everything that the engine sees of the gateway, does to it, and keeps for itself goes
//! through these traits. Owns the closed sets of queries and commands; does nothing itself.
//!
//! [`Look`] reads. [`Act`] changes the gateway, and every function of it demands a [`Permit`]. [`Own`] is what belongs
//! to Holdfast alone: its state files, its journal, what its dead processes left behind. Tests implement them with faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use journal_format::{BootId, Control, Digest, FileFacts, FileId};

use crate::error::{Code, Problem, cannot};
pub use crate::files::{Kind, access::FoundFile, attributes::Fixed};
use crate::gateway::account::MailRelay;
use crate::gateway::database::{Client, RowSums, Rows, Settled, Shape, Trouble, User};
use crate::gateway::link::LinkChange;
pub use crate::gateway::owner::Owner;
pub use crate::text::iptables::Family;

pub mod fence;
pub mod held_units;
pub mod linux;
pub mod live_database;
pub mod permit;
pub mod programs;
pub mod this_box;

pub use fence::fence_is_closed;
pub use permit::Permit;

/// There from the first service that a restore or a recovery starts until it stops one again: the driver's word, in this
/// boot, to the gateway's units. A condition on the barrier alone would stop the driver's own start, too.
pub const MAY_START: &str = "/run/holdfast/services-may-start";

/// What is under a name. Links are seen as links, never followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// The object itself; none where the filesystem keeps no time of birth.
    pub id: Option<FileId>,
    /// The device that holds it.
    pub dev: u64,
    /// Bytes.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// When its bytes, or a folder's names, last changed, nanoseconds since 1970 UTC.
    pub changed_ns: i64,
}

impl Meta {
    /// The facts of a file that holds these bytes.
    pub fn with(&self, sha256: Digest) -> FileFacts {
        FileFacts {
            sha256,
            size: self.size,
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
        }
    }
}

/// What is under a name, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What it is.
    pub meta: Meta,
    /// SHA-256 of its bytes, if it is a regular file.
    pub sha256: Option<Digest>,
}

/// Questions that change nothing, answered by a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// `iptables-save` or `ip6tables-save`.
    Rules(Family),
    /// Rules of the backend that `iptables-save` does not show.
    LegacyRules(Family),
    /// Loads the rules given on standard input in a network namespace made for it, and prints them as the kernel has them then.
    Rehearse(Family),
    /// `wg show interfaces`.
    Tunnels,
    /// `wg show all dump`. Holds secrets.
    Peers,
    /// `wg show all listen-port`.
    ListenPorts,
    /// Every network interface.
    Links,
    /// Every address of every network interface.
    Addresses,
    /// Every route of every table, of both families.
    Routes,
    /// Whether a service runs.
    ServiceActive(Control),
    /// The state of a unit, as a word; of a service with commands, whether it runs. For [`stirs`].
    ServiceState(Control),
    /// What is another text for each run of a unit; for a service with commands, what the command says that asks whether it runs.
    ServiceRun(Control),
    /// What a unit says of itself: its environment and the files of it, folder, command, processes, whether it is there, and how long
    /// its start may take. Holds secrets.
    ServiceSettings(String),
    /// A path without links; a failure if nothing is there.
    RealPath(PathBuf),
    /// Whether the fence is up.
    Fence,
    /// `nft list tables`: every table of nft, those of iptables among them.
    NftTables,
    /// `ipset list -name`.
    Sets,
    /// Whether firewalld runs.
    Firewalld,
}

/// Commands that change the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayCommand {
    /// `iptables-restore --noflush`: carries out the lines on standard input, a table at a time.
    EditRules(Family),
    /// `nft -f -`: the fence's ruleset on standard input.
    Nft,
    /// `wg-quick up` of this config, ended after so long.
    TunnelUp(String, Duration),
    /// `wg-quick down` of this config, ended after so long.
    TunnelDown(String, Duration),
    /// `wg addconf`: adds the peers on standard input to an interface, or sets those that it has.
    PeersAdd(String),
    /// Takes the peer with this public key away from an interface.
    PeerRemove(String, String),
    /// Sets something of a tunnel's interface.
    SetLink(String, LinkChange),
    /// Starts a service.
    ServiceStart(Control),
    /// Stops a service.
    ServiceStop(Control),
}

/// What a program answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The command as a person would type it; holds no secret.
    pub shown: String,
    /// How it ended.
    pub end: ExitKind,
    /// Standard output.
    pub stdout: String,
    /// Standard error, bounded, keys blanked.
    pub stderr: String,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitKind {
    /// By itself, with this status.
    Exit(i32),
    /// By a signal.
    Signal(i32),
    /// At its time limit, with all its children.
    TimedOut,
}

impl Output {
    /// Whether it ended with 0.
    pub fn ok(&self) -> bool {
        self.end == ExitKind::Exit(0)
    }

    /// Why it could not do `what`, with the command and its standard error.
    pub fn problem(
        &self,
        code: Code,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Problem {
        let how = match self.end {
            ExitKind::Exit(status) => format!("exit status {status}"),
            ExitKind::Signal(signal) => format!("killed by signal {signal}"),
            ExitKind::TimedOut => "it did not end within its time limit".to_string(),
        };
        Problem {
            command: Some(self.shown.clone()),
            stderr: Some(self.stderr.clone()).filter(|s| !s.is_empty()),
            ..cannot(code, format!("{}: {how}", what.into()), advice)
        }
    }

    /// Standard output if it ended with 0, else the problem.
    pub fn expect_ok(self, code: Code, what: &str, advice: &str) -> Result<String, Problem> {
        if self.ok() {
            Ok(self.stdout)
        } else {
            Err(self.problem(code, what, advice))
        }
    }
}

/// Is there where systemd manages the machine: sd_booted(3).
pub const MANAGED: &str = "/run/systemd/system";

/// Whether a service runs or is about to: one that fails and is started again and again is not at rest either. An answer that
/// says neither is a problem: a service that cannot be asked for is not one that is stopped.
pub fn stirs(host: &dyn Host, control: &Control) -> Result<bool, Problem> {
    let out = host.ask(&Query::ServiceState(control.clone()), "")?;
    let what = "ask whether the service runs";
    match control {
        // In a rescue system, on the mounted disk, nothing manages units, and none runs.
        Control::Unit(_) if !out.ok() && host.stat(Path::new(MANAGED))?.is_none() => Ok(false),
        Control::Unit(_) => {
            let state = out.expect_ok(
                Code::SERVICE_UNKNOWN,
                what,
                "check that systemd answers: `systemctl status`",
            )?;
            Ok(!["", "inactive", "failed"].contains(&state.trim()))
        }
        Control::Commands { .. } => match out.end {
            // What a shell says of a program that it cannot run, or not find.
            ExitKind::Exit(126 | 127) | ExitKind::Signal(_) | ExitKind::TimedOut => Err(out
                .problem(
                    Code::SERVICE_UNKNOWN,
                    what,
                    "make the service's `active` command answer; a restore keeps the command of the profile as it was when it began",
                )),
            ExitKind::Exit(status) => Ok(status == 0),
        },
    }
}

/// Where a path leads once all links are followed; none if to nothing, or where that cannot be told.
pub fn real_path(host: &dyn Look, path: &Path) -> Option<PathBuf> {
    let out = host.ask(&Query::RealPath(path.to_owned()), "").ok();
    let real = out.filter(Output::ok)?.stdout;
    Some(PathBuf::from(real.trim_end_matches(['\n', '\0'])))
}

/// A process that has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its command name.
    pub command: String,
    /// Whose it is.
    pub uid: u32,
    /// Somebody sits at it: it has a terminal.
    pub at_a_terminal: bool,
    /// Which process it is a child of, unless it is the first one's: `COMMAND (pid N)`.
    pub child_of: Option<String>,
    /// Its session was begun by a child of the first process, or by one that is gone: not by a login or a job of `cron`'s.
    pub is_daemon: bool,
    /// The file.
    pub path: PathBuf,
}

/// A regular file that a process has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// Its name, as that process has it.
    pub path: PathBuf,
    /// Device and inode.
    pub object: (u64, u64),
    /// Where this process can open that very file, whatever its name leads to here.
    pub at: PathBuf,
}

/// What some processes have open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// The files, each once. Those that have no name any more are left out.
    pub files: Vec<OpenFile>,
    /// There are more than are looked at.
    pub are_more: bool,
    /// Why one, or all of a process, could not be looked at; the others were.
    pub unseen: Vec<Problem>,
}

/// Two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Milliseconds since boot, suspended time included.
    pub up_ms: u64,
}

/// What there is to see. Nothing here changes anything.
pub trait Look {
    /// What is under a name, or none.
    fn stat(&self, path: &Path) -> Result<Option<Meta>, Problem>;
    /// The whole of a regular file of at most `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Problem>;
    /// Where a link leads, as it says itself; none if no link is there. Links on the way are followed.
    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>>;
    /// Who may write what is under a name; none if nothing is. A link anywhere on the way is an error.
    fn access(&self, path: &Path) -> io::Result<Option<FoundFile>>;
    /// The ids behind `user:group`, of which either may be a number.
    fn owner(&self, owner: &str) -> Result<(u32, u32), Problem>;
    /// The names in a folder, sorted; those that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> Result<Vec<String>, Problem>;
    /// SHA-256 of a regular file. Not for a database that this process has open.
    fn sha256(&self, path: &Path) -> Result<Digest, Problem>;
    /// What is under each of these names in a folder, in their order, and the SHA-256 of those that are regular files; none where
    /// nothing is. For thousands of small files, of which none is a database.
    fn held(&self, dir: &Path, names: &[String]) -> Result<Vec<Option<Held>>, Problem> {
        let one = |name: &String| {
            let path = dir.join(name);
            let Some(meta) = self.stat(&path)? else {
                return Ok(None);
            };
            let sha256 = match meta.kind {
                Kind::File => Some(self.sha256(&path)?),
                Kind::Dir | Kind::Other => None,
            };
            Ok(Some(Held { meta, sha256 }))
        };
        names.iter().map(one).collect()
    }
    /// Bytes that can still be written to the filesystem that holds this folder.
    fn free_bytes(&self, dir: &Path) -> Result<u64, Problem>;
    /// Processes other than this one that hold any of these files open.
    fn holders(&self, files: &[PathBuf]) -> Result<Vec<Holder>, Problem>;
    /// What these processes have open: so many of the processes, and so many of the files, as are looked at. What has ended by
    /// then is passed over.
    fn open_files(&self, pids: &[u32]) -> Result<OpenFiles, Problem>;
    /// The clients in a database that nobody but root can come at, and nobody has open.
    fn clients_of_copy(&self, path: &Path) -> Result<Vec<Client>, Problem>;
    /// The gateway's own databases.
    fn databases(&self) -> Box<dyn LiveDatabases + '_>;
    /// Whether a regular file begins as every database of SQLite does. Not for one that this process has open.
    fn is_sqlite(&self, path: &Path) -> Result<bool, Problem>;
    /// The same of a file that a process has open; one that it has closed meanwhile is none.
    fn is_sqlite_open(&self, file: &OpenFile) -> Result<bool, Problem>;
    /// Asks a program; `input` is its standard input.
    fn ask(&self, query: &Query, input: &str) -> Result<Output, Problem>;
    /// Whether a program can be found where commands are looked for.
    fn has_program(&self, name: &str) -> bool;
    /// Whether files can be made in a folder: it is writable, and so is its filesystem.
    fn can_write(&self, dir: &Path) -> Result<(), Problem>;
    /// What keeps root itself from changing what is under a name; none if nothing is.
    fn fixed(&self, path: &Path) -> Result<Option<Fixed>, Problem>;
    /// Every path that something is mounted on.
    fn mount_points(&self) -> Result<Vec<String>, Problem>;
    /// `net.ipv4.ip_forward` or `net.ipv6.conf.all.forwarding`; none where the kernel does not have that protocol.
    fn forwarding(&self, family: Family) -> Result<Option<bool>, Problem>;
    /// The interfaces that have a setting of their own, and what comes for new ones (`default`).
    fn forwarding_interfaces(&self, family: Family) -> Result<Vec<String>, Problem>;
    /// The same of one interface; none where there is no such interface.
    fn forwarding_of(&self, family: Family, interface: &str) -> Result<Option<bool>, Problem>;
    /// The boot that the machine is in.
    fn boot(&self) -> Result<BootId, Problem>;
    /// Both clocks.
    fn now(&self) -> Now;
    /// Waits.
    fn sleep(&self, ms: u64);
    /// What runs these tunnels in userspace, a process or its socket, by their names; not those that the kernel runs, or nothing.
    fn userspace(&self, tunnels: &BTreeSet<&str>) -> Result<BTreeMap<String, String>, Problem>;
    /// How long a command on a tunnel may take, its hooks included.
    fn tunnel_limit(&self) -> Duration;
}

/// The gateway's own databases, in use or not, with all that lies beside them. Nothing here changes what is in one.
pub trait LiveDatabases {
    /// The clients.
    fn clients(&self, path: &Path) -> Result<Vec<Client>, Trouble>;
    /// The clients, to be compared.
    fn rows(&self, path: &Path) -> Result<Rows, Trouble>;
    /// The users.
    fn users(&self, path: &Path) -> Result<Vec<User>, Trouble>;
    /// The mail relay that it names, if it names one.
    fn mail_relay(&self, path: &Path) -> Result<Option<MailRelay>, Trouble>;
    /// Its rows, to be compared with those of another.
    fn row_sums(&self, path: &Path) -> Result<RowSums, Trouble>;
    /// Its tables and their columns.
    fn shape(&self, path: &Path) -> Result<Shape, Trouble>;
    /// Whether SQLite may be let near it at all, its account's rights be had, and it be settled with them; else no restore can.
    fn may_be_opened(&self, path: &Path) -> Result<(), Problem>;
    /// Whether a copy of it could be made: the account that makes it must be able to go to the spool.
    fn may_be_copied(&self, path: &Path) -> Result<(), Problem>;
}

/// Writes the bytes of a new file.
pub type Fill<'a> = dyn FnMut(&mut dyn Write) -> Result<(), Problem> + 'a;

/// What changes the gateway. Nothing here without a permit, which only a synced intent gives (I2).
pub trait Act {
    /// Makes a folder, root only. One that is there already is no error.
    fn make_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem>;
    /// Makes a file that must not be there yet, not synced; `fill` writes its bytes.
    fn create(
        &self,
        permit: &Permit,
        path: &Path,
        owner: Owner,
        fill: &mut Fill,
    ) -> Result<(), Problem>;
    /// Puts each of two objects under the other's name, at once.
    fn exchange(&self, permit: &Permit, a: &Path, b: &Path) -> Result<(), Problem>;
    /// Renames, and refuses if the new name is taken. [`Code::CROSSES_MOUNTS`] if the two are not on one mount: nothing else
    /// tells, mounts of one filesystem have one device number.
    fn rename(&self, permit: &Permit, from: &Path, to: &Path) -> Result<(), Problem>;
    /// Copies a regular file with owner, mode and extended attributes, synced, under a name that must not be there yet; for
    /// a move across mounts. Tells the attributes that the copy has not as the file has them.
    fn copy(&self, permit: &Permit, from: &Path, to: &Path) -> Result<Vec<String>, Problem>;
    /// Gives a file the extended attributes of another, an access control list among them, within the mode that it has; not
    /// synced. Tells those that it has not as the other has them.
    fn take_attributes(
        &self,
        permit: &Permit,
        from: &Path,
        to: &Path,
    ) -> Result<Vec<String>, Problem>;
    /// Removes a file. One that is gone already is no error.
    fn remove_file(&self, permit: &Permit, path: &Path) -> Result<(), Problem>;
    /// Removes an empty folder. One that is gone already is no error.
    fn remove_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem>;
    /// Makes a file's bytes durable.
    fn sync_file(&self, permit: &Permit, path: &Path) -> Result<(), Problem>;
    /// Makes a folder's names durable.
    fn sync_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem>;
    /// Makes the whole filesystem that holds this folder durable.
    fn sync_filesystem(&self, permit: &Permit, dir: &Path) -> Result<(), Problem>;
    /// Moves what lies in side files into the database, so that the file alone is all of it.
    fn settle_database(&self, permit: &Permit, path: &Path) -> Result<Settled, Problem>;
    /// Calls those of these clients of a database active that are inactive; all, or none and why.
    fn call_active(
        &self,
        permit: &Permit,
        database: &Path,
        clients: &BTreeSet<String>,
    ) -> Result<(), Trouble>;
    /// Sets what [`Look::forwarding`] tells.
    fn set_forwarding(&self, permit: &Permit, family: Family, on: bool) -> Result<(), Problem>;
    /// Sets what [`Look::forwarding_of`] tells. An interface that is gone is no error.
    fn set_forwarding_of(
        &self,
        permit: &Permit,
        family: Family,
        interface: &str,
        on: bool,
    ) -> Result<(), Problem>;
    /// Runs a command; `input` is its standard input. Its exit status is evidence, not a verdict.
    fn run(
        &self,
        permit: &Permit,
        command: &GatewayCommand,
        input: &str,
    ) -> Result<Output, Problem>;
}

/// What is Holdfast's own: under `state_dir`, and its own processes.
pub trait Own {
    /// Makes a folder under `state_dir`, root only, durable. One that is there already is no error.
    fn keep_dir(&self, dir: &Path) -> Result<(), Problem>;
    /// Writes a file under `state_dir` whole and durable, or not at all; replaces.
    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), Problem>;
    /// Removes a file under `state_dir`, durable. One that is gone already is no error.
    fn discard(&self, path: &Path) -> Result<(), Problem>;
    /// Holds so much space on the disk until the file is discarded.
    fn reserve(&self, path: &Path, bytes: u64) -> Result<(), Problem>;
    /// No service must be down for a restore any more: whoever wants may start one.
    fn release_services(&self);
    /// Opens a journal to append to. Reserves `reserve` bytes behind its end without changing its size.
    fn open_journal(&self, path: &Path, reserve: u64) -> Result<Box<dyn Append>, Problem>;
    /// Ends every process that began in a dead driver's session at this time since boot or later, but those that leave on
    /// purpose (wireguard-go), and waits until they are gone. Tells what it ended.
    fn end_session(
        &self,
        session: u32,
        started_ticks: u64,
        since_up_ms: u64,
    ) -> Result<Vec<String>, Problem>;
}

/// A journal that is open for appending.
pub trait Append {
    /// Appends, and makes it durable. After an error nothing more may be appended.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Problem>;
}

/// The whole seam.
pub trait Host: Look + Act + Own + Sync {}

impl<T: Look + Act + Own + Sync> Host for T {}

/// The folder that holds a path.
pub fn parent(path: &Path) -> Result<&Path, Problem> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    folder.ok_or_else(|| {
        let what = format!("use {}: it has no folder", path.display());
        let advice = "name an absolute path in the profile";
        cannot(Code::BAD_PROFILE, what, advice)
    })
}
