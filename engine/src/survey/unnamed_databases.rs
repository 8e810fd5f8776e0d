//! Databases that the gateway's services use and the profile does not name: a backup without them is of something else than
//! the living gateway. Looks only, through the host, at what the services' settings say and their processes have open; keeps
//! of both nothing but paths and the names of variables, since the rest of an environment is secrets.
//!
//! What a setting names counts wherever it lies. An open file counts where it begins as SQLite's do, and does not lie where
//! nobody expects it to last (`/tmp`, a cache). What the admin says is not to be saved (`other_databases`) is named, no more.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::Control;

use settings::{NamedDatabase, Setting, named, settings_in, words};

use crate::error::{Code, Problem};
use crate::gateway::database::side_files;
use crate::gateway::profile::Profile;
use crate::host::{ExitKind, Holder, Host, Kind, Meta, Query};
use crate::text::wording::in_a_line;

/// A file of settings has a few lines; one with keys and certificates in it is longer. What is longer still was not looked at.
const SETTINGS_MOST: u64 = 1 << 20;
/// Names in a folder of data that are looked at.
const NAMES_MOST: usize = 1_000;
/// Open files that could not be looked at and are named.
const UNSEEN_MOST: usize = 5;
/// Databases that are named.
const MOST: usize = 20;
/// Variables by which applications name a database of any kind.
const NAMES: [&str; 2] = ["DATABASE_URL", "SQLALCHEMY_DATABASE_URI"];
/// What the names of database files end with.
const ENDINGS: [&str; 4] = [".db", ".sqlite", ".sqlite3", ".db3"];
/// What `readlink` says of a path that leads to nothing.
const NOTHING: [&str; 4] = [
    "No such file or directory",
    "Not a directory",
    "Too many levels of symbolic links",
    "File name too long",
];
/// Where nobody expects a database to last, or it is the system's.
const PASSING: [&str; 9] = [
    "/tmp",
    "/var/tmp",
    "/var/cache",
    "/run",
    "/dev",
    "/proc",
    "/sys",
    "/usr",
    "/var/lib/dpkg",
];
/// A folder of this name is one of the same kind, wherever it lies.
const CACHE: &str = ".cache";

/// What was found.
#[derive(Debug, Default)]
pub struct Unnamed {
    /// Those that the profile does not know: its path, or the word for its kind, and why a backup lacks it.
    pub lacking: BTreeMap<String, String>,
    /// What else is to be known, a sentence each: those that the admin says are not to be saved; where the look ended early.
    pub told: Vec<String>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// Databases that the profile does not name.
pub fn unnamed(profile: &Profile, host: &dyn Host) -> Unnamed {
    let mut looking = Looking::at(profile, host);
    looking.know_the_profiles();
    let mut pids = BTreeSet::new();
    let mut settings = Vec::new();
    let mut by_commands = false;
    for service in &profile.gateway.service {
        match service.service().control {
            Control::Unit(unit) => {
                let unit = looking.unit(&unit);
                pids.extend(unit.processes);
                looking.folders.extend(unit.folder);
                settings.extend(unit.settings);
            }
            Control::Commands { .. } => by_commands = true,
        }
    }
    settings.extend(looking.files_beside());
    // Where a relative path begins may be said behind it.
    for setting in &settings {
        looking.folders.extend(setting.instance());
    }
    for setting in &settings {
        looking.named_by(setting);
    }
    if by_commands {
        pids.extend(looking.of_commands());
    }
    looking.open_in(pids);
    looking.end()
}

/// The application's folder for its data.
fn instance(profile: &Profile) -> Option<PathBuf> {
    profile.gateway.configs_dir.parent().map(Path::to_owned)
}

/// What a unit says of itself.
#[derive(Default)]
struct Unit {
    settings: Vec<Setting>,
    folder: Option<PathBuf>,
    processes: Vec<u32>,
}

struct Looking<'a> {
    profile: &'a Profile,
    host: &'a dyn Host,
    /// Device and inode of the profile's databases: another path may lead to one.
    known: BTreeSet<(u64, u64)>,
    /// Where a relative path may begin, and what lies there is the gateway's.
    folders: BTreeSet<PathBuf>,
    found: BTreeMap<PathBuf, String>,
    told: Vec<String>,
    unseen: Vec<String>,
}

fn object(meta: &Meta) -> Option<(u64, u64)> {
    meta.id.as_ref().map(|id| (meta.dev, id.ino))
}

impl<'a> Looking<'a> {
    fn at(profile: &'a Profile, host: &'a dyn Host) -> Looking<'a> {
        Looking {
            profile,
            host,
            known: BTreeSet::new(),
            folders: instance(profile).into_iter().collect(),
            found: BTreeMap::new(),
            told: Vec::new(),
            unseen: Vec::new(),
        }
    }

    fn know_the_profiles(&mut self) {
        for database in &self.profile.gateway.database {
            match self.host.stat(&database.path) {
                Ok(meta) => self.known.extend(meta.as_ref().and_then(object)),
                Err(problem) => self.could_not(&problem),
            }
        }
    }

    /// Whether it is a database of the profile: by its name, too, where its object could not be told.
    fn is_the_profiles(&self, path: &Path, object: Option<(u64, u64)>) -> bool {
        let mut databases = self.profile.gateway.database.iter();
        databases.any(|d| d.path == path) || object.is_some_and(|o| self.known.contains(&o))
    }

    fn could_not(&mut self, problem: &Problem) {
        self.unseen.push(in_a_line(problem));
    }

    /// What a look gave; nothing, and a note, where it failed.
    fn noted<T: Default>(&mut self, looked: Result<T, Problem>) -> T {
        looked.unwrap_or_else(|problem| {
            self.could_not(&problem);
            T::default()
        })
    }

    fn unit(&mut self, unit: &str) -> Unit {
        let query = Query::ServiceSettings(unit.to_owned());
        let advice = "check that systemd answers: `systemctl status`";
        let answer = self.host.ask(&query, "");
        let answer = answer.and_then(|out| {
            out.expect_ok(
                Code::QUERY_FAILED,
                &format!("look at the unit {unit}"),
                advice,
            )
        });
        let answer = self.noted(answer);
        let mut told = Unit::default();
        let place = format!("the unit {unit}");
        for line in answer.lines() {
            let Some((property, value)) = line.split_once('=') else {
                continue;
            };
            match property {
                "Environment" | "ExecStart" => {
                    let words = words(value).into_iter();
                    told.settings.extend(words.map(|w| Setting::of(&w, &place)));
                }
                "EnvironmentFiles" => {
                    let file = value.split(" (ignore_errors=").next().unwrap_or(value);
                    told.settings.extend(self.in_file(Path::new(file)));
                }
                "WorkingDirectory" => {
                    let folder = Some(PathBuf::from(value.trim_start_matches('!')));
                    told.folder = folder.filter(|f| f.is_absolute());
                }
                "MainPID" => told
                    .processes
                    .extend(value.parse::<u32>().ok().filter(|pid| *pid > 0)),
                "ControlGroup" if value.len() > 1 => {
                    // The second is where the first version of control groups has it.
                    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"] {
                        told.processes
                            .extend(self.in_group(&PathBuf::from(format!("{root}{value}"))));
                    }
                }
                _ => {}
            }
        }
        told
    }

    /// The processes of a control group and of those below it.
    fn in_group(&mut self, group: &Path) -> Vec<u32> {
        let mut processes = Vec::new();
        let mut groups = vec![group.to_owned()];
        while let Some(group) = groups.pop() {
            let pids = self.bytes(&group.join("cgroup.procs")).unwrap_or_default();
            let pids = String::from_utf8_lossy(&pids).into_owned();
            processes.extend(pids.lines().filter_map(|p| p.parse::<u32>().ok()));
            let gone = || matches!(self.host.stat(&group), Ok(None));
            let names = match self.host.list(&group) {
                Err(_) if gone() => continue,
                listed => self.noted(listed),
            };
            let is_dir = |path: &PathBuf| {
                let meta = self.host.stat(path);
                meta.is_ok_and(|meta| meta.is_some_and(|m| m.kind == Kind::Dir))
            };
            groups.extend(names.iter().map(|n| group.join(n)).filter(is_dir));
        }
        processes
    }

    /// Where a path leads; none if to nothing.
    fn real(&mut self, path: &Path) -> Option<PathBuf> {
        let query = Query::RealPath(path.to_owned());
        let answer = self.host.ask(&query, "");
        let answer = self.noted(answer.map(Some))?;
        let nothing = NOTHING.iter().any(|said| answer.stderr.contains(said));
        match answer.end {
            ExitKind::Exit(1) if nothing || answer.stderr.is_empty() => None,
            _ => {
                let shown = format!("see where {} leads", path.display());
                let real = self.noted(
                    answer
                        .expect_ok(Code::QUERY_FAILED, &shown, "install coreutils")
                        .map(Some),
                )?;
                Some(PathBuf::from(real.trim_end_matches(['\n', '\0'])))
            }
        }
    }

    /// The bytes of a file of settings; none where there is no such file. A link is followed: of what it leads to no more is kept.
    fn bytes(&mut self, file: &Path) -> Option<Vec<u8>> {
        let (file, meta) = match self.host.stat(file) {
            Ok(None) => return None,
            Ok(Some(meta)) if meta.kind == Kind::File => (file.to_owned(), meta),
            // A link, or one on the way.
            Ok(Some(_)) | Err(_) => {
                let real = self.real(file)?;
                let looked = self.host.stat(&real);
                (real, self.noted(looked)?)
            }
        };
        // A folder, say: Python's environments are often of the same name.
        if meta.kind != Kind::File {
            return None;
        }
        let read = self.host.read(&file, SETTINGS_MOST).map(Some);
        self.noted(read)
    }

    fn in_file(&mut self, file: &Path) -> Vec<Setting> {
        let bytes = self.bytes(file).unwrap_or_default();
        settings_in(&bytes, &file.display().to_string())
    }

    /// Files of settings that an application reads by itself.
    fn files_beside(&mut self) -> Vec<Setting> {
        let own = instance(self.profile);
        let above = own.as_deref().and_then(Path::parent).map(Path::to_owned);
        let folders: BTreeSet<PathBuf> = self.folders.iter().cloned().chain(above).collect();
        let files = folders.iter().map(|f| f.join(".env"));
        files.flat_map(|f| self.in_file(&f)).collect()
    }

    fn named_by(&mut self, setting: &Setting) {
        if let Some(folder) = setting.instance() {
            self.in_folder(&folder, setting);
        }
        match named(&setting.name, &setting.value) {
            None => {}
            Some(NamedDatabase::Other(kind)) => {
                self.found
                    .entry(kind.into())
                    .or_insert_with(|| setting.who());
            }
            Some(NamedDatabase::File(path)) if path.starts_with('/') => {
                self.named(Path::new(&path), setting.who());
            }
            Some(NamedDatabase::File(path)) => {
                for folder in self.folders.clone() {
                    self.named(&folder.join(&path), setting.who());
                }
            }
        }
    }

    /// Databases in the folder that a setting names for the application's data.
    fn in_folder(&mut self, folder: &Path, setting: &Setting) {
        let Some(folder) = self.real(folder) else {
            return;
        };
        let listed = self.host.list(&folder);
        let mut names = self.noted(listed);
        names.retain(|name| ENDINGS.iter().any(|e| name.ends_with(e)));
        if names.len() > NAMES_MOST {
            self.told.push(format!(
                "of {} databases in {}, the first {NAMES_MOST} were looked at",
                names.len(),
                folder.display()
            ));
        }
        for name in names.iter().take(NAMES_MOST) {
            let path = folder.join(name);
            let sqlite = match self.host.stat(&path) {
                // Not opened even for a look: another thread of this process may be copying it.
                Ok(Some(meta)) if self.is_the_profiles(&path, object(&meta)) => Ok(false),
                Ok(Some(meta)) if meta.kind == Kind::File => self.host.is_sqlite(&path),
                // What a link leads to is another folder's.
                _ => Ok(false),
            };
            if self.noted(sqlite) {
                self.named(&path, setting.who());
            }
        }
    }

    /// The processes of a service that commands drive. What has a database of the profile open is taken for one where nobody
    /// sits at it, and it is the gateway's account's, or a daemon of root's: an admin's shell or a nightly job is no service.
    fn of_commands(&mut self) -> Vec<u32> {
        let databases = self.profile.gateway.database.iter().map(|d| d.path.clone());
        let holders = self.host.holders(&databases.collect::<Vec<_>>());
        let holders = self.noted(holders);
        let owner = self.host.owner(&self.profile.gateway.owner).map(|o| o.0);
        let is_services = |h: &Holder| {
            let own = h.command.starts_with("holdfast");
            let its_account = owner.as_ref() == Ok(&h.uid);
            !own && !h.at_a_terminal && (its_account || h.uid == 0 && h.is_daemon)
        };
        holders
            .into_iter()
            .filter(is_services)
            .map(|h| h.pid)
            .collect()
    }

    fn open_in(&mut self, pids: BTreeSet<u32>) {
        if pids.is_empty() {
            return;
        }
        let pids: Vec<u32> = pids.into_iter().collect();
        let open = self.host.open_files(&pids);
        let open = self.noted(open);
        for problem in open.unseen.iter().take(UNSEEN_MOST) {
            self.could_not(problem);
        }
        if open.unseen.len() > UNSEEN_MOST {
            let more = open.unseen.len() - UNSEEN_MOST;
            self.unseen
                .push(format!("and {more} more that the service has open"));
        }
        if open.are_more {
            self.told.push(format!(
                "the gateway's service has more files open than are looked at for databases; the first {} were",
                open.files.len()
            ));
        }
        for file in open.files {
            let beside = ["-wal", "-shm", "-journal"];
            let name = file.path.to_string_lossy();
            let is_beside = beside.iter().any(|s| name.ends_with(s));
            let known = self.is_the_profiles(&file.path, Some(file.object));
            if is_beside || known || self.is_passing(&file.path) {
                continue;
            }
            let sqlite = self.host.is_sqlite_open(&file);
            if self.noted(sqlite) {
                self.found
                    .entry(file.path)
                    .or_insert_with(|| "what the gateway's service has open".into());
            }
        }
    }

    /// It lies where nobody expects it to last, or is Holdfast's own.
    fn is_passing(&self, path: &Path) -> bool {
        let the_gateways = self.folders.iter().any(|f| path.starts_with(f));
        let passing = PASSING.iter().any(|p| path.starts_with(p))
            || path.components().any(|c| c.as_os_str() == CACHE);
        path.starts_with(&self.profile.state_dir) || passing && !the_gateways
    }

    /// Notes a database that a setting names and that is there, under its real name, unless the profile names it.
    fn named(&mut self, path: &Path, who: String) {
        if self.is_the_profiles(path, None) || self.found.contains_key(path) {
            return;
        }
        let plain = match self.host.stat(path) {
            Ok(None) => return,
            Ok(Some(meta)) if meta.kind == Kind::File => Some(meta),
            // A link, or one on the way.
            Ok(Some(_)) | Err(_) => None,
        };
        let (real, meta) = match plain {
            Some(meta) => (path.to_owned(), meta),
            None => {
                let Some(real) = self.real(path) else {
                    return;
                };
                let looked = self.host.stat(&real);
                match self.noted(looked) {
                    Some(meta) => (real, meta),
                    None => return,
                }
            }
        };
        let same = self.is_the_profiles(&real, object(&meta));
        // An empty file holds nothing, unless it is in the log.
        let empty = meta.size == 0
            && side_files(&real)
                .iter()
                .all(|side| matches!(self.host.stat(side), Ok(None)));
        if !same && !empty && !real.starts_with(&self.profile.state_dir) {
            self.found.entry(real).or_insert(who);
        }
    }

    fn end(self) -> Unnamed {
        let mut all = Unnamed {
            told: self.told,
            unseen: self.unseen,
            ..Unnamed::default()
        };
        let gateway = &self.profile.gateway;
        let mut left = 0;
        for (path, who) in self.found {
            let shown = path.display().to_string();
            if gateway.is_not_to_be_saved(&path) {
                all.told.push(format!(
                    "the database {shown} is not saved, as other_databases in the profile says ({who})"
                ));
            } else if all.lacking.len() == MOST {
                left += 1;
            } else {
                all.lacking.insert(shown.clone(), why(&shown, &who));
            }
        }
        if left > 0 {
            all.told.push(format!(
                "there are {left} more databases that the profile does not name"
            ));
        }
        all
    }
}

/// Why a backup lacks it, and the ways out.
fn why(shown: &str, who: &str) -> String {
    let accept = format!(
        "to say that it is not to be saved here, add {shown:?} to other_databases under [gateway] in the profile"
    );
    match shown.strip_suffix("://") {
        None => format!(
            "{who} names it, and the profile does not; add it there as [[gateway.database]], or, {accept}"
        ),
        Some(kind) => {
            let program = match kind {
                "postgresql" | "postgres" => "pg_dump",
                "mysql" => "mysqldump",
                "mariadb" => "mariadb-dump",
                "mongodb" => "mongodump",
                _ => "its own program for that",
            };
            format!(
                "{who} names it, and Holdfast saves databases of SQLite alone; save it with {program}, and, {accept}"
            )
        }
    }
}

#[cfg(test)]
mod tests;
