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
use crate::database::{self, Live, User};
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
/// Sign-ins whose passwords are checked or wait for it, at once. None of them takes long.
const CHECKED: usize = 32;
/// Sign-ins that were refused and are answered with silence, at once; a further one is answered without. With those
/// that are checked they leave connections to those who are signed in.
const SILENT: usize = 48;
/// How long what was read of the users counts without reading again.
const FRESH: Duration = Duration::from_secs(2);
/// Costs what a real check costs, so that a name that does not exist answers no sooner. Of no password that is known.
const NOBODY: &str = "scrypt:32768:8:1$holdfast$\
    00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
    0000000000000000";

#[derive(Default)]
pub struct SignIn {
    wrong: Mutex<BTreeMap<String, (u32, Instant)>>,
    checked: AtomicUsize,
    silent: AtomicUsize,
    /// One hash at a time: each takes 32 MiB and a processor.
    hashing: Mutex<()>,
    users: Mutex<Option<(Instant, Users)>>,
}

/// The gateway's users as they were last read.
#[derive(Clone)]
struct Users {
    all: Vec<User>,
    /// From a plain copy of a file that may have been in use: enough to sign in by, not to end a session by.
    from_copy: bool,
}

impl SignIn {
    /// Signs a person in, or says no after a while.
    pub fn sign_in(&self, agent: &Agent, name: &str, given: &Password) -> Result<Session, Refusal> {
        let failed = |problem| Refusal::Failed { problem };
        let users = self.users(&agent.profile).map_err(failed)?.all;
        let user = users.iter().find(|u| u.username == name);
        let right = self.is_right(user, given)?;
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
                self.be_silent(self.cost(name, Instant::now()));
                Err(Refusal::WrongPassword)
            }
        }
    }

    fn is_right(&self, user: Option<&User>, given: &Password) -> Result<bool, Refusal> {
        let _place = Place::take(&self.checked, CHECKED).ok_or_else(|| Refusal::Busy {
            problem: cannot(
                "sign in: too many people sign in at once",
                "try again in a few seconds",
            ),
            restore: None,
        })?;
        let _one = locked(&self.hashing);
        let hash = user.map_or(NOBODY, |u| u.password.as_str());
        // A hash that cannot be checked is no match; the admin of the box learns why.
        Ok(
            password::verify(hash, given.reveal()).unwrap_or_else(|problem| {
                tracing::warn!("{problem}");
                false
            }),
        )
    }

    /// Those who guess hold no place that an admin needs: when all places are taken there is no wait.
    fn be_silent(&self, cost: Duration) {
        if let Some(_place) = Place::take(&self.silent, SILENT) {
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
    pub fn check(&self, profile: &Profile, kept: &Kept) -> Result<bool, Refusal> {
        // A box whose users cannot be read needs its admin most: what was true at the sign-in counts.
        let users = match self.users(profile) {
            Ok(users) => users,
            Err(problem) => {
                tracing::warn!("{problem}");
                return Ok(kept.admin);
            }
        };
        standing(profile, &users, kept)
    }

    fn users(&self, profile: &Profile) -> Result<Users, Problem> {
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
            Users {
                all: Live::new(profile).users(&path)?,
                from_copy: false,
            }
        } else if let Some((_, what)) = holder {
            return Err(cannot(
                format!("sign anybody in: {what} runs, and the users are not read meanwhile"),
                "try again when it is over; sessions from before go on",
            ));
        } else {
            Users {
                all: users_of_open_restore(profile, &path)?,
                from_copy: true,
            }
        };
        *known = Some((Instant::now(), users.clone()));
        Ok(users)
    }
}

/// A session by what was read of the users.
fn standing(profile: &Profile, users: &Users, kept: &Kept) -> Result<bool, Refusal> {
    match users.all.iter().find(|u| u.username == kept.user) {
        Some(user) if user.active && user.id == kept.id && proof(user) == kept.proof => {
            Ok(is_admin(profile, user))
        }
        _ if users.from_copy => Ok(kept.admin),
        _ => Err(Refusal::NotSignedIn),
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

/// One of a number of places; given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize, most: usize) -> Option<Place<'a>> {
        let place = Place(taken);
        (taken.fetch_add(1, Ordering::SeqCst) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
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

    #[test]
    fn those_who_guess_and_wait_keep_nobody_from_signing_in_and_are_bounded_themselves() {
        let sign_in = SignIn::default();
        let silent: Vec<_> = (0..SILENT)
            .map(|_| Place::take(&sign_in.silent, SILENT).unwrap())
            .collect();
        // With all places taken the silence is left out: this would never end.
        sign_in.be_silent(Duration::MAX);
        assert!(!sign_in.is_right(None, &Password::new("guess")).unwrap());
        drop(silent);
        assert_eq!(sign_in.silent.load(Ordering::SeqCst), 0);
        assert_eq!(sign_in.checked.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_plain_copy_of_the_users_ends_no_session() {
        let sessions_user = User {
            id: 1,
            username: "admin".into(),
            password: "x".into(),
            active: true,
            is_admin: None,
        };
        let kept = Kept::of_test("admin", 1, proof(&sessions_user), true);
        let read = |all: Vec<User>, from_copy| {
            standing(&Profile::default(), &Users { all, from_copy }, &kept)
        };
        assert!(read(vec![], true).unwrap());
        assert!(matches!(read(vec![], false), Err(Refusal::NotSignedIn)));
        let changed = User {
            password: "y".into(),
            ..sessions_user.clone()
        };
        assert!(read(vec![changed.clone()], true).unwrap());
        assert!(matches!(
            read(vec![changed], false),
            Err(Refusal::NotSignedIn)
        ));
        assert!(read(vec![sessions_user], false).unwrap());
    }
}
