//! `holdfast agent`.

use std::path::Path;

use super::Context;
use crate::error::Fault;

pub(super) fn run(context: &Context, socket: &Path) -> Result<u8, Fault> {
    crate::agent::serve(&context.profile, &context.config, socket)?;
    Ok(0)
}
