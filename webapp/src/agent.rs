//! The agent's client: one connection for each question. Blocking work stays on blocking threads; what streams comes
//! over a bounded channel, and dropping the receiving end closes the connection. Whatever makes, changes or ends something
//! demands an [`Asked`]: no handler can forget to see who asked.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{
    Ask, BackupLine, Chunk, GatewayLines, Halt, MAX_CHUNK, NoGreeting, Preview, Refusal, Reply,
    Request, Session, Token, UploadId, Wire, WireError, greet,
};
use journal_format::{Digest, Policy, RestoreId, Seq, View};
use rocket::tokio::sync::{mpsc, oneshot};
use rocket::tokio::task::spawn_blocking;

use crate::PROGRAM;
use crate::caller::{Asked, Bearer};

/// Longer than the agent is ever silent while it works: it says that it is alive.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Chunks and events in flight; the agent waits for a slow browser beyond that.
const IN_FLIGHT: usize = 8;

/// The agent on its socket.
#[derive(Debug, Clone)]
pub struct AgentClient {
    socket: PathBuf,
}

/// A question was not answered with what was asked for.
#[derive(Debug)]
pub enum NoAnswer {
    /// The agent did not answer.
    Away(Away),
    /// It said no, and why.
    Refused(Refusal),
}

/// The agent did not answer, or not in a way that is understood.
#[derive(Debug, thiserror::Error)]
pub enum Away {
    /// Nobody listens.
    #[error("nothing answers on {}: {error}", socket.display())]
    NoSocket {
        /// Where.
        socket: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It speaks another version.
    #[error(transparent)]
    Greeting(#[from] NoGreeting),
    /// The connection did not last.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It answered another question.
    #[error("the agent answered something else than was asked")]
    Confused,
    /// The thread that talked to it ended early.
    #[error("the connection to the agent was given up")]
    GaveUp,
}

impl From<Away> for NoAnswer {
    fn from(away: Away) -> Self {
        NoAnswer::Away(away)
    }
}
impl From<WireError> for NoAnswer {
    fn from(error: WireError) -> Self {
        NoAnswer::Away(error.into())
    }
}

/// What was asked for, or why not.
pub type AgentAnswer<T> = Result<T, NoAnswer>;

/// What was asked for, out of a reply; any other reply is one to another question.
macro_rules! expect {
    ($reply:expr, $wanted:pat => $what:expr) => {
        match $reply {
            $wanted => Ok($what),
            _ => Err(NoAnswer::from(Away::Confused)),
        }
    };
}

/// The bytes of a download. An error means that it is not whole.
pub type ArchiveBytes = mpsc::Receiver<Result<Vec<u8>, Away>>;

/// What came of asking for a backup.
#[derive(Debug)]
pub enum MadeBackup {
    /// Its bytes come.
    Given(BackupLine, ArchiveBytes),
    /// It lacks parts that it should have, and its bytes come only if they are asked for all the same.
    Incomplete(BackupLine),
}

/// A part of an upload on its way to the agent.
#[derive(Debug)]
pub enum UploadChunk {
    /// More of it.
    Bytes(Vec<u8>),
    /// It is whole. An upload that is dropped without this is thrown away by the agent.
    End,
}

/// An upload that the agent is ready for.
pub struct Upload {
    /// The largest that it takes, bytes.
    pub limit: u64,
    /// Where the parts go.
    pub parts: mpsc::Sender<UploadChunk>,
    /// What becomes of it.
    pub outcome: oneshot::Receiver<AgentAnswer<Preview>>,
}

impl AgentClient {
    /// The agent on this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    fn open(&self) -> Result<Wire<UnixStream>, Away> {
        let no_socket = |error| Away::NoSocket {
            socket: self.socket.clone(),
            error,
        };
        let stream = UnixStream::connect(&self.socket).map_err(no_socket)?;
        let bounded = stream.set_read_timeout(Some(ANSWER_WITHIN));
        bounded
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_WITHIN)))
            .map_err(no_socket)?;
        let mut wire = Wire::new(stream);
        greet(&mut wire, PROGRAM)?;
        Ok(wire)
    }

    fn open_with(&self, request: &Request) -> AgentAnswer<Wire<UnixStream>> {
        let mut wire = self.open()?;
        wire.send(request)?;
        Ok(wire)
    }

    async fn ask(&self, request: Request) -> AgentAnswer<Reply> {
        let agent = self.clone();
        blocking(move || answer(&mut agent.open_with(&request)?)).await
    }

    async fn ask_as(&self, by: Bearer, ask: Ask) -> AgentAnswer<Reply> {
        self.ask(admin(by, ask)).await
    }

    /// Signs a person in. With the session comes what their browser keeps for the next time.
    pub async fn sign_in(
        &self,
        user: String,
        password: agent_protocol::Password,
        device: Option<Token>,
        from: Option<IpAddr>,
        _: &Asked,
    ) -> AgentAnswer<(Session, Option<Token>)> {
        let request = Request::SignIn {
            user,
            password,
            device,
            from,
        };
        let reply = self.ask(request).await?;
        expect!(reply, Reply::SignedIn { session, device } => (session, device))
    }

    /// Ends a session.
    pub async fn sign_out(&self, by: Bearer, _: &Asked) -> AgentAnswer<()> {
        let Bearer { token, from } = by;
        let reply = self.ask(Request::SignOut { token, from }).await?;
        expect!(reply, Reply::SignedOut => ())
    }

    /// Whose session it is.
    pub async fn who(&self, by: Bearer) -> AgentAnswer<Session> {
        let Bearer { token, from } = by;
        let reply = self.ask(Request::Who { token, from }).await?;
        expect!(reply, Reply::Session(session) => session)
    }

    /// What the first page shows.
    pub async fn overview(&self, by: Bearer) -> AgentAnswer<agent_protocol::Overview> {
        let reply = self.ask_as(by, Ask::Overview).await?;
        expect!(reply, Reply::Overview(overview) => *overview)
    }

    /// What runs.
    pub async fn status(&self, by: Bearer) -> AgentAnswer<agent_protocol::Status> {
        let reply = self.ask_as(by, Ask::Status).await?;
        expect!(reply, Reply::Status(status) => *status)
    }

    /// What a restore from an upload would do.
    pub async fn preview(&self, by: Bearer, upload: UploadId) -> AgentAnswer<Preview> {
        let reply = self.ask_as(by, Ask::Preview { upload }).await?;
        expect!(reply, Reply::Uploaded(preview) => *preview)
    }

    /// What a restore from the same upload would do now, after one that ended since its safety backup lacked parts.
    pub async fn again(&self, by: Bearer, id: RestoreId, _: &Asked) -> AgentAnswer<Preview> {
        let reply = self.ask_as(by, Ask::Again { id }).await?;
        expect!(reply, Reply::Uploaded(preview) => *preview)
    }

    /// Throws an upload away.
    pub async fn discard(&self, by: Bearer, upload: UploadId, _: &Asked) -> AgentAnswer<()> {
        let reply = self.ask_as(by, Ask::Discard { upload }).await?;
        expect!(reply, Reply::Discarded => ())
    }

    /// Starts a restore, or finds the one that the same request started: asks an [`Ask::Start`].
    pub async fn start(&self, by: Bearer, ask: Ask, _: &Asked) -> AgentAnswer<RestoreId> {
        let reply = self.ask_as(by, ask).await?;
        expect!(reply, Reply::Started { id } => id)
    }

    /// Recovers a restore, or finds the recovery that runs.
    pub async fn recover(
        &self,
        by: Bearer,
        id: RestoreId,
        policy: Option<Policy>,
        _: &Asked,
    ) -> AgentAnswer<RestoreId> {
        let reply = self.ask_as(by, Ask::Recover { id, policy }).await?;
        expect!(reply, Reply::Started { id } => id)
    }

    /// A restore as it is now, why it gets no further, if it does not, and how the gateway stands then.
    pub async fn restore(
        &self,
        by: Bearer,
        id: RestoreId,
    ) -> AgentAnswer<(View, Option<Halt>, Option<GatewayLines>)> {
        let reply = self.ask_as(by, Ask::Restore { id }).await?;
        expect!(reply, Reply::Restore { view, halt, now } => (Arc::unwrap_or_clone(view), halt, now))
    }

    /// Makes a backup, or joins the one that is being made, and streams it if it is complete.
    pub async fn backup(&self, by: Bearer, _: &Asked) -> AgentAnswer<MadeBackup> {
        self.take(by, Ask::MakeBackup).await
    }

    /// Streams a backup that is there, whatever it lacks.
    pub async fn backup_as_it_is(
        &self,
        by: Bearer,
        sha256: Digest,
        _: &Asked,
    ) -> AgentAnswer<MadeBackup> {
        self.take(by, Ask::GiveBackup { sha256 }).await
    }

    async fn take(&self, by: Bearer, ask: Ask) -> AgentAnswer<MadeBackup> {
        let agent = self.clone();
        let (tell, told) = oneshot::channel();
        let (send, bytes) = mpsc::channel(IN_FLIGHT);
        spawn_blocking(move || {
            let opened = agent.open_with(&admin(by, ask));
            let answered = opened.and_then(|mut wire| match answer(&mut wire)? {
                Reply::Backup(backup) => Ok((backup, Some(wire))),
                Reply::Incomplete(backup) => Ok((backup, None)),
                _ => Err(Away::Confused.into()),
            });
            match answered {
                Ok((backup, wire)) => {
                    let follow = wire.is_some();
                    if tell.send(Ok((backup, follow))).is_ok()
                        && let Some(mut wire) = wire
                    {
                        pass_on(&mut wire, &send);
                    }
                }
                // Nobody waits any more: the browser went away, and so does the answer.
                Err(e) => drop(tell.send(Err(e))),
            }
        });
        let (backup, follow) = told.await.map_err(|_| Away::GaveUp)??;
        Ok(match follow {
            true => MadeBackup::Given(backup, bytes),
            false => MadeBackup::Incomplete(backup),
        })
    }

    /// Begins an upload under a name for people.
    pub async fn upload(&self, by: Bearer, name: String, _: &Asked) -> AgentAnswer<Upload> {
        let agent = self.clone();
        let (tell_ready, ready) = oneshot::channel();
        let (parts, mut take) = mpsc::channel(IN_FLIGHT);
        let (tell_outcome, outcome) = oneshot::channel();
        spawn_blocking(move || {
            let ask = Ask::Upload { name };
            let opened = agent.open_with(&admin(by, ask));
            let opened = opened.and_then(|mut wire| {
                let reply = answer(&mut wire)?;
                expect!(reply, Reply::Ready { limit_mib } => (limit_mib << 20, wire))
            });
            match opened {
                Ok((limit, mut wire)) => {
                    if tell_ready.send(Ok(limit)).is_ok() {
                        drop(tell_outcome.send(send_parts(&mut wire, &mut take)));
                    }
                }
                Err(e) => drop(tell_ready.send(Err(e))),
            }
        });
        let limit = ready.await.map_err(|_| Away::GaveUp)??;
        Ok(Upload {
            limit,
            parts,
            outcome,
        })
    }

    /// A restore's events after one of them. The first reply is waited for, so that a refusal is known at once; the
    /// rest come over the channel, which ends with [`Reply::Over`] or an error.
    pub async fn events(
        &self,
        by: Bearer,
        id: RestoreId,
        after: Option<Seq>,
    ) -> AgentAnswer<(Reply, Events)> {
        let agent = self.clone();
        let (first, rest, hang_up) = blocking(move || {
            let ask = Ask::Events { id, after };
            let mut wire = agent.open_with(&admin(by, ask))?;
            let hang_up = wire.stream().try_clone().map_err(WireError::Stream)?;
            let first = match wire.receive()? {
                Reply::Refused(refusal) => return Err(NoAnswer::Refused(refusal)),
                reply => reply,
            };
            Ok((first, wire, hang_up))
        })
        .await?;
        let (send, replies) = mpsc::channel(IN_FLIGHT);
        spawn_blocking(move || {
            let mut wire = rest;
            loop {
                let got = wire.receive().map_err(Away::from);
                let last = matches!(got, Err(_) | Ok(Reply::Over));
                if send.blocking_send(got).is_err() || last {
                    return;
                }
            }
        });
        Ok((first, Events { replies, hang_up }))
    }
}

/// Events on their way. Dropping it closes the connection, and with it the thread that reads it.
pub struct Events {
    replies: mpsc::Receiver<Result<Reply, Away>>,
    hang_up: UnixStream,
}

impl Events {
    /// The next one; none once the last was taken.
    pub async fn next(&mut self) -> Option<Result<Reply, Away>> {
        self.replies.recv().await
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It fails only if the agent closed first, which is as good.
        drop(self.hang_up.shutdown(std::net::Shutdown::Both));
    }
}

/// What only an admin may ask.
fn admin(by: Bearer, ask: Ask) -> Request {
    let Bearer { token, from } = by;
    Request::Admin { token, from, ask }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> AgentAnswer<T> + Send + 'static,
) -> AgentAnswer<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Away::GaveUp.into()))
}

/// The next reply that is more than a sign of life.
fn answer(wire: &mut Wire<UnixStream>) -> AgentAnswer<Reply> {
    loop {
        match wire.receive()? {
            Reply::Alive => {}
            Reply::Refused(refusal) => return Err(NoAnswer::Refused(refusal)),
            reply => return Ok(reply),
        }
    }
}

fn pass_on(wire: &mut Wire<UnixStream>, to: &mpsc::Sender<Result<Vec<u8>, Away>>) {
    let mut buffer = Box::new([0; MAX_CHUNK]);
    loop {
        let (part, last) = match wire.receive_bytes(&mut buffer) {
            Ok(Chunk::Bytes(n)) => (Ok(buffer[..n].to_vec()), false),
            Ok(Chunk::End) => return,
            Ok(Chunk::Aborted) => (Err(WireError::BrokenOff.into()), true),
            Err(e) => (Err(e.into()), true),
        };
        if to.blocking_send(part).is_err() || last {
            return;
        }
    }
}

fn send_parts(
    wire: &mut Wire<UnixStream>,
    parts: &mut mpsc::Receiver<UploadChunk>,
) -> AgentAnswer<Preview> {
    let sent = loop {
        match parts.blocking_recv() {
            Some(UploadChunk::Bytes(bytes)) => {
                if let Err(e) = wire.send_bytes(&bytes) {
                    break Err(e);
                }
            }
            Some(UploadChunk::End) => break wire.end_bytes(),
            None => {
                wire.abort_bytes()?;
                return Err(Away::GaveUp.into());
            }
        }
    };
    // An agent that stops taking bytes says why before it closes.
    match (sent, answer(wire)) {
        (Err(e), Err(NoAnswer::Away(_))) => Err(e.into()),
        (_, Ok(Reply::Uploaded(preview))) => Ok(*preview),
        (_, Ok(_)) => Err(Away::Confused.into()),
        (_, Err(e)) => Err(e),
    }
}
