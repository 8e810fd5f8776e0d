//! The work that is measured, and what a user would run instead.

use std::path::Path;
use std::time::Duration;

use fixtures::{Result, Shape, Trouble, program, skip};

use crate::gateway::Gateway;
use crate::measure::{self, Once, Series, alternate};
use crate::options::{Options, Part};
use crate::report::Report;

/// Configs that an ordinary restore changes.
const FEW: usize = 10;

/// The files that a backup holds, from the sample's folder.
const FILES: &str =
    "instance/configs instance/configs.db instance/app.db var_lib_wireguard-gateway/wireguard.db";

/// The commands of an outage from a shell, as many tunnels at a time as Holdfast does. The service is stopped already.
const COMMANDS: &str = r#"
root=$1 tunnels=$2
xargs -a "$tunnels" -P 8 -I{} wg-quick down "$root/etc_wireguard/{}.conf"
xargs -a "$tunnels" -P 8 -I{} wg-quick up "$root/etc_wireguard/{}.conf"
iptables-restore < "$root/iptables-save.txt"
ip6tables-restore < "$root/ip6tables-save.txt"
sysctl -qw net.ipv4.ip_forward=1
"#;

/// Stops or starts the gateway's service: outside of an outage.
const SERVICE: &str = r#"
root=$1 service=$2 what=$3
"$service" "$what" "$root"
"#;

/// A bare copy over what is there, and one `syncfs`.
const COPY: &str = r#"
root=$1 unpacked=$2 names=$3
cd "$unpacked/configs"
xargs -0 -a "$names" cp -t "$root/instance/configs" --
xargs -0 -a "$names" cp -t "$root/etc_wireguard" --
cp "$unpacked/configs.db" "$unpacked/app.db" "$root/instance/"
cp "$unpacked/wireguard.db" "$root/var_lib_wireguard-gateway/"
sync -f "$root"
"#;

/// Backup, verify, outage and what an idle gateway is asked, on a gateway that is up.
pub fn live(folder: &Path, clients: usize, options: &Options, report: &mut Report) -> Result<()> {
    let parts = [Part::Backup, Part::Verify, Part::Outage, Part::Idle];
    if !parts.iter().any(|part| options.wants(*part)) {
        return Ok(());
    }
    let shape = Shape {
        active: options.tunnels.min(clients),
        ..Shape::of(clients)
    };
    let folder = tempfile::tempdir_in(folder)?;
    let gateway = Gateway::live(folder.path(), &shape)?;
    let name = format!("{clients} clients");
    if options.wants(Part::Backup) {
        backup(&gateway, &name, folder.path(), options, report)?;
    }
    if options.wants(Part::Verify) {
        verify(&gateway, &name, options, report)?;
    }
    if options.wants(Part::Outage) {
        outage(&gateway, &name, folder.path(), options, report)?;
    }
    if options.wants(Part::Idle) {
        idle(&gateway, &name, options, report)?;
    }
    Ok(())
}

fn backup(
    gateway: &Gateway,
    name: &str,
    folder: &Path,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let root = gateway.sample().root().display().to_string();
    let to = folder.display().to_string();
    let mine = folder.join("ours");
    let ours = || {
        // Its name is that of the second: where one is taken, it would wait for the next.
        if mine.exists() {
            std::fs::remove_dir_all(&mine)?;
        }
        gateway.settle()?;
        let mine = mine.display().to_string();
        Ok(gateway.holdfast(&["backup", "--output", &mine])?.0)
    };
    let script = |text: String| {
        let root = &root;
        let to = &to;
        move || {
            gateway.settle()?;
            gateway.script(
                &format!("rm -f \"$2\"/theirs.*; cd \"$1\"; {text}"),
                &[root, to],
            )
        }
    };
    let zip = format!("zip -6 -q -r \"$2/theirs.zip\" {FILES}");
    let (mine, theirs) = alternate(options.runs, ours, script(zip.clone()))?;
    report.memory("backup", name, mine.peak_kib());
    report.compare(("backup", name), mine, ("zip -6 -r", theirs), Some(0.45));
    let (mine, theirs) = alternate(
        options.runs,
        ours,
        script(format!(
            "tar -cf - {FILES} | zstd -q -o \"$2/theirs.tar.zst\""
        )),
    )?;
    report.compare(("backup", name), mine, ("tar | zstd", theirs), None);
    // What ours does besides: consistent copies of the databases, checked; the archive read back, and on disk.
    let whole = format!(
        "for d in instance/configs.db instance/app.db var_lib_wireguard-gateway/wireguard.db; do \
         sqlite3 -cmd '.timeout 30000' \"$d\" \".backup '$2/theirs.db'\"; sqlite3 \"$2/theirs.db\" 'PRAGMA integrity_check' > \"$2/theirs.said\"; done; \
         {zip}; unzip -tqq \"$2/theirs.zip\"; sha256sum \"$2/theirs.zip\" > \"$2/theirs.said\"; sync -f \"$2\""
    );
    let (mine, theirs) = alternate(options.runs, ours, script(whole))?;
    report.compare(
        ("backup", name),
        mine,
        ("zip with copies, checks, sync", theirs),
        None,
    );
    Ok(())
}

fn verify(gateway: &Gateway, name: &str, options: &Options, report: &mut Report) -> Result<()> {
    let unpacked = gateway.unpacked.display().to_string();
    let (mine, theirs) = alternate(
        options.runs,
        || Ok(gateway.holdfast(&["verify", &gateway.archive])?.0),
        || {
            gateway.script(
                "unzip -tqq \"$1\"; for d in configs wireguard app; do sqlite3 \"$2/$d.db\" 'PRAGMA integrity_check'; done",
                &[&gateway.archive, &unpacked],
            )
        },
    )?;
    report.memory("verify", name, mine.peak_kib());
    report.compare(
        ("verify", name),
        mine,
        ("unzip -t, integrity_check", theirs),
        None,
    );
    if skip::has("7z") {
        let (mine, theirs) = alternate(
            options.runs,
            || Ok(gateway.holdfast(&["verify", &gateway.archive])?.0),
            || gateway.script("7z t -bso0 -bsp0 \"$1\"", &[&gateway.archive]),
        )?;
        report.compare(("verify", name), mine, ("7z t", theirs), Some(1.0));
    }
    Ok(())
}

fn outage(
    gateway: &Gateway,
    name: &str,
    folder: &Path,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let root = gateway.sample().root().display().to_string();
    let service = program("sample-gateway-service")?.display().to_string();
    let list = folder.join("tunnels");
    let active = gateway.sample().active()?;
    std::fs::write(&list, active.join("\n"))?;
    let list = list.display().to_string();
    let (mut peak, mut steps) = (0, Vec::new());
    let (mine, theirs) = alternate(
        options.runs,
        || {
            gateway.change(FEW)?;
            next_second();
            let (once, told) = gateway.restore()?;
            peak = peak.max(once.peak_kib);
            steps = told.steps;
            Ok(Once {
                took: Duration::from_millis(told.outage_ms),
                ..Once::default()
            })
        },
        || {
            gateway.settle()?;
            gateway.script(SERVICE, &[&root, &service, "stop"])?;
            let once = gateway.script(COMMANDS, &[&root, &list])?;
            gateway.script(SERVICE, &[&root, &service, "start"])?;
            Ok(once)
        },
    )?;
    let work = format!("outage, {} tunnels", active.len());
    report.compare(
        (&work, name),
        mine,
        ("the commands alone", theirs),
        Some(1.15),
    );
    report.memory(&format!("restore, {FEW} configs, live"), name, peak);
    report.steps(&format!("restore of {FEW} configs, {work}, {name}"), steps);
    Ok(())
}

fn idle(gateway: &Gateway, name: &str, options: &Options, report: &mut Report) -> Result<()> {
    for (words, goal_ms) in [(&["recover"][..], 50.0), (&["status"], 50.0)] {
        let mut series = Series::default();
        for _ in 0..options.runs.max(5) {
            series.0.push(gateway.holdfast(words)?.0);
        }
        report.memory(words[0], name, series.peak_kib());
        report.alone(
            &format!("{}, nothing open", words[0]),
            name,
            series,
            goal_ms,
        );
    }
    report.memory("survey", name, gateway.holdfast(&["survey"])?.0.peak_kib);
    Ok(())
}

/// Restores on a gateway at rest: against a bare copy, their memory, and how many files they make.
pub fn files(folder: &Path, clients: usize, options: &Options, report: &mut Report) -> Result<()> {
    if !options.wants(Part::Restore) && !options.wants(Part::Files) {
        return Ok(());
    }
    let folder = tempfile::tempdir_in(folder)?;
    let gateway = Gateway::at_rest(folder.path(), &Shape::of(clients))?;
    let name = format!("{clients} clients");
    if options.wants(Part::Restore) {
        for changed in [FEW, gateway.clients()] {
            restore(&gateway, &name, folder.path(), changed, options, report)?;
        }
    }
    if options.wants(Part::Files) {
        for changed in [1, FEW, 100] {
            let made = made(&gateway, changed, folder.path())?;
            report.files(changed, clients, made);
        }
    }
    Ok(())
}

fn restore(
    gateway: &Gateway,
    name: &str,
    folder: &Path,
    changed: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let root = gateway.sample().root().display().to_string();
    let unpacked = gateway.unpacked.display().to_string();
    let list = folder.join("changed");
    let mut steps = Vec::new();
    let mut last = String::new();
    let (mine, theirs) = alternate(
        options.runs,
        || {
            gateway.change(changed)?;
            next_second();
            let (once, stdout) =
                gateway.holdfast(&["--json", "restore", &gateway.archive, "--yes"])?;
            steps = gateway.told(&stdout)?.steps;
            last = stdout;
            Ok(once)
        },
        || {
            let names = gateway.change(changed)?;
            std::fs::write(&list, names.join("\0"))?;
            gateway.script(COPY, &[&root, &unpacked, &list.display().to_string()])
        },
    )?;
    let work = if changed == gateway.clients() {
        "restore, all configs".to_owned()
    } else {
        format!("restore, {changed} configs")
    };
    report.memory(&work, name, mine.peak_kib());
    report.compare((&work, name), mine, ("cp, sync -f", theirs), Some(1.3));
    report.steps(&format!("{work}, {name}"), steps);
    let id = restore_id(&last)?;
    for command in ["show", "verify"] {
        let peak = gateway.holdfast(&["journal", command, &id])?.0.peak_kib;
        report.memory(&format!("journal {command}: {work}"), name, peak);
    }
    Ok(())
}

/// The name of a backup is that of the second: a safety backup right after another one would wait for the next.
pub fn next_second() {
    std::thread::sleep(Duration::from_secs(1));
}

fn restore_id(stdout: &str) -> Result<String> {
    let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap_or_default())?;
    last.get("restore")
        .and_then(serde_json::Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Trouble::new("the restore gave no verdict"))
}

/// How many files a restore makes, by itself and by its commands, whether they stay or not.
fn made(gateway: &Gateway, changed: usize, folder: &Path) -> Result<usize> {
    gateway.change(changed)?;
    let traces = tempfile::tempdir_in(folder)?;
    // One file for each process, so that no line is cut in two.
    let to = traces.path().join("trace").display().to_string();
    let strace = [
        "strace",
        "-ff",
        "--seccomp-bpf",
        "-qq",
        "-s",
        "0",
        "-e",
        "trace=open,openat,openat2,creat,mknod,mknodat,mkdir,mkdirat,link,linkat",
        "-o",
        &to,
    ];
    let words = ["restore", gateway.archive.as_str(), "--yes"];
    let argv = [&strace[..], &gateway.argv(&words)].concat();
    let (_, finished) = measure::run(gateway.sandbox.place(), &argv)?;
    finished.ok()?;
    let mut made = 0;
    for trace in std::fs::read_dir(traces.path())? {
        let text = std::fs::read(trace?.path())?;
        made += String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| makes(line))
            .count();
    }
    if made == 0 {
        return Err(Trouble::new("strace saw no file made"));
    }
    Ok(made)
}

/// Whether a line of `strace` is a file or folder that was made, or may have been: opening with `O_CREAT` what is there
/// counts, too.
fn makes(line: &str) -> bool {
    let done = line
        .rsplit_once(" = ")
        .is_some_and(|(_, result)| !result.starts_with('-'));
    let call = line.split('(').next().unwrap_or_default();
    done && (!call.starts_with("open") || line.contains("O_CREAT") || line.contains("O_TMPFILE"))
}

/// Memory with a database of this size.
pub fn padded(folder: &Path, options: &Options, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir_in(folder)?;
    let shape = Shape {
        padding: options.padding_mib << 20,
        ..Shape::of(100)
    };
    let gateway = Gateway::at_rest(folder.path(), &shape)?;
    let name = format!("{} MiB", options.padding_mib);
    let peak = |words: &[&str]| -> Result<u64> { Ok(gateway.holdfast(words)?.0.peak_kib) };
    let root = gateway.sample().root().display().to_string();
    report.memory("survey", &name, peak(&["survey"])?);
    report.memory("backup", &name, peak(&["backup", "--output", &root])?);
    report.memory("verify", &name, peak(&["verify", &gateway.archive])?);
    gateway.change(FEW)?;
    let (once, told) = gateway.restore()?;
    report.memory("restore", &name, once.peak_kib);
    report.steps(&format!("restore of {FEW} configs, {name}"), told.steps);
    report.memory("recover", &name, peak(&["recover"])?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_strace_tells_a_file_that_was_made() {
        assert!(makes(
            r#"openat(5, ""..., O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 7"#
        ));
        assert!(makes(
            r#"openat2(-100, ""..., {flags=O_RDWR|O_CREAT, mode=0600}, 24) = 3"#
        ));
        assert!(makes(r#"mkdirat(5, ""..., 0700) = 0"#));
        assert!(!makes(r#"openat(5, ""..., O_RDONLY) = 7"#));
        assert!(!makes(
            r#"mkdirat(5, ""..., 0700) = -1 EEXIST (File exists)"#
        ));
    }
}
