//! What a state keeps of a plan's files where it is shown and never acted on: digests that the grammar checks records against.
//! The files of a large gateway have megabytes. Owns what is compared; which record may follow which is the grammar's (`state`).

use crate::{Change, Digest, Exchange, Plan, Step, Target};

/// One swap without its lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeanSwap {
    /// Of what the plan exchanges.
    planned: Digest,
    /// Whether that is nothing.
    pub(crate) is_empty: bool,
    /// Of the exchanges that its first intent notes.
    pub(crate) noted: Option<Digest>,
}

/// What plan and intent say alike of one exchange: target, staged name, and which of both has an object before it.
type ExchangeShape<'e> = (&'e str, &'e str, bool, bool);

impl LeanSwap {
    pub(crate) fn of(targets: &[Target]) -> LeanSwap {
        LeanSwap {
            planned: digest(targets.iter().map(planned)),
            is_empty: targets.is_empty(),
            noted: None,
        }
    }

    /// Whether these exchanges are those of the plan.
    pub(crate) fn plans(&self, exchanges: &[Exchange]) -> bool {
        digest(exchanges.iter().map(found)) == self.planned
    }
}

/// Whether these exchanges are those of these targets.
pub(crate) fn agree(targets: &[Target], exchanges: &[Exchange]) -> bool {
    targets.iter().map(planned).eq(exchanges.iter().map(found))
}

fn planned(target: &Target) -> ExchangeShape<'_> {
    let (old, new) = match target.change {
        Change::Replace => (true, true),
        Change::Add => (false, true),
        Change::Remove => (true, false),
    };
    (&target.path, &target.staged, old, new)
}

fn found(exchange: &Exchange) -> ExchangeShape<'_> {
    let (old, new) = (exchange.old.is_some(), exchange.new.is_some());
    (&exchange.path, &exchange.staged, old, new)
}

fn digest<'e>(shapes: impl Iterator<Item = ExchangeShape<'e>>) -> Digest {
    Digest::of_json(&shapes.collect::<Vec<_>>())
}

impl Plan {
    /// The same without what is swapped.
    pub(crate) fn without_targets(&self) -> Plan {
        Plan {
            archive: self.archive.clone(),
            forward: self.forward.clone(),
            back: self.back.clone(),
            policy: self.policy,
            keep_going_without_firewall: self.keep_going_without_firewall,
            staging: self.staging.clone(),
            databases: Vec::new(),
            files: Vec::new(),
            services: self.services.clone(),
            tunnels_down: self.tunnels_down.clone(),
            tunnels_up: self.tunnels_up.clone(),
            fence: self.fence.clone(),
            firewall: self.firewall.clone(),
            peers: self.peers.clone(),
            without_safety_backup_of: self.without_safety_backup_of.clone(),
            may_not_run: self.may_not_run.clone(),
            may_stay_down: self.may_stay_down.clone(),
            stays_up: self.stays_up.clone(),
            left_out: self.left_out.clone(),
            warnings: self.warnings.clone(),
        }
    }

    /// What a step swaps; none of a step that is no swap.
    pub fn targets(&self, step: Step) -> Option<&[Target]> {
        match step {
            Step::SwapDatabases => Some(&self.databases),
            Step::SwapConfigs => Some(&self.files),
            Step::SafetyBackup
            | Step::Stage
            | Step::Fence
            | Step::StopServices
            | Step::TunnelsDown
            | Step::ResetRules
            | Step::SettleDatabases
            | Step::TunnelsUp
            | Step::VerifyAtRest
            | Step::StartServices
            | Step::LoadFirewall
            | Step::VerifyRunning
            | Step::LiftFence
            | Step::CleanUp => None,
        }
    }
}
