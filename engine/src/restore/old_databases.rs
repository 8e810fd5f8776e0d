//! Who works on a database that a restore took out of its place: what is written there, nobody reads. Looks, and changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use journal_format::Note;

use crate::error::{Code, Problem};
use crate::host::Holder;
use crate::plan::side_files::side_files;
use crate::restore::step::Env;

/// The processes that have one open, each with the place that the database was taken from. What is staged and was not exchanged yet
/// nobody has open.
pub fn holders(env: &Env) -> Result<Vec<Holder>, Problem> {
    let mut places = BTreeMap::new();
    for target in &env.plan.databases {
        for file in std::iter::once(target.staged.clone()).chain(side_files(&target.staged)) {
            places.insert(PathBuf::from(file), target.path.as_str());
        }
    }
    let files: Vec<PathBuf> = places.keys().cloned().collect();
    let mut all: Vec<Holder> = Vec::new();
    for holder in env.host.holders(&files)? {
        let place = places.get(&holder.path).map(PathBuf::from);
        let holder = Holder {
            path: place.unwrap_or_default(),
            ..holder
        };
        if !all.contains(&holder) {
            all.push(holder);
        }
    }
    Ok(all)
}

/// A process, as a person finds it.
pub fn named(holder: &Holder) -> String {
    format!("{} (pid {})", holder.command, holder.pid)
}

/// What an admin is told of those that are left.
pub fn notes(env: &Env) -> Result<Vec<Note>, Problem> {
    let told = holders(env)?.into_iter().map(|holder| {
        let (path, who) = (holder.path.display().to_string(), named(&holder));
        let text = format!(
            "{who} still has a {path} open that is not in its place any more: what it writes there is lost"
        );
        let note = Note::down(Code::OLD_DATABASE_HELD, text).about(path);
        note.advising(format!("restart what it belongs to, or end it: kill {}", holder.pid))
    });
    Ok(told.collect())
}
