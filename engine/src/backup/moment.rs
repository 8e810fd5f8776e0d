//! One moment: whether rows and files that were taken one after the other belong together. What was taken is looked at again;
//! where it moved, the clients that did are taken anew, a few times. Owns how often and by what one tells. Must not read what
//! a file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::configs::{Configs, Lying, now};
use crate::database::{self, Client};
use crate::profile::Profile;

/// So often what moved is taken anew.
pub(super) const ANEW: usize = 3;
/// A time is told in ticks of the kernel's clock, so that two changes may have one: what changed so shortly before it was
/// looked at may have changed right after it as well.
const TICK: i64 = 20_000_000;
/// Whoever adds a client writes its row and its files within this time.
const HALF: i64 = 2_000_000_000;
/// What is half there is given so long to become whole.
pub(super) const PAUSE: Duration = Duration::from_millis(150);

/// What of a file tells that it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Nanoseconds since 1970: of its bytes, names, owner or mode.
    pub(super) changed: i64,
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Stamp {
        Stamp {
            inode: meta.ino(),
            size: meta.size(),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

pub(super) fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}

/// Folders and the database of clients, at one look.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look {
    at: i64,
    stamps: Vec<Option<Stamp>>,
}

impl Look {
    pub(super) fn at(profile: &Profile) -> Look {
        let gateway = &profile.gateway;
        let mut paths = vec![gateway.configs_dir.clone(), gateway.wireguard_dir.clone()];
        if let Some(database) = profile.client_database() {
            let [wal, ..] = database::side_files(&database.path);
            paths.extend([database.path.clone(), wal]);
        }
        let stamp = |path: &Path| Some(Stamp::of(&path.symlink_metadata().ok()?));
        // The time first: what changes behind it is fresh.
        Look {
            at: now(),
            stamps: paths.iter().map(|path| stamp(path)).collect(),
        }
    }

    /// Whether nothing moved until then, as far as clocks can tell, and no file was changed since shortly before this look.
    pub(super) fn is_still(&self, later: &Look, newest: Option<i64>) -> bool {
        let stamps = later.stamps.iter().flatten().map(|s| s.changed);
        let mut changed = stamps.chain(newest);
        self.stamps == later.stamps && changed.all(|at| at <= self.since())
    }

    /// Waits for the clock to tell what was changed from what will be; what is copied then is copied after this look.
    pub(super) fn wait_a_tick(&mut self) {
        std::thread::sleep(Duration::from_nanos(TICK.unsigned_abs()));
        self.at = now();
    }

    /// What is changed after this may have changed after this look.
    pub(super) fn since(&self) -> i64 {
        self.at - TICK
    }

    /// Whether what was changed then is part of something that may be going on.
    pub(super) fn is_fresh(&self, changed: i64) -> bool {
        changed > self.at - HALF
    }

    /// Whether something moved so lately that a client may be half there.
    pub(super) fn is_busy(&self) -> bool {
        let mut stamps = self.stamps.iter().flatten();
        stamps.any(|s| self.is_fresh(s.changed))
    }
}

/// The rows of clients, as far as they belong to files. What the gateway writes all the time (`status`) is no part of it.
pub(super) type Rows = BTreeMap<OsString, (String, String)>;

/// By the name of the file.
pub(super) fn rows(clients: Vec<Client>) -> Rows {
    let row = |c: Client| {
        let file = OsString::from(format!("{}.conf", c.name));
        (file, (c.config_path, c.subnet))
    };
    clients.into_iter().map(row).collect()
}

/// The names of files whose rows are not the same.
pub(super) fn differing(one: &Rows, other: &Rows) -> BTreeSet<OsString> {
    let names = one.keys().chain(other.keys());
    let differ = names.filter(|name| one.get(*name) != other.get(*name));
    differ.cloned().collect()
}

/// Names with a row and not both files, or with a file and no row.
pub(super) fn half_there(rows: &Rows, configs: &Configs) -> BTreeSet<OsString> {
    let [first, second] = &configs.found;
    let has = |name: &OsStr| {
        let file = |found: &BTreeMap<OsString, Lying>| found.contains_key(name);
        [rows.contains_key(name), file(first), file(second)]
    };
    let names = rows.keys().chain(first.keys()).chain(second.keys());
    let half = names.filter(|name| has(name).contains(&false));
    half.cloned().collect()
}
