//! What the command line asks for.

use std::path::PathBuf;

use fixtures::{Result, Trouble};

pub const USAGE: &str = "\
usage: benches [--clients N,N...] [--runs N] [--tunnels N] [--padding MIB] [--only PART,PART...] [--dir DIR] [--json FILE]
  --clients  gateways of so many clients, up to 100000 [1000,10000]
  --runs     how often each side runs [5]
  --tunnels  tunnels that are up, for outage and viewers [20]
  --padding  size of the database whose memory is measured, 0 for none [1024]
  --only     backup, verify, restore, outage, idle, settle, files, viewers,
             padded, record [all]
  --dir      where the gateways are made [the temporary folder]
  --json     writes every figure there, too";

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Backup,
    Verify,
    Restore,
    Outage,
    Idle,
    Settle,
    Files,
    Viewers,
    Padded,
    Record,
}

/// How to measure.
#[derive(Debug)]
pub struct Options {
    pub clients: Vec<usize>,
    pub runs: usize,
    pub tunnels: usize,
    pub padding_mib: u64,
    pub only: Vec<Part>,
    pub dir: Option<PathBuf>,
    pub json: Option<PathBuf>,
}

/// What this program was started for.
pub enum Asked<'w> {
    /// To measure one command, as a child of its own.
    Measured {
        to: &'w str,
        argv: Vec<&'w str>,
    },
    Benches(Options),
    Help,
}

impl Options {
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

pub fn parse<'w>(words: &[&'w str]) -> Result<Asked<'w>> {
    if let ["--measured", to, argv @ ..] = words {
        return Ok(Asked::Measured {
            to,
            argv: argv.to_vec(),
        });
    }
    let mut options = Options {
        clients: vec![1_000, 10_000],
        runs: 5,
        tunnels: 20,
        padding_mib: 1024,
        only: Vec::new(),
        dir: None,
        json: None,
    };
    let mut rest = words;
    while let [option, more @ ..] = rest {
        if *option == "--help" {
            return Ok(Asked::Help);
        }
        let [value, more @ ..] = more else {
            return Err(Trouble::new(format!(
                "{option} needs a value, or is no option"
            )));
        };
        match *option {
            "--clients" => options.clients = value.split(',').map(number).collect::<Result<_>>()?,
            "--runs" => options.runs = number(value)?.max(1),
            "--tunnels" => options.tunnels = number(value)?,
            "--padding" => options.padding_mib = number(value)? as u64,
            "--only" => options.only = value.split(',').map(part).collect::<Result<_>>()?,
            "--dir" => options.dir = Some(value.into()),
            "--json" => options.json = Some(value.into()),
            _ => return Err(Trouble::new(format!("there is no option {option}"))),
        }
        rest = more;
    }
    Ok(Asked::Benches(options))
}

fn number(text: &str) -> Result<usize> {
    text.parse()
        .map_err(Trouble::at(format!("understand {text}")))
}

fn part(text: &str) -> Result<Part> {
    Ok(match text {
        "backup" => Part::Backup,
        "verify" => Part::Verify,
        "restore" => Part::Restore,
        "outage" => Part::Outage,
        "idle" => Part::Idle,
        "settle" => Part::Settle,
        "files" => Part::Files,
        "viewers" => Part::Viewers,
        "padded" => Part::Padded,
        "record" => Part::Record,
        _ => return Err(Trouble::new(format!("there is no part {text}"))),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_asked_is_understood_and_what_is_not_known_is_refused() {
        let words = ["--clients", "10,20", "--only", "backup,record"];
        let Asked::Benches(options) = parse(&words).unwrap() else {
            panic!("not understood");
        };
        assert_eq!(options.clients, [10, 20]);
        assert!(options.wants(Part::Record) && !options.wants(Part::Verify));
        assert!(parse(&["--runs"]).is_err());
        assert!(parse(&["--runs", "many"]).is_err());
        assert!(parse(&["--fast", "1"]).is_err());
    }
}
