//! What going down and coming up share: several tunnels at a time, and copies of configs for `wg-quick`.

use std::path::Path;
use std::thread::{Builder, ScopedJoinHandle};

use journal_format::Tunnel;

use super::super::Env;
use super::time_left::TimeLeft;
use crate::error::{Problem, bug};
use crate::gateway::kernel_facts::Facts;
use crate::host::{Host, Permit};
use crate::text::wg_config;

const AT_ONCE: usize = 8;
pub(super) const CONFIG_BYTES: u64 = wg_config::FILE_MOST;

/// A tunnel, and where the config lies with which it goes down or comes up.
pub(super) type ByConfig<'p> = (&'p Tunnel, String);

/// What each of several threads works with.
#[derive(Clone, Copy)]
pub(super) struct Tools<'a> {
    pub host: &'a dyn Host,
    pub permit: &'a Permit,
    /// The restore's folder.
    pub dir: &'a Path,
    /// The kernel facts of before.
    pub facts: &'a Facts,
}

impl<'a> Tools<'a> {
    pub fn of(env: &Env<'a>, permit: &'a Permit) -> Tools<'a> {
        Tools {
            host: env.host,
            permit,
            dir: env.dir,
            facts: env.facts,
        }
    }
}

/// Does one thing to several tunnels at a time, and gives what came of each, in order of its doing: whatever becomes of one, the
/// others get their turn. Tunnels with hooks go one by one: their commands were not written to run side by side.
pub(super) fn each<'p, T, F>(
    host: &dyn Host,
    time_left: &mut TimeLeft,
    tunnels: Vec<ByConfig<'p>>,
    one: F,
) -> Vec<(ByConfig<'p>, Result<T, Problem>)>
where
    T: Send,
    F: Fn(&ByConfig, &TimeLeft) -> Result<T, Problem> + Sync,
{
    let (alone, together): (Vec<ByConfig>, Vec<ByConfig>) =
        tunnels.into_iter().partition(|by| has_hooks(host, by));
    let mut results = Vec::new();
    for batch in together.chunks(AT_ONCE).chain(alone.chunks(1)) {
        let so_far: &TimeLeft = time_left;
        let done: Vec<Result<T, Problem>> = std::thread::scope(|scope| {
            let mut begun = Vec::new();
            for by in batch {
                let thread = Builder::new().spawn_scoped(scope, || one(by, so_far));
                // Where there is no thread to be had, this one does it.
                begun.push(thread.map_err(|_| one(by, so_far)));
            }
            let ended = |_| Err(bug("finish a tunnel: its thread ended"));
            let end = |begun: Result<ScopedJoinHandle<_>, _>| match begun {
                Ok(thread) => thread.join().unwrap_or_else(ended),
                Err(done) => done,
            };
            begun.into_iter().map(end).collect()
        });
        time_left.passes(batch.len());
        results.extend(batch.iter().cloned().zip(done));
    }
    results
}

/// Whether a config has hooks; one that cannot be understood may have some.
pub(super) fn has_hooks(host: &dyn Host, (tunnel, lies_at): &ByConfig) -> bool {
    let bytes = host.read(Path::new(lies_at), CONFIG_BYTES);
    let parsed = wg_config::parse(&tunnel.name, &bytes.unwrap_or_default());
    parsed.map_or(true, |c| !c.interface.hooks.is_empty())
}

/// `wg-quick` takes the interface's name from the file's.
pub(super) fn keep_copy(
    host: &dyn Host,
    dir: &Path,
    tunnel: &Tunnel,
    bytes: &[u8],
) -> Result<String, Problem> {
    let dir = dir.join("tunnels");
    host.keep_dir(&dir)?;
    let path = dir.join(format!("{}.conf", tunnel.name));
    host.keep(&path, bytes)?;
    Ok(path.display().to_string())
}
