//! What this process knows of its box without asking the host: its name, and where the SSH session comes from that it was
//! started in. Reads; nothing of the gateway is here.

use std::net::IpAddr;

/// The name of this box.
pub fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

/// Where the SSH session that this process is in comes from, and the port of this box that it came to.
pub fn ssh_connection() -> Option<(IpAddr, u16)> {
    let text = std::env::var("SSH_CONNECTION").ok()?;
    let mut words = text.split(' ');
    let from = words.next()?.parse().ok()?;
    Some((from, words.nth(2)?.parse().ok()?))
}
