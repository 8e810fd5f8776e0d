//! Who a person is: the gateway's own users, their passwords, and which of them are admins. Wrong passwords cost time,
//! for each name by itself, and never more than a moment, so that nobody can lock an admin out.
//!
//! While a restore is open no database of the gateway is opened: what was read before it counts, or a private copy.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agent_protocol::{Password, Refusal, Session};
use journal_format::{Digest, Problem};

use super::sessions::Kept;
use super::{Agent, locked};
use crate::database::{self, User};
use crate::fault::cannot;
use crate::process::Lock;
use crate::profile::Profile;
use crate::spool::Room;
use crate::{password, state_dir};

/// What the first wrong password of a name costs; each further one twice that, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(4);
/// After this long without a wrong one the count begins anew.
const FORGIVEN: Duration = Duration::from_secs(15 * 60);
/// Names whose wrong passwords are counted.
const NAMES: usize = 1000;
/// Sign-ins at once: the rest of the connections is for those who are signed in.
const AT_ONCE: usize = 32;
/// How long what was read of the users counts without reading again.
const FRESH: Duration = Duration::from_secs(2);
/// Costs what a real check costs, so that a name that does not exist answers no sooner. Of no password that is known.
const NOBODY: &str = "scrypt:32768:8:1$holdfast$\
    00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
    0000000000000000";

#[derive(Default)]
pub struct SignIn {
    wrong: Mutex<BTreeMap<String, (u32, Instant)>>,
    inside: AtomicUsize,
    /// One hash at a time: each takes 32 MiB and a processor.
    hashing: Mutex<()>,
    users: Mutex<Option<(Instant, Vec<User>)>>,
}

impl SignIn {
    /// Signs a person in, or says no after a while.
    pub fn sign_in(&self, agent: &Agent, name: &str, given: &Password) -> Result<Session, Refusal> {
        let failed = |problem| Refusal::Failed { problem };
        let _inside = Inside::enter(&self.inside).ok_or_else(|| Refusal::Busy {
            problem: cannot(
                "sign in: too many people sign in at once",
                "try again in a few seconds",
            ),
            restore: None,
        })?;
        let users = self.users(&agent.profile).map_err(failed)?;
        let user = users.iter().find(|u| u.username == name);
        let right = {
            let _one = locked(&self.hashing);
            let hash = user.map_or(NOBODY, |u| u.password.as_str());
            // A hash that cannot be checked is no match; the admin of the box learns why.
            password::verify(hash, given.reveal()).unwrap_or_else(|problem| {
                tracing::warn!("{problem}");
                false
            })
        };
        match user.filter(|u| right && u.active) {
            Some(user) => {
                locked(&self.wrong).remove(name);
                let admin = is_admin(&agent.profile, user);
                let session = agent
                    .sessions
                    .begin(&user.username, user.id, proof(user), admin)
                    .map_err(failed)?;
                tracing::info!(
                    "{} signed in{}",
                    journal_format::visible(name),
                    if admin { "" } else { ", no admin" }
                );
                Ok(session)
            }
            None => {
                // A name that is not known may be a password in the wrong field.
                let shown = user.map_or("an unknown user".into(), |u| {
                    journal_format::visible(&u.username)
                });
                tracing::warn!("a sign-in of {shown} is refused");
                std::thread::sleep(self.cost(name, Instant::now()));
                Err(Refusal::WrongPassword)
            }
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
    pub fn check(&self, profile: &Profile, kept: &Kept) -> Result<bool, Refusal> {
        // A box whose users cannot be read needs its admin most: what was true at the sign-in counts.
        let users = match self.users(profile) {
            Ok(users) => users,
            Err(problem) => {
                tracing::warn!("{problem}");
                return Ok(kept.admin);
            }
        };
        match users.iter().find(|u| u.username == kept.user) {
            Some(user) if user.active && user.id == kept.id && proof(user) == kept.proof => {
                Ok(is_admin(profile, user))
            }
            _ => Err(Refusal::NotSignedIn),
        }
    }

    fn users(&self, profile: &Profile) -> Result<Vec<User>, Problem> {
        let mut known = locked(&self.users);
        let open = state_dir::barrier(profile).is_ok_and(|b| b.is_none());
        let holder = Lock::holder(profile).filter(|(_, what)| what != "a backup");
        let quiet = open && holder.is_none();
        if let Some((read, users)) = &*known
            && (!quiet || read.elapsed() < FRESH)
        {
            return Ok(users.clone());
        }
        let path = users_database(profile)?;
        let users = if quiet {
            database::users(&path)?
        } else if let Some((_, what)) = holder {
            return Err(cannot(
                format!("sign anybody in: {what} runs, and the users are not read meanwhile"),
                "try again when it is over; sessions from before go on",
            ));
        } else {
            users_of_open_restore(profile, &path)?
        };
        *known = Some((Instant::now(), users.clone()));
        Ok(users)
    }
}

/// The users while a restore is open and nothing works on it: from a private copy, since nothing may touch the file.
fn users_of_open_restore(profile: &Profile, path: &std::path::Path) -> Result<Vec<User>, Problem> {
    let room = Room::new(&profile.spool_dir())?;
    let copy = room.file("users.db");
    std::fs::copy(path, &copy).map_err(|e| {
        cannot(
            format!("read the users in {}: {e}", path.display()),
            "use the command line: holdfast status",
        )
    })?;
    database::users_of_copy(&copy)
}

fn users_database(profile: &Profile) -> Result<PathBuf, Problem> {
    profile
        .user_databases()
        .map(|d| d.path.clone())
        .find(|p| p.exists())
        .ok_or_else(|| {
            cannot(
                "sign anybody in: none of the profile's databases of users is there",
                "on the gateway itself `holdfast restore ARCHIVE` needs no sign-in",
            )
        })
}

fn is_admin(profile: &Profile, user: &User) -> bool {
    user.is_admin == Some(true) || profile.web.admins.contains(&user.username)
}

fn proof(user: &User) -> Digest {
    Digest::of_blake3(blake3::hash(user.password.as_bytes()))
}

struct Inside<'a>(&'a AtomicUsize);

impl<'a> Inside<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Inside<'a>> {
        let inside = Inside(count);
        (count.fetch_add(1, Ordering::SeqCst) < AT_ONCE).then_some(inside)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_wrong_password_of_a_name_costs_more_up_to_a_bound_and_others_pay_nothing_for_it() {
        let sign_in = SignIn::default();
        let now = Instant::now();
        let costs: Vec<_> = (0..40)
            .map(|_| sign_in.cost("admin", now).as_millis())
            .collect();
        assert_eq!(costs[..6], [250, 500, 1000, 2000, 4000, 4000]);
        assert_eq!(costs[39], 4000);
        assert_eq!(sign_in.cost("somebody", now), FIRST);
        assert_eq!(
            sign_in.cost("admin", now + FORGIVEN),
            FIRST,
            "it is forgiven"
        );
    }

    #[test]
    fn names_that_are_made_up_do_not_fill_the_memory() {
        let sign_in = SignIn::default();
        let now = Instant::now();
        for i in 0..NAMES + 50 {
            sign_in.cost(&format!("n{i}"), now);
        }
        assert_eq!(locked(&sign_in.wrong).len(), NAMES);
        assert_eq!(sign_in.cost("one more", now), LONGEST);
    }

    #[test]
    fn a_name_that_does_not_exist_costs_a_real_check_and_never_matches() {
        for guess in ["", "holdfast", "0"] {
            assert!(!password::verify(NOBODY, guess).unwrap());
        }
    }
}
