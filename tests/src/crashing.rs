//! A host that dies: the real machine, every effect on it counted, and SIGKILL before or within a chosen one. Owns what
//! counts as an effect; changes nothing by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::backup::Made;
use engine::error::{Fault, Problem};
use engine::gateway::database::{Client, Settled, Trouble};
use engine::gateway::kernel_facts::Facts;
use engine::host::Permit;
use engine::host::linux::Linux;
use engine::host::{
    Act, Append, Family, Fill, Fixed, FoundFile, GatewayCommand, Holder, LiveDatabases, Look, Meta,
    Now, OpenFile, OpenFiles, Output, Own, Owner, Query,
};
use engine::restore::step::Machine;
use journal_format::{BootId, Digest};
use nix::sys::signal::Signal;

/// When the process dies. Effects count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before this effect.
    Before(u64),
    /// When half the bytes are written, or so long after the command began; else right after it.
    Within(u64, Duration),
}

impl std::str::FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Moment, String> {
        let number = |text: &str| text.parse().map_err(|e| format!("{text}: {e}"));
        match text.split(':').collect::<Vec<_>>()[..] {
            ["before", k] => Ok(Moment::Before(number(k)?)),
            ["within", k, ms] => Ok(Moment::Within(
                number(k)?,
                Duration::from_millis(number(ms)?),
            )),
            _ => Err(format!("{text} is neither before:K nor within:K:MS")),
        }
    }
}

#[derive(Debug)]
struct Counter {
    moment: Option<Moment>,
    count: AtomicU64,
    names: Mutex<Vec<&'static str>>,
}

impl Counter {
    /// Counts one effect; dies before it if that is the moment. Gives how far into it it is to die, if it is.
    fn begins(&self, name: &'static str) -> Option<Duration> {
        let k = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name);
        match self.moment {
            Some(Moment::Before(at)) if at == k => die(),
            Some(Moment::Within(at, after)) if at == k => Some(after),
            Some(Moment::Before(_) | Moment::Within(..)) | None => None,
        }
    }

    fn effect<T>(&self, name: &'static str, act: impl FnOnce() -> T) -> T {
        let dies = self.begins(name);
        let result = act();
        if dies.is_some() { die() } else { result }
    }
}

/// SIGKILL to itself; nothing after it runs.
fn die() -> ! {
    // It cannot fail: the process is there and its own.
    let _ = nix::sys::signal::kill(nix::unistd::getpid(), Signal::SIGKILL);
    loop {
        std::thread::park();
    }
}

/// The real machine, with a moment of death.
#[derive(Clone)]
pub struct Crashing {
    inner: Arc<Linux>,
    counter: Arc<Counter>,
}

impl Crashing {
    /// Dies at this moment; never if none.
    pub fn new(inner: Linux, moment: Option<Moment>) -> Crashing {
        Crashing {
            inner: Arc::new(inner),
            counter: Arc::new(Counter {
                moment,
                count: AtomicU64::new(0),
                names: Mutex::new(Vec::new()),
            }),
        }
    }

    /// What each effect so far was, in order.
    pub fn effects(&self) -> Vec<&'static str> {
        self.counter
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Look for Crashing {
    fn stat(&self, path: &Path) -> Result<Option<Meta>, Problem> {
        self.inner.stat(path)
    }
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Problem> {
        self.inner.read(path, limit)
    }
    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        self.inner.link_target(path)
    }
    fn access(&self, path: &Path) -> io::Result<Option<FoundFile>> {
        self.inner.access(path)
    }
    fn owner(&self, owner: &str) -> Result<(u32, u32), Problem> {
        self.inner.owner(owner)
    }
    fn clients_of_copy(&self, path: &Path) -> Result<Vec<Client>, Problem> {
        self.inner.clients_of_copy(path)
    }

    fn databases(&self) -> Box<dyn LiveDatabases + '_> {
        self.inner.databases()
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>, Problem> {
        self.inner.list(dir)
    }
    fn sha256(&self, path: &Path) -> Result<Digest, Problem> {
        self.inner.sha256(path)
    }
    fn free_bytes(&self, dir: &Path) -> Result<u64, Problem> {
        self.inner.free_bytes(dir)
    }
    fn holders(&self, files: &[PathBuf]) -> Result<Vec<Holder>, Problem> {
        self.inner.holders(files)
    }
    fn open_files(&self, pids: &[u32]) -> Result<OpenFiles, Problem> {
        self.inner.open_files(pids)
    }
    fn is_sqlite(&self, path: &Path) -> Result<bool, Problem> {
        self.inner.is_sqlite(path)
    }
    fn is_sqlite_open(&self, file: &OpenFile) -> Result<bool, Problem> {
        self.inner.is_sqlite_open(file)
    }
    fn ask(&self, query: &Query, input: &str) -> Result<Output, Problem> {
        self.inner.ask(query, input)
    }
    fn has_program(&self, name: &str) -> bool {
        self.inner.has_program(name)
    }
    fn can_write(&self, dir: &Path) -> Result<(), Problem> {
        self.inner.can_write(dir)
    }
    fn fixed(&self, path: &Path) -> Result<Option<Fixed>, Problem> {
        self.inner.fixed(path)
    }
    fn mount_points(&self) -> Result<Vec<String>, Problem> {
        self.inner.mount_points()
    }
    fn forwarding(&self, family: Family) -> Result<Option<bool>, Problem> {
        self.inner.forwarding(family)
    }
    fn forwarding_interfaces(&self, family: Family) -> Result<Vec<String>, Problem> {
        self.inner.forwarding_interfaces(family)
    }
    fn forwarding_of(&self, family: Family, interface: &str) -> Result<Option<bool>, Problem> {
        self.inner.forwarding_of(family, interface)
    }
    fn boot(&self) -> Result<BootId, Problem> {
        self.inner.boot()
    }
    fn now(&self) -> Now {
        self.inner.now()
    }
    fn sleep(&self, ms: u64) {
        self.inner.sleep(ms);
    }

    fn userspace(&self, tunnels: &BTreeSet<&str>) -> Result<BTreeMap<String, String>, Problem> {
        self.inner.userspace(tunnels)
    }

    fn tunnel_limit(&self) -> Duration {
        self.inner.tunnel_limit()
    }
}

impl Act for Crashing {
    fn make_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.counter
            .effect("make a folder", || self.inner.make_dir(permit, dir))
    }

    fn create(
        &self,
        permit: &Permit,
        path: &Path,
        owner: Owner,
        fill: &mut Fill,
    ) -> Result<(), Problem> {
        let dies = self.counter.begins("create a file");
        self.inner.create(permit, path, owner, &mut |out| {
            if dies.is_none() {
                return fill(out);
            }
            let mut bytes = Vec::new();
            fill(&mut bytes)?;
            // Half a file or none: it dies either way.
            let _ = out.write_all(&bytes[..bytes.len() / 2]);
            die()
        })
    }

    fn exchange(&self, permit: &Permit, a: &Path, b: &Path) -> Result<(), Problem> {
        self.counter
            .effect("exchange", || self.inner.exchange(permit, a, b))
    }

    fn rename(&self, permit: &Permit, from: &Path, to: &Path) -> Result<(), Problem> {
        self.counter
            .effect("rename", || self.inner.rename(permit, from, to))
    }

    fn copy(&self, permit: &Permit, from: &Path, to: &Path) -> Result<Vec<String>, Problem> {
        self.counter
            .effect("copy", || self.inner.copy(permit, from, to))
    }

    fn take_attributes(
        &self,
        permit: &Permit,
        from: &Path,
        to: &Path,
    ) -> Result<Vec<String>, Problem> {
        self.counter.effect("take attributes", || {
            self.inner.take_attributes(permit, from, to)
        })
    }

    fn remove_file(&self, permit: &Permit, path: &Path) -> Result<(), Problem> {
        self.counter
            .effect("remove a file", || self.inner.remove_file(permit, path))
    }

    fn remove_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.counter
            .effect("remove a folder", || self.inner.remove_dir(permit, dir))
    }

    fn sync_file(&self, permit: &Permit, path: &Path) -> Result<(), Problem> {
        self.counter
            .effect("sync a file", || self.inner.sync_file(permit, path))
    }

    fn sync_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.counter
            .effect("sync a folder", || self.inner.sync_dir(permit, dir))
    }

    fn sync_filesystem(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.counter.effect("sync a filesystem", || {
            self.inner.sync_filesystem(permit, dir)
        })
    }

    fn settle_database(&self, permit: &Permit, path: &Path) -> Result<Settled, Problem> {
        self.counter.effect("settle a database", || {
            self.inner.settle_database(permit, path)
        })
    }

    fn call_active(
        &self,
        permit: &Permit,
        database: &Path,
        clients: &BTreeSet<String>,
    ) -> Result<(), Trouble> {
        let call = || self.inner.call_active(permit, database, clients);
        self.counter.effect("call clients active", call)
    }

    fn set_forwarding(&self, permit: &Permit, family: Family, on: bool) -> Result<(), Problem> {
        self.counter.effect("set forwarding", || {
            self.inner.set_forwarding(permit, family, on)
        })
    }

    fn set_forwarding_of(
        &self,
        permit: &Permit,
        family: Family,
        interface: &str,
        on: bool,
    ) -> Result<(), Problem> {
        self.counter.effect("set forwarding", || {
            self.inner.set_forwarding_of(permit, family, interface, on)
        })
    }

    fn run(
        &self,
        permit: &Permit,
        command: &GatewayCommand,
        input: &str,
    ) -> Result<Output, Problem> {
        let name = match command {
            GatewayCommand::EditRules(_)
                if permit.r#move().step == journal_format::Step::ResetRules =>
            {
                "edit rules"
            }
            GatewayCommand::EditRules(_) => "load rules",
            GatewayCommand::Nft => "nft",
            GatewayCommand::TunnelUp(..) => "tunnel up",
            GatewayCommand::TunnelDown(..) => "tunnel down",
            GatewayCommand::PeersAdd(_) => "peers add",
            GatewayCommand::PeerRemove(..) => "peer remove",
            GatewayCommand::SetLink(..) => "set link",
            GatewayCommand::ServiceStart(_) => "service start",
            GatewayCommand::ServiceStop(_) => "service stop",
        };
        let Some(after) = self.counter.begins(name) else {
            return self.inner.run(permit, command, input);
        };
        std::thread::spawn(move || {
            std::thread::sleep(after);
            die()
        });
        // What runs shorter than that is a crash right after it.
        let _ = self.inner.run(permit, command, input);
        die()
    }
}

impl Machine for Crashing {
    fn safety_backup(&self, facts: &Facts) -> Result<Made, Fault> {
        self.counter
            .effect("back up", || self.inner.safety_backup(facts))
    }

    fn watched_ms(&self) -> u64 {
        self.inner.watched_ms()
    }

    fn client_database(&self) -> Option<PathBuf> {
        self.inner.client_database()
    }
}

impl Own for Crashing {
    fn keep_dir(&self, dir: &Path) -> Result<(), Problem> {
        self.counter
            .effect("keep a folder", || self.inner.keep_dir(dir))
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), Problem> {
        self.counter
            .effect("keep a file", || self.inner.keep(path, bytes))
    }

    fn discard(&self, path: &Path) -> Result<(), Problem> {
        self.counter
            .effect("discard a file", || self.inner.discard(path))
    }

    fn reserve(&self, path: &Path, bytes: u64) -> Result<(), Problem> {
        self.counter
            .effect("reserve space", || self.inner.reserve(path, bytes))
    }

    fn release_services(&self) {
        self.inner.release_services();
    }

    fn open_journal(&self, path: &Path, reserve: u64) -> Result<Box<dyn Append>, Problem> {
        let inner = self.counter.effect("open the journal", || {
            self.inner.open_journal(path, reserve)
        })?;
        Ok(Box::new(Dying {
            inner,
            counter: self.counter.clone(),
        }))
    }

    fn end_session(
        &self,
        session: u32,
        started_ticks: u64,
        since_up_ms: u64,
    ) -> Result<Vec<String>, Problem> {
        self.counter.effect("end a session", || {
            let inner = &self.inner;
            inner.end_session(session, started_ticks, since_up_ms)
        })
    }
}

/// What the record of a move that is done holds.
const OUTCOME: &[u8] = br#""entry":{"done":"#;

struct Dying {
    inner: Box<dyn Append>,
    counter: Arc<Counter>,
}

impl Append for Dying {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let outcome = bytes.windows(OUTCOME.len()).any(|window| window == OUTCOME);
        let name = if outcome {
            "append an outcome"
        } else {
            "append"
        };
        if self.counter.begins(name).is_none() {
            return self.inner.append(bytes);
        }
        // Half a record or none: it dies either way.
        let _ = self.inner.append(&bytes[..bytes.len() / 2]);
        die()
    }
}
