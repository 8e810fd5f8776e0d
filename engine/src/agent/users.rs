//! Who the gateway's users are. Read anew once their database was written, and only while nobody else on the box may write
//! it. While a restore is open no database of the gateway is opened: what was read before it counts, or a private copy.
//!
//! One reads at a time; the others wait a moment for that, as it mostly takes less. What was read before somebody asked
//! counts for them only where reading is slow, and only for seconds: else requests at once would let in whose account is
//! gone. So a database that is slow or locked costs the page a moment each. Checks no password and ends no session.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use journal_format::Problem;

use super::locked;
use crate::error::{Code, cannot, cause};
use crate::files::spool::Room;
use crate::gateway::database::{self, User};
use crate::gateway::profile::{Database, Profile};
use crate::host::LiveDatabases;
use crate::host::linux::Linux;
use crate::host::live_database::{self, Live};
use crate::state_dir;
use crate::state_dir::lock::{Lock, LockedFor};
use crate::survey::exposure;

/// A database that was written less than this before it was read may have been written again within one tick of the
/// clock of its filesystem, which no look at the file tells. Then it is read again the next time.
pub const SETTLED: Duration = Duration::from_secs(1);
/// How long one reading may take: somebody at the page waits for it.
const READING: Duration = Duration::from_secs(10);
/// For so long nobody tries again what failed.
const FAILED: Duration = Duration::from_secs(2);
/// How long somebody waits for another who reads.
const PATIENCE: Duration = Duration::from_secs(1);
/// What was read so long ago counts while it is read anew and that is slow. Longer than most readings, so that the page goes
/// on beside a database that is slow and always written.
const RECENT: Duration = Duration::from_secs(15);

/// The users as they are known.
#[derive(Default)]
pub struct Users {
    last: Mutex<LastReading>,
    read: Condvar,
}

/// What readings gave.
#[derive(Default)]
struct LastReading {
    known: Option<Known>,
    /// Why the last one gave nothing, and when.
    failed: Option<(Instant, Problem)>,
    /// Somebody reads.
    reading: bool,
}

/// What the last reading gave that gave something.
struct Known {
    listed: Arc<ListedUsers>,
    began: Instant,
    /// The file as it was then; none where that cannot tell whether it was written since.
    read_at: Option<UsersStamp>,
}

/// The users of one reading; none where the gateway has none.
pub struct ListedUsers {
    pub all: Vec<User>,
    /// From a plain copy of a file that may have been in use: enough to sign in by, not to end a session by.
    pub from_copy: bool,
}

/// How somebody who asks comes to know.
enum Way<'a> {
    /// By what was read.
    Known(Arc<ListedUsers>),
    /// By reading.
    Read(UsersReading<'a>),
}

/// The one who reads; over when dropped.
struct UsersReading<'a>(&'a Users);

impl Drop for UsersReading<'_> {
    fn drop(&mut self) {
        locked(&self.0.last).reading = false;
        self.0.read.notify_all();
    }
}

/// Why it is not known who the users are.
#[derive(Debug)]
pub enum UsersUnread {
    /// Others may write what says so: it is nobody's word.
    Exposed(Problem),
    /// It cannot be read.
    Failed(Problem),
    /// Somebody reads it, and that takes long.
    Slow(Problem),
}

impl Users {
    /// The users now.
    pub fn now(&self, profile: &Profile) -> Result<Arc<ListedUsers>, UsersUnread> {
        let open = state_dir::barrier::named(profile).is_ok_and(|b| b.is_none());
        let holder = Lock::holder(profile).filter(|(_, work)| *work != LockedFor::Backup);
        if (!open || holder.is_some())
            && let Some(listed) = self.last_known()
        {
            return Ok(listed);
        }
        let database = database_of_users(profile).map_err(UsersUnread::Failed)?;
        // First: one that is missing may have been taken away by whoever may write there.
        if let Some(problem) = exposure::of_database(&Linux::new(profile), profile, database) {
            return Err(UsersUnread::Exposed(problem));
        }
        is_there(database).map_err(UsersUnread::Failed)?;
        if let Some((_, work)) = holder {
            return Err(UsersUnread::Failed(cannot(
                Code::BUSY,
                format!("sign anybody in: {work} runs, and the users are not read meanwhile"),
                "try again when it is over; sessions from before go on",
            )));
        }
        // Before it is read: what is written meanwhile is another stamp.
        let stamp = UsersStamp::of(&database.path);
        let _reading = match self.way(stamp.as_ref())? {
            Way::Known(listed) => return Ok(listed),
            Way::Read(reading) => reading,
        };
        let began = Instant::now();
        let read = if open {
            let live = Live::new(profile).within(READING);
            live.users(&database.path).map_err(Problem::from)
        } else {
            users_of_open_restore(profile, &database.path)
        };
        let mut last = locked(&self.last);
        let all = read.map_err(|problem| {
            last.failed = Some((Instant::now(), problem.clone()));
            UsersUnread::Failed(problem)
        })?;
        last.failed = None;
        let listed = Arc::new(ListedUsers {
            all,
            from_copy: !open,
        });
        last.known = Some(Known {
            listed: listed.clone(),
            began,
            read_at: stamp.filter(|stamp| open && stamp.is_settled(SystemTime::now())),
        });
        Ok(listed)
    }

    /// What was last read, however long ago.
    pub fn last_known(&self) -> Option<Arc<ListedUsers>> {
        locked(&self.last)
            .known
            .as_ref()
            .map(|known| known.listed.clone())
    }

    /// For a file of this stamp.
    fn way(&self, stamp: Option<&UsersStamp>) -> Result<Way<'_>, UsersUnread> {
        let asked = Instant::now();
        let mut last = locked(&self.last);
        loop {
            let same = |known: &Known| known.read_at.is_some() && known.read_at.as_ref() == stamp;
            if let Some(known) = &last.known
                && (known.began >= asked || same(known))
            {
                return Ok(Way::Known(known.listed.clone()));
            }
            if !last.reading {
                if let Some((when, problem)) = &last.failed
                    && when.elapsed() < FAILED
                {
                    return Err(UsersUnread::Failed(problem.clone()));
                }
                last.reading = true;
                return Ok(Way::Read(UsersReading(self)));
            }
            let left = PATIENCE.saturating_sub(asked.elapsed());
            if left.is_zero() {
                return last.while_slow().map(Way::Known);
            }
            let waited = self.read.wait_timeout(last, left);
            last = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl LastReading {
    /// What counts for who does not wait any longer.
    fn while_slow(&self) -> Result<Arc<ListedUsers>, UsersUnread> {
        if let Some((_, problem)) = &self.failed {
            return Err(UsersUnread::Failed(problem.clone()));
        }
        let known = self.known.as_ref();
        match known.filter(|known| known.began.elapsed() < RECENT) {
            Some(known) => Ok(known.listed.clone()),
            None => Err(UsersUnread::Slow(cannot(
                Code::BUSY,
                "say who the gateway's users are: reading their database takes long",
                "try again in a few seconds; the holdfast command on the gateway itself needs no sign-in",
            ))),
        }
    }
}

/// Of a database and of the side files that hold what it does not hold yet: what tells whether they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UsersStamp([Option<FileStamp>; 3]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    /// Nobody but the clock sets this one.
    changed: (i64, i64),
}

impl UsersStamp {
    /// None where they cannot be looked at.
    fn of(path: &Path) -> Option<UsersStamp> {
        let one = |end: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            match std::fs::symlink_metadata(Path::new(&name)) {
                Ok(m) => Some(Some(FileStamp {
                    file: (m.dev(), m.ino()),
                    size: m.size(),
                    written: (m.mtime(), m.mtime_nsec()),
                    changed: (m.ctime(), m.ctime_nsec()),
                })),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some(None),
                Err(_) => None,
            }
        };
        Some(UsersStamp([one("")?, one("-wal")?, one("-journal")?]))
    }

    /// Whether a further write would show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0.iter().flatten().all(|file| {
            let (seconds, nanos) = file.changed;
            let changed = Duration::new(
                u64::try_from(seconds).unwrap_or(0),
                u32::try_from(nanos).unwrap_or(0),
            );
            now.checked_sub(changed).is_some_and(|ago| ago >= SETTLED)
        })
    }
}

/// The users while a restore is open and nothing works on it: from a private copy, since nothing may touch the file.
fn users_of_open_restore(profile: &Profile, path: &Path) -> Result<Vec<User>, Problem> {
    let room = Room::new(&profile.spool_dir())?;
    let copy = room.file("users.db");
    live_database::copy_plain_file(path, &copy).map_err(|e| {
        cannot(
            cause(&e),
            format!("read the users in {}: {e}", path.display()),
            "use the command line: holdfast status",
        )
    })?;
    database::users_of_copy(&copy)
}

/// The one database that is asked. One that is missing is no reason to ask another, which may hold anybody's old users.
fn database_of_users(profile: &Profile) -> Result<&Database, Problem> {
    profile.sign_in_database().ok_or_else(|| {
        cannot(
            Code::NO_USERS,
            "sign anybody in: the profile has no database of users",
            "list it under gateway.database in the profile, with kind = \"users\"",
        )
    })
}

fn is_there(database: &Database) -> Result<(), Problem> {
    match database.path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(cannot(
            Code::NOT_THERE,
            format!(
                "sign anybody in: the database of users {} is not there",
                database.path.display()
            ),
            "on the gateway itself `holdfast restore ARCHIVE` needs no sign-in; where the users are in another database, name \
             it: users = \"NAME.db\" in [web] of the profile",
        )),
        Err(e) => Err(cannot(
            cause(&e),
            format!(
                "look for the database of users {}: {e}",
                database.path.display()
            ),
            "run the agent as root: `systemctl status holdfast-agent` shows who runs it",
        )),
    }
}

#[cfg(test)]
impl Users {
    /// Somebody reads just now.
    pub fn is_reading(&self) -> bool {
        locked(&self.last).reading
    }

    /// As if it were long ago.
    pub fn forget_failure(&self) {
        locked(&self.last).failed = None;
    }

    /// As if what is known had been read long ago.
    pub fn age(&self) {
        let mut last = locked(&self.last);
        let known = last.known.as_mut();
        if let Some((known, began)) = known.zip(Instant::now().checked_sub(RECENT)) {
            known.began = began;
        }
    }
}
