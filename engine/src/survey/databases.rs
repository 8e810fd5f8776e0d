//! The profile's databases as they are now: which are there, and the rows that a restore is told of. Opens none as root, and
//! follows no link to one.

use std::collections::BTreeMap;
use std::path::Path;

use journal_format::Note;

use crate::error::{Code, Problem, cannot};
use crate::gateway::account::{Account, MailRelay};
use crate::gateway::database::{Client, Trouble};
use crate::gateway::parts::Part;
use crate::gateway::profile::{DatabaseKind, Profile};
use crate::host::{self, Host, Kind, Meta};
use crate::text::wording::{of_problem, quoted};

/// The profile's databases that are there, and what is in them.
#[derive(Default)]
pub(super) struct DatabasesNow {
    pub(super) databases: BTreeMap<String, Meta>,
    pub(super) clients: Option<Vec<Client>>,
    pub(super) users: BTreeMap<String, Vec<Account>>,
    pub(super) mail: BTreeMap<String, MailRelay>,
    /// Those that could be read if nobody held a lock.
    pub(super) locked: BTreeMap<Part, String>,
    pub(super) warnings: Vec<Note>,
}

impl DatabasesNow {
    fn unreadable(&mut self, text: String) {
        let note = Note::known(Code::DATABASE_UNREADABLE, text);
        self.warnings.push(note);
    }
}

pub(super) fn databases(host: &dyn Host, profile: &Profile) -> Result<DatabasesNow, Vec<Problem>> {
    let mut now = DatabasesNow::default();
    for database in &profile.gateway.database {
        let Some(meta) = host.stat(&database.path).map_err(|p| vec![p])? else {
            continue;
        };
        if meta.kind != Kind::File {
            return Err(vec![no_file(host, &database.path)]);
        }
        // An unreadable database is there all the same: it can be replaced, and is kept as it is.
        let live = host.databases();
        let read = match database.kind {
            DatabaseKind::Clients => live
                .clients(&database.path)
                .map(|list| now.clients = Some(list)),
            DatabaseKind::Users => live.users(&database.path).map(|list| {
                let accounts = list.into_iter().map(Account::from).collect();
                now.users.insert(database.name.clone(), accounts);
                match live.mail_relay(&database.path) {
                    Ok(relay) => now.mail.extend(relay.map(|r| (database.name.clone(), r))),
                    Err(p) => now.unreadable(format!(
                        "Holdfast does not know whether a restore changes the mail relay in {}: cannot {}",
                        database.path.display(),
                        p.problem().what
                    )),
                }
            }),
        };
        match read {
            Ok(()) => {}
            // Neither could a safety backup save it.
            Err(Trouble::Busy(p)) => {
                let why = format!("cannot {}; {}", p.what, p.advice);
                now.locked
                    .insert(Part::Database(database.name.clone()), why);
            }
            Err(Trouble::Unreadable(p) | Trouble::Failed(p)) => {
                now.unreadable(format!("cannot {}", p.what));
            }
        }
        // A backup would lack it.
        if let Err(problem) = live.may_be_copied(&database.path) {
            now.warnings.push(of_problem(&problem));
        }
        now.databases.insert(database.name.clone(), meta);
    }
    now.warnings.dedup();
    Ok(now)
}

/// A database that is a link is not opened: whoever may change the link would choose what is read and replaced.
fn no_file(host: &dyn Host, path: &Path) -> Problem {
    let shown = quoted(&path.display().to_string());
    match host.link_target(path) {
        Ok(None) | Err(_) => cannot(
            Code::WRONG_KIND,
            format!("use {}: it is not a regular file", path.display()),
            format!("see what it is: ls -ld {shown}; and name the real database in the profile"),
        ),
        Ok(Some(target)) => {
            let real = host::real_path(host, path);
            let (leads, target) = (real.is_some(), real.unwrap_or(target));
            let name = format!("name {} as its path in the profile", target.display());
            cannot(
                Code::WRONG_KIND,
                format!(
                    "use {}: it is a link to {}{}",
                    path.display(),
                    target.display(),
                    if leads { "" } else { ", where nothing is" }
                ),
                match leads {
                    true => name,
                    false => format!(
                        "take the link away, and a restore puts the database in its place: rm {shown}; or {name}"
                    ),
                },
            )
        }
    }
}
