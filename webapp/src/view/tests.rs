//! Words, times and sizes as people read them.

use super::*;

#[test]
fn moments_and_sizes_read_as_people_say_them() {
    assert_eq!(moment(1_795_373_540_123), "2026-11-22 18:52:20 UTC");
    assert_eq!(time_of_day(1_795_373_540_123), "18:52:20");
    assert_eq!(
        [so_far(999), so_far(59_999), so_far(125_000)],
        ["0 s", "59 s", "2 min 5 s"]
    );
    let sizes: Vec<_> = [0, 1023, 1024, 20 << 20, 3 << 30]
        .into_iter()
        .map(size)
        .collect();
    assert_eq!(
        sizes,
        ["0 bytes", "1023 bytes", "1.0 KiB", "20.0 MiB", "3.0 GiB"]
    );
}
