//! What the backup of a gateway has, and which entries hold it.

use std::collections::{BTreeMap, BTreeSet};

use engine::host::Family;
use engine::plan::planner::{BackupForPlan, Wanted};
use engine::text::wg_config::Prefix;
use journal_format::ArchiveInfo;

use super::{PEERS, Shape, active, config, database, digest};
use crate::sim::kernel::{Hook, save};
use crate::sim::peers::{self, Setting};
use crate::sim::world::World;

pub struct Building {
    pub entries: BTreeMap<String, Vec<u8>>,
}

impl Building {
    fn wanted(&mut self, entry: &str, bytes: Vec<u8>) -> Wanted {
        let wanted = Wanted {
            entry: entry.to_owned(),
            sha256: digest(&bytes),
            size: bytes.len() as u64,
            owner: None,
            owner_shown: None,
        };
        self.entries.insert(entry.to_owned(), bytes);
        wanted
    }
}

type Named = BTreeMap<String, Wanted>;
type Beside = BTreeMap<String, Vec<(&'static str, Wanted)>>;

/// The databases, and of one that is there as bytes alone the files beside it.
fn databases(building: &mut Building, shape: &Shape, clients: &[&str]) -> (Named, Beside) {
    let (mut databases, mut beside) = (BTreeMap::new(), BTreeMap::new());
    for (n, name) in ["configs.db", "wireguard.db", "app.db"].iter().enumerate() {
        if !shape.backed_up[n] {
            continue;
        }
        if let (2, Some(sides)) = (n, &shape.raw) {
            let entry = "holdfast/raw/databases/app.db";
            let bytes = b"other garbage\n".to_vec();
            databases.insert((*name).to_owned(), building.wanted(entry, bytes));
            let files = sides.iter().map(|side| {
                let bytes = format!("garbage of {side}\n").into_bytes();
                (*side, building.wanted(&format!("{entry}{side}"), bytes))
            });
            beside.insert((*name).to_owned(), files.collect());
            continue;
        }
        let text = database(&format!("db{n}"), 2, if n == 0 { clients } else { &[] });
        databases.insert((*name).to_owned(), building.wanted(name, text.into_bytes()));
    }
    (databases, beside)
}

/// The configs, which both folders have.
fn configs(building: &mut Building, shape: &Shape) -> Named {
    let mut configs = BTreeMap::new();
    for client in &shape.clients {
        let Some(version) = client.after else {
            continue;
        };
        let file = format!("{}.conf", client.name);
        let held = config(&client.name, version, false);
        let wanted = building.wanted(&format!("configs/{file}"), held);
        configs.insert(file, wanted);
    }
    configs
}

/// The rules by their files: those that the gateway adds for its clients, and one of the box's own.
fn rules(shape: &Shape, clients: &[&str]) -> BTreeMap<&'static str, String> {
    let mut rules = BTreeMap::new();
    let mut world = World::new(&[], &[]);
    // One that names no tunnel: only the backup's whole rules bring it, and nothing but whole rules takes it away.
    let of_the_box = "-A INPUT -p udp --dport 5353 -j ACCEPT".to_owned();
    let mut hooks = vec![(Family::V4, "filter", of_the_box)];
    for name in clients {
        hooks.extend([
            (
                Family::V4,
                "nat",
                format!("-A POSTROUTING -o {name} -j MASQUERADE"),
            ),
            (
                Family::V4,
                "filter",
                format!("-A FORWARD -i eth0 -o {name} -j ACCEPT"),
            ),
            (
                Family::V6,
                "filter",
                format!("-A FORWARD -i {name} -j ACCEPT"),
            ),
        ]);
    }
    for (family, table, line) in hooks {
        let hook = Hook {
            family,
            table: table.into(),
            line,
        };
        // The chains are the kernel's own.
        let _ = world.kernel.hook(&hook);
    }
    if shape.v4 {
        rules.insert(Family::V4.rules_file(), save(&world.kernel.v4));
    }
    if shape.v6 {
        rules.insert(Family::V6.rules_file(), save(&world.kernel.v6));
    }
    rules
}

pub fn backup(
    building: &mut Building,
    shape: &Shape,
) -> (BackupForPlan, BTreeMap<&'static str, String>) {
    let clients = active(shape, |c| c.after.is_some() && c.up_after);
    let (databases, beside) = databases(building, shape, &clients);
    let configs = configs(building, shape);
    let mut rules = rules(shape, &clients);
    let wanted = rules
        .iter()
        .map(|(name, text)| {
            let wanted = building.wanted(&format!("rehearsed/{name}"), text.clone().into_bytes());
            (*name, wanted)
        })
        .collect();
    // One family's file comes back, the other's was not there.
    let mut kept = BTreeMap::new();
    let mut kept_gone = BTreeSet::new();
    if shape.v4 {
        let text = b"*filter\n:INPUT DROP [0:0]\nCOMMIT\n".to_vec();
        kept.insert(Family::V4, building.wanted("holdfast/kept/rules.v4", text));
    }
    if shape.v6 {
        kept_gone.insert(Family::V6);
    }
    let peers = peers_file(shape);
    if let Some(text) = &peers {
        rules.insert(engine::plan::prepare::PEERS, text.clone());
    }
    let backup = BackupForPlan {
        archive: ArchiveInfo {
            name: "backup.zip".into(),
            sha256: digest(b"archive"),
            size: 7,
            created_at: "2026-11-22T18:52:20Z".into(),
            host: None,
            made_by: "gateway".into(),
        },
        databases,
        beside,
        wireguard: configs.clone(),
        configs,
        clients: None,
        users: BTreeMap::new(),
        mail: BTreeMap::new(),
        said: Default::default(),
        aside: Default::default(),
        tunnels_up: clients.iter().map(|c| (*c).to_owned()).collect(),
        networks: shape
            .clients
            .iter()
            .filter(|c| c.before.is_none())
            .filter_map(|c| {
                let network = Prefix::parse(&format!("10.{}.0.0/24", c.after?));
                Some((c.name.clone(), network.into_iter().collect()))
            })
            .collect(),
        rules: wanted,
        ip_forward: shape.forwards[0],
        ipv6_forward: shape.forwards[1],
        peers: peers.map(|text| digest(text.as_bytes())),
        left_out: Default::default(),
        stays: Default::default(),
        parts: Default::default(),
        kept,
        kept_gone,
        warnings: Vec::new(),
    };
    (backup, rules)
}

/// What the backup sets of tunnels' peers besides their configs: one that was added while the tunnel ran.
pub fn surplus(shape: &Shape) -> Vec<(String, Setting)> {
    let comes_up = |name: &&str| active(shape, |c| c.after.is_some() && c.up_after).contains(name);
    let tunnel = shape.peers.filter(|name| comes_up(name));
    let peer = Setting::plain(PEERS[2], "10.251.0.0/16");
    tunnel
        .map(|name| (name.to_owned(), peer))
        .into_iter()
        .collect()
}

/// The file that a plan's digest of peers names.
fn peers_file(shape: &Shape) -> Option<String> {
    let mut all = BTreeMap::new();
    for (tunnel, setting) in surplus(shape) {
        let client = shape.clients.iter().find(|c| c.name == tunnel)?;
        let held = config(&tunnel, client.after?, false);
        let mut set = peers::Peers::new();
        // The config is this module's own.
        for of_config in peers::settings(&String::from_utf8_lossy(&held)).unwrap_or_default() {
            peers::set(&mut set, &of_config);
        }
        peers::set(&mut set, &setting);
        all.extend(engine::gateway::peers::in_dump(
            &peers::dump(&tunnel, &set),
            std::slice::from_ref(&tunnel),
        ));
    }
    (!all.is_empty())
        .then(|| serde_json::to_string(&all).ok())
        .flatten()
}
