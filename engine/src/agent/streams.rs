//! The restores that are watched: one reader of each journal serves all who watch it, for the plan of a large gateway is large.
//! Whoever reads slowly holds nobody up. Sends nothing itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

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
}

/// One restore as it is told.
pub struct Stream {
    reading: Mutex<Watching>,
}

struct Watching {
    follower: Follower,
    looked: Option<Instant>,
    /// As they are sent, in order.
    events: Vec<Arc<Event>>,
    /// As it is sent; none while there is no record.
    view: Option<Arc<View>>,
    /// Whether nothing more comes.
    over: bool,
}

/// What of a restore is new to somebody.
pub struct News {
    /// The events that they have not had, in order.
    pub events: Vec<Arc<Event>>,
    /// The restore behind the last of all; none while its journal has no record.
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
                view: None,
                over: false,
            }),
        });
        open.insert(id.clone(), Arc::downgrade(&stream));
        stream
    }
}

impl Stream {
    /// What came after this event; all, if none was had.
    pub fn after(&self, agent: &Agent, seq: Option<Seq>) -> Result<News, StreamLost> {
        let mut reading = locked(&self.reading);
        if reading.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            reading.look(agent)?;
        }
        let new = reading.events.iter();
        let new = new.filter(|event| seq.is_none_or(|had| event.seq > had));
        Ok(News {
            events: new.cloned().collect(),
            view: reading.view.clone(),
            halt: follow::halt(agent, &reading.follower),
            over: reading.over,
        })
    }
}

impl Watching {
    fn look(&mut self, agent: &Agent) -> Result<(), StreamLost> {
        let Watching {
            follower, events, ..
        } = self;
        // Looked at before the journal: what an ended process wrote is then all there.
        let over = follower
            .state()
            .is_some_and(|s| follow::is_over(&agent.host, s));
        let news = follower.look(|line, state| {
            if let (ScannedLine::Record(record), Some(state)) = (line, state) {
                events.push(Arc::new(follow::event(state, record)));
            }
        })?;
        if news {
            self.view = self.follower.state().map(|s| Arc::new(follow::view(s)));
        }
        self.over = over && !news;
        self.looked = Some(Instant::now());
        Ok(())
    }
}
