//! What a gateway cannot bring up of a backup, and an admin may accept to be down.

use serde::{Deserialize, Serialize};

/// A tunnel of a backup that this gateway cannot bring up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfitTunnel {
    /// The tunnel.
    pub name: String,
    /// What this gateway cannot do, and why.
    pub why: String,
}
