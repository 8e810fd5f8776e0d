//! Which words to which program answer a query. Changes nothing that anybody sees: what is tried is tried in a network namespace
//! of its own.
#![expect(clippy::disallowed_methods, reason = "the programs that are asked")]

use std::path::Path;

use journal_format::Control;

use super::{COMMAND_LIMIT, is_gone, on_path, words};
use crate::error::{Code, Problem, cannot};
use crate::files::open::errno;
use crate::host::programs::{execute, execute_exactly};
use crate::host::{ExitKind, Family, Output, Query};

/// Long: a table, one arm a query.
pub(super) fn ask(query: &Query, input: &str) -> Result<Output, Problem> {
    let argv: Vec<String> = match query {
        Query::Rules(Family::V4) => words(&["iptables-save"]),
        Query::Rules(Family::V6) => words(&["ip6tables-save"]),
        Query::LegacyRules(family) => match legacy_rules(*family)? {
            (program, false) => return Ok(nothing(program)),
            (program, true) => words(&[program]),
        },
        Query::Rehearse(family) => rehearse(*family),
        Query::Tunnels => words(&["wg", "show", "interfaces"]),
        Query::Peers => words(&["wg", "show", "all", "dump"]),
        Query::ListenPorts => words(&["wg", "show", "all", "listen-port"]),
        Query::Links => words(&["ip", "-o", "link", "show"]),
        Query::Addresses => words(&["ip", "-o", "address", "show"]),
        Query::Routes => words(&["ip", "-o", "route", "show", "table", "all"]),
        Query::ServiceActive(Control::Unit(unit)) => {
            words(&["systemctl", "is-active", "--quiet", "--", unit])
        }
        Query::ServiceState(Control::Unit(unit)) => words(&[
            "systemctl",
            "show",
            "--property=ActiveState",
            "--value",
            "--",
            unit,
        ]),
        Query::ServiceRun(Control::Unit(unit)) => words(&[
            "systemctl",
            "show",
            "--property=InvocationID,NRestarts",
            "--",
            unit,
        ]),
        Query::ServiceActive(Control::Commands { active, .. })
        | Query::ServiceRun(Control::Commands { active, .. })
        | Query::ServiceState(Control::Commands { active, .. }) => active.clone(),
        Query::ServiceSettings(unit) => words(&[
            "systemctl",
            "show",
            "--property=Environment,EnvironmentFiles,ExecStart,WorkingDirectory,MainPID,ControlGroup,LoadState,TimeoutStartUSec",
            "--",
            unit,
        ]),
        Query::RealPath(path) => words(&[
            "readlink",
            "-e",
            "-v",
            "-z",
            "--",
            &path.display().to_string(),
        ]),
        Query::Fence => words(&[
            "nft",
            "list",
            "table",
            "inet",
            crate::text::fence_rules::TABLE,
        ]),
        Query::NftTables if !on_path("nft") => {
            return match Path::new("/sys/module/nf_tables").exists() {
                false => Ok(nothing("nft list tables")),
                true => Err(cannot(
                    Code::MISSING_PROGRAM,
                    "list the tables of nft: there is no nft",
                    "install nftables",
                )),
            };
        }
        Query::NftTables => words(&["nft", "list", "tables"]),
        Query::Firewalld => {
            let asks = [
                "systemctl",
                "is-active",
                "--quiet",
                "--",
                "firewalld.service",
            ];
            if !on_path("firewalld") {
                let end = ExitKind::Exit(4);
                return Ok(Output {
                    end,
                    ..nothing(&asks.join(" "))
                });
            }
            words(&asks)
        }
        // Asking the program itself would load the module.
        Query::Sets if !Path::new("/sys/module/ip_set").exists() => {
            return Ok(nothing("ipset list -name"));
        }
        Query::Sets if !on_path("ipset") => {
            return Err(cannot(
                Code::MISSING_PROGRAM,
                "list the sets of ipset: there is no ipset",
                "install ipset",
            ));
        }
        Query::Sets => words(&["ipset", "list", "-name"]),
    };
    let exactly = matches!(
        query,
        Query::Rules(_) | Query::LegacyRules(_) | Query::Rehearse(_)
    );
    let run = if exactly { execute_exactly } else { execute };
    let mut out = run(&argv, input, COMMAND_LIMIT)?;
    if let Query::Rehearse(family) = query {
        let (save, restore) = tools(*family);
        out.shown = format!("unshare --net -- sh -c '{restore} && {save}'");
    }
    Ok(out)
}

/// Whether this `iptables-save` is the legacy backend's itself: then it shows what that has.
fn is_legacy(save: &str) -> Result<bool, Problem> {
    let version = execute(&words(&[save, "--version"]), "", COMMAND_LIMIT)?;
    // `iptables-save v1.8.9 (nf_tables)`; what is older than both has no word there.
    let version = version.expect_ok(
        Code::QUERY_FAILED,
        "ask which backend iptables has",
        "install iptables",
    )?;
    Ok(!version.contains("nf_tables"))
}

/// Whether there can be sets of addresses. Asking the program itself would load the module.
fn may_have_sets() -> bool {
    Path::new("/sys/module/ip_set").exists() && on_path("ipset")
}

/// The answer of a program that is not asked, since there is nothing that it could tell.
fn nothing(program: &str) -> Output {
    Output {
        shown: program.into(),
        end: ExitKind::Exit(0),
        stdout: String::new(),
        stderr: String::new(),
    }
}

/// The programs that print a family's rules, and load them.
fn tools(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("iptables-save", "iptables-restore"),
        Family::V6 => ("ip6tables-save", "ip6tables-restore"),
    }
}

/// The program that shows the rules of the legacy backend, and whether there are any to show.
fn legacy_rules(family: Family) -> Result<(&'static str, bool), Problem> {
    let (names, program) = match family {
        Family::V4 => ("/proc/net/ip_tables_names", "iptables-legacy-save"),
        Family::V6 => ("/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
    };
    // Asking the program itself would load the module and make its tables.
    let tables = match std::fs::read_to_string(names) {
        Ok(tables) => tables,
        Err(e) if is_gone(&e) => String::new(),
        Err(e) => return Err(errno("read", Path::new(names), e)),
    };
    if tables.trim().is_empty() || !on_path(program) && is_legacy(tools(family).0)? {
        return Ok((program, false));
    }
    if !on_path(program) {
        return Err(cannot(
            Code::MISSING_PROGRAM,
            format!(
                "see the rules of the legacy backend: it has tables ({}), and there is no {program} to show them",
                tables.split_whitespace().collect::<Vec<_>>().join(", ")
            ),
            format!(
                "install {program}; or, where nobody uses those tables, unload their modules (rmmod)"
            ),
        ));
    }
    Ok((program, true))
}

/// Constant text: nothing is put into it. Rules may name sets, which are a namespace's own: empty ones will do.
fn rehearse(family: Family) -> Vec<String> {
    let (save, restore) = tools(family);
    let load = format!("{restore} && exec {save}");
    match may_have_sets() {
        false => words(&["unshare", "--net", "--", "sh", "-c", &load]),
        true => words(&[
            "sh",
            "-c",
            &format!(
                "sets=$(ipset save 2>/dev/null | grep '^create '); \
                 exec unshare --net -- sh -c \
                 '[ -z \"$1\" ] || printf \"%s\\n\" \"$1\" | ipset restore; {load}' sh \"$sets\""
            ),
        ]),
    }
}
