//! How work ends when it does not end well: the kinds that the exit status tells apart, each with its problems.

use std::any::Any;
use std::{fmt, io};

use nix::libc;

pub use journal_format::{Code, Problem};

/// The exit status of work on a backup that lacks parts that it should have: it is there, and it is no good backup.
pub const INCOMPLETE: u8 = 8;

/// Why a command did not do what it was asked. Every kind but [`Fault::Stuck`] leaves the gateway as it was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It could not be done. Exit status 1.
    Failed(Problem),
    /// The operator said no. Exit status 1.
    Declined,
    /// The command line is not usable. Exit status 2.
    Usage(String),
    /// The archive, the plan or the gateway is not acceptable. Exit status 3.
    Refused(Vec<Problem>),
    /// It went back; the gateway is as before. Exit status 4.
    RolledBack(Problem),
    /// The operator is needed. Exit status 5.
    Stuck(Problem),
    /// Another one runs, or an open restore must be recovered first. Exit status 6.
    Busy(Problem),
}

impl Fault {
    /// The exit status that tells this kind apart.
    pub fn exit_status(&self) -> u8 {
        match self {
            Fault::Failed(_) | Fault::Declined => 1,
            Fault::Usage(_) => 2,
            Fault::Refused(_) => 3,
            Fault::RolledBack(_) => 4,
            Fault::Stuck(_) => 5,
            Fault::Busy(_) => 6,
        }
    }

    /// What could not be done; nothing where it was not tried.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Fault::Failed(p) | Fault::RolledBack(p) | Fault::Stuck(p) | Fault::Busy(p) => {
                std::slice::from_ref(p)
            }
            Fault::Refused(problems) => problems,
            Fault::Declined | Fault::Usage(_) => &[],
        }
    }
}

impl Fault {
    /// Refused for this one reason.
    pub fn refused(problem: Problem) -> Fault {
        Fault::Refused(vec![problem])
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Fault {
        Fault::Failed(problem)
    }
}

/// A problem without a command: its cause, what could not be done and why (fits behind "cannot "), and what to do.
pub fn cannot(code: Code, what: impl Into<String>, advice: impl Into<String>) -> Problem {
    Problem::new(code, what, advice)
}

/// What only a fault in Holdfast explains.
pub fn bug(what: impl Into<String>) -> Problem {
    let advice = "this is a fault in holdfast; see `holdfast status`, and report it with the output of `holdfast journal show`";
    cannot(Code::INTERNAL, what, advice)
}

/// Why a call on a file failed.
pub fn cause(error: &io::Error) -> Code {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, _) => Code::NO_SPACE,
        (io::ErrorKind::ReadOnlyFilesystem, _) => Code::READ_ONLY,
        (io::ErrorKind::PermissionDenied, _) => Code::NO_RIGHTS,
        (io::ErrorKind::NotFound, _) => Code::NOT_THERE,
        (io::ErrorKind::CrossesDevices, _) => Code::CROSSES_MOUNTS,
        (_, Some(libc::EIO)) => Code::DISK_FAILS,
        (_, Some(libc::ELOOP | libc::ENOTDIR | libc::EISDIR)) => Code::WRONG_KIND,
        _ => Code::IO,
    }
}

/// A result whose error says why something could not be done.
pub trait OrCannot<T> {
    /// The same with a problem for an error: its cause, what could not be done, behind that why, and what to do. An error of a
    /// call on a file says itself which [`Code::IO`] it is.
    fn or_cannot(
        self,
        code: Code,
        what: impl fmt::Display,
        advice: impl Into<String>,
    ) -> Result<T, Problem>;
}

impl<T, E: fmt::Display + 'static> OrCannot<T> for Result<T, E> {
    fn or_cannot(
        self,
        code: Code,
        what: impl fmt::Display,
        advice: impl Into<String>,
    ) -> Result<T, Problem> {
        self.map_err(|why| {
            let said = <dyn Any>::downcast_ref::<io::Error>(&why);
            let said = said.filter(|_| code == Code::IO).map(cause);
            cannot(said.unwrap_or(code), format!("{what}: {why}"), advice)
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Declined => f.write_str("declined; nothing was changed"),
            Fault::Usage(text) => f.write_str(text),
            _ => {
                let texts: Vec<String> = self.problems().iter().map(Problem::to_string).collect();
                f.write_str(&texts.join("\n"))
            }
        }
    }
}

impl std::error::Error for Fault {}
