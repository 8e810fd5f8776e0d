//! Whose a file is: as seen here, as a backup tells it, and what of that a restored file gets. Must not change any file.

use journal_format::FileFacts;
use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Problem, cannot};
use crate::text::wording::name;

/// Owner, group and mode of a file, by number and by name, as a manifest holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerFacts {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name, if it had one where the backup was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The group's name, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Permission bits, in octal.
    #[serde(with = "octal")]
    pub mode: u32,
}

/// What a config may be open to at most: it holds keys, and `wg-quick` runs what it says as root.
pub const CONFIG_MODE: u32 = 0o640;
/// What a database may be open to at most.
pub const DATABASE_MODE: u32 = 0o660;
/// The most that a file of rules that are kept over a reboot allows.
pub const KEPT_MODE: u32 = 0o644;

/// What a restored file gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, without set-id bits.
    pub mode: u32,
}

impl From<&FileFacts> for Owner {
    fn from(facts: &FileFacts) -> Owner {
        Owner {
            uid: facts.uid,
            gid: facts.gid,
            mode: facts.mode,
        }
    }
}

impl Owner {
    /// Whether an archive may ask for this owner and group: each is root's, the profile's, or that of the file it replaces.
    pub fn is_of(&self, profile: (u32, u32), replaced: Option<(u32, u32)>) -> bool {
        let known = [Some((0, 0)), Some(profile), replaced];
        let mut known = known.into_iter().flatten();
        known.clone().any(|(uid, _)| uid == self.uid) && known.any(|(_, gid)| gid == self.gid)
    }
}

impl OwnerFacts {
    /// The owner and the group as people know them.
    pub fn shown(&self) -> String {
        let shown = |known: &Option<String>, id: u32| match known {
            Some(known) => name(known),
            None => id.to_string(),
        };
        format!(
            "{}:{}",
            shown(&self.user, self.uid),
            shown(&self.group, self.gid)
        )
    }
}

mod octal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(mode: &u32, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&format_args!("{mode:04o}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
        let text = String::deserialize(input)?;
        u32::from_str_radix(&text, 8)
            .map_err(|_| D::Error::custom("the mode is not a number in octal"))
    }
}

/// Looks names up once each: a gateway has thousands of files and two owners.
#[derive(Debug, Default)]
pub struct Names {
    users: std::collections::BTreeMap<u32, Option<String>>,
    groups: std::collections::BTreeMap<u32, Option<String>>,
}

impl Names {
    /// An owner, a group and a mode, with their names.
    pub fn of(&mut self, uid: u32, gid: u32, mode: u32) -> OwnerFacts {
        let user = self.users.entry(uid).or_insert_with(|| user_name(uid));
        let group = self.groups.entry(gid).or_insert_with(|| group_name(gid));
        OwnerFacts {
            uid,
            gid,
            user: user.clone(),
            group: group.clone(),
            mode: mode & 0o7777,
        }
    }
}

/// The ids behind the profile's `user:group`; either may be a number.
pub fn resolve(owner: &str) -> Result<(u32, u32), Problem> {
    let unknown = |what: &str, name: &str| {
        cannot(
            Code::BAD_PROFILE,
            format!("find the {what} {name:?} of the profile's owner {owner:?} on this gateway"),
            "make that user and group, or set `owner` under [gateway] in the profile",
        )
    };
    let (user, group) = owner.split_once(':').ok_or_else(|| {
        cannot(
            Code::BAD_PROFILE,
            format!("use the profile's owner {owner:?}: it is not `user:group`"),
            "correct `owner` under [gateway] in the profile",
        )
    })?;
    let uid = user.parse().ok().or_else(|| uid_of(user));
    let gid = group.parse().ok().or_else(|| gid_of(group));
    Ok((
        uid.ok_or_else(|| unknown("user", user))?,
        gid.ok_or_else(|| unknown("group", group))?,
    ))
}

fn user_name(uid: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(uid)).ok()??.name)
}

fn group_name(gid: u32) -> Option<String> {
    Some(Group::from_gid(Gid::from_raw(gid)).ok()??.name)
}

fn uid_of(user: &str) -> Option<u32> {
    Some(User::from_name(user).ok()??.uid.as_raw())
}

fn gid_of(group: &str) -> Option<u32> {
    Some(Group::from_name(group).ok()??.gid.as_raw())
}

/// What a manifest asks for: its owner, if that user and group exist here; else the profile's owner, with a sentence that
/// says so. Set-id bits never come back. Whether it gets that owner is the planner's to say.
///
/// A name is looked up by name, so that it may have another number here. An owner that had no name there counts as
/// existing if its number has no name here either: it is the same nameless one, as in a container.
pub fn placement(facts: &OwnerFacts, profile_owner: (u32, u32)) -> (Owner, Option<String>) {
    let uid = match &facts.user {
        Some(name) => uid_of(name),
        None => user_name(facts.uid).is_none().then_some(facts.uid),
    };
    let gid = match &facts.group {
        Some(name) => gid_of(name),
        None => group_name(facts.gid).is_none().then_some(facts.gid),
    };
    let mode = facts.mode & 0o777;
    if let (Some(uid), Some(gid)) = (uid, gid) {
        return (Owner { uid, gid, mode }, None);
    }
    let (uid, gid) = profile_owner;
    let note = format!(
        "{} does not exist here; the profile's owner takes its place",
        facts.shown()
    );
    (Owner { uid, gid, mode }, Some(note))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts(uid: u32, user: Option<&str>, mode: u32) -> OwnerFacts {
        OwnerFacts {
            uid,
            gid: 0,
            user: user.map(str::to_owned),
            group: Some("root".into()),
            mode,
        }
    }

    #[test]
    fn names_and_numbers_of_the_profile_are_found_and_unknown_ones_are_problems() {
        assert_eq!(resolve("root:root").unwrap(), (0, 0));
        assert_eq!(resolve("0:12345").unwrap(), (0, 12345));
        for unknown in [
            "no-such-user-here:root",
            "root:no-such-group-here",
            "root",
            "",
        ] {
            assert!(resolve(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_name_counts_and_not_its_number_there() {
        let (placement, note) = placement(&facts(4711, Some("root"), 0o640), (9, 9));
        assert_eq!(
            (placement, note),
            (
                Owner {
                    uid: 0,
                    gid: 0,
                    mode: 0o640
                },
                None
            )
        );
    }

    #[test]
    fn an_owner_that_is_not_here_gives_way_to_the_profiles() {
        let (placement, note) = placement(&facts(0, Some("no-such-user-here"), 0o600), (8, 9));
        assert_eq!((placement.uid, placement.gid), (8, 9));
        assert_eq!(
            note.unwrap(),
            "no-such-user-here:root does not exist here; the profile's owner takes its place"
        );
    }

    #[test]
    fn a_nameless_owner_stays_unless_its_number_is_somebody_here() {
        assert_eq!(
            placement(&facts(3_999_999, None, 0o600), (8, 9)).0.uid,
            3_999_999
        );
        assert_eq!(
            placement(&facts(0, None, 0o600), (8, 9)).0.uid,
            8,
            "nobody becomes root by a number"
        );
    }

    #[test]
    fn set_id_bits_do_not_come_back() {
        assert_eq!(
            placement(&facts(0, Some("root"), 0o6755), (8, 9)).0.mode,
            0o755
        );
    }

    #[test]
    fn modes_are_written_in_octal_and_read_back() {
        let json = serde_json::to_string(&facts(1, None, 0o640)).unwrap();
        assert_eq!(json, r#"{"uid":1,"gid":0,"group":"root","mode":"0640"}"#);
        assert_eq!(
            serde_json::from_str::<OwnerFacts>(&json).unwrap(),
            facts(1, None, 0o640)
        );
    }
}
