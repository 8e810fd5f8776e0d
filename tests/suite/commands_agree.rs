//! The simulator's commands against the real ones: the same calls, one after another, on the simulated gateway and on a real
//! one in a sandbox. Both do them or both refuse, and after each they show the same tunnels, peers, rules, forwarding,
//! fence, service and holders, and each step's `observe` says the same of both. Scripts by hand, and random ones.
//!
//! A test runs itself a second time, inside the sandbox, and there talks to both hosts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::Arc;

use engine::gateway::kernel_facts::Facts;
use engine::gateway::peers;
use engine::gateway::profile::Profile;
use engine::host::Permit;
use engine::host::linux::Linux;
use engine::host::{Family, GatewayCommand, Host, Query, stirs};
use engine::restore::step::Machine;
use engine::restore::step::{Env, ops};
use engine::survey;
use engine::text::fence_rules;
use fixtures::{Sample, Shape};
use journal_format::{
    Control, Digest, Direction, FenceRules, Firewall, Plan, Policy, Service, Step, Tunnel,
};
use proptest::prelude::*;
use sha2::Digest as _;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::{Places, Sim};
use tests::sim::kernel::Kernel;
use tests::sim::world::World;

use crate::hosts_agree::permit;
use crate::on_a_gateway::{Gateway, path};
use crate::seeded::each_of;

/// What the sandbox's own run of a test is told: where the gateway lies.
const INSIDE: &str = "HOLDFAST_INSIDE";

/// One call.
#[derive(Debug, Clone, PartialEq)]
enum Call {
    /// `wg-quick up` of the config with this number; and so on.
    Up(usize),
    Down(usize),
    Load(Family, usize),
    Edit(Family, usize),
    Nft(usize),
    PeersAdd(usize, usize),
    PeerRemove(usize, usize),
    Start,
    Stop,
    Forward(Family, bool),
    Settle(usize),
    /// The kernel facts are read, and count as those of before from here on.
    Facts,
    /// A step of a restore, with all that it asks and runs.
    Move(Step, Direction),
    /// What follows is in the boot in which the restore began, or in another.
    SameBoot(bool),
}

use Call::{
    Down, Edit, Forward, Load, Move, Nft, PeerRemove, PeersAdd, SameBoot, Settle, Start, Stop, Up,
};
use Direction::{Back, Forward as Onward};
use Family::{V4, V6};

/// The tunnels: those of the gateway's two active clients, one that a restore brings, and some that go wrong.
const FIRST: usize = 0;
const SECOND: usize = 1;
const NEW: usize = 2;
/// Its second `PostUp` fails.
const FAILS: usize = 3;
/// Its first `PostDown` fails.
const LEAVES: usize = 4;
/// Its `PreUp` fails.
const NEVER: usize = 5;
/// Its `PreDown` fails.
const STAYS: usize = 6;
/// `wg` does not take its config.
const REFUSED: usize = 7;
/// It has no config.
const ABSENT: usize = 8;
const TUNNELS: usize = 9;

/// A key that is valid, and says nothing.
fn key(letter: char) -> String {
    format!("{}A=", letter.to_string().repeat(42))
}

/// The peers that are added to a tunnel while it runs.
fn peers_added(n: usize) -> String {
    let peer = |key: char, rest: &str| format!("[Peer]\nPublicKey = {}\n{rest}", self::key(key));
    match n {
        0 => peer('x', "AllowedIPs = 10.62.0.0/24\nPersistentKeepalive = 7\n"),
        // One that is there is set otherwise.
        1 => peer('p', "AllowedIPs = 10.63.0.0/24\n"),
        2 => peer('x', "Endpoint = 127.0.0.1:20998\n"),
        // A network of another peer.
        3 => peer('y', "AllowedIPs = 10.61.2.0/24, fd62::/64\n") + &peer('z', ""),
        4 => peer('x', "Colour = blue\n"),
        _ => "[Peer]\nAllowedIPs = 10.64.0.0/24\n".to_owned(),
    }
}
const PEERS_ADDED: usize = 6;
const PEERS_REMOVED: [char; 3] = ['p', 'x', 'w'];

/// What a plan gives the new tunnel: a peer that its config does not have, and none of those that it has.
fn peers_planned(names: &[String]) -> String {
    let dump = format!(
        "{}\t{}\t(none)\t(none)\t10.66.0.0/24\t0\t0\t0\t9\n",
        names[NEW],
        key('t')
    );
    serde_json::to_string(&peers::in_dump(&dump, names)).unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of_bytes(sha2::Sha256::digest(bytes).into())
}

/// What both hosts are told, and what of it has the same name on both.
struct Course {
    profile: Profile,
    names: [String; TUNNELS],
    plan: Arc<Plan>,
    service: Control,
    databases: Vec<PathBuf>,
    wireguard: PathBuf,
    state: PathBuf,
    scenario: Scenario,
}

impl Course {
    /// Its configs are written over those of the sample.
    fn new(sample: &Sample) -> Course {
        let profile = Profile::read(&sample.profile(), false).unwrap();
        let active = sample.active().unwrap();
        let [first, second] = &active[..] else {
            panic!("{active:?}");
        };
        let names = [
            first, second, "new", "fails", "leaves", "never", "stays", "refused", "absent",
        ]
        .map(|name: &str| name.to_owned());
        let wireguard = sample.wireguard_dir();
        for (n, name) in names.iter().enumerate().filter(|(n, _)| *n != ABSENT) {
            let file = wireguard.join(format!("{name}.conf"));
            std::fs::write(file, config(n)).unwrap();
        }
        let tunnel = |n: usize| Tunnel {
            name: names[n].clone(),
            config: config_path(&wireguard, &names[n]),
        };
        let service = profile.gateway.service[0].service();
        let mut databases: Vec<PathBuf> = profile
            .gateway
            .database
            .iter()
            .map(|d| d.path.clone())
            .collect();
        let broken = sample.root().join("instance/broken.db");
        std::fs::write(&broken, "garbage\n".repeat(200)).unwrap();
        databases.extend([broken, sample.root().join("instance/missing.db")]);
        let scenario = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
        let rules = loads(V4, 0, &names);
        let plan = Plan {
            databases: Vec::new(),
            files: Vec::new(),
            staging: Vec::new(),
            services: vec![Service {
                name: service.name.clone(),
                control: service.control.clone(),
            }],
            tunnels_down: [FIRST, SECOND, LEAVES].map(tunnel).to_vec(),
            tunnels_up: [FIRST, NEW].map(tunnel).to_vec(),
            fence: FenceRules {
                interfaces: names[..NEW + 1].to_vec(),
                networks: vec!["10.61.0.0/16".into(), "fd61::/16".into()],
            },
            firewall: Firewall {
                v4: Some(digest(rules.as_bytes())),
                v6: None,
                ip_forward: Some(true),
                ipv6_forward: Some(true),
            },
            peers: Some(digest(peers_planned(&names).as_bytes())),
            without_safety_backup_of: Vec::new(),
            left_out: Vec::new(),
            ..scenario.plan.as_ref().clone()
        };
        Course {
            state: sample.state_dir(),
            profile,
            names,
            plan: Arc::new(plan),
            service: service.control,
            databases,
            wireguard,
            scenario,
        }
    }

    fn config(&self, n: usize) -> String {
        config_path(&self.wireguard, &self.names[n])
    }

    fn restore_dir(&self) -> PathBuf {
        self.state.join("restores/x")
    }

    /// The real gateway as it is after boot, with nothing of this up; whatever an earlier script left is gone.
    fn real(&self) -> Linux {
        engine::host::programs::program_is(fixtures::program("holdfast").unwrap());
        let linux = Linux::new(&self.profile);
        let Control::Commands { stop, .. } = &self.service else {
            panic!("{:?}", self.service);
        };
        run(&stop.iter().map(String::as_str).collect::<Vec<_>>());
        for name in tunnels_up(&linux) {
            run(&["ip", "link", "delete", "dev", &name]);
        }
        while !tunnels_up(&linux).is_empty() {
            linux_sleeps();
        }
        run(&["nft", "flush", "ruleset"]);
        run(&[
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=0",
            "net.ipv6.conf.all.forwarding=0",
        ]);
        if self.state.exists() {
            std::fs::remove_dir_all(&self.state).unwrap();
        }
        linux
    }

    /// The simulated one.
    fn simulated(&self) -> Sim {
        let databases: Vec<String> = self.databases.iter().map(|d| text(d)).collect();
        let named: Vec<&str> = databases.iter().take(3).map(String::as_str).collect();
        let mut world = World::new(&[], &named);
        let disk = &mut world.disk;
        for n in (0..TUNNELS).filter(|n| *n != ABSENT) {
            disk.put(&self.config(n), config(n).as_bytes(), 0o640);
        }
        for (n, path) in named.iter().enumerate() {
            let mut rows = format!("db db{n} 1\n");
            for name in self.names.iter().take(2).filter(|_| n == 0) {
                rows.push_str(&format!("client {name} active\n"));
            }
            disk.put(path, rows.as_bytes(), 0o660);
            disk.put(
                &format!("{path}-wal"),
                format!("db db{n} 1\nrow of the log\n").as_bytes(),
                0o660,
            );
        }
        disk.put(&databases[3], b"garbage\n", 0o660);
        disk.make_dirs(self.state.parent().unwrap());
        disk.sync_all();
        world.kernel = Kernel {
            v4: BTreeMap::new(),
            ..Kernel::booted()
        };
        world.kernel.v6.clear();
        let places = Places {
            state_dir: text(&self.state),
            journal: self.restore_dir().join("journal"),
            barrier: self.state.join("open"),
            names: Default::default(),
            staging: Default::default(),
        };
        Sim::new(world, &places, None, false)
    }

    /// Runs a script on both. Stops at the first call of which they say other things, and says which.
    fn agree(&self, script: &[Call]) -> Result<(), String> {
        let (linux, sim) = (self.real(), self.simulated());
        let mut real = Side::new(&linux, self);
        let mut made = Side::new(&sim, self);
        for (n, call) in script.iter().enumerate() {
            if !made.makes_sense(call) {
                continue;
            }
            if starts(call) && !made.runs() {
                self.clients_are_active();
            }
            let (one, two) = (real.answer(call), made.answer(call));
            if one != two {
                return Err(format!(
                    "call {n}, {call:?}: the system: {one:?}, the simulator: {two:?}"
                ));
            }
            let said = one.map_or("refused".into(), |said| said.join("; "));
            println!("{call:?}: {said}");
            let two = made.looks();
            // What runs in userspace goes a moment after the command that ended it.
            let mut one = real.looks();
            for _ in 0..40 {
                if one == two {
                    break;
                }
                linux_sleeps();
                one = real.looks();
            }
            let unlike: Vec<String> = one
                .iter()
                .zip(&two)
                .filter(|(one, two)| one != two)
                .map(|(one, two)| format!("  the system: {one}\n  the simulator: {two}"))
                .collect();
            if !unlike.is_empty() {
                return Err(format!("after call {n}, {call:?}:\n{}", unlike.join("\n")));
            }
        }
        Ok(())
    }

    /// The sample's monitor calls a client inactive whose tunnel it misses; the simulated one does not.
    fn clients_are_active(&self) {
        let database = rusqlite::Connection::open(&self.databases[0]).unwrap();
        for name in self.names.iter().take(2) {
            database
                .execute(
                    "UPDATE clients SET status = 'active' WHERE name = ?1",
                    [name],
                )
                .unwrap();
        }
    }
}

/// Whether a call starts the service.
fn starts(call: &Call) -> bool {
    matches!(call, Start | Move(Step::StartServices, _))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn config_path(folder: &Path, name: &str) -> String {
    text(&folder.join(format!("{name}.conf")))
}

/// For what the script does not do itself.
fn run(argv: &[&str]) {
    let ended = Program::new(argv[0]).args(&argv[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{argv:?}: {said}");
}

fn linux_sleeps() {
    std::thread::sleep(std::time::Duration::from_millis(50));
}

fn tunnels_up(host: &dyn Host) -> Vec<String> {
    let up = host.ask(&Query::Tunnels, "").unwrap().stdout;
    let mut up: Vec<String> = up.split_whitespace().map(str::to_owned).collect();
    up.sort();
    up
}

fn config(n: usize) -> String {
    let mut text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.6{n}.0.1/32\n",
        key(char::from(b'a' + u8::try_from(n).unwrap()))
    );
    let absent = "iptables -D INPUT -i absent -j DROP";
    let hooks: &[&str] = match n {
        FIRST => &[
            "ListenPort = 20061",
            "PreUp = ip6tables -A INPUT -i %i -j ACCEPT",
            "PostUp = iptables -A FORWARD -i %i -j ACCEPT",
            "PostUp = ip6tables -A FORWARD -i %i -j ACCEPT",
            "PostUp = iptables -t mangle -I FORWARD -o %i -j ACCEPT",
            "PreDown = ip6tables -D INPUT -i %i -j ACCEPT",
            "PostDown = iptables -D FORWARD -i %i -j ACCEPT",
            "PostDown = ip6tables -D FORWARD -i %i -j ACCEPT",
            "PostDown = iptables -t mangle -D FORWARD -o %i -j ACCEPT",
        ],
        // Going down by this very file would write over it.
        SECOND => &["SaveConfig = true"],
        NEW => &[
            "ListenPort = 20062",
            "PostUp = iptables -I FORWARD -i %i -j ACCEPT",
            "PostDown = iptables -D FORWARD -i %i -j ACCEPT",
        ],
        FAILS => &[
            "PostUp = iptables -A FORWARD -o %i -j ACCEPT",
            &format!("PostUp = {absent}"),
            "PostUp = iptables -A OUTPUT -o %i -j ACCEPT",
        ],
        LEAVES => &[
            "PostUp = iptables -A OUTPUT -o %i -j ACCEPT",
            &format!("PostDown = {absent}"),
            "PostDown = iptables -D OUTPUT -o %i -j ACCEPT",
        ],
        NEVER => &[&format!("PreUp = {absent}")],
        STAYS => &[&format!("PreDown = {absent}")],
        _ => &[],
    };
    for hook in hooks {
        text.push_str(hook);
        text.push('\n');
    }
    match n {
        FIRST => text.push_str(&format!(
            "\n[Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = 10.61.1.0/24, fd61:1::/64\n\
             Endpoint = 127.0.0.1:20999\nPersistentKeepalive = 25\n\
             \n[Peer]\nPublicKey = {}\nAllowedIPs = 10.61.2.0/24\n",
            key('p'),
            key('s'),
            key('q')
        )),
        REFUSED => text.push_str("\n[Peer]\nAllowedIPs = 10.67.1.0/24\n"),
        _ => text.push_str(&format!(
            "\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.6{n}.9.0/24\n",
            key('p')
        )),
    }
    text
}

/// Rules to load: good ones; half good ones; a table's policy alone; a table that there is not; no end.
fn loads(family: Family, n: usize, names: &[String]) -> String {
    let (first, new) = (&names[FIRST], &names[NEW]);
    let network = match family {
        V4 => "10.61.0.0/16",
        V6 => "fd61::/16",
    };
    match n {
        0 => format!(
            "# a comment\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [7:8]\n:OUTPUT ACCEPT [0:0]\n:OWN - [0:0]\n\
             -A FORWARD -i eth0 -o {first} -j ACCEPT\n-A FORWARD -i {new} -j ACCEPT\n-A FORWARD -j OWN\n\
             -A OWN -s {network} -j RETURN\nCOMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n\
             :OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o {first} -j MASQUERADE\nCOMMIT\n"
        ),
        1 => format!(
            "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i {new} -j DROP\nCOMMIT\n\
             *nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o {new} -j NOWHERE\nCOMMIT\n"
        ),
        2 => "*filter\n:INPUT DROP [0:0]\nCOMMIT\n".to_owned(),
        3 => "*nonsense\n:INPUT ACCEPT [0:0]\nCOMMIT\n".to_owned(),
        _ => format!("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -o {new} -j DROP\n"),
    }
}
const LOADS: usize = 5;

/// Lines for `--noflush`: each is good, or good once, or only once there is what it names.
fn edits(n: usize, names: &[String]) -> String {
    let (first, second) = (&names[FIRST], &names[SECOND]);
    match n {
        0 => format!("*filter\n-A FORWARD -i {second} -j ACCEPT\nCOMMIT\n"),
        1 => format!("*filter\n-D FORWARD -i {second} -j ACCEPT\nCOMMIT\n"),
        2 => "*filter\n:OWN - [0:0]\n-A OWN -j RETURN\n-A FORWARD -j OWN\nCOMMIT\n".to_owned(),
        3 => "*filter\n-A NOWHERE -j ACCEPT\nCOMMIT\n".to_owned(),
        4 => format!(
            "*nat\n-A POSTROUTING -o {first} -j MASQUERADE\nCOMMIT\n\
             *filter\n-A FORWARD -o {first} -j ACCEPT\n-D FORWARD -o absent -j ACCEPT\nCOMMIT\n"
        ),
        5 => "*mangle\n:FORWARD DROP [0:0]\nCOMMIT\n".to_owned(),
        6 => format!("*filter\n-I FORWARD -o {first} -j DROP\nCOMMIT\n"),
        _ => "*filter\n-A FORWARD -j OWN\nCOMMIT\n".to_owned(),
    }
}
const EDITS: usize = 8;

/// What `nft` is told.
fn nft(n: usize, fence: &FenceRules) -> String {
    match n {
        0 => fence_rules::closed(fence),
        1 => fence_rules::lifted(),
        2 => "nonsense\n".to_owned(),
        3 => "delete table inet holdfast\n".to_owned(),
        // All or nothing.
        4 => format!("{}delete table ip6 raw\n", fence_rules::lifted()),
        5 => "add table ip mangle\ndelete table ip mangle\n".to_owned(),
        _ => "add table ip6 filter\ndelete table ip6 filter\n".to_owned(),
    }
}
const NFTS: usize = 7;

/// The steps that are not about files. Each is run, and observed, in these directions.
const MOVES: [(Step, Direction); 13] = [
    (Step::Fence, Onward),
    (Step::Fence, Back),
    (Step::StopServices, Onward),
    (Step::TunnelsDown, Onward),
    (Step::ResetRules, Onward),
    (Step::TunnelsUp, Onward),
    (Step::TunnelsUp, Back),
    (Step::StartServices, Onward),
    (Step::LoadFirewall, Onward),
    (Step::LoadFirewall, Back),
    (Step::VerifyRunning, Onward),
    (Step::VerifyRunning, Back),
    (Step::LiftFence, Onward),
];

/// One of the two hosts.
struct Side<'c> {
    host: &'c dyn Machine,
    course: &'c Course,
    permit: Permit,
    facts: Facts,
    same_boot: bool,
    dir: PathBuf,
}

impl<'c> Side<'c> {
    fn new(host: &'c dyn Machine, course: &'c Course) -> Side<'c> {
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

    fn env(&self) -> Env<'_> {
        Env {
            host: self.host,
            plan: &self.course.plan,
            dir: &self.dir,
            facts: &self.facts,
            source: None,
            same_boot: self.same_boot,
            served: true,
            loaded: false,
        }
    }

    fn runs(&self) -> bool {
        let active = Query::ServiceActive(self.course.service.clone());
        self.host.ask(&active, "").unwrap().ok()
    }

    /// The gateway of the simulator brings its clients up when it starts, as the one in the field does, and the sample's
    /// does not: it is started where they are up. No database is settled that someone has open.
    fn makes_sense(&self, call: &Call) -> bool {
        let up = tunnels_up(self.host);
        match call {
            Settle(_) => !self.runs(),
            // It would write over the file.
            Down(SECOND) => false,
            _ if starts(call) => self.course.names[..2].iter().all(|n| up.contains(n)),
            _ => true,
        }
    }

    /// What was read, as a person would compare it.
    fn read_facts(&mut self) -> Vec<String> {
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

    /// What it answers; none if it refuses.
    fn answer(&mut self, call: &Call) -> Option<Vec<String>> {
        let c = self.course;
        let (command, input) = match call {
            Up(n) => (GatewayCommand::TunnelUp(c.config(*n)), String::new()),
            Down(n) => (GatewayCommand::TunnelDown(c.config(*n)), String::new()),
            Load(family, n) => (
                GatewayCommand::LoadRules(*family),
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
            Settle(n) => {
                let path = &c.databases[*n];
                let settled = self.host.settle_database(&self.permit, path).ok()?;
                let left =
                    engine::plan::side_files::side_files_there(self.host, &text(path)).unwrap();
                let whole = settled == engine::gateway::database::Settled::Whole;
                return Some(vec![format!("whole {whole}, beside it {left:?}")]);
            }
            Call::Facts => return Some(self.read_facts()),
            SameBoot(same) => {
                self.same_boot = *same;
                return Some(Vec::new());
            }
            Move(step, direction) => {
                let (env, ops) = (self.env(), ops(*step));
                let report = match direction {
                    Onward => ops.forward(&env, &self.permit, &[]),
                    Back => ops.back(&env, &self.permit, &[]),
                }
                .ok()?;
                let warned = format!("{} warnings", report.warnings.len());
                return Some([report.did, vec![warned]].concat());
            }
        };
        let out = self.host.run(&self.permit, &command, &input).unwrap();
        out.ok().then(Vec::new)
    }

    /// All that there is to see.
    fn looks(&self) -> Vec<String> {
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
            let observed = ops(step).observe(&self.env(), direction, &[]);
            // In each chain rules have an order; chains among each other have none.
            let observed = format!("{:?}", observed.unwrap());
            let (seen_as, what) = observed.split_once('"').unwrap_or((&observed, ""));
            let mut parts: Vec<&str> = what.trim_end_matches("\")").split("; ").collect();
            parts.sort_unstable();
            seen.push(format!("{step} {direction:?}: {seen_as} {parts:?}"));
        }
        seen
    }
}

/// Rules without what says nothing: counters, policies that are the kernel's own, tables in which nothing is.
fn plain_rules(saved: &str) -> String {
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

/// Runs the test of this name a second time, in a sandbox in which nothing is up yet. There, does it.
fn inside(test: &str, act: impl FnOnce(&Course)) {
    if let Some(root) = std::env::var_os(INSIDE) {
        // A sandbox has this; never the machine's own namespaces.
        assert!(Path::new("/run/boot_id").exists(), "this is no sandbox");
        return act(&Course::new(&Sample::open(root).unwrap()));
    }
    let shape = Shape {
        active: 2,
        wal: true,
        strangers: false,
        ..Shape::of(4)
    };
    let make = |folder: &Path| Sample::generate(&folder.join("gateway"), &shape).unwrap();
    let Some(gateway) = Gateway::bare(make) else {
        return;
    };
    let me = std::env::current_exe().unwrap();
    let test = format!("commands_agree::{test}");
    let argv = [path(&me), "--exact", &test, "--nocapture"];
    let mut again = gateway.sandbox.command(&argv);
    again.env(INSIDE, gateway.sample().root());
    let ended = gateway.sandbox.spawn_command(again).unwrap();
    let ended = ended.wait().unwrap();
    assert!(
        ended.code() == 0 && ended.stdout.contains("1 passed"),
        "{ended}"
    );
    print!("{}", ended.stdout);
}

fn agreed(course: &Course, script: &[Call]) {
    if let Err(unlike) = course.agree(script) {
        panic!("{unlike}");
    }
}

#[test]
fn a_restores_commands_there_and_back_do_the_same_on_both() {
    inside(
        "a_restores_commands_there_and_back_do_the_same_on_both",
        |course| {
            let onward = |step| Move(step, Onward);
            let back = |step| Move(step, Back);
            let mut script = vec![Up(FIRST), Up(SECOND), Up(LEAVES), Start];
            script.extend([PeersAdd(FIRST, 0), PeerRemove(FIRST, 0), Edit(V6, 2)]);
            script.push(Call::Facts);
            script.extend([onward(Step::Fence), onward(Step::StopServices)]);
            script.extend([onward(Step::TunnelsDown), onward(Step::ResetRules)]);
            script.extend([onward(Step::TunnelsUp), Up(SECOND)]);
            script.extend([onward(Step::StartServices), onward(Step::LoadFirewall)]);
            script.extend([onward(Step::VerifyRunning), onward(Step::LiftFence)]);
            script.extend([back(Step::Fence), back(Step::StopServices)]);
            script.extend([back(Step::TunnelsDown), back(Step::TunnelsUp)]);
            script.extend([back(Step::StartServices), back(Step::LoadFirewall)]);
            script.extend([back(Step::VerifyRunning), back(Step::LiftFence)]);
            agreed(course, &script);
        },
    );
}

#[test]
fn tunnels_come_and_go_with_their_hooks_alike_on_both() {
    inside(
        "tunnels_come_and_go_with_their_hooks_alike_on_both",
        |course| {
            let mut script = Vec::new();
            for n in 0..TUNNELS {
                script.extend([Down(n), Up(n), Up(n), Down(n), Down(n)]);
            }
            // Its rules are gone before its hooks take them out.
            script.extend([
                Up(FIRST),
                Load(V4, 2),
                Down(FIRST),
                Load(V6, 2),
                Down(FIRST),
            ]);
            agreed(course, &script);
        },
    );
}

#[test]
fn rules_are_loaded_edited_and_refused_alike_on_both() {
    inside(
        "rules_are_loaded_edited_and_refused_alike_on_both",
        |course| {
            for family in Family::BOTH {
                let mut script = Vec::new();
                for n in 0..EDITS {
                    script.extend([Edit(family, n), Edit(family, n)]);
                }
                for n in 0..LOADS {
                    script.extend([Load(family, n), Edit(family, 4), Edit(family, 7)]);
                }
                agreed(course, &script);
            }
        },
    );
}

#[test]
fn the_fence_and_peers_are_set_alike_on_both() {
    inside("the_fence_and_peers_are_set_alike_on_both", |course| {
        let mut script = vec![Load(V4, 0), Edit(V4, 5)];
        for n in 0..NFTS {
            script.extend([Nft(n), Nft(0), Nft(n)]);
        }
        script.extend([PeersAdd(FIRST, 0), PeerRemove(FIRST, 0), Up(FIRST)]);
        for n in 0..PEERS_ADDED {
            script.extend([PeersAdd(FIRST, n), PeerRemove(FIRST, n % 3), Call::Facts]);
            script.push(PeersAdd(FIRST, n));
        }
        agreed(course, &script);
    });
}

#[test]
fn the_service_and_its_databases_answer_alike_on_both() {
    inside(
        "the_service_and_its_databases_answer_alike_on_both",
        |course| {
            let settle = || (0..5).map(Settle);
            let mut script: Vec<Call> = settle().collect();
            script.extend([
                Stop,
                Up(FIRST),
                Up(SECOND),
                Start,
                Start,
                Forward(V4, true),
                Forward(V6, true),
            ]);
            script.extend([Call::Facts, Stop, Stop]);
            script.extend(settle());
            script.extend([Start, Move(Step::StopServices, Onward), SameBoot(false)]);
            script.extend([Forward(V4, false), Forward(V6, false)]);
            script.push(Move(Step::LoadFirewall, Back));
            agreed(course, &script);
        },
    );
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let family = || prop_oneof![2 => Just(V4), 1 => Just(V6)];
    let call = prop_oneof![
        5 => (0..TUNNELS).prop_map(Up),
        3 => (0..TUNNELS).prop_map(Down),
        2 => (family(), 0..LOADS).prop_map(|(f, n)| Load(f, n)),
        3 => (family(), 0..EDITS).prop_map(|(f, n)| Edit(f, n)),
        2 => (0..NFTS).prop_map(Nft),
        1 => (0..TUNNELS, 0..PEERS_ADDED).prop_map(|(t, n)| PeersAdd(t, n)),
        1 => (0..TUNNELS, 0..PEERS_REMOVED.len()).prop_map(|(t, n)| PeerRemove(t, n)),
        2 => Just(Start),
        1 => Just(Stop),
        1 => (family(), any::<bool>()).prop_map(|(f, on)| Forward(f, on)),
        1 => (0..5_usize).prop_map(Settle),
        2 => Just(Call::Facts),
        1 => any::<bool>().prop_map(SameBoot),
        10 => (0..MOVES.len()).prop_map(|n| Move(MOVES[n].0, MOVES[n].1)),
    ];
    // Some begin with the gateway up.
    let begin = prop_oneof![
        1 => Just(Vec::new()),
        2 => Just(vec![Up(FIRST), Up(SECOND), Start, Call::Facts]),
    ];
    (begin, proptest::collection::vec(call, 1..10)).prop_map(|(mut begin, calls)| {
        begin.extend(calls);
        begin
    })
}

#[test]
fn whatever_is_run_on_a_gateway_the_simulator_answers_as_the_system_does() {
    inside(
        "whatever_is_run_on_a_gateway_the_simulator_answers_as_the_system_does",
        |course| {
            each_of(5, 40, &calls(), |script| course.agree(&script));
        },
    );
}
