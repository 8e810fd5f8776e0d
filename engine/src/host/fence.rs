//! Whether the fence is closed. Closes and lifts nothing.

use super::{ExitKind, Look, Query};
use crate::error::{Code, Problem};

/// Whether the fence is closed. `nft` ends with 1 where there is no such table, and also where it cannot tell.
pub fn fence_is_closed(host: &dyn Look) -> Result<bool, Problem> {
    let out = host.ask(&Query::Fence, "")?;
    match out.end {
        ExitKind::Exit(0) => Ok(true),
        ExitKind::Exit(1) if out.stderr.contains("No such file or directory") => Ok(false),
        ExitKind::Exit(_) | ExitKind::Signal(_) | ExitKind::TimedOut => Err(out.problem(
            Code::QUERY_FAILED,
            "check with `nft list table inet holdfast` whether traffic is blocked",
            "run `nft list tables` to see why it fails",
        )),
    }
}
