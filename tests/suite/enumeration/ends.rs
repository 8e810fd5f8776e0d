//! What a crash may leave of a restore, and how recovery from there has to end.

use journal_format::{Phase, Policy, Verdict, scan};
use tests::oracle;
use tests::sim::disk::Disk;
use tests::sim::gateway::Scenario;
use tests::sim::host::Moment;
use tests::sim::trial::{End, Run, Start};
use tests::sim::world::World;

use super::tally::{STATE, Taken, Tally, all};

/// How much of what a power cut may leave is taken.
#[derive(Clone, Copy)]
pub enum Images {
    /// Everything unsynced lost, and everything kept.
    Two,
    /// Each write and rename alone besides, and the last write torn.
    Each,
}

/// What a crash at this moment may leave: the same boot goes on, or the power goes.
pub fn after_a_crash(s: &Scenario, moment: &Moment, images: Images) -> Vec<(String, World, bool)> {
    let most = match (images, all()) {
        (Images::Two, _) => 0,
        (Images::Each, false) => 4,
        (Images::Each, true) => 99,
    };
    let mut worlds = vec![("the process dies".to_owned(), moment.world.clone(), false)];
    let world = &moment.world;
    for (what, disk) in world.disk.images(most, &world.databases) {
        worlds.push((what, power_cut(s, world, disk), true));
    }
    worlds
}

/// The power goes and comes again. A gateway behind a barrier is not started.
pub fn power_cut(s: &Scenario, world: &World, disk: Disk) -> World {
    let mut world = world.reboot(disk);
    if world.disk.find(&s.places.barrier).is_none() {
        world.start_gateway();
    }
    world
}

/// Judges a run that should have come to an end, and recovers again.
pub fn ended(s: &Scenario, run: Run, booted: bool, place: &str, tally: &mut Tally) {
    let mut world = run.world;
    if world.disk.find(&s.places.barrier).is_none() && booted {
        world.start_gateway();
    }
    match &run.end {
        End::Closed(_) | End::Over | End::Idle => {
            let journal = oracle::Journal::of(s, &world);
            tally.count(&oracle::verdict(&journal).to_string());
            tally.judge(place, oracle::settled(s, &journal, &world, booted));
            let mut second = s.recover(world.clone(), Start::AUTO, None, false);
            if oracle::lacks(&journal) && second.end != End::Idle {
                // It tried again what lacks. Then nothing is left to do, unless it lacks still.
                let journal = oracle::Journal::of(s, &second.world);
                tally.judge(place, oracle::settled(s, &journal, &second.world, booted));
                if oracle::lacks(&journal) {
                    return;
                }
                world = second.world;
                second = s.recover(world.clone(), Start::AUTO, None, false);
            }
            tally.judge(place, oracle::i5_twice_is_once(&world, &second));
        }
        End::BeforeNetwork => {
            tally.judge(place, oracle::files_are_one_set(s, &world));
            ended(
                s,
                s.recover(world, Start::AUTO, None, false),
                booted,
                place,
                tally,
            );
        }
        End::Stuck(why) | End::Broken(why) => {
            tally.count("does not end");
            tally.judge(place, vec![format!("it does not end: {why}")]);
        }
    }
}

pub fn recovered(
    s: &Scenario,
    world: World,
    booted: bool,
    start: Start,
    place: &str,
    taken: &Taken,
    tally: &mut Tally,
) {
    if !taken.is_new(&world, booted, &start) {
        return;
    }
    ended(
        s,
        s.recover(world, start, None, false),
        booted,
        place,
        tally,
    );
}

/// Judges a run in which calls failed. What it left open is settled once nothing fails any more: by the recovery that it
/// hands over to, or, if it asks for the operator, by hand.
pub fn ended_in_trouble(
    s: &Scenario,
    run: Run,
    booted: bool,
    place: &str,
    taken: &Taken,
    tally: &mut Tally,
) {
    if !taken.is_new(&run.world, booted, &run.end) {
        return;
    }
    match &run.end {
        End::Closed(_) | End::Over | End::Idle | End::BeforeNetwork => {
            ended(s, run, booted, place, tally);
        }
        End::Broken(why) | End::Stuck(why) => {
            let journal = oracle::Journal::of(s, &run.world);
            if matches!(run.end, End::Stuck(_)) {
                tally.judge(place, oracle::stuck(s, &journal, &run.world, why));
            }
            let mut next = s.recover(run.world, Start::AUTO, None, false);
            if let End::Stuck(why) = &next.end {
                let journal = oracle::Journal::of(s, &next.world);
                tally.judge(place, oracle::stuck(s, &journal, &next.world, why));
                tally.asked += 1;
                next = s.recover(next.world, Start::ROLL_BACK, None, false);
            }
            ended(s, next, booted, place, tally);
        }
    }
}

/// How a recovery should end that finds this, if nothing disturbs it.
pub fn expected(s: &Scenario, world: &World, booted: bool, start: &Start) -> Option<Verdict> {
    let state = scan(&world.disk.read(&s.places.journal)?).state?;
    let have = world.picture(&[STATE]);
    let after = oracle::as_starts_left_it(s.after.clone(), world);
    // What lies beside a database that nobody can read may go once the gateway has started.
    let mut started = world.clone();
    started.start_gateway();
    let in_place = [&have, &started.picture(&[STATE])]
        .iter()
        .any(|picture| picture.databases == after.databases)
        && after
            .files
            .iter()
            .all(|(p, f)| have.files.get(p) == Some(f))
        && s.before
            .files
            .keys()
            .all(|p| after.files.contains_key(p) || !have.files.contains_key(p));
    let rebuilt = booted && state.phase == Phase::Forward;
    Some(match (state.verdict(), state.phase) {
        (Some(verdict), _) => verdict,
        (None, Phase::Committed) => Verdict::Restored,
        (None, Phase::Back) => Verdict::RolledBack,
        (None, _) if !state.has_effects() && !rebuilt => Verdict::NothingChanged,
        (None, _) => match start.policy.unwrap_or(state.plan?.policy) {
            Policy::Resume => Verdict::Restored,
            Policy::Auto if in_place => Verdict::Restored,
            Policy::Auto | Policy::RollBack => Verdict::RolledBack,
        },
    })
}
