//! Sessions: random tokens that browsers show, kept as digests so that an agent that starts again still knows them and a
//! reader of the file learns none. Checks no password.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use agent_protocol::{Session, Token};
use journal_format::{Digest, Problem};
use serde::{Deserialize, Serialize};

use super::{keep, locked, now_ms, warned};
use crate::error::{Code, OrCannot, cannot, cause};
use crate::gateway::profile::Profile;

/// How long a session lasts, milliseconds.
const LASTS: i64 = 12 * 60 * 60 * 1000;
/// Sessions at once; the oldest goes first.
const MOST: usize = 1000;

/// A session as the agent keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSession {
    /// The user.
    pub user: String,
    /// The user's id: a name that was given to somebody else is somebody else.
    pub id: i64,
    /// BLAKE3 of what the database said about the password: a changed one ends the session.
    pub proof: Digest,
    /// An admin when signing in; asked again with each request while the database can be read.
    pub admin: bool,
    until_ms: i64,
}

#[cfg(test)]
impl StoredSession {
    /// One that is good.
    pub fn of_test(user: &str, id: i64, proof: Digest, admin: bool) -> StoredSession {
        StoredSession {
            user: user.into(),
            id,
            proof,
            admin,
            until_ms: i64::MAX,
        }
    }
}

pub struct Sessions {
    path: PathBuf,
    kept: Mutex<BTreeMap<Digest, StoredSession>>,
}

fn digest(token: &Token) -> Digest {
    Digest::of_blake3(blake3::hash(token.reveal().as_bytes()))
}

impl Sessions {
    /// Those that are still good.
    pub fn open(profile: &Profile) -> Result<Sessions, Problem> {
        let path = profile.state_dir.join("sessions.json");
        let kept = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| {
                // Nothing is lost but the need to sign in again.
                tracing::warn!("{} is not understood and begins anew: {e}", path.display());
                BTreeMap::new()
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => {
                return Err(cannot(
                    cause(&e),
                    format!("read {}: {e}", path.display()),
                    "run the agent as root: `systemctl status holdfast-agent` shows who runs it",
                ));
            }
        };
        Ok(Sessions {
            path,
            kept: Mutex::new(kept),
        })
    }

    /// A new session.
    pub fn begin(
        &self,
        user: &str,
        id: i64,
        proof: Digest,
        admin: bool,
    ) -> Result<Session, Problem> {
        let token = Token::random().map_err(|e| {
            cannot(
                Code::UNFIT_SYSTEM,
                e.to_string(),
                "mount /dev: `ls -l /dev/urandom` shows whether the file is there",
            )
        })?;
        let mut kept = locked(&self.kept);
        let now = now_ms();
        kept.retain(|_, s| s.until_ms > now);
        while kept.len() >= MOST {
            let oldest = kept
                .iter()
                .min_by_key(|(_, s)| s.until_ms)
                .map(|(d, _)| d.clone());
            let Some(oldest) = oldest else { break };
            kept.remove(&oldest);
        }
        let session = StoredSession {
            user: user.into(),
            id,
            proof,
            admin,
            until_ms: now + LASTS,
        };
        kept.insert(digest(&token), session);
        // A full disk must not keep the admin out who comes to make room: it is known until the agent ends.
        warned(self.write(&kept));
        Ok(Session {
            token,
            user: user.into(),
            admin,
        })
    }

    /// The session that a token stands for, if it is still good.
    pub fn find(&self, token: &Token) -> Option<StoredSession> {
        let now = now_ms();
        locked(&self.kept)
            .get(&digest(token))
            .filter(|s| s.until_ms > now)
            .cloned()
    }

    /// Ends one.
    pub fn end(&self, token: &Token) -> Result<(), Problem> {
        let mut kept = locked(&self.kept);
        if kept.remove(&digest(token)).is_some()
            && let Err(problem) = self.write(&kept)
        {
            // Ended must mean ended, also for an agent that starts again: then rather none is known to that one.
            tracing::warn!("{problem}");
            return std::fs::remove_file(&self.path)
                .or_else(|e| match e.kind() {
                    std::io::ErrorKind::NotFound => Ok(()),
                    _ => Err(e),
                })
                .map_err(|_| problem);
        }
        Ok(())
    }

    fn write(&self, kept: &BTreeMap<Digest, StoredSession>) -> Result<(), Problem> {
        let bytes = serde_json::to_vec(kept).or_cannot(
            Code::INTERNAL,
            "write down the sessions",
            "this is a fault in holdfast; report it",
        )?;
        keep(&self.path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn profile(folder: &tempfile::TempDir) -> Profile {
        Profile {
            state_dir: folder.path().into(),
            ..Profile::default()
        }
    }

    fn proof() -> Digest {
        Digest::new("0".repeat(64)).unwrap()
    }

    #[test]
    fn an_agent_that_starts_again_knows_its_sessions_and_its_file_names_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(&profile(&folder)).unwrap();
        let session = sessions.begin("admin", 1, proof(), true).unwrap();
        let path = folder.path().join("sessions.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(session.token.reveal()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = Sessions::open(&profile(&folder)).unwrap();
        assert_eq!(again.find(&session.token).unwrap().user, "admin");
        assert!(again.find(&Token::random().unwrap()).is_none());
    }

    #[test]
    fn a_session_that_was_ended_or_is_too_old_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(&profile(&folder)).unwrap();
        let (a, b) = (
            sessions.begin("a", 1, proof(), true).unwrap().token,
            sessions.begin("b", 2, proof(), true).unwrap().token,
        );
        sessions.end(&a).unwrap();
        assert!(sessions.find(&a).is_none() && sessions.find(&b).is_some());
        locked(&sessions.kept)
            .values_mut()
            .for_each(|s| s.until_ms = now_ms() - 1);
        assert!(sessions.find(&b).is_none());
        assert!(
            Sessions::open(&profile(&folder))
                .unwrap()
                .find(&a)
                .is_none(),
            "ended for good"
        );
    }

    #[test]
    fn sessions_do_not_grow_without_bound() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(&profile(&folder)).unwrap();
        for _ in 0..MOST {
            let session = StoredSession {
                user: "x".into(),
                id: 1,
                proof: proof(),
                admin: false,
                until_ms: now_ms() + LASTS,
            };
            locked(&sessions.kept).insert(digest(&Token::random().unwrap()), session);
        }
        let newest = sessions.begin("admin", 1, proof(), true).unwrap();
        assert_eq!(locked(&sessions.kept).len(), MOST);
        assert!(sessions.find(&newest.token).is_some());
    }

    #[test]
    fn where_sessions_cannot_be_written_down_they_begin_and_end_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(&profile(&folder)).unwrap();
        let before = sessions.begin("a", 1, proof(), true).unwrap().token;
        // A name that nothing can be written under, as on a full disk; what is there can be removed.
        let full = Sessions {
            path: folder.path().join("x".repeat(300)),
            kept: Mutex::new(locked(&sessions.kept).clone()),
        };
        let token = full.begin("b", 2, proof(), true).unwrap().token;
        assert!(full.find(&token).is_some());
        assert!(
            full.end(&before).is_err(),
            "it cannot promise that it stays so"
        );
        assert!(full.find(&before).is_none());
    }
}
