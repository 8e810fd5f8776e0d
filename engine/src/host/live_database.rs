//! The gateway's own databases, in use or not: read, copied and settled with the rights of the account that `rights` finds, in a
//! process of this program's that has given up root. Owns how that process is asked.
//!
//! Whoever may write beside a database decides what SQLite does there; what comes back is therefore data, read with the care that an
//! archive gets. Must not open a live database in a process that is root, but where root alone may write.
#![expect(clippy::disallowed_methods, reason = "runs without root")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Problem, cannot, cause};
use crate::files::spool::{self, Room};
use crate::gateway::account::MailRelay;
use crate::gateway::database::reach;
use crate::gateway::database::rights::{self, Rights};
use crate::gateway::database::{
    self, Client, OpenMode, Patience, RowSums, Rows, Settled, Shape, Trouble, User,
};
use crate::gateway::owner;
use crate::gateway::profile::{DatabaseKind, Profile};
use crate::host::programs::itself;
use crate::host::{ExitKind, LiveDatabases};

/// The hidden command that does the work.
pub const COMMAND: &str = "database-work";
/// Reading a table of a large gateway takes a second; what a lock is waited for comes on top.
const READING: Duration = Duration::from_secs(120);
/// A copy of a large database and its check; what a lock is waited for comes on top.
const COPYING: Duration = Duration::from_secs(900);
/// The name of a copy in the folder that the other process has for itself.
const COPY: &str = "copy";
/// What the other process may have in memory, bytes: a planted database must not cost the box its memory.
const MEMORY: u64 = 1 << 30;

/// The gateway's own databases.
pub struct Live<'p> {
    profile: &'p Profile,
    /// How long reading may take.
    reading: Duration,
    /// How much of that may go by in waiting for a lock.
    busy: Duration,
}

/// What tells the tables of the gateway's own databases, for whoever checks a backup.
pub fn shapes(profile: &Profile) -> impl Fn(&Path) -> Result<Shape, Problem> + Sync + '_ {
    move |path| Ok(Live::new(profile).shape(path)?)
}

/// A copy of a database.
#[derive(Debug)]
pub struct Snapshot {
    /// The copy. It has no name any more, is not synced, and goes when it is closed. Never for SQLite in a process that is root.
    pub file: File,
    /// What is wrong with it, damage too, and what a restore on another box would mind.
    pub warnings: Vec<String>,
    /// The clients in it; none if it is of another kind, or where they cannot be read.
    pub rows: Option<Rows>,
}

/// What is to be done with one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Work {
    Clients,
    Rows,
    Users,
    Shape,
    RowSums,
    MailRelay,
    /// Nothing but becoming that user.
    Probe,
    SnapshotOfClients,
    SnapshotOfUsers,
    Settle,
    CallActive(BTreeSet<String>),
}

/// What the other process is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    path: PathBuf,
    work: Work,
    /// The user whose rights it works with.
    uid: u32,
    /// A folder that is that user's own.
    folder: Option<PathBuf>,
    /// How long a lock is waited for.
    busy: Duration,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Clients(Vec<Client>),
    Users(Vec<User>),
    Shape(Shape),
    RowSums(RowSums),
    MailRelay(Option<MailRelay>),
    Probed,
    Rows(Rows),
    /// Copied; with warnings, and clients.
    Copied(Vec<String>, Option<Rows>),
    Settled(Settled),
    Called,
    /// A transaction that was cut off lies beside it: it can only be read as a copy, which needs a folder.
    NeedsFolder,
    Failed(Trouble),
}

impl<'p> Live<'p> {
    /// Those of this profile.
    pub fn new(profile: &'p Profile) -> Live<'p> {
        let busy = Duration::from_secs(profile.gateway.busy_seconds);
        Live {
            profile,
            reading: READING + busy,
            busy,
        }
    }

    /// For somebody who does not wait as long: whoever reads there gets this time.
    pub fn within(self, reading: Duration) -> Live<'p> {
        Live {
            reading,
            // A lock is told of before the time is over.
            busy: self.busy.min(reading / 2),
            ..self
        }
    }

    /// Copies it, page for page, in one go (a copy in portions starts over at every commit and may never end), and looks
    /// the copy through; none of that in a process that is root, where another account may have planted it.
    ///
    /// A lock is waited for as long as the profile says. What SQLite cannot read is [`Trouble::Unreadable`]: of that,
    /// [`database::raw_bytes`] can be had.
    pub fn snapshot(&self, path: &Path, kind: DatabaseKind) -> Result<Snapshot, Trouble> {
        let uid = self.other_account(path)?;
        reach::to_read(path, uid).map_err(reach::InTheWay::of_a_copy)?;
        let room = Room::new(&self.profile.spool_dir())?;
        let folder = lent(&room, uid)?;
        let limit = COPYING + self.busy;
        let work = match kind {
            DatabaseKind::Clients => Work::SnapshotOfClients,
            DatabaseKind::Users => Work::SnapshotOfUsers,
        };
        let copied = self.ask(path, &work, uid, Some(&folder), limit)?;
        let Answer::Copied(warnings, rows) = copied else {
            return Err(unexpected(path));
        };
        // From here on that account has no way to it but what it still has open; its own file it can fill as well.
        let file = open_plain_file(&folder.join(COPY), uid).map_err(|e| {
            cannot(
                cause(&e),
                format!("take over the copy of the database {}: {e}", path.display()),
                "check the disk of `state_dir`: `df -h` shows whether it is full, `dmesg` whether it fails",
            )
        })?;
        Ok(Snapshot {
            file,
            warnings,
            rows,
        })
    }

    /// Settles a database whose users have stopped: see [`Settled`]. Only this rolls back what an interrupted writer left.
    pub fn settle(&self, path: &Path) -> Result<Settled, Problem> {
        let uid = self.other_account(path)?;
        match self.ask(path, &Work::Settle, uid, None, COPYING)? {
            Answer::Settled(settled) => Ok(settled),
            _ => Err(unexpected(path).into()),
        }
    }

    /// Calls those of these clients active again that are inactive; all, or none and why.
    pub fn call_active(&self, path: &Path, clients: &BTreeSet<String>) -> Result<(), Trouble> {
        let uid = self.other_account(path)?;
        let work = Work::CallActive(clients.clone());
        match self.ask(path, &work, uid, None, self.reading)? {
            Answer::Called => Ok(()),
            _ => Err(unexpected(path)),
        }
    }

    fn read(&self, path: &Path, work: Work) -> Result<Answer, Trouble> {
        let uid = self.other_account(path)?;
        reach::to_read(path, uid)?;
        match self.ask(path, &work, uid, None, self.reading)? {
            Answer::NeedsFolder => {
                let room = Room::new(&self.profile.spool_dir())?;
                let folder = lent(&room, uid)?;
                self.ask(path, &work, uid, Some(&folder), self.reading)
            }
            answered => Ok(answered),
        }
    }

    fn ask(
        &self,
        path: &Path,
        work: &Work,
        uid: Option<u32>,
        folder: Option<&Path>,
        limit: Duration,
    ) -> Result<Answer, Trouble> {
        let answered = match uid {
            None => answer(path, work, folder, Patience::of(self.busy)),
            Some(uid) => {
                let order = Order {
                    path: path.to_owned(),
                    work: work.clone(),
                    uid,
                    folder: folder.map(Path::to_owned),
                    busy: self.busy,
                };
                delegate(&order, limit)
            }
        };
        answered.map_err(|trouble| trouble.with_holders(path, self.busy))
    }

    /// The user whose rights are taken; none where this process may do it itself.
    fn other_account(&self, path: &Path) -> Result<Option<u32>, Problem> {
        if !nix::unistd::geteuid().is_root() {
            // It has no rights to give up.
            return Ok(None);
        }
        let owner = owner::resolve(&self.profile.gateway.owner);
        Ok(match rights::of(path, owner)? {
            Rights::Root => None,
            Rights::Of(uid) => Some(uid),
        })
    }
}

/// Reads this, and takes no other answer.
macro_rules! told {
    ($live:ident, $path:ident, $what:ident) => {
        match $live.read($path, Work::$what)? {
            Answer::$what(told) => Ok(told),
            _ => Err(unexpected($path)),
        }
    };
}

impl LiveDatabases for Live<'_> {
    fn clients(&self, path: &Path) -> Result<Vec<Client>, Trouble> {
        told!(self, path, Clients)
    }

    fn rows(&self, path: &Path) -> Result<Rows, Trouble> {
        told!(self, path, Rows)
    }

    fn users(&self, path: &Path) -> Result<Vec<User>, Trouble> {
        told!(self, path, Users)
    }

    fn mail_relay(&self, path: &Path) -> Result<Option<MailRelay>, Trouble> {
        told!(self, path, MailRelay)
    }

    fn shape(&self, path: &Path) -> Result<Shape, Trouble> {
        told!(self, path, Shape)
    }

    fn row_sums(&self, path: &Path) -> Result<RowSums, Trouble> {
        told!(self, path, RowSums)
    }

    fn may_be_opened(&self, path: &Path) -> Result<(), Problem> {
        let uid = self.other_account(path)?;
        reach::to_settle(path, uid)?;
        match self.ask(path, &Work::Probe, uid, None, READING)? {
            Answer::Probed => Ok(()),
            _ => Err(unexpected(path).into()),
        }
    }

    fn may_be_copied(&self, path: &Path) -> Result<(), Problem> {
        match self.other_account(path) {
            Ok(Some(uid)) => spool::way_is_open(&self.profile.spool_dir(), uid),
            // Why it may not be opened at all is said where it is.
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

fn unexpected(path: &Path) -> Trouble {
    Trouble::Failed(cannot(
        Code::INTERNAL,
        format!(
            "work on the database {}: its reader gave another answer than was asked for",
            path.display()
        ),
        "see who could have replaced the holdfast program while it ran; then try again",
    ))
}

/// The group of a user without more: what its account says, else one of its own.
fn group_of(uid: u32) -> u32 {
    let user = nix::unistd::User::from_uid(Uid::from_raw(uid));
    user.ok().flatten().map_or(uid, |u| u.gid.as_raw())
}

/// A folder for whoever does the work.
fn lent(room: &Room, uid: Option<u32>) -> Result<PathBuf, Problem> {
    let uid = uid.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
    room.lend(uid, group_of(uid))
}

/// Has a process do it that becomes this user.
fn delegate(order: &Order, limit: Duration) -> Result<Answer, Trouble> {
    let failed = |why: String| {
        cannot(
            Code::DATABASE_UNREADABLE,
            format!(
                "work on the database {} as its account, user {}: {why}",
                order.path.display(),
                order.uid
            ),
            "check that the profile names the right file, and the file itself: sqlite3 FILE 'PRAGMA integrity_check'",
        )
    };
    let order = serde_json::to_string(&order).map_err(|e| failed(e.to_string()))?;
    let output = itself(COMMAND, &order, limit)?;
    match output.end {
        ExitKind::Exit(0) => {}
        ExitKind::Exit(status) => {
            let said = output.stderr.lines().next().unwrap_or_default();
            return Err(failed(format!("its reader ended with {status}: {said}")).into());
        }
        ExitKind::Signal(signal) => {
            return Err(failed(format!("its reader was ended by signal {signal}")).into());
        }
        ExitKind::TimedOut => {
            return Err(failed(format!(
                "its reader did not end within {} s",
                limit.as_secs()
            ))
            .into());
        }
    }
    match serde_json::from_str(&output.stdout).map_err(|e| failed(e.to_string()))? {
        Answer::Failed(trouble) => Err(trouble),
        answer => Ok(answer),
    }
}

/// The other process: reads its order, gives up root, works, answers. Prints nothing else on standard output.
pub fn serve() -> Result<(), Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        cannot(
            Code::BAD_REQUEST,
            format!("work on a database: {e}"),
            "this command is for holdfast itself",
        )
    };
    let mut order = String::new();
    std::io::stdin()
        .take(1 << 20)
        .read_to_string(&mut order)
        .map_err(|e| failed(&e))?;
    let order: Order = serde_json::from_str(&order).map_err(|e| failed(&e))?;
    let answered = give_up_root(order.uid)
        .map_err(Trouble::from)
        .and_then(|()| {
            let patience = Patience::of(order.busy);
            answer(&order.path, &order.work, order.folder.as_deref(), patience)
        });
    let answer = answered.unwrap_or_else(Answer::Failed);
    serde_json::to_writer(std::io::stdout().lock(), &answer).map_err(|e| failed(&e))
}

/// Becomes this user, for good.
///
/// Only once this program runs: a folder that is closed to that user may hold it. Nobody of that user can look into this
/// process or trace it, since it was root's when it began.
fn give_up_root(uid: u32) -> Result<(), Problem> {
    let gid = Gid::from_raw(group_of(uid));
    let name = nix::unistd::User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .and_then(|u| std::ffi::CString::new(u.name).ok());
    let uid = Uid::from_raw(uid);
    let groups = match &name {
        Some(name) => nix::unistd::initgroups(name, gid),
        None => nix::unistd::setgroups(&[gid]),
    };
    groups
        .and_then(|()| nix::unistd::setresgid(gid, gid, gid))
        .and_then(|()| nix::unistd::setresuid(uid, uid, uid))
        .and_then(|()| nix::sys::prctl::set_no_new_privs())
        .and_then(|()| {
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_AS, MEMORY, MEMORY)
        })
        .map_err(|e| {
            cannot(
                Code::UNFIT_SYSTEM,
                format!("take the rights of user {uid}, whose database it is: {e}"),
                "in a container, map that user id; else name an account of this machine as `owner` under [gateway]",
            )
        })
}

fn answer(
    path: &Path,
    work: &Work,
    folder: Option<&Path>,
    patience: Patience,
) -> Result<Answer, Trouble> {
    let read = |read: &dyn Fn(&Path) -> Result<Answer, Trouble>| match (
        database::is_cut_off(path, patience),
        folder,
    ) {
        (false, _) => read(path),
        (true, None) => Ok(Answer::NeedsFolder),
        (true, Some(folder)) => {
            let copy = folder.join("cut-off");
            database::roll_back_copy(path, &copy)?;
            read(&copy)
        }
    };
    let how = OpenMode::Live(patience);
    let copied = |kind| {
        read(&|p| {
            let Some(folder) = folder else {
                return Ok(Answer::NeedsFolder);
            };
            let copy = folder.join(COPY);
            let mut warnings = database::snapshot(p, &copy, patience)?;
            warnings.extend(database::check_snapshot(&copy, kind));
            // One without a table of clients is copied all the same.
            let rows = match kind {
                DatabaseKind::Clients => match database::clients_of_copy(&copy) {
                    Ok(clients) => Some(database::rows(&clients)),
                    Err(problem) => {
                        warnings.push(format!("its clients cannot be read: {}", problem.what));
                        None
                    }
                },
                DatabaseKind::Users => None,
            };
            Ok(Answer::Copied(warnings, rows))
        })
    };
    match work {
        Work::Clients => read(&|p| Ok(Answer::Clients(database::read_clients(p, how)?))),
        Work::Rows => read(&|p| {
            Ok(Answer::Rows(database::rows(&database::read_clients(
                p, how,
            )?)))
        }),
        Work::Users => read(&|p| Ok(Answer::Users(database::read_users(p, how)?))),
        Work::RowSums => read(&|p| Ok(Answer::RowSums(database::row_sums(p, how)?))),
        Work::Shape => read(&|p| Ok(Answer::Shape(database::shape(p, how)?))),
        Work::MailRelay => read(&|p| Ok(Answer::MailRelay(database::mail::mail_relay(p, how)?))),
        Work::SnapshotOfClients => copied(DatabaseKind::Clients),
        Work::SnapshotOfUsers => copied(DatabaseKind::Users),
        Work::Probe => Ok(Answer::Probed),
        // Only this rolls back what lies beside the gateway's own file.
        Work::Settle => Ok(Answer::Settled(database::settle(path)?)),
        Work::CallActive(clients) => {
            database::call_active(path, clients, patience)?;
            Ok(Answer::Called)
        }
    }
}

/// Copies the bytes of one file that another account may have made, into a new file of 0600.
pub fn copy_plain_file(copy: &Path, dest: &Path) -> std::io::Result<()> {
    let mut from = open_plain_file(copy, None)?;
    let size = from.metadata()?.len();
    let mut to = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dest)?;
    // What grows while it is read is not taken.
    std::io::copy(&mut (&mut from).take(size), &mut to).map(drop)
}

/// Opens a file that another account may have made: that very file, not what a link or a pipe leads to.
fn open_plain_file(path: &Path, owner: Option<u32>) -> std::io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() != 1 || owner.is_some_and(|uid| meta.uid() != uid) {
        return Err(std::io::Error::other("it is no plain file"));
    }
    Ok(file)
}
