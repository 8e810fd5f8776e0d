//! Accounts of the gateway and its mail relay, as plans compare them. Must not hold a password's hash, nor a password.

use serde::{Deserialize, Serialize};

use crate::gateway::database::User;
use crate::text::mark::Mark;

/// One user, less the password's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id: what an open session holds.
    pub id: i64,
    /// The name that signs in.
    pub username: String,
    /// May sign in.
    pub active: bool,
    /// The role that some forks keep.
    pub is_admin: bool,
    /// Stands for the password's hash.
    pub password: Option<Mark>,
}

impl From<User> for Account {
    fn from(user: User) -> Account {
        Account {
            id: user.id,
            active: user.active,
            is_admin: user.is_admin,
            password: Mark::of(&user.password),
            username: user.username,
        }
    }
}

/// Where the gateway hands its mail in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailRelay {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: String,
    /// The name to sign in with there.
    pub username: String,
}
