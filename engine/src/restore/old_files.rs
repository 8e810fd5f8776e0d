//! The old files on the way back: puts them in their places, and says of what others put there whether it is what was there before.
//! Owns the file that keeps what each old file was. Puts nothing in place by itself that is not the old object.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use journal_format::{Exchange, FileFacts, Note};

use crate::error::{Code, Problem, bug};
use crate::restore::step::Env;
use crate::restore::swap::{self, LeftToOthers};
use crate::state_dir::SAFETY_BACKUP;
use crate::text::wording::quoted;

/// A path that is noted in a file is no longer.
const PATH_BYTES: u64 = 1 << 16;
/// What is kept of a hundred thousand files takes less.
const KEPT_BYTES: u64 = 256 << 20;

/// What each file was, by its path.
type WhatWas = BTreeMap<String, FileFacts>;

fn kept(dir: &Path) -> PathBuf {
    dir.join("before").join("files")
}

/// Keeps what each file is that the restore will replace or remove. Not of databases: their bytes change when they are settled.
pub fn keep(env: &Env) -> Result<(), Problem> {
    let mut what_is = WhatWas::new();
    for target in &env.plan.files {
        if let Some(facts) = facts(env, &target.path)? {
            what_is.insert(target.path.clone(), facts);
        }
    }
    let text = serde_json::to_vec(&what_is);
    let text = text.map_err(|e| bug(format!("write down what the old files are: {e}")))?;
    env.host.keep(&kept(env.dir), &text)
}

fn facts(env: &Env, path: &str) -> Result<Option<FileFacts>, Problem> {
    let path = Path::new(path);
    let Some(meta) = env.host.stat(path)? else {
        return Ok(None);
    };
    Ok(Some(FileFacts {
        sha256: env.host.sha256(path)?,
        size: meta.size,
        uid: meta.uid,
        gid: meta.gid,
        mode: meta.mode,
    }))
}

/// Puts the old objects of these exchanges back in place. Of one that is nowhere it says how the safety backup's copy gets there.
pub fn put_back(
    env: &Env,
    permit: &crate::host::Permit,
    exchanges: &[Exchange],
) -> Result<(), Problem> {
    let Err(problem) = swap::back(env.host, permit, exchanges) else {
        return Ok(());
    };
    let target = env.targets().find(|t| problem.about.contains(&t.path));
    let was = target.and_then(|t| what_was(env).remove(&t.path));
    let Some((target, is)) = target.and_then(|t| Some((t, was.or_else(|| t.new.clone())?))) else {
        return Err(problem);
    };
    let made = env.host.read(&env.dir.join(SAFETY_BACKUP), PATH_BYTES);
    let Ok(made) = made.map(|path| String::from_utf8_lossy(&path).into_owned()) else {
        return Err(problem);
    };
    let from = |entry: &str| format!("unzip -p {} {}", quoted(&made), quoted(entry));
    // A WireGuard copy that is as the config-folder copy is in a backup once.
    let unzip = match target.entry.strip_prefix("wireguard/") {
        Some(name) => {
            let once = from(&format!("configs/{name}"));
            format!("({} || {once})", from(&target.entry))
        }
        None => from(&target.entry),
    };
    let advice = format!(
        "somebody else removed it; the safety backup has a copy, if it was there: `{unzip} > /root/original && install -o {} -g \
         {} -m {:o} /root/original {}`",
        is.uid,
        is.gid,
        is.mode,
        quoted(&target.path)
    );
    Err(Problem { advice, ..problem })
}

/// What was kept; nothing by a program that kept none, or where it cannot be read: then nothing can be told by it.
fn what_was(env: &Env) -> WhatWas {
    let bytes = env.host.read(&kept(env.dir), KEPT_BYTES);
    let kept = bytes.ok().and_then(|b| serde_json::from_slice(&b).ok());
    kept.unwrap_or_default()
}

/// What the way back leaves as others left it, but for what is as it was before.
pub fn left_to_others(env: &Env) -> Result<Vec<Note>, Problem> {
    let left = swap::left_to_others(env.host, env.exchanges)?;
    let mut was = match left.iter().any(|l| l.original_is_gone) {
        true => what_was(env),
        false => WhatWas::new(),
    };
    let mut notes = Vec::new();
    for LeftToOthers {
        exchange,
        original_is_gone,
    } in left
    {
        let path = &exchange.path;
        let text = match (original_is_gone, was.remove(path)) {
            (false, _) => {
                format!(
                    "{path} was replaced or removed by others meanwhile, and is left as they left it"
                )
            }
            (true, None) => format!(
                "whether {path} is as it was before cannot be told: its original is gone, and somebody put another file there"
            ),
            (true, Some(was)) => match facts(env, path).map(|is| unlike(&was, is.as_ref())) {
                Ok(None) => continue,
                Ok(Some(how)) => format!(
                    "{path} is not as it was when the restore began: its original is gone, and what somebody put there {how}"
                ),
                // Whatever lies there keeps nobody from going back.
                Err(why) => format!(
                    "whether {path} is as it was before cannot be told: its original is gone, and what somebody put there cannot be read: \
                     cannot {}",
                    why.what
                ),
            },
        };
        let code = match original_is_gone {
            true => Code::NOT_THE_ORIGINAL,
            false => Code::LEFT_TO_OTHERS,
        };
        notes.push(Note::known(code, text).about(path));
    }
    Ok(notes)
}

/// How a file differs from what was there before; none if it does not.
fn unlike(was: &FileFacts, is: Option<&FileFacts>) -> Option<&'static str> {
    match is {
        None => Some("is gone again"),
        Some(is) if (is.size, &is.sha256) != (was.size, &was.sha256) => Some("has other bytes"),
        Some(is) if (is.uid, is.gid, is.mode) != (was.uid, was.gid, was.mode) => {
            Some("has another owner or mode")
        }
        Some(_) => None,
    }
}
