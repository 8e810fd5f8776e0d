//! A read-only picture of the gateway as it is now: its files, databases, clients, and kernel facts. Changes nothing,
//! and decides nothing.

mod databases;
pub mod exposure;
pub mod kept_rules;
mod kernel;
mod not_saved;
pub mod preflight;
mod running;
pub mod unnamed_databases;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::{BootId, FileFacts, Note};

use crate::error::{Code, Problem, cannot};
use crate::gateway::account::{Account, MailRelay};
use crate::gateway::database::{self, Client};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::parts::Part;
use crate::gateway::profile::Profile;
use crate::host::{self, Family, Host, Kind, Look, Meta, Query};
use crate::survey::kept_rules::KeptPlace;
use crate::text::wording::{counted, in_a_line, names, quoted};
use databases::{DatabasesNow, databases};
use exposure::Exposure;
pub use kernel::link_settings;
pub use kernel::{UNREADABLE, facts, system, tunnels};

/// The gateway as it is.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The boot that the machine is in.
    pub boot: BootId,
    /// Kernel facts.
    pub facts: Facts,
    /// Tunnels that are up and run as their configs say in all that Holdfast can tell: keys, peers, addresses, routes, MTU, port.
    pub as_configured: BTreeSet<String>,
    /// `*.conf` in the folder of client configs.
    pub configs: BTreeMap<String, FileFacts>,
    /// Managed `*.conf` in the folder that `wg-quick` uses.
    pub wireguard: BTreeMap<String, FileFacts>,
    /// Links, folders and the like where a config or a file of kept rules could lie: nothing is done to them.
    pub no_files: BTreeSet<PathBuf>,
    /// Databases of the profile that are there, by entry.
    pub databases: BTreeMap<String, Meta>,
    /// Files in which the box keeps its rules, that are there.
    pub kept: Vec<(Family, PathBuf, FileFacts)>,
    /// Where such files lie, or would, once links of root's are followed.
    pub kept_at: BTreeMap<Family, PathBuf>,
    /// Clients, if their database is there.
    pub clients: Option<Vec<Client>>,
    /// The users of each user database.
    pub users: BTreeMap<String, Vec<Account>>,
    /// The mail relay that each user database names.
    pub mail: BTreeMap<String, MailRelay>,
    /// Every network interface.
    pub links: BTreeSet<String>,
    /// Whose restored files are where the backup does not say.
    pub owner: (u32, u32),
    /// What others may write or read.
    pub exposure: Exposure,
    /// What should be known; each was looked at and left out.
    pub warnings: Vec<Note>,
}

/// Takes the picture.
///
/// `backed_up` tells whether a backup knows a config of this name: then it is the gateway's, too.
///
/// Its parts are looked at one after the other; where the row of a client changed meanwhile or its files came or went, all are looked at anew, a
/// few times.
pub fn survey(
    host: &dyn Host,
    profile: &Profile,
    backed_up: &dyn Fn(&str) -> bool,
) -> Result<Survey, Vec<Problem>> {
    let mut anew = 0;
    loop {
        let mut found = look(host, profile, backed_up)?;
        let moved = moved(host, profile, backed_up, &found).unwrap_or_else(|problem| {
            found.warnings.push(moved_meanwhile(format!(
                "Holdfast does not know whether clients changed while it inspected the gateway: {}",
                in_a_line(&problem)
            )));
            BTreeSet::new()
        });
        if !moved.is_empty() && anew < ANEW {
            anew += 1;
            continue;
        }
        if !moved.is_empty() {
            found.warnings.push(moved_meanwhile(format!(
                "{} kept changing while Holdfast inspected the gateway; the row and the config file may not match: {}",
                counted(moved.len(), "client"),
                names(&moved)
            )));
        }
        return Ok(found);
    }
}

fn moved_meanwhile(text: String) -> Note {
    Note::known(Code::NOT_OF_ONE_MOMENT, text)
}

/// So often what moves is looked at anew.
const ANEW: usize = 3;

/// The clients whose rows or files are not there any more as they were found, or are by now.
fn moved(
    host: &dyn Host,
    profile: &Profile,
    backed_up: &dyn Fn(&str) -> bool,
    found: &Survey,
) -> Result<BTreeSet<String>, Problem> {
    let gateway = &profile.gateway;
    let client = |file: &str| file.strip_suffix(".conf").unwrap_or(file).to_owned();
    let mut moved = BTreeSet::new();
    let mut managed: BTreeSet<String> = found.configs.keys().cloned().collect();
    if let (Some(clients), Some(database)) = (&found.clients, profile.client_database()) {
        managed.extend(clients.iter().map(|c| format!("{}.conf", c.name)));
        let then = database::rows(clients);
        let now = host.databases().rows(&database.path)?;
        let names = then.keys().chain(now.keys());
        moved.extend(names.filter(|n| then.get(*n) != now.get(*n)).cloned());
    }
    let folders = [
        (&gateway.configs_dir, &found.configs),
        (&gateway.wireguard_dir, &found.wireguard),
    ];
    for (at, (dir, then)) in folders.into_iter().enumerate() {
        let mut now = configs_in(host, dir)?;
        now.retain(|name| at == 0 || managed.contains(name) || backed_up(name));
        now.retain(|name| !found.no_files.contains(&dir.join(name)));
        let gone = then.keys().filter(|name| !now.contains(*name));
        moved.extend(gone.map(|name| client(name)));
        let come = now.iter().filter(|name| !then.contains_key(*name));
        moved.extend(come.map(|name| client(name)));
    }
    Ok(moved)
}

fn look(
    host: &dyn Host,
    profile: &Profile,
    backed_up: &dyn Fn(&str) -> bool,
) -> Result<Survey, Vec<Problem>> {
    let gateway = &profile.gateway;
    let owner = owner_and_folders(host, profile)?;
    let one = |p: Problem| vec![p];
    let DatabasesNow {
        databases,
        clients,
        users,
        mail,
        locked,
        mut warnings,
    } = databases(host, profile)?;
    let mut aside = PutAside::default();
    let configs = held(host, &gateway.configs_dir, |_| true, &mut aside).map_err(one)?;
    let mut managed: BTreeSet<String> = configs.keys().cloned().collect();
    managed.extend(clients.iter().flatten().map(|c| format!("{}.conf", c.name)));
    let managed = |name: &str| managed.contains(name) || backed_up(name);
    let wireguard = held(host, &gateway.wireguard_dir, managed, &mut aside).map_err(one)?;
    // A tunnel whose config is a link is whoever's made the link.
    let managed =
        |name: &str| managed(name) && !aside.no_files.contains(&gateway.wireguard_dir.join(name));
    let mut facts = facts(host, profile, &managed).map_err(one)?;
    warnings.extend(kernel::set_apart(host, &mut facts));
    facts.unread.extend(locked);
    if clients.is_none()
        && profile
            .client_database()
            .is_some_and(|d| databases.contains_key(&d.name))
    {
        let mut strange = configs_in(host, &gateway.wireguard_dir).map_err(one)?;
        strange.retain(|name| !configs.contains_key(name) && !backed_up(name));
        if !strange.is_empty() {
            let text = format!(
                "whether {} in {} are clients' is not known, since the rows of clients cannot be read: they are neither saved nor \
                 changed, nor are their tunnels",
                names(&strange),
                gateway.wireguard_dir.display()
            );
            warnings.push(Note::known(Code::DATABASE_UNREADABLE, text));
        }
    }
    warnings.extend(said_of(&facts));
    let (as_configured, beyond) = running::beyond_configs(host, profile, &facts, &wireguard);
    warnings.extend(beyond);
    let (kept, kept_at) = kept(host, profile, &mut aside).map_err(one)?;
    warnings.extend(aside.warnings);
    warnings.extend(aside.no_files.iter().map(|path| no_file(path)));
    let (what, advice) = ("list the interfaces", "install iproute2");
    let links = host.ask(&Query::Links, "").map_err(one)?;
    let links = links
        .expect_ok(Code::QUERY_FAILED, what, advice)
        .map_err(one)?;
    let exposure = exposure::look(host, profile, &wireguard.keys().cloned().collect());
    Ok(Survey {
        boot: host.boot().map_err(one)?,
        facts,
        as_configured,
        configs,
        wireguard,
        no_files: aside.no_files,
        databases,
        kept,
        kept_at,
        clients,
        users,
        mail,
        links: links.lines().filter_map(link_name).collect(),
        owner,
        exposure,
        warnings,
    })
}

fn no_file(path: &Path) -> Note {
    let shown = path.display().to_string();
    let text = format!(
        "{shown} is not a regular file: neither it nor what it may lead to is saved or changed"
    );
    Note::known(Code::WRONG_KIND, text).about(shown)
}

/// Without these there is nothing to look at: the profile's owner, whom this gives, and both folders of configs.
fn owner_and_folders(host: &dyn Host, profile: &Profile) -> Result<(u32, u32), Vec<Problem>> {
    let mut problems = Vec::new();
    let gateway = &profile.gateway;
    for dir in [&gateway.configs_dir, &gateway.wireguard_dir] {
        match host.stat(dir) {
            Ok(Some(meta)) if meta.kind == Kind::Dir => {}
            Ok(there) => problems.push(no_folder(profile, dir, there.is_some())),
            Err(p) => problems.push(p),
        }
    }
    match host.owner(&gateway.owner) {
        Ok(owner) if problems.is_empty() => return Ok(owner),
        Ok(_) => {}
        Err(problem) => problems.push(problem),
    }
    Err(problems)
}

/// What should be known of the kernel facts.
fn said_of(facts: &Facts) -> Vec<Note> {
    let unread = facts.unread.iter().map(|(part, why)| {
        let (code, verb) = match part {
            Part::Unnamed(_) => (Code::NOT_SAVED, "is not saved"),
            Part::OtherDatabases => (Code::GATEWAY_UNREADABLE, "is not known"),
            _ => (Code::GATEWAY_UNREADABLE, "cannot be read"),
        };
        let text = format!("{} {verb}: {why}", part.shown());
        Note::known(code, text).about(part.to_string())
    });
    let services = facts.unanswered.iter();
    let services = services.map(|(name, why)| {
        let text = format!("whether the service {name} runs could not be looked at: {why}");
        Note::known(Code::SERVICE_UNKNOWN, text).about(name)
    });
    let lacking = Family::BOTH.into_iter().filter(|f| facts.lack_protocol(*f));
    let lacking = lacking.map(|f| format!("the kernel of this machine has no {}", f.name()));
    let lacking = lacking.map(|text| Note::known(Code::UNFIT_SYSTEM, text));
    let beyond = facts.beyond.iter();
    let beyond = beyond.map(|said| Note::known(Code::NOT_SAVED, said));
    unread
        .chain(services)
        .chain(lacking)
        .chain(beyond)
        .collect()
}

type KeptNow = (Vec<(Family, PathBuf, FileFacts)>, BTreeMap<Family, PathBuf>);

/// The files in which the box keeps its rules, and where they lie or would.
fn kept(host: &dyn Host, profile: &Profile, aside: &mut PutAside) -> Result<KeptNow, Problem> {
    let (mut kept, mut kept_at) = (Vec::new(), BTreeMap::new());
    let paths = &profile.gateway.firewall.kept;
    for (family, path) in Family::BOTH.into_iter().zip(paths) {
        let KeptPlace::At(place) = KeptPlace::of(host, path)? else {
            aside.no_files.insert(path.clone());
            continue;
        };
        match host.stat(&place)? {
            None => {}
            Some(meta) if meta.kind == Kind::File => {
                let sha256 = host.sha256(&place)?;
                kept.push((family, place.clone(), meta.with(sha256)));
            }
            Some(_) => {
                aside.no_files.insert(path.clone());
            }
        }
        kept_at.insert(family, place);
    }
    Ok((kept, kept_at))
}

/// A folder of configs that is not there is not made by a restore: nothing in its journal would take it away again.
fn no_folder(profile: &Profile, dir: &Path, is_there: bool) -> Problem {
    let gateway = &profile.gateway;
    let shown = quoted(&dir.display().to_string());
    if is_there {
        return cannot(
            Code::WRONG_KIND,
            format!(
                "use the folder {}: what is there is a link, or no folder",
                dir.display()
            ),
            format!(
                "see what it is: ls -ld {shown}; and name the folder that it leads to in the profile, or take it away"
            ),
        );
    }
    let make = match gateway.owner.split_once(':') {
        Some((user, group)) if *dir == gateway.configs_dir => format!(
            "install -d -m 0750 -o {} -g {} {shown}",
            quoted(user),
            quoted(group)
        ),
        _ => format!("install -d -m 0700 {shown}"),
    };
    cannot(
        Code::NOT_THERE,
        format!("use the folder {}: it is not there", dir.display()),
        format!(
            "if it is gone, make it, empty, and try again: {make}; if the gateway's configs lie elsewhere, name that folder in the \
             profile (--config)"
        ),
    )
}

/// `2: eth0@if3: <BROADCAST,...`
fn link_name(line: &str) -> Option<String> {
    let name = line.split(": ").nth(1)?;
    Some(name.split('@').next().unwrap_or(name).to_owned())
}

/// What lies among configs and is none.
#[derive(Default)]
struct PutAside {
    no_files: BTreeSet<PathBuf>,
    warnings: Vec<Note>,
}

fn held(
    host: &dyn Look,
    dir: &Path,
    wanted: impl Fn(&str) -> bool,
    aside: &mut PutAside,
) -> Result<BTreeMap<String, FileFacts>, Problem> {
    let mut names = host.list(dir)?;
    names.retain(|name| name.ends_with(".conf") && wanted(name));
    let mut found = BTreeMap::new();
    for (name, held) in names.iter().zip(host.held(dir, &names)?) {
        let path = || dir.join(name);
        match held {
            Some(host::Held {
                meta,
                sha256: Some(sha256),
            }) => {
                found.insert(name.clone(), meta.with(sha256));
            }
            Some(_) => {
                aside.no_files.insert(path());
            }
            None => aside.warnings.push(moved_meanwhile(format!(
                "{} went away while it was looked at",
                path().display()
            ))),
        }
    }
    Ok(found)
}

/// The names of configs that the gateway manages, now.
#[derive(Debug, Default)]
pub struct Managed {
    /// Those in its folder, and those of its clients.
    pub names: BTreeSet<String>,
    /// Those in the folder of `wg-quick` that may be a client's, where the rows cannot be read.
    pub unclaimed: BTreeSet<String>,
    /// Why they cannot.
    pub unread: String,
}

/// The names of configs that the gateway manages.
pub fn managed(host: &dyn Host, profile: &Profile) -> Result<Managed, Problem> {
    let mut managed = Managed {
        names: configs_in(host, &profile.gateway.configs_dir)?,
        ..Managed::default()
    };
    if let Some(database) = profile.client_database()
        && host.stat(&database.path)?.is_some()
    {
        match host.databases().clients(&database.path) {
            Ok(clients) => managed
                .names
                .extend(clients.into_iter().map(|c| format!("{}.conf", c.name))),
            Err(trouble) => {
                managed.unclaimed = configs_in(host, &profile.gateway.wireguard_dir)?;
                managed.unclaimed.retain(|n| !managed.names.contains(n));
                managed.unread = format!("cannot {}", trouble.problem().what);
            }
        }
    }
    Ok(managed)
}

fn configs_in(host: &dyn Look, dir: &Path) -> Result<BTreeSet<String>, Problem> {
    let names = host.list(dir)?.into_iter();
    Ok(names.filter(|n| n.ends_with(".conf")).collect())
}
