//! What a gateway is: its profile, its parts and owners, what its kernel holds, its databases. Asks no program
//! and no service how one is now.

pub mod account;
pub mod backup_kind;
pub mod consent;
pub mod database;
pub mod kernel_facts;
pub mod link;
pub mod owner;
pub mod parts;
pub mod password;
pub mod peers;
pub mod profile;
pub mod retention;
pub mod route;
