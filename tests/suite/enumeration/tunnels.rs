//! Tunnels that cannot be brought up: what is named and nothing else is down, and everything else is one set's.

use journal_format::Plan;
use tests::sim::host::step_of;
use tests::sim::trial::Run;

use super::*;

/// A gateway on which these tunnels cannot be brought up any more.
fn without(tunnels: &[&str]) -> Scenario {
    let mut s = scenario(Kind::Everything, Policy::Auto);
    let names = tunnels.iter().map(|name| (*name).to_owned());
    s.world.cannot_come_up = names.collect();
    s
}

/// The verdict, and the tunnels that it names as down.
fn lacks(s: &Scenario, run: &Run) -> (Option<Verdict>, Vec<String>) {
    let journal = run.world.disk.read(&s.places.journal).unwrap();
    let state = journal_format::scan(&journal).state.unwrap();
    let lacks = state.lacks().into_iter();
    let tunnels = lacks.filter(|l| l.is(&journal_format::Code::TUNNEL_STAYS_DOWN));
    (state.verdict(), tunnels.filter_map(|l| l.name).collect())
}

#[test]
fn forward_a_tunnel_that_is_down_now_may_stay_down_and_one_that_is_up_turns_it_back() {
    let s = without(&["new"]);
    let run = s.restore(None, false);
    assert_eq!(
        lacks(&s, &run),
        (Some(Verdict::Restored), vec!["new".to_owned()])
    );
    let journal = oracle::Journal::of(&s, &run.world);
    assert_eq!(oracle::settled(&s, &journal, &run.world, false), [""; 0]);
    let s = without(&["stay"]);
    let run = s.restore(None, false);
    assert_eq!(
        lacks(&s, &run),
        (Some(Verdict::RolledBack), vec!["stay".to_owned()])
    );
    let journal = oracle::Journal::of(&s, &run.world);
    assert_eq!(oracle::settled(&s, &journal, &run.world, false), [""; 0]);
}

#[test]
fn forward_a_tunnel_that_is_up_now_may_stay_down_where_the_plan_says_so() {
    let mut s = without(&["stay"]);
    let mut plan = Plan::clone(&s.plan);
    plan.may_stay_down.push("stay".into());
    s.plan = plan.into();
    let run = s.restore(None, false);
    assert_eq!(
        lacks(&s, &run),
        (Some(Verdict::Restored), vec!["stay".to_owned()])
    );
    let journal = oracle::Journal::of(&s, &run.world);
    assert_eq!(oracle::settled(&s, &journal, &run.world, false), [""; 0]);
}

#[test]
fn after_a_crash_a_tunnel_that_cannot_come_up_lacks_alone_and_nothing_is_stuck() {
    let s = without(&["stay", "new"]);
    let moments = every(s.restore(None, true).moments, if all() { 1 } else { 7 });
    let total = each(&moments, |moment, tally| {
        for (image, world, booted) in after_a_crash(&s, moment, Images::Two) {
            let place = format!("after `{}`, {image}", moment.what);
            let run = s.recover(world, Start::AUTO, None, false);
            let mut world = run.world;
            if world.disk.find(&s.places.barrier).is_none() && booted {
                world.start_gateway();
            }
            let journal = oracle::Journal::of(&s, &world);
            let wrong = match &run.end {
                End::Closed(_) | End::Over | End::Idle => {
                    oracle::settled(&s, &journal, &world, booted)
                }
                other => vec![format!("it ended {other:?}")],
            };
            tally.count(&oracle::verdict(&journal).to_string());
            tally.judge(&place, wrong);
        }
    });
    assert_eq!(total.wrong, BTreeMap::new());
    let came = |v: Verdict| total.counts.contains_key(&v.to_string());
    assert!(came(Verdict::RolledBack), "{:?}", total.counts);
}

#[test]
fn one_that_a_service_brings_up_after_all_is_no_lack() {
    let s = without(&["new"]);
    // What was missing is there again once the services start.
    let mut world = s.begun(Step::StartServices).unwrap();
    world.cannot_come_up.clear();
    let run = s.recover(world, Start::RESUME, None, false);
    assert_eq!(lacks(&s, &run), (Some(Verdict::Restored), Vec::new()));
    let journal = oracle::Journal::of(&s, &run.world);
    assert_eq!(oracle::settled(&s, &journal, &run.world, false), [""; 0]);
}

#[test]
fn what_was_set_by_hand_is_set_again_on_the_way_back_although_one_call_fails_whichever() {
    let s = scenario(Kind::PartsMissing, Policy::Auto);
    let had = s.world.kernel.tunnels["stay"].by_hand.clone();
    assert_ne!(had, Default::default());
    let back = s.restore_on(s.world.clone(), None, true, Some(31));
    let is_coming_up = |m: &Moment| {
        let journal = m.world.disk.read(&s.places.journal).unwrap_or_default();
        step_of(&journal) == "tunnels-up back"
    };
    let mut moments = back.moments.into_iter();
    let world = moments.find(is_coming_up).expect("it comes up again").world;
    let recover = |trouble| s.recover(world.clone(), Start::AUTO, trouble, false);
    let calls: Vec<u64> = (0..recover(None).calls).collect();
    let tally = each(&calls, |at, tally| {
        let run = recover(Some(Trouble {
            at: *at,
            for_ever: false,
            how: How::AfterTheFact,
        }));
        if run.end == End::Closed(Verdict::RolledBack) {
            tally.count("rolled back");
            let is_there = run.world.kernel.tunnels["stay"].by_hand == had;
            tally.judge(
                "",
                (!is_there).then(|| format!("{at}")).into_iter().collect(),
            );
        }
    });
    assert!(tally.states() > 20, "{}", tally.states());
    assert_eq!(tally.wrong, BTreeMap::new());
}
