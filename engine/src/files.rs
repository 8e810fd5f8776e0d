//! Files, folders and disks of any Linux: opened without following links, who may write them, private ones, room for more, written whole.
//! Knows nothing of a gateway, and asks no program.

pub mod access;
pub mod open;
pub mod space;
pub mod spool;
pub mod whole;
