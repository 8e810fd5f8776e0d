//! Who a person is: the gateway's own users, their passwords, and which of them are admins. Wrong passwords cost time,
//! for each name by itself, and never more than a moment; `queue` says whose is checked next, so that nobody can lock an
//! admin out. Only the profile makes an admin: a database may have come out of an archive. `users` reads who there is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use agent_protocol::{Password, Refusal, Session, Token};
use journal_format::Digest;

use super::queue::{Lane, Queue, Turn};
use super::sessions::StoredSession;
use super::slot::Slot;
use super::users::{ListedUsers, Users, UsersUnread};
use super::{Agent, locked, warned};
use crate::error::{Code, cannot};
use crate::gateway::database::User;
use crate::gateway::password;
use crate::gateway::profile::Profile;

/// What the first wrong password of a name costs; each further one twice that, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(4);
/// After this long without a wrong one the count begins anew.
const FORGIVEN: Duration = Duration::from_secs(15 * 60);
/// Names whose wrong passwords are counted.
const NAMES: usize = 1000;
/// Sign-ins that were refused and are answered with silence, at once; a further one is answered without. With those
/// that wait for their check they leave connections to those who are signed in.
const SILENT: usize = 48;
/// Costs what a real check costs, so that a name that does not exist answers no sooner. Of no password that is known.
const NOBODY: &str = "scrypt:32768:8:1$holdfast$\
    00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
    0000000000000000";

pub struct SignInGuard {
    wrong: Mutex<BTreeMap<String, (u32, Instant)>>,
    silent: AtomicUsize,
    queue: Queue,
    users: Users,
}

impl From<UsersUnread> for Refusal {
    fn from(unread: UsersUnread) -> Refusal {
        match unread {
            UsersUnread::Exposed(problem) | UsersUnread::Failed(problem) => problem.into(),
            UsersUnread::Slow(problem) => Refusal::busy(problem),
        }
    }
}

impl SignInGuard {
    /// Nobody has signed in.
    pub fn new(profile: &Profile) -> SignInGuard {
        SignInGuard {
            wrong: Mutex::default(),
            silent: AtomicUsize::new(0),
            queue: Queue::new(profile.web.admins.len()),
            users: Users::default(),
        }
    }

    /// Signs a person in, or says no after a while. With the session comes what the browser of an admin keeps, to be
    /// known the next time.
    pub fn sign_in(
        &self,
        agent: &Agent,
        name: &str,
        given: &Password,
        device: Option<&Token>,
    ) -> Result<(Session, Option<Token>), Refusal> {
        let admin = agent.profile.web.admins.iter().any(|a| a == name);
        let known = device.filter(|d| admin && agent.devices.knows(d, name));
        // Before the turn: nobody waits in line for a database.
        let users = self.users.now(&agent.profile)?;
        if users.all.is_empty() {
            let database = agent.profile.sign_in_database();
            let database = database.map_or("the gateway".into(), |d| d.path.display().to_string());
            return Err(Refusal::from(cannot(
                Code::NO_USERS,
                format!("sign anybody in: {database} has no users yet"),
                "make the first user in the gateway; to restore a backup without one, on the gateway itself: \
                 holdfast restore ARCHIVE",
            )));
        }
        let turn = self.turn(name, admin, known.is_some())?;
        let user = users.all.iter().find(|u| u.username == name);
        let right = is_right(user, given);
        drop(turn);
        match user.filter(|u| right && u.active) {
            // Told to those alone who have the password: it may be the one that every fresh install has.
            Some(user) if user.must_change_password => {
                tracing::warn!(
                    "a sign-in of {} is refused: the password must be changed first",
                    journal_format::visible(name)
                );
                Err(Refusal::MustChangePassword)
            }
            Some(user) => {
                locked(&self.wrong).remove(name);
                let sessions = &agent.sessions;
                let session = sessions.begin(&user.username, user.id, proof(user), admin)?;
                tracing::info!(
                    "{} signed in{}",
                    journal_format::visible(name),
                    if admin { "" } else { ", no admin" }
                );
                let device = match known {
                    Some(known) => Some(known.clone()),
                    None if admin => agent.devices.token(name).ok(),
                    None => None,
                };
                Ok((session, device))
            }
            None => {
                // A name that is not known may be a password in the wrong field.
                let shown = user.map_or("an unknown user".into(), |u| {
                    journal_format::visible(&u.username)
                });
                tracing::warn!("a sign-in of {shown} is refused");
                if let Some(known) = known {
                    agent.devices.was_wrong(known, name);
                }
                self.be_silent(self.cost(name, Instant::now()));
                Err(Refusal::WrongPassword)
            }
        }
    }

    /// Whether the gateway has a user of this name, as far as is known.
    pub fn is_known(&self, name: &str) -> bool {
        let known = self.users.last_known();
        known.is_some_and(|users| users.all.iter().any(|user| user.username == name))
    }

    fn turn(&self, name: &str, admin: bool, known: bool) -> Result<Turn<'_>, Refusal> {
        let stranger = || match admin {
            true => Lane::Admin(name.into()),
            false => Lane::Others,
        };
        let first = known.then(|| self.queue.turn(Lane::Known(name.into())));
        let turn = first.flatten().or_else(|| self.queue.turn(stranger()));
        turn.ok_or_else(|| {
            Refusal::busy(cannot(
                Code::SIGN_IN_HELD,
                "sign in: too many try it with this name at once, as somebody who guesses passwords does",
                "try again in a few seconds, or in a browser in which you have signed in before; on the gateway itself the \
                 holdfast command needs no sign-in",
            ))
        })
    }

    /// Those who guess hold no place that an admin needs: when all places are taken there is no wait.
    fn be_silent(&self, cost: Duration) {
        if let Some(_place) = Slot::take(&self.silent, SILENT) {
            std::thread::sleep(cost);
        }
    }

    /// How long this wrong password is answered with silence.
    fn cost(&self, name: &str, now: Instant) -> Duration {
        let mut wrong = locked(&self.wrong);
        wrong.retain(|_, (_, last)| now.duration_since(*last) < FORGIVEN);
        if wrong.len() >= NAMES && !wrong.contains_key(name) {
            return LONGEST;
        }
        let (count, last) = wrong.entry(name.into()).or_insert((0, now));
        *last = now;
        *count += 1;
        FIRST.saturating_mul(1 << (*count - 1).min(8)).min(LONGEST)
    }

    /// The session as it stands now: over, if the user is gone, was switched off, or has another password.
    pub fn check(&self, profile: &Profile, kept: &StoredSession) -> Result<bool, Refusal> {
        match self.users.now(profile) {
            Ok(users) => standing(profile, &users, kept),
            Err(unread @ (UsersUnread::Exposed(_) | UsersUnread::Slow(_))) => Err(unread.into()),
            // What cannot be read is missing, damaged, locked, or has a side file that is not its own. A box in that state
            // needs its admin most, so what was last true counts, for as long as a session lasts. It lets in nobody new.
            // Whoever could bring it about to keep a session is root or the gateway's own account, which can write the
            // users anyway: anybody else is an `Exposed`. A table that can be read and is empty is no such case.
            Err(UsersUnread::Failed(problem)) => {
                tracing::debug!("{problem}");
                match self.users.last_known() {
                    Some(users) => standing(profile, &users, kept),
                    None => Ok(kept.admin),
                }
            }
        }
    }
}

fn is_right(user: Option<&User>, given: &Password) -> bool {
    let hash = user.map_or(NOBODY, |u| u.password.as_str());
    // A hash that cannot be checked is no match; the admin of the box learns why.
    warned(password::verify(hash, given.reveal())).unwrap_or(false)
}

/// A session by what was read of the users.
fn standing(profile: &Profile, users: &ListedUsers, kept: &StoredSession) -> Result<bool, Refusal> {
    match users.all.iter().find(|u| u.username == kept.user) {
        Some(user)
            if user.active
                && !user.must_change_password
                && user.id == kept.id
                && proof(user) == kept.proof =>
        {
            Ok(profile.web.admins.contains(&user.username))
        }
        _ if users.from_copy => Ok(kept.admin),
        _ => Err(Refusal::NotSignedIn),
    }
}

fn proof(user: &User) -> Digest {
    Digest::of_blake3(blake3::hash(user.password.as_bytes()))
}

#[cfg(test)]
mod tests;
