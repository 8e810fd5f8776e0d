//! Whether this box can restore at all: the programs that a restore runs, and folders that can be written to. Looks only.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::{Code, Problem, cannot};
use crate::gateway::profile::{Profile, ServiceProfile};
use crate::host::{Family, Fixed, Kind, Look};
use crate::text::wording::quoted;

/// The programs that a restore runs, with the package that has them on Debian.
const PROGRAMS: [(&str, &str); 10] = [
    ("ip", "iproute2"),
    ("ip6tables-restore", "iptables"),
    ("ip6tables-save", "iptables"),
    ("iptables-restore", "iptables"),
    ("iptables-save", "iptables"),
    ("nft", "nftables"),
    ("sh", "dash"),
    ("unshare", "util-linux"),
    ("wg", "wireguard-tools"),
    ("wg-quick", "wireguard-tools"),
];

/// A program that this box lacks to try a family's rules: to load and print them, and to make a namespace for that.
pub fn lacks_to_rehearse(host: &dyn Look, family: Family) -> Option<&'static str> {
    let programs = match family {
        Family::V4 => ["iptables-save", "iptables-restore", "unshare"],
        Family::V6 => ["ip6tables-save", "ip6tables-restore", "unshare"],
    };
    programs.into_iter().find(|p| !host.has_program(p))
}

/// Every reason why a restore could not work on this box.
pub fn check(host: &dyn Look, profile: &Profile) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut packages = BTreeSet::new();
    let mut missing = Vec::new();
    for (program, package) in PROGRAMS {
        if !host.has_program(program) {
            missing.push(program);
            packages.insert(package);
        }
    }
    if profile
        .gateway
        .service
        .iter()
        .any(|s| matches!(s, ServiceProfile::Unit(_)))
        && !host.has_program("systemctl")
    {
        problems.push(cannot(
            Code::MISSING_PROGRAM,
            "drive the gateway's service: the profile names a systemd unit, and systemctl is not there",
            "give stop, start and active commands for the service in the profile",
        ));
    }
    if !missing.is_empty() {
        let packages: Vec<&str> = packages.into_iter().collect();
        problems.push(cannot(
            Code::MISSING_PROGRAM,
            format!("find {}", missing.join(", ")),
            format!(
                "install them; on Debian: apt-get install {}",
                packages.join(" ")
            ),
        ));
    }
    let gateway = &profile.gateway;
    let mut dirs: BTreeSet<PathBuf> = [
        &gateway.configs_dir,
        &gateway.wireguard_dir,
        &profile.state_dir,
    ]
    .into_iter()
    .cloned()
    .collect();
    dirs.extend(
        gateway
            .database
            .iter()
            .filter_map(|d| d.path.parent().map(PathBuf::from)),
    );
    let mut fixed = Vec::new();
    for dir in dirs {
        match (host.stat(&dir), host.fixed(&dir)) {
            (Ok(Some(meta)), Ok(Some(how)))
                if meta.kind == Kind::Dir && (how.immutable || how.append_only) =>
            {
                fixed.push((dir.display().to_string(), how));
            }
            (Ok(Some(meta)), _) if meta.kind == Kind::Dir => {
                if let Err(problem) = host.can_write(&dir) {
                    problems.push(problem);
                }
            }
            // What is not there is the survey's to name.
            (Ok(_), _) => {}
            (Err(problem), _) => problems.push(problem),
        }
    }
    problems.extend(fixed_in_place(&fixed));
    problems
}

/// One problem for all paths that are immutable or append-only; none if none is.
pub fn fixed_in_place(fixed: &[(String, Fixed)]) -> Option<Problem> {
    let how = |f: &Fixed| match f.immutable {
        true => "immutable",
        false => "append-only",
    };
    let said: Vec<String> = fixed
        .iter()
        .map(|(path, f)| format!("{path} is {}", how(f)))
        .collect();
    let with = |flag: &str, has: fn(&Fixed) -> bool| {
        let paths = fixed.iter().filter(|(_, f)| has(f));
        let paths: Vec<String> = paths.map(|(path, _)| quoted(path)).collect();
        (!paths.is_empty()).then(|| format!("chattr {flag} {}", paths.join(" ")))
    };
    let commands = [with("-i", |f| f.immutable), with("-a", |f| f.append_only)];
    let commands: Vec<String> = commands.into_iter().flatten().collect();
    (!said.is_empty()).then(|| {
        cannot(
            Code::FIXED_IN_PLACE,
            format!("replace files: {}", said.join(", ")),
            format!(
                "{}; then restore again, and set them anew afterwards",
                commands.join("; ")
            ),
        )
    })
}
