//! A journal that an older Holdfast began is gone on with, and says no more than its own version knows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use engine::error::{Code, cannot};
use engine::gateway::profile::Profile;
use engine::host::linux::Linux;
use engine::restore::journal::JournalWriter;
use journal_format::{Direction, Driver, Fate, Format, Move, Problem, Role, Step, scan};

/// Those of 1.0 that are open: cut off by the power, with a record cut off, waiting for the operator.
const OPEN: [&[u8]; 3] = [
    include_bytes!("../../journal-format/golden/1.0/open.journal"),
    include_bytes!("../../journal-format/golden/1.0/torn.journal"),
    include_bytes!("../../journal-format/golden/1.0/stuck.journal"),
];

fn trouble() -> Problem {
    Problem {
        about: vec!["wg0".into()],
        ..cannot(Code::TUNNEL_DOES_NOT_COME_UP, "bring wg0 up", "look")
    }
}

#[test]
fn a_problem_in_a_journal_that_began_as_1_0_has_no_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let host = Linux::new(&Profile::default());
    for open in OPEN {
        std::fs::write(&path, open).unwrap();
        let before = scan(open);
        let kept = before.valid_len;
        let state = before.state.clone().unwrap();
        assert_eq!(state.header.format, Format::FIRST);
        let driver = Driver {
            role: Role::RecoverByHand,
            ..state.driver.clone().unwrap()
        };
        let mut journal = JournalWriter::reopen(&host, &path, open, before, driver).unwrap();
        if state.turned.is_none() {
            journal.turn(trouble()).unwrap();
        }
        let fence = Move {
            step: Step::Fence,
            direction: Direction::Back,
            attempt: journal.state().next_attempt(Step::Fence, Direction::Back),
        };
        let permit = journal.intend(fence, Vec::new()).unwrap();
        journal.settle(permit, Err(trouble())).unwrap();
        journal.stuck(trouble()).unwrap();
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        let found = scan(&bytes);
        let state = found.state.unwrap();
        let failed = state.find(Step::Fence, Direction::Back).unwrap();
        assert_eq!(failed.fate, Fate::Failed);
        let told = failed.problem.as_ref().unwrap();
        assert_eq!((told.what.as_str(), &told.code), ("bring wg0 up", &None));
        let added = String::from_utf8_lossy(&bytes[kept..]);
        assert_eq!(
            added.matches("bring wg0 up").count(),
            added.matches(r#""problem":"#).count()
        );
        for key in [r#""code""#, r#""about""#] {
            assert!(!added.contains(key), "{added}");
        }
    }
}
