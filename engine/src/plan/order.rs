//! The two lists of steps that a plan carries. Decides nothing about when: that is the machine's.
//!
//! The gateway's own start may take time, so services stop first and start last, outside of the fence: it is closed only
//! while tunnels are down or their rules are not in force. Journals carry their own lists: one that an older program began
//! is finished in the order that it was begun in.

use journal_format::{FenceRules, Step, Target};

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

/// What a restore has to do.
#[derive(Debug, Clone, Copy)]
pub struct PlannedWork {
    /// Databases are replaced.
    pub databases: bool,
    /// Files are replaced, added or removed.
    pub files: bool,
    /// Configs are among them.
    pub configs: bool,
    /// Tunnels go down or come up.
    pub tunnels: bool,
}

impl PlannedWork {
    /// All that a restore can have to do.
    pub const ALL: PlannedWork = PlannedWork {
        databases: true,
        files: true,
        configs: true,
        tunnels: true,
    };

    /// What these targets and this fence ask for.
    pub fn of(databases: &[Target], files: &[Target], fence: &FenceRules) -> PlannedWork {
        PlannedWork {
            databases: !databases.is_empty(),
            files: !files.is_empty(),
            configs: files.iter().any(|f| f.path.ends_with(".conf")),
            tunnels: !fence.interfaces.is_empty(),
        }
    }

    /// Whether a plan has this step. What takes something away is in it only where something must go; what puts right is always in it,
    /// and finds nothing to do: a reboot in the middle takes everything away.
    fn has(self, step: Step) -> bool {
        match step {
            Step::StopServices => self.databases || self.configs || self.tunnels,
            Step::SettleDatabases | Step::SwapDatabases => self.databases,
            Step::SwapConfigs => self.files,
            Step::Fence | Step::TunnelsDown | Step::ResetRules => self.tunnels,
            Step::SafetyBackup
            | Step::Stage
            | Step::TunnelsUp
            | Step::LoadFirewall
            | Step::VerifyAtRest
            | Step::LiftFence
            | Step::StartServices
            | Step::VerifyRunning
            | Step::CleanUp => true,
        }
    }
}

/// Both lists as a plan carries them.
pub fn lists(work: PlannedWork) -> (Vec<Step>, Vec<Step>) {
    let back = BACK.into_iter().chain([Step::CleanUp]);
    (
        FORWARD.into_iter().filter(|step| work.has(*step)).collect(),
        back.filter(|step| work.has(*step)).collect(),
    )
}
