//! Closes the fence, and lifts it. Both directions of a restore close it first and lift it last.

use journal_format::{Direction, Exchange};

use super::{Env, Report, StepOps};
use crate::error::Problem;
use crate::host::Permit;
use crate::host::{GatewayCommand, Query};
use crate::restore::decide::Observed;
use crate::text::wording::counted;

pub struct Fence;
pub struct LiftFence;

const ADVICE: &str = "look at the reason; nft needs the kernel's nf_tables";

impl Fence {
    fn close(env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let fence = &env.plan.fence;
        env.host
            .run(
                permit,
                &GatewayCommand::Nft,
                &crate::text::fence_rules::closed(fence),
            )?
            .expect_ok("close the fence", ADVICE)?;
        Ok(Report::did(format!(
            "holds back {} and {}",
            counted(fence.interfaces.len(), "tunnel"),
            counted(fence.networks.len(), "network")
        )))
    }
}

impl StepOps for Fence {
    fn forward(&self, env: &Env, permit: &Permit, _: &[Exchange]) -> Result<Report, Problem> {
        Fence::close(env, permit)
    }

    fn back(&self, env: &Env, permit: &Permit, _: &[Exchange]) -> Result<Report, Problem> {
        env.host.discard(&env.ballast())?;
        Fence::close(env, permit)
    }

    fn observe(&self, env: &Env, _: Direction, _: &[Exchange]) -> Result<Observed, Problem> {
        Ok(if env.host.ask(&Query::Fence, "")?.ok() {
            Observed::After
        } else {
            Observed::Before
        })
    }
}

impl LiftFence {
    fn lift(env: &Env, permit: &Permit) -> Result<Report, Problem> {
        env.host
            .run(
                permit,
                &GatewayCommand::Nft,
                &crate::text::fence_rules::lifted(),
            )?
            .expect_ok("lift the fence", ADVICE)?;
        Ok(Report::did("packets flow again"))
    }
}

impl StepOps for LiftFence {
    fn forward(&self, env: &Env, permit: &Permit, _: &[Exchange]) -> Result<Report, Problem> {
        LiftFence::lift(env, permit)
    }

    fn back(&self, env: &Env, permit: &Permit, _: &[Exchange]) -> Result<Report, Problem> {
        LiftFence::lift(env, permit)
    }

    fn observe(&self, env: &Env, _: Direction, _: &[Exchange]) -> Result<Observed, Problem> {
        Ok(if env.host.ask(&Query::Fence, "")?.ok() {
            Observed::Before
        } else {
            Observed::After
        })
    }
}
