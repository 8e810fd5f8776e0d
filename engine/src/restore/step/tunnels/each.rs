//! What going down and coming up share: several tunnels at a time, and copies of configs for `wg-quick`.

use std::path::Path;
use std::thread::{Builder, ScopedJoinHandle};

use journal_format::{Note, Tunnel};

use super::super::{Env, Report};
use crate::error::{Problem, bug};
use crate::host::Host;
use crate::text::wg_config;

const AT_ONCE: usize = 8;
pub(super) const CONFIG_BYTES: u64 = wg_config::FILE_MOST;

/// A tunnel, and where the config lies with which it goes down or comes up.
pub(super) type ByConfig<'p> = (&'p Tunnel, String);

/// Does one thing to several tunnels at a time, and gives what each reported, in order. Tunnels with hooks go one by
/// one: their commands were not written to run side by side.
pub(super) fn each<F>(env: &Env, tunnels: Vec<ByConfig>, one: F) -> Result<Report, Problem>
where
    F: Fn(&dyn Host, &Tunnel, &str) -> Result<Option<Note>, Problem> + Sync,
{
    let host = env.host;
    let has_hooks = |tunnel: &ByConfig| has_hooks(host, tunnel);
    let (alone, together): (Vec<ByConfig>, Vec<ByConfig>) =
        tunnels.into_iter().partition(has_hooks);
    let mut report = Report::default();
    for batch in together.chunks(AT_ONCE).chain(alone.chunks(1)) {
        let results: Vec<_> = std::thread::scope(|scope| {
            let mut begun = Vec::new();
            for (tunnel, lies_at) in batch {
                let thread = Builder::new().spawn_scoped(scope, || one(host, tunnel, lies_at));
                // Where there is no thread to be had, this one does it.
                begun.push(thread.map_err(|_| one(host, tunnel, lies_at)));
            }
            let ended = |_| Err(bug("finish a tunnel: its thread ended"));
            let end = |begun: Result<ScopedJoinHandle<_>, _>| match begun {
                Ok(thread) => thread.join().unwrap_or_else(ended),
                Err(done) => done,
            };
            begun.into_iter().map(end).collect()
        });
        for result in results {
            report.warnings.extend(result?);
        }
    }
    Ok(report)
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
