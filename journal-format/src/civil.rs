//! Times, durations and sizes as people read them. Owns the calendar arithmetic (UTC only) and no clock.

/// Milliseconds since 1970 UTC as RFC 3339 in whole seconds, as `2026-11-22T18:52:20Z`.
pub fn utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years are counted from March, so that the leap day is a year's last; 146,097 days make 400 years.
    let since_march_0 = days + 719_468;
    let (era, day_of_era) = (
        since_march_0.div_euclid(146_097),
        since_march_0.rem_euclid(146_097),
    );
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A moment as a backup has it, RFC 3339 with whatever fraction and offset, in milliseconds since 1970 UTC; none of a text that is
/// no moment, or that does not say in which zone.
pub fn moment_of(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok())?
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let fits = |(at, mark): &(usize, u8)| text.as_bytes().get(*at) == Some(mark);
    if !marks.iter().all(fits) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let behind = text.get(19..)?;
    let (fraction, zone) = behind.split_at(behind.find(['Z', '+', '-'])?);
    let milliseconds = match fraction.strip_prefix('.') {
        None if fraction.is_empty() => 0,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{digits:0<3}").get(..3)?.parse().ok()?
        }
        _ => return None,
    };
    let offset = match zone {
        "Z" => 0,
        zone => {
            let (sign, rest) = zone.split_at_checked(1)?;
            let (hours, minutes) = rest.split_once(':')?;
            let minutes =
                hours.parse::<u8>().ok()? as i64 * 60 + minutes.parse::<u8>().ok()? as i64;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    // The other way round than in `utc`.
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((((days * 24 + hour) * 60 + minute - offset) * 60 + second) * 1000 + milliseconds)
}

/// A moment as a backup has it, as [`utc`] writes moments; what is none stays as it is, made visible.
pub fn moment_in(text: &str) -> String {
    moment_of(text).map_or_else(|| crate::visible(text), utc)
}

/// A duration as `340 ms`, `1.2 s` or `2 min 5 s`.
pub fn duration(ms: u64) -> String {
    // Rounded to tenths before the unit is chosen, or 59.96 s would read as 60.0 s.
    let tenths = ms.saturating_add(50) / 100;
    if ms < 1000 {
        format!("{ms} ms")
    } else if tenths < 600 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else {
        format!("{} min {} s", tenths / 600, tenths % 600 / 10)
    }
}

/// A size as `12.3 MiB`.
pub fn size(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// How long ago a moment is, as `37 days ago`, in one unit that is not finer than it needs to be: `1 minute ago`, `just now`.
pub fn ago(then_ms: i64, now_ms: i64) -> String {
    let minutes = now_ms.saturating_sub(then_ms).div_euclid(60_000);
    let (n, unit) = match minutes {
        ..0 => return "in the future".into(),
        0 => return "just now".into(),
        1..120 => (minutes, "minute"),
        120..2_880 => (minutes / 60, "hour"),
        2_880..87_840 => (minutes / 1_440, "day"),
        87_840..1_051_200 => (minutes / 43_830, "month"),
        _ => (minutes / 525_960, "year"),
    };
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {unit}{s} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_as_they_should() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_800_000, "2000-03-01T00:00:00Z"),
            (1_795_373_540_123, "2026-11-22T18:52:20Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
            (-62_135_596_800_000, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }

    #[test]
    fn every_day_of_a_thousand_years_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1600, 1, 1);
        for days in -135_140_i64..230_000 {
            assert_eq!(
                utc(days * 86_400_000)[..10],
                format!("{year:04}-{month:02}-{day:02}")
            );
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + i32::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn the_ends_of_time_are_no_panic() {
        assert!(utc(i64::MAX).ends_with('Z'));
        assert!(utc(i64::MIN).ends_with('Z'));
        assert!(duration(u64::MAX).contains("min"));
    }

    #[test]
    fn sizes_have_one_decimal_of_the_largest_unit() {
        let sizes = [0, 1023, 1024, 20 << 20, 3 << 30].map(size);
        assert_eq!(
            sizes,
            ["0 bytes", "1023 bytes", "1.0 KiB", "20.0 MiB", "3.0 GiB"]
        );
    }

    #[test]
    fn a_moment_reads_the_same_whatever_its_fraction_and_offset() {
        for text in [
            "2026-11-22T18:52:20Z",
            "2026-11-22T18:52:20.618214+00:00",
            "2026-11-22T20:22:20.6+01:30",
            "2026-11-22T13:52:20-05:00",
        ] {
            assert_eq!(moment_in(text), "2026-11-22T18:52:20Z", "{text}");
        }
        assert_eq!(
            moment_of("2026-11-22T18:52:20.618214Z"),
            Some(1_795_373_540_618)
        );
        for days in -700_000..1_500_000 {
            let ms = days * 86_400_000;
            if (0..=9999).contains(&(1970 + days / 366)) && utc(ms).len() == 20 {
                assert_eq!(moment_of(&utc(ms)), Some(ms));
            }
        }
        for other in [
            "",
            "yesterday",
            "2026-11-22T18:52:20",
            "2026-13-22T18:52:20Z",
            "2026-11-22T18:52:20.x1Z",
            "2026-11-22T18:52:20+1",
            "2026-11-22T18:52:\u{e9}Z",
        ] {
            assert_eq!(moment_of(other), None, "{other}");
        }
        assert_eq!(moment_in("then\u{1b}"), "then\\u{1b}");
    }

    #[test]
    fn an_age_has_one_unit() {
        let (minute, hour, day) = (60_000, 3_600_000, 86_400_000);
        for (ms, text) in [
            (-1, "in the future"),
            (0, "just now"),
            (minute - 1, "just now"),
            (minute, "1 minute ago"),
            (119 * minute, "119 minutes ago"),
            (2 * hour, "2 hours ago"),
            (47 * hour, "47 hours ago"),
            (2 * day, "2 days ago"),
            (37 * day, "37 days ago"),
            (61 * day, "2 months ago"),
            (729 * day, "23 months ago"),
            (731 * day, "2 years ago"),
        ] {
            assert_eq!(ago(0, ms), text);
        }
        assert_eq!(ago(i64::MIN, i64::MAX), "292271023 years ago");
    }

    #[test]
    fn durations_carry_one_unit_or_two() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (1_240, "1.2 s"),
            (59_949, "59.9 s"),
            (59_960, "1 min 0 s"),
            (125_000, "2 min 5 s"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
