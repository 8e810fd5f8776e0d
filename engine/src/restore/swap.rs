//! Exchanges: putting staged objects under the names of targets, and back, each at once. Owns how the two sides are told
//! apart: by the objects themselves (inode and time of birth), never by their names or contents.
//!
//! Forward both objects must lie where they are expected. The way back asks for the old object alone: whatever somebody else
//! put in its place meanwhile makes room for it, and goes where it was staged. What was never exchanged stays as others left it.
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
                    "replace {}: it is not as it was when the plan was made",
                    target.path
                ),
                "someone changed the gateway meanwhile; find out who",
            ));
        }
        exchanges.push(exchange);
    }
    Ok(exchanges)
}

fn object(host: &dyn Host, path: &str) -> Result<Option<FileId>, Problem> {
    let Some(meta) = host.stat(Path::new(path))? else {
        return Ok(None);
    };
    if meta.kind != Kind::File {
        return Err(cannot(
            Code::WRONG_KIND,
            format!("replace {path}: it is not a regular file"),
            "take it away, or name another place",
        ));
    }
    match meta.id {
        Some(id) => Ok(Some(id)),
        None => Err(cannot(
            Code::UNFIT_FILESYSTEM,
            format!(
                "replace {path}: its filesystem keeps no time of birth, so objects could be mistaken after a crash"
            ),
            "move it to ext4, xfs or btrfs",
        )),
    }
}

/// What lies under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lies {
    Nothing,
    Old,
    New,
    /// What neither the gateway had there nor the plan brought.
    Foreign,
}

fn lies(host: &dyn Look, exchange: &Exchange, path: &str) -> Result<Lies, Problem> {
    let Some(meta) = host.stat(Path::new(path))? else {
        return Ok(Lies::Nothing);
    };
    let is = |object: Option<FileId>| object.is_some() && meta.id == object;
    Ok(if is(exchange.old) {
        Lies::Old
    } else if is(exchange.new) {
        Lies::New
    } else {
        Lies::Foreign
    })
}

fn side(host: &dyn Look, exchange: &Exchange) -> Result<Side, Problem> {
    let both = (
        lies(host, exchange, &exchange.path)?,
        lies(host, exchange, &exchange.staged)?,
    );
    let (old, new) = objects(exchange);
    Ok(if both == (old, new) {
        Side::Before
    } else if both == (new, old) {
        Side::After
    } else {
        Side::Unknown
    })
}

/// How the old and the new object look where they lie: one that there is none of is nothing there.
fn objects(exchange: &Exchange) -> (Lies, Lies) {
    let there = |object: Option<FileId>, lies| object.map_or(Lies::Nothing, |_| lies);
    (
        there(exchange.old, Lies::Old),
        there(exchange.new, Lies::New),
    )
}

/// What the way back does with one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WayBack {
    /// What lies there stays: the old object, or what somebody else left there before it was exchanged.
    Stays,
    /// What is staged and what lies there change places.
    Exchange,
    /// What is staged goes where nothing lies.
    MoveIn,
    /// What lies there goes to the staging.
    MoveOut,
    /// The old object is nowhere.
    Lost,
}

/// By what lies under the target and in its staging place. It decides the same again behind whatever it did, until what lies
/// there stays.
fn way_back(old: bool, target: Lies, staged: Lies) -> WayBack {
    match (target, staged) {
        (Lies::Old, _) => WayBack::Stays,
        (Lies::Nothing, Lies::Old) => WayBack::MoveIn,
        (Lies::New | Lies::Foreign, Lies::Old) => WayBack::Exchange,
        // It was never exchanged, and others replaced or removed what lay there.
        (Lies::Nothing | Lies::Foreign, Lies::New) => WayBack::Stays,
        // The old object is nowhere, and somebody put another in its place: an editor, or whoever took it from the safety backup.
        (Lies::Foreign, Lies::Nothing | Lies::Foreign) if old => WayBack::Stays,
        // Others replaced what lay there a moment before it was exchanged: theirs is what is old now.
        (Lies::New, Lies::Foreign) if old => WayBack::Exchange,
        (Lies::Nothing, Lies::Foreign) if old => WayBack::MoveIn,
        // It was added: nothing is to lie there.
        (Lies::Nothing, Lies::Nothing | Lies::Foreign) if !old => WayBack::Stays,
        (Lies::New | Lies::Foreign, Lies::Nothing) if !old => WayBack::MoveOut,
        (Lies::Nothing | Lies::New | Lies::Foreign, Lies::Nothing | Lies::New | Lies::Foreign) => {
            WayBack::Lost
        }
    }
}

/// What the way back does with this exchange. A side file of a database comes with the database: where its own object is gone,
/// that database's opener did away with it.
fn way_back_among(
    host: &dyn Host,
    exchanges: &[Exchange],
    exchange: &Exchange,
) -> Result<WayBack, Problem> {
    let target = lies(host, exchange, &exchange.path)?;
    let staged = lies(host, exchange, &exchange.staged)?;
    Ok(match way_back(exchange.old.is_some(), target, staged) {
        WayBack::Lost if database_of(exchange, exchanges).is_some() => WayBack::Stays,
        way => way,
    })
}

/// Where something lies under the target that is neither object: whether another such thing is staged. None where an object is, or
/// nothing lies there.
pub fn foreign_over(host: &dyn Look, exchange: &Exchange) -> Result<Option<bool>, Problem> {
    let target = lies(host, exchange, &exchange.path)?;
    let staged = lies(host, exchange, &exchange.staged)?;
    Ok(match (target, staged) {
        (Lies::Foreign, Lies::Nothing) => Some(false),
        (Lies::Foreign, Lies::Foreign) => Some(true),
        _ => None,
    })
}

/// Whether the way back leaves what lies under the target.
pub fn stays(host: &dyn Host, exchange: &Exchange) -> Result<bool, Problem> {
    Ok(way_back_among(host, &[], exchange)? == WayBack::Stays)
}

/// A target that the way back leaves as others left it.
#[derive(Debug, Clone, Copy)]
pub struct LeftToOthers<'e> {
    /// The target's exchange.
    pub exchange: &'e Exchange,
    /// It had been exchanged, and the old object is nowhere: what lies there somebody put in its place. If not, others replaced or
    /// removed it before it was exchanged.
    pub original_is_gone: bool,
}

/// The targets that the way back leaves as others left them.
pub fn left_to_others<'e>(
    host: &dyn Host,
    exchanges: &'e [Exchange],
) -> Result<Vec<LeftToOthers<'e>>, Problem> {
    let mut left = Vec::new();
    for exchange in exchanges {
        let (old, _) = objects(exchange);
        if lies(host, exchange, &exchange.path)? != old
            && way_back_among(host, exchanges, exchange)? == WayBack::Stays
            && database_of(exchange, exchanges).is_none()
        {
            let staged = lies(host, exchange, &exchange.staged)?;
            left.push(LeftToOthers {
                exchange,
                original_is_gone: exchange.old.is_some() && staged != Lies::New,
            });
        }
    }
    Ok(left)
}

/// The same, of one of these.
fn side_among(
    host: &dyn Look,
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

/// Which of these targets lie in place as they were before, as the plan brings them, and as neither.
#[derive(Debug, Default)]
pub struct InPlace<'e> {
    /// The old object.
    pub old: Vec<&'e str>,
    /// The new one.
    pub new: Vec<&'e str>,
    /// Another one, or none although there is to be one.
    pub foreign: Vec<&'e str>,
}

/// What lies under the targets of these exchanges, wherever the other side of each is. Side files of a database count with it.
pub fn in_place<'e>(host: &dyn Look, exchanges: &'e [Exchange]) -> Result<InPlace<'e>, Problem> {
    let mut found = InPlace::default();
    let databases: BTreeSet<String> = exchanges.iter().flat_map(|e| side_files(&e.path)).collect();
    for exchange in exchanges.iter().filter(|e| !databases.contains(&e.path)) {
        let (old, new) = objects(exchange);
        let there = lies(host, exchange, &exchange.path)?;
        let list = match there {
            _ if there == old => &mut found.old,
            _ if there == new => &mut found.new,
            _ => &mut found.foreign,
        };
        list.push(&exchange.path);
    }
    Ok(found)
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
pub fn seen(host: &dyn Look, exchanges: &[Exchange]) -> Result<Observed, Problem> {
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
    for exchange in exchanges {
        let (path, staged) = (Path::new(&exchange.path), Path::new(&exchange.staged));
        match (
            side_among(host, exchanges, exchange)?,
            exchange.old,
            exchange.new,
        ) {
            (Side::After, _, _) | (Side::Before, None, None) => {}
            (Side::Before, Some(_), Some(_)) => host.exchange(permit, path, staged)?,
            (Side::Before, None, Some(_)) => host.rename(permit, staged, path)?,
            (Side::Before, Some(_), None) => host.rename(permit, path, staged)?,
            (Side::Unknown, _, _) => {
                return Err(cannot(
                    Code::OBJECT_REPLACED,
                    format!(
                        "replace {}: somebody else replaced or removed it meanwhile",
                        exchange.path
                    ),
                    "find out who changed it",
                ));
            }
        }
    }
    sync(host, permit, exchanges)
}

/// Puts every old object back in place, whatever lies there now, then makes the names durable.
pub fn back(host: &dyn Host, permit: &Permit, exchanges: &[Exchange]) -> Result<(), Problem> {
    for exchange in exchanges {
        let (path, staged) = (Path::new(&exchange.path), Path::new(&exchange.staged));
        // Whoever replaces what lies there in between makes it one exchange more.
        for _ in 0..2 {
            match way_back_among(host, exchanges, exchange)? {
                WayBack::Stays => break,
                WayBack::Exchange => host.exchange(permit, path, staged)?,
                WayBack::MoveIn => host.rename(permit, staged, path)?,
                WayBack::MoveOut => host.rename(permit, path, staged)?,
                WayBack::Lost => return Err(lost(exchange)),
            }
        }
    }
    sync(host, permit, exchanges)
}

/// Its old object is nowhere.
pub fn lost(exchange: &Exchange) -> Problem {
    let problem = cannot(
        Code::OBJECT_REPLACED,
        format!(
            "put {} back: its original is neither there nor in {}",
            exchange.path, exchange.staged
        ),
        "somebody else removed it; take it from the safety backup and put it there",
    );
    Problem {
        about: vec![exchange.path.clone()],
        ..problem
    }
}

fn sync(host: &dyn Host, permit: &Permit, exchanges: &[Exchange]) -> Result<(), Problem> {
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
    if direction == Direction::Forward {
        return seen(host, exchanges);
    }
    for exchange in exchanges {
        match way_back_among(host, exchanges, exchange)? {
            WayBack::Stays => {}
            WayBack::Lost => return Ok(Observed::Unknown(lost(exchange).what)),
            WayBack::Exchange | WayBack::MoveIn | WayBack::MoveOut => {
                return Ok(Observed::Between(format!(
                    "{} is not back in its place",
                    exchange.path
                )));
            }
        }
    }
    Ok(Observed::After)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies where once the way back did this.
    fn done(way: WayBack, (target, staged): (Lies, Lies)) -> (Lies, Lies) {
        match way {
            WayBack::Stays | WayBack::Lost => (target, staged),
            WayBack::Exchange => (staged, target),
            WayBack::MoveIn | WayBack::MoveOut => {
                let to = match way {
                    WayBack::MoveIn => target,
                    _ => staged,
                };
                assert_eq!(to, Lies::Nothing, "{way:?} would take a name that is taken");
                (staged, target)
            }
        }
    }

    /// Every pair of what may lie under two names: no object lies under both.
    fn every_pair(old: bool, new: bool) -> Vec<(Lies, Lies)> {
        let all = [Lies::Nothing, Lies::Old, Lies::New, Lies::Foreign];
        let pairs = all.iter().flat_map(|t| all.iter().map(|s| (*t, *s)));
        let is_one = |(t, s): &(Lies, Lies)| {
            let once = t != s || matches!(t, Lies::Nothing | Lies::Foreign);
            let there = |lies| *t == lies || *s == lies;
            once && (old || !there(Lies::Old)) && (new || !there(Lies::New))
        };
        pairs.filter(is_one).collect()
    }

    #[test]
    fn the_way_back_puts_the_old_object_in_its_place_wherever_it_lies_and_loses_nothing() {
        for (old, new) in [(true, true), (true, false), (false, true)] {
            for pair in every_pair(old, new) {
                let way = way_back(old, pair.0, pair.1);
                let after = done(way, pair);
                let said = format!("old {old}, new {new}: {pair:?}, {way:?}, {after:?}");
                if pair.0 == Lies::Old || pair.1 == Lies::Old {
                    assert_eq!(after.0, Lies::Old, "{said}");
                }
                let again = way_back(old, after.0, after.1);
                let at_rest = matches!(again, WayBack::Stays | WayBack::Lost);
                assert!(at_rest, "{said}: and then {again:?}");
                // The backup's object is never what the way back leaves.
                if again == WayBack::Stays {
                    assert_ne!(after.0, Lies::New, "{said}");
                }
            }
        }
    }

    #[test]
    fn what_others_saved_before_an_exchange_stays_and_what_they_saved_behind_it_makes_room() {
        let before = way_back(true, Lies::Foreign, Lies::New);
        let behind = way_back(true, Lies::Foreign, Lies::Old);
        assert_eq!((before, behind), (WayBack::Stays, WayBack::Exchange));
        // An added file: nothing lay there before.
        let before = way_back(false, Lies::Foreign, Lies::New);
        let behind = way_back(false, Lies::Foreign, Lies::Nothing);
        assert_eq!((before, behind), (WayBack::Stays, WayBack::MoveOut));
    }
}
