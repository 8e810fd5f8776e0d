//! A gateway as it is before: how it is set up.

use std::path::Path;

use engine::host::Family;

use super::{CONFIGS, Client, PEERS, STATE, Shape, Was, active, config, database};
use crate::sim::link::SetByHand;
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
    // One that never runs with what is there did not run before either; any other has started well so far.
    if shape.start.never_runs {
        world.start = shape.start.clone();
    }
    world.start_gateway();
    world.start = shape.start.clone();
    world.kernel.forwards.insert(Family::V4, true);
    for client in shape.clients.iter().filter(|c| c.saves) {
        if let Some(up) = world.kernel.tunnels.get_mut(&client.name) {
            peers::set(&mut up.peers, &Setting::plain(PEERS[1], "10.250.0.0/16"));
        }
    }
    for (name, up) in &mut world.kernel.tunnels {
        if shape.by_hand == Some(name.as_str()) {
            up.by_hand = SetByHand::some_of(name);
        }
    }
    // A service that does not run writes nothing as it stops.
    let written = |c: &&Client| !shape.start.never_runs && c.before != c.after;
    let replaced = shape.clients.iter().find(written);
    if let Some((client, version)) = replaced.and_then(|c| Some((c, c.before?))) {
        let mut held = config(&client.name, version, client.saves);
        held.extend(b"# its service wrote this as it stopped\n");
        world.unwritten = Some((format!("{CONFIGS}/{}.conf", client.name), held));
    }
    world.disk.sync_all();
}
