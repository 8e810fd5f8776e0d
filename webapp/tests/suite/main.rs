//! The whole application against an agent that tells it what a test wants, on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent;
mod events;
mod forms;
mod front;
mod journals;
mod pages;
mod routes;
mod transfers;
