//! The databases of a backup: each unpacked as a private copy and checked, and made what a restore will put in place. Changes
//! nothing but the spool.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;

use journal_format::Note;

use super::{Checked, CheckedDatabase, FileInBackup, Findings, Present, Rebuilt, folders};
use crate::archive::lost::Lost;
use crate::archive::manifest::EntryFacts;
use crate::archive::{Archive, SIDES, raw_database};
use crate::error::{Code, Fault, OrCannot, Problem, cannot, cause};
use crate::files::open::{if_there, new_private};
use crate::files::spool::Room;
use crate::files::whole;
use crate::gateway::account::{Account, MailRelay};
use crate::gateway::database::{self, Client, NotTaken, OpenMode, Origin, RowSums, Terms};
use crate::gateway::profile::{self, DatabaseKind, Profile};
use crate::text::wording::{counted, name, names, of_problem};

type Databases = (
    BTreeMap<String, CheckedDatabase>,
    Option<Vec<Client>>,
    Rebuilt,
);

pub(super) fn check_databases(
    profile: &Profile,
    present: &Present<'_>,
    archive: &Archive,
    origin: Origin,
) -> Result<(Findings, Databases), Fault> {
    let mut found = Findings::default();
    let mut databases = BTreeMap::new();
    let mut clients = None;
    let mut rebuilt = Rebuilt {
        room: Room::new(&profile.spool_dir())?,
        entries: BTreeSet::new(),
    };
    for known in &profile.gateway.database {
        if archive.entry(&raw_database(&known.name, "")).is_some() {
            match origin {
                Origin::Here => {
                    databases.insert(known.name.clone(), raw(archive, known)?);
                }
                Origin::Elsewhere => found
                    .unfit
                    .push((known.name.clone(), vec![not_here(known)])),
            }
            continue;
        }
        if archive.entry(&known.name).is_none() {
            continue;
        }
        let path = rebuilt.room.file("database");
        let copied = extract(archive, &known.name, &path)?;
        let made = rebuilt.place(&known.name);
        let (read, facts) = match origin {
            Origin::Here => {
                let facts = keep_own(archive, (&path, &made), known, &copied, &mut found)?;
                let read = read_rows(profile, &made, known, &mut found);
                // Who cannot be compared with those of now is as good as nobody.
                let rows = read.unwrap_or_else(|problem| {
                    found.warnings.push(of_problem(&problem));
                    RowsRead::default()
                });
                (rows, facts)
            }
            Origin::Elsewhere => {
                let taken = rows_from_elsewhere(profile, present, &path, &made, known, &mut found);
                remove(&path)?;
                match taken {
                    Ok(rows) => (rows, digest(&made, copied.owner)?),
                    Err(NotTaken::Unfit(problems)) => {
                        remove(&made)?;
                        found.unfit.push((known.name.clone(), problems));
                        continue;
                    }
                    Err(NotTaken::Failed(problem)) => return Err(problem.into()),
                }
            }
        };
        if facts.sha256 != copied.sha256 {
            rebuilt.entries.insert(known.name.clone());
        }
        if known.kind == DatabaseKind::Clients {
            clients = read.clients;
        }
        if !rebuilt.entries.contains(&known.name) {
            remove(&made)?;
        }
        let database = CheckedDatabase {
            kind: known.kind,
            file: FileInBackup::new(&known.name, facts),
            beside: None,
            users: read.users,
            mail: read.mail,
        };
        databases.insert(known.name.clone(), database);
    }
    Ok((found, (databases, clients, rebuilt)))
}

/// The rows of each database of a checked backup, to be compared with those of now; not of one that cannot be read.
pub fn rows(
    archive: &Archive,
    rebuilt: &Rebuilt,
    checked: &Checked,
) -> Result<BTreeMap<String, RowSums>, Fault> {
    let mut found = BTreeMap::new();
    let whole = checked.databases.iter().filter(|(_, d)| d.beside.is_none());
    for (name, _) in whole {
        let rows = match rebuilt.entries.contains(name) {
            true => database::row_sums(&rebuilt.place(name), OpenMode::Copy),
            false => {
                let path = rebuilt.room.file("to-compare");
                extract(archive, name, &path)?;
                let rows = database::row_sums(&path, OpenMode::Copy);
                remove(&path)?;
                rows
            }
        };
        found.extend(rows.ok().map(|rows| (name.clone(), rows)));
    }
    Ok(found)
}

/// A database that SQLite could not read when it was saved goes back by its bytes, and so do the files beside it.
fn raw(archive: &Archive, known: &profile::Database) -> Result<CheckedDatabase, Fault> {
    let mut files = Vec::new();
    for side in SIDES {
        let entry = raw_database(&known.name, side);
        if archive.entry(&entry).is_some() {
            let facts = archive.copy(&entry, &mut io::sink())?;
            files.push((side, FileInBackup::new(&entry, facts)));
        }
    }
    let (_, file) = files.remove(0);
    Ok(CheckedDatabase {
        kind: known.kind,
        file,
        beside: Some(files),
        users: Vec::new(),
        mail: None,
    })
}

fn not_here(known: &profile::Database) -> Problem {
    cannot(
        Code::DATABASE_REFUSED,
        format!(
            "accept the database {} of the backup: SQLite could not read it when it was saved, and only the box that saved its \
             bytes takes them back",
            known.name
        ),
        "restore another backup for it",
    )
}

/// What is read of a database for people.
#[derive(Default)]
struct RowsRead {
    clients: Option<Vec<Client>>,
    users: Vec<Account>,
    mail: Option<MailRelay>,
}

fn read_rows(
    profile: &Profile,
    made: &Path,
    known: &profile::Database,
    found: &mut Findings,
) -> Result<RowsRead, Problem> {
    let folders = folders(profile);
    // Where a config lies is said here and not kept: nobody else goes by it.
    let mut astray = Vec::new();
    let take = |mut client: Client| {
        let at = std::mem::take(&mut client.config_path);
        let path = Path::new(&at);
        let file = path.file_name().and_then(|n| n.to_str());
        let plain = file.and_then(|n| n.strip_suffix(".conf")) == Some(&*client.name)
            && path.parent().is_some_and(|p| folders.contains(&p));
        if !plain {
            astray.push((client.name.clone(), at));
        }
        client
    };
    let read = match known.kind {
        DatabaseKind::Users => RowsRead {
            users: database::users_of_copy(made)?
                .into_iter()
                .map(Account::from)
                .collect(),
            mail: database::mail_relay_of_copy(made)?,
            clients: None,
        },
        DatabaseKind::Clients => RowsRead {
            clients: Some(database::each_client_of_copy(made, take)?),
            ..RowsRead::default()
        },
    };
    found.warnings.extend(configs_astray(&astray));
    Ok(read)
}

/// Of clients, and where their rows say that their configs lie, if that is no place for them.
fn configs_astray(astray: &[(String, String)]) -> Option<Note> {
    const USED: &str = "Holdfast does not use that path, the gateway does";
    match astray {
        [] => None,
        [(client, at)] => {
            let text = format!(
                "the database says that the config of client {} lies at {}, which is not a place for it; {USED}",
                name(client),
                name(at)
            );
            Some(Note::known(Code::CLIENT_ODD, text).about(client))
        }
        many => {
            let text = format!(
                "the database says of {} that their configs lie where none belongs on this gateway, of {} at {}; {USED}: {}",
                counted(many.len(), "client"),
                name(&many[0].0),
                name(&many[0].1),
                names(many.iter().map(|(client, _)| client))
            );
            Some(Note::known(Code::CLIENT_ODD, text))
        }
    }
}

/// A database of this box's own goes back as it is, whatever is in it, with what the application needs besides where that
/// can be added.
fn keep_own(
    archive: &Archive,
    (path, made): (&Path, &Path),
    known: &profile::Database,
    copied: &EntryFacts,
    found: &mut Findings,
) -> Result<EntryFacts, Fault> {
    if let Ok(judged) = database::check(path, &known.name, known.kind, Origin::Here) {
        found.odd(&known.name, judged.warnings);
    }
    let added = match copied.size {
        // The application makes its tables in an empty file itself.
        0 => Ok(Vec::new()),
        _ => database::add_what_is_missing(path, &known.name, known.kind),
    };
    match added {
        // Nothing was added: nobody wrote to it since its bytes were hashed on their way.
        Ok(added) if added.is_empty() => {
            return keep(path, made).map(|()| copied.clone());
        }
        Ok(added) => found.odd(&known.name, added),
        Err(NotTaken::Failed(problem)) => return Err(problem.into()),
        Err(NotTaken::Unfit(problems)) => {
            let said = problems.into_iter().map(|p| {
                format!(
                    "{}: what the application may need besides cannot be added: {}",
                    known.name, p.what
                )
            });
            found.odd(&known.name, said);
            // It may have been begun.
            for file in database::side_files(path) {
                remove(&file)?;
            }
            remove(path)?;
            extract(archive, &known.name, path)?;
        }
    }
    keep(path, made)?;
    Ok(digest(made, copied.owner)?)
}

fn keep(path: &Path, made: &Path) -> Result<(), Fault> {
    std::fs::rename(path, made).map_err(|e| Fault::from(spool_problem(made, &e)))
}

fn rows_from_elsewhere(
    profile: &Profile,
    present: &Present<'_>,
    path: &Path,
    made: &Path,
    known: &profile::Database,
    found: &mut Findings,
) -> Result<RowsRead, NotTaken> {
    let judged = database::check(path, &known.name, known.kind, Origin::Elsewhere)?;
    // What is said of a database that then does not come would only confuse.
    let mut taken = Findings::default();
    copy_rows(profile, present, path, made, known, &mut taken)?;
    let rows = read_rows(profile, made, known, &mut taken).map_err(|p| NotTaken::Unfit(vec![p]))?;
    let left_behind = judged.left_behind.into_iter();
    let left_behind = left_behind.map(|said| Lost::rows(&known.name, said));
    found.lost.extend(left_behind);
    found.lost.extend(taken.lost);
    found.odd(&known.name, judged.warnings);
    found.warnings.extend(taken.warnings);
    Ok(rows)
}

/// Of a database from elsewhere only the rows come.
fn copy_rows(
    profile: &Profile,
    present: &Present<'_>,
    path: &Path,
    made: &Path,
    known: &profile::Database,
    found: &mut Findings,
) -> Result<(), NotTaken> {
    let present = match known.path.exists().then(|| present(&known.path)) {
        None => None,
        Some(Ok(shape)) => Some(shape),
        Some(Err(problem)) => {
            let said = format!(
                "what the gateway's present {} has besides the usual tables is not known: cannot {}",
                known.name, problem.what
            );
            let note = Note::known(Code::DATABASE_UNREADABLE, said);
            found.warnings.push(note.about(&known.name));
            None
        }
    };
    let terms = Terms {
        name: &known.name,
        kind: known.kind,
        present: present.as_ref(),
        folders: folders(profile),
    };
    let taken = database::copy_rows(path, made, terms)?;
    let rows = |said| Lost::rows(&known.name, said);
    found.lost.extend(taken.lost.into_iter().map(rows));
    found.odd(&known.name, taken.changed);
    Ok(())
}

fn spool_problem(path: &Path, e: &io::Error) -> Problem {
    cannot(
        cause(e),
        format!("keep {}: {e}", path.display()),
        "check the disk: `df -h` shows whether it is full, `dmesg` whether it fails",
    )
}

fn remove(path: &Path) -> Result<(), Problem> {
    let removed = if_there(std::fs::remove_file(path));
    removed.map(drop).map_err(|e| spool_problem(path, &e))
}

/// What a file holds now; its owner stays.
pub(super) fn digest(path: &Path, owner: Option<usize>) -> Result<EntryFacts, Problem> {
    let facts = || -> io::Result<EntryFacts> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(EntryFacts {
            size,
            sha256: whole::sha256(file, size, &mut Vec::new())?,
            owner,
        })
    };
    facts().map_err(|e| spool_problem(path, &e))
}

pub(super) fn extract(archive: &Archive, entry: &str, path: &Path) -> Result<EntryFacts, Fault> {
    let mut file = new_private(path).or_cannot(
        Code::IO,
        format!("make {}", path.display()),
        "check the disk: `df -h` shows whether it is full, `dmesg` whether it fails",
    )?;
    archive.copy(entry, &mut file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_configs_that_lie_where_none_belongs_one_line_says_how_many_and_where() {
        let astray = |clients: &[&str]| {
            let one = |c: &&str| ((*c).to_owned(), format!("/srv/old/{c}.conf"));
            let all: Vec<(String, String)> = clients.iter().map(one).collect();
            configs_astray(&all).map(|note| note.text)
        };
        assert_eq!(astray(&[]), None);
        insta::assert_snapshot!(astray(&["a"]).unwrap_or_default(), @"the database says that the config of client a lies at /srv/old/a.conf, which is not a place for it; Holdfast does not use that path, the gateway does");
        insta::assert_snapshot!(astray(&["a", "b", "c"]).unwrap_or_default(), @"the database says of 3 clients that their configs lie where none belongs on this gateway, of a at /srv/old/a.conf; Holdfast does not use that path, the gateway does: a, b, c");
    }
}
