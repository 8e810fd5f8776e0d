//! Which tunnels the way back owes: those that were up right before Holdfast first did what may take one down. One that had gone
//! by then went without Holdfast. Owns the file that keeps their names; takes no tunnel down and brings none up.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use journal_format::Tunnel;

use crate::error::Problem;
use crate::restore::step::Env;

const NAMES_BYTES: u64 = 1 << 20;

fn file(dir: &Path) -> PathBuf {
    dir.join("before").join("tunnels")
}

/// Keeps the names of the tunnels that are up, unless that was done before.
pub fn keep(env: &Env) -> Result<(), Problem> {
    let file = file(env.dir);
    // After a reboot none is up, and what was up is known no better than by the facts.
    if !env.same_boot || env.may_have_taken_down || env.host.stat(&file)?.is_some() {
        return Ok(());
    }
    let up: Vec<String> = env.tunnels_up()?.into_iter().collect();
    env.host.keep(&file, up.join("\n").as_bytes())
}

/// The tunnels that the way back brings up again.
pub fn owed<'p>(env: &Env<'p>) -> Result<Vec<&'p Tunnel>, Problem> {
    let all = env.plan.tunnels_down.iter();
    let file = file(env.dir);
    if env.host.stat(&file)?.is_none() {
        // A program that kept no such file may have taken any of them down.
        let owed = !env.same_boot || env.may_have_taken_down;
        return Ok(all.filter(|_| owed).collect());
    }
    let names = env.host.read(&file, NAMES_BYTES)?;
    let names = String::from_utf8_lossy(&names).into_owned();
    let names: BTreeSet<&str> = names.lines().collect();
    Ok(all.filter(|t| names.contains(t.name.as_str())).collect())
}
