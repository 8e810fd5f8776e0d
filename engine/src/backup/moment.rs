//! One moment: rows, files and tunnels of clients are taken one after the other, and looked at again; where something moved,
//! the clients that did are taken anew, a few times. Owns how often, and by what one tells. Must not know what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use journal_format::Note;

use super::Kernel;
use super::aside::Aside;
use super::configs::{self, Configs, Stamp, now};
use super::databases::{self, Saving};
use crate::error::{Code, Problem};
use crate::gateway::database;
use crate::gateway::kernel_facts::Facts;
use crate::gateway::parts::PartFate;
use crate::gateway::peers::Peers;
use crate::gateway::profile::Profile;
use crate::host::LiveDatabases;
use crate::host::live_database::Live;
use crate::parallel;
use crate::text::wg_config;
use crate::text::wording::{self, counted};

/// So often what moved is taken anew.
pub(super) const ANEW: usize = 3;
/// A time is told in ticks of the kernel's clock, so that two changes may have one: what changed so shortly before it was
/// looked at may have changed right after it as well.
const TICK: i64 = 20_000_000;
/// Whoever adds a client writes its row and its files within this time.
const HALF: i64 = 2_000_000_000;
/// What is half there is given so long to become whole.
const PAUSE: Duration = Duration::from_millis(150);

/// Folders and the database of clients, at one look.
#[derive(Debug, PartialEq, Eq)]
struct Glance {
    at: i64,
    stamps: Vec<Option<Stamp>>,
}

impl Glance {
    fn at(profile: &Profile) -> Glance {
        let gateway = &profile.gateway;
        let mut paths = vec![gateway.configs_dir.clone(), gateway.wireguard_dir.clone()];
        if let Some(database) = profile.client_database() {
            let [wal, ..] = database::side_files(&database.path);
            paths.extend([database.path.clone(), wal]);
        }
        let stamp = |path: &Path| Some(Stamp::of(&path.symlink_metadata().ok()?));
        // The time first: what changes behind it is fresh.
        Glance {
            at: now(),
            stamps: paths.iter().map(|path| stamp(path)).collect(),
        }
    }

    /// Whether nothing moved until then, as far as clocks can tell.
    fn is_still(&self, later: &Glance) -> bool {
        let between = self.until(later);
        let mut stamps = later.stamps.iter().flatten();
        self.stamps == later.stamps && !stamps.any(|s| between.contains(&s.changed))
    }

    /// Waits for the clock to tell what was changed from what will be; what is copied then is copied after this look.
    fn wait_a_tick(&mut self) {
        std::thread::sleep(Duration::from_nanos(TICK.unsigned_abs()));
        self.at = now();
    }

    /// What has a time in this may have changed after this look. A time beyond it is of a clock that was set back since, and
    /// says nothing.
    fn until(&self, later: &Glance) -> Range<i64> {
        self.at - TICK + 1..later.at + TICK
    }

    /// Whether what was changed then is part of something that may be going on.
    fn is_fresh(&self, changed: i64) -> bool {
        (self.at - HALF + 1..self.at + TICK).contains(&changed)
    }

    /// Whether something moved so lately that a client may be half there.
    fn is_busy(&self) -> bool {
        let mut stamps = self.stamps.iter().flatten();
        stamps.any(|s| self.is_fresh(s.changed))
    }
}

/// The rows of clients, by the names of their files.
pub(super) type FileRows = BTreeMap<OsString, u64>;

/// Of what no file can be called there is none, and it must not lead elsewhere: whoever writes rows is not root.
fn by_file(rows: database::Rows) -> FileRows {
    let files = rows.into_iter().filter(|(name, _)| is_of_a_file(name));
    let file = |(name, row): (String, u64)| (OsString::from(name + ".conf"), row);
    files.map(file).collect()
}

/// Whether a file can have this name.
fn is_of_a_file(name: &str) -> bool {
    name.len() + ".conf".len() <= 255 && !name.contains(['/', '\0'])
}

/// The names of files whose rows are not the same.
fn differing(one: &FileRows, other: &FileRows) -> BTreeSet<OsString> {
    let names = one.keys().chain(other.keys());
    let differ = names.filter(|name| one.get(*name) != other.get(*name));
    differ.cloned().collect()
}

/// Names with a row and not both files, or with a file and no row.
fn half_there(rows: &FileRows, configs: &Configs) -> BTreeSet<OsString> {
    let whole = |name: &OsStr| {
        let lying = configs.found.get(name);
        rows.contains_key(name) && lying.is_some_and(|both| both.iter().all(Option::is_some))
    };
    let names = rows.keys().chain(configs.found.keys());
    names.filter(|name| !whole(name)).cloned().collect()
}

/// What has to be of one moment.
pub(super) struct TakenTogether {
    pub(super) clients: Option<Saving>,
    pub(super) configs: Configs,
    /// Of the kernel's facts, what belongs to tunnels.
    pub(super) tunnels: Facts,
    /// The peers of tunnels that run with others than those of their configs.
    pub(super) beyond: BTreeMap<String, Peers>,
    /// The names of files of clients that kept moving.
    pub(super) unpaired: BTreeSet<OsString>,
    /// Those of configs of which nobody can tell whose they are.
    pub(super) unknown: BTreeSet<OsString>,
    pub(super) warnings: Vec<Note>,
}

/// Takes rows, configs and tunnels, and again what moves meanwhile, until they are of one moment or it was tried often enough.
pub(super) fn take(
    profile: &Profile,
    kernel: Kernel<'_>,
    aside: Aside,
) -> Result<TakenTogether, Problem> {
    let mut attempt = Attempt::first(profile, aside)?;
    let all_along = attempt.half_all_along();
    let (mut tunnels, mut beyond) = (Facts::default(), BTreeMap::new());
    for anew in 0..=ANEW {
        tunnels = kernel.tunnels(&attempt.configs, attempt.rows.as_ref());
        beyond = beyond_configs(profile, &tunnels);
        let Some(mut moving) = attempt.moving() else {
            break;
        };
        if anew == ANEW {
            // What has been half there all along is no news.
            moving.half.retain(|name| !all_along.contains(name));
            attempt.unpaired = moving.moved;
            attempt.unpaired.extend(moving.half);
            break;
        }
        if !attempt.take_anew(moving)? {
            break;
        }
    }
    Ok(attempt.taken(tunnels, beyond))
}

/// What was taken so far.
struct Attempt<'p> {
    profile: &'p Profile,
    configs: Configs,
    clients: Option<Saving>,
    /// None of a database that cannot be read: there is nothing to be compared.
    rows: Option<FileRows>,
    /// Before all that was taken.
    look: Glance,
    /// Those that moved where there are no rows to go with them.
    alone: BTreeSet<OsString>,
    unpaired: BTreeSet<OsString>,
    warnings: Vec<Note>,
}

/// What is not of the moment of the rest, by the names of files.
struct Moving {
    moved: BTreeSet<OsString>,
    half: BTreeSet<OsString>,
    /// Files that were changed since the rows were copied: each may belong to a later row.
    late: BTreeSet<OsString>,
    differing: BTreeSet<OsString>,
}

impl Attempt<'_> {
    fn first(profile: &Profile, aside: Aside) -> Result<Attempt<'_>, Problem> {
        let gateway = &profile.gateway;
        let look = Glance::at(profile);
        let mut configs = Configs::of(&gateway.configs_dir, &gateway.wireguard_dir, aside);
        let (mut clients, read) = parallel::both(|| copy(profile), || configs.read());
        read?;
        let rows = rows_in(&mut clients);
        let mut warnings = Vec::new();
        let names = rows.iter().flat_map(|rows| rows.keys());
        let odd: BTreeSet<&String> = names.filter(|name| !is_of_a_file(name)).collect();
        if !odd.is_empty() {
            let text = format!(
                "{} with a name that no file can have; no config is looked for under it: {}",
                counted(odd.len(), "client"),
                wording::names(&odd)
            );
            warnings.push(Note::known(Code::CLIENT_ODD, text));
        }
        let rows = rows.map(by_file);
        configs.read_more(files(rows.as_ref()))?;
        Ok(Attempt {
            profile,
            configs,
            clients,
            rows,
            look,
            alone: BTreeSet::new(),
            unpaired: BTreeSet::new(),
            warnings,
        })
    }

    /// What is half there, and not since lately.
    fn half_all_along(&self) -> BTreeSet<OsString> {
        let now = Glance::at(self.profile);
        let Some(rows) = &self.rows else {
            return BTreeSet::new();
        };
        let mut half = half_there(rows, &self.configs);
        // A row has no time of its own.
        half.retain(|name| match self.configs.newest(name) {
            Some(changed) => !now.is_fresh(changed),
            None => !now.is_busy(),
        });
        half
    }

    /// What has moved since it was taken; none if nothing has, or if that cannot be told.
    fn moving(&mut self) -> Option<Moving> {
        let later = Glance::at(self.profile);
        let mut half = match &self.rows {
            Some(rows) if later.is_busy() => half_there(rows, &self.configs),
            _ => BTreeSet::new(),
        };
        // What is old and half stays half.
        half.retain(|name| match self.configs.newest(name) {
            Some(changed) => later.is_fresh(changed),
            None => true,
        });
        let late = self.configs.changed_in(&self.look.until(&later));
        if self.look.is_still(&later) && late.is_empty() && half.is_empty() {
            return None;
        }
        self.look = later;
        let now = self.rows_now();
        let differing = match (&self.rows, &now) {
            (Some(rows), Some(now)) => differing(rows, now),
            _ => BTreeSet::new(),
        };
        let mut managed = files(self.rows.as_ref());
        managed.extend(files(now.as_ref()));
        let mut moved = match self.configs.changed(&managed) {
            Ok(moved) => moved,
            Err(why) => {
                self.warnings.push(not_known(&why));
                self.unpaired = managed;
                return None;
            }
        };
        moved.extend(differing.iter().chain(&late).cloned());
        if self.rows.is_none() {
            self.alone.extend(moved.iter().cloned());
        }
        let cannot_compare = self.rows.is_some() && now.is_none();
        if cannot_compare {
            self.unpaired = moved;
            self.unpaired.extend(half);
            return None;
        }
        let moves = !(moved.is_empty() && half.is_empty());
        moves.then_some(Moving {
            moved,
            half,
            late,
            differing,
        })
    }

    fn rows_now(&mut self) -> Option<FileRows> {
        let database = self.profile.client_database()?;
        self.rows.as_ref()?;
        match Live::new(self.profile).rows(&database.path) {
            Ok(rows) => Some(by_file(rows)),
            Err(trouble) => {
                let why = format!("cannot {}", trouble.problem().what);
                self.warnings.push(not_known(&why));
                None
            }
        }
    }

    /// Whether it could be taken.
    fn take_anew(&mut self, moving: Moving) -> Result<bool, Problem> {
        let mut moved = moving.moved;
        if moved.is_empty() {
            std::thread::sleep(PAUSE);
        }
        if !moving.late.is_empty() {
            self.look.wait_a_tick();
        }
        let in_rows = !(moving.differing.is_empty() && moving.late.is_empty());
        if let Some(rows) = self.rows.as_mut().filter(|_| in_rows) {
            let mut newer = copy(self.profile);
            // The earlier copy is better than none.
            let Some(newer_rows) = rows_in(&mut newer).map(by_file) else {
                self.unpaired = moved;
                return Ok(false);
            };
            self.clients = newer;
            moved.extend(differing(rows, &newer_rows));
            *rows = newer_rows;
        }
        self.configs.read_again(&moved)?;
        Ok(true)
    }

    fn taken(mut self, tunnels: Facts, beyond: BTreeMap<String, Peers>) -> TakenTogether {
        if self.profile.client_database().is_some() && !self.alone.is_empty() {
            self.warnings.push(not_known("the clients cannot be read"));
            self.unpaired.extend(self.alone);
        }
        let gone = |clients: &Saving| clients.fate == PartFate::NotThere;
        let unknown = match &self.clients {
            Some(c) if self.rows.is_none() && (self.configs.are_there() || !gone(c)) => {
                self.configs.others()
            }
            _ => BTreeSet::new(),
        };
        TakenTogether {
            clients: self.clients,
            configs: self.configs,
            tunnels,
            beyond,
            unpaired: self.unpaired,
            unknown,
            warnings: self.warnings,
        }
    }
}

/// A copy of the database of clients.
fn copy(profile: &Profile) -> Option<Saving> {
    let database = profile.client_database()?;
    Some(databases::save(profile, database))
}

fn rows_in(copied: &mut Option<Saving>) -> Option<database::Rows> {
    copied.as_mut()?.rows.take()
}

fn not_known(why: &str) -> Note {
    let text = format!("whether the clients' rows and files are of one moment is not known: {why}");
    Note::known(Code::NOT_OF_ONE_MOMENT, text)
}

/// The names of the files of these rows.
fn files(rows: Option<&FileRows>) -> BTreeSet<OsString> {
    rows.iter().flat_map(|rows| rows.keys().cloned()).collect()
}

/// The peers of tunnels that run with others than those of the config that `wg-quick` reads.
fn beyond_configs(profile: &Profile, tunnels: &Facts) -> BTreeMap<String, Peers> {
    let gateway = &profile.gateway;
    tunnels.beyond_configs(|tunnel| {
        let file = format!("{tunnel}.conf");
        let folders = [&gateway.wireguard_dir, &gateway.configs_dir];
        let bytes = folders
            .iter()
            .find_map(|dir| configs::bytes(&dir.join(&file)))?;
        wg_config::read(&bytes).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_by_a_clock_that_went_ahead_counts_as_old() {
        let stamp = |changed| Stamp {
            inode: 1,
            size: 1,
            changed,
        };
        let look = |at, changed| Glance {
            at,
            stamps: vec![Some(stamp(changed))],
        };
        let (then, later) = (100 * HALF, 101 * HALF);
        for (changed, still) in [
            (then - TICK, true),
            (then, false),
            (later, false),
            (later + TICK, true),
            (later + 3600 * HALF, true),
        ] {
            let (one, other) = (look(then, changed), look(later, changed));
            assert_eq!(one.is_still(&other), still, "{changed}");
        }
        assert!(!look(then, 0).is_still(&look(later, 1)));
        assert!(look(then, then - 1).is_busy() && !look(then, then + HALF).is_busy());
    }
}
