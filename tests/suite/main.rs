//! Everything that crosses a crate, one module a claim.

mod browser;
mod crash;
mod damaged_gateway;
mod decisions_obey_the_grammar;
mod laws;
mod recovery;
mod sample_gateway;
mod two_states;
mod unresolved_endpoint;
mod web_restore;
mod web_stage;
