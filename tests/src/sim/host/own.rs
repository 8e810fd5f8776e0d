//! What Holdfast keeps for itself: its folders and files, the journal, the safety backup.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engine::backup::Made;
use engine::error::Fault;
use engine::gateway::kernel_facts::Facts;
use engine::host::{Append, Kind, Own, parent};
use engine::restore::step::Machine;
use journal_format::{Digest, Problem};

use super::{How, Sim, failed};

impl Machine for Sim {
    fn safety_backup(&self, _: &Facts) -> Result<Made, Fault> {
        let path = PathBuf::from(&self.0.places.state_dir).join("backups/safety.zip");
        self.keep(&path, b"everything")?;
        Ok(Made {
            path,
            size: 10,
            sha256: Digest::of_bytes([7; 32]),
            created_at: String::new(),
            lacks: Vec::new(),
            unread: BTreeSet::new(),
            warnings: Vec::new(),
        })
    }

    fn watched_ms(&self) -> u64 {
        5000
    }

    fn client_database(&self) -> Option<PathBuf> {
        self.world().databases.first().map(PathBuf::from)
    }
}

impl Own for Sim {
    fn keep_dir(&self, dir: &Path) -> Result<(), Problem> {
        let fails = self.fails(true);
        if fails.is_some() {
            return Err(failed(format!("make {}: no space", dir.display())));
        }
        let mut world = self.world();
        let mut missing = Vec::new();
        let mut at = dir;
        while world.disk.find(at).is_none() {
            missing.push(at.to_owned());
            at = parent(at)?;
        }
        for dir in missing.iter().rev() {
            self.own(&mut world, "make", dir, |w| w.disk.make_dir(dir, 0o700))?;
            let above = parent(dir)?;
            self.own(&mut world, "sync", above, |w| w.disk.sync_dir(above))?;
        }
        Ok(())
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), Problem> {
        let fails = self.fails(true);
        let full = || Err(failed(format!("write {}: no space", path.display())));
        if fails == Some(How::Refused) {
            return full();
        }
        let mut world = self.world();
        let dir = parent(path)?;
        let mut made = dir.join(".keep-0");
        for n in 1.. {
            if world.disk.find(&made).is_none() {
                break;
            }
            made = dir.join(format!(".keep-{n}"));
        }
        self.own(&mut world, "make", &made, |w| {
            w.disk.create(&made).map(drop)
        })?;
        self.own(&mut world, "write", &made, |w| {
            w.disk.rewrite(&made, bytes.to_vec())
        })?;
        if matches!(fails, Some(How::HalfWay | How::Hangs)) {
            return full();
        }
        self.own(&mut world, "sync", &made, |w| w.disk.sync_file(&made))?;
        self.own(&mut world, "rename to", path, |w| {
            w.disk.rename_over(&made, path).inspect_err(|_| {
                // What was made for it goes with it.
                let _ = w.disk.remove(&made);
            })
        })?;
        if fails.is_some() {
            return full();
        }
        self.own(&mut world, "sync", dir, |w| w.disk.sync_dir(dir))
    }

    fn reserve(&self, path: &Path, _: u64) -> Result<(), Problem> {
        if self.fails(true).is_some() {
            return Err(failed(format!("reserve {}: no space", path.display())));
        }
        let mut world = self.world();
        if let Some(there) = world.disk.get(path) {
            return match there.kind {
                Kind::File => Ok(()),
                Kind::Dir | Kind::Other => Err(failed(format!("reserve {}: no", path.display()))),
            };
        }
        self.own(&mut world, "make", path, |w| w.disk.create(path).map(drop))
    }

    fn discard(&self, path: &Path) -> Result<(), Problem> {
        let fails = self.fails(true);
        if fails == Some(How::Refused) {
            return Err(failed(format!("remove {}: no", path.display())));
        }
        let mut world = self.world();
        self.own(&mut world, "remove", path, |w| w.disk.remove(path))?;
        if fails.is_some() {
            return Err(failed(format!("sync {}: no", path.display())));
        }
        let dir = parent(path)?;
        self.own(&mut world, "sync", dir, |w| w.disk.sync_dir(dir))
    }

    fn release_services(&self) {}

    fn open_journal(&self, path: &Path, _: u64) -> Result<Box<dyn Append>, Problem> {
        if self.fails(true).is_some() {
            return Err(failed(format!("open {}: no space", path.display())));
        }
        let mut world = self.world();
        if world.disk.find(path).is_none() {
            self.own(&mut world, "make", path, |w| w.disk.create(path).map(drop))?;
        }
        self.own(&mut world, "sync", path, |w| w.disk.sync_file(path))?;
        let dir = parent(path)?;
        self.own(&mut world, "sync", dir, |w| w.disk.sync_dir(dir))?;
        Ok(Box::new(OpenJournal {
            sim: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn end_session(&self, _: u32, _: u64, _: u64) -> Result<Vec<String>, Problem> {
        if self.fails(true).is_some() {
            return Err(failed("end what is left: no".into()));
        }
        let mut world = self.world();
        if !world.orphaned.is_empty() {
            world.orphaned.clear();
            return Ok(vec!["wg-quick (pid 77)".into()]);
        }
        Ok(Vec::new())
    }
}

/// The open end of the journal.
struct OpenJournal {
    sim: Sim,
    path: PathBuf,
}

impl Append for OpenJournal {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let fails = self.sim.fails(true);
        let full = || Err(failed("append to the journal: input/output error".into()));
        if fails == Some(How::Refused) {
            return full();
        }
        let part = if matches!(fails, Some(How::HalfWay | How::Hangs)) {
            &bytes[..bytes.len() / 2]
        } else {
            bytes
        };
        let mut world = self.sim.world();
        let path = &self.path;
        self.sim.own(&mut world, "append to", path, |w| {
            let mut all = w.disk.read(path).map(|b| b.to_vec()).unwrap_or_default();
            all.extend_from_slice(part);
            w.disk.rewrite(path, all)
        })?;
        if fails.is_some() {
            return full();
        }
        self.sim
            .own(&mut world, "sync", path, |w| w.disk.sync_file(path))
    }
}
