//! The only hand that appends to a journal. Owns the permit: the permission to act that only a synced intent gives, and
//! the poison: after a failed append this writer never writes again.

use std::path::Path;
use std::sync::Arc;

use journal_format::{
    AskedBy, Chain, Driver, Entry, Exchange, Header, Info, Move, Note, Plan, Policy, Problem,
    Record, Role, Scan, Seq, State, Tail, Verdict,
};

use crate::error::{Code, cannot};
use crate::host::{Append, Host, Permit};
use crate::restore::step::Report;

/// No journal is longer: a plan and its exchanges are as long as the list of files is.
pub const JOURNAL_BYTES: u64 = 1 << 30;
/// Space reserved behind the end of a journal, so that a full disk cannot stop a restore half way. A restore writes
/// some 40 records besides the plan and the two lists of exchanges, which are counted apart.
const RESERVE_BYTES: u64 = 1 << 20;

/// One start of a driver, and who asked for it.
#[derive(Debug, Clone)]
pub struct DriverStart {
    /// The driver.
    pub driver: Driver,
    /// Who asked, where that is known.
    pub asked_by: Option<AskedBy>,
}

impl From<Driver> for DriverStart {
    fn from(driver: Driver) -> DriverStart {
        DriverStart {
            driver,
            asked_by: None,
        }
    }
}

/// The open end of one journal, with the state that its records add up to.
pub struct JournalWriter<'h> {
    host: &'h dyn Host,
    file: Box<dyn Append>,
    chain: Chain,
    state: State,
    poisoned: Option<Problem>,
}

impl<'h> JournalWriter<'h> {
    /// Makes the journal of a new restore: header, plan and driver are durable when this returns.
    pub fn begin(
        host: &'h dyn Host,
        path: &Path,
        header: Header,
        plan: impl Into<Arc<Plan>>,
        start: impl Into<DriverStart>,
    ) -> Result<JournalWriter<'h>, Problem> {
        let now = host.now();
        let DriverStart { driver, asked_by } = start.into();
        let mut chain = Chain::start();
        let record = |seq, entry| Record {
            seq,
            at_ms: now.at_ms,
            up_ms: now.up_ms,
            entry,
            info: None,
        };
        let first = Record {
            info: Info::asked_by(asked_by),
            ..record(Seq(0), Entry::Header(header))
        };
        let mut state = State::begin(&first).map_err(bug)?;
        let mut bytes = chain.encode(&first).map_err(bug)?;
        for (seq, entry) in [
            (Seq(1), Entry::Plan(plan.into())),
            (Seq(2), Entry::Driver(driver)),
        ] {
            let next = record(seq, entry);
            state.apply(&next).map_err(bug)?;
            // Not the long line behind the short one: the plan's has megabytes, and is not to be held twice.
            let mut line = chain.encode(&next).map_err(bug)?;
            if line.len() > bytes.len() {
                line.splice(0..0, bytes);
                bytes = line;
            } else {
                bytes.extend(line);
            }
        }
        // Whole or not at all: only a single record can be told from damage when its writing is cut off.
        host.keep(path, &bytes)?;
        // Room for the exchanges of both swaps: they are at most as long as the plan.
        let file = host.open_journal(path, RESERVE_BYTES + 4 * bytes.len() as u64)?;
        drop(bytes);
        Ok(JournalWriter {
            host,
            file,
            chain,
            state,
            poisoned: None,
        })
    }

    /// Opens the journal of an open restore for a recovery. A torn tail is kept as a copy and cut off; the valid part
    /// is written to a new file first, since the page cache may lie after a failed sync.
    pub fn reopen(
        host: &'h dyn Host,
        path: &Path,
        bytes: &[u8],
        scan: Scan,
        start: impl Into<DriverStart>,
    ) -> Result<JournalWriter<'h>, Problem> {
        let damaged = || {
            cannot(
                Code::JOURNAL_UNUSABLE,
                format!("use the journal {}: it is damaged", path.display()),
                "run `holdfast journal verify`; nothing was changed",
            )
        };
        let (Some(state), Some(chain)) = (scan.state, scan.chain) else {
            return Err(damaged());
        };
        let valid = bytes.get(..scan.valid_len).ok_or_else(damaged)?;
        if let Tail::Torn { .. } = scan.tail {
            host.keep(
                &path.with_extension(format!("torn-{}", scan.valid_len)),
                &bytes[scan.valid_len..],
            )?;
        }
        host.keep(path, valid)?;
        let file = host.open_journal(path, RESERVE_BYTES + 2 * valid.len() as u64)?;
        let mut writer = JournalWriter {
            host,
            file,
            chain,
            state,
            poisoned: None,
        };
        let DriverStart { driver, asked_by } = start.into();
        writer.write_with(Entry::Driver(driver), Info::asked_by(asked_by))?;
        Ok(writer)
    }

    /// What the records add up to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Writes an intent, and hands out the permission to act once it is durable.
    #[expect(clippy::disallowed_methods, reason = "here the intent is synced")]
    pub fn intend(&mut self, r#move: Move, exchanges: Vec<Exchange>) -> Result<Permit, Problem> {
        self.write(Entry::Intent { r#move, exchanges })?;
        Ok(Permit::after_intent(r#move))
    }

    /// Writes what became of a move, and takes the permission back: what it did, if the host was seen to be as it should
    /// be, or why it was not.
    pub fn settle(
        &mut self,
        permit: Permit,
        outcome: Result<Report, Problem>,
    ) -> Result<(), Problem> {
        let r#move = permit.r#move();
        self.write(match outcome {
            Ok(Report { did, warnings }) => Entry::Done {
                r#move,
                did,
                warnings,
            },
            Err(problem) => Entry::Failed { r#move, problem },
        })
    }

    /// The barrier is durable.
    pub fn armed(&mut self, facts: journal_format::Digest) -> Result<(), Problem> {
        self.write(Entry::Armed { facts })
    }

    /// This driver begins the list anew. As a recovery that nobody asked for: its counts go on, and so does the choice that was
    /// made for it.
    pub fn anew(&mut self) -> Result<(), Problem> {
        let driver = self
            .state
            .driver
            .clone()
            .ok_or_else(|| bug("no driver has started"))?;
        self.write(Entry::Driver(Driver {
            role: Role::Recover,
            ..driver
        }))
    }

    /// From here it goes back.
    pub fn turn(&mut self, problem: Problem) -> Result<(), Problem> {
        self.write_twice(Entry::Turned { problem })
    }

    /// From here it goes forward.
    pub fn commit(&mut self) -> Result<(), Problem> {
        self.write_twice(Entry::Committed)
    }

    /// It is over.
    pub fn close(&mut self, verdict: Verdict, warnings: Vec<Note>) -> Result<(), Problem> {
        self.write_twice(Entry::Closed { verdict, warnings })
    }

    /// It needs the operator.
    pub fn stuck(&mut self, problem: Problem) -> Result<(), Problem> {
        self.write(Entry::Stuck { problem })
    }

    /// The policy in force: the one of this start, or the plan's.
    pub fn policy(&self) -> Policy {
        let of_start = self.state.driver.as_ref().and_then(|d| d.policy);
        of_start
            .or(self.state.plan.as_ref().map(|p| p.policy))
            .unwrap_or_default()
    }

    /// A decisive record is written twice, so that damage to a last line cannot undo it.
    fn write_twice(&mut self, entry: Entry) -> Result<(), Problem> {
        self.write(entry.clone())?;
        self.write(entry)
    }

    fn write(&mut self, entry: Entry) -> Result<(), Problem> {
        self.write_with(entry, None)
    }

    fn write_with(&mut self, entry: Entry, info: Option<Info>) -> Result<(), Problem> {
        if let Some(problem) = &self.poisoned {
            return Err(problem.clone());
        }
        let now = self.host.now();
        let record = Record {
            seq: self.state.seq.next(),
            at_ms: now.at_ms,
            up_ms: now.up_ms,
            // A journal goes on as it began.
            entry: entry.within(self.state.header.format),
            info,
        };
        let written = self.state.apply(&record).map_err(bug).and_then(|()| {
            let bytes = self.chain.encode(&record).map_err(bug)?;
            self.file.append(&bytes)
        });
        if let Err(problem) = written {
            self.poisoned = Some(problem.clone());
            return Err(problem);
        }
        Ok(())
    }
}

/// A record that the grammar refuses while writing is a fault of this program: it halts, and recovery decides.
fn bug(error: impl std::fmt::Display) -> Problem {
    crate::error::bug(format!("write the journal: {error}"))
}
