//! What is expected of tunnels: which ones the way back owes, and that one that is up listens. Owed are those that were up right
//! before Holdfast first did what may take one down. One that had gone by then went without Holdfast. Owns the file that keeps their
//! names; takes no tunnel down and brings none up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::Tunnel;

use crate::error::{Code, Problem};
use crate::host::Query;
use crate::restore::step::Env;
use crate::text::wg_config;

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

fn coming_up(dir: &Path) -> PathBuf {
    dir.join("coming-up")
}

/// Notes which tunnels come up now, after the verdict: whoever is cut off leaves some of them half up, and the others carry traffic.
pub fn note_coming_up(env: &Env, tunnels: &BTreeSet<String>) -> Result<(), Problem> {
    match tunnels.is_empty() {
        true => env.host.discard(&coming_up(env.dir)),
        false => {
            let names: Vec<&str> = tunnels.iter().map(String::as_str).collect();
            env.host
                .keep(&coming_up(env.dir), names.join("\n").as_bytes())
        }
    }
}

/// The tunnels that a run brought up after the verdict that was cut off, or failed.
pub fn were_coming_up(env: &Env) -> Result<BTreeSet<String>, Problem> {
    let file = coming_up(env.dir);
    if env.host.stat(&file)?.is_none() {
        return Ok(BTreeSet::new());
    }
    let names = env.host.read(&file, NAMES_BYTES)?;
    Ok(String::from_utf8_lossy(&names)
        .lines()
        .map(str::to_owned)
        .collect())
}

/// Which of these tunnels are up and do not listen on the ports of their configs: in userspace WireGuard finds out that its port is
/// taken only after `wg-quick` has ended well.
pub fn not_listening<'t>(
    env: &Env,
    tunnels: impl IntoIterator<Item = &'t Tunnel>,
) -> Result<BTreeMap<&'t str, u16>, Problem> {
    let out = env.host.ask(&Query::ListenPorts, "")?.expect_ok(
        Code::QUERY_FAILED,
        "list the tunnels' ports",
        "install wireguard-tools",
    )?;
    let ports: BTreeMap<&str, &str> = out.lines().filter_map(|l| l.split_once('\t')).collect();
    let mut found = BTreeMap::new();
    for tunnel in tunnels {
        let config = Path::new(&tunnel.config);
        let bytes = env.host.read(config, wg_config::FILE_MOST)?;
        // A config that does not parse is up by what `wg-quick` made of it.
        let port = wg_config::parse(&tunnel.name, &bytes)
            .ok()
            .and_then(|c| c.interface.listen_port)
            .filter(|port| *port != 0);
        if let (Some(port), Some(heard)) = (port, ports.get(tunnel.name.as_str()))
            && *heard != port.to_string()
        {
            found.insert(tunnel.name.as_str(), port);
        }
    }
    Ok(found)
}
