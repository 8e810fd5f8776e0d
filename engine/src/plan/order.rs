//! The two lists of steps that a plan carries. Decides nothing about when: that is the machine's.

use journal_format::Step;

/// The steps of a restore that goes forward.
pub const FORWARD: [Step; 16] = Step::ALL;

/// The steps of a restore that goes back: not the mirror of the way there, but a list of its own that leads to Before
/// from wherever it begins.
pub const BACK: [Step; 11] = [
    Step::Fence,
    Step::StopServices,
    Step::TunnelsDown,
    Step::SwapConfigs,
    Step::SwapDatabases,
    Step::SettleDatabases,
    Step::TunnelsUp,
    Step::StartServices,
    Step::LoadFirewall,
    Step::VerifyRunning,
    Step::LiftFence,
];

/// Both lists as a plan carries them.
pub fn lists() -> (Vec<Step>, Vec<Step>) {
    (
        FORWARD.to_vec(),
        BACK.into_iter().chain([Step::CleanUp]).collect(),
    )
}
