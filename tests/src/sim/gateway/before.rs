//! A gateway as it is before: how it is set up, and what a survey finds of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use engine::gateway::kernel_facts::Facts;
use engine::gateway::parts::Part;
use engine::gateway::profile::Profile;
use engine::host::{Family, Look, Query};
use engine::survey::Survey;
use journal_format::{FileFacts, Problem};

use super::{CONFIGS, Client, PEERS, SERVICE, STATE, Shape, Was, active, config, database};
use crate::sim::host::{Places, Sim};
use crate::sim::kernel::save;
use crate::sim::peers::{self, Setting};
use crate::sim::world::{WIREGUARD, World};

/// Sets it up.
pub fn before(world: &mut World, shape: &Shape, databases: &[String]) {
    let disk = &mut world.disk;
    for dir in ["backups", "restores", "spool"] {
        disk.make_dirs(&Path::new(STATE).join(dir));
    }
    for dir in [WIREGUARD, CONFIGS] {
        disk.make_dirs(Path::new(dir));
        for client in &shape.clients {
            if let Some(version) = client.before {
                let held = config(&client.name, version, client.saves);
                disk.put(&format!("{dir}/{}.conf", client.name), &held, 0o640);
            }
        }
    }
    disk.put("/etc/wireguard/others.conf", b"not the gateway's", 0o600);
    disk.put("/etc/iptables/rules.v4", b"*filter\nCOMMIT\n", 0o644);
    disk.put("/etc/iptables/rules.v6", b"*filter\nCOMMIT\n", 0o644);
    let clients = active(shape, |c| c.before.is_some() && c.up_before);
    for (n, (path, was)) in databases.iter().zip(shape.databases).enumerate() {
        let text = database(&format!("db{n}"), 1, if n == 0 { &clients } else { &[] });
        match was {
            Was::Absent => {
                let dir = Path::new(path).parent().unwrap_or(Path::new("/"));
                disk.make_dirs(dir);
                continue;
            }
            Was::Plain => {}
            Was::Log => {
                let log = format!("db db{n} 1\nrow of the log\n");
                disk.put(&format!("{path}-wal"), log.as_bytes(), 0o640);
            }
            Was::HotJournal => disk.put(&format!("{path}-journal"), text.as_bytes(), 0o640),
            Was::Unreadable => {
                disk.put(&format!("{path}-wal"), b"garbage log\n", 0o640);
                disk.put(path, b"garbage\n", 0o660);
                continue;
            }
        }
        disk.put(path, text.as_bytes(), 0o660);
    }
    disk.sync_all();
    world.unread = shape.unread;
    world.fails_with = shape.falters.then(|| "db db0 1".to_owned());
    world.start_gateway();
    world.kernel.forwards.insert(Family::V4, true);
    for client in shape.clients.iter().filter(|c| c.saves) {
        if let Some(up) = world.kernel.tunnels.get_mut(&client.name) {
            peers::set(&mut up.peers, &Setting::plain(PEERS[1], "10.250.0.0/16"));
        }
    }
    // A service that does not run writes nothing as it stops.
    let written = |c: &&Client| !shape.falters && c.before != c.after;
    let replaced = shape.clients.iter().find(written);
    if let Some((client, version)) = replaced.and_then(|c| Some((c, c.before?))) {
        let mut held = config(&client.name, version, client.saves);
        held.extend(b"# its service wrote this as it stopped\n");
        world.unwritten = Some((format!("{CONFIGS}/{}.conf", client.name), held));
    }
    world.disk.sync_all();
}

/// What a survey of it finds.
pub fn survey(world: &World, profile: &Profile, shape: &Shape) -> Result<Survey, Vec<Problem>> {
    let look = Sim::new(
        world.clone(),
        &Places {
            state_dir: STATE.into(),
            journal: PathBuf::new(),
            barrier: PathBuf::new(),
            names: BTreeSet::new(),
            staging: BTreeSet::new(),
        },
        None,
        false,
    );
    let one = |p: Problem| vec![p];
    let held = |path: &Path| -> Result<Option<FileFacts>, Problem> {
        Ok(match look.stat(path)? {
            Some(meta) => Some(meta.with(look.sha256(path)?)),
            None => None,
        })
    };
    let mut folders = Vec::new();
    for dir in [&profile.gateway.configs_dir, &profile.gateway.wireguard_dir] {
        let mut found = BTreeMap::new();
        for client in &shape.clients {
            let name = format!("{}.conf", client.name);
            if let Some(there) = held(&dir.join(&name)).map_err(one)? {
                found.insert(name, there);
            }
        }
        folders.push(found);
    }
    let wireguard = folders.pop().unwrap_or_default();
    let configs = folders.pop().unwrap_or_default();
    let mut databases = BTreeMap::new();
    for database in &profile.gateway.database {
        if let Some(meta) = look.stat(&database.path).map_err(one)? {
            databases.insert(database.name.clone(), meta);
        }
    }
    let mut kept = Vec::new();
    for (family, path) in Family::BOTH.into_iter().zip(&profile.gateway.firewall.kept) {
        if let Some(there) = held(path).map_err(one)? {
            kept.push((family, path.clone(), there));
        }
    }
    Ok(Survey {
        exposure: Default::default(),
        boot: look.boot().map_err(one)?,
        facts: facts(&look, world, shape).map_err(one)?,
        configs,
        wireguard,
        no_files: BTreeSet::new(),
        databases,
        kept,
        kept_at: BTreeMap::new(),
        clients: None,
        users: BTreeMap::new(),
        mail: BTreeMap::new(),
        links: world.kernel.tunnels.keys().cloned().collect(),
        owner: (990, 990),
        warnings: Vec::new(),
    })
}

fn facts(look: &Sim, world: &World, shape: &Shape) -> Result<Facts, Problem> {
    let tunnels: Vec<String> = world.kernel.tunnels.keys().cloned().collect();
    Ok(Facts {
        rules_v4: Some(save(&world.kernel.v4)),
        rules_v6: Some(save(&world.kernel.v6)).filter(|_| shape.unread.is_none()),
        unread: shape
            .unread
            .map(|family| (Part::Rules(family), "they are mixed".to_owned()))
            .into_iter()
            .collect(),
        ip_forward: world.kernel.forwards.get(&Family::V4).copied(),
        ipv6_forward: world.kernel.forwards.get(&Family::V6).copied(),
        interfaces: tunnels.clone(),
        peers: engine::gateway::peers::in_dump(&look.ask(&Query::Peers, "")?.stdout, &tunnels),
        tunnels,
        services: vec![SERVICE.into()],
        faltering: shape.falters.then(|| SERVICE.into()).into_iter().collect(),
        ..Facts::default()
    })
}
