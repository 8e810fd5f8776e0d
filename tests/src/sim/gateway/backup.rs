//! What the backup of a gateway has, and which entries hold it.

use std::collections::BTreeMap;

use engine::archive::manifest::{EntryFacts, Manifest};
use engine::archive::verify::{Checked, CheckedConfig, CheckedDatabase, FileInBackup};
use engine::gateway::database::Origin;
use engine::gateway::parts::{Part, PartFate};
use engine::gateway::profile::DatabaseKind;
use engine::host::Family;
use engine::plan::planner::BackupForPlan;
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
    fn file(&mut self, entry: &str, bytes: Vec<u8>) -> FileInBackup {
        let facts = EntryFacts {
            size: bytes.len() as u64,
            sha256: digest(&bytes),
            owner: None,
        };
        self.entries.insert(entry.to_owned(), bytes);
        FileInBackup::new(entry, facts)
    }
}

/// The databases, and of one that is there as bytes alone the files beside it.
fn databases(
    building: &mut Building,
    shape: &Shape,
    clients: &[&str],
) -> BTreeMap<String, CheckedDatabase> {
    let mut databases = BTreeMap::new();
    for (n, name) in ["configs.db", "wireguard.db", "app.db"].iter().enumerate() {
        if !shape.backed_up[n] {
            continue;
        }
        let sides = shape.raw.as_ref().filter(|_| n == 2);
        let entry = "holdfast/raw/databases/app.db";
        let file = match sides {
            Some(_) => building.file(entry, b"other garbage\n".to_vec()),
            None => {
                let text = database(&format!("db{n}"), 2, if n == 0 { clients } else { &[] });
                building.file(name, text.into_bytes())
            }
        };
        let beside = sides.map(|sides| {
            let files = sides.iter().map(|side| {
                let bytes = format!("garbage of {side}\n").into_bytes();
                (*side, building.file(&format!("{entry}{side}"), bytes))
            });
            files.collect()
        });
        let database = CheckedDatabase {
            kind: DatabaseKind::Clients,
            file,
            beside,
            users: Vec::new(),
            mail: None,
        };
        databases.insert((*name).to_owned(), database);
    }
    databases
}

/// The configs, which both folders have.
fn configs(building: &mut Building, shape: &Shape) -> BTreeMap<String, CheckedConfig> {
    let mut configs = BTreeMap::new();
    for client in &shape.clients {
        let Some(version) = client.after else {
            continue;
        };
        let file = format!("{}.conf", client.name);
        let held = config(&client.name, version, client.saves_after);
        let mut checked = CheckedConfig::default();
        checked.first = Some(building.file(&format!("configs/{file}"), held));
        checked.second = checked.first.clone();
        if client.before.is_none() {
            checked.can_be_a_tunnel = true;
            let network = Prefix::parse(&format!("10.{version}.0.0/24"));
            checked.networks = network.into_iter().collect();
        }
        configs.insert(file, checked);
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
    let mut rules = rules(shape, &clients);
    let loaded = Family::BOTH.into_iter().filter_map(|family| {
        let text = rules.get(family.rules_file())?;
        Some((family, Ok(digest(text.as_bytes()))))
    });
    let loaded = loaded.collect();
    let peers = peers_file(shape);
    if let Some(text) = &peers {
        rules.insert(engine::plan::prepare::PEERS, text.clone());
    }
    let mut checked = Checked {
        origin: Origin::Here,
        databases: databases(building, shape, &clients),
        configs: configs(building, shape),
        tunnels_up: clients.iter().map(|c| (*c).to_owned()).collect(),
        lists_configs: true,
        // Of a gateway without clients; else nobody asks for them here.
        clients: shape
            .clients
            .iter()
            .all(|c| c.after.is_none())
            .then(Vec::new),
        ..Checked::default()
    };
    let mut manifest = Manifest {
        ip_forward: shape.forwards[0],
        ipv6_forward: shape.forwards[1],
        ..Manifest::default()
    };
    // One family's file comes back, the other's was not there.
    if shape.v4 {
        let text = b"*filter\n:INPUT DROP [0:0]\nCOMMIT\n".to_vec();
        let file = building.file("holdfast/kept/rules.v4", text);
        checked.kept.insert(Family::V4, file);
    }
    if shape.v6 {
        let part = Part::Kept(Family::V6);
        manifest.parts.insert(part, PartFate::NotThere);
    }
    checked.manifest = Some(manifest);
    let backup = BackupForPlan {
        same_rows: Default::default(),
        archive: ArchiveInfo {
            name: "backup.zip".into(),
            sha256: digest(b"archive"),
            size: 7,
            created_at: "2026-11-22T18:52:20Z".into(),
            host: None,
            made_by: "gateway".into(),
        },
        checked,
        owners: BTreeMap::new(),
        rules: loaded,
        peers: peers.map(|text| digest(text.as_bytes())),
        found: Vec::new(),
        said: Default::default(),
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
