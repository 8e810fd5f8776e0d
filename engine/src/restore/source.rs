//! Where a restore's new files come from: its archive, and the databases that were rebuilt. Reads; what it gives is compared
//! with the plan by whoever stages it.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;

use crate::archive::Archive;
use crate::error::{Code, Fault, OrCannot, Problem, bug, cannot};
use crate::gateway::profile::Profile;
use crate::plan::prepare::{NewFiles, again};
use crate::restore::step::Source;

/// The archive, and the databases that were rebuilt.
///
/// The archive's tables are kept only while it is unpacked: those of a large gateway are as large as the plan. What was
/// checked before is checked again against the plan, file by file, once it is staged. Then all of it is given up: a restore that
/// changes the gateway holds no backup open.
pub(super) struct Unpacked<'a> {
    profile: &'a Profile,
    name: &'a str,
    contents: RefCell<Option<NewFiles>>,
    archive: RefCell<Option<Archive>>,
}

impl<'a> Unpacked<'a> {
    pub(super) fn of(profile: &'a Profile, name: &'a str, contents: NewFiles) -> Unpacked<'a> {
        Unpacked {
            profile,
            name,
            contents: RefCell::new(Some(contents)),
            archive: RefCell::new(None),
        }
    }

    fn open(&self) -> Result<Archive, Fault> {
        let databases = self.profile.gateway.database.iter();
        let databases: Vec<&str> = databases.map(|d| d.name.as_str()).collect();
        let contents = self.contents.borrow();
        let file = &contents.as_ref().ok_or_else(given_up)?.file;
        let file = again(file, self.name)?;
        Archive::open_again(file, self.name, &self.profile.limits, &databases)
    }

    fn unpack(&self, entry: &str, out: &mut dyn Write) -> Result<(), Fault> {
        let mut kept = self.archive.borrow_mut();
        let archive = match kept.take() {
            Some(archive) => archive,
            None => self.open()?,
        };
        kept.insert(archive).copy(entry, out).map(drop)
    }
}

impl Source for Unpacked<'_> {
    fn copy(&self, entry: &str, out: &mut dyn Write) -> Result<(), Problem> {
        let rebuilt = match &*self.contents.borrow() {
            Some(contents) => contents.rebuilt.file(entry),
            None => return Err(given_up()),
        };
        if let Some(path) = rebuilt {
            let copied = File::open(&path).and_then(|mut file| std::io::copy(&mut file, out));
            return copied.map(drop).or_cannot(
                Code::IO,
                format_args!("copy the rebuilt {entry} from {}", path.display()),
                "check the disks: `df -h` shows whether one is full, `dmesg` whether one fails; then restore again",
            );
        }
        self.unpack(entry, out).map_err(|fault| match fault {
            Fault::Failed(p) => p,
            Fault::Refused(mut problems) if !problems.is_empty() => problems.remove(0),
            other => cannot(
                Code::ARCHIVE_DAMAGED,
                format!("unpack {entry}: {other}"),
                "restore again",
            ),
        })
    }

    fn finished(&self) {
        self.archive.replace(None);
        self.contents.replace(None);
    }
}

fn given_up() -> Problem {
    bug("unpack the backup: it was given up once all was staged")
}
