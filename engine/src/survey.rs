//! A read-only picture of the gateway as it is now: its files, databases, clients, and kernel facts. Changes nothing,
//! and decides nothing.

pub mod exposure;
pub mod kept_rules;
pub mod preflight;
pub mod unnamed_databases;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::{BootId, Digest};

use crate::error::{Problem, cannot};
use crate::gateway::account::{Account, MailRelay};
use crate::gateway::database::{self, Client, Trouble};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::owner;
use crate::gateway::parts::Part;
use crate::gateway::peers;
use crate::gateway::peers::Peers;
use crate::gateway::profile::{DatabaseKind, Profile};
use crate::host::live_database::Live;
use crate::host::{self, ExitKind, Family, Host, Kind, Look, Meta, Query, stirs};
use crate::survey::kept_rules::KeptPlace;
use crate::text::iptables::{self, Rules};
use crate::text::wg_config;
use crate::text::wording::quoted;
use crate::text::wording::{counted, in_a_line, name, names};
use exposure::Exposure;

/// One file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldConfig {
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
    pub configs: BTreeMap<String, HeldConfig>,
    /// Managed `*.conf` in the folder that `wg-quick` uses.
    pub wireguard: BTreeMap<String, HeldConfig>,
    /// Links, folders and the like where a config or a file of kept rules could lie: nothing is done to them.
    pub no_files: BTreeSet<PathBuf>,
    /// Databases of the profile that are there, by entry.
    pub databases: BTreeMap<String, Meta>,
    /// Files in which the box keeps its rules, that are there.
    pub kept: Vec<(Family, PathBuf, HeldConfig)>,
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
    pub warnings: Vec<String>,
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
            found.warnings.push(format!(
                "whether all of this is of one moment is not known: {}",
                in_a_line(&problem)
            ));
            BTreeSet::new()
        });
        if !moved.is_empty() && anew < ANEW {
            anew += 1;
            continue;
        }
        if !moved.is_empty() {
            found.warnings.push(format!(
                "{} kept changing while the gateway was looked at; what is said of them here may be of two moments: {}",
                counted(moved.len(), "client"),
                names(&moved)
            ));
        }
        return Ok(found);
    }
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
        let now = Live::new(profile).rows(&database.path)?;
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
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let gateway = &profile.gateway;
    for dir in [&gateway.configs_dir, &gateway.wireguard_dir] {
        match host.stat(dir) {
            Ok(Some(meta)) if meta.kind == Kind::Dir => {}
            Ok(there) => problems.push(no_folder(profile, dir, there.is_some())),
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
    let mut locked = BTreeMap::new();
    for database in &gateway.database {
        let Some(meta) = host.stat(&database.path).map_err(one)? else {
            continue;
        };
        if meta.kind != Kind::File {
            return Err(vec![no_file(&database.path)]);
        }
        // An unreadable database is there all the same: it can be replaced, and is kept as it is.
        let live = Live::new(profile);
        let read = match database.kind {
            DatabaseKind::Clients => live
                .clients_or_trouble(&database.path)
                .map(|list| clients = Some(list)),
            DatabaseKind::Users => live.users_or_trouble(&database.path).map(|list| {
                let accounts = list.into_iter().map(Account::from).collect();
                users.insert(database.name.clone(), accounts);
                match live.mail_relay(&database.path) {
                    Ok(relay) => mail.extend(relay.map(|r| (database.name.clone(), r))),
                    Err(p) => warnings.push(format!(
                        "whether a restore changes the mail relay in {} cannot be told: {}",
                        database.path.display(),
                        p.what
                    )),
                }
            }),
        };
        match read {
            Ok(()) => {}
            // Neither could a safety backup save it.
            Err(Trouble::Busy(p)) => {
                let why = format!("cannot {}; {}", p.what, p.advice);
                locked.insert(Part::Database(database.name.clone()), why);
            }
            Err(Trouble::Unreadable(p) | Trouble::Failed(p)) => warnings.push(format!(
                "{} cannot be read: {}",
                database.path.display(),
                p.what
            )),
        }
        // A backup would lack it.
        if let Err(problem) = Live::new(profile).may_be_copied(&database.path) {
            warnings.push(format!("{}: {}", in_a_line(&problem), problem.advice));
        }
        databases.insert(database.name.clone(), meta);
    }
    warnings.dedup();
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
    warnings.extend(set_apart(host, &mut facts));
    facts.unread.extend(locked);
    if clients.is_none()
        && profile
            .client_database()
            .is_some_and(|d| databases.contains_key(&d.name))
    {
        let all = configs_in(host, &gateway.wireguard_dir).map_err(one)?;
        let mut strange = all;
        strange.retain(|name| !configs.contains_key(name) && !backed_up(name));
        if !strange.is_empty() {
            warnings.push(format!(
                "whether {} in {} are clients' is not known, since the rows of clients cannot be read: they are neither saved nor \
                 changed, nor are their tunnels",
                names(&strange),
                gateway.wireguard_dir.display()
            ));
        }
    }
    for (part, why) in &facts.unread {
        let verb = match part {
            Part::Unnamed(_) => "is not saved",
            Part::OtherDatabases => "is not known",
            _ => "cannot be read",
        };
        warnings.push(format!("{} {verb}: {why}", part.shown()));
    }
    let services = facts.unanswered.iter();
    warnings.extend(services.map(|(name, why)| {
        format!("whether the service {name} runs could not be looked at: {why}")
    }));
    for family in Family::BOTH.into_iter().filter(|f| facts.lack_protocol(*f)) {
        warnings.push(format!("the kernel of this box has no {}", family.name()));
    }
    warnings.extend(facts.beyond.iter().cloned());
    warnings.extend(beyond_configs(host, profile, &facts, &wireguard));
    let (mut kept, mut kept_at) = (Vec::new(), BTreeMap::new());
    for (family, path) in Family::BOTH.into_iter().zip(&gateway.firewall.kept) {
        let KeptPlace::At(place) = KeptPlace::of(path).map_err(one)? else {
            aside.no_files.insert(path.clone());
            continue;
        };
        match host.stat(&place).map_err(one)? {
            None => {}
            Some(meta) if meta.kind == Kind::File => {
                let sha256 = host.sha256(&place).map_err(one)?;
                kept.push((family, place.clone(), HeldConfig { meta, sha256 }));
            }
            Some(_) => {
                aside.no_files.insert(path.clone());
            }
        }
        kept_at.insert(family, place);
    }
    let PutAside {
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

/// A folder of configs that is not there is not made by a restore: nothing in its journal would take it away again.
fn no_folder(profile: &Profile, dir: &Path, is_there: bool) -> Problem {
    let gateway = &profile.gateway;
    let shown = quoted(&dir.display().to_string());
    if is_there {
        return cannot(
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
        format!("use the folder {}: it is not there", dir.display()),
        format!(
            "if it is gone, make it, empty, and try again: {make}; if the gateway's configs lie elsewhere, name that folder in the \
             profile (--config)"
        ),
    )
}

/// A database that is a link is not opened: whoever may change the link would choose what is read and replaced.
fn no_file(path: &Path) -> Problem {
    let shown = quoted(&path.display().to_string());
    match std::fs::read_link(path) {
        Err(_) => cannot(
            format!("use {}: it is not a regular file", path.display()),
            format!("see what it is: ls -ld {shown}; and name the real database in the profile"),
        ),
        Ok(target) => {
            let (target, leads) = match std::fs::canonicalize(path) {
                Ok(real) => (real, true),
                Err(_) => (target, false),
            };
            let name = format!("name {} as its path in the profile", target.display());
            cannot(
                format!(
                    "use {}: it is a link to {}{}",
                    path.display(),
                    target.display(),
                    if leads { "" } else { ", where nothing is" }
                ),
                match leads {
                    true => name,
                    false => format!(
                        "take the link away, and a restore puts the database in its place: rm {shown}; or {name}"
                    ),
                },
            )
        }
    }
}

/// Looks which interfaces forward otherwise than all do, tunnels left out: theirs come and go. A sentence for each protocol.
fn set_apart(host: &dyn Look, facts: &mut Facts) -> Vec<String> {
    let mut said = Vec::new();
    for family in Family::BOTH {
        let Some(all) = facts.forwards(family) else {
            continue;
        };
        let look = || -> Result<BTreeMap<String, bool>, Problem> {
            let mut apart = BTreeMap::new();
            let mut interfaces = host.forwarding_interfaces(family)?;
            interfaces.retain(|i| facts.interfaces.binary_search(i).is_err());
            for interface in interfaces {
                if let Some(on) = host
                    .forwarding_of(family, &interface)?
                    .filter(|on| *on != all)
                {
                    apart.insert(interface, on);
                }
            }
            Ok(apart)
        };
        match look() {
            Ok(apart) if apart.is_empty() => {}
            Ok(apart) => {
                said.push(format!(
                    "{} is {}, and the {} forwarding of {} is not: that is in no backup, and whoever sets the one sets the other",
                    family.forwarding(),
                    u8::from(all),
                    family.name(),
                    names(apart.keys())
                ));
                match family {
                    Family::V4 => facts.apart_v4 = apart,
                    Family::V6 => facts.apart_v6 = apart,
                }
            }
            Err(problem) => said.push(format!(
                "whether an interface forwards {} otherwise than all do could not be looked at: {}",
                family.name(),
                in_a_line(&problem)
            )),
        }
    }
    said
}

/// Tunnels whose peers the kernel has otherwise than their config, a sentence each: that is in no file.
fn beyond_configs(
    host: &dyn Look,
    profile: &Profile,
    facts: &Facts,
    wireguard: &BTreeMap<String, HeldConfig>,
) -> Vec<String> {
    let gateway = &profile.gateway;
    let mut said = Vec::new();
    if facts.unread.contains_key(&Part::Peers) {
        return said;
    }
    for tunnel in &facts.tunnels {
        let file = format!("{tunnel}.conf");
        let dir = match wireguard.contains_key(&file) {
            true => &gateway.wireguard_dir,
            false => &gateway.configs_dir,
        };
        let read = match host.read(&dir.join(&file), wg_config::MOST) {
            Ok(read) => read,
            Err(problem) => {
                said.push(format!(
                    "whether the tunnel {} runs with other peers than those of its config could not be looked at: {}",
                    name(tunnel),
                    in_a_line(&problem)
                ));
                continue;
            }
        };
        // One that does not parse is warned of as that.
        let Ok(config) = wg_config::parse(&file, &read) else {
            continue;
        };
        let none = Peers::new();
        let beyond = peers::beyond_config(facts.peers.get(tunnel).unwrap_or(&none), &config);
        if !beyond.is_nothing() {
            said.push(format!(
                "the tunnel {} runs with other peers than those of its config: {beyond}; a restore sets those of its backup",
                name(tunnel)
            ));
        }
    }
    said
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
    warnings: Vec<String>,
}

fn held(
    host: &dyn Look,
    dir: &Path,
    wanted: impl Fn(&str) -> bool,
    aside: &mut PutAside,
) -> Result<BTreeMap<String, HeldConfig>, Problem> {
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
                found.insert(name.clone(), HeldConfig { meta, sha256 });
            }
            Some(_) => {
                aside.no_files.insert(path());
            }
            None => aside.warnings.push(format!(
                "{} went away while it was looked at",
                path().display()
            )),
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
        match Live::new(profile).clients(&database.path) {
            Ok(clients) => managed
                .names
                .extend(clients.into_iter().map(|c| format!("{}.conf", c.name))),
            Err(problem) => {
                managed.unclaimed = configs_in(host, &profile.gateway.wireguard_dir)?;
                managed.unclaimed.retain(|n| !managed.names.contains(n));
                managed.unread = format!("cannot {}", problem.what);
            }
        }
    }
    Ok(managed)
}

fn configs_in(host: &dyn Host, dir: &Path) -> Result<BTreeSet<String>, Problem> {
    let names = host.list(dir)?.into_iter();
    Ok(names.filter(|n| n.ends_with(".conf")).collect())
}

/// Why the rules of a family are not among the kernel facts, where nothing says more.
pub const UNREADABLE: &str = "they could not be read";

/// Kernel facts as they are now. `managed` tells the names of the gateway's configs.
///
/// What cannot be read is named there, and keeps nothing else from being read.
pub fn facts(
    host: &dyn Host,
    profile: &Profile,
    managed: &dyn Fn(&str) -> bool,
) -> Result<Facts, Problem> {
    let mut facts = system(host, profile)?;
    tunnels(host, managed, &mut facts);
    Ok(facts)
}

/// The tunnels and their peers, into these facts.
pub fn tunnels(host: &dyn Host, managed: &dyn Fn(&str) -> bool, facts: &mut Facts) {
    let advice = "install wireguard-tools, and run as root";
    let asked = |query: &Query, what: &str| host.ask(query, "")?.expect_ok(what, advice);
    match asked(&Query::Tunnels, "list the tunnels") {
        Ok(up) => {
            facts.interfaces = up.split_whitespace().map(str::to_owned).collect();
            facts.interfaces.sort();
        }
        Err(problem) => unread(facts, Part::Tunnels, &problem),
    }
    let ours =
        |name: &String| managed(&format!("{name}.conf")) && wg_config::interface_name(name).is_ok();
    facts.tunnels = facts
        .interfaces
        .iter()
        .filter(|n| ours(n))
        .cloned()
        .collect();
    match asked(&Query::Peers, "list the peers") {
        Ok(dump) => facts.peers = crate::gateway::peers::in_dump(&dump, &facts.tunnels),
        Err(problem) => unread(facts, Part::Peers, &problem),
    }
}

/// All other facts.
pub fn system(host: &dyn Host, profile: &Profile) -> Result<Facts, Problem> {
    let mut facts = Facts::default();
    for family in Family::BOTH {
        match host.forwarding(family) {
            Ok(on) if family == Family::V4 => facts.ip_forward = on,
            Ok(on) => facts.ipv6_forward = on,
            Err(problem) => unread(&mut facts, Part::Forwarding(family), &problem),
        }
        if facts.lack_protocol(family) {
            continue;
        }
        match rules(host, family) {
            Ok(text) if family == Family::V4 => facts.rules_v4 = Some(text),
            Ok(text) => facts.rules_v6 = Some(text),
            Err(problem) => unread(&mut facts, Part::Rules(family), &problem),
        }
    }
    for service in profile
        .gateway
        .service
        .iter()
        .map(crate::gateway::profile::ServiceProfile::service)
    {
        let active = Query::ServiceActive(service.control.clone());
        let runs = host.ask(&active, "").map(|out| out.ok());
        let stirs = match &runs {
            Ok(true) => Ok(true),
            _ => stirs(host, &service.control),
        };
        match (runs, stirs) {
            (Ok(true), _) => facts.services.push(service.name),
            (Ok(false), Ok(false)) => {}
            (Ok(false), Ok(true)) => {
                facts.faltering.push(service.name.clone());
                facts.services.push(service.name);
            }
            (Err(problem), _) | (_, Err(problem)) => {
                let why = format!("{}; {}", in_a_line(&problem), problem.advice);
                facts.unanswered.insert(service.name, why);
            }
        }
    }
    let unnamed = crate::survey::unnamed_databases::unnamed(profile, host);
    for (path, why) in unnamed.lacking {
        facts.unread.insert(Part::Unnamed(path), why);
    }
    if !unnamed.unseen.is_empty() {
        let why = format!("that could not be looked at: {}", unnamed.unseen.join("; "));
        facts.unread.insert(Part::OtherDatabases, why);
    }
    facts.beyond = unnamed.told;
    facts.beyond.extend(beyond(host, &facts));
    Ok(facts)
}

fn unread(facts: &mut Facts, part: Part, problem: &Problem) {
    let why = format!("{}; {}", in_a_line(problem), problem.advice);
    facts.unread.insert(part, why);
}

/// All rules of a family, or why not all can be seen.
fn rules(host: &dyn Host, family: Family) -> Result<String, Problem> {
    let advice = "install iptables, and run as root";
    let text = host
        .ask(&Query::Rules(family), "")?
        .expect_ok("read the firewall rules", advice)?;
    // It says so in the place of the table, or before it where there are chains that it leaves out, and ends well.
    let leaves_out = |line: &str| line.starts_with("# Table") && line.contains("use 'nft' tool");
    if text.lines().any(leaves_out) {
        return Err(cannot(
            "show all of them: a table has rules that iptables cannot show",
            "see `nft list ruleset`, and move what was added with nft into a table of its own",
        ));
    }
    let legacy = host.ask(&Query::LegacyRules(family), "")?;
    let program = legacy.shown.clone();
    let legacy = legacy.expect_ok("see whether the legacy backend has rules as well", advice)?;
    // Where that backend is the one in use, both print the same. Counters differ from one moment to the next, and a chain that
    // accepts what it has no rule for is as good as none.
    let in_force = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter_map(|line| match line.strip_prefix(':') {
                Some(chain) if chain.contains(" DROP") => chain.split(" [").next(),
                Some(_) => None,
                None => Some(&line[line.find("-A ")?..]),
            });
        lines.map(str::to_owned).collect()
    };
    let of_legacy = in_force(&legacy);
    if !of_legacy.is_empty() && of_legacy != in_force(&text) {
        return Err(cannot(
            format!("take all of them: {program} shows rules that iptables-save does not"),
            "two backends are mixed on this box; move all rules to one (see update-alternatives iptables)",
        ));
    }
    Ok(iptables::parse(&text, "the loaded rules")?.text())
}

/// State of kinds that no backup has, a sentence each: what an admin might take for a part of the firewall, or of the gateway.
fn beyond(host: &dyn Host, facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let own = |family: Family, table: &str| {
        // Those of a family that could not be read are named as that.
        let begins = format!("*{table}\n");
        let there = |text: &str| text.starts_with(&begins) || text.contains(&format!("\n{begins}"));
        facts.rules(family).is_none_or(there) || table.starts_with("wg-quick-")
    };
    match host.ask(&Query::NftTables, "") {
        Ok(out) if out.ok() => {
            let tables = out.stdout.lines().filter_map(|l| l.strip_prefix("table "));
            let others: Vec<&str> = tables
                .filter(|table| match table.split_once(' ') {
                    Some(("ip", name)) => !own(Family::V4, name),
                    Some(("ip6", name)) => !own(Family::V6, name),
                    Some(("inet", name)) => name != crate::text::fence_rules::TABLE,
                    Some(_) => true,
                    None => false,
                })
                .collect();
            if !others.is_empty() {
                found.push(not_saved(others, "table", "of nft"));
            }
        }
        asked => {
            let problem = match asked {
                Ok(out) => out.problem("list the tables of nft", "run it as root"),
                Err(problem) => problem,
            };
            found.push(not_known("nft has tables of its own", &problem));
        }
    }
    let is_there =
        |path: &str| -> Result<bool, Problem> { Ok(host.stat(Path::new(path))?.is_some()) };
    let wanted = || -> Result<bool, Problem> {
        let mut wanted = false;
        for target in ["sysinit", "multi-user"] {
            wanted |= is_there(&format!(
                "/etc/systemd/system/{target}.target.wants/nftables.service"
            ))?;
        }
        Ok(wanted && is_there(NFTABLES)?)
    };
    match wanted() {
        Ok(false) => {}
        Ok(true) => found.push(format!(
            "{NFTABLES} is not saved, and nftables.service loads it at each boot"
        )),
        Err(problem) => found.push(not_known(
            "nftables.service loads rules at each boot",
            &problem,
        )),
    }
    match host.ask(&Query::Firewalld, "") {
        // It is stopped, or there is none.
        Ok(out) if matches!(out.end, ExitKind::Exit(3 | 4)) => {}
        Ok(out) if out.ok() => found.push(
            "firewalld runs: what it is set to (/etc/firewalld) is not saved, and it may write over rules".into(),
        ),
        Ok(out) => {
            let problem = out.problem("ask for firewalld", "see systemctl status");
            found.push(not_known("firewalld runs", &problem));
        }
        Err(problem) => found.push(not_known("firewalld runs", &problem)),
    }
    let ufw = host.stat(Path::new(UFW)).and_then(|there| match there {
        None => Ok(Vec::new()),
        Some(_) => host.read(Path::new(UFW), 1 << 20),
    });
    match ufw {
        Ok(bytes) if bytes.split(|b| *b == b'\n').any(|line| line == b"ENABLED=yes") => found.push(
            "ufw is enabled: what it is set to (/etc/ufw) is not saved, and it loads that at each boot".into(),
        ),
        Ok(_) => {}
        Err(problem) => found.push(not_known("ufw is enabled", &problem)),
    }
    let texts = Family::BOTH.into_iter().filter_map(|f| facts.rules(f));
    // Thousands of rules are not gone through for what few have.
    let parsed = texts
        .filter(|text| text.contains("-set "))
        .filter_map(|text| Rules::parse(text).ok());
    let named: BTreeSet<String> = parsed.flat_map(|r| r.sets()).collect();
    let sets = host.ask(&Query::Sets, "");
    let sets = sets.and_then(|out| out.expect_ok("list the sets of ipset", "run it as root"));
    let sets = sets.unwrap_or_else(|problem| {
        found.push(not_known("ipset has sets", &problem));
        String::new()
    });
    let sets: BTreeSet<String> = sets
        .lines()
        .map(str::to_owned)
        .chain(named.iter().cloned())
        .collect();
    if !sets.is_empty() {
        let load = match named.is_empty() {
            true => String::new(),
            false => format!(
                "; rules name {}, and load only where there are sets of these names",
                names(&named)
            ),
        };
        found.push(format!("{}{load}", not_saved(&sets, "set", "of ipset")));
    }
    found
}

/// Of what is not saved in any case, where it could not be looked for.
fn not_known(what: &str, problem: &Problem) -> String {
    format!(
        "whether {what} could not be looked at, and that is not saved: {}",
        in_a_line(problem)
    )
}

/// `1 table of nft is not saved: inet myfw`
fn not_saved<T: AsRef<str>>(all: impl IntoIterator<Item = T>, one: &str, whose: &str) -> String {
    let all: Vec<T> = all.into_iter().collect();
    let verb = if all.len() == 1 { "is" } else { "are" };
    format!(
        "{} {whose} {verb} not saved: {}",
        counted(all.len(), one),
        names(all)
    )
}

const NFTABLES: &str = "/etc/nftables.conf";
const UFW: &str = "/etc/ufw/ufw.conf";
