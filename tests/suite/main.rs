//! Everything that crosses a crate, one module a claim.

mod laws;
mod decisions_obey_the_grammar;
mod sample_gateway;
