//! What a restore kept of the kernel before it began, read again. Trusts it only as far as the journal binds it.

use std::path::Path;

use journal_format::State;

use crate::error::{Code, Problem, cannot};
use crate::gateway::kernel_facts::Facts;
use crate::host::Look;
use crate::restore::driver::FACTS;

/// The kernel facts of before, bound by the journal once the barrier was up.
pub fn facts(host: &dyn Look, dir: &Path, state: &State) -> Result<Facts, Problem> {
    let path = dir.join(FACTS);
    let Some(expected) = &state.armed else {
        return Ok(Facts::default());
    };
    let unusable = |why: String| {
        cannot(
            Code::FACTS_CHANGED,
            format!("use the kernel facts {}: {why}", path.display()),
            "this command changed nothing. Put the file back from a backup of this machine, if you have one, then run `holdfast recover`. \
             Without one, `holdfast status` names the commands that lead out",
        )
    };
    if host.stat(&path)?.is_none() {
        return Err(unusable("the file is gone".into()));
    }
    if host.sha256(&path)? != *expected {
        return Err(unusable("they are not those that the journal names".into()));
    }
    let bytes = host.read(&path, 256 << 20)?;
    serde_json::from_slice(&bytes).map_err(|e| unusable(e.to_string()))
}
