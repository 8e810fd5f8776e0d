//! Gateways to restore: one that uses every feature at once, one whose backup lacks parts, one with a database that cannot
//! be read. Owns what each was before, and what the backup says; the engine's own survey and planner make the plan.

mod backup;
mod before;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use engine::error::{Code, cannot};
use engine::gateway::kernel_facts::Facts;
use engine::gateway::profile::Profile;
use engine::host::Family;
use engine::plan::planner::{self, Choices};
use engine::restore::step::Source;
use engine::survey;
use journal_format::{Digest, Format, Plan, Policy, Problem, RestoreId};
use sha2::Digest as _;

use backup::{Building, backup, surplus};
use before::before;

use super::host::{Places, Sim};
use super::peers::{self, Setting};
use super::world::{Picture, ServiceStart, World};

/// What no journal may hold (I7).
pub const SECRET: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
/// A peer of every tunnel, by its config; one that was set while a tunnel ran; and one that was set while the backup was made.
const PEERS: [&str; 3] = [
    "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=",
    "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
    "bHXnZ3T2zYgKQ0fOzq1sWJVjK4Jq2m3XwzRr0H5b3Qw=",
];

const CONFIGS: &str = "/opt/wireguard-gateway/instance/configs";
pub(super) const STATE: &str = "/var/lib/holdfast";

/// Which gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Three databases, side files, tunnels that change, go, come and stay, hooks, both families, three filesystems.
    Everything,
    /// The backup lacks a database, the IPv6 rules and forwarding, and brings a database that is not there yet.
    PartsMissing,
    /// A database of the gateway is damaged, with side files beside it.
    Unreadable,
    /// Everything, and the service fails at each start with what is there before.
    Faltering,
    /// A database of the backup is there as bytes alone, with those of its side files; the present one is damaged as well.
    Raw,
    /// Everything, and the IPv6 rules cannot be read; the admin accepts a restore without the firewall.
    RulesUnread,
}

/// How a database is before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Was {
    /// Not there.
    Absent,
    /// One file is all of it.
    Plain,
    /// Rows are in its log only.
    Log,
    /// A transaction was cut off: a hot journal holds the content from before it.
    HotJournal,
    /// It cannot be read, and a side file lies beside it.
    Unreadable,
}

/// A client, before and in the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// The version of its config that is there before.
    pub before: Option<u32>,
    /// The version that the backup has.
    pub after: Option<u32>,
    /// `SaveConfig` is in the config of before.
    pub saves: bool,
    /// The same in the backup's.
    pub saves_after: bool,
    /// It is up before.
    pub up_before: bool,
    /// It is up afterwards.
    pub up_after: bool,
}

/// What differs from one gateway and backup to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The databases `configs.db`, `wireguard.db` and `app.db`.
    pub databases: [Was; 3],
    /// Which of them the backup has.
    pub backed_up: [bool; 3],
    /// The third is in the backup as bytes that nobody can read, with the files beside it whose names end so.
    pub raw: Option<Vec<&'static str>>,
    /// The clients.
    pub clients: Vec<Client>,
    /// The backup has IPv4 rules.
    pub v4: bool,
    /// The backup has IPv6 rules.
    pub v6: bool,
    /// What the backup says about forwarding of IPv4, and of IPv6.
    pub forwards: [Option<bool>; 2],
    /// This client's tunnel had these peers when the backup was made, in whatever way they came to it.
    pub peers: Option<&'static str>,
    /// Of this client's tunnel something is set by hand.
    pub by_hand: Option<&'static str>,
    /// Filesystems of their own.
    pub mounts: Vec<&'static str>,
    /// How the service starts.
    pub start: ServiceStart,
    /// The rules of this family cannot be read.
    pub unread: Option<Family>,
}

/// The first line of the clients' database that is there before.
pub const OLD: &str = "db db0 1";
/// The same, as the backup brings it.
pub const NEW: &str = "db db0 2";

impl Kind {
    /// How its service starts. As in the field, a start fails where it cannot bring a client up: with what is there before,
    /// so on the way back; or once with what the backup brings. One gateway's service passes over such clients.
    fn start(self) -> ServiceStart {
        match self {
            Kind::Everything | Kind::RulesUnread => ServiceStart::lifelike(&["gone"], OLD),
            Kind::PartsMissing => ServiceStart::lifelike(&["stay", "gone"], OLD),
            Kind::Raw => ServiceStart {
                times: 1,
                ..ServiceStart::lifelike(&["new"], NEW)
            },
            Kind::Unreadable => ServiceStart::polite(),
            Kind::Faltering => ServiceStart {
                never_runs: true,
                ..ServiceStart::lifelike(&[], OLD)
            },
        }
    }

    /// The gateway of this kind.
    pub fn shape(self) -> Shape {
        let client = |name: &str, before, after, saves| Client {
            name: name.to_owned(),
            before,
            after,
            saves,
            saves_after: false,
            up_before: before.is_some(),
            up_after: after.is_some(),
        };
        let parts_missing = self == Kind::PartsMissing;
        Shape {
            databases: [
                Was::Plain,
                if parts_missing {
                    Was::Absent
                } else {
                    Was::HotJournal
                },
                match self {
                    Kind::Unreadable | Kind::Raw => Was::Unreadable,
                    Kind::Everything | Kind::PartsMissing | Kind::Faltering | Kind::RulesUnread => {
                        Was::Log
                    }
                },
            ],
            backed_up: [true, true, !parts_missing],
            raw: (self == Kind::Raw).then(|| vec!["-wal", "-journal"]),
            clients: vec![
                client("stay", Some(1), Some(1), false),
                client("change", Some(2), Some(22), true),
                client("gone", Some(3), None, false),
                client("new", None, Some(4), false),
            ],
            v4: true,
            v6: !parts_missing && self != Kind::RulesUnread,
            forwards: [Some(false), Some(true)].map(|on| on.filter(|_| !parts_missing)),
            peers: (!parts_missing).then_some("change"),
            by_hand: parts_missing.then_some("stay"),
            mounts: vec!["/opt", "/var/lib/wireguard-gateway"],
            start: self.start(),
            unread: (self == Kind::RulesUnread).then_some(Family::V6),
        }
    }
}

/// A gateway, a backup, and the plan to restore it.
pub struct Scenario {
    /// The profile.
    pub profile: Profile,
    /// The restore's name.
    pub id: RestoreId,
    /// The world before.
    pub world: World,
    /// The plan.
    pub plan: Arc<Plan>,
    /// The version of its journal.
    pub format: Format,
    /// Kernel facts of before.
    pub facts: Facts,
    /// The rules to load.
    pub rules: BTreeMap<&'static str, String>,
    /// The places of this restore.
    pub places: Places,
    /// The gateway as it was.
    pub before: Picture,
    /// The gateway as the backup says.
    pub after: Picture,
    /// What the file held that the service writes to as it stops.
    pub unwritten: Option<(String, String)>,
    /// What the backup sets besides of a tunnel's peers.
    peers: Vec<(String, Setting)>,
    entries: BTreeMap<String, Vec<u8>>,
}

impl Source for Scenario {
    fn copy(&self, entry: &str, out: &mut dyn Write) -> Result<(), Problem> {
        let bytes = self.entries.get(entry).ok_or_else(|| {
            cannot(
                Code::IO,
                format!("unpack {entry}: no such entry"),
                "restore again",
            )
        })?;
        out.write_all(bytes)
            .map_err(|e| cannot(Code::IO, format!("unpack {entry}: {e}"), "restore again"))
    }
}

fn config(name: &str, version: u32, saves: bool) -> Vec<u8> {
    let mut text = format!(
        "[Interface]\nPrivateKey = {SECRET}\nAddress = 10.{version}.0.1/24\n# {name} {version}\n"
    );
    if saves {
        text.push_str("SaveConfig = true\n");
    }
    for (key, action) in [("PostUp", "-A"), ("PostDown", "-D")] {
        text.push_str(&format!(
            "{key} = iptables -t nat {action} PREROUTING -i %i -j ACCEPT\n\
             {key} = ip6tables {action} FORWARD -i %i -s fd00:{version}::/64 -j ACCEPT\n"
        ));
    }
    text.push_str(&format!(
        "[Peer]\nPublicKey = {}\nAllowedIPs = 10.{version}.0.0/24\n",
        PEERS[0]
    ));
    text.into_bytes()
}

fn database(name: &str, version: u32, clients: &[&str]) -> String {
    let mut text = format!("db {name} {version}\nrow {name} of {version}\n");
    for client in clients {
        text.push_str(&format!("client {client} active\n"));
    }
    text
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of_bytes(sha2::Sha256::digest(bytes).into())
}

impl Scenario {
    /// A gateway of this kind, whose admin chose this policy.
    pub fn new(kind: Kind, policy: Policy) -> Result<Scenario, Vec<Problem>> {
        Scenario::of(&kind.shape(), policy)
    }

    /// A gateway of this shape; or every reason why its backup cannot be restored.
    pub fn of(shape: &Shape, policy: Policy) -> Result<Scenario, Vec<Problem>> {
        let profile = Profile::default();
        let databases: Vec<String> = profile
            .gateway
            .database
            .iter()
            .map(|d| d.path.display().to_string())
            .collect();
        let names: Vec<&str> = databases.iter().map(String::as_str).collect();
        let mut world = World::new(&shape.mounts, &names);
        before(&mut world, shape, &databases);
        let mut building = Building {
            entries: BTreeMap::new(),
        };
        let (backup, rules) = backup(&mut building, shape);
        let id = RestoreId::new("20261122T185220Z-0a1b2c3d")
            .map_err(|e| vec![cannot(Code::IO, e.to_string(), "name it")])?;
        let look = Sim::new(world.clone(), &Places::nowhere(), None, false);
        let survey = survey::survey(&look, &profile, &|c| backup.checked.configs.contains_key(c))?;
        let choices = Choices {
            keep_going_without_firewall: shape.unread.is_some(),
            keep_open_folders: false,
            policy,
            without_safety_backup_of: BTreeSet::new(),
            keep_going_without_services: false,
            leave_down: BTreeSet::new(),
            full_stop: true,
        };
        let networks = BTreeMap::new();
        let plan = planner::plan(&profile, &survey, &networks, &backup, &id, choices)?;
        let journal = profile.restore_dir(&id).join("journal");
        let places = Places::of(&plan, Path::new(STATE), journal, profile.barrier());
        // A file that the restore leaves alone is no part of it.
        let is_target = |path: &String| plan.files.iter().any(|t| t.path == *path);
        world.unwritten = world.unwritten.filter(|(path, _)| is_target(path));
        let mut stopped = world.clone();
        let unwritten = stopped.unwritten.clone().map(|(path, bytes)| {
            let older = stopped.disk.read(Path::new(&path)).unwrap_or_default();
            // The world is this module's own: the file is there.
            let _ = stopped.disk.rewrite(Path::new(&path), bytes);
            (path, String::from_utf8_lossy(&older).into_owned())
        });
        let before = stopped.picture(&[STATE]);
        let mut scenario = Scenario {
            format: Format::CURRENT,
            after: before.clone(),
            before,
            unwritten,
            facts: survey.facts,
            profile,
            id,
            world,
            plan: Arc::new(plan),
            rules,
            places,
            peers: surplus(shape),
            entries: building.entries,
        };
        scenario.after = scenario.wished();
        Ok(scenario)
    }

    /// What the backup says: its files in place, the machine booted over them, its rules loaded.
    fn wished(&self) -> Picture {
        let mut disk = self.world.disk.clone();
        for target in self.plan.databases.iter().chain(&self.plan.files) {
            for side in super::world::side_files(&target.path) {
                // Those of the old database are not the new one's.
                let _ = disk.remove(Path::new(&side));
            }
            let _ = disk.remove(Path::new(&target.path));
            if let (Some(new), Some(bytes)) = (&target.new, self.entries.get(&target.entry)) {
                disk.put(&target.path, bytes, new.mode);
                let held = disk.get(Path::new(&target.path)).map(|i| i.now.clone());
                if let (Some(object), Some(held)) = (disk.find(Path::new(&target.path)), held) {
                    let (uid, gid) = (new.uid, new.gid);
                    disk.write(object, super::disk::Held { uid, gid, ..held });
                }
            }
        }
        let mut world = self.world.reboot(disk);
        world.start.cannot.clear();
        world.start_gateway();
        let mut picture = world.picture(&[STATE]);
        for (family, lines) in [
            (Family::V4, &mut picture.running.v4),
            (Family::V6, &mut picture.running.v6),
        ] {
            if let Some(text) = self.rules.get(family.rules_file()) {
                *lines = lines_of(text);
            }
        }
        let firewall = &self.plan.firewall;
        let planned = [
            (Family::V4, firewall.ip_forward),
            (Family::V6, firewall.ipv6_forward),
        ];
        let before = &self.before.running.forwards;
        picture.running.forwards = before.clone();
        for (family, on) in planned {
            picture.running.forwards.extend(on.map(|on| (family, on)));
        }
        let surplus = self
            .plan
            .peers
            .is_some()
            .then_some(self.peers.iter())
            .into_iter()
            .flatten();
        for (tunnel, setting) in surplus {
            if let Some(up) = picture.running.tunnels.get_mut(tunnel) {
                peers::set(&mut up.peers, setting);
            }
        }
        picture
    }
}

fn lines_of(text: &str) -> Vec<String> {
    let mut world = World::new(&[], &[]);
    for batch in super::kernel::batches(text) {
        // The text is this module's own.
        if let Ok(table) = batch.apply(&BTreeMap::new()) {
            world.kernel.v4.insert(batch.table.clone(), table);
        }
    }
    world.picture(&[]).running.v4
}

fn active(shape: &Shape, is: impl Fn(&Client) -> bool) -> Vec<&str> {
    let clients = shape.clients.iter().filter(|c| is(c));
    clients.map(|c| c.name.as_str()).collect()
}
