//! What `holdfast-web` and the agent say to each other: a closed set of messages, and their framing on a unix stream.
//!
//! Ids and bytes cross, never paths or commands. This crate opens no socket and holds no state: [`wire`] brings frames
//! over any stream, [`message`] says what is in them, [`words`] what identifies and what is secret, [`overview`] what
//! one glance shows, [`greeting`] who may
//! talk to whom.
#![forbid(unsafe_code)]

pub mod greeting;
pub mod message;
pub mod overview;
mod unfit;
pub mod wire;
pub mod words;

pub use greeting::*;
pub use message::*;
pub use overview::*;
pub use unfit::UnfitTunnel;
pub use wire::*;
pub use words::*;
