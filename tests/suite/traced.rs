//! The worker of a command under `strace`, and nothing else under it: `systemd-run`, which starts a worker where systemd runs, is
//! one that does so.
#![allow(clippy::unwrap_used)]

use fixtures::{Finished, Sandbox};

/// What runs here runs with its workers under `strace` with these options.
pub fn workers(sandbox: &Sandbox, options: &[&str], run: impl FnOnce() -> Finished) -> Finished {
    let inside = |argv: &[&str]| sandbox.run(argv).unwrap().ok().unwrap();
    inside(&["mkdir", "-p", "/run/systemd/system"]);
    inside(&["mount", "-t", "tmpfs", "stand-in", "/usr/local/sbin"]);
    let stand_in = "/usr/local/sbin/systemd-run";
    let options = options.join(" ");
    let text = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec strace -qq {options} \"$@\"\n"
    );
    std::fs::write(sandbox.inside(stand_in), text).unwrap();
    inside(&["chmod", "755", stand_in]);
    let done = run();
    inside(&["umount", "/usr/local/sbin"]);
    inside(&["rm", "-r", "/run/systemd"]);
    done
}
