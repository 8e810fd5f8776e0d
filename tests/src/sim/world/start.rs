//! The start of the gateway's service, as its unit has it in the field: it sees to every active client, fails if it could not
//! bring one up, and is started again by its manager. Owns how starts differ, and what comes later by itself.

use std::collections::BTreeSet;
use std::path::Path;

use engine::host::Family;

use super::{Piece, World, name_of, side_files};

/// How the service starts. It always brings up its active clients, leaves alone what is up, and adds the rules of each again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceStart {
    /// A client that it cannot bring up it takes down, calls inactive in its row, goes on, and fails in the end; a start that is
    /// polite passes over it.
    pub takes_down: bool,
    /// These clients it cannot bring up even where `wg-quick` can, or they are up: there is no default route, say.
    pub cannot: Vec<String>,
    /// What it cannot do, and that it dies or never runs, is so with the first database of this name alone, as its first line
    /// says it; with any if there is none here.
    pub with: Option<&'static str>,
    /// At so many starts; then the cause is gone.
    pub times: u32,
    /// It runs, and dies so long after its start, ms.
    pub dies_after_ms: Option<u64>,
    /// So long its manager waits before it starts it again after it failed or died, ms.
    pub again_ms: u64,
    /// It adds its rules, and never runs: its manager tries for ever, which is not followed here.
    pub never_runs: bool,
}

impl ServiceStart {
    /// It passes over what it cannot bring up.
    pub fn polite() -> ServiceStart {
        ServiceStart {
            takes_down: false,
            cannot: Vec::new(),
            with: None,
            times: 0,
            dies_after_ms: None,
            again_ms: 10_000,
            never_runs: false,
        }
    }

    /// It cannot bring up these clients, with the database of this name.
    pub fn lifelike(cannot: &[&str], with: &'static str) -> ServiceStart {
        ServiceStart {
            takes_down: true,
            cannot: cannot.iter().map(|name| (*name).to_owned()).collect(),
            with: Some(with),
            times: u32::MAX,
            ..ServiceStart::polite()
        }
    }
}

/// What comes later by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Due {
    /// Its manager starts the service again.
    StartsAgain,
    /// The service dies.
    Dies,
}

/// A start called a client inactive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CalledInactive {
    /// In this boot.
    pub boot: u32,
    /// Holdfast asked for that start.
    pub asked_for: bool,
    /// Holdfast has set it active since.
    pub put_right: bool,
}

/// The row of a client that is inactive, and that of the same client while it is active.
fn inactive(client: &str) -> (String, String) {
    ["inactive", "active"]
        .map(|status| format!("client {client} {status}\n"))
        .into()
}

impl World {
    /// Whether this start is one of those that go wrong.
    pub(super) fn start_is_concerned(&self) -> bool {
        let first = self.databases.first().and_then(|path| self.text(path));
        let is_it = |name: &str| first.as_deref().map(name_of) == Some(name);
        self.start.times > 0 && self.start.with.is_none_or(is_it)
    }

    /// Somebody starts the service: how far it comes is its own affair.
    pub(in crate::sim) fn starts(&mut self) {
        self.asked_for = false;
        self.starts_again();
    }

    /// Its manager starts the service again, whoever asked for the start before.
    fn starts_again(&mut self) {
        for piece in self.service_start() {
            if self.carry_out(&piece).is_err() {
                return;
            }
        }
    }

    pub(super) fn sees_to(&mut self, name: &str, first: bool) {
        if first {
            self.not_up.clear();
            self.due.retain(|(_, due)| *due != Due::StartsAgain);
        }
        let path = Path::new(&self.wireguard).join(format!("{name}.conf"));
        let is_up = |world: &World| world.kernel.tunnels.contains_key(name);
        let cannot = self.start.cannot.iter().any(|c| c == name) && self.start_is_concerned();
        if !cannot && !is_up(self) {
            self.as_far_as_it_goes(self.tunnel_up(&path));
        }
        if is_up(self) && !cannot || !self.start.takes_down {
            return self.add_rules_of(name);
        }
        self.as_far_as_it_goes(self.tunnel_down(&path));
        self.not_up.insert(name.to_owned());
    }

    fn as_far_as_it_goes(&mut self, pieces: Result<Vec<Piece>, String>) {
        for piece in pieces.unwrap_or_default() {
            if self.carry_out(&piece).is_err() {
                return;
            }
        }
    }

    /// One row of a database is written, whole and durable, as by SQLite.
    pub(super) fn calls_inactive(&mut self, name: &str) -> Result<(), String> {
        let Some(path) = self.databases.first().cloned() else {
            return Ok(());
        };
        if !self.not_up.contains(name) || !self.readable(&path) {
            return Ok(());
        }
        self.open(&path)?;
        let [wal, ..] = side_files(&path);
        for file in [&path, &wal] {
            let (is, was) = inactive(name);
            let Some(text) = self.text(file).filter(|text| text.contains(&was)) else {
                continue;
            };
            let database = name_of(&text).to_owned();
            let mark = (database, name.to_owned());
            let before = self.called_inactive.get(&mark);
            // Holdfast leaves down what another start took down before.
            let by_another =
                before.is_some_and(|c| c.boot == self.boot && !c.asked_for && !c.put_right);
            let called = CalledInactive {
                boot: self.boot,
                asked_for: self.asked_for && !by_another,
                put_right: false,
            };
            self.called_inactive.insert(mark, called);
            self.disk
                .rewrite(Path::new(file), text.replace(&was, &is).into_bytes())?;
            self.disk.sync_file(Path::new(file))?;
        }
        Ok(())
    }

    /// Those of these clients that are inactive in a database are active again, all at once, whole and durable.
    pub fn calls_active(&mut self, path: &str, clients: &BTreeSet<String>) -> Result<(), String> {
        self.open(path)?;
        let [wal, ..] = side_files(path);
        for file in [path, &wal] {
            let Some(text) = self.text(file) else {
                continue;
            };
            let database = name_of(&text).to_owned();
            let mut now = text.clone();
            for client in clients {
                let (is, was) = inactive(client);
                now = now.replace(&is, &was);
                let mark = (database.clone(), client.clone());
                if let Some(called) = self.called_inactive.get_mut(&mark) {
                    called.put_right = true;
                }
            }
            if now != text {
                self.disk.rewrite(Path::new(file), now.into_bytes())?;
                self.disk.sync_file(Path::new(file))?;
            }
        }
        Ok(())
    }

    /// The machine before its boot: without what the start of the service, which this boot ran, wrote.
    pub fn before_its_boot(&self, start: &ServiceStart) -> World {
        let mut fresh = self.reboot(self.disk.clone());
        let in_this_boot = |called: &CalledInactive| called.boot == self.boot;
        let called = self.called_inactive.iter();
        for ((database, client), _) in called.filter(|(_, called)| in_this_boot(called)) {
            let (is, was) = inactive(client);
            for (path, inode) in self.disk.files() {
                let text = String::from_utf8_lossy(&inode.now.data);
                if name_of(&text) == database {
                    // The name was just seen.
                    let text = text.replace(&is, &was).into_bytes();
                    let _ = fresh.disk.rewrite(Path::new(&path), text);
                }
            }
            fresh.start = start.clone();
        }
        fresh
    }

    pub(super) fn has_seen_to_all(&mut self) -> Result<(), String> {
        if let Some(on) = self.kernel.forwards.get_mut(&Family::V4) {
            *on = true;
        }
        if self.not_up.is_empty() {
            return Ok(());
        }
        self.start.times = match self.start.times {
            u32::MAX => u32::MAX,
            times => times.saturating_sub(1),
        };
        self.not_up.clear();
        self.ends();
        Err("a client did not come up".into())
    }

    pub(super) fn runs(&mut self) {
        self.kernel.running = true;
        self.kernel.runs += 1;
        self.kernel.falters = false;
        if let Some(ms) = self.start.dies_after_ms
            && self.start_is_concerned()
        {
            self.start.times -= 1;
            self.due.push((self.clock + ms, Due::Dies));
        }
    }

    /// It stops because it was told to.
    pub(super) fn stops(&mut self) {
        self.kernel.running = false;
        self.kernel.falters = false;
        self.kernel.open.clear();
        self.not_up.clear();
        self.due.clear();
    }

    /// It failed or died: its manager starts it again later.
    fn ends(&mut self) {
        self.stops();
        self.kernel.falters = true;
        self.due
            .push((self.clock + self.start.again_ms, Due::StartsAgain));
    }

    /// So long until the manager starts the service again, if it will.
    pub(super) fn until_started_again(&self) -> Option<u64> {
        let mut due = self.due.iter();
        let (at, _) = due.find(|(_, due)| *due == Due::StartsAgain)?;
        Some(at.saturating_sub(self.clock))
    }

    /// So many milliseconds go by, and what is due in them comes.
    pub fn time_passes(&mut self, ms: u64) {
        let until = self.clock + ms;
        while let Some(next) = (0..self.due.len())
            .filter(|n| self.due[*n].0 <= until)
            .min_by_key(|n| self.due[*n].0)
        {
            let (at, due) = self.due.remove(next);
            self.clock = self.clock.max(at);
            match due {
                Due::StartsAgain => self.starts_again(),
                Due::Dies => self.ends(),
            }
        }
        self.clock = until;
    }
}
