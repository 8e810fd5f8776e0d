//! One of the two hosts: makes its calls, and looks at all that there is to see.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::gateway::database::{Client, Trouble};
use engine::gateway::kernel_facts::Facts;
use engine::gateway::peers;
use engine::host::Permit;
use engine::host::{Family, GatewayCommand, Query, stirs};
use engine::restore::step::Machine;
use engine::restore::step::{Env, ops};
use engine::survey;

use super::calls::*;
use super::course::{CLIENTS, Course, text, tunnels_up};
use crate::hosts_agree::permit;

const TUNNEL: Duration = Duration::from_secs(60);

/// One of the two hosts.
pub struct Side<'c> {
    pub host: &'c dyn Machine,
    pub course: &'c Course,
    pub permit: Permit,
    pub facts: Facts,
    pub same_boot: bool,
    pub dir: PathBuf,
}

impl<'c> Side<'c> {
    pub fn new(host: &'c dyn Machine, course: &'c Course) -> Side<'c> {
        let dir = course.restore_dir();
        let permit = permit(host, &course.scenario.id, &course.plan, &dir);
        for family in Family::BOTH {
            host.set_forwarding(&permit, family, false).unwrap();
        }
        host.keep_dir(&dir.join("after")).unwrap();
        let rules = loads(V4, 0, &course.names);
        host.keep(&dir.join("after/rules.v4"), rules.as_bytes())
            .unwrap();
        let peers = peers_planned(&course.names);
        host.keep(&dir.join("after/peers"), peers.as_bytes())
            .unwrap();
        let mut side = Side {
            host,
            course,
            permit,
            facts: Facts::default(),
            same_boot: true,
            dir,
        };
        side.read_facts();
        side
    }

    pub fn env(&self) -> Env<'_> {
        Env {
            host: self.host,
            plan: &self.course.plan,
            dir: &self.dir,
            facts: &self.facts,
            source: None,
            same_boot: self.same_boot,
            served: true,
            exchanged: false,
            lacking: Default::default(),
            over: false,
            started: false,
            left: false,
            untouched: false,
            may_have_taken_down: true,
            loaded: false,
            exchanges: &[],
            again: false,
            attempt: 1,
            asked: &|| false,
        }
    }

    pub fn runs(&self) -> bool {
        let active = Query::ServiceActive(self.course.service.clone());
        self.host.ask(&active, "").unwrap().ok()
    }

    /// No database is settled that someone has open.
    pub fn makes_sense(&self, call: &Call) -> bool {
        match call {
            Settle(_) => !self.runs(),
            // It would write over the file.
            Down(SECOND) => false,
            _ => true,
        }
    }

    /// What was read, as a person would compare it.
    pub fn read_facts(&mut self) -> Vec<String> {
        let managed = |_: &str| true;
        let facts = survey::facts(self.host, &self.course.profile, &managed).unwrap();
        let peers = facts.peers.iter();
        let said = vec![
            plain_rules(facts.rules_v4.as_deref().unwrap()),
            plain_rules(facts.rules_v6.as_deref().unwrap()),
            format!(
                "{:?} {:?} {:?}",
                facts.ip_forward, facts.ipv6_forward, facts.interfaces
            ),
            format!("{:?} {:?}", facts.unread, facts.beyond),
            format!("{:?} {:?}", facts.tunnels, facts.services),
            format!("{:?}", facts.faltering),
            peers
                .map(|(name, peers)| format!("{name}: {}", peers::addconf(peers)))
                .collect(),
        ];
        self.facts = facts;
        said
    }

    /// What is in a database, as far as both have it: the first one has clients, the next two have users.
    fn read(&self, n: usize) -> Vec<String> {
        let (databases, path) = (self.host.databases(), &self.course.databases[n]);
        let active = |name: &String| self.course.names[..2].contains(name);
        let kind = |trouble: Trouble| match trouble {
            Trouble::Busy(_) => "busy",
            Trouble::Unreadable(_) => "unreadable",
            Trouble::Failed(_) => "failed",
        };
        let mut said = Vec::new();
        if let 1 | 2 = n {
            said.push(format!(
                "{:?}",
                databases.users(path).map(drop).map_err(kind)
            ));
        } else {
            let clients = databases.clients(path).map_err(kind);
            let names = |all: Vec<Client>| -> BTreeSet<String> {
                all.into_iter().map(|c| c.name).filter(active).collect()
            };
            let rows = databases.rows(path).map_err(kind);
            let rows = rows.map(|rows| rows.into_keys().filter(active).collect());
            said.push(format!("{:?}", clients.map(names)));
            assert_eq!(said[0], format!("{:?}", rows.map(|r: BTreeSet<_>| r)));
        }
        if n > 0 {
            let mail = databases.mail_relay(path).map(drop).map_err(kind);
            said.push(format!("mail {mail:?}"));
        }
        let opened = databases.may_be_opened(path).is_ok();
        let copied = databases.may_be_copied(path).is_ok();
        said.push(format!("opened {opened}, copied {copied}"));
        said
    }

    /// What it answers; none if it refuses.
    pub fn answer(&mut self, call: &Call) -> Option<Vec<String>> {
        let c = self.course;
        let (command, input) = match call {
            Up(n) => (
                GatewayCommand::TunnelUp(c.config(*n), TUNNEL),
                String::new(),
            ),
            Down(n) => (
                GatewayCommand::TunnelDown(c.config(*n), TUNNEL),
                String::new(),
            ),
            Load(family, n) => (
                GatewayCommand::EditRules(*family),
                loads(*family, *n, &c.names),
            ),
            Edit(family, n) => (GatewayCommand::EditRules(*family), edits(*n, &c.names)),
            Nft(n) => (GatewayCommand::Nft, nft(*n, &c.plan.fence)),
            PeersAdd(tunnel, n) => (
                GatewayCommand::PeersAdd(c.names[*tunnel].clone()),
                peers_added(*n),
            ),
            PeerRemove(tunnel, n) => (
                GatewayCommand::PeerRemove(c.names[*tunnel].clone(), key(PEERS_REMOVED[*n])),
                String::new(),
            ),
            Start => (
                GatewayCommand::ServiceStart(c.service.clone()),
                String::new(),
            ),
            Stop => (
                GatewayCommand::ServiceStop(c.service.clone()),
                String::new(),
            ),
            Forward(family, on) => {
                let set = self.host.set_forwarding(&self.permit, *family, *on);
                return set.ok().map(|()| Vec::new());
            }
            CannotSeeTo(_) | Call::Active(_) | StartedAgain => return Some(Vec::new()),
            Statuses => {
                let clients = self.host.databases().clients(&c.databases[0]).ok()?;
                let names = CLIENTS.map(|n| &c.names[n]);
                let mut said: Vec<String> = clients
                    .into_iter()
                    .filter(|client| names.contains(&&client.name))
                    .map(|client| format!("{} {:?}", client.name, client.status))
                    .collect();
                said.sort();
                return Some(said);
            }
            Settle(n) => {
                let path = &c.databases[*n];
                let settled = self.host.settle_database(&self.permit, path).ok()?;
                let left =
                    engine::plan::side_files::side_files_there(self.host, &text(path)).unwrap();
                let whole = settled == engine::gateway::database::Settled::Whole;
                return Some(vec![format!("whole {whole}, beside it {left:?}")]);
            }
            Read(n) => return Some(self.read(*n)),
            Call::Facts => return Some(self.read_facts()),
            SameBoot(same) => {
                self.same_boot = *same;
                return Some(Vec::new());
            }
            Move(step, direction) => {
                let (env, ops) = (self.env(), ops(*step));
                let mut report = match direction {
                    Onward => ops.forward(&env, &self.permit),
                    Back => ops.back(&env, &self.permit),
                }
                .ok()?;
                // A real tunnel whose config has no port chooses one each time it comes up; a simulated one does not.
                let is_chosen = |line: &String| line.contains("addresses, MTU, port and routes");
                report.did.retain(|line| !is_chosen(line));
                let warned = format!("{} warnings", report.warnings.len());
                return Some([report.did, vec![warned]].concat());
            }
        };
        let out = self.host.run(&self.permit, &command, &input).unwrap();
        out.ok().then(Vec::new)
    }

    /// All that there is to see.
    pub fn looks(&self) -> Vec<String> {
        let (host, c) = (self.host, self.course);
        let ask = |query: &Query| host.ask(query, "").unwrap();
        let names: Vec<String> = c.names.to_vec();
        let mut seen = vec![format!("tunnels {:?}", tunnels_up(host))];
        let links = ask(&Query::Links).stdout;
        let links = links.lines().filter_map(|l| l.split(": ").nth(1));
        let mut links: Vec<&str> = links.filter(|l| names.iter().any(|n| n == l)).collect();
        links.sort_unstable();
        seen.push(format!("links {links:?}"));
        let peers = peers::in_dump(&ask(&Query::Peers).stdout, &names);
        let peers = peers
            .iter()
            .map(|(name, p)| format!("{name}: {}", peers::addconf(p)));
        seen.push(format!("peers {}", peers.collect::<String>()));
        let ports = ask(&Query::ListenPorts).stdout;
        let is_set = |line: &&str| [FIRST, NEW].iter().any(|n| line.starts_with(&names[*n]));
        let mut ports: Vec<&str> = ports.lines().filter(is_set).collect();
        ports.sort_unstable();
        seen.push(format!("ports {ports:?}"));
        for family in Family::BOTH {
            seen.push(plain_rules(&ask(&Query::Rules(family)).stdout));
            seen.push(ask(&Query::LegacyRules(family)).stdout);
        }
        seen.push(format!("fence {}", ask(&Query::Fence).ok()));
        let forwards = Family::BOTH.map(|family| host.forwarding(family).unwrap());
        seen.push(format!("forwarding {forwards:?}"));
        seen.push(format!(
            "service {} {}",
            self.runs(),
            stirs(host, &c.service).unwrap()
        ));
        let mut held: Vec<PathBuf> = host
            .holders(&c.databases)
            .unwrap()
            .into_iter()
            .map(|h| h.path)
            .collect();
        held.sort();
        seen.push(format!("held {held:?}"));
        for n in 0..TUNNELS {
            let config = host.read(Path::new(&c.config(n)), 1 << 20).ok();
            seen.push(format!("config {n} {:?}", config.map(String::from_utf8)));
        }
        for (step, direction) in MOVES {
            let observed = ops(step).observe(&self.env(), direction);
            // In each chain rules have an order; chains among each other have none. Who starts a service is known of real processes
            // alone.
            let observed = match observed {
                Ok(observed) => format!("{observed:?}"),
                Err(problem) => format!("Err({:?})", problem.code.unwrap()),
            };
            let (seen_as, what) = observed.split_once('"').unwrap_or((&observed, ""));
            let mut parts: Vec<&str> = what.trim_end_matches("\")").split("; ").collect();
            parts.sort_unstable();
            seen.push(format!("{step} {direction:?}: {seen_as} {parts:?}"));
        }
        seen
    }
}

/// Rules without what says nothing: counters, policies that are the kernel's own, tables in which nothing is.
pub fn plain_rules(saved: &str) -> String {
    let mut table = "";
    let mut chains: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for line in saved.lines().filter(|l| !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let words: Vec<&str> = chain.split(' ').collect();
            if words[1] != "ACCEPT" {
                chains
                    .entry(format!("{table} {} {}", words[0], words[1]))
                    .or_default();
            }
        } else if line != "COMMIT" {
            let chain = line.split(' ').nth(1).unwrap();
            chains
                .entry(format!("{table} rules of {chain}"))
                .or_default()
                .push(line);
        }
    }
    format!("{chains:#?}")
}
