//! What a restore looks at and asks, answered from the simulated machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use engine::gateway::database::Client;
use engine::host::{
    ExitKind, Family, Fixed, FoundFile, Holder, Kind, LiveDatabases, Look, Meta, Now, OpenFile,
    OpenFiles, Output, Query,
};
use journal_format::{BootId, Control, Digest, FileId, Problem};
use sha2::Digest as _;

use super::{How, Sim, failed};
use crate::sim::disk::Inode;
use crate::sim::kernel::{Up, save};
use crate::sim::peers;

/// The service's process.
const PID: u32 = 4242;

/// Rules of the other backend, on a machine where two are mixed.
const MIXED: &str = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i other -j DROP\nCOMMIT\n";

fn meta(inode: &Inode, object: u64) -> Meta {
    Meta {
        kind: inode.kind,
        id: Some(FileId {
            ino: inode.number,
            born_ns: i64::try_from(object).unwrap_or(i64::MAX),
        }),
        dev: inode.dev,
        size: inode.now.data.len() as u64,
        uid: inode.now.uid,
        gid: inode.now.gid,
        mode: inode.now.mode,
        changed_ns: i64::try_from(inode.changed).unwrap_or(i64::MAX),
    }
}

impl Look for Sim {
    fn stat(&self, path: &Path) -> Result<Option<Meta>, Problem> {
        let world = self.looks("look")?;
        let Some(object) = world.disk.find(path) else {
            return Ok(None);
        };
        Ok(world.disk.inode(object).map(|i| meta(i, object)))
    }

    /// There are no links.
    fn link_target(&self, _: &Path) -> io::Result<Option<PathBuf>> {
        let looked = self.looks("look");
        looked.map(|_| None).map_err(|p| io::Error::other(p.what))
    }

    fn access(&self, path: &Path) -> io::Result<Option<FoundFile>> {
        let world = self.looks("look");
        let world = world.map_err(|p| io::Error::other(p.what))?;
        let is_file = |p: &Path| world.disk.get(p).is_some_and(|i| i.kind == Kind::File);
        if path.ancestors().skip(1).any(is_file) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(world.disk.get(path).map(|i| FoundFile {
            path: path.to_owned(),
            kind: i.kind,
            object: (i.dev, i.number),
            names: 1,
            uid: i.now.uid,
            gid: i.now.gid,
            mode: i.now.mode,
            has_list: false,
        }))
    }

    fn owner(&self, owner: &str) -> Result<(u32, u32), Problem> {
        let id = |name: &str| match name {
            "root" => Some(0),
            "wireguard" => Some(990),
            number => number.parse().ok(),
        };
        let ids = owner.split_once(':').and_then(|(u, g)| id(u).zip(id(g)));
        ids.ok_or_else(|| failed(format!("find the owner {owner}")))
    }

    fn clients_of_copy(&self, path: &Path) -> Result<Vec<Client>, Problem> {
        let read = self.databases().clients(path);
        read.map_err(|trouble| trouble.problem().clone())
    }

    fn databases(&self) -> Box<dyn LiveDatabases + '_> {
        Box::new(self.clone())
    }

    fn read(&self, path: &Path, _: u64) -> Result<Vec<u8>, Problem> {
        let bytes = self.looks("read")?.disk.read(path);
        bytes
            .map(|b| b.to_vec())
            .ok_or_else(|| failed(format!("read {}: no such file", path.display())))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Problem> {
        let names = self.looks("list")?.disk.list(dir);
        names.ok_or_else(|| failed(format!("list {}: no such folder", dir.display())))
    }

    fn sha256(&self, path: &Path) -> Result<Digest, Problem> {
        let bytes = self.looks("read")?.disk.read(path);
        let bytes = bytes.ok_or_else(|| failed(format!("read {}: no file", path.display())))?;
        Ok(Digest::of_bytes(sha2::Sha256::digest(&bytes).into()))
    }

    fn free_bytes(&self, _: &Path) -> Result<u64, Problem> {
        Ok(1 << 40)
    }

    fn holders(&self, files: &[PathBuf]) -> Result<Vec<Holder>, Problem> {
        let world = self.looks("look for holders")?;
        let held = files.iter().filter(|f| {
            world
                .disk
                .find(f)
                .is_some_and(|o| world.kernel.open.contains(&o))
        });
        Ok(held
            .map(|f| Holder {
                pid: PID,
                command: "gateway".into(),
                uid: 0,
                at_a_terminal: false,
                child_of: None,
                is_daemon: true,
                path: f.clone(),
            })
            .collect())
    }

    fn open_files(&self, pids: &[u32]) -> Result<OpenFiles, Problem> {
        let world = self.looks("look at open files")?;
        let databases = world.databases.iter().filter(|_| pids.contains(&PID));
        let open = databases.filter_map(|path| {
            let object = world.disk.find(Path::new(path))?;
            let inode = world.disk.inode(object)?;
            world.kernel.open.contains(&object).then(|| OpenFile {
                path: path.into(),
                object: (inode.dev, inode.number),
                at: path.into(),
            })
        });
        Ok(OpenFiles {
            files: open.collect(),
            ..OpenFiles::default()
        })
    }

    fn is_sqlite(&self, path: &Path) -> Result<bool, Problem> {
        Ok(self.read(path, u64::MAX)?.starts_with(b"SQLite format 3\0"))
    }

    fn is_sqlite_open(&self, file: &OpenFile) -> Result<bool, Problem> {
        self.is_sqlite(&file.path)
    }

    /// Long: a table, one arm a query.
    fn ask(&self, query: &Query, _: &str) -> Result<Output, Problem> {
        let (n, how) = self.next_call(false);
        let asked = self.0.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).push(n);
        let shown = format!("{query:?}");
        match how {
            None | Some(How::Lies) => {}
            // It is ended at its time limit, and has said nothing yet.
            Some(How::Hangs) => {
                return Ok(Output {
                    shown,
                    end: ExitKind::TimedOut,
                    stdout: String::new(),
                    stderr: String::new(),
                });
            }
            Some(_) => return Err(failed("ask: input/output error".into())),
        }
        let mut stderr = String::new();
        let mut world = self.world();
        let tunnels = &world.kernel.tunnels;
        let lines = |line: &dyn Fn(&str, &Up) -> String| -> String {
            tunnels.iter().map(|(name, up)| line(name, up)).collect()
        };
        // What was told to hear on no port hears on any.
        let port = |up: &Up| peers::port(&up.config).unwrap_or_else(|| "40000".into());
        let (status, stdout) = match query {
            Query::Rules(family) => (0, save(world.kernel.rules(*family))),
            Query::LegacyRules(family) if world.unread == Some(*family) => (0, MIXED.to_owned()),
            Query::LegacyRules(_) => (0, String::new()),
            Query::Peers => {
                let dump = |name: &str, up: &Up| {
                    let own = format!("{name}\t(hidden)\t(hidden)\t{}\toff\n", port(up));
                    own + &peers::dump(name, &up.peers)
                };
                (0, lines(&dump))
            }
            Query::ListenPorts => (0, lines(&|name, up| format!("{name}\t{}\n", port(up)))),
            Query::Rehearse(_) => {
                return Err(failed("rehearse: plans are made beforehand".into()));
            }
            Query::Tunnels => (0, lines(&|name, _| format!("{name} "))),
            Query::Links => {
                let own = lines(&|name, up| up.by_hand.link(name));
                (0, format!("1: lo: <LOOPBACK,UP>\n2: eth0: <UP>\n{own}"))
            }
            Query::Addresses => {
                let own = lines(&|name, up| up.by_hand.addresses(name, &up.config));
                let others = "2: eth0    inet 192.0.2.1/24 scope global eth0\n";
                (0, format!("{others}{own}"))
            }
            Query::Routes => (0, lines(&|_, up| up.by_hand.routes())),
            Query::ServiceRun(Control::Unit(_)) => (0, format!("{}\n", world.kernel.runs)),
            Query::ServiceActive(_)
            | Query::ServiceRun(Control::Commands { .. })
            | Query::ServiceState(Control::Commands { .. }) => {
                (if world.kernel.running { 0 } else { 3 }, String::new())
            }
            Query::ServiceState(Control::Unit(_)) if world.kernel.running => (0, "active\n".into()),
            Query::ServiceState(Control::Unit(_)) if world.kernel.falters => {
                (0, "activating\n".into())
            }
            Query::ServiceState(Control::Unit(_)) => (0, "inactive\n".into()),
            Query::ServiceSettings(unit) if world.kernel.running => (
                0,
                format!("MainPID={PID}\nControlGroup=/system.slice/{unit}\n"),
            ),
            Query::ServiceSettings(_) => (0, "MainPID=0\nControlGroup=\n".into()),
            Query::RealPath(path) if world.disk.find(path).is_some() => {
                (0, format!("{}\0", path.display()))
            }
            Query::RealPath(_) => (1, String::new()),
            Query::Fence if world.kernel.fence.is_none() => {
                stderr = "Error: No such file or directory\n".to_owned();
                (1, String::new())
            }
            Query::Fence => (0, String::new()),
            Query::NftTables => {
                let fence = world.kernel.fence.iter().map(|_| "table inet holdfast\n");
                (0, fence.collect())
            }
            Query::Sets => (0, String::new()),
            Query::Firewalld => (3, String::new()),
        };
        Ok(Output {
            shown,
            end: ExitKind::Exit(status),
            stdout,
            stderr,
        })
    }

    fn has_program(&self, _: &str) -> bool {
        true
    }

    fn can_write(&self, _: &Path) -> Result<(), Problem> {
        Ok(())
    }

    /// Nothing is.
    fn fixed(&self, path: &Path) -> Result<Option<Fixed>, Problem> {
        let world = self.looks("look")?;
        Ok(world.disk.find(path).map(|_| Fixed::default()))
    }

    fn mount_points(&self) -> Result<Vec<String>, Problem> {
        Ok(self.looks("see mounts")?.disk.mounts().to_vec())
    }

    fn forwarding(&self, family: Family) -> Result<Option<bool>, Problem> {
        Ok(self
            .looks("see forwarding")?
            .kernel
            .forwards
            .get(&family)
            .copied())
    }

    fn forwarding_interfaces(&self, _: Family) -> Result<Vec<String>, Problem> {
        drop(self.looks("see forwarding")?);
        Ok(Vec::new())
    }

    fn forwarding_of(&self, _: Family, _: &str) -> Result<Option<bool>, Problem> {
        drop(self.looks("see forwarding")?);
        Ok(None)
    }

    fn boot(&self) -> Result<BootId, Problem> {
        let boot = self.world().boot;
        BootId::new(format!("boot-{boot}")).map_err(|e| failed(e.to_string()))
    }

    fn now(&self) -> Now {
        let mut world = self.world();
        world.time_passes(1);
        Now {
            at_ms: 1_790_000_000_000 + i64::try_from(world.clock).unwrap_or_default(),
            up_ms: world.clock,
        }
    }

    fn sleep(&self, ms: u64) {
        let mut world = self.world();
        world.finish_under_way();
        world.time_passes(ms);
    }

    /// The kernel runs them.
    fn userspace(&self, _: &BTreeSet<&str>) -> Result<BTreeMap<String, String>, Problem> {
        Ok(BTreeMap::new())
    }

    fn tunnel_limit(&self) -> Duration {
        Duration::from_secs(60)
    }
}
