//! Everything that crosses a crate, one module a claim.

mod decisions_obey_the_grammar;
mod laws;
mod sample_gateway;
