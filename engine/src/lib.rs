//! Backup, restore and recovery of a WireGuard gateway. Synchronous; knows no web.
//!
//! `ARCHITECTURE.md` says which module may use which. In short: [`host`] is the seam to the system, [`journal`] the
//! only hand that appends to a journal, `decide` the pure case table, `driver` the one loop that runs both a restore and
//! a recovery.

pub mod access;
pub mod account;
pub mod agent;
pub mod archive;

pub mod backup;
pub mod boot_units;
pub mod cli;
pub mod consent;
pub mod database;
pub mod decide;
pub mod driver;
pub mod exposure;
pub mod facts;
pub mod fault;
pub mod fence;
pub mod firewall;
pub mod host;
pub mod journal;
pub mod kept;
pub mod lost;
pub mod made;
pub mod manifest;
pub mod mark;
pub mod octets;
pub mod owner;
pub mod parallel;
pub mod parts;
pub mod password;
pub mod peers;
pub mod peerset;
pub mod planner;
pub mod process;
pub mod profile;
pub mod readiness;
pub mod recover;
pub mod redact;
pub mod rehearsal;
pub mod restore;
pub mod ruleset;
pub mod space;
pub mod spool;
pub mod state_dir;
pub mod step;
pub mod survey;
pub mod swap;
pub mod verify;
pub mod wgconf;
pub mod wording;
