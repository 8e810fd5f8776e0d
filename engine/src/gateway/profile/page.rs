//! What the profile says of the page, and of what archives and the page may cost. Owns these two tables and their defaults.

use std::net::IpAddr;

use serde::Deserialize;

/// What an archive may cost, and the page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Size of an uploaded archive, MiB.
    pub upload_mib: u64,
    /// Bytes really inflated, MiB.
    pub unpacked_mib: u64,
    /// Entries.
    pub entries: u64,
    /// Backups that one user may make on the page within an hour; 0 is no limit.
    pub backups_an_hour: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_mib: 512,
            unpacked_mib: 4096,
            entries: 200_000,
            backups_an_hour: 0,
        }
    }
}

/// The web server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebProfile {
    /// The user whose connections the agent accepts, besides root.
    pub user: String,
    /// Where the page is served.
    pub address: String,
    /// Where the page is served.
    pub port: u16,
    /// Names under which the page may be asked for, besides its address and `localhost`.
    pub hosts: Vec<String>,
    /// Proxies in front of the page: what one of these says of where a browser is, is believed (`X-Forwarded-For`).
    pub trusted_proxies: Vec<IpAddr>,
    /// Users of the gateway who may use the page. Nothing that a database says makes anybody else an admin.
    pub admins: Vec<String>,
    /// The database of the gateway, by its name, whose users sign in; without it the first of kind `users`.
    pub users: Option<String>,
}

impl Default for WebProfile {
    fn default() -> Self {
        Self {
            user: "holdfast-web".into(),
            address: "127.0.0.1".into(),
            port: 8080,
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            admins: vec!["admin".into()],
            users: None,
        }
    }
}
