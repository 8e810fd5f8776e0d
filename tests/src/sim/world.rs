//! One gateway with all it stands on: disk, kernel, databases with their side files, and commands that are under way.
//! Owns what each piece of a command does; every piece is one effect. Decides nothing, and crashes only where it is told.

mod picture;
mod service;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use engine::gateway::link::LinkChange;
use engine::host::Family;

use super::actor::Actor;
use super::disk::Disk;
use super::kernel::{Batch, Hook, Kernel, Nft, Up, hooks};
use super::link::SetByHand;
use super::peers::{self, Peers, Setting};

pub use picture::{Picture, Running};
pub use service::rules_of;
pub use start::{CalledInactive, Due, ServiceStart};

/// The folder of the configs that `wg-quick` reads.
pub const WIREGUARD: &str = "/etc/wireguard";

/// What SQLite keeps beside a database. The simulator's own list: the engine's is under test.
pub fn side_files(path: &str) -> [String; 3] {
    [
        format!("{path}-wal"),
        format!("{path}-shm"),
        format!("{path}-journal"),
    ]
}

/// One effect of a command.
#[derive(Debug, Clone)]
pub enum Piece {
    /// An interface appears.
    Interface(String, String),
    /// It gets the peers of its config.
    Peers(String),
    /// A hook before the interface comes or goes, or after it went; one that fails ends the command.
    Hook(Hook),
    /// A hook of an interface that came; one that fails takes the interface with it.
    PostUp(String, Hook),
    /// The tunnel is whole.
    Whole(String),
    /// A peer of a tunnel is added, or set otherwise.
    Peer(String, Setting),
    /// Something of an interface is set.
    Link(String, LinkChange),
    /// A peer is taken away from a tunnel.
    PeerGone(String, String),
    /// An interface goes.
    Gone(String),
    /// `SaveConfig` writes a new file over the config.
    Save(PathBuf),
    /// One table is loaded.
    Edit(Family, Batch),
    /// What `nft -f` does, at once.
    Nft(Vec<Nft>),
    /// The service opens a database and writes to it.
    Open(String),
    /// The service opened them all and runs.
    Runs,
    /// The start of the service sees to a client: brings it up and adds its rules, or takes it down. The first one of a start
    /// says so.
    Client(String, bool),
    /// What the start of the service could not bring up is called inactive in the first database.
    Inactive(String),
    /// The start of the service has seen to all of its clients; it fails if it could not bring one up.
    SeenTo,
    /// The service writes to a file as it stops.
    Writes,
    /// The service checkpoints a database and lets go of it.
    Close(String),
    /// The service fails, and its manager starts it again and again.
    Falters,
    /// The service stopped.
    Stopped,
}

/// A command that a crash of its driver leaves under way.
#[derive(Debug, Clone, Default)]
pub struct UnderWay {
    /// What it has not done yet.
    pub pieces: Vec<Piece>,
    /// It is in the session of the driver, which recovery ends; a service manager's job is not.
    pub of_session: bool,
}

/// The gateway and the machine.
#[derive(Debug, Clone)]
pub struct World {
    /// Its filesystems.
    pub disk: Disk,
    /// What a reboot takes.
    pub kernel: Kernel,
    /// Counts boots.
    pub boot: u32,
    /// Milliseconds since the first boot.
    pub clock: u64,
    /// What is under way.
    pub under_way: UnderWay,
    /// What a dead driver's session still does, in its own time: last of all, where nobody ends it.
    pub orphaned: Vec<Piece>,
    /// The gateway's databases.
    pub databases: Vec<String>,
    /// What the running service writes to a file as it stops, and does not sync.
    pub unwritten: Option<(String, Vec<u8>)>,
    /// The folder of its clients' configs that `wg-quick` reads.
    pub wireguard: String,
    /// How the service starts.
    pub start: ServiceStart,
    /// The clients that the start under way could not bring up.
    pub not_up: BTreeSet<String>,
    /// Holdfast asked for the service's last start; a boot, its manager or somebody else for others.
    pub asked_for: bool,
    /// The clients that a start called inactive, each behind the name of the database in which it did.
    pub called_inactive: BTreeMap<(String, String), CalledInactive>,
    /// What comes later by itself, and when.
    pub due: Vec<(u64, Due)>,
    /// The rules of this family cannot be read, and so are nobody's to load or edit.
    pub unread: Option<Family>,
    /// What a `PostUp` adds may not be there yet: it fails a second time unless the `PostDown` ran in between.
    pub adds_once: bool,
    /// These tunnels nobody can bring up: something of the box is missing that they need.
    pub cannot_come_up: BTreeSet<String>,
    /// Somebody who will do something.
    pub actor: Option<Actor>,
    /// Somebody has done it, and during which step.
    pub acted: Option<String>,
    /// Laws that were broken while it ran.
    pub broken: Vec<String>,
}

/// The first line of a database names it: a log that is not its own replays all the same.
fn name_of(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Rows that the gateway writes by itself while it runs are no part of a comparison.
fn is_live(row: &str) -> bool {
    row.starts_with("live ")
}

impl World {
    /// A machine after boot, with nothing on it.
    pub fn new(mounts: &[&str], databases: &[&str]) -> World {
        World {
            disk: Disk::new(mounts),
            kernel: Kernel::booted(),
            boot: 1,
            clock: 0,
            under_way: UnderWay::default(),
            orphaned: Vec::new(),
            databases: databases.iter().map(|d| (*d).to_owned()).collect(),
            unwritten: None,
            wireguard: WIREGUARD.to_owned(),
            start: ServiceStart::polite(),
            not_up: BTreeSet::new(),
            asked_for: false,
            called_inactive: BTreeMap::new(),
            due: Vec::new(),
            unread: None,
            adds_once: false,
            cannot_come_up: BTreeSet::new(),
            actor: None,
            acted: None,
            broken: Vec::new(),
        }
    }

    /// A law was broken.
    pub fn breaks(&mut self, law: impl Into<String>) {
        self.broken.push(law.into());
    }

    fn text(&self, path: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.disk.read(Path::new(path))?).into_owned())
    }

    /// A database with what its side files hold, as SQLite would show it; and whether that mixes two databases.
    fn opened(&self, path: &str) -> Option<(String, bool)> {
        let mut text = self.text(path)?;
        let [wal, _, journal] = side_files(path);
        let mut mixed = false;
        // What was torn is no log to SQLite: its checksums tell.
        let whole = |log: &String| log.starts_with("db ") && log.ends_with('\n');
        if let Some(old) = self.text(&journal).filter(whole) {
            mixed |= name_of(&old) != name_of(&text);
            text = old;
        }
        if let Some(log) = self.text(&wal).filter(whole) {
            mixed |= name_of(&log) != name_of(&text);
            for row in log.lines().skip(1) {
                if !text.lines().any(|r| r == row) {
                    text.push_str(row);
                    text.push('\n');
                }
            }
        }
        Some((text, mixed))
    }

    /// The logical content of a database, without the rows that the gateway writes by itself.
    pub fn rows(&self, path: &str) -> Option<Vec<String>> {
        let (mut text, _) = self.opened(path)?;
        if !self.readable(path) {
            // Nobody knows what it holds: its side files are part of it.
            for side in side_files(path) {
                text.push_str(&self.text(&side).unwrap_or_default());
            }
        }
        Some(
            text.lines()
                .filter(|r| !is_live(r))
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Whether SQLite could read it.
    pub fn readable(&self, path: &str) -> bool {
        self.text(path).is_some_and(|t| t.starts_with("db "))
    }

    /// Opens a database as SQLite does: what side files hold comes into it, whosever they are.
    fn open(&mut self, path: &str) -> Result<(), String> {
        if !self.readable(path) {
            return Err("file is not a database".into());
        }
        let (text, mixed) = self.opened(path).ok_or("no such database")?;
        if mixed {
            self.breaks(format!(
                "{path} was opened beside a side file of another database"
            ));
        }
        let [_, _, journal] = side_files(path);
        if self.disk.find(Path::new(&journal)).is_some() || mixed {
            self.disk.rewrite(Path::new(path), text.into_bytes())?;
            self.disk.sync_file(Path::new(path))?;
            self.disk.remove(Path::new(&journal))?;
        }
        Ok(())
    }

    /// Moves what lies in side files into the database; an effect at each call that returns true.
    pub fn settle(&mut self, path: &str, stage: usize) -> Result<bool, String> {
        let [wal, shm, journal] = side_files(path);
        match stage {
            0 => {
                self.open(path)?;
                let (text, _) = self.opened(path).ok_or("no such database")?;
                if self.text(path).is_none_or(|now| now != text) {
                    self.disk.rewrite(Path::new(path), text.into_bytes())?;
                }
            }
            1 => self.disk.sync_file(Path::new(path))?,
            2 => self.disk.remove(Path::new(&wal))?,
            3 => self.disk.remove(Path::new(&shm))?,
            4 => self.disk.remove(Path::new(&journal))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn up(&mut self, name: &str) -> Result<&mut Up, String> {
        let up = self.kernel.tunnels.get_mut(name);
        up.ok_or_else(|| "no such device".to_owned())
    }

    /// Carries out one piece.
    pub fn carry_out(&mut self, piece: &Piece) -> Result<(), String> {
        match piece {
            Piece::Interface(name, config) => {
                let up = Up {
                    config: config.clone(),
                    whole: false,
                    peers: Peers::new(),
                    by_hand: SetByHand::default(),
                };
                self.kernel.tunnels.insert(name.clone(), up);
            }
            Piece::Peers(name) => {
                let up = self.kernel.tunnels.get_mut(name).ok_or("no such device")?;
                match peers::settings(&up.config) {
                    Ok(settings) => settings.iter().for_each(|s| peers::set(&mut up.peers, s)),
                    Err(why) => {
                        self.kernel.tunnels.remove(name);
                        return Err(why);
                    }
                }
            }
            Piece::Hook(hook) => self.kernel.hook(hook)?,
            Piece::PostUp(name, hook) => {
                let is_there = self.adds_once && self.kernel.has(hook);
                let done = match is_there {
                    true => Err(format!("{} is there already", hook.line)),
                    false => self.kernel.hook(hook),
                };
                if let Err(why) = done {
                    self.kernel.tunnels.remove(name);
                    return Err(why);
                }
            }
            Piece::Whole(name) => {
                if let Some(up) = self.kernel.tunnels.get_mut(name) {
                    up.whole = true;
                }
            }
            Piece::Peer(name, setting) => peers::set(&mut self.up(name)?.peers, setting),
            Piece::PeerGone(name, key) => {
                self.up(name)?.peers.remove(key);
            }
            Piece::Link(name, change) => self.up(name)?.by_hand.set(change),
            Piece::Gone(name) => {
                self.kernel.tunnels.remove(name);
            }
            Piece::Save(path) => {
                self.writes_over(path)?;
            }
            Piece::Edit(family, batch) => {
                let rules = self.kernel.rules(*family);
                let table = batch.apply(rules)?;
                rules.insert(batch.table.clone(), table);
            }
            Piece::Nft(actions) => self.kernel.nft(actions),
            Piece::Open(path) => self.service_opens(path)?,
            Piece::Runs => self.runs(),
            Piece::Falters => {
                self.kernel.falters = true;
                self.kernel.open.clear();
            }
            Piece::Client(name, first) => self.sees_to(name, *first),
            Piece::Inactive(name) => self.calls_inactive(name)?,
            Piece::SeenTo => self.has_seen_to_all()?,
            Piece::Writes => {
                if let Some((path, bytes)) = self.unwritten.take() {
                    self.disk.rewrite(Path::new(&path), bytes)?;
                }
            }
            Piece::Close(path) => self.service_closes(path)?,
            Piece::Stopped => {
                self.stops();
            }
        }
        Ok(())
    }

    /// What `wg-quick up` does.
    pub fn tunnel_up(&self, path: &Path) -> Result<Vec<Piece>, String> {
        let (name, config) = self.config(path)?;
        if self.kernel.tunnels.contains_key(&name) {
            return Err(format!("wg-quick: `{name}' already exists"));
        }
        if self.cannot_come_up.contains(&name) {
            return Err("resolvconf: command not found".into());
        }
        let of = |key| hooks(&config, key, &name).into_iter();
        let mut pieces: Vec<Piece> = of("PreUp").map(Piece::Hook).collect();
        pieces.push(Piece::Interface(name.clone(), config.clone()));
        pieces.push(Piece::Peers(name.clone()));
        pieces.extend(of("PostUp").map(|h| Piece::PostUp(name.clone(), h)));
        pieces.push(Piece::Whole(name));
        Ok(pieces)
    }

    /// What `wg-quick down` does.
    pub fn tunnel_down(&self, path: &Path) -> Result<Vec<Piece>, String> {
        let (name, config) = self.config(path)?;
        if !self.kernel.tunnels.contains_key(&name) {
            return Err(format!("wg-quick: `{name}' is not a WireGuard interface"));
        }
        let of = |key| hooks(&config, key, &name).into_iter();
        let mut pieces: Vec<Piece> = of("PreDown").map(Piece::Hook).collect();
        if config.contains("SaveConfig = true") {
            pieces.push(Piece::Save(path.to_owned()));
        }
        pieces.push(Piece::Gone(name.clone()));
        pieces.extend(of("PostDown").map(Piece::Hook));
        Ok(pieces)
    }

    fn config(&self, path: &Path) -> Result<(String, String), String> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let config = self
            .text(&path.to_string_lossy())
            .ok_or_else(|| format!("wg-quick: `{}' does not exist", path.display()))?;
        Ok((name.into_owned(), config))
    }

    /// A new file of root's alone, without comments, under the old name: synced, but the name is not.
    fn writes_over(&mut self, path: &Path) -> Result<(), String> {
        let text = self.text(&path.to_string_lossy()).ok_or("no such config")?;
        let lines = text.lines().filter(|line| !line.contains('#'));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let new = format!("{}.tmp", path.display());
        self.disk.put(&new, text.as_bytes(), 0o600);
        let object = self.disk.find(Path::new(&new)).ok_or("no such file")?;
        let held = self.disk.inode(object).map(|i| i.now.clone());
        let (uid, gid) = (0, 0);
        let held = held.ok_or("no such file")?;
        self.disk
            .write(object, super::disk::Held { uid, gid, ..held });
        self.disk.sync_file(Path::new(&new))?;
        self.disk.rename_over(Path::new(&new), path)
    }

    /// What was left under way goes on to its end.
    pub fn finish_under_way(&mut self) {
        for piece in std::mem::take(&mut self.under_way).pieces {
            if self.carry_out(&piece).is_err() {
                return;
            }
        }
    }

    /// Its driver is dead: what is under way in its session is nobody's any more.
    pub fn orphan(&mut self) {
        if self.under_way.of_session {
            self.orphaned
                .extend(std::mem::take(&mut self.under_way).pieces);
        }
    }

    /// What nobody ended goes on to its end.
    pub fn finish_orphaned(&mut self) {
        for piece in std::mem::take(&mut self.orphaned) {
            if self.carry_out(&piece).is_err() {
                return;
            }
        }
    }

    /// The power goes and comes again over this disk. A gateway behind a barrier is not started.
    pub fn reboot(&self, disk: Disk) -> World {
        World {
            disk,
            kernel: Kernel::booted(),
            boot: self.boot + 1,
            clock: self.clock + 60_000,
            under_way: UnderWay::default(),
            orphaned: Vec::new(),
            databases: self.databases.clone(),
            unwritten: None,
            wireguard: self.wireguard.clone(),
            start: self.start.clone(),
            not_up: BTreeSet::new(),
            asked_for: false,
            called_inactive: self.called_inactive.clone(),
            due: Vec::new(),
            unread: self.unread,
            adds_once: self.adds_once,
            cannot_come_up: self.cannot_come_up.clone(),
            actor: None,
            acted: self.acted.clone(),
            broken: self.broken.clone(),
        }
    }
}
