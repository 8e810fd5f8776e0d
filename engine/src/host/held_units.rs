//! How a unit of the gateway is held back while a restore is open: text for systemd. Writes nothing and asks nobody.

use std::path::Path;

use super::MAY_START;
use crate::error::{Code, Problem, cannot};

/// The conditions under which a unit starts: no restore is open, or its driver starts the unit. They hold without this program, and
/// bind nobody once the barrier is gone.
pub fn conditions(barrier: &Path) -> Result<String, Problem> {
    let barrier = word(barrier)?;
    Ok(format!(
        "ConditionPathExists=|!{barrier}\nConditionPathExists=|{MAY_START}\n"
    ))
}

/// The name of a unit, where it can be that of a folder of its settings.
pub fn name(unit: &str) -> Result<&str, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.@".contains(c);
    match unit.is_empty() || unit.starts_with('.') || !unit.chars().all(plain) {
        false => Ok(unit),
        true => Err(cannot(
            Code::BAD_PROFILE,
            format!("keep the unit {unit:?} from starting: that is no unit's name"),
            "correct `gateway.service` in the profile",
        )),
    }
}

/// A path that means the same to systemd, to a shell and to a person.
pub fn word(path: &Path) -> Result<String, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.+:,@=".contains(c);
    match path.to_str() {
        Some(text) if text.starts_with('/') && text.chars().all(plain) => Ok(text.to_owned()),
        _ => Err(cannot(
            Code::BAD_PROFILE,
            format!("name {} in a unit of systemd", path.display()),
            "use whole paths of letters, digits and / - _ . + : , @ = in the profile",
        )),
    }
}
