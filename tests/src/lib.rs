//! What tests need as a library: another implementation of the engine's seam to the system.

pub mod crashing;
