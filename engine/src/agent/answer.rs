//! One connection: the greeting, then questions and answers until it ends. Checks for each question who may ask it.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_protocol::{
    Ask, BackupLine, MAX_CHUNK, Preview, Refusal, Reply, Request, Session, Token, Wire, WireError,
    greet,
};
use journal_format::{Digest, RestoreId, Seq};

use super::refusal::Unanswered;
use super::start::{self, Approved};
use super::trail::{self, Tale};
use super::{Agent, gateway_lines, now_ms, overview, recoveries, warned};
use crate::archive;
use crate::error::{Code, bug, cannot, cause};
use crate::restore::process;
use crate::state_dir::audit::entry::AuditedDeed;
use crate::state_dir::follow::StreamLost;
use crate::state_dir::made;

/// How often a sign of life is given while something takes long; well below the other side's patience.
const ALIVE: Duration = Duration::from_secs(5);
/// How long nothing must work on a restore before that is news: one process may be handing it to the next.
const HALTS: Duration = Duration::from_secs(1);
/// How long news of a restore are waited for before it is looked whether it still goes on.
const NEWS: Duration = Duration::from_millis(200);
/// How often a session is looked at that something long is given to.
const SESSIONS: Duration = Duration::from_secs(1);

type Answered = Result<(), Unanswered>;

/// Sends a reply. One that is too long for a message is never silence: its place is taken by a short refusal.
fn say(wire: &mut Wire<UnixStream>, reply: &Reply) -> Result<(), WireError> {
    match wire.send(reply) {
        Err(WireError::TooLong { length, .. }) => {
            tracing::error!("an answer of {length} bytes is too long for a message");
            let problem = cannot(
                Code::COMMAND_LINE_ONLY,
                "show this: it is too long for the page",
                "on the gateway, `holdfast verify` and `holdfast journal show` show it whole",
            );
            wire.send(&Reply::Refused(problem.into()))
        }
        sent => sent,
    }
}

/// Serves one connection.
pub fn answer(agent: &Arc<Agent>, stream: UnixStream) {
    let mut wire = Wire::new(stream);
    if let Err(e) = greet(&mut wire, &process::program()) {
        tracing::warn!("a connection is given up: {e}");
        return;
    }
    loop {
        let received = wire.receive().map_err(Unanswered::Lost);
        let answered = received.and_then(|request| one(agent, &mut wire, request));
        let told = answered.or_else(|unanswered| match unanswered {
            Unanswered::Refused(refusal) => say(&mut wire, &Reply::Refused(refusal)),
            Unanswered::Lost(error) => Err(error),
        });
        match told {
            Ok(()) => {}
            Err(WireError::Closed | WireError::BrokenOff) => return,
            Err(e) => {
                tracing::debug!("a connection ends: {e}");
                return;
            }
        }
    }
}

fn one(agent: &Arc<Agent>, wire: &mut Wire<UnixStream>, request: Request) -> Answered {
    let mut tale = Tale::of(&request);
    let answered = carried_out(agent, wire, request, &mut tale);
    agent.trail.tell(&agent.profile, &tale, &answered);
    answered
}

fn carried_out(
    agent: &Arc<Agent>,
    wire: &mut Wire<UnixStream>,
    request: Request,
    tale: &mut Tale,
) -> Answered {
    let reply = match request {
        Request::SignIn {
            user,
            password,
            device,
            from: _,
        } => {
            let guard = &agent.sign_in;
            let signed_in = guard.sign_in(agent, &user, &password, device.as_ref());
            match &signed_in {
                Ok((session, _)) => tale.by(&session.user, session.admin),
                // A name that is not known may be a password in the wrong field.
                Err(_) if guard.is_known(&user) => tale.by(&user, false),
                Err(_) => {}
            }
            let (session, device) = signed_in?;
            Reply::SignedIn { session, device }
        }
        Request::SignOut { token, from: _ } => {
            if let Some(kept) = agent.sessions.find(&token) {
                tale.by(&kept.user, kept.admin);
                tale.does(AuditedDeed::SignOut);
            }
            agent.sessions.end(&token)?;
            Reply::SignedOut
        }
        Request::Who { token, from: _ } => {
            let session = who(agent, token)?;
            if !session.admin {
                // Whoever is none gets no page.
                tale.by(&session.user, false);
                tale.failed(Code::NOT_ADMIN);
            }
            Reply::Session(session)
        }
        Request::Admin {
            token,
            from: _,
            ask,
        } => {
            let session = who(agent, token)?;
            tale.by(&session.user, session.admin);
            if !session.admin {
                return Err(Refusal::NotAdmin.into());
            }
            return admin(agent, wire, &session, ask, tale);
        }
    };
    Ok(say(wire, &reply)?)
}

fn who(agent: &Agent, token: Token) -> Result<Session, Refusal> {
    let kept = agent.sessions.find(&token).ok_or(Refusal::NotSignedIn)?;
    let checked = agent.sign_in.check(&agent.profile, &kept);
    if matches!(checked, Err(Refusal::NotSignedIn)) {
        warned(agent.sessions.end(&token));
    }
    Ok(Session {
        admin: checked?,
        token,
        user: kept.user,
    })
}

fn an_admin(agent: &Agent, token: Token) -> Result<Session, Refusal> {
    let session = who(agent, token)?;
    match session.admin {
        true => Ok(session),
        false => Err(Refusal::NotAdmin),
    }
}

fn admin(
    agent: &Arc<Agent>,
    wire: &mut Wire<UnixStream>,
    session: &Session,
    ask: Ask,
    tale: &mut Tale,
) -> Answered {
    let who = journal_format::visible(&session.user);
    let reply = match ask {
        Ask::Overview => Reply::Overview(Box::new(overview::overview(agent))),
        Ask::Status => Reply::Status(Box::new(overview::status(agent))),
        Ask::MakeBackup => {
            tracing::info!("{who} asks for a backup");
            return make_backup(agent, wire, session, tale);
        }
        Ask::GiveBackup { sha256 } => {
            tracing::info!("{who} takes a backup that is there");
            return give(agent, wire, session, &sha256, tale);
        }
        Ask::Upload { name } => {
            tracing::info!("{who} uploads an archive");
            upload(agent, wire, &name, tale)?
        }
        Ask::Preview { upload } => {
            let kept = agent.uploads.find(&upload)?;
            Reply::Uploaded(Box::new(kept.preview))
        }
        Ask::Again { id } => looked(wire, || start::again(agent, &id))?,
        Ask::Discard { upload } => {
            if let Ok(kept) = agent.uploads.find(&upload) {
                tale.about(kept.preview.name);
            }
            agent.uploads.discard(&upload);
            Reply::Discarded
        }
        Ask::Start {
            upload,
            plan,
            request,
            keep_going_without_firewall,
            keep_going_without_services,
            keep_open_folders,
            without_safety_backup_of,
            leave_down,
        } => {
            tracing::info!("{who} confirms a restore");
            let approved = Approved {
                upload,
                plan,
                request,
                keep_going_without_firewall,
                keep_going_without_services,
                keep_open_folders,
                without_safety_backup_of: start::parts(&without_safety_backup_of)?,
                leave_down: leave_down.into_iter().collect(),
            };
            let mut last = Instant::now();
            let alive = || sign_of_life(wire, &mut last);
            let id = agent.starts.start(agent, &approved, tale.who(), alive)?;
            tale.about(id.as_str());
            Reply::Started { id }
        }
        Ask::Recover { id, policy } => {
            tracing::info!("{who} asks for a recovery");
            let mut last = Instant::now();
            let alive = || sign_of_life(wire, &mut last);
            let id = recoveries::by_hand(agent, &id, policy, tale.who(), alive)?;
            Reply::Started { id }
        }
        Ask::Restore { id } => restore(agent, &id)?,
        Ask::Events { id, after } => events(agent, wire, &session.token, &id, after)?,
    };
    Ok(say(wire, &reply)?)
}

/// Makes a backup, and gives it if it is complete.
fn make_backup(
    agent: &Arc<Agent>,
    wire: &mut Wire<UnixStream>,
    session: &Session,
    tale: &mut Tale,
) -> Answered {
    if agent.backups.running().is_none() {
        let most = agent.profile.limits.backups_an_hour;
        let taken = agent
            .allowance
            .take(&session.user, most, (Instant::now(), now_ms()));
        taken.map_err(Refusal::busy)?;
    }
    let alive = || say(wire, &Reply::Alive);
    let made = agent.backups.make(agent, ALIVE, alive)?;
    let path = made.path.display().to_string();
    tale.about(&path);
    if made.not_good().is_empty() {
        let trail = &agent.trail;
        trail.tell_done(&agent.profile, tale, AuditedDeed::Backup, &path);
        tale.does(AuditedDeed::Download);
        return give(agent, wire, session, &made.sha256, tale);
    }
    let (_, backup) = told(agent, &made.sha256)?;
    Ok(say(wire, &Reply::Incomplete(backup))?)
}

fn sign_of_life(wire: &mut Wire<UnixStream>, last: &mut Instant) -> Result<(), WireError> {
    if last.elapsed() >= ALIVE {
        say(wire, &Reply::Alive)?;
        *last = Instant::now();
    }
    Ok(())
}

/// Looks again and again whether a session is still an admin's, while something long is given to it.
struct Watched<'a> {
    agent: &'a Agent,
    token: &'a Token,
    looked: Option<Instant>,
}

impl Watched<'_> {
    fn still(&mut self) -> Result<(), Refusal> {
        if self.looked.is_some_and(|at| at.elapsed() < SESSIONS) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        an_admin(self.agent, self.token.clone()).map(drop)
    }
}

fn watched<'a>(agent: &'a Agent, token: &'a Token) -> Watched<'a> {
    Watched {
        agent,
        token,
        looked: None,
    }
}

/// Where a backup that was made here lies, and what the page is told of it.
fn told(agent: &Agent, sha256: &Digest) -> Result<(PathBuf, BackupLine), Refusal> {
    let Some(note) = made::noted(&agent.profile, sha256)? else {
        return Err(Refusal::Gone {
            problem: cannot(
                Code::NOT_THERE,
                "give this backup: it is not there any more",
                "make another one",
            ),
        });
    };
    let path = agent.profile.backups_dir().join(&note.name);
    Ok((path, overview::backup(&agent.profile, sha256, &note)))
}

/// Gives a backup's bytes, as long as the session lasts.
fn give(
    agent: &Agent,
    wire: &mut Wire<UnixStream>,
    session: &Session,
    sha256: &Digest,
    tale: &mut Tale,
) -> Answered {
    let mut watched = watched(agent, &session.token);
    watched.still()?;
    let (path, backup) = told(agent, sha256)?;
    tale.about(path.display().to_string());
    let mut file = archive::opened(&path)?;
    say(wire, &Reply::Backup(backup))?;
    let mut buffer = vec![0; MAX_CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => {
                return Ok(wire.end_bytes()?);
            }
            Ok(_) if watched.still().is_err() => {
                tracing::info!("a download is broken off: its session is over");
                tale.failed(Code::NOT_SIGNED_IN);
                return Ok(wire.abort_bytes()?);
            }
            Ok(n) => wire.send_bytes(&buffer[..n])?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                tracing::warn!("cannot read the backup {}: {e}", path.display());
                tale.failed(cause(&e));
                return Ok(wire.abort_bytes()?);
            }
        }
    }
}

fn upload(
    agent: &Agent,
    wire: &mut Wire<UnixStream>,
    name: &str,
    tale: &mut Tale,
) -> Result<Reply, Unanswered> {
    // Before a byte is asked for: what cannot be looked at afterwards is not taken in.
    start::check_quiet(agent)?;
    let place = agent.uploads.place()?;
    let limit_mib = agent.uploads.limit_mib();
    say(wire, &Reply::Ready { limit_mib })?;
    let fresh = match agent.uploads.receive(wire) {
        Ok(fresh) => fresh,
        Err(Unanswered::Refused(refusal)) => {
            tale.failed(trail::code(&refusal));
            say(wire, &Reply::Refused(refusal))?;
            // What is still to come of it is not read: the connection cannot go on.
            return Err(WireError::Closed.into());
        }
        Err(Unanswered::Lost(e)) => {
            tracing::info!("an upload broke off; nothing of it is kept");
            return Err(e.into());
        }
    };
    drop(place);
    let name: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    Ok(looked(wire, || start::look(agent, fresh, &name))?)
}

/// What comes of looking at an archive, with signs of life while that takes.
fn looked(
    wire: &mut Wire<UnixStream>,
    look: impl FnOnce() -> Result<Preview, Refusal> + Send,
) -> Result<Reply, Refusal> {
    let looked = std::thread::scope(|scope| {
        let looking = scope.spawn(look);
        let mut last = Instant::now();
        while !looking.is_finished() {
            // If nobody waits any more it is still looked at to its end; the upload then waits its hour.
            let _ = sign_of_life(wire, &mut last);
            std::thread::sleep(Duration::from_millis(10));
        }
        looking.join()
    });
    let looked = looked.map_err(|_| bug("look at the archive: that ended early"))?;
    looked.map(|preview| Reply::Uploaded(Box::new(preview)))
}

impl From<StreamLost> for Refusal {
    fn from(lost: StreamLost) -> Refusal {
        match lost {
            StreamLost::Gone(problem) => Refusal::Gone { problem },
            StreamLost::Unreadable(problem) => problem.into(),
        }
    }
}

fn restore(agent: &Agent, id: &RestoreId) -> Result<Reply, Refusal> {
    let news = agent.streams.of(agent, id).after(agent, None)?;
    match news.view {
        Some(view) => Ok(Reply::Restore {
            now: gateway_lines::of_view(agent, &view, news.halt.is_some()),
            view,
            halt: news.halt,
        }),
        None => Err(Refusal::Gone {
            problem: cannot(
                Code::JOURNAL_UNUSABLE,
                "show this restore: its journal has no record that can be read",
                "holdfast journal verify",
            ),
        }),
    }
}

/// Tells what is new of a restore until it is over; gives the last word.
fn events(
    agent: &Agent,
    wire: &mut Wire<UnixStream>,
    token: &Token,
    id: &RestoreId,
    mut after: Option<Seq>,
) -> Result<Reply, Unanswered> {
    let mut watched = watched(agent, token);
    let stream = agent.streams.of(agent, id);
    let mut last = Instant::now();
    let mut silent = true;
    let mut told = None;
    let mut halts_since = None;
    loop {
        watched.still()?;
        let news = stream.after(agent, after).map_err(Refusal::from)?;
        if !news.events.is_empty() {
            let last = news.events.len() - 1;
            for (n, (event, view)) in news.events.into_iter().enumerate() {
                after = Some(event.seq);
                if n == last && view.over {
                    gateway_lines::wait_for_its_end(agent);
                }
                let now = (n == last).then(|| gateway_lines::of_view(agent, &view, false));
                let now = now.flatten();
                say(wire, &Reply::Event { event, view, now })?;
            }
            silent = false;
            // Whoever shows an event shows a restore that goes on.
            told = None;
            continue;
        }
        if news.over {
            return Ok(Reply::Over);
        }
        let halt = news.halt;
        let since = *halts_since.get_or_insert_with(Instant::now);
        if halt.is_none() {
            halts_since = None;
        }
        if halt != told
            && (halt.is_none() || since.elapsed() >= HALTS)
            && let Some(view) = news.view
        {
            silent = false;
            told = halt.clone();
            let now = halt
                .is_some()
                .then(|| gateway_lines::of_view(agent, &view, true));
            let now = now.flatten();
            say(wire, &Reply::Halt { view, halt, now })?;
        }
        if std::mem::take(&mut silent) {
            // The first answer must not wait for the first event.
            say(wire, &Reply::Alive)?;
        }
        sign_of_life(wire, &mut last)?;
        stream.wait(after, NEWS);
    }
}
