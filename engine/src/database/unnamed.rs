//! Databases that the gateway's services use and the profile does not name: a backup without them is of something else than
//! the living gateway. Looks only, through the host, at what the services' settings say and their processes have open; keeps
//! of both nothing but paths and the names of variables, since the rest of an environment is secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::Control;

use crate::host::{Host, Query};
use crate::profile::Profile;

/// A file of settings has a few lines.
const SETTINGS_MOST: u64 = 64 << 10;
/// So many are named.
const MOST: usize = 20;
/// Variables by which applications name a database of any kind.
const NAMES: [&str; 2] = ["DATABASE_URL", "SQLALCHEMY_DATABASE_URI"];
/// What the names of database files end with.
const ENDINGS: [&str; 4] = [".db", ".sqlite", ".sqlite3", ".db3"];

/// Databases that the profile does not name, each with who names it, for a sentence.
pub fn unnamed(profile: &Profile, host: &dyn Host) -> Vec<(PathBuf, String)> {
    let mut looking = Looking {
        profile,
        host,
        folders: instance(profile).into_iter().collect(),
        found: BTreeMap::new(),
    };
    let mut pids = BTreeSet::new();
    let mut settings = Vec::new();
    for service in &profile.gateway.service {
        if let Control::Unit(unit) = service.service().control {
            let unit = Unit::ask(host, &unit);
            pids.extend(unit.processes.iter().copied());
            looking.folders.extend(unit.folder.clone());
            settings.extend(unit.settings);
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
    looking.open_in(pids);
    looking.found.into_iter().take(MOST).collect()
}

/// The application's folder for its data.
fn instance(profile: &Profile) -> Option<PathBuf> {
    profile.gateway.configs_dir.parent().map(Path::to_owned)
}

/// One variable, or one word of a command, and where it stands.
struct Setting {
    name: String,
    value: String,
    place: String,
}

impl Setting {
    /// `NAME=VALUE`, as it stands in an environment.
    fn of(text: &str, place: &str) -> Setting {
        let (name, value) = text.split_once('=').unwrap_or(("", text));
        Setting {
            name: name.to_owned(),
            value: value.trim_matches(['"', '\'']).to_owned(),
            place: place.to_owned(),
        }
    }

    fn instance(&self) -> Option<PathBuf> {
        (self.name == "INSTANCE_PATH" && self.value.starts_with('/'))
            .then(|| PathBuf::from(&self.value))
    }

    fn who(&self) -> String {
        // A word of a command may be anything.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match self.name.chars().all(plain) && !self.name.is_empty() {
            true => format!("{} ({})", self.place, self.name),
            false => self.place.clone(),
        }
    }
}

/// What a unit says of itself.
#[derive(Default)]
struct Unit {
    settings: Vec<Setting>,
    folder: Option<PathBuf>,
    processes: Vec<u32>,
}

impl Unit {
    /// Nothing, where systemd does not answer.
    fn ask(host: &dyn Host, unit: &str) -> Unit {
        let mut told = Unit::default();
        let query = Query::ServiceSettings(unit.to_owned());
        let Some(answer) = host.ask(&query, "").ok().filter(|o| o.ok()) else {
            return told;
        };
        let place = format!("the unit {unit}");
        for line in answer.stdout.lines() {
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
                    told.settings.extend(in_file(host, Path::new(file)));
                }
                "WorkingDirectory" => {
                    let folder = Some(PathBuf::from(value.trim_start_matches('!')));
                    told.folder = folder.filter(|f| f.is_absolute());
                }
                "MainPID" => told
                    .processes
                    .extend(value.parse::<u32>().ok().filter(|pid| *pid > 0)),
                "ControlGroup" if value.len() > 1 => {
                    let file = format!("/sys/fs/cgroup{value}/cgroup.procs");
                    let read = host
                        .read(Path::new(&file), SETTINGS_MOST)
                        .unwrap_or_default();
                    let pids = String::from_utf8_lossy(&read).into_owned();
                    told.processes
                        .extend(pids.lines().filter_map(|p| p.parse::<u32>().ok()));
                }
                _ => {}
            }
        }
        told
    }
}

/// The settings in a file of them.
fn in_file(host: &dyn Host, file: &Path) -> Vec<Setting> {
    let Ok(bytes) = host.read(file, SETTINGS_MOST) else {
        return Vec::new();
    };
    let place = file.display().to_string();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with('#'));
    lines
        .map(|l| Setting::of(l.strip_prefix("export ").unwrap_or(l), &place))
        .collect()
}

/// The words of a line as systemd prints them: those with blanks stand in quotes, with backslashes before what would end them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match c {
            '\\' => word.extend(letters.next()),
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|w| !w.is_empty());
    words
}

/// What is named as a database.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    /// A file of SQLite's, by a path that may be relative.
    File(String),
    /// A database of another kind, by the word for it.
    Other(String),
}

/// The database that a value names; none if it names none, or one in memory.
fn named(name: &str, value: &str) -> Option<Named> {
    if let Some(at) = value.find("sqlite") {
        let (scheme, path) = value[at..].split_once("://")?;
        if scheme.contains(|c: char| !c.is_ascii_alphanumeric() && c != '+') {
            return None;
        }
        let path = path.strip_prefix('/')?;
        let path = path.strip_prefix("file:").unwrap_or(path);
        let end = path.find(['?', '#', '"', '\'', ';']).unwrap_or(path.len());
        let path = &path[..end];
        return (!path.is_empty() && !path.starts_with(':')).then(|| Named::File(path.to_owned()));
    }
    let (scheme, _) = value.split_once("://").filter(|_| NAMES.contains(&name))?;
    // Of its address nothing is kept: a password may stand in it.
    let kind = scheme.split('+').next()?;
    let plain = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| Named::Other(format!("{kind}://")))
}

struct Looking<'a> {
    profile: &'a Profile,
    host: &'a dyn Host,
    /// Where a relative path may begin.
    folders: BTreeSet<PathBuf>,
    found: BTreeMap<PathBuf, String>,
}

impl Looking<'_> {
    /// Files of settings that an application reads by itself.
    fn files_beside(&self) -> Vec<Setting> {
        let own = instance(self.profile);
        let above = own.as_deref().and_then(Path::parent).map(Path::to_owned);
        let folders: BTreeSet<PathBuf> = self.folders.iter().cloned().chain(above).collect();
        let files = folders.iter().map(|f| f.join(".env"));
        files.flat_map(|f| in_file(self.host, &f)).collect()
    }

    fn named_by(&mut self, setting: &Setting) {
        if let Some(folder) = setting.instance() {
            for name in self.host.list(&folder).unwrap_or_default() {
                if ENDINGS.iter().any(|e| name.ends_with(e)) {
                    self.add(&folder.join(name), setting.who());
                }
            }
        }
        match named(&setting.name, &setting.value) {
            None => {}
            Some(Named::Other(kind)) => {
                self.found
                    .entry(kind.into())
                    .or_insert_with(|| setting.who());
            }
            Some(Named::File(path)) if path.starts_with('/') => {
                self.add(Path::new(&path), setting.who());
            }
            Some(Named::File(path)) => {
                for folder in self.folders.clone() {
                    self.add(&folder.join(&path), setting.who());
                }
            }
        }
    }

    /// What these processes have open; without any, those that have a database of the profile open: they are the gateway's.
    fn open_in(&mut self, mut pids: BTreeSet<u32>) {
        if pids.is_empty() {
            let databases = self.profile.gateway.database.iter().map(|d| d.path.clone());
            let holders = self
                .host
                .holders(&databases.collect::<Vec<_>>())
                .unwrap_or_default();
            let own = |command: &str| command.starts_with("holdfast");
            pids.extend(holders.iter().filter(|h| !own(&h.command)).map(|h| h.pid));
        }
        if pids.is_empty() {
            return;
        }
        let query = Query::OpenFiles(pids.into_iter().collect());
        let Ok(open) = self.host.ask(&query, "") else {
            return;
        };
        // Some of these processes may be gone by now: what is there is told.
        for path in open.stdout.split('\0') {
            let own = ["-wal", "-shm", "-journal"]
                .iter()
                .find_map(|s| path.strip_suffix(s));
            let path = own.unwrap_or(path);
            let passing = ["/proc/", "/sys/", "/dev/", "/usr/lib/", "/usr/share/"];
            let is_database = own.is_some() || ENDINGS.iter().any(|e| path.ends_with(e));
            if path.starts_with('/') && is_database && !passing.iter().any(|p| path.starts_with(p))
            {
                self.add(
                    Path::new(path),
                    "what the gateway's service has open".into(),
                );
            }
        }
    }

    /// Notes a database that is there, under its real name, unless the profile names it.
    fn add(&mut self, path: &Path, who: String) {
        let known = |path: &Path| self.profile.gateway.database.iter().any(|d| d.path == path);
        if known(path) || self.found.contains_key(path) {
            return;
        }
        let asked = self.host.ask(&Query::RealPath(path.to_owned()), "");
        let Some(answer) = asked.ok().filter(|o| o.ok()) else {
            return;
        };
        let real = PathBuf::from(answer.stdout.trim_end_matches(['\n', '\0']));
        if !known(&real) && real.is_absolute() && !real.starts_with(&self.profile.state_dir) {
            self.found.entry(real).or_insert(who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_a_file_another_database_or_nothing_and_never_a_secret() {
        let file = |path: &str| Some(Named::File(path.to_owned()));
        for (name, value, expected) in [
            (
                "DATABASE_URL",
                "sqlite:////opt/x/users.db",
                file("/opt/x/users.db"),
            ),
            (
                "X",
                "sqlite+pysqlite:////opt/x/users.db?timeout=5",
                file("/opt/x/users.db"),
            ),
            ("X", "sqlite:///users.db", file("users.db")),
            ("--env", "DATABASE_URL=sqlite:////a.db", file("/a.db")),
            ("X", "sqlite:///file:/a.db?mode=rw&uri=true", file("/a.db")),
            ("X", "sqlite:///:memory:", None),
            ("X", "sqlite://", None),
            ("X", "a word about sqlite", None),
            ("SECRET_KEY", "https://user:password@host/", None),
            (
                "DATABASE_URL",
                "postgresql+psycopg://user:password@host/gateway",
                Some(Named::Other("postgresql://".into())),
            ),
            ("DATABASE_URL", "nonsense", None),
        ] {
            assert_eq!(named(name, value), expected, "{name}={value}");
        }
    }

    #[test]
    fn the_words_of_an_environment_are_read_as_systemd_prints_them() {
        assert_eq!(
            words(r#"A=b "C=d e" "F=\"g\" h" I="#),
            ["A=b", "C=d e", "F=\"g\" h", "I="]
        );
        let quoted = Setting::of("A='b c'", "the unit x");
        assert_eq!(
            (quoted.value.as_str(), quoted.who().as_str()),
            ("b c", "the unit x (A)")
        );
        assert_eq!(
            Setting::of("--key s3cret=x", "the unit x").who(),
            "the unit x"
        );
    }
}
