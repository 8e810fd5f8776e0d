//! The barrier: the file that says which restore is open. Owns its form: its first line names the restore, the lines behind
//! it the tunnels that a boot must not start, and the whole is a ruleset that closes the fence. Who puts it up is the machine's.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use journal_format::{RestoreId, State};

use crate::error::{Code, OrCannot, Problem, cannot};
use crate::files::open::if_there;
use crate::gateway::profile::Profile;
use crate::text::fence_rules;
use crate::text::wording::quoted_path;

/// How a line of the barrier begins that names a tunnel.
pub const HELD: &str = "# tunnel ";

/// There in a boot that found the traces of a restore, and not its journal: the barrier is where the journal is.
pub const LOST: &str = "/run/holdfast/restore-is-lost";

/// Lets a boot start nothing of the gateway until a restore that is lost is found, or lets it again.
pub fn hold_back(lost: bool) -> std::io::Result<()> {
    let path = Path::new(LOST);
    if !lost {
        return if_there(std::fs::remove_file(path)).map(drop);
    }
    let folder = path.parent().unwrap_or(Path::new("/run"));
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        Ok(()) | Err(_) => std::fs::File::create(path).map(drop),
    }
}

/// What stands in the barrier of a restore.
pub fn text(state: &State) -> String {
    let plan = state.plan.as_ref();
    let closed = plan.map(|p| fence_rules::closed(&p.fence));
    let closed = closed.unwrap_or_default();
    let id = &state.header.restore;
    format!(
        "# holdfast {id}\n# This restore is open. `holdfast status` says where it stands; `holdfast recover` finishes it.\n\
             # Until then a boot starts none of these tunnels. `nft -f` of this file blocks their traffic.\n{}{closed}",
        held(state)
    )
}

/// A line for each tunnel that a boot must not start by itself. `boot_units` looks for them.
fn held(state: &State) -> String {
    let mut names = BTreeSet::new();
    if let Some(plan) = &state.plan {
        let tunnels = plan.tunnels_down.iter().chain(&plan.tunnels_up);
        names.extend(tunnels.map(|t| t.name.as_str()));
        let files = plan.files.iter().map(|f| Path::new(&f.path));
        let configs = files.filter(|p| p.extension().is_some_and(|e| e == "conf"));
        names.extend(configs.filter_map(|p| p.file_stem()?.to_str()));
    }
    let line = |name| format!("{HELD}{name}\n");
    names.into_iter().map(line).collect()
}

/// The restore that the barrier names.
pub fn named(profile: &Profile) -> Result<Option<RestoreId>, Problem> {
    let path = profile.barrier();
    let what = format!("read the restore marker {}", path.display());
    let text =
        if_there(std::fs::read_to_string(&path)).or_cannot(Code::IO, what, "run it as root")?;
    let Some(text) = text else {
        return Ok(None);
    };
    let named = text
        .lines()
        .next()
        .and_then(|l| l.strip_prefix("# holdfast "))
        .and_then(|n| RestoreId::new(n).ok());
    let named = named.ok_or_else(|| {
        let path = path.display();
        cannot(
            Code::BARRIER_UNUSABLE,
            format!("tell which restore the restore marker {path} is of: its first line does not say, and no restore is open"),
            format!("someone changed it; nothing needs it: `rm {}`, then `holdfast status`", quoted_path(&profile.barrier())),
        )
    })?;
    Ok(Some(named))
}
