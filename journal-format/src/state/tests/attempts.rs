//! What several attempts of one step add up to.
use crate::sample::*;
use crate::*;

#[test]
fn forward_an_attempt_that_ended_with_its_driver_counts_against_its_step() {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    for killed in 1..=3 {
        pen.begin(Step::TunnelsUp, Direction::Forward);
        pen.write(driver(Role::Recover, 0));
        assert_eq!(
            pen.state.attempts(Step::TunnelsUp, Direction::Forward),
            killed
        );
    }
}

#[test]
fn going_back_an_attempt_that_ended_with_its_driver_says_nothing_against_its_step() {
    let attempts = |pen: &Pen| pen.state.attempts(Step::Fence, Direction::Back);
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.turn();
    for killed in 1..=5 {
        pen.begin(Step::Fence, Direction::Back);
        assert_eq!(attempts(&pen), 1);
        pen.write(driver(Role::Recover, 0));
        // Another that ends before it does anything changes nothing.
        pen.write(driver(Role::Recover, 0));
        assert_eq!((attempts(&pen), pen.state.starts), (0, 1 + 2 * killed));
    }
    pen.fail(Step::Fence, Direction::Back);
    pen.write(driver(Role::Recover, 0));
    assert_eq!(attempts(&pen), 1);
    assert_eq!(pen.state.next_attempt(Step::Fence, Direction::Back), 7);
}

#[test]
fn what_every_clean_up_said_stays_said_and_a_lack_is_since_its_first_attempt() {
    let mut pen = Pen::newest();
    pen.arm();
    pen.forward_between(Step::Fence, Step::TunnelsUp);
    pen.turn();
    let note = |text: &str| Note::known(Code::FOUND_KEPT, text);
    let stays = |text: &str| Note::down(Code::STATUS_STAYS_CHANGED, text).about("anna");
    let clean_up = |pen: &mut Pen, warnings: &[Note]| {
        let r#move = pen.begin(Step::CleanUp, Direction::Back);
        let did = Vec::new();
        let warnings = warnings.to_vec();
        pen.write(Entry::Done {
            r#move,
            did,
            warnings,
        });
    };
    let said = |pen: &Pen| {
        let last = pen.state.find(Step::CleanUp, Direction::Back).unwrap();
        last.warnings
            .iter()
            .map(|n| n.text.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let lacks = |pen: &Pen| {
        pen.state
            .lacks()
            .iter()
            .map(|n| n.text.clone())
            .collect::<String>()
    };
    for step in plan().back.iter().filter(|s| **s != Step::CleanUp) {
        pen.step(*step, Direction::Back);
    }
    clean_up(&mut pen, &[note("one"), stays("locked")]);
    let first = pen
        .state
        .find(Step::CleanUp, Direction::Back)
        .unwrap()
        .began_up_ms;
    pen.write(driver(Role::Recover, 0));
    pen.begin(Step::CleanUp, Direction::Back);
    // Cut off it has said nothing new, and what lacked lacks.
    assert_eq!(said(&pen), "one, locked");
    assert_eq!(lacks(&pen), "locked");
    pen.write(driver(Role::Recover, 0));
    clean_up(&mut pen, &[note("two"), note("one"), stays("still")]);
    assert_eq!(said(&pen), "two, one, still");
    assert_eq!(lacks(&pen), "still");
    let last = pen.state.find(Step::CleanUp, Direction::Back).unwrap();
    let lacked = last.lacked.as_ref().unwrap();
    assert!(last.began_up_ms > first);
    assert_eq!(lacked.since_up_ms, first);
    clean_up(&mut pen, &[]);
    assert_eq!(said(&pen), "two, one");
    assert_eq!(lacks(&pen), "");
}
