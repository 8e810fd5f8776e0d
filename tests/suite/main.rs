//! Everything that crosses a crate, one module a claim.

mod laws;
mod sample_gateway;
