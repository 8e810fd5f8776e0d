//! The databases of a gateway, each copied as it is: by SQLite with the rights of its account, or else its bytes. Owns what of a
//! database could be saved, and why not. Must not open one with SQLite itself.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use crate::error::{Code, OrCannot, Problem};
use crate::files::open::if_there;
use crate::files::space::Needs;
use crate::files::spool::Room;
use crate::gateway::database::{self, Rows, Trouble};
use crate::gateway::parts::PartFate;
use crate::gateway::profile::{Database, Profile};
use crate::host::live_database::Live;

/// A database on its way into the archive.
pub(super) struct Saving {
    pub(super) name: String,
    pub(super) copies: Vec<Copy>,
    pub(super) fate: PartFate,
    pub(super) warnings: Vec<String>,
    /// The clients in it; none if it is of another kind, or where they cannot be read.
    pub(super) rows: Option<Rows>,
}

impl Saving {
    /// Bytes that are going to be packed, with what an archive adds.
    pub(super) fn size(&self) -> u64 {
        let size = |copy: &Copy| copy.file.metadata().map_or(0, |m| m.len());
        let copies = self.copies.iter();
        copies.map(|copy| size(copy) + super::ENTRY_OVERHEAD).sum()
    }
}

/// The copy of one file.
pub(super) struct Copy {
    /// How the file's name goes on behind that of the database. Only one that is saved raw has more than the first.
    pub(super) side: &'static str,
    pub(super) file: File,
    /// Owner, group and mode of what was copied.
    pub(super) owner: (u32, u32, u32),
}

/// Copies all databases but that of the clients.
pub(super) fn save_others(profile: &Profile) -> Vec<Saving> {
    let clients = profile.client_database().map(|c| &c.name);
    let all = profile.gateway.database.iter();
    all.filter(|database| Some(&database.name) != clients)
        .map(|database| save(profile, database))
        .collect()
}

/// Copies a database as it is: by SQLite, or else its bytes.
pub(super) fn save(profile: &Profile, database: &Database) -> Saving {
    let mut saving = Saving {
        name: database.name.clone(),
        copies: Vec::new(),
        fate: PartFate::NotThere,
        warnings: Vec::new(),
        rows: None,
    };
    let path = database.path.display();
    let meta = match if_there(database.path.symlink_metadata()) {
        Ok(Some(meta)) => meta,
        Ok(None) => {
            let left = database::side_files(&database.path);
            if let Some(left) = left.iter().find(|p| p.symlink_metadata().is_ok()) {
                let why = format!("{path} is gone, and {} is there", left.display());
                saving.fate = PartFate::NotSaved { why };
            }
            return saving;
        }
        Err(e) => {
            let why = format!("{path} cannot be looked at: {e}");
            saving.fate = PartFate::NotSaved { why };
            return saving;
        }
    };
    if let Err(problem) = room_for(profile, database) {
        let why = problem.what;
        saving.fate = PartFate::NotSaved { why };
        return saving;
    }
    match Live::new(profile).snapshot(&database.path, database.kind) {
        Ok(snapshot) => {
            saving.copies = vec![Copy {
                side: "",
                file: snapshot.file,
                owner: owner(&meta),
            }];
            saving.warnings = snapshot.warnings;
            saving.rows = snapshot.rows;
            saving.fate = PartFate::Saved;
        }
        Err(trouble) => {
            let what = &trouble.problem().what;
            let why = match what.strip_prefix(&format!("copy the database {path}: ")) {
                // Whoever reads it is told already that this database could not be saved.
                Some(why) => why.to_owned(),
                None => format!("cannot {what}"),
            };
            saving.fate = match &trouble {
                Trouble::Unreadable(_) => match raw(profile, database, &mut saving) {
                    Ok(()) => PartFate::SavedRaw { why },
                    Err(problem) => PartFate::NotSaved {
                        why: format!("{why}; nor can its bytes be saved: cannot {}", problem.what),
                    },
                },
                Trouble::Busy(_) | Trouble::Failed(_) => PartFate::NotSaved { why },
            };
        }
    }
    saving
}

/// Whether there is room for its copy. Whoever owns it says how long it is.
fn room_for(profile: &Profile, database: &Database) -> Result<(), Problem> {
    let mut needs = Needs::default();
    // What is in the log may come on top of what is in the file.
    let [wal, ..] = database::side_files(&database.path);
    for file in [&database.path, &wal] {
        let size = file.symlink_metadata().map_or(0, |m| m.len());
        needs.bytes(&profile.spool_dir(), size)?;
    }
    let what = format!("copy the database {}", database.path.display());
    needs.check_first(&what)
}

/// Copies its bytes and those of the files beside it.
fn raw(profile: &Profile, database: &Database, saving: &mut Saving) -> Result<(), Problem> {
    let room = Room::new(&profile.spool_dir())?;
    for copied in database::raw_bytes(profile, &database.path, &room, "raw")? {
        let file = File::open(&copied.copy).or_cannot(
            Code::IO,
            format!("read the copy of {}", copied.source.display()),
            "see to the disk of the state folder",
        )?;
        saving.copies.push(Copy {
            side: copied.side,
            file,
            owner: owner(&copied.facts),
        });
    }
    Ok(())
}

fn owner(meta: &std::fs::Metadata) -> (u32, u32, u32) {
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}
