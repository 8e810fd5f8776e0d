//! The two lists of steps that a plan carries. Decides nothing about when: that is the machine's.
//!
//! The gateway's own start may take time, so services stop first and start last, outside of the fence: it is closed only
//! while tunnels are down or their rules are not in force. Journals carry their own lists: one that an older program began
//! is finished in the order that it was begun in.

use journal_format::Step;

/// The steps of a restore that goes forward.
pub const FORWARD: [Step; 16] = [
    Step::SafetyBackup,
    Step::Stage,
    Step::StopServices,
    Step::SettleDatabases,
    Step::Fence,
    Step::TunnelsDown,
    Step::ResetRules,
    Step::SwapDatabases,
    Step::SwapConfigs,
    Step::TunnelsUp,
    Step::LoadFirewall,
    Step::VerifyAtRest,
    Step::LiftFence,
    Step::StartServices,
    Step::VerifyRunning,
    Step::CleanUp,
];

/// The steps of a restore that goes back: not the mirror of the way there, but a list of its own that leads to Before
/// from wherever it begins.
pub const BACK: [Step; 11] = [
    Step::StopServices,
    Step::Fence,
    Step::TunnelsDown,
    Step::SwapConfigs,
    Step::SwapDatabases,
    Step::SettleDatabases,
    Step::TunnelsUp,
    Step::LoadFirewall,
    Step::LiftFence,
    Step::StartServices,
    Step::VerifyRunning,
];

/// Both lists as a plan carries them.
pub fn lists() -> (Vec<Step>, Vec<Step>) {
    (
        FORWARD.to_vec(),
        BACK.into_iter().chain([Step::CleanUp]).collect(),
    )
}
