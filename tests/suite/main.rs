//! Everything that crosses a crate, one module a claim.

mod sample_gateway;
