//! Browsers in which an admin has signed in before. Such a browser keeps a token that opens nothing: it is a place of its
//! own in the queue before the check of a password, which no stranger can take. Checks no password.
//!
//! Nothing is kept of a browser: its token says for whom it is and carries a mark that only the key in `state_dir` makes.
//! With another key (the file is removed and the agent started again) no browser is known any more.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use agent_protocol::{NoRandomness, Token};
use subtle::ConstantTimeEq;

use super::{keep, locked, warned};
use crate::gateway::profile::Profile;

/// Wrong passwords from one browser before it is a stranger, for [`FORGIVEN`].
const WRONG: u32 = 5;
const FORGIVEN: Duration = Duration::from_secs(15 * 60);
/// How much of a token, in digits, is its own; the rest is the mark.
const OWN: usize = 32;

pub struct Devices {
    key: [u8; 32],
    /// Only of tokens that this key made, so no guess adds to it.
    wrong: Mutex<BTreeMap<String, (u32, Instant)>>,
}

impl Devices {
    /// With the key of `state_dir`, or a new one.
    pub fn open(profile: &Profile) -> Result<Devices, NoRandomness> {
        let path = profile.state_dir.join("devices.key");
        let kept = std::fs::read(&path).ok();
        let key = match kept.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
            Some(key) => key,
            None => {
                let key = *blake3::hash(Token::random()?.reveal().as_bytes()).as_bytes();
                // Else browsers are known until this agent ends.
                warned(keep(&path, &key));
                key
            }
        };
        Ok(Devices {
            key,
            wrong: Mutex::default(),
        })
    }

    fn mark(&self, own: &str, user: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(own.as_bytes()).update(user.as_bytes());
        hasher.finalize().to_hex()[..OWN].to_string()
    }

    /// What a browser keeps in which this admin has signed in.
    pub fn token(&self, user: &str) -> Result<Token, NoRandomness> {
        let mut text = Token::random()?.reveal()[..OWN].to_string();
        text.push_str(&self.mark(&text, user));
        Token::new(text).map_err(|e| NoRandomness(e.to_string()))
    }

    fn made_for(&self, token: &Token, user: &str) -> bool {
        let (own, mark) = token.reveal().split_at(OWN);
        mark.as_bytes()
            .ct_eq(self.mark(own, user).as_bytes())
            .into()
    }

    /// Whether this admin has signed in before in the browser that shows this token, and it has not guessed since.
    pub fn knows(&self, token: &Token, user: &str) -> bool {
        let mut wrong = locked(&self.wrong);
        wrong.retain(|_, (_, last)| last.elapsed() < FORGIVEN);
        let guessed = wrong
            .get(token.reveal())
            .is_some_and(|(count, _)| *count >= WRONG);
        !guessed && self.made_for(token, user)
    }

    /// A wrong password came from the browser that shows this token.
    pub fn was_wrong(&self, token: &Token, user: &str) {
        if self.made_for(token, user) {
            let mut wrong = locked(&self.wrong);
            let (count, last) = wrong
                .entry(token.reveal().into())
                .or_insert((0, Instant::now()));
            *count += 1;
            *last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn devices(folder: &tempfile::TempDir) -> Devices {
        let profile = Profile {
            state_dir: folder.path().into(),
            ..Profile::default()
        };
        Devices::open(&profile).unwrap()
    }

    #[test]
    fn a_browser_is_known_for_its_own_admin_also_by_an_agent_that_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let token = devices(&folder).token("admin").unwrap();
        let again = devices(&folder);
        assert!(again.knows(&token, "admin"));
        assert!(!again.knows(&token, "second"));
        assert!(!again.knows(&Token::random().unwrap(), "admin"));
        let key = folder.path().join("devices.key");
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(key).unwrap();
        assert!(!devices(&folder).knows(&token, "admin"));
    }

    #[test]
    fn a_browser_that_guesses_is_a_stranger_and_strangers_fill_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let devices = devices(&folder);
        let (guesses, other) = (
            devices.token("admin").unwrap(),
            devices.token("admin").unwrap(),
        );
        for _ in 0..WRONG {
            assert!(devices.knows(&guesses, "admin"));
            devices.was_wrong(&guesses, "admin");
        }
        assert!(!devices.knows(&guesses, "admin"));
        assert!(devices.knows(&other, "admin"));
        devices.was_wrong(&Token::random().unwrap(), "admin");
        assert_eq!(locked(&devices.wrong).len(), 1);
    }
}
