//! Looks at what runs: services, tunnels, forwarding, the fence, and since when the journal says so. Changes nothing; knows nothing of
//! files. What cannot be asked is unknown, and no error.

use std::collections::BTreeSet;

use journal_format::{BootId, Plan, Service, State, Step};

use super::{FirstNames, Since, Traffic, UpAndDown};
use crate::error::{Code, Problem};
use crate::gateway::kernel_facts::Facts;
use crate::host::{ExitKind, Family, Look, Now, Output, Query, fence_is_closed};
use crate::text::wording::in_a_line;

/// Since when something is so, as the journal tells.
pub struct Times<'a> {
    /// The restore.
    pub state: Option<&'a State>,
    /// This moment.
    pub now: Now,
    /// Where it is looked.
    pub host: &'a dyn Look,
}

impl Times<'_> {
    /// Since a step did what another one has not undone.
    fn since(&self, step: Step, undone_by: Step) -> Option<Since> {
        let moves = &self.state?.moves;
        let undone = moves.iter().filter(|m| m.step == undone_by).map(|m| m.seq);
        let undone = undone.max();
        let begun = moves
            .iter()
            .filter(|m| m.step == step && undone.is_none_or(|undone| undone < m.seq));
        // Of a restore that is over, what is down did not come up: not when that was first tried.
        let not_undone = || {
            let over = self.state.and_then(State::verdict).is_some();
            let last = moves
                .iter()
                .filter(|m| m.step == undone_by && over)
                .max_by_key(|m| m.seq)?;
            let lacked = last.lacked.as_ref();
            Some(
                lacked.map_or((&last.boot, last.began_ms, last.began_up_ms), |first| {
                    (&first.boot, first.since_ms, first.since_up_ms)
                }),
            )
        };
        let begun = begun.min_by_key(|m| m.seq);
        let begun = begun.map(|m| (&m.boot, m.began_ms, m.began_up_ms));
        let (of_boot, at_ms, up_ms) = begun.or_else(not_undone)?;
        let boot = self.host.boot().ok()?;
        // Whatever it did, a boot that came behind it began with the gateway down.
        Some(match of_boot.as_ref() == Some(&boot) {
            true => Since {
                at_ms,
                age_ms: self.now.up_ms.saturating_sub(up_ms),
            },
            false => Since {
                at_ms: self.booted(&boot),
                age_ms: self.now.up_ms,
            },
        })
    }

    /// When the machine booted: by a record of this boot, if there is one, so that two looks tell the same moment. The clocks of now
    /// are read one after the other, and the wall clock may have been set meanwhile.
    fn booted(&self, boot: &BootId) -> i64 {
        let moves = self.state.into_iter().flat_map(|s| &s.moves);
        let mut here = moves.filter(|m| m.boot.as_ref() == Some(boot));
        let (at_ms, up_ms) = here.next().map_or((self.now.at_ms, self.now.up_ms), |m| {
            (m.began_ms, m.began_up_ms)
        });
        at_ms.saturating_sub_unsigned(up_ms)
    }
}

/// Which of these services run.
pub fn services_running(host: &dyn Look, services: &[Service], times: &Times) -> UpAndDown {
    let (mut up, mut down) = (0, Vec::new());
    for service in services {
        let asked = host.ask(&Query::ServiceActive(service.control.clone()), "");
        match asked.as_ref().map(|out| out.end) {
            Ok(ExitKind::Exit(0)) => up += 1,
            // What a shell says of a program that it cannot run, or not find.
            Ok(ExitKind::Exit(126 | 127) | ExitKind::Signal(_) | ExitKind::TimedOut) | Err(_) => {
                return UpAndDown::Unknown {
                    why: format!("{}: {}", service.name, why(asked)),
                };
            }
            Ok(ExitKind::Exit(_)) => down.push(&service.name),
        }
    }
    seen(up, &down, times, Step::StopServices, Step::StartServices)
}

/// Which tunnels are up, and which of these are not.
pub fn tunnels_running(host: &dyn Look, expected: &BTreeSet<String>, times: &Times) -> UpAndDown {
    let asked = host.ask(&Query::Tunnels, "");
    let Ok(out) = asked
        .as_ref()
        .map_err(|_| ())
        .and_then(|out| match out.ok() {
            true => Ok(&out.stdout),
            false => Err(()),
        })
    else {
        return UpAndDown::Unknown { why: why(asked) };
    };
    let up: BTreeSet<&str> = out.split_whitespace().collect();
    let down = expected.iter().filter(|name| !up.contains(name.as_str()));
    let down: Vec<&String> = down.collect();
    seen(up.len(), &down, times, Step::TunnelsDown, Step::TunnelsUp)
}

fn seen(up: usize, down: &[&String], times: &Times, by: Step, undone_by: Step) -> UpAndDown {
    UpAndDown::Seen {
        up,
        down: FirstNames::of(down),
        since: times.since(by, undone_by).filter(|_| !down.is_empty()),
    }
}

/// Whether the fence is closed.
pub fn traffic(host: &dyn Look, times: &Times) -> Traffic {
    match fence_is_closed(host) {
        Ok(true) => Traffic::Blocked {
            since: times.since(Step::Fence, Step::LiftFence),
        },
        Ok(false) => Traffic::Open,
        Err(why) => Traffic::Unknown {
            why: in_a_line(&why),
        },
    }
}

/// The protocols that the kernel does not forward, although it did before this restore or is to do so afterwards. `before` is what was
/// kept of the kernel, and read where something is off alone.
pub fn forwarding_off(
    host: &dyn Look,
    plan: &Plan,
    before: impl FnOnce() -> Facts,
) -> Vec<&'static str> {
    let is_off = |family: &Family| matches!(host.forwarding(*family), Ok(Some(false)));
    let off: Vec<Family> = Family::BOTH.into_iter().filter(is_off).collect();
    if off.is_empty() {
        return Vec::new();
    }
    let before = before();
    let is_wanted = |family: &Family| {
        let after = match family {
            Family::V4 => plan.firewall.ip_forward,
            Family::V6 => plan.firewall.ipv6_forward,
        };
        after == Some(true) || before.forwards(*family) == Some(true)
    };
    let off = off.into_iter().filter(is_wanted);
    off.map(|family| match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    })
    .collect()
}

/// Why something could not be asked.
fn why(asked: Result<Output, Problem>) -> String {
    in_a_line(&match asked {
        Ok(out) => out.problem(Code::QUERY_FAILED, "ask", ""),
        Err(problem) => problem,
    })
}
