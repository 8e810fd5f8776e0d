//! A read-only picture of the gateway as it is now: its files, databases, clients, and kernel facts. Changes nothing,
//! and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::{BootId, Digest};

use crate::account::{Account, MailRelay};
use crate::database::{Client, Live};
use crate::exposure::{self, Exposure};
use crate::facts::Facts;
use crate::fault::{Problem, cannot};
use crate::host::{Family, Host, Kind, Look, Meta, Query, stirs};
use crate::owner;
use crate::profile::{DatabaseKind, Profile};
use crate::wgconf;

/// One file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What it is.
    pub meta: Meta,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

/// The gateway as it is.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The boot that the machine is in.
    pub boot: BootId,
    /// Kernel facts.
    pub facts: Facts,
    /// `*.conf` in the folder of client configs.
    pub configs: BTreeMap<String, Held>,
    /// Managed `*.conf` in the folder that `wg-quick` uses.
    pub wireguard: BTreeMap<String, Held>,
    /// Links, folders and the like where a config or a file of kept rules could lie: nothing is done to them.
    pub no_files: BTreeSet<PathBuf>,
    /// Databases of the profile that are there, by entry.
    pub databases: BTreeMap<String, Meta>,
    /// Files in which the box keeps its rules, that are there.
    pub kept: Vec<(Family, PathBuf, Held)>,
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
    pub warnings: Vec<String>,
}

/// Takes the picture.
///
/// `backed_up` tells whether a backup knows a config of this name: then it is the gateway's, too.
pub fn survey(
    host: &dyn Host,
    profile: &Profile,
    backed_up: &dyn Fn(&str) -> bool,
) -> Result<Survey, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let gateway = &profile.gateway;
    for dir in [&gateway.configs_dir, &gateway.wireguard_dir] {
        match host.stat(dir) {
            Ok(Some(meta)) if meta.kind == Kind::Dir => {}
            Ok(_) => problems.push(cannot(
                format!("find the folder {}", dir.display()),
                "name the gateway's folders in the profile (--config)",
            )),
            Err(p) => problems.push(p),
        }
    }
    let owner = owner::resolve(&gateway.owner).unwrap_or_else(|problem| {
        problems.push(problem);
        (0, 0)
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let one = |p: Problem| vec![p];
    let mut databases = BTreeMap::new();
    let mut users = BTreeMap::new();
    let mut mail = BTreeMap::new();
    let mut clients = None;
    for database in &gateway.database {
        let Some(meta) = host.stat(&database.path).map_err(one)? else {
            continue;
        };
        if meta.kind != Kind::File {
            return Err(vec![cannot(
                format!("use {}: it is not a regular file", database.path.display()),
                "name the real database in the profile",
            )]);
        }
        // An unreadable database is there all the same: it can be replaced, and is kept as it is.
        match database.kind {
            DatabaseKind::Clients => match Live::new(profile).clients(&database.path) {
                Ok(list) => clients = Some(list),
                Err(p) => warnings.push(format!(
                    "{} cannot be read: {}",
                    database.path.display(),
                    p.what
                )),
            },
            DatabaseKind::Users => match Live::new(profile).users(&database.path) {
                Ok(list) => {
                    let accounts = list.into_iter().map(Account::from).collect();
                    users.insert(database.name.clone(), accounts);
                    // Whoever cannot be compared is as good as nobody.
                    let relay = Live::new(profile).mail_relay(&database.path).ok().flatten();
                    mail.extend(relay.map(|r| (database.name.clone(), r)));
                }
                Err(p) => warnings.push(format!(
                    "{} cannot be read: {}",
                    database.path.display(),
                    p.what
                )),
            },
        }
        databases.insert(database.name.clone(), meta);
    }
    let mut aside = Aside::default();
    let configs = held(host, &gateway.configs_dir, |_| true, &mut aside).map_err(one)?;
    let mut managed: BTreeSet<String> = configs.keys().cloned().collect();
    managed.extend(clients.iter().flatten().map(|c| format!("{}.conf", c.name)));
    let managed = |name: &str| managed.contains(name) || backed_up(name);
    let wireguard = held(host, &gateway.wireguard_dir, managed, &mut aside).map_err(one)?;
    // A tunnel whose config is a link is whoever's made the link.
    let managed =
        |name: &str| managed(name) && !aside.no_files.contains(&gateway.wireguard_dir.join(name));
    let facts = facts(host, profile, &managed).map_err(one)?;
    for (family, rules) in [("IPv4", &facts.rules_v4), ("IPv6", &facts.rules_v6)] {
        if rules.is_none() {
            warnings.push(format!("the {family} firewall rules {UNREADABLE}"));
        }
    }
    let mut kept = Vec::new();
    for (family, path) in Family::BOTH.into_iter().zip(&gateway.firewall.kept) {
        match host.stat(path).map_err(one)? {
            None => {}
            Some(meta) if meta.kind == Kind::File => {
                let sha256 = host.sha256(path).map_err(one)?;
                kept.push((family, path.clone(), Held { meta, sha256 }));
            }
            Some(_) => {
                aside.no_files.insert(path.clone());
            }
        }
    }
    let Aside {
        no_files,
        warnings: more,
    } = aside;
    warnings.extend(more);
    warnings.extend(no_files.iter().map(|path| {
        format!(
            "{} is not a regular file: neither it nor what it may lead to is saved or changed",
            path.display()
        )
    }));
    let links = host
        .ask(&Query::Links, "")
        .map_err(one)?
        .expect_ok("list the interfaces", "install iproute2")
        .map_err(one)?;
    let exposure = exposure::look(profile, &wireguard.keys().cloned().collect());
    Ok(Survey {
        boot: host.boot().map_err(one)?,
        facts,
        configs,
        wireguard,
        no_files,
        databases,
        kept,
        clients,
        users,
        mail,
        links: links.lines().filter_map(link_name).collect(),
        owner,
        exposure,
        warnings,
    })
}

/// `2: eth0@if3: <BROADCAST,...`
fn link_name(line: &str) -> Option<String> {
    let name = line.split(": ").nth(1)?;
    Some(name.split('@').next().unwrap_or(name).to_owned())
}

/// What lies among configs and is none.
#[derive(Default)]
struct Aside {
    no_files: BTreeSet<PathBuf>,
    warnings: Vec<String>,
}

fn held(
    host: &dyn Look,
    dir: &Path,
    wanted: impl Fn(&str) -> bool,
    aside: &mut Aside,
) -> Result<BTreeMap<String, Held>, Problem> {
    let mut found = BTreeMap::new();
    for name in host.list(dir)? {
        if !name.ends_with(".conf") || !wanted(&name) {
            continue;
        }
        let path = dir.join(&name);
        match host.stat(&path)? {
            Some(meta) if meta.kind == Kind::File => {
                let sha256 = host.sha256(&path)?;
                found.insert(name, Held { meta, sha256 });
            }
            Some(_) => {
                aside.no_files.insert(path);
            }
            None => aside.warnings.push(format!(
                "{} went away while it was looked at",
                path.display()
            )),
        }
    }
    Ok(found)
}

/// The names of configs that the gateway manages, now: those in its folder, and those of its clients.
pub fn managed(host: &dyn Host, profile: &Profile) -> Result<BTreeSet<String>, Problem> {
    let mut names: BTreeSet<String> = host
        .list(&profile.gateway.configs_dir)?
        .into_iter()
        .filter(|n| n.ends_with(".conf"))
        .collect();
    if let Some(database) = profile.client_database()
        && host.stat(&database.path)?.is_some()
    {
        // One that cannot be read names nobody; the backup says so.
        let clients = Live::new(profile)
            .clients(&database.path)
            .unwrap_or_default();
        names.extend(clients.into_iter().map(|c| format!("{}.conf", c.name)));
    }
    Ok(names)
}

/// Why the rules of a family are not among the kernel facts.
pub const UNREADABLE: &str = "cannot be read: a table has rules that iptables cannot show; see `nft list ruleset`, and move \
     what was added with nft into a table of its own";

/// Kernel facts as they are now. `managed` tells the names of the gateway's configs.
pub fn facts(
    host: &dyn Host,
    profile: &Profile,
    managed: &dyn Fn(&str) -> bool,
) -> Result<Facts, Problem> {
    let mut facts = Facts {
        ip_forward: Some(host.ip_forward()?),
        ..Facts::default()
    };
    for family in Family::BOTH {
        let advice = "install iptables, and run as root";
        let text = host
            .ask(&Query::Rules(family), "")?
            .expect_ok("read the firewall rules", advice)?;
        // It prints this in the place of the table, and ends well.
        if text.contains("is incompatible, use 'nft' tool") {
            continue;
        }
        let legacy = host.ask(&Query::LegacyRules(family), "")?;
        // Where that backend is the one in use, both print the same.
        let appended = |text: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|l| Some(&l[l.find("-A ")?..]));
            lines.map(str::to_owned).collect()
        };
        let of_legacy = appended(&legacy.stdout);
        if !of_legacy.is_empty() && of_legacy != appended(&text) {
            return Err(cannot(
                format!(
                    "back up or restore the firewall: {} shows rules that iptables-save does not",
                    legacy.shown
                ),
                "two backends are mixed on this box; move all rules to one (see update-alternatives iptables)",
            ));
        }
        let rules = crate::ruleset::parse(&text, "the loaded rules")?.text();
        match family {
            Family::V4 => facts.rules_v4 = Some(rules),
            Family::V6 => facts.rules_v6 = Some(rules),
        }
    }
    let advice = "install wireguard-tools, and run as root";
    let up = host
        .ask(&Query::Tunnels, "")?
        .expect_ok("list the tunnels", advice)?;
    facts.interfaces = up.split_whitespace().map(str::to_owned).collect();
    facts.interfaces.sort();
    let ours =
        |name: &String| managed(&format!("{name}.conf")) && wgconf::interface_name(name).is_ok();
    facts.tunnels = facts
        .interfaces
        .iter()
        .filter(|n| ours(n))
        .cloned()
        .collect();
    let dump = host
        .ask(&Query::Peers, "")?
        .expect_ok("list the peers", advice)?;
    facts.peers = crate::peers::in_dump(&dump, &facts.tunnels);
    for service in profile
        .gateway
        .service
        .iter()
        .map(crate::profile::ServiceProfile::service)
    {
        let active = Query::ServiceActive(service.control.clone());
        if host.ask(&active, "")?.ok() {
            facts.services.push(service.name);
        } else if stirs(host, &service.control)? {
            facts.faltering.push(service.name.clone());
            facts.services.push(service.name);
        }
    }
    Ok(facts)
}
