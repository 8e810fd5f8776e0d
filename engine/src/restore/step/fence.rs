//! Closes the fence, and lifts it: around all that takes tunnels down, exchanges their configs or changes their rules.

use journal_format::Direction;

use super::{Env, Report, StepOps};
use crate::error::{Code, Problem};
use crate::host::{GatewayCommand, Permit, fence_is_closed};
use crate::restore::decide::Observed;
use crate::restore::expected_tunnels;
use crate::text::fence_rules;
use crate::text::wording::counted;

pub struct Fence;
pub struct LiftFence;

const ADVICE: &str = "look at the reason; nft needs the kernel's nf_tables";

impl StepOps for Fence {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        expected_tunnels::keep(env)?;
        let fence = &env.plan.fence;
        env.host
            .run(permit, &GatewayCommand::Nft, &fence_rules::closed(fence))?
            .expect_ok(Code::FENCE_REFUSED, "block tunnel traffic", ADVICE)?;
        Ok(Report::did(format!(
            "blocked the traffic of {} and {}",
            counted(fence.interfaces.len(), "tunnel"),
            counted(fence.networks.len(), "network")
        )))
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        env.host.discard(&env.ballast())?;
        self.forward(env, permit)
    }

    fn observe(&self, env: &Env, _: Direction) -> Result<Observed, Problem> {
        Ok(match fence_is_closed(env.host)? {
            true => Observed::After,
            false => Observed::Before,
        })
    }
}

impl StepOps for LiftFence {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        env.lift_fence(permit, ADVICE)?;
        Ok(Report::did("traffic of the tunnels flows again"))
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        self.forward(env, permit)
    }

    fn observe(&self, env: &Env, _: Direction) -> Result<Observed, Problem> {
        Ok(match fence_is_closed(env.host)? {
            true => Observed::Before,
            false => Observed::After,
        })
    }
}
