//! What a fresh driver finds undone or added, each by itself: it makes again what is the restore's own, with what it needs for
//! it, and leaves alone what others did.

use engine::restore::decide::ATTEMPTS;
use journal_format::{Code, Direction, Entry, Fate, Policy, Step, Verdict, scan};
use tests::oracle;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::Moment;
use tests::sim::peers::{self, Setting};
use tests::sim::trial::{End, Run, Start};
use tests::sim::world::World;

use super::scenario;

/// Whether this is the last that was begun, and so far.
fn is_at(s: &Scenario, world: &World, step: Step, direction: Direction, fate: Fate) -> bool {
    let journal = world.disk.read(&s.places.journal).unwrap_or_default();
    let moves = scan(&journal).state.map(|s| s.moves).unwrap_or_default();
    let last = moves.last();
    last.is_some_and(|m| m.step == step && m.direction == direction && m.fate == fate)
}

/// The world once this step is done, and nothing after it is begun.
fn done(s: &Scenario, step: Step) -> World {
    done_of(s, s.restore(None, true), step)
}

fn done_of(s: &Scenario, run: Run, step: Step) -> World {
    let is_done = |world: &World| is_at(s, world, step, Direction::Forward, Fate::Done);
    let moments = run.moments.into_iter();
    let mut worlds = moments.map(|m| m.world).filter(is_done);
    worlds.next().expect("such a moment")
}

fn attempts(s: &Scenario, run: &Run, step: Step, direction: Direction) -> u32 {
    let journal = run.world.disk.read(&s.places.journal).unwrap();
    let state = scan(&journal).state.unwrap();
    state.find(step, direction).map_or(0, |m| m.attempt)
}

#[test]
fn a_tunnel_that_came_up_again_goes_down_by_its_old_config_wherever_that_lies_now() {
    let s = scenario(Kind::Everything, Policy::Auto);
    // Of one the backup has no config, of the other it has another.
    for name in ["gone", "change"] {
        let mut world = done(&s, Step::SwapConfigs);
        let up = s.world.kernel.tunnels[name].clone();
        world.kernel.tunnels.insert(name.to_owned(), up);
        let run = s.recover(world, Start::AUTO, None, false);
        assert_eq!(run.end, End::Closed(Verdict::Restored), "{name}");
        assert_eq!(attempts(&s, &run, Step::TunnelsDown, Direction::Forward), 2);
        let journal = oracle::Journal::of(&s, &run.world);
        assert_eq!(oracle::settled(&s, &journal, &run.world, false), [""; 0]);
    }
}

#[test]
fn tunnels_up_that_was_cut_off_goes_down_by_the_configs_in_place_and_comes_up_wherever_it_was() {
    let mut s = scenario(Kind::Everything, Policy::Auto);
    // Then a hook that ran twice without its counterpart would show.
    s.world.adds_once = true;
    let forward = s.restore(None, true).moments;
    let world = done(&s, Step::LoadFirewall);
    let back = s.recover(world, Start::ROLL_BACK, None, true).moments;
    for (moments, direction, start, end) in [
        (
            forward,
            Direction::Forward,
            Start::RESUME,
            Verdict::Restored,
        ),
        (back, Direction::Back, Start::AUTO, Verdict::RolledBack),
    ] {
        let moments = moments.into_iter().map(|m| m.world);
        let cut_off = moments.filter(|w| is_at(&s, w, Step::TunnelsUp, direction, Fate::Open));
        let mut up = 0;
        for world in cut_off {
            let had = world.kernel.tunnels.clone();
            up += usize::from(!had.is_empty());
            let run = s.recover(world, start, None, false);
            assert_eq!(run.end, End::Closed(end), "{direction}: {had:#?}");
            assert!(attempts(&s, &run, Step::TunnelsUp, direction) > 1);
            let journal = oracle::Journal::of(&s, &run.world);
            let wrong = oracle::settled(&s, &journal, &run.world, false);
            assert_eq!(wrong, [""; 0], "{direction}: {had:#?}");
        }
        assert!(up > 5, "{direction}: only {up} moments with a tunnel up");
    }
}

#[test]
fn a_tunnel_that_was_down_before_the_restore_touched_any_is_not_owed_on_the_way_back() {
    let s = scenario(Kind::Everything, Policy::Auto);
    // It went by itself once the plan was made, and the application has taken note of that.
    let mut world = s.world.clone();
    world.kernel.tunnels.remove("gone").expect("it was up");
    let path = world.databases[0].clone();
    let text = world.disk.read(path.as_ref()).unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let text = text.replace("client gone active", "client gone inactive");
    world.disk.rewrite(path.as_ref(), text.into()).unwrap();
    let tunnels = world.kernel.tunnels.clone();
    let cut = done_of(
        &s,
        s.restore_on(world, None, true, None),
        Step::SettleDatabases,
    );
    let run = s.recover(cut, Start::AUTO, None, false);
    assert_eq!(run.end, End::Closed(Verdict::RolledBack));
    assert_eq!(run.world.kernel.tunnels, tunnels);
    let records = oracle::Journal::of(&s, &run.world).records;
    let said = records.iter().any(|r| match &r.entry {
        Entry::Done { warnings, .. } => warnings
            .iter()
            .any(|w| w.is(&Code::TUNNEL_WAS_DOWN) && w.name.as_deref() == Some("gone")),
        _ => false,
    });
    assert!(said, "nobody says so");
}

#[test]
fn a_tunnel_that_went_with_a_service_that_stopped_is_brought_up_on_the_way_back() {
    let s = scenario(Kind::Everything, Policy::Auto);
    for step in [Step::StopServices, Step::SettleDatabases] {
        // As where its unit is part of the service's, or the service's stop command takes it down.
        let mut world = done(&s, step);
        world.kernel.tunnels.remove("gone").expect("it was up");
        let run = s.recover(world, Start::AUTO, None, false);
        assert_eq!(run.end, End::Closed(Verdict::RolledBack), "{step}");
        let journal = oracle::Journal::of(&s, &run.world);
        assert_eq!(oracle::settled(&s, &journal, &run.world, false), [""; 0]);
    }
}

#[test]
fn a_tunnel_that_a_start_of_the_service_took_down_is_brought_up_also_where_the_restore_touched_none()
 {
    let s = scenario(Kind::Everything, Policy::Auto);
    let run = s.recover(done(&s, Step::StopServices), Start::AUTO, None, false);
    assert_eq!(run.end, End::Closed(Verdict::RolledBack));
    assert!(
        !run.world.called_inactive.is_empty(),
        "no start took one down"
    );
    assert_eq!(attempts(&s, &run, Step::TunnelsUp, Direction::Forward), 0);
    assert_eq!(attempts(&s, &run, Step::TunnelsUp, Direction::Back), 1);
    let journal = oracle::Journal::of(&s, &run.world);
    assert_eq!(oracle::settled(&s, &journal, &run.world, false), [""; 0]);
}

#[test]
fn a_peer_that_somebody_else_added_is_no_reason_to_make_a_step_again_and_stays() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let key = "bOTHZ3T2zYgKQ0fOzq1sWJVjK4Jq2m3XwzRr0H5b3Qw=";
    // One tunnel has peers that the plan sets, the other those of its config.
    for name in ["change", "stay"] {
        let mut world = done(&s, Step::LoadFirewall);
        let up = world.kernel.tunnels.get_mut(name).expect("it is up");
        peers::set(&mut up.peers, &Setting::plain(key, "10.252.0.0/16"));
        let run = s.recover(world, Start::AUTO, None, false);
        assert_eq!(run.end, End::Closed(Verdict::Restored), "{name}");
        assert_eq!(attempts(&s, &run, Step::TunnelsUp, Direction::Forward), 1);
        assert!(
            run.world.kernel.tunnels[name].peers.contains_key(key),
            "{name}"
        );
    }
}

#[test]
fn a_step_that_ends_its_driver_each_time_turns_the_restore_back() {
    let s = scenario(Kind::Everything, Policy::Resume);
    let mut run = s.restore(None, true);
    for killed in 1..=ATTEMPTS {
        let is_open = |m: &Moment| {
            is_at(
                &s,
                &m.world,
                Step::TunnelsUp,
                Direction::Forward,
                Fate::Open,
            )
        };
        let mut moments = run.moments.into_iter().rev();
        let cut_off = moments.find(is_open).expect("it is made again");
        run = s.recover(cut_off.world, Start::AUTO, None, true);
        let made = attempts(&s, &run, Step::TunnelsUp, Direction::Forward);
        assert_eq!(made, (killed + 1).min(ATTEMPTS));
    }
    assert_eq!(run.end, End::Closed(Verdict::RolledBack));
    let journal = oracle::Journal::of(&s, &run.world);
    assert_eq!(oracle::settled(&s, &journal, &run.world, false), [""; 0]);
}
