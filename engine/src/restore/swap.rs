//! Exchanges: putting staged objects under the names of targets, and back, each at once. Owns how the two sides are told
//! apart: by the objects themselves (inode and time of birth), never by their names or contents.
//!
//! A target may be a file beside another target, a database that cannot be read: it comes with that database, and once
//! somebody has opened that, SQLite may have done with it what it likes. Where its own object is gone it counts as being where
//! its database is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use journal_format::{Change, Direction, Exchange, FileId, Target};

use crate::error::{Code, Problem, cannot};
use crate::host::{Host, Kind, Look, Permit, parent};
use crate::plan::side_files::side_files;
use crate::restore::decide::Observed;

/// Where one exchange stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
    Unknown,
}

/// The exchanges that put the new objects of these targets in place, with both objects as they are now.
pub fn note(host: &dyn Host, targets: &[Target]) -> Result<Vec<Exchange>, Problem> {
    let mut exchanges = Vec::with_capacity(targets.len());
    for target in targets {
        let exchange = Exchange {
            path: target.path.clone(),
            staged: target.staged.clone(),
            old: object(host, &target.path)?,
            new: object(host, &target.staged)?,
        };
        let fits = match target.change {
            Change::Replace => exchange.old.is_some() && exchange.new.is_some(),
            Change::Add => exchange.old.is_none() && exchange.new.is_some(),
            Change::Remove => exchange.old.is_some() && exchange.new.is_none(),
        };
        if !fits {
            return Err(cannot(
                Code::PLAN_DRIFTED,
                format!(
                    "swap {}: it is not as it was when the plan was made",
                    target.path
                ),
                "someone changed the gateway meanwhile; find out who",
            ));
        }
        exchanges.push(exchange);
    }
    Ok(exchanges)
}

/// Whether none of these was swapped, as far as their contents tell: for a swap whose objects were never noted.
pub fn untouched(host: &dyn Look, targets: &[Target]) -> Result<bool, Problem> {
    for target in targets {
        let (path, staged) = (Path::new(&target.path), Path::new(&target.staged));
        let as_staged = match (&target.new, host.stat(staged)?) {
            (Some(new), Some(_)) => host.sha256(staged)? == new.sha256,
            (None, None) => host.stat(path)?.is_some(),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !as_staged {
            return Ok(false);
        }
    }
    Ok(true)
}

fn object(host: &dyn Host, path: &str) -> Result<Option<FileId>, Problem> {
    let Some(meta) = host.stat(Path::new(path))? else {
        return Ok(None);
    };
    if meta.kind != Kind::File {
        return Err(cannot(
            Code::WRONG_KIND,
            format!("swap {path}: it is not a regular file"),
            "take it away, or name another place",
        ));
    }
    match meta.id {
        Some(id) => Ok(Some(id)),
        None => Err(cannot(
            Code::UNFIT_FILESYSTEM,
            format!(
                "swap {path}: its filesystem keeps no time of birth, so objects could be mistaken after a crash"
            ),
            "move it to ext4, xfs or btrfs",
        )),
    }
}

fn side(host: &dyn Host, exchange: &Exchange) -> Result<Side, Problem> {
    let at = |path: &str| -> Result<Option<FileId>, Problem> {
        Ok(host.stat(Path::new(path))?.and_then(|m| m.id))
    };
    let (path, staged) = (at(&exchange.path)?, at(&exchange.staged)?);
    Ok(if path == exchange.old && staged == exchange.new {
        Side::Before
    } else if path == exchange.new && staged == exchange.old {
        Side::After
    } else {
        Side::Unknown
    })
}

/// The same, of one of these.
fn side_among(
    host: &dyn Host,
    exchanges: &[Exchange],
    exchange: &Exchange,
) -> Result<Side, Problem> {
    match side(host, exchange)? {
        Side::Unknown => match database_of(exchange, exchanges) {
            Some(database) => side(host, database),
            None => Ok(Side::Unknown),
        },
        known => Ok(known),
    }
}

/// The database beside which the file of this exchange lies; none for all but side files.
pub fn database_of<'e>(exchange: &Exchange, exchanges: &'e [Exchange]) -> Option<&'e Exchange> {
    exchanges
        .iter()
        .find(|d| side_files(&d.path).contains(&exchange.path))
}

/// Whether this exchange has brought its object into place.
pub fn is_in_place(host: &dyn Host, exchange: &Exchange) -> Result<bool, Problem> {
    Ok(side(host, exchange)? == Side::After)
}

/// Where all of these stand together.
pub fn seen(host: &dyn Host, exchanges: &[Exchange]) -> Result<Observed, Problem> {
    let (mut before, mut after) = (Vec::new(), 0);
    for exchange in exchanges {
        match side_among(host, exchanges, exchange)? {
            Side::Before => before.push(exchange.path.as_str()),
            Side::After => after += 1,
            Side::Unknown => {
                return Ok(Observed::Unknown(format!(
                    "{} or {} is neither the old nor the new object",
                    exchange.path, exchange.staged
                )));
            }
        }
    }
    Ok(match (before.is_empty(), after) {
        (true, _) => Observed::After,
        (false, 0) => Observed::Before,
        (false, _) => Observed::Between(format!("{} of {} are old", before.len(), exchanges.len())),
    })
}

/// Puts every new object in place, then makes the names durable.
pub fn forward(host: &dyn Host, permit: &Permit, exchanges: &[Exchange]) -> Result<(), Problem> {
    swap(host, permit, exchanges, Side::Before)
}

/// Puts every old object back in place, then makes the names durable.
pub fn back(host: &dyn Host, permit: &Permit, exchanges: &[Exchange]) -> Result<(), Problem> {
    swap(host, permit, exchanges, Side::After)
}

fn swap(
    host: &dyn Host,
    permit: &Permit,
    exchanges: &[Exchange],
    from: Side,
) -> Result<(), Problem> {
    for exchange in exchanges {
        let (path, staged) = (Path::new(&exchange.path), Path::new(&exchange.staged));
        let now = side_among(host, exchanges, exchange)?;
        if now == Side::Unknown {
            return Err(cannot(
                Code::OBJECT_REPLACED,
                format!(
                    "swap {}: it or {} is neither the old nor the new object",
                    exchange.path, exchange.staged
                ),
                "someone else replaced it; put the object back by hand, or keep both, then run `holdfast recover`",
            ));
        }
        if now != from {
            continue;
        }
        let (at_path, at_staged) = match from {
            Side::Before => (exchange.old, exchange.new),
            Side::After | Side::Unknown => (exchange.new, exchange.old),
        };
        match (at_path, at_staged) {
            (Some(_), Some(_)) => host.exchange(permit, path, staged)?,
            (None, Some(_)) => host.rename(permit, staged, path)?,
            (Some(_), None) => host.rename(permit, path, staged)?,
            (None, None) => {}
        }
    }
    for dir in dirs(exchanges)? {
        host.sync_dir(permit, &dir)?;
    }
    Ok(())
}

/// Every folder in which a name of these exchanges stands.
pub fn dirs(exchanges: &[Exchange]) -> Result<BTreeSet<PathBuf>, Problem> {
    let mut dirs = BTreeSet::new();
    for exchange in exchanges {
        dirs.insert(parent(Path::new(&exchange.path))?.to_owned());
        dirs.insert(parent(Path::new(&exchange.staged))?.to_owned());
    }
    Ok(dirs)
}

/// Where all of these stand together; [`Observed::After`] is where the direction leads.
pub fn seen_from(
    host: &dyn Host,
    direction: Direction,
    exchanges: &[Exchange],
) -> Result<Observed, Problem> {
    let seen = seen(host, exchanges)?;
    Ok(match (direction, seen) {
        (Direction::Back, Observed::Before) => Observed::After,
        (Direction::Back, Observed::After) if !exchanges.is_empty() => Observed::Before,
        (Direction::Forward | Direction::Back, seen) => seen,
    })
}
