//! How long the commands of one move on tunnels may take, and what is said of one that was ended: a hook that hangs costs its
//! own tunnel, not the others, and not more than so much of an outage.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use journal_format::Tunnel;

use crate::error::Problem;
use crate::host::{ExitKind, GatewayCommand, Host, Output, Permit};
use crate::text::{redact, wg_config};

/// So many limits of one command may pass in a move for commands that hang.
const IN_ALL: u32 = 5;
/// Of what is left of that a command gets one part in so many, and never less than one in so many of its own limit: whatever
/// works needs a fraction of that.
const PART: u32 = 4;
const LEAST: u32 = 60;

/// What commands that hang have left of a move.
pub(super) struct TimeLeft {
    limit: Duration,
    left: Duration,
    hung: AtomicU32,
}

impl TimeLeft {
    /// Of a move that begins.
    pub(super) fn new(host: &dyn Host) -> TimeLeft {
        TimeLeft::of(host.tunnel_limit())
    }

    fn of(limit: Duration) -> TimeLeft {
        TimeLeft {
            limit,
            left: limit * IN_ALL,
            hung: AtomicU32::new(0),
        }
    }

    /// How long the next command may take.
    fn limit(&self) -> Duration {
        (self.left / PART).clamp(self.limit / LEAST, self.limit)
    }

    /// Runs a command on a tunnel.
    pub(super) fn run(
        &self,
        host: &dyn Host,
        permit: &Permit,
        command: impl FnOnce(Duration) -> GatewayCommand,
    ) -> Result<Output, Problem> {
        let out = host.run(permit, &command(self.limit()), "")?;
        if out.end == ExitKind::TimedOut {
            self.hung.fetch_add(1, Ordering::Relaxed);
        }
        Ok(out)
    }

    /// So many tunnels had their commands side by side: what these waited for was waited for at the same time.
    pub(super) fn passes(&mut self, side_by_side: usize) {
        let side_by_side = u32::try_from(side_by_side.max(1)).unwrap_or(u32::MAX);
        let hung = std::mem::take(self.hung.get_mut()).div_ceil(side_by_side);
        self.left = self.left.saturating_sub(self.limit() * hung);
    }

    /// What was ended at its limit, if this is how the command ended: the hook, where it was one.
    pub(super) fn ended(&self, tunnel: &Tunnel, config: &[u8], out: &Output) -> Option<String> {
        (out.end == ExitKind::TimedOut).then(|| {
            let what = hook_under_way(tunnel, config, &out.stderr);
            let what = match what {
                Some(key) => format!("{key} of {}", tunnel.name),
                None => out.shown.clone(),
            };
            format!("{what} was ended after {} s", self.limit().as_secs_f32())
        })
    }
}

/// `wg-quick` prints each command before it runs it: the key of the hook that came last.
fn hook_under_way(tunnel: &Tunnel, config: &[u8], said: &str) -> Option<String> {
    let config = wg_config::parse(&tunnel.name, config).ok()?;
    let last = said.lines().rev().find(|line| line.starts_with("[#] "))?;
    let mut hooks = config.interface.hooks.into_iter();
    let of = |hook: &[u8]| {
        let hook = String::from_utf8_lossy(hook).replace("%i", &tunnel.name);
        redact::said(&format!("[#] {hook}")) == last
    };
    Some(hooks.find(|(_, hook)| of(hook))?.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn however_many_commands_hang_they_wait_for_some_minutes_in_all() {
        let mut time_left = TimeLeft::of(LIMIT);
        let mut waited = Duration::ZERO;
        for n in 0..100 {
            let one = time_left.limit();
            assert!(n > 1 || one == LIMIT, "{n}: {one:?}");
            waited += one;
            *time_left.hung.get_mut() = 1;
            time_left.passes(1);
        }
        assert!(waited < LIMIT * 7, "{waited:?}");
        assert_eq!(time_left.limit(), LIMIT / 60);
    }

    #[test]
    fn what_hangs_side_by_side_is_waited_for_once_and_what_ends_costs_nothing() {
        let mut time_left = TimeLeft::of(LIMIT);
        time_left.passes(8);
        assert_eq!(time_left.left, LIMIT * IN_ALL);
        *time_left.hung.get_mut() = 8;
        time_left.passes(8);
        assert_eq!(time_left.left, LIMIT * (IN_ALL - 1));
    }

    #[test]
    fn the_hook_that_was_under_way_is_named_by_its_key() {
        let tunnel = Tunnel {
            name: "wg0".into(),
            config: "/etc/wireguard/wg0.conf".into(),
        };
        let config = b"[Interface]\nPostUp = true\nPostUp = sleep 1 %i\nPreDown = sleep 1\n";
        let under_way = |said| hook_under_way(&tunnel, config, said);
        let of = |key: &str| Some(key.to_owned());
        assert_eq!(
            under_way("[#] true\n[#] sleep 1 wg0\nit says\n"),
            of("PostUp")
        );
        assert_eq!(under_way("[#] sleep 1"), of("PreDown"));
        assert_eq!(under_way("[#] ip link add wg0 type wireguard"), None);
        assert_eq!(under_way(""), None);
    }
}
