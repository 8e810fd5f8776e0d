//! Other programs of the machine: which ones run, and how one is run. An argument list, a fixed path and environment,
//! a time limit, and no pipe that a daemon could inherit. Must not know what a command is for.
#![expect(clippy::disallowed_methods, reason = "the one file that runs programs")]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{AccessFlags, Pid};

use crate::error::{Code, Problem, cannot, cause};
use crate::files::open::errno;
use crate::host::{ExitKind, Output};
use crate::text::octets;
use crate::text::redact;
use crate::text::wording::quoted;

/// Where programs are looked for; nothing of the caller's environment reaches them.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `wg` tries a host name this often, a second apart, then gives up.
const RESOLUTION_RETRIES: &str = "2";
/// Of what a program says, so much of the beginning and of the end: its reason stands last.
const STDERR_HEAD: u64 = 2 << 10;
const STDERR_TAIL: u64 = 6 << 10;
const STDOUT_LIMIT: u64 = 64 << 20;
/// How long nobody looks whether a program has ended: at least, and at most.
const PAUSES: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(5)];

pub(crate) fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).unwrap_or(i32::MAX))
}

/// One process of the machine.
pub struct ProcessInfo {
    /// Its number.
    pub pid: u32,
    /// Its command name.
    pub command: String,
    /// Its session.
    pub session: u32,
    /// When it started, in the kernel's clock ticks since boot.
    pub started_ticks: u64,
    /// It has ended and waits to be reaped.
    pub gone: bool,
    /// It is stopped by a signal, or by a tracer.
    pub halted: bool,
    /// Whose it is.
    pub uid: u32,
    /// It has a terminal.
    pub at_a_terminal: bool,
    /// The process that it is a child of.
    pub parent: u32,
}

impl ProcessInfo {
    /// What it is a child of, unless that is the first process.
    pub fn child_of(&self) -> Option<String> {
        let parent = process(self.parent).filter(|parent| parent.pid > 1)?;
        Some(format!("{} (pid {})", parent.command, parent.pid))
    }

    /// Whether its session was begun by a child of the first process, or by one that is gone.
    pub fn is_daemon(&self) -> bool {
        process(self.session).is_none_or(|leader| leader.parent <= 1)
    }
}

/// One process, as `/proc/PID/stat` has it; none if it is not there.
pub fn process(pid: u32) -> Option<ProcessInfo> {
    let file = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&file).ok()?;
    let uid = std::fs::metadata(&file).ok()?.uid();
    // The command stands in brackets and may hold any character, brackets too.
    let (head, tail) = stat.rsplit_once(')')?;
    let command = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    Some(ProcessInfo {
        pid,
        command,
        gone: matches!(*fields.first()?, "Z" | "X"),
        halted: matches!(*fields.first()?, "T" | "t"),
        session: fields.get(3)?.parse().ok()?,
        started_ticks: fields.get(19)?.parse().ok()?,
        at_a_terminal: *fields.get(4)? != "0",
        parent: fields.get(1)?.parse().ok()?,
        uid,
    })
}

pub(crate) fn processes() -> Result<Vec<ProcessInfo>, Problem> {
    let proc = Path::new("/proc");
    let entries = std::fs::read_dir(proc).map_err(|e| errno("list", proc, e))?;
    Ok(entries
        .flatten()
        .filter_map(|e| process(e.file_name().to_str()?.parse().ok()?))
        .collect())
}

/// Runs a program to its end or its time limit. What it prints is for people, or plain text.
pub(crate) fn execute(argv: &[String], input: &str, limit: Duration) -> Result<Output, Problem> {
    let lossily = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    run(argv, input.as_bytes(), limit, lossily)
}

/// Runs a program that the profile names so that it hears of something, as `execute` runs any.
pub fn told(argv: &[String], document: &str, limit: Duration) -> Result<Output, Problem> {
    execute(argv, document, limit)
}

/// The same as `execute`, where each byte counts, on its way in and out: those of firewall rules.
pub(crate) fn execute_exactly(
    argv: &[String],
    input: &str,
    limit: Duration,
) -> Result<Output, Problem> {
    run(argv, &octets::bytes(input), limit, octets::text)
}

/// Runs a program to its end or its time limit; then everything in its process group ends with it.
///
/// Its output goes to files in memory, not pipes: a daemon that it starts may keep them as long as it likes, and a disk
/// that is full does not keep a restore from loading rules.
fn run(
    argv: &[String],
    input: &[u8],
    limit: Duration,
    text: fn(&[u8]) -> String,
) -> Result<Output, Problem> {
    let shown: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
    let shown = shown.join(" ");
    let failed = |what: &str, e: std::io::Error| {
        let does_not_run = [Code::NOT_THERE, Code::NO_RIGHTS].contains(&cause(&e));
        let code = match does_not_run {
            true => Code::MISSING_PROGRAM,
            false => Code::UNFIT_SYSTEM,
        };
        cannot(
            code,
            format!("{what} {}: {e}", argv.first().map_or("", String::as_str)),
            "install the program, or correct its path in the profile",
        )
    };
    let Some((program, arguments)) = argv.split_first() else {
        return Err(cannot(
            Code::BAD_PROFILE,
            "run a command that is empty",
            "correct the command in the profile",
        ));
    };
    let mut stdin = in_memory().map_err(|e| failed("prepare", e))?;
    stdin
        .write_all(input)
        .and_then(|()| stdin.seek(SeekFrom::Start(0)))
        .map_err(|e| failed("prepare", e))?;
    let mut stdout = in_memory().map_err(|e| failed("prepare", e))?;
    let mut stderr = in_memory().map_err(|e| failed("prepare", e))?;
    // By its path: looking it up would take a copy of this process, with all of its memory, to do so in.
    let mut child = std::process::Command::new(found(program))
        .arg0(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .env("WG_ENDPOINT_RESOLUTION_RETRIES", RESOLUTION_RETRIES)
        .current_dir("/")
        .stdin(stdin)
        .stdout(stdout.try_clone().map_err(|e| failed("prepare", e))?)
        .stderr(stderr.try_clone().map_err(|e| failed("prepare", e))?)
        .process_group(0)
        .spawn()
        .map_err(|e| failed("run", e))?;
    let began = Instant::now();
    let end = loop {
        match child.try_wait().map_err(|e| failed("wait for", e))? {
            Some(status) => {
                break match (status.code(), status.signal()) {
                    (Some(code), _) => ExitKind::Exit(code),
                    (None, signal) => ExitKind::Signal(signal.unwrap_or_default()),
                };
            }
            None if began.elapsed() > limit => {
                // Its children are in its group; what left the group left on purpose.
                let _ = killpg(pid(child.id()), Signal::SIGKILL);
                child.wait().map_err(|e| failed("wait for", e))?;
                break ExitKind::TimedOut;
            }
            None => {
                // Most end within some milliseconds, and some take a minute.
                let pause = began.elapsed() / 16;
                std::thread::sleep(pause.clamp(PAUSES[0], PAUSES[1]));
            }
        }
    };
    Ok(Output {
        shown,
        end,
        stdout: start(&mut stdout, STDOUT_LIMIT)
            .map(|bytes| text(&bytes))
            .map_err(|e| failed("read the output of", e))?,
        stderr: redact::said(&ends(&mut stderr).map_err(|e| failed("read the output of", e))?),
    })
}

/// Where a program lies; its own name where it is nowhere.
pub fn found(program: &str) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let places = PATH.split(':').map(|dir| Path::new(dir).join(program));
    let is_one = |path: &PathBuf| nix::unistd::access(path, AccessFlags::X_OK).is_ok();
    let mut files = places.filter(|path| path.is_file());
    files.find(is_one).unwrap_or_else(|| program.into())
}

/// Runs this program itself, with one argument and `input`, as `execute` runs any.
pub fn itself(argument: &str, input: &str, limit: Duration) -> Result<Output, Problem> {
    let program = this_program().map_err(|e| {
        cannot(
            Code::MISSING_PROGRAM,
            format!("find this program: {e}"),
            "check that the program is still there: `command -v holdfast`",
        )
    })?;
    let program = program.to_string_lossy().into_owned();
    execute(&[program, argument.to_owned()], input, limit)
}

static PROGRAM: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();

/// Where the `holdfast` program is, for one that uses this crate as a library. Counts the first time.
pub fn program_is(path: std::path::PathBuf) {
    let _ = PROGRAM.set(path);
}

/// This program, to be started anew: the very one that runs, also when an upgrade has put another one in its place. What
/// began a restore ends it.
pub fn this_program() -> std::io::Result<std::path::PathBuf> {
    if let Some(program) = PROGRAM.get() {
        return Ok(program.clone());
    }
    let named = std::env::current_exe()?;
    if named.exists() {
        Ok(named)
    } else {
        // By its number: what starts it may be another program first (`systemd-run`).
        Ok(format!("/proc/{}/exe", std::process::id()).into())
    }
}

/// A file that is in memory alone, and gone with whoever has it open.
pub fn in_memory() -> std::io::Result<File> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    Ok(File::from(nix::sys::memfd::memfd_create(
        "holdfast", flags,
    )?))
}

fn start(file: &mut File, limit: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(file: &mut File, limit: u64) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&start(file, limit)?).into_owned())
}

/// The beginning and the end, without the lines that are cut in two.
fn ends(file: &mut File) -> std::io::Result<String> {
    let len = file.metadata()?.len();
    if len <= STDERR_HEAD + STDERR_TAIL {
        return text(file, len);
    }
    let head = text(file, STDERR_HEAD)?;
    file.seek(SeekFrom::Start(len - STDERR_TAIL))?;
    let mut tail = Vec::new();
    file.take(STDERR_TAIL).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    Ok(format!(
        "{}\n[...]\n{}",
        head.rsplit_once('\n').map_or("", |(whole, _)| whole),
        tail.split_once('\n').map_or("", |(_, whole)| whole)
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let shown = ["wg-quick", "a b.conf", "O'Brien", "x && y", ""].map(quoted);
        assert_eq!(
            shown,
            ["wg-quick", "'a b.conf'", "'O'\\''Brien'", "'x && y'", "''"]
        );
    }

    #[test]
    fn a_program_is_run_by_where_it_lies_under_the_name_that_it_was_asked_by() {
        let limit = Duration::from_secs(10);
        let ran = |argv: &[&str]| {
            let argv: Vec<String> = argv.iter().map(|w| (*w).to_owned()).collect();
            execute(&argv, "", limit)
        };
        let said = ran(&["sh", "-c", "echo $0"]).unwrap();
        assert_eq!(
            (said.end, said.stdout.as_str()),
            (ExitKind::Exit(0), "sh\n")
        );
        assert!(found("sh").is_absolute());
        assert_eq!(found("/bin/../bin/sh"), Path::new("/bin/../bin/sh"));
        let missing = ran(&["no-such-program"]).unwrap_err();
        assert!(
            missing.what.starts_with("run no-such-program: "),
            "{missing:?}"
        );
    }

    #[test]
    fn of_a_long_complaint_the_beginning_and_the_end_are_kept() {
        let mut file = in_memory().unwrap();
        let lines: Vec<String> = (0..2000).map(|i| format!("line {i}")).collect();
        file.write_all(lines.join("\n").as_bytes()).unwrap();
        let kept = ends(&mut file).unwrap();
        assert!(kept.starts_with("line 0\n") && kept.ends_with("\nline 1999"));
        assert!(kept.contains("\n[...]\n") && kept.len() < 9000);
        assert!(
            kept.lines()
                .all(|l| lines.contains(&l.to_owned()) || l == "[...]")
        );
    }
}
