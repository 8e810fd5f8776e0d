//! Swaps every changed config, and the files in which the box keeps its rules, in one journaled step: the exchanges cost
//! nothing, the syncs of the folders are shared.

use journal_format::{Direction, Exchange};

use super::{Env, Report, StepOps};
use crate::error::Problem;
use crate::host::Permit;
use crate::restore::decide::Observed;
use crate::restore::old_files::{self, left_to_others, put_back};
use crate::restore::swap;
use crate::text::wording::counted;

pub struct SwapConfigs;

impl StepOps for SwapConfigs {
    fn exchanges(&self, env: &Env) -> Result<Vec<Exchange>, Problem> {
        swap::note(env.host, &env.plan.files)
    }

    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        swap::forward(env.host, permit, env.exchanges)?;
        Ok(Report::did(format!(
            "replaced {}",
            counted(env.exchanges.len(), "file")
        )))
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        put_back(env, permit, env.exchanges)?;
        let left = left_to_others(env)?;
        let count = env.exchanges.len().saturating_sub(left.len());
        Ok(Report {
            warnings: left,
            ..Report::did(format!("put {} back", counted(count, "old file")))
        })
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        old_files::seen_from(env, direction)
    }
}
