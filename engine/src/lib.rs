//! Backup, restore and recovery of a WireGuard gateway. Synchronous; knows no web.
//!
//! A room is a folder. Each may use those below it and nothing above; `ARCHITECTURE.md` draws them, and a test reads the
//! sources for it.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod agent;
pub mod archive;
pub mod backup;
pub mod cli;
pub mod error;
pub mod files;
pub mod gateway;
pub mod host;
pub mod parallel;
pub mod plan;
pub mod restore;
pub mod state_dir;
pub mod survey;
pub mod text;
