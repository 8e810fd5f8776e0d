//! The journal of a restore: the format of its bytes, the records in it, and the state that they add up to.
//!
//! This crate owns the only grammar ([`State::apply`]) that says which record may follow which; the driver, recovery,
//! the command line and the web page all use it. It is pure: no files, no processes, no clock, no async. Whoever
//! appends or reads brings the bytes and the time.
#![forbid(unsafe_code)]

mod accept;
mod asked;
mod brief;
mod civil;
mod closing;
mod code;
#[cfg(test)]
mod golden;
mod lean;
mod left_out;
mod line;
mod note;
mod plan;
mod record;
mod render;
#[cfg(test)]
mod sample;
mod scan;
mod state;
mod view;
mod words;

pub use accept::*;
pub use asked::*;
pub use brief::*;
pub use civil::*;
pub use closing::*;
pub use code::*;
pub use left_out::{LACKS, NOT_LOADED};
pub use line::*;
pub use note::*;
pub use plan::*;
pub use record::*;
pub use render::*;
pub use scan::*;
pub use state::*;
pub use view::*;
pub use words::*;
