//! Configs that say `SaveConfig`: where the start of the services takes such a tunnel down, `wg-quick` writes over its config. Owns
//! the files that keep these configs as they are before that start, and puts them back. What was written stays in `found/`. Must not:
//! put back what does not look as `wg-quick` writes it (an admin's edit stays), nor bring a tunnel up or down.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::{Direction, Note};
use serde::{Deserialize, Serialize};

use super::keeping::{Keeping, SAVED_OVER};
use super::step::Env;
use crate::error::{Code, Problem, bug, cannot};
use crate::host::{Kind, Meta, Owner, Permit, parent};
use crate::text::{octets, wg_config};

const KEPT_BYTES: u64 = 256 << 20;

/// One of these configs as it is to be.
#[derive(Serialize, Deserialize)]
struct Kept {
    uid: u32,
    gid: u32,
    mode: u32,
    text: String,
}

impl Kept {
    fn bytes(&self) -> Cow<'_, [u8]> {
        octets::bytes(&self.text)
    }

    fn owner(&self) -> Owner {
        Owner {
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
        }
    }
}

fn file(env: &Env, set: Direction) -> PathBuf {
    let set = match set {
        Direction::Forward => "after",
        Direction::Back => "before",
    };
    env.dir.join("saved").join(set)
}

/// What was kept of this set, by path; nothing where nothing was.
fn kept(env: &Env, set: Direction) -> Result<BTreeMap<String, Kept>, Problem> {
    let file = file(env, set);
    if env.host.stat(&file)?.is_none() {
        return Ok(BTreeMap::new());
    }
    let bytes = env.host.read(&file, KEPT_BYTES)?;
    // Nothing of it may be shown: it has keys.
    serde_json::from_slice(&bytes).map_err(|_| {
        cannot(
            Code::FACTS_CHANGED,
            format!("use {}: it does not say how configs were", file.display()),
            "someone changed it; compare the tunnels' configs with the backup",
        )
    })
}

/// Keeps these configs as they are in place, before the first start of the services in this direction: what an admin has changed
/// by then stays so. Says what it cannot keep.
pub fn keep(env: &Env, direction: Direction) -> Vec<Note> {
    // What failed may pass.
    let first = keep_all(env, direction, false);
    let Err(why) = first.or_else(|_| keep_all(env, direction, true)) else {
        return Vec::new();
    };
    let text = format!(
        "Holdfast will not notice if the start of the services writes over a config that says SaveConfig: {}",
        why.what
    );
    vec![Note::known(Code::CONFIG_NOT_KEPT, text)]
}

/// At the last try all that can be kept; else all or nothing.
fn keep_all(env: &Env, direction: Direction, is_last: bool) -> Result<(), Problem> {
    let file = file(env, direction);
    if env.plan.services.is_empty() || env.host.stat(&file)?.is_some() {
        return Ok(());
    }
    let configs = configs(env, direction);
    let (mut all, mut unread) = (BTreeMap::new(), None);
    for path in configs {
        match as_it_is(env, Path::new(path)) {
            Ok(is) => all.extend(is.map(|is| (path, is))),
            Err(why) if is_last => unread = Some(why),
            Err(why) => return Err(why),
        }
    }
    if !all.is_empty() {
        let text = serde_json::to_vec(&all);
        let text = text.map_err(|e| bug(format!("write down how configs are: {e}")))?;
        env.host.keep_dir(parent(&file)?)?;
        env.host.keep(&file, &text)?;
    }
    unread.map_or(Ok(()), Err)
}

/// The configs over which a start of the services may write in this direction: one also brings up active clients that were down.
fn configs<'e>(env: &'e Env, direction: Direction) -> BTreeSet<&'e String> {
    let tunnels = match direction {
        Direction::Forward => &env.plan.tunnels_up,
        Direction::Back => &env.plan.tunnels_down,
    };
    let configs = tunnels.iter().map(|t| &t.config);
    let all = configs.chain(env.plan.files.iter().map(|t| &t.path));
    all.filter(|path| path.ends_with(".conf")).collect()
}

/// This config, if it says `SaveConfig`.
fn as_it_is(env: &Env, path: &Path) -> Result<Option<Kept>, Problem> {
    let meta = env.host.stat(path)?;
    let Some(meta) = meta.filter(|m| m.kind == Kind::File && m.size <= wg_config::MOST) else {
        return Ok(None);
    };
    let bytes = env.host.read(path, wg_config::MOST)?;
    Ok(wg_config::saves(&bytes).then(|| Kept {
        uid: meta.uid,
        gid: meta.gid,
        mode: meta.mode & 0o777,
        text: octets::text(&bytes),
    }))
}

/// Puts back the configs over which a start wrote. Where a run was cut off, the next one ends it. A restore that was left as it is
/// stays so.
pub fn put_back(env: &Env, permit: &Permit, direction: Direction) -> Result<(), Problem> {
    let other = match direction {
        Direction::Forward => Direction::Back,
        Direction::Back => Direction::Forward,
    };
    let mut written = Keeping::new(env, permit, SAVED_OVER);
    for set in [direction, other] {
        for (path, kept) in kept(env, set)? {
            let is_target = || env.plan.files.iter().any(|t| t.path == path);
            // What the plan leaves alone both sets have, and the first start may have been the one forward.
            let counts = set == direction || direction == Direction::Back && !is_target();
            // What differs later need not be a start's: an admin may have saved what runs.
            let counts = counts && !env.left && (!env.over || env.started);
            put_one_back(env, permit, &mut written, (&path, &kept), counts)?;
        }
    }
    written.sync()
}

fn put_one_back(
    env: &Env,
    permit: &Permit,
    written: &mut Keeping,
    (path, kept): (&str, &Kept),
    counts: bool,
) -> Result<(), Problem> {
    let (host, place) = (env.host, Path::new(path));
    let aside = aside(env, place)?;
    // Before the exchange it is some of what was kept; behind it what had been written.
    if host.stat(&aside)?.is_some()
        && kept
            .bytes()
            .starts_with(&host.read(&aside, wg_config::MOST)?)
        && !holds(env, place, kept)?
    {
        host.remove_file(permit, &aside)?;
    }
    // Also where nothing is left: the run that was cut off may have moved it, and not synced that.
    written.take(&aside, path)?;
    if counts && is_written_over(env, place, kept)? {
        let mut fill = |out: &mut dyn std::io::Write| {
            let filled = out.write_all(&kept.bytes());
            filled.map_err(|e| cannot(Code::IO, e.to_string(), "see what the disk says"))
        };
        host.create(permit, &aside, kept.owner(), &mut fill)?;
        host.sync_file(permit, &aside)?;
        host.exchange(permit, &aside, place)?;
        host.sync_dir(permit, parent(place)?)?;
        written.take(&aside, path)?;
    }
    Ok(())
}

/// What a person is told of the configs that were put back, by this run or an earlier one that was cut off before it could say it.
pub fn notes(env: &Env, permit: &Permit) -> Result<Vec<Note>, Problem> {
    let written = Keeping::new(env, permit, SAVED_OVER);
    let mut notes = Vec::new();
    if env.host.stat(written.root())?.is_none() {
        return Ok(notes);
    }
    let mut all = configs(env, Direction::Forward);
    all.append(&mut configs(env, Direction::Back));
    for path in all {
        for kept in written.kept_before(path)? {
            let text = format!(
                "the start of the services took a tunnel down, and its SaveConfig wrote over {path}: Holdfast has put that config \
                 back, and keeps what was written as {}",
                kept.display()
            );
            let note = Note::known(Code::CONFIG_PUT_BACK, text).about(path);
            notes.push(note.advising(
                "see in the service's log why it took the tunnel down; its next start may do so again",
            ));
        }
    }
    Ok(notes)
}

/// Where the config is made that is put back, and what was written lies once that is done.
fn aside(env: &Env, place: &Path) -> Result<PathBuf, Problem> {
    let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    Ok(parent(place)?.join(format!(".{}.holdfast-{}", name(place), name(env.dir))))
}

/// Whether this config is as it was kept.
fn holds(env: &Env, place: &Path, kept: &Kept) -> Result<bool, Problem> {
    let is_there = env.host.stat(place)?;
    let is_small = |m: &Meta| m.kind == Kind::File && m.size <= wg_config::MOST;
    Ok(is_there.is_some_and(|m| is_small(&m))
        && env.host.read(place, wg_config::MOST)? == *kept.bytes())
}

/// Whether `wg-quick` has written over this config.
fn is_written_over(env: &Env, place: &Path, kept: &Kept) -> Result<bool, Problem> {
    let is_wg_quicks = |m: &Meta| {
        (m.kind, m.uid, m.gid, m.mode) == (Kind::File, 0, 0, 0o600) && m.size <= wg_config::MOST
    };
    if !env.host.stat(place)?.is_some_and(|m| is_wg_quicks(&m)) {
        return Ok(false);
    }
    let bytes = env.host.read(place, wg_config::MOST)?;
    Ok(*kept.bytes() != bytes && wg_config::is_as_saved(&bytes))
}

/// The configs of this set over which a start has written, and which the clean-up puts back.
pub fn written_over(env: &Env, set: Direction) -> Result<BTreeSet<String>, Problem> {
    let mut written = BTreeSet::new();
    for (path, kept) in kept(env, set)? {
        if is_written_over(env, Path::new(&path), &kept)? {
            written.insert(path);
        }
    }
    Ok(written)
}

/// Lets go of what was kept, once it is put back: it has keys.
pub fn forget(env: &Env) -> Result<(), Problem> {
    for set in [Direction::Forward, Direction::Back] {
        let file = file(env, set);
        if env.host.stat(&file)?.is_some() {
            env.host.discard(&file)?;
        }
    }
    Ok(())
}
