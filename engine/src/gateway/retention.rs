//! How long backups of each kind, and past restores, are kept: the profile's rules, and which things of one kind a rule keeps. Pure;
//! removes nothing.

use std::collections::HashSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::backup_kind::BackupKind;

const DAY_MS: i64 = 86_400_000;
/// What is kept where the profile says nothing, days.
const DAYS: u32 = 7;
/// And so many at least, whatever the clock says: one that runs ahead, or a long outage, makes all of them old at once.
const LAST: u32 = 3;

/// `[retention]` of the profile: a rule for each kind of backup, and one for past restores.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Backups made with `holdfast backup`.
    pub by_hand: KeepRule,
    /// Backups made on the page.
    pub page: KeepRule,
    /// Backups made by the timer.
    pub scheduled: KeepRule,
    /// Backups that restores made.
    pub safety: KeepRule,
    /// What restores that are over keep: journals and old files.
    pub restores: KeepRule,
}

impl Default for Retention {
    fn default() -> Retention {
        let days = KeepRule {
            last: LAST,
            within_days: DAYS,
            ..KeepRule::default()
        };
        Retention {
            by_hand: KeepRule::default(),
            page: days,
            scheduled: days,
            safety: days,
            restores: days,
        }
    }
}

impl Retention {
    /// The rule for backups of a kind.
    pub fn of(&self, kind: BackupKind) -> &KeepRule {
        match kind {
            BackupKind::ByHand => &self.by_hand,
            BackupKind::Page => &self.page,
            BackupKind::Scheduled => &self.scheduled,
            BackupKind::Safety => &self.safety,
        }
    }
}

/// What is kept of one kind: whatever any of these keeps. Without any of them all is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeepRule {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of so many local days that have one.
    pub daily: u32,
    /// The newest of each of so many ISO weeks that have one.
    pub weekly: u32,
    /// The newest of each of so many local months that have one.
    pub monthly: u32,
    /// All that are younger than so many times 24 hours.
    pub within_days: u32,
}

/// A period of the calendar, to tell whether two moments are in the same one.
type Period = (i64, i64);
/// Tells in which period of one length a moment is.
type PeriodOf = fn(&jiff::Zoned) -> Period;

impl KeepRule {
    /// Nothing is ever removed.
    pub fn keeps_all(&self) -> bool {
        *self == KeepRule::default()
    }

    /// Whether each is kept. `made_ms` has when each was made, in milliseconds since 1970 UTC, in the order in which they were made, the
    /// newest first: the order is known better than the time, since a clock may have been wrong. What the clock says is yet to be
    /// made is kept and takes no other's place.
    pub fn kept(&self, made_ms: &[i64], now_ms: i64, zone: &TimeZone) -> Vec<bool> {
        if self.keeps_all() {
            return vec![true; made_ms.len()];
        }
        let mut kept: Vec<bool> = made_ms
            .iter()
            .map(|made| {
                *made > now_ms
                    || now_ms.saturating_sub(*made) < i64::from(self.within_days) * DAY_MS
            })
            .collect();
        let past = || (0..made_ms.len()).filter(|i| made_ms[*i] <= now_ms);
        for place in past().take(self.last as usize) {
            kept[place] = true;
        }
        let periods: [(u32, PeriodOf); 3] = [
            (self.daily, |at| (at.year().into(), at.day_of_year().into())),
            (self.weekly, |at| {
                let week = at.date().iso_week_date();
                (week.year().into(), week.week().into())
            }),
            (self.monthly, |at| (at.year().into(), at.month().into())),
        ];
        for (most, period) in periods {
            let mut seen = HashSet::new();
            for place in past() {
                let Ok(at) = Timestamp::from_millisecond(made_ms[place]) else {
                    // No clock that ever ran: nothing is known of it.
                    kept[place] = true;
                    continue;
                };
                let first = !seen.contains(&period(&at.to_zoned(zone.clone())));
                if first && seen.len() < most as usize {
                    seen.insert(period(&at.to_zoned(zone.clone())));
                    kept[place] = true;
                }
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    /// The rule in the plainest words: for each calendar period the newest of it, then so many of the newest of those.
    fn plainly(rule: KeepRule, made: &[i64], now: i64, zone: &TimeZone) -> Vec<i64> {
        let local = |ms: i64| {
            Timestamp::from_millisecond(ms)
                .unwrap()
                .to_zoned(zone.clone())
        };
        let mut newest_of: [BTreeMap<String, i64>; 3] = Default::default();
        for ms in made {
            let at = local(*ms);
            let week = at.date().iso_week_date();
            let names = [
                at.strftime("%Y-%m-%d").to_string(),
                format!("{:05}-{:02}", week.year(), week.week()),
                at.strftime("%Y-%m").to_string(),
            ];
            for (periods, name) in newest_of.iter_mut().zip(names) {
                let newest = periods.entry(name).or_insert(*ms);
                *newest = (*newest).max(*ms);
            }
        }
        let mut kept: Vec<i64> = made
            .iter()
            .rev()
            .take(rule.last as usize)
            .copied()
            .collect();
        for (periods, most) in newest_of
            .iter()
            .zip([rule.daily, rule.weekly, rule.monthly])
        {
            kept.extend(periods.values().rev().take(most as usize));
        }
        let within = |ms: &&i64| now - **ms < i64::from(rule.within_days) * DAY_MS;
        kept.extend(made.iter().filter(within));
        if rule == KeepRule::default() {
            kept.extend(made);
        }
        kept.sort_unstable();
        kept.dedup();
        kept
    }

    fn zones() -> Vec<TimeZone> {
        // A fixed zone; one whose clocks jump, by its rule alone; and the day that begins elsewhere.
        ["UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "<-11>11", "<+14>-14"]
            .map(|name| TimeZone::posix(name).unwrap())
            .into()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn over_a_year_exactly_what_the_rule_says_is_kept_however_often_it_is_applied(
            hours in proptest::collection::vec(1_i64..80, 1..300),
            rule in (0..4_u32, 0..10_u32, 0..6_u32, 0..5_u32, 0..20_u32),
            zone in 0..4_usize,
            every in 10..60_usize,
        ) {
            let zone = &zones()[zone];
            let (last, daily, weekly, monthly, within_days) = rule;
            let rule = KeepRule { last, daily, weekly, monthly, within_days };
            // 2026-01-01 at noon: so over a turn of the year, and of ISO's, which is another.
            let mut now = 1_767_268_800_000;
            let (mut all, mut there): (Vec<i64>, Vec<i64>) = Default::default();
            for (n, hours) in hours.iter().enumerate() {
                now += hours * HOUR_MS;
                all.push(now);
                there.push(now);
                if n % every != 0 {
                    continue;
                }
                let newest_first: Vec<i64> = there.iter().rev().copied().collect();
                let kept = rule.kept(&newest_first, now, zone);
                prop_assert_eq!(
                    newest_first.iter().zip(&kept).filter(|(_, k)| **k).map(|(ms, _)| *ms).rev().collect::<Vec<_>>(),
                    plainly(rule, &there, now, zone)
                );
                there = newest_first.into_iter().zip(kept).filter(|(_, k)| *k).map(|(ms, _)| ms).rev().collect();
                // The newest of a period is kept as long as any of it is: what was removed before is missed by no later rule.
                let of_all = plainly(rule, &all, now, zone);
                prop_assert!(of_all.iter().all(|ms| there.contains(ms)));
            }
        }
    }

    #[test]
    fn a_clock_that_was_wrong_takes_nobodys_place() {
        let rule = KeepRule {
            last: 1,
            ..KeepRule::default()
        };
        let (now, zone) = (1_000 * DAY_MS, &TimeZone::UTC);
        // The newest first: one of today, then two of when the clock stood at 2036.
        let made = [now, 9_000 * DAY_MS, 9_001 * DAY_MS, now - DAY_MS];
        assert_eq!(rule.kept(&made, now, zone), [true, true, true, false]);
        // It was set back by a year: the newest is still the one made last.
        let made = [now - 365 * DAY_MS, now];
        assert_eq!(rule.kept(&made, now, zone), [true, false]);
        assert_eq!(rule.kept(&[i64::MIN], now, zone), [true]);
    }

    #[test]
    fn without_a_rule_all_is_kept_and_what_is_made_by_hand_has_none() {
        let retention = Retention::default();
        for kind in BackupKind::ALL {
            let rule = retention.of(kind);
            assert_eq!(rule.keeps_all(), kind == BackupKind::ByHand);
            let kept = rule.kept(&[3, 2, 1, 0], 100 * DAY_MS, &TimeZone::UTC);
            assert_eq!(kept, [true, true, true, rule.keeps_all()]);
        }
    }
}
