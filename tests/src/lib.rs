//! What tests need as a library: other implementations of the engine's seam to the system, and their judges.

pub mod crashing;
pub mod fuzzed;
pub mod oracle;
pub mod sim;
