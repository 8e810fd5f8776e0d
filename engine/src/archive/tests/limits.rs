//! The bounds on entries and bytes, which hold by what really comes.

use super::*;

#[test]
fn more_entries_than_the_limit_are_refused_before_they_are_read() {
    let limits = Limits {
        entries: 1,
        ..Limits::default()
    };
    let Err(Fault::Refused(problems)) = open_with(&with(&[]).bytes, &limits) else {
        panic!("not refused")
    };
    assert_eq!(problems[0].code, Some(Code::ARCHIVE_TOO_LARGE));
}

#[test]
fn huge_declared_sizes_are_refused_and_nothing_is_allocated_for_them() {
    let mut entry = Raw::new("configs/b.conf", CONFIG);
    entry.declared = Some(u32::MAX - 1);
    assert_refused(
        &with(&[entry.clone(), entry]).bytes,
        "the limit is 4096 MiB",
    );
}

#[test]
fn a_bomb_is_refused_by_the_bytes_that_really_come() {
    let bomb = deflated("configs/a.conf", &vec![0u8; 3 << 20]);
    let limits = Limits {
        unpacked_mib: 1,
        ..Limits::default()
    };
    assert!(
        matches!(open_with(&bomb, &limits), Err(Fault::Refused(_))),
        "the declared size is over the limit"
    );
    // The same, declaring a size that is allowed.
    let mut lying = bomb;
    let small = 1000u32.to_le_bytes();
    let honest = (3u32 << 20).to_le_bytes();
    let places: Vec<usize> = lying
        .windows(4)
        .enumerate()
        .filter(|(_, w)| *w == honest)
        .map(|(i, _)| i)
        .collect();
    assert_eq!(places.len(), 2, "one in each header");
    for at in places {
        lying[at..at + 4].copy_from_slice(&small);
    }
    let archive = open_with(&lying, &limits).unwrap();
    let Err(Fault::Refused(problems)) = archive.copy("configs/a.conf", &mut io::sink()) else {
        panic!("not refused")
    };
    assert_eq!(problems[0].code, Some(Code::ARCHIVE_DAMAGED));
    assert!(
        archive.inflated.all.load(Ordering::Relaxed) < 1 << 20,
        "it stopped early"
    );
}

#[test]
fn copying_twice_costs_the_limit_once() {
    let zip = deflated("configs/a.conf", &vec![b'#'; 700 << 10]);
    let archive = open_with(
        &zip,
        &Limits {
            unpacked_mib: 1,
            ..Limits::default()
        },
    )
    .unwrap();
    for _ in 0..3 {
        archive.copy("configs/a.conf", &mut io::sink()).unwrap();
    }
}
