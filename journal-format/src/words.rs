//! The closed vocabulary: identifiers, steps, directions, moves, verdicts. Owns their spelling; knows no record.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A string did not have the form that an identifier needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: {text:?}")]
pub struct BadWord {
    /// Which identifier was expected.
    pub kind: &'static str,
    /// What was there instead.
    pub text: String,
}

/// What a type has that is read and written as text: by its `new`, and by how it becomes text.
#[macro_export]
macro_rules! as_text {
    ($name:ident, $bad:ty, $text:expr) => {
        impl TryFrom<String> for $name {
            type Error = $bad;
            fn try_from(text: String) -> Result<Self, $bad> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                let text: fn($name) -> String = $text;
                text(value)
            }
        }
    };
}

/// Makes a type of a string that has a form, which is checked whenever one is made; or else the error is made of it.
#[macro_export]
macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $ok:expr, $bad:ty, $error:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the form and keeps the text.
            pub fn new(text: impl Into<String>) -> Result<Self, $bad> {
                let text = text.into();
                let (ok, error): (fn(&str) -> bool, fn(String) -> $bad) = ($ok, $error);
                if ok(&text) { Ok(Self(text)) } else { Err(error(text)) }
            }
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        $crate::as_text!($name, $bad, |word| word.0);
        impl std::str::FromStr for $name {
            type Err = $bad;
            fn from_str(text: &str) -> Result<Self, $bad> {
                Self::new(text)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_string!(
    /// The name of one restore: `YYYYMMDDTHHMMSSZ-` and eight hex digits. Also the name of its folder.
    RestoreId,
    |t| {
        t.len() == 25
            && t.bytes().enumerate().all(|(i, b)| match i {
                8 => b == b'T',
                15 => b == b'Z',
                16 => b == b'-',
                17.. => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
                _ => b.is_ascii_digit(),
            })
    },
    BadWord,
    |text| BadWord { kind: "restore id", text }
);
checked_string!(
    /// The kernel's name for one boot, from `/proc/sys/kernel/random/boot_id`.
    BootId,
    |t| !t.is_empty() && t.len() <= 64 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
    BadWord,
    |text| BadWord { kind: "boot id", text }
);

/// A 256-bit digest, read and written as 64 lower-case hex digits. Which function made it is said where it is used.
///
/// Held as bytes: a plan of a large gateway has tens of thousands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// The place of a record in its journal; the header is 0. Also the id of the event that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The place after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}
impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes [`Step`] from the list of all steps, so that none is missing from any list.
macro_rules! steps {
    ($($step:ident = $slug:literal,)*) => {
        /// One step of a restore. A closed set; `ARCHITECTURE.md` says what each does in either direction.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "title() says it")]
        pub enum Step {
            $(#[serde(rename = $slug)] $step,)*
        }

        impl Step {
            /// Every step. The order is that of the first plans; each plan carries its own.
            pub const ALL: [Step; 16] = [$(Step::$step,)*];

            /// The name used in journals and addresses, as `swap-databases`.
            pub fn slug(self) -> &'static str {
                match self {
                    $(Step::$step => $slug,)*
                }
            }
        }
    };
}

steps! {
    SafetyBackup = "safety-backup",
    Stage = "stage",
    Fence = "fence",
    StopServices = "stop-services",
    TunnelsDown = "tunnels-down",
    ResetRules = "reset-rules",
    SettleDatabases = "settle-databases",
    SwapDatabases = "swap-databases",
    SwapConfigs = "swap-configs",
    TunnelsUp = "tunnels-up",
    VerifyAtRest = "verify-at-rest",
    StartServices = "start-services",
    LoadFirewall = "load-firewall",
    VerifyRunning = "verify-running",
    LiftFence = "lift-fence",
    CleanUp = "clean-up",
}

impl Step {
    /// What a person reads, for the given direction.
    pub fn title(self, direction: Direction) -> &'static str {
        match (self, direction) {
            (Step::SafetyBackup, _) => "make a safety backup",
            (Step::Stage, _) => "prepare the new files",
            (Step::Fence, _) => "block tunnel traffic",
            (Step::StopServices, _) => "stop services",
            (Step::TunnelsDown, Direction::Forward) => "take tunnels down",
            (Step::TunnelsDown, Direction::Back) => "take new tunnels down",
            (Step::ResetRules, _) => "remove the tunnels' rules",
            (Step::SettleDatabases, _) => "checkpoint databases",
            (Step::SwapDatabases, Direction::Forward) => "replace databases",
            (Step::SwapDatabases, Direction::Back) => "put old databases back",
            (Step::SwapConfigs, Direction::Forward) => "replace configs",
            (Step::SwapConfigs, Direction::Back) => "put old configs back",
            (Step::TunnelsUp, Direction::Forward) => "bring tunnels up",
            (Step::TunnelsUp, Direction::Back) => "bring old tunnels up",
            (Step::VerifyAtRest, _) => "check restored files",
            (Step::StartServices, _) => "start services",
            (Step::LoadFirewall, Direction::Forward) => "load firewall rules",
            (Step::LoadFirewall, Direction::Back) => "load old firewall rules",
            (Step::VerifyRunning, _) => "check the running gateway",
            (Step::LiftFence, _) => "unblock tunnel traffic",
            (Step::CleanUp, _) => "clean up",
        }
    }

    /// Before the barrier: it changes nothing that the gateway uses.
    pub fn is_preparation(self) -> bool {
        matches!(self, Step::SafetyBackup | Step::Stage)
    }

    /// What it does lasts over a reboot. All others count as done only in the boot that did them.
    pub fn is_durable(self) -> bool {
        matches!(
            self,
            Step::SafetyBackup
                | Step::Stage
                | Step::SettleDatabases
                | Step::SwapDatabases
                | Step::SwapConfigs
                | Step::CleanUp
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// Which way a restore moves. It flips at most once, from forward to back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Direction {
    Forward,
    Back,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Forward => "forward",
            Direction::Back => "back",
        })
    }
}

/// One try at one step in one direction. Attempts count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Move {
    pub step: Step,
    pub direction: Direction,
    pub attempt: u32,
}

/// How a restore ended. `stuck` is not here: it is not an end, `recover` by hand tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The gateway is as the backup says.
    Restored,
    /// The gateway is as it was before.
    RolledBack,
    /// It ended before the first effect.
    NothingChanged,
    /// The operator left it as it was then: parts of it as before, and parts as the backup says. Since 1.1.
    Left,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Restored => "restored",
            Verdict::RolledBack => "rolled back",
            Verdict::NothingChanged => "nothing changed",
            Verdict::Left => "left as it is",
        })
    }
}

/// Which way recovery takes where the journal leaves the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// On if all databases and configs are in place, else back.
    #[default]
    Auto,
    /// On.
    Resume,
    /// Back.
    RollBack,
}

/// What tells one file object from every other, also after a reboot: inode numbers are used again, so the time of
/// birth is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Inode number.
    pub ino: u64,
    /// Time of birth, nanoseconds since 1970 UTC, as `statx` gives it.
    pub born_ns: i64,
}

impl Digest {
    /// Reads 64 lower-case hex digits.
    pub fn new(text: impl Into<String>) -> Result<Digest, BadWord> {
        let text = text.into();
        let upper = text.bytes().any(|b| b.is_ascii_uppercase());
        match blake3::Hash::from_hex(&text) {
            Ok(hash) if !upper => Ok(Digest(*hash.as_bytes())),
            _ => Err(BadWord {
                kind: "digest",
                text,
            }),
        }
    }
    /// The digest that BLAKE3 gave.
    pub fn of_blake3(hash: blake3::Hash) -> Digest {
        Digest(*hash.as_bytes())
    }
    /// BLAKE3 of the JSON of something that is strings, numbers and lists, in which serde_json has nothing to refuse.
    ///
    /// Hashed in portions: the plan of a large gateway has megabytes.
    pub fn of_json(value: &impl Serialize) -> Digest {
        let mut out = std::io::BufWriter::new(blake3::Hasher::new());
        let written = serde_json::to_writer(&mut out, value);
        match (written, out.into_inner()) {
            (Ok(()), Ok(hasher)) => Digest::of_blake3(hasher.finalize()),
            (Err(_), _) | (_, Err(_)) => Digest::of_blake3(blake3::hash(b"")),
        }
    }
    /// The digest in these 32 bytes, whichever function made them.
    pub fn of_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }
}

as_text!(Digest, BadWord, |digest| digest.to_string());

impl std::str::FromStr for Digest {
    type Err = BadWord;
    fn from_str(text: &str) -> Result<Self, BadWord> {
        Self::new(text)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
