//! The profile: where one gateway keeps what, as `holdfast.toml` says. Owns the defaults (a standard install; `defaults`) and the
//! names of everything under `state_dir`. Reads nothing but its own file.

mod defaults;
mod not_understood;

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use journal_format::{Control, Policy, RestoreId, Service};
use serde::Deserialize;

use super::retention::Retention;
use crate::error::{Code, OrCannot, Problem, cannot};
use crate::text::iptables::Family;

/// Nothing is waited for longer, seconds.
const WAIT_MOST: u64 = 3600;

/// A gateway and what Holdfast may do with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Holdfast's own folder.
    pub state_dir: PathBuf,
    /// The gateway's places and parts.
    pub gateway: Gateway,
    /// What recovery does.
    pub recovery: Recovery,
    /// What an archive may cost, and the page.
    pub limits: Limits,
    /// How long backups and past restores are kept.
    pub retention: Retention,
    /// Backups that a timer makes.
    pub schedule: ScheduleProfile,
    /// The web server.
    pub web: WebProfile,
}

/// The gateway's places and parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Client configs.
    pub configs_dir: PathBuf,
    /// The configs that `wg-quick` uses.
    pub wireguard_dir: PathBuf,
    /// `user:group` that restored files get when the backup names no owner.
    pub owner: String,
    /// How long a locked database is waited for, seconds; then it is not saved, and the backup is incomplete.
    pub busy_seconds: u64,
    /// How long `wg-quick` may take for one tunnel, its hooks included, seconds; then it is ended.
    pub tunnel_seconds: u64,
    /// How long one start or one stop of a service may take, seconds; then it is ended.
    pub service_seconds: u64,
    /// How long a service is watched after its start, seconds: one that ends within this time did not start.
    pub watch_seconds: u64,
    /// Databases; each is a part of a backup.
    pub database: Vec<Database>,
    /// Databases that the gateway uses and that are not to be saved here: a file, a folder of them, or a kind (`postgresql://`).
    pub other_databases: Vec<String>,
    /// Services, in the order in which they start.
    pub service: Vec<ServiceProfile>,
    /// Firewall.
    pub firewall: FirewallProfile,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The entry in the backup; of one that SQLite cannot read, the bytes lie under `holdfast/raw/` by this name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub kind: DatabaseKind,
}

/// What a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum DatabaseKind {
    Clients,
    Users,
}

/// One service: a systemd unit, or commands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenService")]
pub enum ServiceProfile {
    /// A systemd unit.
    Unit(UnitService),
    /// Commands, each an argument list.
    Commands(CommandService),
}

/// A service as the file has it, whichever it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenService {
    unit: Option<String>,
    name: Option<String>,
    stop: Option<Vec<String>>,
    start: Option<Vec<String>>,
    active: Option<Vec<String>>,
}

impl TryFrom<WrittenService> for ServiceProfile {
    type Error = &'static str;

    fn try_from(written: WrittenService) -> Result<ServiceProfile, &'static str> {
        let WrittenService {
            unit,
            name,
            stop,
            start,
            active,
        } = written;
        match (unit, name, stop, start, active) {
            (Some(unit), None, None, None, None) => Ok(ServiceProfile::Unit(UnitService { unit })),
            (None, Some(name), Some(stop), Some(start), Some(active)) => {
                Ok(ServiceProfile::Commands(CommandService {
                    name,
                    stop,
                    start,
                    active,
                }))
            }
            _ => Err(
                "a service has either `unit`, the name of a systemd unit, or all of `name`, `stop`, `start` and `active`",
            ),
        }
    }
}

/// A service that systemd runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitService {
    /// The unit's name.
    pub unit: String,
}

/// A service that commands drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandService {
    /// What a person reads.
    pub name: String,
    /// Stops it, and returns once it has stopped.
    pub stop: Vec<String>,
    /// Starts it; it must detach.
    pub start: Vec<String>,
    /// Ends with 0 while it runs.
    pub active: Vec<String>,
}

/// Firewall.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FirewallProfile {
    /// Files in which the box keeps rules over a reboot, IPv4 first and IPv6 second. A backup saves those that exist, and a
    /// restore puts them back as they were; the rules that are loaded are never written there.
    pub kept: Vec<PathBuf>,
}

/// What recovery does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recovery {
    /// Where the journal leaves the choice.
    pub policy: Policy,
    /// How long the agent leaves a restore alone that nothing works on, before it recovers it: an admin may choose meanwhile.
    pub agent_after_seconds: u64,
}

/// What an archive may cost, and the page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Size of an uploaded archive, MiB.
    pub upload_mib: u64,
    /// Bytes really inflated, MiB.
    pub unpacked_mib: u64,
    /// Entries.
    pub entries: u64,
    /// Backups that one user may make on the page within an hour; 0 is no limit.
    pub backups_an_hour: u64,
}

/// Backups that a timer makes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleProfile {
    /// How often one should come: it is overdue when none came for twice as long. Never where this is 0.
    pub every_hours: u64,
    /// A program and its arguments, run as root after each: it hears on its standard input how that ended. None where empty.
    pub on_backup: Vec<String>,
    /// How long that program may take, seconds; then it is ended.
    pub on_backup_seconds: u64,
}

/// The web server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebProfile {
    /// The user whose connections the agent accepts, besides root.
    pub user: String,
    /// Where the page is served.
    pub address: String,
    /// Where the page is served.
    pub port: u16,
    /// Names under which the page may be asked for, besides its address and `localhost`.
    pub hosts: Vec<String>,
    /// Proxies in front of the page: what one of these says of where a browser is, is believed (`X-Forwarded-For`).
    pub trusted_proxies: Vec<IpAddr>,
    /// Users of the gateway who may use the page. Nothing that a database says makes anybody else an admin.
    pub admins: Vec<String>,
    /// The database of the gateway, by its name, whose users sign in; without it the first of kind `users`.
    pub users: Option<String>,
}

impl Gateway {
    /// The names of its databases.
    pub fn database_names(&self) -> Vec<&str> {
        self.database.iter().map(|d| d.name.as_str()).collect()
    }

    /// Whether the admin says of a database, by its path or the word for its kind, that it is not to be saved.
    pub fn is_not_to_be_saved(&self, database: &Path) -> bool {
        let mut others = self.other_databases.iter();
        others.any(|other| match other.ends_with("://") {
            true => database.as_os_str() == other.as_str(),
            false => database.starts_with(other),
        })
    }
}

impl FirewallProfile {
    /// The file in which the box keeps the rules of this family over a reboot, if the profile names one.
    pub fn kept_file(&self, family: Family) -> Option<&Path> {
        self.kept.get(family.of(0, 1)).map(PathBuf::as_path)
    }
}

impl ServiceProfile {
    /// The service as plans and journals hold it.
    pub fn service(&self) -> Service {
        match self {
            ServiceProfile::Unit(s) => Service {
                name: s.unit.clone(),
                control: Control::Unit(s.unit.clone()),
            },
            ServiceProfile::Commands(s) => Service {
                name: s.name.clone(),
                control: Control::Commands {
                    stop: s.stop.clone(),
                    start: s.start.clone(),
                    active: s.active.clone(),
                },
            },
        }
    }
}

impl Profile {
    /// Reads the profile. A missing file is the standard install if `default_place`, else a problem.
    pub fn read(file: &Path, default_place: bool) -> Result<Profile, Problem> {
        // A pipe can be read once, and the worker reads it again.
        if std::fs::metadata(file).is_ok_and(|m| !m.is_file()) {
            return Err(cannot(
                Code::BAD_PROFILE,
                format!("read the profile {}: it is no plain file", file.display()),
                "write it to a file, and name that with --config or HOLDFAST_CONFIG",
            ));
        }
        let text = match std::fs::read_to_string(file) {
            Err(e) if default_place && e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Profile::default());
            }
            read => read.map_err(|e| not_understood::unread(file, &e))?,
        };
        let profile: Profile =
            toml::from_str(&text).map_err(|e| not_understood::problem(file, &text, &e))?;
        profile.check(file)?;
        Ok(profile)
    }

    fn check(&self, file: &Path) -> Result<(), Problem> {
        let checked = self
            .check_paths()
            .and_then(|()| self.check_databases())
            .and_then(|()| self.check_other_databases())
            .and_then(|()| self.check_settings())
            .and_then(|()| self.check_services());
        checked.or_cannot(
            Code::BAD_PROFILE,
            format!("use the profile {}", file.display()),
            format!(
                "change that setting in {}; the README describes every key",
                file.display()
            ),
        )
    }

    /// Every path is one that no link and no `..` leads elsewhere.
    fn check_paths(&self) -> Result<(), String> {
        let g = &self.gateway;
        let paths = [&self.state_dir, &g.configs_dir, &g.wireguard_dir]
            .into_iter()
            .chain(g.database.iter().map(|d| &d.path))
            .chain(&g.firewall.kept);
        for path in paths {
            let mut components = path.components();
            let plain = components.all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
            if !path.is_absolute() || !plain || path.to_str().is_none() {
                return Err(format!(
                    "{} is not a plain absolute path in UTF-8",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// Names and paths of databases are plain, and each is there once.
    fn check_databases(&self) -> Result<(), String> {
        let g = &self.gateway;
        for (i, d) in g.database.iter().enumerate() {
            let plain = d.name.ends_with(".db")
                && !d.name.starts_with('.')
                && !d.name.contains(['/', '\\']);
            if !plain {
                return Err(format!(
                    "the database name {:?} is not a plain name that ends in .db",
                    d.name
                ));
            }
            if g.database[..i]
                .iter()
                .any(|o| o.name == d.name || o.path == d.path)
            {
                return Err(format!("the database {} is there twice", d.name));
            }
        }
        Ok(())
    }

    /// What is not to be saved is named so that it can be found, and is not the profile's own.
    fn check_other_databases(&self) -> Result<(), String> {
        let g = &self.gateway;
        for other in &g.other_databases {
            let kind = other.strip_suffix("://").is_some_and(|kind| {
                !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric())
            });
            if !kind && !Path::new(other).is_absolute() {
                return Err(format!(
                    "gateway.other_databases has {other:?}, which is neither an absolute path nor a kind such as \
                     \"postgresql://\""
                ));
            }
            if g.database.iter().any(|d| d.path.starts_with(other)) {
                return Err(format!(
                    "gateway.other_databases says that {other} is not to be saved, and a [[gateway.database]] lies there"
                ));
            }
        }
        Ok(())
    }

    /// What one setting says of another.
    fn check_settings(&self) -> Result<(), String> {
        let g = &self.gateway;
        if let Some(name) = &self.web.users
            && self.sign_in_database().is_none()
        {
            return Err(format!(
                "web.users names {name:?}, and no database of kind \"users\" has that name"
            ));
        }
        let kept = &g.firewall.kept;
        let ends = |i: usize, end: &str| {
            kept.get(i)
                .is_none_or(|p| p.extension().is_some_and(|e| e == end))
        };
        if kept.len() > 2 || !ends(0, "v4") || !ends(1, "v6") {
            let two = "the file of IPv4 first, which ends in .v4, and that of IPv6 second, which ends in .v6";
            return Err(format!("gateway.firewall.kept names {two}"));
        }
        let told = self.schedule.on_backup_seconds;
        for (key, is, allowed) in [
            ("gateway.busy_seconds", g.busy_seconds, 0..=WAIT_MOST),
            ("gateway.watch_seconds", g.watch_seconds, 0..=WAIT_MOST),
            ("gateway.tunnel_seconds", g.tunnel_seconds, 1..=WAIT_MOST),
            ("gateway.service_seconds", g.service_seconds, 1..=WAIT_MOST),
            ("schedule.on_backup_seconds", told, 1..=WAIT_MOST),
        ] {
            if !allowed.contains(&is) {
                let (least, most) = allowed.into_inner();
                return Err(format!("{key} is {is}, not {least} to {most}"));
            }
        }
        Ok(())
    }

    /// Programs are found without a search.
    fn check_services(&self) -> Result<(), String> {
        let g = &self.gateway;
        let program = self.schedule.on_backup.first();
        if program.is_some_and(|program| !program.starts_with('/')) {
            return Err("schedule.on_backup does not begin with an absolute path".into());
        }
        for service in &g.service {
            if let ServiceProfile::Commands(s) = service
                && [&s.stop, &s.start, &s.active]
                    .iter()
                    .any(|argv| !argv.first().is_some_and(|a| a.starts_with('/')))
            {
                return Err(format!(
                    "the commands of service {} do not begin with an absolute path",
                    s.name
                ));
            }
        }
        Ok(())
    }

    /// The one database whose users sign in, whether it is there or not.
    pub fn sign_in_database(&self) -> Option<&Database> {
        self.gateway.database.iter().find(|d| {
            let named = self.web.users.as_ref().is_none_or(|name| *name == d.name);
            named && d.kind == DatabaseKind::Users
        })
    }

    /// The database of clients, if the profile has one.
    pub fn client_database(&self) -> Option<&Database> {
        let mut all = self.gateway.database.iter();
        all.find(|d| d.kind == DatabaseKind::Clients)
    }

    /// Where backups are kept.
    pub fn backups_dir(&self) -> PathBuf {
        self.state_dir.join("backups")
    }

    /// Where uploads and snapshots lie while they are worked on.
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }

    /// Where restores are kept.
    pub fn restores_dir(&self) -> PathBuf {
        self.state_dir.join("restores")
    }

    /// The folder of one restore: `journal`, `before/`, `originals/`.
    pub fn restore_dir(&self, id: &RestoreId) -> PathBuf {
        self.restores_dir().join(id.as_str())
    }

    /// The barrier.
    pub fn barrier(&self) -> PathBuf {
        self.state_dir.join("open")
    }

    /// Says that `state_dir` is there and mounted: made once, when Holdfast is set up, and never by itself again.
    pub fn sentinel(&self) -> PathBuf {
        self.state_dir.join("is-mounted")
    }

    /// The lock that a running restore, recovery or backup holds.
    pub fn lock(&self) -> PathBuf {
        self.state_dir.join("lock")
    }
}

#[cfg(test)]
mod tests;
