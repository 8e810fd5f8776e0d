//! Words and times as people read them.

use super::*;

#[test]
fn moments_and_times_read_as_people_say_them() {
    assert_eq!(moment(1_795_373_540_123), "2026-11-22 18:52:20 UTC");
    assert_eq!(time_of_day(1_795_373_540_123), "18:52:20");
    assert_eq!(
        [so_far(999), so_far(59_999), so_far(125_000)],
        ["0 s", "59 s", "2 min 5 s"]
    );
}
