//! Forms of text: what configs, rules and messages look like, read and written. Pure: no file, no clock, no gateway.

pub mod fence_rules;
pub mod iptables;
pub mod mark;
pub mod octets;
pub mod redact;
pub mod wg_config;
pub mod wording;
