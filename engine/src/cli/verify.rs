//! `holdfast verify`.

use std::path::Path;

use super::{Context, print_json, restore, say};
use crate::fault::Fault;
use crate::host::linux::Linux;

pub(super) fn run(context: &Context, path: &Path) -> Result<u8, Fault> {
    let name = path
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let checked = crate::verify::archive(&context.profile, restore::open(path)?, &name)?;
    let unready = crate::readiness::check(&Linux::new(&context.profile), &context.profile);
    if !unready.is_empty() {
        return Err(Fault::Refused(unready));
    }
    let metadata = checked.archive.metadata();
    if context.json {
        print_json(&serde_json::json!({
            "archive": name,
            "verdict": "sound",
            "sha256": checked.sha256,
            "bytes": checked.archive.size(),
            "entries": checked.archive.entries().len(),
            "created_at": metadata.created_at,
            "made_by": metadata.made_by(),
            "clients": checked.clients.as_ref().map(Vec::len),
            "warnings": checked.warnings,
            "missing": checked.missing,
        }));
        return Ok(0);
    }
    say(&format!("{}: sound", journal_format::visible(&name)));
    say(&format!(
        "  made {} by {}",
        metadata.created_at,
        journal_format::visible(metadata.made_by())
    ));
    say(&format!(
        "  {} entries, SHA-256 {}",
        checked.archive.entries().len(),
        checked.sha256
    ));
    for warning in checked.warnings.iter().chain(&checked.missing) {
        say(&format!("  warning: {}", journal_format::visible(warning)));
    }
    Ok(0)
}
