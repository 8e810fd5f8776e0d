//! The closed set of messages. One request at a time on a connection; each says what it is answered with.

use std::net::IpAddr;
use std::sync::Arc;

use journal_format::{AlikeNotes, Digest, Event, Policy, Problem, RestoreId, Seq, View};
use serde::{Deserialize, Serialize};

use crate::{GatewayLines, Overview, Password, RequestId, Status, Token, UploadId};

/// What the web asks. Answered with the named reply, or [`Reply::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A person signs in. [`Reply::SignedIn`].
    SignIn {
        /// Who they say they are.
        user: String,
        /// How they prove it.
        password: Password,
        /// What their browser keeps from an earlier time.
        device: Option<Token>,
        /// Where their browser is.
        from: Option<IpAddr>,
    },
    /// The session ends. [`Reply::SignedOut`], also when there was none.
    SignOut {
        /// The session.
        token: Token,
        /// Where the browser is.
        from: Option<IpAddr>,
    },
    /// Whose session it is. [`Reply::Session`]. Users who are no admins may ask.
    Who {
        /// The session.
        token: Token,
        /// Where the browser is.
        from: Option<IpAddr>,
    },
    /// Something for admins only; the agent checks that each time.
    Admin {
        /// The session.
        token: Token,
        /// Where the browser is.
        from: Option<IpAddr>,
        /// What is wanted.
        ask: Ask,
    },
}

/// What only an admin may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// [`Reply::Overview`].
    Overview,
    /// [`Reply::Status`].
    Status,
    /// Makes a backup, or joins the one that is being made. [`Reply::Alive`] while it is made, then [`Reply::Backup`]
    /// and the bytes; or [`Reply::Incomplete`] and no bytes.
    MakeBackup,
    /// Gives a backup that was made here and is still there, whatever it lacks. [`Reply::Backup`] and the bytes.
    GiveBackup {
        /// SHA-256 of the backup.
        sha256: Digest,
    },
    /// Takes an archive. [`Reply::Ready`]; then the bytes from the web; [`Reply::Alive`] while it is looked at, then
    /// [`Reply::Uploaded`].
    Upload {
        /// The file's name for people. Never used as a path.
        name: String,
    },
    /// What a restore from an upload would do, as it was found when it was uploaded. [`Reply::Uploaded`].
    Preview {
        /// The upload.
        upload: UploadId,
    },
    /// What a restore from the same upload would do, after one that ended before it changed anything since its safety backup
    /// lacked parts: these may be accepted now. [`Reply::Uploaded`].
    Again {
        /// The restore that ended.
        id: RestoreId,
    },
    /// Throws an upload away. [`Reply::Discarded`].
    Discard {
        /// The upload.
        upload: UploadId,
    },
    /// Starts a restore from an upload, or finds the one that this request started before. [`Reply::Alive`] while it
    /// starts, then [`Reply::Started`].
    Start {
        /// The upload.
        upload: UploadId,
        /// The plan that the admin approved.
        plan: Digest,
        /// The wish.
        request: RequestId,
        /// The admin accepts a restore whose firewall rules could not be loaded.
        keep_going_without_firewall: bool,
        /// The admin accepts that a service of the gateway does not run afterwards.
        keep_going_without_services: bool,
        /// What accounts that are not the gateway's may write or read stays as open as it is.
        keep_open_folders: bool,
        /// Parts that the safety backup may lack, by name: the admin accepts that nothing brings them back.
        without_safety_backup_of: Vec<String>,
        /// Tunnels that may be down afterwards, by name.
        leave_down: Vec<String>,
    },
    /// Recovers a restore that is interrupted or stuck, or tries again what lacks since one ended; finds the recovery that runs.
    /// [`Reply::Alive`] while it starts, then [`Reply::Started`].
    Recover {
        /// The restore.
        id: RestoreId,
        /// The direction, where the journal leaves the choice; none leaves it to the recovery.
        policy: Option<Policy>,
    },
    /// A restore as it is now. [`Reply::Restore`].
    Restore {
        /// The restore.
        id: RestoreId,
    },
    /// A restore's events after one of them, from the first if none is named. [`Reply::Event`] for each and
    /// [`Reply::Alive`] or [`Reply::Halt`] in between, until [`Reply::Over`].
    Events {
        /// The restore.
        id: RestoreId,
        /// The last one that the browser has.
        after: Option<Seq>,
    },
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Who has signed in just now.
    SignedIn {
        /// The session.
        session: Session,
        /// What the browser keeps for the next time; it opens nothing by itself.
        device: Option<Token>,
    },
    /// Who is signed in.
    Session(Session),
    /// There is no such session any more.
    SignedOut,
    /// The first page.
    Overview(Box<Overview>),
    /// What runs.
    Status(Box<Status>),
    /// It is being worked on; nothing to show yet. Keeps both sides from giving up.
    Alive,
    /// A backup; its bytes follow.
    Backup(BackupLine),
    /// A backup was made, and lacks parts that it should have. Its bytes are not given unasked: [`Ask::GiveBackup`].
    Incomplete(BackupLine),
    /// The bytes may come.
    Ready {
        /// The largest upload, MiB.
        limit_mib: u64,
    },
    /// An archive that a restore can start from.
    Uploaded(Box<Preview>),
    /// The upload is gone.
    Discarded,
    /// A restore runs or ran.
    Started {
        /// The restore.
        id: RestoreId,
    },
    /// A restore.
    Restore {
        /// The restore.
        view: Arc<View>,
        /// Why it gets no further, if it does not.
        halt: Option<Halt>,
        /// How the gateway stands, where somebody has to do something.
        now: Option<GatewayLines>,
    },
    /// One record of a restore's journal.
    Event {
        /// What it changed.
        event: Arc<Event>,
        /// The restore right behind it.
        view: Arc<View>,
        /// How the gateway stands, where somebody has to do something.
        now: Option<GatewayLines>,
    },
    /// A restore gets no further by itself, or does again; no record says so. An event that comes later says the same
    /// as this with no halt.
    Halt {
        /// The restore.
        view: Arc<View>,
        /// Why it gets no further.
        halt: Option<Halt>,
        /// How the gateway stands, where somebody has to do something.
        now: Option<GatewayLines>,
    },
    /// The restore is over, and so are its events.
    Over,
    /// Not done, and why.
    Refused(Refusal),
}

/// Why a restore that is not over gets no further by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Halt {
    /// Nothing works on it: it must be recovered.
    Interrupted,
    /// Its journal cannot be read beyond what is shown.
    Unreadable {
        /// Why.
        problem: Problem,
    },
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The name or the password is wrong, or the user is not active; which of them is not told.
    WrongPassword,
    /// The password is right, and the gateway wants another one before anything else.
    MustChangePassword,
    /// The session is over, or never was.
    NotSignedIn,
    /// The user is no admin.
    NotAdmin,
    /// The upload is larger than the profile allows.
    TooLarge {
        /// The limit, MiB.
        limit_mib: u64,
    },
    /// The archive, the plan or the gateway is not acceptable.
    Unacceptable {
        /// Each reason.
        problems: Vec<Problem>,
    },
    /// Something else runs.
    Busy {
        /// What.
        problem: Problem,
        /// The restore that runs or is open, if it is one.
        restore: Option<RestoreId>,
    },
    /// There is no such upload or restore, or no longer.
    Gone {
        /// What was asked for.
        problem: Problem,
    },
    /// The upload was used already: a confirmation counts once.
    Used {
        /// The restore that it started.
        restore: RestoreId,
    },
    /// It was tried and did not work.
    Failed {
        /// Why.
        problem: Problem,
    },
}

impl Refusal {
    /// Something else runs, and it is no restore.
    pub fn busy(problem: Problem) -> Refusal {
        let restore = None;
        Refusal::Busy { problem, restore }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Refusal {
        Refusal::Failed { problem }
    }
}

/// Who is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What the browser shows from now on.
    pub token: Token,
    /// The user's name.
    pub user: String,
    /// Whether the profile says that they are an admin.
    pub admin: bool,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLine {
    /// The file's name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was made, milliseconds since 1970 UTC.
    pub made_ms: i64,
    /// That time lies in the future: the clock was wrong then, or is wrong now.
    pub in_future: bool,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// The parts that it should have and lacks. With one of them it is incomplete, and no good backup.
    pub lacks: Vec<LackLine>,
}

/// A part that a backup should have and lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LackLine {
    /// The part, as the command line calls it: `configs.db`.
    pub part: String,
    /// The part, as a sentence calls it: `the database configs.db`.
    pub shown: String,
    /// Why it could not be saved.
    pub why: String,
}

/// The backups that are told of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backups {
    /// The last good backup, by when it was made on this box.
    pub last_backup: Option<BackupLine>,
    /// The last incomplete one that was made after it.
    pub incomplete_backup: Option<BackupLine>,
    /// No good one is known, but there are backups that may have every part or lack some: nothing was noted of them.
    pub unknown_backups: bool,
    /// How the schedule stands, where there is or was one.
    pub schedule: Option<ScheduleLine>,
}

/// How the schedule of backups stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleLine {
    /// The line that `holdfast status` prints.
    pub text: String,
    /// Somebody has to do something.
    pub needs_somebody: bool,
}

/// An upload and what a restore from it would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The upload.
    pub upload: UploadId,
    /// The host name of the gateway that would be overwritten.
    pub gateway: String,
    /// The archive's name for people.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When the backup was made, as it says itself.
    pub created_at: String,
    /// The host that it was made on, if it says so.
    pub host: Option<String>,
    /// The program that made it.
    pub made_by: String,
    /// What runs as root because of this restore and does not today.
    pub commands: RootCommands,
    /// What will be overwritten and what happens to tunnels, services and rules, a line each.
    pub changes: Vec<String>,
    /// What does not go back, or is not in the backup, by kind.
    pub left_out: Vec<AlikeNotes>,
    /// What the admin must know before agreeing, by kind, what matters more first.
    pub notes: Vec<AlikeNotes>,
    /// What the admin approves.
    pub plan: Digest,
    /// The backup's firewall rules cannot be loaded here: only an admin who accepts that can start it.
    pub needs_keep_going: bool,
    /// Accounts that are not the gateway's may write or read some of it, which the restore closes unless it is told not to.
    pub has_open_folders: bool,
    /// What it replaces and the safety backup cannot save now, or could not when it was tried.
    pub unsaved: Vec<LackLine>,
    /// Tunnels that are up now and cannot come up here: only an admin who accepts each can start it.
    pub unfit: Vec<crate::UnfitTunnel>,
    /// Until when it can be confirmed, milliseconds since 1970 UTC.
    pub until_ms: i64,
}

/// Commands of the backup's configs that would run as root and do not today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootCommands {
    /// All of them, each whole.
    Shown(Vec<RootCommand>),
    /// More than anybody reads on a page: such a restore is not started from one.
    TooMany {
        /// How many.
        count: u64,
    },
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootCommand {
    /// The setting that runs it, as `PostUp`.
    pub key: String,
    /// The whole command; only a key that WireGuard is given by name is blanked.
    pub command: String,
    /// The tunnels that run it: all, where a name can be part of what runs, else the first.
    pub tunnels: Vec<String>,
    /// How many more do.
    pub more: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_with_secrets_shows_none_of_them() {
        let token = Token::random().unwrap();
        let request = Request::SignIn {
            user: "admin".into(),
            password: Password::new("hunter2"),
            device: Some(token.clone()),
            from: None,
        };
        let admin = Request::Admin {
            token: token.clone(),
            from: None,
            ask: Ask::Overview,
        };
        let shown = format!("{request:?} {admin:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains(token.reveal()),
            "{shown}"
        );
    }

    #[test]
    fn an_unknown_request_and_an_upload_id_with_a_path_are_refused() {
        let token = Token::random().unwrap();
        let bad = [
            r#"{"run-command":{"argv":["/bin/sh"]}}"#.to_string(),
            format!(
                r#"{{"admin":{{"token":"{}","ask":{{"preview":{{"upload":"../../etc/shadow"}}}}}}}}"#,
                token.reveal()
            ),
            format!(
                r#"{{"admin":{{"token":"{}","ask":{{"restore":{{"id":"../../x"}}}}}}}}"#,
                token.reveal()
            ),
        ];
        for json in bad {
            assert!(serde_json::from_str::<Request>(&json).is_err(), "{json}");
        }
        let good = format!(
            r#"{{"admin":{{"token":"{}","ask":"overview"}}}}"#,
            token.reveal()
        );
        assert_eq!(
            serde_json::from_str::<Request>(&good).unwrap(),
            Request::Admin {
                token,
                from: None,
                ask: Ask::Overview
            }
        );
    }
}
