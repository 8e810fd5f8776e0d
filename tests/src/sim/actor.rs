//! What others do to the gateway while a restore works on it: an admin with an editor, a second starter of the service, a
//! tunnel that dies, another program's rule. Owns what each does, the mark that it leaves, and how a world looks without
//! that mark. None of it goes through the seam: it is no effect of Holdfast's and needs no permit.

use std::path::Path;

use engine::host::Family;

use super::gateway::STATE;
use super::kernel::{Hook, edit};
use super::world::{WIREGUARD, World, side_files};

/// The config that the editor saves: the restore of the gateway that has everything replaces it.
const EDITED: &str = "/etc/wireguard/change.conf";
/// The line that the editor adds.
const EDIT: &str = "# an admin was here\n";
/// The row that somebody writes, and whose client it is.
const ROW: &str = "row of somebody else\n";
/// What another program adds while the restore runs: a ban, as fail2ban's.
const BAN: &str = "-A INPUT -s 203.0.113.9/32 -j DROP";

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deed {
    /// An editor saves a config as a new file under the old name.
    SavesAnew,
    /// An editor saves a config in place.
    SavesInPlace,
    /// Somebody else starts the service.
    StartsTheService,
    /// The service dies and nothing starts it again.
    ServiceDies,
    /// A tunnel goes.
    TunnelGoes,
    /// Somebody brings up a tunnel by hand.
    TunnelComes,
    /// Another program adds a rule.
    ForeignRule,
    /// The rules that the gateway adds for its clients come a second time.
    RulesAgain,
    /// The application writes a row, opening the database for it alone.
    WritesARow,
    /// Forwarding of IPv4 is switched over.
    FlipsForwarding,
    /// Somebody moves the gateway's folders to another disk: the same files, and other objects.
    CopiesTheFolders,
}

/// Somebody who does something once, before one call of the seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Actor {
    /// The call, from 0, of the run that takes the world up.
    pub at: u64,
    /// What they do.
    pub deed: Deed,
}

impl Deed {
    /// All of them.
    pub const ALL: [Deed; 11] = [
        Deed::SavesAnew,
        Deed::SavesInPlace,
        Deed::StartsTheService,
        Deed::ServiceDies,
        Deed::TunnelGoes,
        Deed::TunnelComes,
        Deed::ForeignRule,
        Deed::RulesAgain,
        Deed::WritesARow,
        Deed::FlipsForwarding,
        Deed::CopiesTheFolders,
    ];

    /// Does it. What cannot be done then (no such file, no such tunnel) is not done.
    pub fn act(self, world: &mut World) {
        match self {
            Deed::SavesAnew | Deed::SavesInPlace => self.edits(world),
            Deed::StartsTheService => {
                world.starts();
            }
            Deed::ServiceDies => {
                world.kernel.running = false;
                world.kernel.falters = false;
                world.kernel.open.clear();
            }
            Deed::TunnelGoes => {
                let first = world.kernel.tunnels.keys().next().cloned();
                first.map(|name| world.kernel.tunnels.remove(&name));
            }
            Deed::TunnelComes => {
                let configs = world.disk.list(Path::new(WIREGUARD)).unwrap_or_default();
                let down = configs.iter().find(|file| {
                    let name = file.trim_end_matches(".conf");
                    name != "others" && !world.kernel.tunnels.contains_key(name)
                });
                let path = down.map(|file| Path::new(WIREGUARD).join(file));
                let pieces = path.and_then(|path| world.tunnel_up(&path).ok());
                for piece in pieces.unwrap_or_default() {
                    // As above: whoever did it by hand sees that it failed.
                    let _ = world.carry_out(&piece);
                }
            }
            Deed::ForeignRule => {
                let hook = Hook {
                    family: Family::V4,
                    table: "filter".into(),
                    line: BAN.into(),
                };
                // The chain is the kernel's own.
                let _ = world.kernel.hook(&hook);
            }
            Deed::RulesAgain => {
                for name in world.active_clients() {
                    world.add_rules_of(&name);
                }
            }
            Deed::WritesARow => world.application_writes(ROW),
            // Nobody takes them away from under a service.
            Deed::CopiesTheFolders if world.kernel.running => {}
            Deed::CopiesTheFolders => copies_the_folders(world),
            Deed::FlipsForwarding => {
                let on = world.kernel.forwards.entry(Family::V4).or_default();
                *on = !*on;
            }
        }
    }

    fn edits(self, world: &mut World) {
        let path = Path::new(EDITED);
        let Some(there) = world.disk.get(path).map(|inode| inode.now.clone()) else {
            return;
        };
        let bytes = [&there.data[..], EDIT.as_bytes()].concat();
        // An editor syncs what it saves. That the names are there was looked at.
        if self == Deed::SavesInPlace {
            let _ = world.disk.rewrite(path, bytes);
            let _ = world.disk.sync_file(path);
            return;
        }
        let new = format!("{EDITED}~");
        world.disk.put(&new, &bytes, there.mode);
        if let Some(object) = world.disk.find(Path::new(&new)) {
            let data = bytes.into();
            world
                .disk
                .write(object, super::disk::Held { data, ..there });
        }
        let _ = world.disk.sync_file(Path::new(&new));
        let _ = world.disk.rename_over(Path::new(&new), path);
        let _ = world.disk.sync_dir(Path::new(WIREGUARD));
    }

    /// The mark that must not get lost, if it leaves one: whether it is anywhere on the machine.
    pub fn is_lost(self, world: &World) -> bool {
        let on_disk = |mark: &str| {
            let mut files = world.disk.files().into_values();
            files.any(|inode| String::from_utf8_lossy(&inode.now.data).contains(mark))
        };
        match self {
            Deed::SavesAnew | Deed::SavesInPlace => !on_disk(EDIT),
            Deed::WritesARow => !on_disk(ROW),
            Deed::ForeignRule => {
                let filter = world.kernel.v4.get("filter");
                !filter.is_some_and(|table| table.rules.iter().any(|rule| rule == BAN))
            }
            Deed::StartsTheService
            | Deed::ServiceDies
            | Deed::TunnelGoes
            | Deed::TunnelComes
            | Deed::RulesAgain
            | Deed::FlipsForwarding
            | Deed::CopiesTheFolders => false,
        }
    }

    /// The world without the mark: what is then there must be what is there where nobody did anything.
    pub fn without_mark(self, mut world: World) -> World {
        match self {
            Deed::SavesAnew | Deed::SavesInPlace => {
                world.disk.without(EDIT);
                for up in world.kernel.tunnels.values_mut() {
                    up.config = up.config.replace(EDIT, "");
                }
            }
            Deed::WritesARow => world.disk.without(ROW),
            Deed::ForeignRule => {
                if let Some(filter) = world.kernel.v4.get_mut("filter") {
                    // It may be lost, which is another's to judge.
                    let _ = edit(filter, &BAN.replacen("-A", "-D", 1));
                }
            }
            Deed::StartsTheService
            | Deed::ServiceDies
            | Deed::TunnelGoes
            | Deed::TunnelComes
            | Deed::RulesAgain
            | Deed::FlipsForwarding
            | Deed::CopiesTheFolders => {}
        }
        world
    }
}

/// Every file below the gateway's folders becomes another object, and is synced.
fn copies_the_folders(world: &mut World) {
    let files: Vec<String> = world.disk.files().into_keys().collect();
    for file in files.iter().filter(|f| !f.starts_with(STATE)) {
        let path = Path::new(file);
        let Some(there) = world.disk.get(path).map(|inode| inode.now.clone()) else {
            continue;
        };
        let copy = format!("{file}~");
        world.disk.put(&copy, &there.data, there.mode);
        if let Some(object) = world.disk.find(Path::new(&copy)) {
            world.disk.write(object, there);
        }
        let _ = world.disk.sync_file(Path::new(&copy));
        let _ = world.disk.rename_over(Path::new(&copy), path);
        let _ = path.parent().map(|dir| world.disk.sync_dir(dir));
    }
}

impl World {
    /// The application opens its first database for one row, as for each request, and closes it again. Nothing is written
    /// where there is none, or none that can be read.
    fn application_writes(&mut self, row: &str) {
        let Some(path) = self.databases.first().cloned() else {
            return;
        };
        if !self.readable(&path) || self.service_opens(&path).is_err() {
            return;
        }
        let [wal, ..] = side_files(&path);
        let log = self.disk.read(Path::new(&wal)).unwrap_or_default();
        let log = [&log[..], row.as_bytes()].concat();
        self.disk.put(&wal, &log, 0o640);
        // Closed again, unless the service has it open as well.
        let held = self.disk.find(Path::new(&path));
        if !self.kernel.running
            && let Some(object) = held
        {
            self.kernel.open.remove(&object);
        }
    }
}
