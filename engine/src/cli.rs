//! The command line: what `holdfast` understands, and how each command ends. Owns the exit statuses' meeting with the
//! world and what is printed; each command has its file under `cli/`.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use journal_format::{Detail, Note, Weight, note_lines, visible};

use crate::archive::catalog;
use crate::error::{Code, Fault, cannot};
use crate::gateway::parts::{self, Part};
use crate::gateway::profile::Profile;
use crate::host::live_database;
use crate::restore::aside::{self, SaidAside};
use crate::restore::{launch, process};
use crate::state_dir;
use faults::{fault_text, say_fault};

/// Prints a line on standard output. A closed pipe or a terminal that is gone must not end a restore: it is no error.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Prints a line on standard error; as `say`.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod agent;
mod audit;
mod backup;
mod backups;
mod boot_units;
mod faults;
mod journal;
mod prune;
mod recover;
mod restore;
mod secure;
mod status;
mod survey;
mod verify;
mod watch;
mod worker;

/// Crash-safe backup and restore for WireGuard gateways.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about = "Crash-safe backup and restore for WireGuard gateways.", max_term_width = 100, after_help = EXIT_STATUS)]
pub struct Cli {
    /// The profile of the gateway.
    #[arg(long, global = true, value_name = "FILE", env = "HOLDFAST_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Print one JSON document on standard output (restore and journal follow: a line for each record).
    #[arg(long, global = true)]
    json: bool,
    /// List everything. Without it, long lists end after the first lines.
    #[arg(long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: CliCommand,
}

const DEFAULT_CONFIG: &str = "/etc/holdfast/holdfast.toml";

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  failed or declined; nothing was changed
  2  wrong usage, or a question to confirm and no terminal
  3  refused: the archive, plan or gateway is not acceptable; nothing was changed
  4  rolled back: the gateway is as before
  5  stuck: an operator must fix the reported cause and run `holdfast recover`
  6  busy, or an open restore must be recovered first
  7  over, and something does not run since: standard output names it
  8  the backup is incomplete: standard error names the missing parts";

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Show what Holdfast finds on this gateway.
    Survey,
    /// Make a backup of the gateway, and print its path.
    #[command(
        after_help = "Exit status: 0 made, 8 made but incomplete: standard error names the missing parts and the reasons; it does not \
                      count as a good backup"
    )]
    Backup {
        /// Where to write it [default: backups/ in the profile's state_dir].
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// Do what the timer does: make a backup, prune if it is complete, note how it went for `status`, run the profile's on_backup.
        #[arg(long, conflicts_with = "output")]
        scheduled: bool,
    },
    /// List the backups in the profile's folder: age, size, kind, contents, when each was last verified.
    Backups,
    /// Keep a backup for good, whatever the rules of [retention] in the profile say.
    Pin {
        /// The backup: a path, `latest`, or the beginning of a name that `holdfast backups` lists.
        backup: PathBuf,
        /// Take the pin away.
        #[arg(long)]
        remove: bool,
    },
    /// Remove old backups, and what past restores keep, as [retention] in the profile says.
    #[command(
        after_help = "Never removed: a pinned backup, the last good one, one that this gateway did not make, and what an open restore or `holdfast \
                      undo` may need"
    )]
    Prune {
        /// Show what it would remove, and remove nothing. Exit status: 0 nothing to remove, 10 something.
        #[arg(long)]
        dry_run: bool,
    },
    /// Check a backup without changing anything.
    #[command(
        after_help = "Exit status: 0 sound, 3 not acceptable here, 8 sound but incomplete: it lacks parts that it should have"
    )]
    Verify {
        /// The backup: a path, `latest`, or the beginning of a name that `holdfast backups` lists.
        archive: PathBuf,
    },
    /// Restore the gateway from a backup: show the plan, ask, and show the steps live.
    #[command(
        after_help = "Exit status: 0 restored, 1 declined or failed before it changed anything, 3 not acceptable, 4 rolled back, 5 stuck, \
                      7 over, and something does not run since"
    )]
    Restore(RestoreArgs),
    /// Undo the newest completed restore: restore the backup that it made of the gateway before it changed anything.
    #[command(
        after_help = "It shows its plan and asks, as every restore. Undo once more to go forth again."
    )]
    Undo(RestoreOptions),
    /// Complete or roll back an interrupted restore.
    #[command(
        after_help = "Exit status: 0 idle or completed, 4 rolled back, 5 stuck, 6 a restore is running"
    )]
    Recover(RecoverArgs),
    /// Remove other accounts' access to the gateway's folders, databases and configs.
    Secure {
        /// Show what it would do, and change nothing. Exit status: 0 nothing to do, 10 something is open.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show how the gateway stands: what is in place, what is up, down and blocked, what stands in the way, what to do.
    #[command(
        after_help = "Exit status: 0 nobody has to do anything, 5 a restore needs an operator, 7 a restore is over and something does not run since, \
                      8 the last scheduled backup failed, is incomplete or overdue"
    )]
    Status(status::StatusArgs),
    /// Show and verify journals.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Show and verify the audit log: who did what, when, and with which result.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Serve the web page's requests on a socket; recover an open restore first.
    Agent {
        /// The path of the Unix socket to listen on.
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
    },
    /// Work on one database with the rights of its account; for holdfast itself.
    #[command(name = live_database::COMMAND, hide = true)]
    DatabaseWork,
    /// Restore or recover, as the order says that comes with it; for holdfast itself.
    #[command(name = launch::COMMAND, hide = true)]
    Work {
        /// Its name: a boot's, or the one that it was started under.
        name: String,
        /// Show what the last one of this name left behind.
        #[arg(long)]
        said: bool,
    },
    /// Write systemd drop-ins that keep the gateway stopped at boot while a restore is open.
    BootUnits {
        /// The folder to write the drop-ins to; systemd must read units there.
        #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
        output: PathBuf,
        /// Create state_dir if it does not exist, and mark it as mounted. Only for a new state_dir: if its filesystem is not
        /// mounted, mount it and reboot instead.
        #[arg(long)]
        init: bool,
        /// Remove the drop-ins that this command wrote.
        #[arg(long, conflicts_with = "init")]
        remove: bool,
    },
}

/// `holdfast restore`.
#[derive(Debug, Args)]
struct RestoreArgs {
    /// The backup: a path, `latest`, or the beginning of a name that `holdfast backups` lists.
    archive: PathBuf,
    #[command(flatten)]
    options: RestoreOptions,
}

/// How to restore.
#[derive(Debug, Args)]
struct RestoreOptions {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// If the backup's firewall rules cannot be loaded, or the current ones cannot be read, restore everything else. The current
    /// rules then stay, without those of replaced tunnels.
    #[arg(long)]
    keep_going_without_firewall: bool,
    /// If a service of the gateway does not run after the restore, though it ran before, complete the restore. The service is
    /// then stopped, and named. Without this option the restore rolls back.
    #[arg(long)]
    keep_going_without_services: bool,
    /// Do not close the gateway's files and folders to other accounts.
    #[arg(long)]
    keep_open_folders: bool,
    /// Accept that the safety backup lacks this part. The only copy of the replaced files is then in the restore's originals/.
    /// May be given several times. Parts are configs, kept-v4, kept-v6, and each database by its name.
    #[arg(long, value_name = "PART", value_parser = parts::done_without)]
    without_safety_backup_of: Vec<Part>,
    /// Restore also if this tunnel cannot be brought up: it then stays down, and the result names it. May be given several times.
    /// Tunnels that are down now may stay down anyway.
    #[arg(long, value_name = "NAME")]
    leave_down: Vec<String>,
    /// Replace only what differs from the backup. Databases with the same rows stay, and so do tunnels that run as the backup has
    /// them, with every packet. Where nothing differs, nothing is done.
    #[arg(long)]
    changes_only: bool,
}

/// What is said where a restore would change nothing.
const NOTHING_TO_DO: &str = "Nothing to do: the gateway is as the backup says. History and logs, which the gateway writes all the time, are not compared. No restore was begun, and nothing was touched";

/// Holdfast's own folder; where it is not there, that too: a slip in the profile looks like a gateway that was never restored.
fn state_dir_shown(context: &Context) -> String {
    let folder = visible(&context.profile.state_dir.display().to_string());
    match context.profile.state_dir.is_dir() {
        true => folder,
        false => format!(
            "{folder}, which is not there: no backup and no restore was made with this profile, or `state_dir` in {} names the wrong folder",
            visible(&context.config.display().to_string())
        ),
    }
}

/// What the steps of a restore said, for the end: whoever followed it has read there what is good to know.
fn still_told(notes: &[Note], followed: bool) -> Vec<Note> {
    let told = |note: &&Note| !followed || note.weight < Weight::Known || note.is(&Code::LEFT_OVER);
    notes.iter().filter(told).cloned().collect()
}

/// Whether the question is answered with yes.
fn agreed(question: &str) -> bool {
    let _ = write!(std::io::stderr(), "{question}");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// `holdfast recover`.
#[derive(Debug, Args)]
struct RecoverArgs {
    /// Complete the restore, whatever the profile's policy is. No effect after a rollback began.
    #[arg(long, conflicts_with = "roll_back")]
    resume: bool,
    /// Roll the restore back, whatever the profile's policy is. No effect after the restore was committed.
    #[arg(long)]
    roll_back: bool,
    /// The last way out: end the restore where it stands. Unblocks tunnel traffic, keeps every old file, and changes nothing else.
    #[arg(long, conflicts_with_all = ["resume", "roll_back"])]
    leave_as_it_is: bool,
    /// Leave it as it is without a question.
    #[arg(long, requires = "leave_as_it_is")]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// List every restore with its verdict.
    List,
    /// Show a restore's steps and records.
    Show {
        /// A restore's id or its beginning, `latest`, or a journal's file.
        journal: PathBuf,
    },
    /// Verify a journal.
    #[command(
        after_help = "Exit status: 0 sound and closed, 10 sound and still open, 11 torn tail, 12 corrupt, 13 newer format"
    )]
    Verify {
        /// A restore's id or its beginning, `latest`, or a journal's file.
        journal: PathBuf,
    },
    /// Follow a restore's records as they are written, until it is over.
    Follow {
        /// A restore's id or its beginning, or `latest`.
        id: String,
    },
}

/// What a command works with.
struct Context {
    profile: Profile,
    config: PathBuf,
    json: bool,
    detail: Detail,
}

impl Context {
    /// Prints a line for whoever watches: where standard output is JSON, beside it.
    fn watched(&self, text: impl Display) {
        match self.json {
            true => tell!("{text}"),
            false => say!("{text}"),
        }
    }

    /// Prints notes on standard error.
    fn tell_notes(&self, notes: &[Note]) {
        for line in note_lines(notes, self.detail) {
            tell!("{line}");
        }
    }
}

/// Runs the program.
pub fn run() -> ExitCode {
    // Clap ends a usage error with 2 by itself.
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOLDFAST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false);
    let works = matches!(&cli.command, CliCommand::Work { said: false, .. });
    match works {
        true => {
            aside::hear_of_faults();
            log.with_writer(|| SaidAside).init();
        }
        false => log.with_writer(std::io::stderr).init(),
    }
    let json = cli.json;
    let heard = worker::is_heard(&cli.command);
    match dispatch(cli) {
        Ok(status) => ExitCode::from(status),
        Err(fault) => {
            if heard {
                launch::say_not_begun(&fault);
            }
            aside::said().iter().for_each(|line| tell!("{line}"));
            say_fault(json, &fault, None);
            ExitCode::from(fault.exit_status())
        }
    }
}

fn dispatch(cli: Cli) -> Result<u8, Fault> {
    process::hear_of_children()?;
    process::outlive_large_files()?;
    // Before the profile: it may be closed to nobody but root, and what is needed of it stands in the order.
    if matches!(cli.command, CliCommand::DatabaseWork) {
        return live_database::serve().map(|()| 0).map_err(Fault::from);
    }
    let default_place = cli.config.as_os_str() == DEFAULT_CONFIG;
    let profile = Profile::read(&cli.config, default_place).map_err(|p| Fault::Refused(vec![p]))?;
    let context = Context {
        profile,
        config: cli.config,
        json: cli.json,
        detail: match cli.verbose {
            true => Detail::Whole,
            false => Detail::Brief,
        },
    };
    let needs_root = !matches!(
        &cli.command,
        CliCommand::Journal(JournalCommand::Show { .. } | JournalCommand::Verify { .. })
    );
    if needs_root && !nix::unistd::geteuid().is_root() {
        return Err(cannot(
            Code::NO_RIGHTS,
            "look at the gateway without being root",
            "run it with sudo",
        )
        .into());
    }
    match cli.command {
        CliCommand::Survey => survey::run(&context),
        CliCommand::Backup {
            scheduled: true, ..
        } => backup::scheduled(&context),
        CliCommand::Backup { output, .. } => backup::run(&context, output),
        CliCommand::Verify { archive } => verify::run(&context, &archive),
        CliCommand::Backups => backups::run(&context),
        CliCommand::Pin { backup, remove } => prune::pin(&context, &backup, !remove),
        CliCommand::Prune { dry_run } => prune::run(&context, dry_run),
        CliCommand::Restore(args) => {
            let archive = catalog::find(&context.profile, &args.archive);
            let archive = archive.map_err(Fault::refused)?;
            restore::run(&context, &archive, &args.options)
        }
        CliCommand::Undo(options) => restore::run(&context, &restore::to_undo(&context)?, &options),
        CliCommand::Recover(args) => recover::run(&context, &args),
        CliCommand::Secure { dry_run } => secure::run(&context, dry_run),
        CliCommand::Status(args) => status::run(&context, args),
        CliCommand::Journal(JournalCommand::List) => journal::list(&context),
        CliCommand::Journal(JournalCommand::Show { journal }) => journal::show(&context, &journal),
        CliCommand::Journal(JournalCommand::Verify { journal }) => {
            journal::verify(&context, &journal)
        }
        CliCommand::Journal(JournalCommand::Follow { id }) => {
            let id = state_dir::restore_named(&context.profile, &id)?;
            journal::follow(&context, &id)
        }
        CliCommand::Audit(command) => audit::run(&context, &command),
        CliCommand::Agent { socket } => agent::run(&context, &socket),
        CliCommand::Work { name, said } => worker::run(&context, &name, said),
        CliCommand::DatabaseWork => Ok(0),
        CliCommand::BootUnits {
            output,
            init,
            remove,
        } => boot_units::run(&context, &output, init, remove),
    }
}

/// Prints one JSON document, on one line.
fn print_json(value: &impl serde::Serialize) {
    print_json_on(std::io::stdout().lock(), value);
}

/// A record may have megabytes: it is written as it is made. As with `say`, a closed pipe is no error.
fn print_json_on(out: impl Write, value: &impl serde::Serialize) {
    let mut out = std::io::BufWriter::new(out);
    let _ = serde_json::to_writer(&mut out, value);
    let _ = writeln!(out);
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_help_text_says_it_all() {
        let mut command = Cli::command().term_width(100);
        let mut text = command.render_help().to_string();
        for name in [
            "survey",
            "backup",
            "verify",
            "restore",
            "recover",
            "secure",
            "status",
            "journal",
            "audit",
            "agent",
            "boot-units",
        ] {
            let sub = command.find_subcommand_mut(name).unwrap();
            text.push_str(&format!("\n=== {name}\n{}", sub.render_help()));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
