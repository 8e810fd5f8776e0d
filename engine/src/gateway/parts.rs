//! The parts of a gateway, as a backup saves them: what each is called, and what became of it. Pure; saves nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::iptables::Family;

/// What the name of a part begins with that the profile does not know.
const UNNAMED: &str = "unnamed:";

/// A part of a gateway that a backup of it should have. On the command line and in a manifest it goes by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Part {
    /// A database, by its name in the profile: `configs.db`.
    Database(String),
    /// The configs, in both folders: `configs`.
    Configs,
    /// The rules that are in force: `rules-v4`, `rules-v6`.
    Rules(Family),
    /// Whether packets are forwarded: `forwarding-v4`, `forwarding-v6`.
    Forwarding(Family),
    /// The file in which the box keeps rules over a reboot: `kept-v4`, `kept-v6`.
    Kept(Family),
    /// Which tunnels are up: `tunnels`.
    Tunnels,
    /// The peers of tunnels that the kernel has and no config: `peers`.
    Peers,
    /// A database that the gateway uses and the profile does not name, by its path: `unnamed:/srv/users.db`.
    Unnamed(String),
    /// Whatever databases the gateway may use besides, where they could not be looked for: `other-databases`.
    OtherDatabases,
}

/// What became of a part in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum PartFate {
    /// It is in the backup, whole.
    Saved,
    /// A database that SQLite could not read: its bytes are in the backup, and those of its side files.
    SavedRaw {
        /// Why it could not be read.
        why: String,
    },
    /// The gateway has none.
    NotThere,
    /// It is there, and not in the backup, or not all of it.
    NotSaved {
        /// Why not.
        why: String,
    },
}

/// What a backup lacks, as one line has it: `incomplete: lacks the database configs.db (database is locked)`.
pub fn incomplete(lacks: &[Lack]) -> String {
    let lacks = lacks
        .iter()
        .map(|l| format!("{} ({})", l.part.shown(), l.why));
    format!("incomplete: lacks {}", lacks.collect::<Vec<_>>().join(", "))
}

/// A part that a backup should have and lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// The part.
    pub part: Part,
    /// Why it could not be saved.
    pub why: String,
}

impl Part {
    /// Its name for whoever reads a sentence: `the database configs.db`.
    pub fn shown(&self) -> String {
        match self {
            Part::Database(name) => format!("the database {name}"),
            Part::Configs => "the configs".into(),
            Part::Rules(family) => format!("the {} firewall rules", family.name()),
            Part::Forwarding(family) => format!("the {} forwarding", family.name()),
            Part::Kept(family) => format!("the file that keeps {} rules", family.name()),
            Part::Tunnels => "the tunnels that are up".into(),
            Part::Peers => "the peers that only the kernel has".into(),
            Part::Unnamed(path) => format!("the database {path}"),
            Part::OtherDatabases => {
                "what databases there are that the profile does not name".into()
            }
        }
    }

    /// What becomes of it in a restore from a backup that lacks it.
    pub fn without(&self) -> &'static str {
        match self {
            Part::Tunnels => "the tunnels of active clients come up instead",
            Part::Peers => "each tunnel has the peers of its config",
            Part::Configs => "current configs that the backup lacks stay",
            Part::Database(_)
            | Part::Rules(_)
            | Part::Forwarding(_)
            | Part::Kept(_)
            | Part::Unnamed(_)
            | Part::OtherDatabases => "what is here stays as it is",
        }
    }
}

/// A part of which a restore may begin though its safety backup lacks it; for any other, why not. What is replaced of files is
/// kept besides, as the restore's originals; the rest is in the kernel alone, and going back needs it.
pub fn done_without(name: &str) -> Result<Part, String> {
    let nothing = |why: &str| Err(format!("--without-safety-backup-of {name} is {why}"));
    match name.parse::<Part>() {
        Ok(part @ (Part::Database(_) | Part::Configs | Part::Kept(_))) => Ok(part),
        Ok(Part::Rules(_)) => nothing(
            "not possible: a restore that fails could not put back rules that cannot be read. To restore all but the firewall, add \
             --keep-going-without-firewall",
        ),
        Ok(Part::Forwarding(_)) => nothing(
            "not needed: a restore leaves forwarding as it is where it cannot be read. Leave this option out",
        ),
        Ok(Part::Tunnels | Part::Peers) => nothing(
            "not possible: a restore that fails could not put back tunnels that cannot be read. Run `wg show` to see why, then restore without \
             this option",
        ),
        Ok(Part::Unnamed(_) | Part::OtherDatabases) => nothing(
            "not needed: a restore replaces no database that the profile does not name. Leave this option out",
        ),
        Err(_) => Err(format!(
            "{name:?} is no part that --without-safety-backup-of takes. It takes configs, kept-v4, kept-v6, and each database by \
             its name, as configs.db"
        )),
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Database(name) => f.write_str(name),
            Part::Configs => f.write_str("configs"),
            Part::Rules(family) => f.write_str(family.of("rules-v4", "rules-v6")),
            Part::Forwarding(family) => f.write_str(family.of("forwarding-v4", "forwarding-v6")),
            Part::Kept(family) => f.write_str(family.of("kept-v4", "kept-v6")),
            Part::Tunnels => f.write_str("tunnels"),
            Part::Peers => f.write_str("peers"),
            Part::Unnamed(path) => write!(f, "{UNNAMED}{path}"),
            Part::OtherDatabases => f.write_str("other-databases"),
        }
    }
}

/// No part is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no part of a gateway; parts are configs, rules-v4, rules-v6, forwarding-v4, forwarding-v6, kept-v4, kept-v6, \
     tunnels, peers, and each database by its name, as configs.db"
)]
pub struct NoPart(String);

impl FromStr for Part {
    type Err = NoPart;

    fn from_str(name: &str) -> Result<Part, NoPart> {
        Ok(match name {
            "configs" => Part::Configs,
            "rules-v4" => Part::Rules(Family::V4),
            "rules-v6" => Part::Rules(Family::V6),
            "forwarding-v4" => Part::Forwarding(Family::V4),
            "forwarding-v6" => Part::Forwarding(Family::V6),
            "kept-v4" => Part::Kept(Family::V4),
            "kept-v6" => Part::Kept(Family::V6),
            "tunnels" => Part::Tunnels,
            "peers" => Part::Peers,
            "other-databases" => Part::OtherDatabases,
            _ if name.starts_with(UNNAMED) => Part::Unnamed(name[UNNAMED.len()..].to_owned()),
            // The profile takes no other name for a database.
            _ if name.ends_with(".db") && !name.contains('/') => Part::Database(name.to_owned()),
            _ => return Err(NoPart(name.to_owned())),
        })
    }
}

impl TryFrom<String> for Part {
    type Error = NoPart;

    fn try_from(name: String) -> Result<Part, NoPart> {
        name.parse()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> String {
        part.to_string()
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} could not be saved: {}", self.part.shown(), self.why)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_part_is_known_again_by_its_name() {
        let mut all = vec![
            Part::Database("configs.db".into()),
            Part::Configs,
            Part::Tunnels,
            Part::Peers,
            Part::Unnamed("/srv/users.db".into()),
            Part::OtherDatabases,
        ];
        for family in Family::BOTH {
            all.extend([
                Part::Rules(family),
                Part::Forwarding(family),
                Part::Kept(family),
            ]);
        }
        for part in all {
            assert_eq!(part.to_string().parse::<Part>().unwrap(), part);
        }
        for none in ["", "rules", "a/b.db", "config.d"] {
            assert!(none.parse::<Part>().is_err(), "{none}");
        }
    }

    #[test]
    fn parts_that_are_files_can_be_done_without_and_of_others_it_is_said_what_helps() {
        for file in ["configs.db", "configs", "kept-v4"] {
            assert_eq!(done_without(file).unwrap().to_string(), file);
        }
        let others = ["rules-v4", "forwarding-v6", "peers", "unnamed:/a.db", "x"];
        let why = others.map(|name| done_without(name).unwrap_err());
        insta::assert_snapshot!(why.join("\n"));
    }
}
