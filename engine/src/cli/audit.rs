//! `holdfast audit`: shows and verifies the audit log; and what any command writes into it.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use journal_format::{AskedBy, visible};

use super::{Context, print_json};
use crate::error::{Code, Fault, OrCannot, cannot};
use crate::state_dir::audit::check::{AuditCount, AuditFlaw, InAuditLog, read};
use crate::state_dir::audit::entry::{AuditResult, Audited, AuditedDeed};
use crate::state_dir::audit::{dir, note};
use crate::text::wording::counted;

/// So many flaws are printed; their count is printed anyway.
const SHOWN: usize = 20;

#[derive(Debug, clap::Subcommand)]
pub(super) enum AuditCommand {
    /// Show the entries, a line each, the newest last.
    Show {
        /// Only those since this day or time (UTC): 2026-11-22, or 2026-11-22T18:52:20Z.
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Option<i64>,
    },
    /// Verify that no entry was changed, removed or moved.
    #[command(
        after_help = "Exit status: 0 sound, 3 not: the output names the file, the line and what is wrong"
    )]
    Verify,
}

pub(super) fn run(context: &Context, command: &AuditCommand) -> Result<u8, Fault> {
    match command {
        AuditCommand::Show { since } => show(context, *since),
        AuditCommand::Verify => verify(context),
    }
}

/// A day or a time in UTC, in milliseconds since 1970.
fn since(text: &str) -> Result<i64, String> {
    let of_time = text.parse::<Timestamp>();
    let of_day = || {
        text.parse::<Date>()
            .and_then(|day| day.to_zoned(TimeZone::UTC))
    };
    let at = of_time.or_else(|_| of_day().map(|day| day.timestamp()));
    let wrong = |_| "name a day or a time in UTC: 2026-11-22, or 2026-11-22T18:52:20Z".to_owned();
    at.map(|at| at.as_millisecond()).map_err(wrong)
}

impl Context {
    /// Who runs this command.
    pub(super) fn asked_by(&self) -> AskedBy {
        let sudo_user = std::env::var("SUDO_USER").ok();
        AskedBy::on_command_line(nix::unistd::getuid().as_raw(), sudo_user.as_deref())
    }

    /// Writes into the audit log what this command did, and what came of it.
    pub(super) fn audited(&self, what: AuditedDeed, subject: Option<&str>, result: AuditResult) {
        let audited = Audited::new(self.asked_by(), what, subject, result);
        note(&self.profile, audited);
    }
}

fn walk(context: &Context, each: impl FnMut(InAuditLog<'_>)) -> Result<AuditCount, Fault> {
    let dir = dir(&context.profile);
    let read = read(&dir, each);
    let what = format!("read the audit log {}", dir.display());
    Ok(read.or_cannot(Code::IO, what, "see to the disk of the state folder")?)
}

/// A flaw, in one line.
fn flaw_text(flaw: &AuditFlaw) -> String {
    visible(&format!(
        "{}, line {}: {}",
        flaw.file.display(),
        flaw.line,
        flaw.why
    ))
}

fn show(context: &Context, since: Option<i64>) -> Result<u8, Fault> {
    let is_due = |at_ms: i64| since.is_none_or(|since| at_ms >= since);
    let mut all = Vec::new();
    let json = context.json;
    walk(context, |found| match found {
        InAuditLog::Entry(line) if !is_due(line.at_ms) => {}
        InAuditLog::Entry(line) if json => all.push(serde_json::json!(line)),
        InAuditLog::Entry(line) => say!("{line}"),
        InAuditLog::Opaque(line) if json => all.push(line),
        InAuditLog::Opaque(line) => {
            say!("(unknown to this version) {}", visible(&line.to_string()));
        }
        InAuditLog::Flaw(flaw) => tell!(
            "holdfast: this differs from what Holdfast wrote: {}",
            flaw_text(flaw)
        ),
        InAuditLog::Torn(torn) => tell!("holdfast: {}", flaw_text(torn)),
    })?;
    if json {
        print_json(&serde_json::json!({ "entries": all }));
    }
    Ok(0)
}

fn verify(context: &Context) -> Result<u8, Fault> {
    let (mut flaws, mut torn) = (Vec::new(), Vec::new());
    let count = walk(context, |found| match found {
        InAuditLog::Flaw(flaw) if flaws.len() < SHOWN => flaws.push(flaw.clone()),
        InAuditLog::Torn(it) => torn.push(it.clone()),
        InAuditLog::Flaw(_) | InAuditLog::Entry(_) | InAuditLog::Opaque(_) => {}
    })?;
    let AuditCount {
        files,
        entries,
        flaws: wrong,
    } = count;
    let unsound = || {
        let differ = match wrong {
            1 => "line or file differs",
            _ => "lines or files differ",
        };
        let dir = dir(&context.profile);
        cannot(
            Code::AUDIT_UNSOUND,
            format!(
                "trust the audit log {}: it was changed. {wrong} {differ} from what Holdfast wrote",
                dir.display()
            ),
            "the gateway works as before; find out who has root on this machine, and compare with a copy of the log",
        )
    };
    if context.json {
        print_json(&serde_json::json!({
            "files": files, "entries": entries, "flaws": flaws, "torn": torn, "sound": wrong == 0,
        }));
    } else {
        flaws.iter().for_each(|flaw| say!("{}", flaw_text(flaw)));
        torn.iter().for_each(|torn| say!("{}", flaw_text(torn)));
    }
    match wrong {
        0 if context.json => Ok(0),
        0 => {
            let lines = counted(entries, "line");
            let the_other = if torn.is_empty() { "" } else { "the other " };
            say!("sound: {the_other}{lines} in {}", counted(files, "file"));
            Ok(0)
        }
        _ if context.json => Ok(3),
        _ => Err(Fault::Refused(vec![unsound()])),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn since_is_a_day_or_a_time() {
        assert_eq!(since("2026-11-22"), Ok(1_795_305_600_000));
        assert_eq!(since("2026-11-22T18:52:20Z"), Ok(1_795_373_540_000));
        assert!(since("yesterday").unwrap_err().contains("2026-11-22"));
    }
}
