//! What contents tell where objects do not: whether a swap that was never noted was made, and what is what where somebody copied a
//! folder while a restore was open (onto another disk, or from a backup of the machine), so that other objects lie there than the
//! journal noted. Looks, and changes nothing; not asked where an object that was noted is still there.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;

use journal_format::{Change, Digest, Exchange, FileFacts, Target};

use super::step::Env;
use super::swap::{self, database_of};
use crate::error::Problem;
use crate::host::{Kind, Look};

/// What is kept of a hundred thousand files takes less.
const KEPT_BYTES: u64 = 256 << 20;

/// What each file was, by its path.
pub type WhatWas = BTreeMap<String, FileFacts>;

/// The file in `before/` that keeps it of files.
pub const FILES: &str = "files";
/// The same of databases.
pub const DATABASES: &str = "databases";

/// What was kept; nothing by a program that kept none, or where it cannot be read: then nothing can be told by it.
pub fn what_was(host: &dyn Look, dir: &Path) -> WhatWas {
    let of = |name: &&str| {
        let bytes = host.read(&dir.join("before").join(name), KEPT_BYTES);
        bytes
            .ok()
            .and_then(|b| serde_json::from_slice::<WhatWas>(&b).ok())
    };
    [FILES, DATABASES].iter().filter_map(of).flatten().collect()
}

/// The first of these that is not as before its swap, as far as contents tell: for a swap whose objects were never noted. `was` is
/// what was kept of the old files, by path; it is asked for where the staged ones do not tell.
pub fn touched<'t>(
    host: &dyn Look,
    targets: &'t [Target],
    was: impl Fn() -> WhatWas,
) -> Result<Option<&'t Target>, Problem> {
    let kept = OnceCell::new();
    for target in targets {
        let (path, staged) = (Path::new(&target.path), Path::new(&target.staged));
        let as_staged = match (&target.new, host.stat(staged)?) {
            (Some(new), Some(_)) => host.sha256(staged)? == new.sha256,
            (None, None) => host.stat(path)?.is_some(),
            // Its exchange would have brought it there.
            (Some(_), None) if target.change == Change::Add => host.stat(path)?.is_none(),
            (Some(_), None) | (None, Some(_)) => false,
        };
        let is_old = || {
            let was = kept.get_or_init(&was).get(&target.path);
            was.is_some_and(|was| host.sha256(path).is_ok_and(|is| is == was.sha256))
        };
        if !as_staged && !is_old() {
            return Ok(Some(target));
        }
    }
    Ok(None)
}

/// What is to be done about a target that is none of the objects noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// Nothing.
    No,
    /// A copy of the old file lies in the staging: it goes back.
    GoesBack,
    /// A copy of the new file lies there, and the old one is nowhere.
    Lost,
}

/// The copies among the targets of a step.
pub struct Copies<'a> {
    env: &'a Env<'a>,
    /// Read once, and only where there are any.
    was: OnceCell<WhatWas>,
}

impl<'a> Copies<'a> {
    /// Those of this step.
    pub fn new(env: &'a Env<'a>) -> Copies<'a> {
        Copies {
            env,
            was: OnceCell::new(),
        }
    }

    /// What is to be done about this target on the way back.
    pub fn of(&self, exchange: &Exchange) -> Result<Copied, Problem> {
        let env = self.env;
        if exchange.old.is_none() || database_of(exchange, env.exchanges).is_some() {
            return Ok(Copied::No);
        }
        let target = env.targets().find(|t| t.path == exchange.path);
        let new = target.and_then(|t| t.new.as_ref());
        Ok(match swap::foreign_over(env.host, exchange)? {
            None => Copied::No,
            Some(true) => {
                let was = self.was.get_or_init(|| what_was(env.host, env.dir));
                // Where both have the same bytes, they tell nothing.
                let was = was.get(&exchange.path);
                let was = was.filter(|was| new.is_none_or(|new| new.sha256 != was.sha256));
                let is_old = match was {
                    Some(was) => self.holds(&exchange.staged, &was.sha256)?,
                    None => false,
                };
                // The gateway may have written to the old one after it was noted what that is.
                let is_exchanged = match new {
                    Some(new) => {
                        self.holds(&exchange.path, &new.sha256)?
                            && !self.holds(&exchange.staged, &new.sha256)?
                    }
                    None => false,
                };
                match is_old || is_exchanged {
                    true => Copied::GoesBack,
                    false => Copied::No,
                }
            }
            Some(false) => {
                let was = self.was.get_or_init(|| what_was(env.host, env.dir));
                // One that differs in its owner or mode alone may well be the old one.
                let was = was.get(&exchange.path);
                let new = new.filter(|new| was.is_none_or(|was| was.sha256 != new.sha256));
                match new {
                    Some(new) if self.holds(&exchange.path, &new.sha256)? => Copied::Lost,
                    Some(_) | None => Copied::No,
                }
            }
        })
    }

    /// Whether a regular file lies there with these bytes.
    fn holds(&self, path: &str, bytes: &Digest) -> Result<bool, Problem> {
        let (host, path) = (self.env.host, Path::new(path));
        let is_file = host.stat(path)?.is_some_and(|meta| meta.kind == Kind::File);
        Ok(is_file && host.sha256(path)? == *bytes)
    }
}
