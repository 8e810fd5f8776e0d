//! A simulated machine: a second implementation of the engine's seam to the system, in memory, for the enumeration of
//! crashes.
//!
//! **Faults that it may inject.** A crash after every single effect (each call that changes something is taken apart into
//! its effects: a file is made, then filled, then synced; a command changes one table, runs one hook). The process dies and
//! the machine stays, with a command left under way; or the power goes, and of what was not synced everything is lost,
//! everything is kept, each write or rename alone is lost, each alone is kept, the last write is torn or zeros. Any call
//! fails, once, or every change from there on: it does nothing, does its work and then reports failure, does half, hangs. A
//! command does nothing and says that it did its work. Somebody else does something to the gateway before any call
//! (`actor`).
//!
//! **Faults that it may not inject.** What was synced without an error stays as it was. One rename or exchange is atomic.
//! Bytes are not damaged by themselves; the journal's own tests
//! do that. A hook's effects outside the gateway are not modelled.
//!
//! After a power cut a boot runs recovery before it starts anything of the gateway, and starts the gateway then, unless the
//! barrier is still up.

pub mod actor;
pub mod disk;
pub mod fingerprint;
pub mod gateway;
pub mod host;
pub mod kernel;
pub mod link;
pub mod peers;
pub mod trial;
pub mod world;
