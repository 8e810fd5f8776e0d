//! `holdfast boot-units`.

use std::path::Path;

use super::Context;
use crate::error::{Fault, Problem, cannot, cause};
use crate::files::open::sync;
use crate::files::whole;
use crate::host::linux::Linux;
use crate::state_dir;
use crate::state_dir::boot_units::{FILE, settings};
use crate::state_dir::traces;

pub(super) fn run(context: &Context, output: &Path, init: bool, remove: bool) -> Result<u8, Fault> {
    let profile = &context.profile;
    // Before anything is taken away: settings that are not understood must not open what the old ones hold.
    let wanted = settings(profile)?;
    let host = Linux::new(profile);
    if init {
        // Made under the mount point of a disk that is not mounted, it would let a boot start a gateway that is half restored.
        if !profile.sentinel().exists() {
            traces::none_in_the_way(profile, &host)?;
        }
        state_dir::make(profile)?;
        state_dir::mark(profile)?;
    } else if !remove && !profile.sentinel().exists() {
        tell!(
            "holdfast: {} is not there: at the next boot the gateway stays down\n  what to do: mount state_dir, or, if it is new: \
             holdfast boot-units --init",
            profile.sentinel().display()
        );
    }
    if remove {
        state_dir::none_open(profile, &host, "let a boot start the gateway")?;
    }
    let mut changed = 0_usize;
    if !remove {
        for settings in &wanted {
            changed += usize::from(write(
                &output.join(format!("{}.d", settings.unit)),
                &settings.text,
            )?);
        }
    }
    for dir in made(output)? {
        let unit = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let keep = wanted.iter().any(|s| format!("{}.d", s.unit) == unit);
        if remove || !keep {
            let file = dir.join(FILE);
            std::fs::remove_file(&file).map_err(|e| failed("remove", &file, &e))?;
            // Others may have settings of their own in it.
            let _ = std::fs::remove_dir(&dir);
            changed += 1;
        }
    }
    say!(
        "{} under {}; {}",
        crate::text::wording::counted(changed, "change"),
        output.display(),
        if changed > 0 {
            "systemctl daemon-reload makes them count"
        } else {
            "all is as it should be"
        }
    );
    Ok(0)
}

/// The folders that hold a file of ours.
fn made(output: &Path) -> Result<Vec<std::path::PathBuf>, Problem> {
    let entries = match std::fs::read_dir(output) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("list", output, &e)),
    };
    let mut dirs: Vec<_> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.join(FILE).is_file())
        .collect();
    dirs.sort();
    Ok(dirs)
}

/// Whether it was changed. What a boot depends on must not be lost with the power.
fn write(dir: &Path, text: &str) -> Result<bool, Problem> {
    let path = dir.join(FILE);
    if std::fs::read_to_string(&path).is_ok_and(|have| have == text) {
        return Ok(false);
    }
    let all = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        whole::write(&path, text.as_bytes(), 0o644)?;
        dir.parent().map_or(Ok(()), sync)
    };
    all().map_err(|e| failed("write", &path, &e))?;
    Ok(true)
}

fn failed(what: &str, path: &Path, e: &std::io::Error) -> Problem {
    cannot(
        cause(e),
        format!("{what} {}: {e}", path.display()),
        "run it as root; check the disk: `df -h` shows whether it is full, `findmnt` whether it is read-only",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gateway::profile::{Profile, ServiceProfile, UnitService};

    fn context(state_dir: &Path, unit: &str) -> Context {
        let mut profile = Profile {
            state_dir: state_dir.to_owned(),
            ..Profile::default()
        };
        profile.gateway.service = vec![ServiceProfile::Unit(UnitService { unit: unit.into() })];
        Context {
            profile,
            config: "/holdfast.toml".into(),
            json: false,
            detail: journal_format::Detail::Brief,
        }
    }

    fn units(output: &Path) -> Vec<String> {
        made(output)
            .unwrap()
            .iter()
            .map(|d| d.file_name().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn settings_follow_the_profile_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("units");
        let first = context(&dir.path().join("state"), "first.service");
        run(&first, &output, true, false).unwrap();
        assert!(first.profile.sentinel().exists());
        assert!(units(&output).contains(&"first.service.d".to_owned()));
        let others = output.join("first.service.d/others.conf");
        std::fs::write(&others, "[Unit]\n").unwrap();
        let second = context(&dir.path().join("state"), "second.service");
        run(&second, &output, false, false).unwrap();
        assert!(units(&output).contains(&"second.service.d".to_owned()));
        assert!(!units(&output).contains(&"first.service.d".to_owned()));
        assert!(others.exists());
        run(&second, &output, false, true).unwrap();
        assert_eq!(units(&output), Vec::<String>::new());
    }

    #[test]
    fn what_holds_a_boot_is_not_removed_while_a_restore_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("units");
        let context = context(&dir.path().join("state"), "gateway.service");
        run(&context, &output, true, false).unwrap();
        let barrier = "# holdfast 20261122T185220Z-0a1b2c3d\n";
        std::fs::write(context.profile.barrier(), barrier).unwrap();
        let refused = run(&context, &output, false, true).unwrap_err();
        assert_eq!(refused.exit_status(), 6, "{refused}");
        assert!(!units(&output).is_empty());
        // Nor where nobody can tell which one is open.
        std::fs::write(context.profile.barrier(), "?").unwrap();
        run(&context, &output, false, true).unwrap_err();
        assert!(!units(&output).is_empty());
    }

    #[test]
    fn state_dir_is_made_only_when_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(&dir.path().join("state"), "gateway.service");
        run(&context, &dir.path().join("units"), false, false).unwrap();
        assert!(!context.profile.state_dir.exists());
    }
}
