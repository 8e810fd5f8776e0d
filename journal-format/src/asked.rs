//! Who asked for something: a restore, a recovery, whatever the audit log records. Owns the words for it. Names only: no password,
//! token or key. What it says was told by whoever asked, and proves nothing.

use core::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::render::visible;

/// The longest name of a user that is kept, characters.
const NAME: usize = 100;

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AskedBy {
    /// Somebody in a browser.
    Page {
        /// The user; none where nobody signed in, or the name is nobody's: it may be a password in the wrong field.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// Whether the profile calls this user an admin.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        admin: bool,
        /// Where the browser is; none where that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
    },
    /// Somebody at a terminal, or a timer.
    CommandLine {
        /// The account that ran the command.
        uid: u32,
        /// Who became that account by `sudo`, as `sudo` says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sudo_user: Option<String>,
    },
    /// Nobody: the machine started.
    Boot,
    /// Nobody: the agent found that it was needed.
    Agent,
}

impl AskedBy {
    /// A user in a browser.
    pub fn on_page(user: Option<&str>, admin: bool, address: Option<IpAddr>) -> AskedBy {
        AskedBy::Page {
            user: user.map(kept),
            admin,
            address,
        }
    }

    /// Who ran a command.
    pub fn on_command_line(uid: u32, sudo_user: Option<&str>) -> AskedBy {
        AskedBy::CommandLine {
            uid,
            sudo_user: sudo_user.filter(|name| !name.is_empty()).map(kept),
        }
    }
}

fn kept(name: &str) -> String {
    name.chars().take(NAME).collect()
}

impl std::fmt::Display for AskedBy {
    /// As it stands behind "asked by", ready for a terminal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AskedBy::Page {
                user,
                admin,
                address,
            } => {
                match (user, admin) {
                    (Some(user), true) => write!(f, "admin '{}'", visible(user))?,
                    (Some(user), false) => write!(f, "user '{}'", visible(user))?,
                    (None, _) => f.write_str("somebody")?,
                }
                f.write_str(" on the page")?;
                address.map_or(Ok(()), |address| write!(f, " from {address}"))
            }
            AskedBy::CommandLine { uid, sudo_user } => {
                match uid {
                    0 => f.write_str("root")?,
                    uid => write!(f, "account {uid}")?,
                }
                f.write_str(" on the command line")?;
                let by = sudo_user.as_deref().map(visible);
                by.map_or(Ok(()), |by| write!(f, ", by sudo of '{by}'"))
            }
            AskedBy::Boot => f.write_str("the boot"),
            AskedBy::Agent => f.write_str("the agent"),
        }
    }
}

/// What stands beside a record's entry, for people alone. Every reader may pass over it, so a part that is not understood is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Who asked for what this record begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<AskedBy>,
}

impl Info {
    /// Nothing but who asked; none where nobody is known.
    pub fn asked_by(who: Option<AskedBy>) -> Option<Info> {
        who.map(|who| Info {
            asked_by: Some(who),
        })
    }
}

/// As much of it as this program understands.
pub(crate) fn understood<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Info>, D::Error> {
    let all = Option::<serde_json::Value>::deserialize(from)?;
    let who = all.and_then(|all| serde_json::from_value(all.get("asked_by")?.clone()).ok());
    Ok(Info::asked_by(who))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_asked_is_told_in_one_clause_that_steers_no_terminal() {
        let address = Some("10.0.0.7".parse().unwrap());
        let told: Vec<String> = [
            AskedBy::on_page(Some("anna"), true, address),
            AskedBy::on_page(Some("b\u{1b}[2J"), false, None),
            AskedBy::on_page(None, false, address),
            AskedBy::on_command_line(0, None),
            AskedBy::on_command_line(0, Some("anna")),
            AskedBy::on_command_line(1000, Some("")),
            AskedBy::Boot,
            AskedBy::Agent,
        ]
        .iter()
        .map(|who| format!("asked by {who}"))
        .collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        asked by admin 'anna' on the page from 10.0.0.7
        asked by user 'b\u{1b}[2J' on the page
        asked by somebody on the page from 10.0.0.7
        asked by root on the command line
        asked by root on the command line, by sudo of 'anna'
        asked by account 1000 on the command line
        asked by the boot
        asked by the agent
        ");
    }

    #[test]
    fn what_is_not_understood_beside_an_entry_is_passed_over() {
        for (info, known) in [
            (r#"{"asked_by":"agent","why":["again"]}"#, true),
            (r#"{"asked_by":"anna"}"#, false),
            (r#"{"asked_by":{"moon":{}}}"#, false),
            (r#"{"asked_by":5}"#, false),
            ("{}", false),
        ] {
            let json =
                format!(r#"{{"seq":0,"at_ms":1,"up_ms":2,"entry":"committed","info":{info}}}"#);
            let record: crate::Record = serde_json::from_str(&json).unwrap();
            let who = record.info.and_then(|info| info.asked_by);
            assert_eq!(who, known.then_some(AskedBy::Agent), "{json}");
        }
    }
}
