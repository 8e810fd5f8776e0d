//! What a start of the services does to the clients' rows: the gateway's service calls a client inactive that it could not bring
//! up, and then no later boot brings it up either. Owns the files that keep which clients were active, and puts these rows right
//! after the verdict. Must not: touch any other row, nor fail a step; what cannot be read or put right is said.
//!
//! Only after the verdict: while the cause lasts, a start that finds the client active takes its tunnel down and fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::{Direction, Note};

use super::step::Env;
use crate::error::Code;
use crate::gateway::database::{Client, Trouble};
use crate::host::{Permit, parent};
use crate::text::wording::{counted, names, quoted_path};

const NAMES_BYTES: u64 = 16 << 20;
/// As the gateway's service writes it.
const ACTIVE: &str = "active";
const INACTIVE: &str = "inactive";

/// One of the two sets, and where its active clients are kept: forward, that of a backup that brings a database of clients.
fn file(env: &Env, set: Direction) -> PathBuf {
    let set = match set {
        Direction::Forward => "after",
        Direction::Back => "before",
    };
    env.dir.join(set).join("active")
}

/// Whose client database is in place once a restore ends in this direction: the backup's only where the plan has it.
fn set_in_place(env: &Env, database: &Path, direction: Direction) -> Direction {
    let mut planned = env.plan.databases.iter();
    match planned.any(|t| Path::new(&t.path) == database) {
        true => direction,
        false => Direction::Back,
    }
}

/// Keeps which clients of this set are active, unless that was done before.
fn keep(env: &Env, set: Direction, read: &dyn Fn() -> Result<Vec<Client>, Trouble>) -> Vec<Note> {
    let kept = || -> Result<(), Trouble> {
        let file = file(env, set);
        if env.plan.services.is_empty() || env.host.stat(&file)?.is_some() {
            return Ok(());
        }
        let mut rows: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        let clients = match read() {
            // What SQLite cannot read, no service reads either: no start of one finds a client active.
            Err(trouble) if is_unreadable(&trouble) => Vec::new(),
            clients => clients?,
        };
        for client in clients {
            let is_active = client.status == ACTIVE;
            rows.entry(client.name).or_default().push(is_active);
        }
        // A name of several clients tells none of them.
        let active = rows.iter().filter(|(_, of_name)| **of_name == [true]);
        let active: Vec<&str> = active.map(|(name, _)| name.as_str()).collect();
        env.host.keep_dir(parent(&file)?)?;
        Ok(env.host.keep(&file, active.join("\n").as_bytes())?)
    };
    match kept() {
        Ok(()) => Vec::new(),
        Err(Trouble::Busy(why) | Trouble::Failed(why) | Trouble::Unreadable(why)) => {
            vec![unnoticed(&why.what)]
        }
    }
}

/// Whether SQLite can read nothing at all there. Of rows that Diesel reads it says so in words alone, which are the same in all its
/// versions.
fn is_unreadable(trouble: &Trouble) -> bool {
    let words = ["file is not a database", "database disk image is malformed"];
    match trouble {
        Trouble::Unreadable(_) => true,
        Trouble::Failed(problem) => words.iter().any(|words| problem.what.ends_with(words)),
        Trouble::Busy(_) => false,
    }
}

fn unnoticed(why: &str) -> Note {
    let text = format!(
        "Holdfast will not notice clients that the start of the services calls inactive: {why}"
    );
    Note::known(Code::STATUS_UNKNOWN, text)
}

/// Keeps which clients the backup calls active, as its database is staged.
pub fn keep_after(env: &Env) -> Vec<Note> {
    let database = env.host.client_database();
    let mut planned = env.plan.databases.iter().filter(|t| t.new.is_some());
    let target = planned.find(|t| database.as_deref() == Some(Path::new(&t.path)));
    target.map_or(Vec::new(), |target| {
        let staged = Path::new(&target.staged);
        // Bytes that were saved of a database that cannot be read are staged as they are.
        let read = || env.host.clients_of_copy(staged).map_err(Trouble::Failed);
        keep(env, Direction::Forward, &read)
    })
}

/// Keeps which clients the database calls active that is in place, of the set to which this direction leads.
pub fn keep_in_place(env: &Env, direction: Direction) -> Vec<Note> {
    let database = env.host.client_database();
    let database = database.filter(|d| env.host.stat(d) != Ok(None));
    database.map_or(Vec::new(), |database| {
        let read = || env.host.databases().clients(&database);
        keep(env, set_in_place(env, &database, direction), &read)
    })
}

/// What is said at a start after the first, if nothing was kept before that.
pub fn not_kept(env: &Env, direction: Direction) -> Vec<Note> {
    let database = env.host.client_database();
    let missing = database.filter(|d| {
        let file = file(env, set_in_place(env, d, direction));
        env.host.stat(d) != Ok(None) && env.host.stat(&file) == Ok(None)
    });
    let why = "the services were started before it was kept which were active";
    missing.map(|_| unnoticed(why)).into_iter().collect()
}

/// Sets clients active again that were so in this set and that a start of the services called inactive, and says it.
///
/// What was kept stays: after a boot the way back starts the services once more, and so does whoever tries again what lacks. But
/// after the verdict the gateway's admin may call clients inactive: then only a new start is a reason to look.
pub fn put_right(env: &Env, permit: &Permit, direction: Direction) -> Vec<Note> {
    let is_a_start = !env.over || env.started || env.lacking.statuses;
    let database = env.host.client_database();
    let database = database.filter(|_| is_a_start && !env.left);
    let said = database.map(|database| {
        let mut called = BTreeSet::new();
        let put_right = set_active(env, permit, &database, direction, &mut called);
        told(&database, &called, put_right)
    });
    said.flatten().into_iter().collect()
}

fn set_active(
    env: &Env,
    permit: &Permit,
    database: &Path,
    direction: Direction,
    called: &mut BTreeSet<String>,
) -> Result<(), Trouble> {
    let file = file(env, set_in_place(env, database, direction));
    if env.host.stat(&file)?.is_none() || env.host.stat(database)?.is_none() {
        return Ok(());
    }
    let kept = env.host.read(&file, NAMES_BYTES)?;
    let kept = String::from_utf8_lossy(&kept);
    let was: BTreeSet<&str> = kept.lines().collect();
    let clients = env.host.databases().clients(database)?.into_iter();
    let is = clients.filter(|c| c.status == INACTIVE && was.contains(c.name.as_str()));
    called.extend(is.map(|c| c.name));
    match called.is_empty() {
        true => Ok(()),
        false => env.host.call_active(permit, database, called),
    }
}

fn told(
    database: &Path,
    called: &BTreeSet<String>,
    put_right: Result<(), Trouble>,
) -> Option<Note> {
    let which = format!("{} ({})", counted(called.len(), "client"), names(called));
    match put_right {
        Ok(()) if called.is_empty() => None,
        Ok(()) => {
            let text = format!(
                "at its start the service marked {which} inactive; Holdfast has put the status right"
            );
            let advice = "see in the service's log why it could not bring the tunnels up; its next start may do so again";
            Some(Note::known(Code::STATUS_PUT_RIGHT, text).advising(advice))
        }
        Err(trouble) if called.is_empty() && is_unreadable(&trouble) => None,
        // What this account cannot read it cannot write either; of a disk that fails other things are said.
        Err(Trouble::Failed(why)) if called.is_empty() => Some(unnoticed(&why.what)),
        Err(Trouble::Busy(why) | Trouble::Failed(why) | Trouble::Unreadable(why)) => {
            let about = match called.is_empty() {
                true => "the clients' status".to_owned(),
                false => format!("the status of {}", names(called)),
            };
            let which = match called.is_empty() {
                true => "clients",
                false => &which,
            };
            let text = format!(
                "the start of the services may have called {which} inactive: {}; no later boot brings up such a client",
                why.what
            );
            let advice = format!(
                "`holdfast recover` tries it again; or activate those that should be up in the gateway's own page (their database is {})",
                quoted_path(database)
            );
            let note = Note::down(Code::STATUS_STAYS_CHANGED, text);
            Some(note.about(about).advising(advice))
        }
    }
}
