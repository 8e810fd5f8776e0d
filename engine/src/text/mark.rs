//! Stands for a secret where two have to be told apart: equal for equal secrets, and of no use to anybody who cannot look
//! into this process. Must not be written anywhere.

use std::fmt;
use std::sync::OnceLock;

/// A keyed digest whose key is this process's alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark([u8; 32]);

impl Mark {
    /// Of this secret. None where the system gives no random bytes.
    pub fn of(secret: &str) -> Option<Mark> {
        static KEY: OnceLock<Option<[u8; 32]>> = OnceLock::new();
        let key = KEY.get_or_init(|| {
            let mut key = [0; 32];
            getrandom::fill(&mut key).ok().map(|()| key)
        });
        let hash = blake3::keyed_hash(key.as_ref()?, secret.as_bytes());
        Some(Mark(*hash.as_bytes()))
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_secrets_have_equal_marks_and_a_mark_shows_nothing() {
        assert_eq!(Mark::of("a"), Mark::of("a"));
        assert_ne!(Mark::of("a"), Mark::of("b"));
        assert_eq!(format!("{:?}", Mark::of("a")), "Some(Mark)");
    }
}
