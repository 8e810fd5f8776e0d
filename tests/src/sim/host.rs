//! The second host: the engine's seam to the system over a simulated machine. Every change that a call makes is one
//! effect, and after each one a picture of the world can be taken: a crash is a world that is taken up again from there.
//!
//! Watches laws that only the host can see: an intent is durable before each change (I2), so is the barrier before each
//! change of the gateway, the fence is closed around tunnels and rules, and no name outside the restore's places is
//! touched (I8).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::backup::Made;
use engine::error::{Fault, cannot};
use engine::gateway::database::Settled;
use engine::gateway::kernel_facts::Facts;
use engine::host::Permit;
use engine::host::{
    Act, Append, ExitKind, Family, Fill, GatewayCommand, Holder, Kind, Look, Meta, Now, OpenFile,
    OpenFiles, Output, Own, Owner, Query, parent,
};
use engine::restore::step::Machine;
use journal_format::{BootId, Control, Digest, FileId, Plan, Problem, Step};
use sha2::Digest as _;

use super::disk::{Held, Inode};
use super::kernel::{Up, batches, nft, save};
use super::peers;
use super::world::{Piece, UnderWay, World};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It does nothing and says so.
    Refused,
    /// It does its work and then reports failure; an append is written and its sync fails.
    AfterTheFact,
    /// It does half of its work.
    HalfWay,
    /// A command does half of its work, and is ended at its time limit; so is a program that is asked, before it answers.
    Hangs,
    /// A command does nothing and says that it did its work; what is no command does not lie.
    Lies,
}

/// Which calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// The first call that fails, from 0.
    pub at: u64,
    /// All calls that change something fail from there on.
    pub for_ever: bool,
    /// How.
    pub how: How,
}

/// The world after one effect.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The effect.
    pub what: String,
    /// The world.
    pub world: World,
}

/// The places of one restore.
#[derive(Debug, Clone)]
pub struct Places {
    /// Holdfast's own folder.
    pub state_dir: String,
    /// The journal.
    pub journal: PathBuf,
    /// The barrier.
    pub barrier: PathBuf,
    /// Every target, staged name and side file.
    pub names: BTreeSet<String>,
    /// Staging folders.
    pub staging: BTreeSet<String>,
}

impl Places {
    /// The places that a plan names.
    pub fn of(plan: &Plan, state_dir: &Path, journal: PathBuf, barrier: PathBuf) -> Places {
        let mut names = BTreeSet::new();
        for target in plan.databases.iter().chain(&plan.files) {
            for name in [&target.path, &target.staged] {
                names.insert(name.clone());
                names.extend(super::world::side_files(name));
            }
        }
        let staging: BTreeSet<String> = plan.staging.iter().cloned().collect();
        for dir in &staging {
            names.extend([format!("{dir}/trial-a"), format!("{dir}/trial-b")]);
        }
        Places {
            state_dir: state_dir.display().to_string(),
            journal,
            barrier,
            names,
            staging,
        }
    }

    fn hold(&self, path: &Path) -> bool {
        let text = path.display().to_string();
        text.starts_with(&self.state_dir)
            || self.names.contains(&text)
            || self.staging.contains(&text)
    }
}

/// A restore makes some 570 calls, and one with all of its tries a few thousand: what goes on is taken for endless.
const ENDLESS: u64 = 20_000;

struct Inner {
    world: Mutex<World>,
    moments: Mutex<Option<Vec<Moment>>>,
    places: Places,
    trouble: Option<Trouble>,
    calls: AtomicU64,
    commands: Mutex<Vec<u64>>,
    asked: Mutex<Vec<u64>>,
    effects: AtomicU64,
}

/// A machine that a restore or a recovery runs on.
#[derive(Clone)]
pub struct Sim(Arc<Inner>);

fn failed(why: String) -> Problem {
    cannot(why, "this is a simulated machine")
}

impl Sim {
    /// Takes a world up. With `watched`, a moment is kept after every effect.
    pub fn new(world: World, places: &Places, trouble: Option<Trouble>, watched: bool) -> Sim {
        Sim(Arc::new(Inner {
            moments: Mutex::new(watched.then(Vec::new)),
            world: Mutex::new(world),
            places: places.clone(),
            trouble,
            calls: AtomicU64::new(0),
            commands: Mutex::new(Vec::new()),
            asked: Mutex::new(Vec::new()),
            effects: AtomicU64::new(0),
        }))
    }

    /// The world as it is now.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every moment since it was taken up.
    pub fn moments(&self) -> Vec<Moment> {
        let mut moments = self
            .0
            .moments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        moments.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Which of them ran a command, from 0.
    pub fn command_calls(&self) -> Vec<u64> {
        let commands = self.0.commands.lock();
        commands.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which of them asked a program, from 0.
    pub fn asking_calls(&self) -> Vec<u64> {
        let asked = self.0.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fails(&self, changes: bool) -> Option<How> {
        self.next_call(changes).1.filter(|how| *how != How::Lies)
    }

    fn command_fails(&self) -> Option<How> {
        let (n, how) = self.next_call(true);
        let commands = self.0.commands.lock();
        commands.unwrap_or_else(PoisonError::into_inner).push(n);
        how
    }

    fn next_call(&self, changes: bool) -> (u64, Option<How>) {
        let n = self.0.calls.fetch_add(1, Ordering::Relaxed);
        assert!(n < ENDLESS, "a run that makes {n} calls does not end");
        let fails = |t: &Trouble| n == t.at || t.for_ever && changes && n > t.at;
        (n, self.0.trouble.filter(fails).map(|t| t.how))
    }

    fn looks(&self, what: &str) -> Result<MutexGuard<'_, World>, Problem> {
        match self.fails(false) {
            None => Ok(self.world()),
            Some(_) => Err(failed(format!("{what}: input/output error"))),
        }
    }

    fn effect(&self, world: &mut World, what: &str, path: &Path) {
        // What an earlier driver left behind goes on in its own time.
        let n = self.0.effects.fetch_add(1, Ordering::Relaxed);
        if n == 3 && !world.under_way.pieces.is_empty() {
            world.finish_under_way();
        }
        self.moment(world, what, path);
    }

    fn moment(&self, world: &World, what: &str, path: &Path) {
        let mut moments = self
            .0
            .moments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(moments) = moments.as_mut() {
            moments.push(Moment {
                what: format!("{what} {}", path.display()),
                world: world.clone(),
            });
        }
    }

    /// One change of the disk that belongs to a move.
    fn change(
        &self,
        permit: &Permit,
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut World) -> Result<(), String>,
    ) -> Result<(), Problem> {
        let fails = self.fails(true);
        let mut world = self.world();
        self.watch(&mut world, permit, what, path);
        if fails == Some(How::Refused) {
            return Err(failed(format!("{what} {}: no", path.display())));
        }
        act(&mut world).map_err(|e| failed(format!("{what} {e}")))?;
        self.effect(&mut world, what, path);
        match fails {
            Some(_) => Err(failed(format!(
                "{what} {}: input/output error",
                path.display()
            ))),
            None => Ok(()),
        }
    }

    /// One change of what is Holdfast's own.
    fn own(
        &self,
        world: &mut World,
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut World) -> Result<(), String>,
    ) -> Result<(), Problem> {
        if !path.starts_with(&self.0.places.state_dir) {
            world.breaks(format!("I8: {what} {} as its own", path.display()));
        }
        act(world).map_err(|e| failed(format!("{what} {e}")))?;
        self.effect(world, what, path);
        Ok(())
    }

    /// I2, I8, and the order of barrier and fence.
    fn watch(&self, world: &mut World, permit: &Permit, what: &str, path: &Path) {
        let step = permit.r#move().step;
        let journal = world
            .disk
            .read_durable(&self.0.places.journal)
            .unwrap_or_else(|| Arc::from([]));
        let body = journal.strip_suffix(b"\n").unwrap_or(&journal);
        let last = body.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let last = String::from_utf8_lossy(last);
        if !last.contains(r#""intent""#) || !last.contains(&format!("\"{}\"", step.slug())) {
            world.breaks(format!(
                "I2: {what} {} without a durable intent of {step}",
                path.display()
            ));
        }
        if !step.is_preparation()
            && step != Step::CleanUp
            && world.disk.read_durable(&self.0.places.barrier).is_none()
        {
            world.breaks(format!(
                "{what} {} of {step} before the barrier is durable",
                path.display()
            ));
        }
        let named = path.starts_with("/") && !what.starts_with("sync");
        if named && !self.0.places.hold(path) {
            world.breaks(format!(
                "I8: {what} {} is outside of the restore's places",
                path.display()
            ));
        }
    }

    fn commands(
        &self,
        world: &mut World,
        shown: String,
        pieces: Result<Vec<Piece>, String>,
        of_session: bool,
        fails: Option<How>,
    ) -> Output {
        let answer = |end, stderr: String| Output {
            shown: shown.clone(),
            end,
            stdout: String::new(),
            stderr,
        };
        world.finish_under_way();
        let pieces = match (pieces, fails) {
            (Err(why), _) => return answer(ExitKind::Exit(1), why),
            (Ok(_), Some(How::Refused)) => return answer(ExitKind::Exit(1), "it failed".into()),
            (Ok(_), Some(How::Lies)) => return answer(ExitKind::Exit(0), String::new()),
            (Ok(mut pieces), Some(How::HalfWay | How::Hangs)) => {
                pieces.truncate(pieces.len() / 2);
                pieces
            }
            (Ok(pieces), Some(How::AfterTheFact) | None) => pieces,
        };
        let mut why = None;
        for (n, piece) in pieces.iter().enumerate() {
            // Whatever fails ends the command there; also a hook of an interface that is gone already.
            if let Err(e) = world.carry_out(piece) {
                why = Some(e);
                break;
            }
            world.under_way = UnderWay {
                pieces: pieces[n + 1..].to_vec(),
                of_session,
            };
            self.moment(world, &shown, Path::new(""));
        }
        world.under_way = UnderWay::default();
        match (why, fails) {
            (_, Some(How::Hangs)) => answer(ExitKind::TimedOut, String::new()),
            (Some(why), _) => answer(ExitKind::Exit(1), why),
            (None, Some(_)) => answer(ExitKind::Exit(1), "it failed".into()),
            (None, None) => answer(ExitKind::Exit(0), String::new()),
        }
    }
}

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
                pid: 4242,
                command: "gateway".into(),
                uid: 0,
                at_a_terminal: false,
                is_daemon: true,
                path: f.clone(),
            })
            .collect())
    }

    fn open_files(&self, _: &[u32]) -> Result<OpenFiles, Problem> {
        drop(self.looks("look at open files")?);
        Ok(OpenFiles::default())
    }

    fn is_sqlite(&self, path: &Path) -> Result<bool, Problem> {
        Ok(self.read(path, u64::MAX)?.starts_with(b"SQLite format 3\0"))
    }

    fn is_sqlite_open(&self, file: &OpenFile) -> Result<bool, Problem> {
        self.is_sqlite(&file.path)
    }

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
        let mut world = self.world();
        let tunnels = &world.kernel.tunnels;
        let lines = |line: &dyn Fn(&str, &Up) -> String| -> String {
            tunnels.iter().map(|(name, up)| line(name, up)).collect()
        };
        // What was told to hear on no port hears on any.
        let port = |up: &Up| peers::port(&up.config).unwrap_or_else(|| "40000".into());
        let (status, stdout) = match query {
            Query::Rules(family) => (0, save(world.kernel.rules(*family))),
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
                let own = lines(&|name, _| format!("9: {name}: <POINTOPOINT,NOARP,UP>\n"));
                (0, format!("1: lo: <LOOPBACK,UP>\n2: eth0: <UP>\n{own}"))
            }
            Query::Addresses => (0, "2: eth0    inet 192.0.2.1/24 scope global eth0\n".into()),
            Query::ServiceActive(_) | Query::ServiceState(Control::Commands { .. }) => {
                (if world.kernel.running { 0 } else { 3 }, String::new())
            }
            Query::ServiceState(Control::Unit(_)) if world.kernel.running => (0, "active\n".into()),
            Query::ServiceState(Control::Unit(_)) if world.kernel.falters => {
                (0, "activating\n".into())
            }
            Query::ServiceState(Control::Unit(_)) => (0, "inactive\n".into()),
            Query::ServiceSettings(_) => (0, String::new()),
            Query::RealPath(path) if world.disk.find(path).is_some() => {
                (0, path.display().to_string())
            }
            Query::RealPath(_) => (1, String::new()),
            Query::Fence => (i32::from(world.kernel.fence.is_none()), String::new()),
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
            stderr: String::new(),
        })
    }

    fn has_program(&self, _: &str) -> bool {
        true
    }

    fn can_write(&self, _: &Path) -> Result<(), Problem> {
        Ok(())
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
        world.clock += 1;
        Now {
            at_ms: 1_790_000_000_000 + i64::try_from(world.clock).unwrap_or_default(),
            up_ms: world.clock,
        }
    }

    fn sleep(&self, ms: u64) {
        let mut world = self.world();
        world.clock += ms;
        world.finish_under_way();
    }
}

impl Act for Sim {
    fn make_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.change(permit, "make", dir, |w| match w.disk.get(dir) {
            Some(there) if there.kind == Kind::Dir => Ok(()),
            Some(_) | None => w.disk.make_dir(dir, 0o700),
        })
    }

    fn create(
        &self,
        permit: &Permit,
        path: &Path,
        owner: Owner,
        fill: &mut Fill,
    ) -> Result<(), Problem> {
        let mut data = Vec::new();
        fill(&mut data)?;
        let fails = self.fails(true);
        let mut world = self.world();
        self.watch(&mut world, permit, "create", path);
        if fails == Some(How::Refused) {
            return Err(failed(format!("create {}: no space", path.display())));
        }
        let object = world.disk.create(path).map_err(failed)?;
        self.effect(&mut world, "create", path);
        if fails == Some(How::HalfWay) {
            data.truncate(data.len() / 2);
        }
        let held = Held {
            data: data.into(),
            uid: owner.uid,
            gid: owner.gid,
            mode: owner.mode,
        };
        world.disk.write(object, held);
        self.effect(&mut world, "fill", path);
        match fails {
            Some(_) => Err(failed(format!("create {}: no space", path.display()))),
            None => Ok(()),
        }
    }

    fn exchange(&self, permit: &Permit, a: &Path, b: &Path) -> Result<(), Problem> {
        self.change(permit, "exchange", a, |w| {
            let held = [a, b]
                .iter()
                .filter_map(|p| w.disk.find(p))
                .any(|o| w.kernel.open.contains(&o));
            if held {
                w.breaks(format!(
                    "T23: {} was swapped while it was held",
                    a.display()
                ));
            }
            w.disk.exchange(a, b)
        })
    }

    fn rename(&self, permit: &Permit, from: &Path, to: &Path) -> Result<(), Problem> {
        self.change(permit, "rename", from, |w| w.disk.rename(from, to))
    }

    fn copy(&self, permit: &Permit, from: &Path, to: &Path) -> Result<(), Problem> {
        let fails = self.fails(true);
        let mut world = self.world();
        self.watch(&mut world, permit, "copy", to);
        if fails == Some(How::Refused) {
            return Err(failed(format!("copy to {}: no space", to.display())));
        }
        let mut held = world
            .disk
            .get(from)
            .filter(|i| i.kind == Kind::File)
            .map(|i| i.now.clone())
            .ok_or_else(|| failed(format!("copy {}: no such file", from.display())))?;
        let object = world.disk.create(to).map_err(failed)?;
        self.effect(&mut world, "create", to);
        if fails == Some(How::HalfWay) {
            held.data = held.data[..held.data.len() / 2].into();
        }
        world.disk.write(object, held);
        self.effect(&mut world, "fill", to);
        if fails.is_some() {
            return Err(failed(format!("copy to {}: no space", to.display())));
        }
        world.disk.sync_object(object);
        self.effect(&mut world, "sync", to);
        Ok(())
    }

    fn remove_file(&self, permit: &Permit, path: &Path) -> Result<(), Problem> {
        self.change(permit, "remove", path, |w| w.disk.remove(path))
    }

    fn remove_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.change(permit, "remove", dir, |w| w.disk.remove_dir(dir))
    }

    fn sync_file(&self, permit: &Permit, path: &Path) -> Result<(), Problem> {
        self.change(permit, "sync", path, |w| w.disk.sync_file(path))
    }

    fn sync_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.change(permit, "sync", dir, |w| w.disk.sync_dir(dir))
    }

    fn sync_filesystem(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.change(permit, "sync all of", dir, |w| w.disk.sync_filesystem(dir))
    }

    fn settle_database(&self, permit: &Permit, path: &Path) -> Result<Settled, Problem> {
        let fails = self.fails(true);
        let mut world = self.world();
        self.watch(&mut world, permit, "settle", path);
        let text = path.display().to_string();
        if world.disk.find(path).is_none() {
            return Err(failed(format!("settle {text}: no such database")));
        }
        if !world.readable(&text) && fails.is_none() {
            return Ok(Settled::Unreadable("file is not a database".into()));
        }
        for stage in 0.. {
            if fails == Some(How::Refused) || fails == Some(How::HalfWay) && stage == 2 {
                return Err(failed(format!("settle {text}: input/output error")));
            }
            if !world.settle(&text, stage).map_err(failed)? {
                break;
            }
            self.effect(&mut world, "settle", path);
        }
        match fails {
            Some(_) => Err(failed(format!("settle {text}: input/output error"))),
            None => Ok(Settled::Whole),
        }
    }

    fn set_forwarding_of(&self, _: &Permit, _: Family, _: &str, _: bool) -> Result<(), Problem> {
        Err(failed(
            "set forwarding: no interface has its own here".into(),
        ))
    }

    fn set_forwarding(&self, permit: &Permit, family: Family, on: bool) -> Result<(), Problem> {
        let name = format!("forwarding of {}", family.name());
        self.change(permit, "set", Path::new(&name), |w| {
            let forwards = w.kernel.forwards.get_mut(&family);
            *forwards.ok_or("no such protocol")? = on;
            Ok(())
        })
    }

    fn run(
        &self,
        permit: &Permit,
        command: &GatewayCommand,
        input: &str,
    ) -> Result<Output, Problem> {
        let fails = self.command_fails();
        let mut world = self.world();
        let shown = match command {
            GatewayCommand::LoadRules(family) => format!("load {family:?}"),
            GatewayCommand::EditRules(family) => format!("edit {family:?}"),
            GatewayCommand::Nft => "nft".into(),
            GatewayCommand::TunnelUp(config) => format!("wg-quick up {config}"),
            GatewayCommand::TunnelDown(config) => format!("wg-quick down {config}"),
            GatewayCommand::PeersAdd(tunnel) => format!("wg addconf {tunnel}"),
            GatewayCommand::PeerRemove(tunnel, _) => format!("wg set {tunnel} peer remove"),
            GatewayCommand::ServiceStart(_) => "start the service".into(),
            GatewayCommand::ServiceStop(_) => "stop the service".into(),
        };
        self.watch(&mut world, permit, &shown, Path::new(""));
        if *command != GatewayCommand::Nft && world.kernel.fence.is_none() {
            world.breaks(format!("T25: {shown} with the fence open"));
        }
        if let GatewayCommand::LoadRules(family) | GatewayCommand::EditRules(family) = command
            && world.unread == Some(*family)
        {
            world.breaks(format!(
                "{shown}, which cannot be read and so not be put back"
            ));
        }
        let mut of_session = true;
        let pieces = match command {
            GatewayCommand::LoadRules(family) => Ok(batches(input)
                .into_iter()
                .map(|b| Piece::Load(*family, b, true))
                .collect()),
            GatewayCommand::EditRules(family) => Ok(batches(input)
                .into_iter()
                .map(|b| Piece::Load(*family, b, false))
                .collect()),
            GatewayCommand::Nft => {
                nft(input, &world.kernel).map(|actions| vec![Piece::Nft(actions)])
            }
            GatewayCommand::TunnelUp(config) => world.tunnel_up(Path::new(config)),
            GatewayCommand::TunnelDown(config) => world.tunnel_down(Path::new(config)),
            GatewayCommand::PeersAdd(tunnel) => peers::settings(input).map(|settings| {
                let one = |setting| Piece::Peer(tunnel.clone(), setting);
                settings.into_iter().map(one).collect()
            }),
            GatewayCommand::PeerRemove(tunnel, key) => {
                Ok(vec![Piece::PeerGone(tunnel.clone(), key.clone())])
            }
            GatewayCommand::ServiceStart(_) => {
                of_session = false;
                world.finish_under_way();
                Ok(world.service_start())
            }
            GatewayCommand::ServiceStop(_) => {
                of_session = false;
                world.finish_under_way();
                Ok(world.service_stop())
            }
        };
        Ok(self.commands(&mut world, shown, pieces, of_session, fails))
    }
}

impl Machine for Sim {
    fn safety_backup(&self, _: &Facts) -> Result<Made, Fault> {
        let path = PathBuf::from(&self.0.places.state_dir).join("backups/safety.zip");
        self.keep(&path, b"everything")?;
        Ok(Made {
            path,
            size: 10,
            sha256: Digest::of_bytes([7; 32]),
            created_at: String::new(),
            lacks: Vec::new(),
            unread: BTreeSet::new(),
            warnings: Vec::new(),
        })
    }
}

impl Own for Sim {
    fn keep_dir(&self, dir: &Path) -> Result<(), Problem> {
        let fails = self.fails(true);
        if fails.is_some() {
            return Err(failed(format!("make {}: no space", dir.display())));
        }
        let mut world = self.world();
        let mut missing = Vec::new();
        let mut at = dir;
        while world.disk.find(at).is_none() {
            missing.push(at.to_owned());
            at = parent(at)?;
        }
        for dir in missing.iter().rev() {
            self.own(&mut world, "make", dir, |w| w.disk.make_dir(dir, 0o700))?;
            let above = parent(dir)?;
            self.own(&mut world, "sync", above, |w| w.disk.sync_dir(above))?;
        }
        Ok(())
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), Problem> {
        let fails = self.fails(true);
        let full = || Err(failed(format!("write {}: no space", path.display())));
        if fails == Some(How::Refused) {
            return full();
        }
        let mut world = self.world();
        let dir = parent(path)?;
        let mut made = dir.join(".keep-0");
        for n in 1.. {
            if world.disk.find(&made).is_none() {
                break;
            }
            made = dir.join(format!(".keep-{n}"));
        }
        self.own(&mut world, "make", &made, |w| {
            w.disk.create(&made).map(drop)
        })?;
        self.own(&mut world, "write", &made, |w| {
            w.disk.rewrite(&made, bytes.to_vec())
        })?;
        if matches!(fails, Some(How::HalfWay | How::Hangs)) {
            return full();
        }
        self.own(&mut world, "sync", &made, |w| w.disk.sync_file(&made))?;
        self.own(&mut world, "rename to", path, |w| {
            w.disk.rename_over(&made, path).inspect_err(|_| {
                // What was made for it goes with it.
                let _ = w.disk.remove(&made);
            })
        })?;
        if fails.is_some() {
            return full();
        }
        self.own(&mut world, "sync", dir, |w| w.disk.sync_dir(dir))
    }

    fn reserve(&self, path: &Path, _: u64) -> Result<(), Problem> {
        if self.fails(true).is_some() {
            return Err(failed(format!("reserve {}: no space", path.display())));
        }
        let mut world = self.world();
        if let Some(there) = world.disk.get(path) {
            return match there.kind {
                Kind::File => Ok(()),
                Kind::Dir | Kind::Other => Err(failed(format!("reserve {}: no", path.display()))),
            };
        }
        self.own(&mut world, "make", path, |w| w.disk.create(path).map(drop))
    }

    fn discard(&self, path: &Path) -> Result<(), Problem> {
        let fails = self.fails(true);
        if fails == Some(How::Refused) {
            return Err(failed(format!("remove {}: no", path.display())));
        }
        let mut world = self.world();
        self.own(&mut world, "remove", path, |w| w.disk.remove(path))?;
        if fails.is_some() {
            return Err(failed(format!("sync {}: no", path.display())));
        }
        let dir = parent(path)?;
        self.own(&mut world, "sync", dir, |w| w.disk.sync_dir(dir))
    }

    fn open_journal(&self, path: &Path, _: u64) -> Result<Box<dyn Append>, Problem> {
        if self.fails(true).is_some() {
            return Err(failed(format!("open {}: no space", path.display())));
        }
        let mut world = self.world();
        if world.disk.find(path).is_none() {
            self.own(&mut world, "make", path, |w| w.disk.create(path).map(drop))?;
        }
        self.own(&mut world, "sync", path, |w| w.disk.sync_file(path))?;
        let dir = parent(path)?;
        self.own(&mut world, "sync", dir, |w| w.disk.sync_dir(dir))?;
        Ok(Box::new(OpenJournal {
            sim: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn end_session(&self, _: u32, _: u64) -> Result<Vec<String>, Problem> {
        if self.fails(true).is_some() {
            return Err(failed("end what is left: no".into()));
        }
        let mut world = self.world();
        if !world.orphaned.is_empty() {
            world.orphaned.clear();
            return Ok(vec!["wg-quick (pid 77)".into()]);
        }
        Ok(Vec::new())
    }
}

/// The open end of the journal.
struct OpenJournal {
    sim: Sim,
    path: PathBuf,
}

impl Append for OpenJournal {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let fails = self.sim.fails(true);
        let full = || Err(failed("append to the journal: input/output error".into()));
        if fails == Some(How::Refused) {
            return full();
        }
        let part = if matches!(fails, Some(How::HalfWay | How::Hangs)) {
            &bytes[..bytes.len() / 2]
        } else {
            bytes
        };
        let mut world = self.sim.world();
        let path = &self.path;
        self.sim.own(&mut world, "append to", path, |w| {
            let mut all = w.disk.read(path).map(|b| b.to_vec()).unwrap_or_default();
            all.extend_from_slice(part);
            w.disk.rewrite(path, all)
        })?;
        if fails.is_some() {
            return full();
        }
        self.sim
            .own(&mut world, "sync", path, |w| w.disk.sync_file(path))
    }
}
