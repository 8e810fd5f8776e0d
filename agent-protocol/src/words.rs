//! Identifiers and secrets that cross the socket. Owns their spelling; a secret never shows in `Debug`.

use std::fmt;

use journal_format::{as_text, checked_string};
use serde::{Deserialize, Serialize};

/// A string did not have the form that an identifier needs. The text is left out: it may be somebody's secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: {HEX_DIGITS} lower-case hex digits are needed")]
pub struct BadId {
    /// Which identifier was expected.
    pub kind: &'static str,
}

/// How many hex digits an identifier has: 128 bits, so that none can be guessed.
pub const HEX_DIGITS: usize = 32;

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn random_hex<const BYTES: usize>() -> Result<String, NoRandomness> {
    let mut bytes = [0u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|e| NoRandomness(e.to_string()))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The kernel gave no random bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot get random bytes from the kernel: {0}")]
pub struct NoRandomness(pub String);

fn is_id(text: &str) -> bool {
    is_hex(text, HEX_DIGITS)
}

checked_string!(
    /// One uploaded archive in the agent's spool.
    UploadId,
    is_id,
    BadId,
    |_| BadId { kind: "upload id" }
);
checked_string!(
    /// One wish to start a restore. Repeating the wish finds the same restore.
    RequestId,
    is_id,
    BadId,
    |_| BadId { kind: "request id" }
);

impl UploadId {
    /// A new one that nobody can guess.
    pub fn random() -> Result<Self, NoRandomness> {
        random_hex::<{ HEX_DIGITS / 2 }>().map(Self)
    }
}

impl RequestId {
    /// A new one that nobody can guess.
    pub fn random() -> Result<Self, NoRandomness> {
        random_hex::<{ HEX_DIGITS / 2 }>().map(Self)
    }
}

/// What a signed-in browser shows the agent. Whoever has it is that user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

impl Token {
    const DIGITS: usize = 64;

    /// Checks the form and keeps the text.
    pub fn new(text: impl Into<String>) -> Result<Self, BadId> {
        let text = text.into();
        if is_hex(&text, Self::DIGITS) {
            Ok(Self(text))
        } else {
            Err(BadId {
                kind: "session token",
            })
        }
    }
    /// A new one that nobody can guess.
    pub fn random() -> Result<Self, NoRandomness> {
        random_hex::<{ Self::DIGITS / 2 }>().map(Self)
    }
    /// The secret itself, for the cookie and for the digest that the agent keeps.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

as_text!(Token, BadId, |token| token.0);
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// What a person typed as their password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Keeps what was typed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The secret itself, for the check against its hash.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let token = Token::random().unwrap();
        let shown = format!("{token:?} {:?}", Password::new("correct horse"));
        assert_eq!(shown, "Token(hidden) Password(hidden)");
        let error = Token::new("correct horse").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("horse"));
    }

    #[test]
    fn an_id_that_could_be_a_path_is_refused() {
        let sixty_four = "a".repeat(64);
        for bad in [
            "",
            "..",
            "../../../etc/passwd/aaaaaaaaaaaaaa",
            "ABCDEFABCDEFABCDEFABCDEFABCDEFAB",
            sixty_four.as_str(),
        ] {
            assert!(UploadId::new(bad).is_err(), "{bad}");
        }
        let good = UploadId::random().unwrap();
        assert_eq!(UploadId::new(good.as_str()).unwrap(), good);
    }

    #[test]
    fn two_random_ids_differ() {
        assert_ne!(RequestId::random().unwrap(), RequestId::random().unwrap());
        assert_ne!(Token::random().unwrap(), Token::random().unwrap());
    }
}
