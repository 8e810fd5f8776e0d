//! The restores that are watched: one reader of each journal serves all who watch it, for the plan of a large gateway is large.
//! One thread does all the reading, since each thread that allocates much keeps much. Whoever is served slowly holds nobody up.
//! Sends nothing itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use agent_protocol::Halt;
use journal_format::{Event, RestoreId, ScannedLine, Seq, View};

use super::{Agent, follow, locked};
use crate::state_dir::follow::{Follower, StreamLost};

/// How often a journal is looked at for what is new.
const LOOK: Duration = Duration::from_millis(50);

/// The readers that somebody has.
#[derive(Default)]
pub struct Streams {
    open: Mutex<BTreeMap<RestoreId, Weak<Stream>>>,
    opened: Condvar,
}

/// One restore as it is told.
pub struct Stream {
    reading: Mutex<Watching>,
    looked: Condvar,
}

struct Watching {
    follower: Follower,
    /// What came of the last look; none before the first.
    looked: Option<Result<(), StreamLost>>,
    /// As they are sent, in order, each with the restore right behind it.
    events: Vec<Told>,
    /// The restore, where a newer version wrote on: how it stands then is not what stands behind the last event.
    unknown: Option<Arc<View>>,
    /// Whether nothing more comes.
    over: bool,
}

/// One event, and the restore right behind it.
pub type Told = (Arc<Event>, Arc<View>);

/// What of a restore is new to somebody.
pub struct News {
    /// The events that they have not had, in order.
    pub events: Vec<Told>,
    /// The restore as it is now; none while its journal has no record that can be shown.
    pub view: Option<Arc<View>>,
    /// Why it gets no further by itself.
    pub halt: Option<Halt>,
    /// Whether nothing more comes.
    pub over: bool,
}

impl Streams {
    /// The reader of this restore: the one that others have, or a new one.
    pub fn of(&self, agent: &Agent, id: &RestoreId) -> Arc<Stream> {
        let mut open = locked(&self.open);
        open.retain(|_, stream| stream.strong_count() > 0);
        if let Some(stream) = open.get(id).and_then(Weak::upgrade) {
            return stream;
        }
        let stream = Arc::new(Stream {
            reading: Mutex::new(Watching {
                follower: Follower::new(&agent.profile, id),
                looked: None,
                events: Vec::new(),
                unknown: None,
                over: false,
            }),
            looked: Condvar::new(),
        });
        open.insert(id.clone(), Arc::downgrade(&stream));
        self.opened.notify_all();
        stream
    }

    /// Reads what somebody watches, as long as the process lives.
    pub fn read(&self, agent: &Agent) {
        let mut open = locked(&self.open);
        loop {
            let watched: Vec<_> = open.values().filter_map(Weak::upgrade).collect();
            drop(open);
            for stream in &watched {
                locked(&stream.reading).look(agent);
                stream.looked.notify_all();
            }
            drop(watched);
            open = locked(&self.open);
            let nobody = |open: &mut BTreeMap<RestoreId, Weak<Stream>>| {
                open.values().all(|stream| stream.strong_count() == 0)
            };
            open = if nobody(&mut open) {
                let opened = self.opened.wait_while(open, nobody);
                opened.unwrap_or_else(PoisonError::into_inner)
            } else {
                let opened = self.opened.wait_timeout(open, LOOK);
                opened.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

impl Stream {
    /// What came after this event; all, if none was had.
    pub fn after(&self, agent: &Agent, seq: Option<Seq>) -> Result<News, StreamLost> {
        let unread = |reading: &mut Watching| reading.looked.is_none();
        let reading = self.looked.wait_while(locked(&self.reading), unread);
        let reading = reading.unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(lost)) = &reading.looked {
            return Err(lost.clone());
        }
        let new = reading.events.iter();
        let new = new.filter(|(event, _)| seq.is_none_or(|had| event.seq > had));
        Ok(News {
            events: new.cloned().collect(),
            view: reading.view(),
            halt: follow::halt(agent, &reading.follower),
            over: reading.over,
        })
    }

    /// Waits until there is more to say to whoever had this event, but not longer than this.
    pub fn wait(&self, seq: Option<Seq>, at_most: Duration) {
        let nothing = |reading: &mut Watching| {
            let last = reading.events.last().map(|(event, _)| event.seq);
            last <= seq && !reading.over && !matches!(reading.looked, Some(Err(_)))
        };
        // Whether it came or not, whoever waits looks.
        drop(
            self.looked
                .wait_timeout_while(locked(&self.reading), at_most, nothing),
        );
    }
}

impl Watching {
    fn look(&mut self, agent: &Agent) {
        self.looked = Some(self.read(agent));
    }

    fn read(&mut self, agent: &Agent) -> Result<(), StreamLost> {
        let Watching {
            follower, events, ..
        } = self;
        // Looked at before the journal: what an ended process wrote is then all there.
        let over = follower
            .state()
            .is_some_and(|s| follow::is_over(&agent.host, s));
        let news = follower.look(|line, state| {
            if let (ScannedLine::Record(record), Some(state)) = (line, state) {
                let event = Arc::new(follow::event(state, record));
                events.push((event, Arc::new(follow::view(state))));
            }
        })?;
        let stopped = follower.state().filter(|s| s.stops_at.is_some());
        if let Some(state) = stopped.filter(|_| self.unknown.is_none()) {
            self.unknown = Some(Arc::new(follow::view(state)));
        }
        self.over = over && !news;
        Ok(())
    }

    fn view(&self) -> Option<Arc<View>> {
        let last = || self.events.last().map(|(_, view)| view.clone());
        self.unknown.clone().or_else(last)
    }
}
