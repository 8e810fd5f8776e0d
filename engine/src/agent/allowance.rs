//! How many backups a user may make on the page within an hour, by the profile. Owns the count, which an agent that starts again
//! begins anew; makes no backup.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use journal_format::{Problem, utc};

use super::locked;
use crate::error::{Code, cannot};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// When each user began a backup within the last hour.
#[derive(Default)]
pub struct Allowance {
    begun: Mutex<BTreeMap<String, VecDeque<Instant>>>,
}

impl Allowance {
    /// Counts one more backup of this user; refused where that would be too many. None is the limit 0.
    pub fn take(&self, user: &str, most: u64, now: (Instant, i64)) -> Result<(), Problem> {
        let (now, now_ms) = now;
        let mut begun = locked(&self.begun);
        begun.retain(|_, times| {
            times.retain(|at| now.duration_since(*at) < HOUR);
            !times.is_empty()
        });
        if most == 0 {
            return Ok(());
        }
        let times = begun.entry(user.into()).or_default();
        match times.front() {
            Some(first) if times.len() as u64 >= most => {
                let left = HOUR.saturating_sub(now.duration_since(*first));
                let left_ms = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
                // Whole seconds are told: not one too early.
                let next = utc(now_ms.saturating_add(left_ms).saturating_add(999));
                Err(cannot(
                    Code::BACKUP_LIMIT,
                    format!(
                        "make another backup for this user on the page: the profile allows {most} within an hour (limits.backups_an_hour)"
                    ),
                    format!(
                        "make it after {next}, when the page allows the next one; or run `holdfast backup` on the gateway, which has no such limit"
                    ),
                ))
            }
            Some(_) | None => {
                times.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_user_who_made_as_many_as_are_allowed_is_told_when_the_next_is() {
        let allowance = Allowance::default();
        let begin = Instant::now();
        let at = |minutes: u64| {
            let since = Duration::from_secs(60 * minutes);
            (begin + since, 1_795_373_540_000 + 60_000 * minutes as i64)
        };
        let take = |user: &str, minutes| allowance.take(user, 2, at(minutes));
        assert!(take("anna", 0).is_ok() && take("anna", 10).is_ok());
        let refused = take("anna", 30).unwrap_err();
        assert!(refused.is(&Code::BACKUP_LIMIT));
        assert!(
            refused.advice.contains("after 2026-11-22T19:52:20Z"),
            "{refused}"
        );
        assert!(take("bert", 30).is_ok(), "each user has their own");
        assert!(take("anna", 60).is_ok());
        let refused = take("anna", 61).unwrap_err();
        assert!(
            refused.advice.contains("after 2026-11-22T20:02:20Z"),
            "{refused}"
        );
        assert!((0..100).all(|n| allowance.take("anna", 0, at(n)).is_ok()));
    }
}
