//! What those who watch a restore cost: ten who read and one who asks and reads nothing. Owns the connections to the agent, how
//! late its events come, and what is counted as late. Measures the agent whole: its sign-in is in its peak of memory, too.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use agent_protocol::{Ask, Password, Reply, Request, Token, Wire, greet};
use fixtures::{Result, Running, Shape, Trouble};
use journal_format::{RestoreId, Seq};

use crate::gateway::Gateway;
use crate::measure::{Once, Series, alternate};
use crate::options::{Options, Part};
use crate::report::Report;
use crate::work::next_second;

/// Those who read.
const READERS: usize = 10;
/// Most memory that the agent may take.
const MEMORY_KIB: u64 = 48 << 10;
/// Most that watching may slow a restore.
const SLOWER: f64 = 1.05;
/// How late an event may come.
const LATE_MS: f64 = 200.0;
/// How often the journal is looked at from outside.
const LOOK: Duration = Duration::from_millis(2);

/// Watches restores that change every config of a gateway that is up.
pub fn measure(
    folder: &Path,
    clients: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    if !options.wants(Part::Viewers) {
        return Ok(());
    }
    let folder = tempfile::tempdir_in(folder)?;
    let shape = Shape {
        active: options.tunnels.min(clients),
        ..Shape::of(clients)
    };
    let gateway = Gateway::live(folder.path(), &shape)?;
    gateway.holdfast(&["secure"])?;
    let mut agent = Agent::start(&gateway)?;
    let token = agent.sign_in(&gateway)?;
    let name = format!("{clients} clients");
    report.memory("agent, after one sign-in", &name, agent.peak_kib()?);
    let mut late = Vec::new();
    let prepare = || {
        gateway.change(clients)?;
        next_second();
        Ok::<(), Trouble>(())
    };
    let (watched, alone) = alternate(
        options.runs,
        || {
            prepare()?;
            let (once, mut lags) = watched(&gateway, &agent, &token)?;
            lags.sort();
            late.push(lags);
            Ok(once)
        },
        || {
            prepare()?;
            Ok(gateway.restore()?.0)
        },
    )?;
    let work = format!("restore with {READERS} viewers");
    let than = ("the same without them", alone);
    report.compare((&work, &name), watched, than, Some(SLOWER));
    report.memory_within(
        &format!("agent, {READERS} viewers"),
        &name,
        agent.peak_kib()?,
        MEMORY_KIB,
    );
    // The first run of each side does not count.
    let of = |share: usize| {
        let runs = late.iter().skip(1);
        let took = runs.filter_map(|lags| lags.get((lags.len() - 1) * share / 100).copied());
        let once = |took| Once {
            took,
            ..Once::default()
        };
        Series(took.map(once).collect())
    };
    for (what, share) in [("95 of 100 events", 95), ("the latest event", 100)] {
        report.alone(&format!("{what} after"), &name, of(share), LATE_MS);
    }
    Ok(())
}

/// The agent of a gateway.
struct Agent {
    running: Running,
    socket: PathBuf,
}

impl Agent {
    fn start(gateway: &Gateway) -> Result<Agent> {
        let socket = gateway.sample().root().join("agent.sock");
        let shown = socket.display().to_string();
        let argv = gateway.argv(&["agent", "--socket", &shown]);
        let mut running = gateway.sandbox.spawn(&argv)?;
        while UnixStream::connect(&socket).is_err() {
            if running.has_ended()? {
                return Err(Trouble::new(running.stderr_so_far()?));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Agent { running, socket })
    }

    fn sign_in(&self, gateway: &Gateway) -> Result<Token> {
        let user = gateway.sample().admin()?;
        let mut wire = asked(
            &self.socket,
            &Request::SignIn {
                user: user.name.clone(),
                password: Password::new(user.password.clone()),
                device: None,
                from: None,
            },
        )?;
        match wire.receive().map_err(Trouble::at("sign in"))? {
            Reply::SignedIn { session, .. } => Ok(session.token),
            other => Err(Trouble::new(format!("sign in: {other:?}"))),
        }
    }

    /// The most memory that it held since it started.
    fn peak_kib(&mut self) -> Result<u64> {
        let pid = self.running.pid()?;
        let pid = pid.ok_or_else(|| Trouble::new("the agent ended"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let number = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok());
        number.ok_or_else(|| Trouble::new("the kernel does not tell the agent's peak of memory"))
    }
}

/// A connection on which this was asked.
fn asked(socket: &Path, request: &Request) -> Result<Wire<UnixStream>> {
    let mut wire = Wire::new(UnixStream::connect(socket)?);
    greet(&mut wire, "benches").map_err(Trouble::at("greet the agent"))?;
    wire.send(request).map_err(Trouble::at("ask the agent"))?;
    Ok(wire)
}

/// Restores while all watch. Gives what the restore took, and how late each event came to each reader.
fn watched(gateway: &Gateway, agent: &Agent, token: &Token) -> Result<(Once, Vec<Duration>)> {
    let restores = gateway.sample().state_dir().join("restores");
    let before = names(&restores)?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let id = began(&restores, &before, &ended)?;
            watch(&agent.socket, token, &restores, &id)
        });
        let restored = gateway.restore();
        ended.store(true, Ordering::Relaxed);
        let lags = crowd.join().map_err(|_| Trouble::new("a viewer panicked"));
        Ok((restored?.0, lags??))
    })
}

fn names(folder: &Path) -> Result<BTreeSet<OsString>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| Ok(e?.file_name())).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(e) => Err(e.into()),
    }
}

/// The restore that was not there before, once its journal begins.
fn began(restores: &Path, before: &BTreeSet<OsString>, ended: &AtomicBool) -> Result<RestoreId> {
    while !ended.load(Ordering::Relaxed) {
        let names = names(restores)?;
        let mut new = names.difference(before).filter_map(|n| n.to_str());
        if let Some(id) = new.find(|id| length(&restores.join(id).join("journal")) > 0) {
            return RestoreId::new(id).map_err(Trouble::at("understand a restore's name"));
        }
        std::thread::sleep(LOOK);
    }
    Err(Trouble::new("the restore ended before it was watched"))
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |m| m.len())
}

/// All watch until it is over.
fn watch(socket: &Path, token: &Token, restores: &Path, id: &RestoreId) -> Result<Vec<Duration>> {
    let request = Request::Admin {
        from: None,
        token: token.clone(),
        ask: Ask::Events {
            id: id.clone(),
            after: None,
        },
    };
    // It stays open until the others have read all.
    let _reads_nothing = asked(socket, &request)?;
    let journal = restores.join(id.as_str()).join("journal");
    let (grown, read) = std::thread::scope(|scope| {
        let read = || read_all(socket, &request);
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        let grown = growth(&journal, &readers);
        let join = |r: ScopedJoinHandle<_>| r.join().unwrap_or(Err(Trouble::new("it panicked")));
        let read: Result<Vec<Read>> = readers.into_iter().map(join).collect();
        (grown, read)
    });
    let bytes = std::fs::read(&journal)?;
    let newlines = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n');
    let ends: Vec<u64> = newlines.map(|(at, _)| at as u64 + 1).collect();
    let mut lags = Vec::new();
    for read in read? {
        lags.extend(read.lags(&ends, &grown)?);
    }
    Ok(lags)
}

/// How the journal grew while somebody reads: its length, and when it was shorter for the last time.
fn growth<T>(journal: &Path, readers: &[ScopedJoinHandle<'_, T>]) -> Vec<(u64, Instant)> {
    let mut grown: Vec<(u64, Instant)> = Vec::new();
    let mut before = Instant::now();
    while !readers.iter().all(ScopedJoinHandle::is_finished) {
        let now = Instant::now();
        let length = length(journal);
        if grown.last().is_none_or(|(l, _)| *l < length) {
            grown.push((length, before));
        }
        before = now;
        std::thread::sleep(LOOK);
    }
    grown
}

/// What one reader was told, and when.
struct Read {
    asked: Instant,
    events: Vec<(Seq, Instant)>,
}

fn read_all(socket: &Path, request: &Request) -> Result<Read> {
    let mut wire = asked(socket, request)?;
    let mut read = Read {
        asked: Instant::now(),
        events: Vec::new(),
    };
    loop {
        match wire.receive().map_err(Trouble::at("read events"))? {
            Reply::Event { event, .. } => read.events.push((event.seq, Instant::now())),
            Reply::Alive | Reply::Halt { .. } => {}
            Reply::Over => return Ok(read),
            other => return Err(Trouble::new(format!("read events: {other:?}"))),
        }
    }
}

impl Read {
    /// How long after its record was whole in the file, or after it was asked for if that was later, each event came. The
    /// record is durable a little later than that: it is synced first. So no event is later than this says.
    fn lags(&self, ends: &[u64], grown: &[(u64, Instant)]) -> Result<Vec<Duration>> {
        let in_order = self
            .events
            .iter()
            .map(|(seq, _)| seq.0)
            .eq(0..ends.len() as u64);
        if !in_order {
            return Err(Trouble::new("a viewer was not told every record in order"));
        }
        let of = |(end, (_, came)): (&u64, &(Seq, Instant))| {
            let whole = grown.iter().find(|(length, _)| length >= end);
            let since = whole.map_or(self.asked, |(_, at)| (*at).max(self.asked));
            came.saturating_duration_since(since)
        };
        Ok(ends.iter().zip(&self.events).map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_is_late_from_when_its_record_was_there_or_from_when_it_was_asked_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let read = Read {
            asked: at(100),
            events: vec![(Seq(0), at(110)), (Seq(1), at(190))],
        };
        let grown = [(10, at(0)), (30, at(150))];
        let lags = read.lags(&[10, 20], &grown).unwrap();
        assert_eq!(lags, [10, 40].map(Duration::from_millis));
        assert!(read.lags(&[10, 20, 30], &grown).is_err());
    }
}
