//! The old files on the way back: puts them in their places, and says of what others put there whether it is what was there before.
//! Owns the file that keeps what each old file was. Puts nothing in place by itself that is not the old object.

use std::path::Path;

use journal_format::{Direction, Exchange, FileFacts, Note, Target};

use crate::error::{Code, Problem, bug};
use crate::restore::copied::{Copied, Copies, DATABASES, FILES, WhatWas, what_was};
use crate::restore::decide::Observed;
use crate::restore::step::Env;
use crate::restore::swap::{self, LeftToOthers};
use crate::state_dir::SAFETY_BACKUP;
use crate::text::wording::quoted;

/// A path that is noted in a file is no longer.
const PATH_BYTES: u64 = 1 << 16;
/// Keeps what each file is that the restore will replace or remove.
pub fn keep(env: &Env) -> Result<(), Problem> {
    keep_of(env, &env.plan.files, FILES)
}

/// The same of databases, once they are settled: that changes their bytes.
pub fn keep_databases(env: &Env) -> Result<(), Problem> {
    keep_of(env, &env.plan.databases, DATABASES)
}

fn keep_of(env: &Env, targets: &[Target], name: &str) -> Result<(), Problem> {
    let mut what_is = WhatWas::new();
    for target in targets {
        if let Some(facts) = facts(env, &target.path)? {
            what_is.insert(target.path.clone(), facts);
        }
    }
    let text = serde_json::to_vec(&what_is);
    let text = text.map_err(|e| bug(format!("write down what the old files are: {e}")))?;
    env.host.keep(&env.dir.join("before").join(name), &text)
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
    let copies = Copies::new(env);
    let mut copies = exchanges.iter().map(|exchange| match copies.of(exchange)? {
        Copied::No => Ok(()),
        Copied::GoesBack => {
            let (path, staged) = (Path::new(&exchange.path), Path::new(&exchange.staged));
            env.host.exchange(permit, path, staged)
        }
        Copied::Lost => Err(swap::lost(exchange)),
    });
    let copies = copies.try_for_each(|done: Result<(), Problem>| done);
    let Err(problem) = copies.and_then(|()| swap::back(env.host, permit, exchanges)) else {
        return Ok(());
    };
    let target = env.targets().find(|t| problem.about.contains(&t.path));
    let was = target.and_then(|t| what_was(env.host, env.dir).remove(&t.path));
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
        "somebody else removed it; the safety backup has a copy, if it was there: `{unzip} > /root/original && install -D -o {} -g \
         {} -m {:o} /root/original {}`",
        is.uid,
        is.gid,
        is.mode,
        quoted(&target.path)
    );
    Err(Problem { advice, ..problem })
}

/// Where the files stand; [`Observed::After`] is where the direction leads.
pub fn seen_from(env: &Env, direction: Direction) -> Result<Observed, Problem> {
    if direction == Direction::Back {
        let copies = Copies::new(env);
        for exchange in env.exchanges {
            match copies.of(exchange)? {
                Copied::No => {}
                Copied::GoesBack => {
                    return Ok(Observed::Between(format!(
                        "{} is not back in its place",
                        exchange.path
                    )));
                }
                Copied::Lost => return Ok(Observed::Unknown(swap::lost(exchange).what)),
            }
        }
    }
    swap::seen_from(env.host, direction, env.exchanges)
}

/// What the way back leaves as others left it, but for what is as it was before.
pub fn left_to_others(env: &Env) -> Result<Vec<Note>, Problem> {
    let left = swap::left_to_others(env.host, env.exchanges)?;
    let mut was = match left.iter().any(|l| l.original_is_gone) {
        true => what_was(env.host, env.dir),
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
