//! The judges of the invariants, by their names. Each looks at a world after a run and says what is wrong, a line each;
//! none of them changes anything.

use std::collections::BTreeMap;

use engine::host::Family;
use engine::restore::decide::{ATTEMPTS, STARTS};
use journal_format::{Change, Code, Direction, Entry, Role, Soundness, Step, Verdict};

use crate::sim::gateway::{SECRET, Scenario};
use crate::sim::trial::{End, Run};
use crate::sim::world::{CalledInactive, Picture, World, rules_of};

mod journal;
mod tunnels;

pub use journal::Journal;

const STATE: &str = "/var/lib/holdfast";

/// What the service wrote to a file as it stopped counts once its stop is done in the boot in which the restore began: it
/// had not synced it. Until then some of it or none may be there; the file, and what it held.
fn not_counted_yet<'s>(s: &'s Scenario, journal: &Journal) -> Option<&'s (String, String)> {
    let mut boots = journal.records.iter().filter_map(|r| match &r.entry {
        Entry::Driver(driver) => Some((r.seq, &driver.boot)),
        _ => None,
    });
    let first = boots.next().map(|(_, boot)| boot);
    let rebooted = boots.find(|(_, boot)| Some(*boot) != first);
    let mut stops = journal.records.iter().filter(|r| {
        matches!(&r.entry, Entry::Done { r#move, .. }
            if (r#move.step, r#move.direction) == (Step::StopServices, Direction::Forward))
    });
    let counts = stops.any(|r| rebooted.is_none_or(|(seq, _)| r.seq < seq));
    s.unwritten.as_ref().filter(|_| !counts)
}

/// A start of the service that could not bring a client up writes one word into its row, in the database that is in place. A
/// restore puts that right before its end: these starts came after it, or it has not ended. Just these rows of just these
/// databases are so, and they have to be.
pub fn as_starts_left_it(want: Picture, world: &World) -> Picture {
    as_these_left_it(want, world, |_| true)
}

fn as_these_left_it(
    mut want: Picture,
    world: &World,
    counts: impl Fn(&CalledInactive) -> bool,
) -> Picture {
    for rows in want.databases.values_mut() {
        let called = world.called_inactive.iter();
        let called = called.filter(|(_, called)| !called.put_right && counts(called));
        for ((database, client), _) in called {
            if rows.first() == Some(database) {
                let was = format!("client {client} active");
                let is = |row: &&mut String| **row == was;
                if let Some(row) = rows.iter_mut().find(is) {
                    *row = format!("client {client} inactive");
                }
            }
        }
    }
    want
}

/// What a start wrote that Holdfast asked for is put right before the end, or named; what a boot's own start wrote, or one that
/// somebody else asked for, is the gateway's affair.
fn as_others_starts_left_it(want: Picture, journal: &Journal, world: &World) -> Picture {
    let named = journal.says(Step::CleanUp, &Code::STATUS_STAYS_CHANGED)
        || journal.says(Step::CleanUp, &Code::STATUS_UNKNOWN)
        || journal.says(Step::StartServices, &Code::STATUS_UNKNOWN);
    as_these_left_it(want, world, |called| named || !called.asked_for)
}

/// After, with what starts left. Where the backup has no rules, those of the clients come from the service alone, and it adds none
/// for a client that a start before called inactive; nor does a tunnel that stays down run its hooks.
fn wanted_after(s: &Scenario, journal: &Journal, world: &World) -> Picture {
    let mut want = as_others_starts_left_it(s.after.clone(), journal, world);
    let have = want.clone();
    tunnels::less_what_lacks(&mut want, journal, &have);
    let first = world.databases.first().and_then(|d| want.databases.get(d));
    let name = first.and_then(|rows| rows.first()).cloned();
    let called = world.called_inactive.keys();
    let called = called.filter(|(database, _)| name.as_ref() == Some(database));
    for (_, client) in called.filter(|_| s.plan.firewall.v4.is_none()) {
        for (table, line) in rules_of(client) {
            want.running
                .v4
                .retain(|rule| *rule != format!("{table}: {line}"));
        }
    }
    want
}

/// Whether a verdict says that the service could not be started: then it is at rest, and its manager too.
pub fn lacks_the_service(journal: &Journal) -> bool {
    let mut lacks = journal.lacks.iter();
    lacks.any(|lack| lack.is(&Code::SERVICE_STAYS_DOWN))
}

/// Whether the verdict names anything that does not work.
pub fn lacks(journal: &Journal) -> bool {
    !journal.lacks.is_empty()
}

/// Before, as a gateway that looks like this should be.
fn wanted_before(s: &Scenario, journal: &Journal, want: Picture, have: &Picture) -> Picture {
    let mut want = want;
    tunnels::less_what_lacks(&mut want, journal, have);
    if lacks_the_service(journal) {
        (want.running.service, want.running.falters) = (false, false);
    }
    if let Some((path, older)) = not_counted_yet(s, journal)
        && let Some((there, ..)) = have.files.get(path)
        && there.starts_with(older)
        && let Some(file) = want.files.get_mut(path)
    {
        file.0.clone_from(there);
    }
    want
}

/// The verdict that the journal holds; without one nothing was begun.
pub fn verdict(journal: &Journal) -> Verdict {
    let last = journal.records.iter().rev().find_map(|r| match &r.entry {
        Entry::Closed { verdict, .. } => Some(*verdict),
        _ => None,
    });
    last.unwrap_or(Verdict::NothingChanged)
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, want: &T, have: &T) -> Option<String> {
    (want != have).then(|| format!("{what}: wanted {want:?}, there is {have:?}"))
}

fn files(want: &Picture, have: &Picture, when: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let names = want.files.keys().chain(have.files.keys());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        wrong.extend(differ(
            &format!("I1{when}: {name}"),
            &want.files.get(name),
            &have.files.get(name),
        ));
    }
    let names = want.databases.keys().chain(have.databases.keys());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        wrong.extend(differ(
            &format!("I1{when}: {name}"),
            &want.databases.get(name),
            &have.databases.get(name),
        ));
    }
    wrong
}

fn running(want: &Picture, have: &Picture) -> Vec<String> {
    let (want, have) = (&want.running, &have.running);
    [
        differ("I1: tunnels", &want.tunnels, &have.tunnels),
        differ("I1: IPv4 rules", &want.v4, &have.v4),
        differ("I1: IPv6 rules", &want.v6, &have.v6),
        differ("I1: forwarding", &want.forwards, &have.forwards),
        differ("I1: service", &want.service, &have.service),
        differ("I1: service that fails", &want.falters, &have.falters),
        differ("I1: fence", &want.fence, &have.fence),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Neither picture has anything of a client that a start took down in this boot for which Holdfast did not ask.
fn without_what_it_took_down(world: &World, pictures: [&mut Picture; 2]) {
    let called = world.called_inactive.iter();
    let of_boot = called.filter(|(_, called)| !called.asked_for && called.boot == world.boot);
    let clients: Vec<&String> = of_boot.map(|((_, client), _)| client).collect();
    for Picture { running, .. } in pictures {
        running.tunnels.retain(|name, _| !clients.contains(&name));
        for rules in [&mut running.v4, &mut running.v6] {
            rules.retain(|rule| !rule.split(' ').any(|w| clients.iter().any(|c| *c == w)));
        }
    }
}

/// I1: the gateway is wholly Before or wholly After, as the journal says; now, and also if the power goes right now.
/// `booted`: the machine was rebooted on the way; where no driver touched the gateway in that boot, for the restore was over,
/// it is judged by what the boot started.
pub fn i1_before_or_after(
    s: &Scenario,
    journal: &Journal,
    world: &World,
    booted: bool,
) -> Vec<String> {
    let wanted = |have: &Picture| match verdict(journal) {
        Verdict::Restored => wanted_after(s, journal, world),
        Verdict::RolledBack | Verdict::NothingChanged => {
            let before = as_others_starts_left_it(s.before.clone(), journal, world);
            wanted_before(s, journal, before, have)
        }
        // Nobody but the operator ends it so, and whatever is there is what he left.
        Verdict::Left => have.clone(),
    };
    let mut have = world.picture(&[STATE]);
    let mut want = wanted(&have);
    if world.unread == Some(Family::V6) {
        // Nobody puts them back: they are what hooks and services made of them.
        have.running.v6.clone_from(&want.running.v6);
    }
    if booted && lacks_the_service(journal) && have.running.service {
        // The boot's own start came after the end and went well. It adds its rules to those that were put right, or takes
        // down what it cannot bring up: no restore can put right what comes after it.
        have.running.service = false;
        have.running.v4.dedup();
        have.running.v6.dedup();
    }
    if booted && (lacks_the_service(journal) || journal.was_tried_again()) {
        without_what_it_took_down(world, [&mut want, &mut have]);
    }
    let is_left = |path: &String| names_leftovers(journal) && path.contains("/.holdfast-");
    have.files.retain(|path, _| !is_left(path));
    let mut wrong = files(&want, &have, "");
    let mut cut = world.clone();
    if let Some((_, disk)) = world.disk.images(0, &[]).into_iter().next() {
        cut.disk = disk;
    }
    let mut cut = cut.picture(&[STATE]);
    cut.files.retain(|path, _| !is_left(path));
    wrong.extend(files(&wanted(&cut), &cut, " after a power cut"));
    let unlike = running(&want, &have);
    if !unlike.is_empty() && booted && !journal.rebuilt_in(world.boot) {
        let mut fresh = world.before_its_boot(&s.world.start);
        fresh.start_gateway();
        let mut fresh = fresh.picture(&[STATE]);
        if world.unread == Some(Family::V6) {
            fresh.running.v6.clone_from(&have.running.v6);
        }
        if running(&fresh, &have).is_empty() {
            return wrong;
        }
    }
    wrong.extend(unlike);
    wrong
}

/// Files and databases are wholly those of Before or wholly those of After: what holds from before the network on.
pub fn files_are_one_set(s: &Scenario, world: &World) -> Vec<String> {
    let mut have = world.picture(&[STATE]);
    have.files.retain(|path, _| !path.contains("/.holdfast-"));
    let before = as_starts_left_it(s.before.clone(), world);
    let want = wanted_before(s, &Journal::of(s, world), before, &have);
    let before = files(&want, &have, ", one set");
    let after = as_starts_left_it(s.after.clone(), world);
    let after = files(&after, &have, ", one set");
    if before.is_empty() || after.is_empty() {
        Vec::new()
    } else {
        vec![format!(
            "neither Before: {}; nor After: {}",
            before.join(", "),
            after.join(", ")
        )]
    }
}

/// I1, where the operator is needed: the barrier stays once anything was done, and so does the fence once tunnels, their
/// rules or their configs were touched, while there is anything that it could hold back.
pub fn i1_stuck_is_fenced(s: &Scenario, journal: &Journal, world: &World) -> Vec<String> {
    let (mut touched, mut behind) = (false, false);
    for record in &journal.records {
        if let Entry::Intent { r#move, .. } = &record.entry {
            let step = r#move.step;
            touched |= !step.is_preparation() && step != Step::CleanUp;
            match step {
                Step::LiftFence => behind = false,
                Step::TunnelsDown
                | Step::ResetRules
                | Step::SwapDatabases
                | Step::SwapConfigs
                | Step::TunnelsUp => behind = true,
                _ => {}
            }
        }
    }
    let mut wrong = Vec::new();
    if touched && world.disk.read_durable(&s.places.barrier).is_none() {
        wrong.push("I1: it is stuck without a barrier".into());
    }
    if behind && world.kernel.fence.is_none() && !world.kernel.tunnels.is_empty() {
        wrong.push("I1: it is stuck without a fence".into());
    }
    wrong
}

/// I2, I4, I8 and the order of barrier, fence and tunnels, as the host saw them.
pub fn i2_i4_i8_as_the_host_saw(world: &World) -> Vec<String> {
    world.broken.clone()
}

/// I3: it turned once at most, and nothing went forward after that.
pub fn i3_turns_once(journal: &Journal) -> Vec<String> {
    let mut turned = None;
    let mut wrong = Vec::new();
    for record in &journal.records {
        match &record.entry {
            Entry::Turned { problem } => match &turned {
                None => turned = Some(problem.clone()),
                Some(first) if first == problem => {}
                Some(_) => wrong.push(format!("I3: record {} turns again", record.seq)),
            },
            Entry::Intent { r#move, .. }
                if turned.is_some() && r#move.direction == Direction::Forward =>
            {
                wrong.push(format!("I3: record {} goes forward again", record.seq));
            }
            Entry::Committed if turned.is_some() => {
                wrong.push(format!("I3: record {} commits", record.seq));
            }
            _ => {}
        }
    }
    wrong
}

/// I5: recovering again finds nothing to do, and changes nothing.
pub fn i5_twice_is_once(first: &World, second: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    if second.end != End::Idle {
        wrong.push(format!("I5: a second recovery ended {:?}", second.end));
    }
    wrong.extend(differ(
        "I5",
        &first.picture(&[]),
        &second.world.picture(&[]),
    ));
    wrong
}

/// I6: no step is tried, and no driver started, more often than its limit.
pub fn i6_is_bounded(journal: &Journal) -> Vec<String> {
    let mut tries: BTreeMap<(Step, Direction), u32> = BTreeMap::new();
    let mut starts = 0;
    let mut boot = None;
    let mut wrong = Vec::new();
    let mut over = false;
    let mut open = None;
    for record in &journal.records {
        match &record.entry {
            Entry::Closed { .. } => over = true,
            Entry::Done { .. } | Entry::Failed { .. } => open = None,
            Entry::Driver(driver) => {
                // What its driver's end cut off is no try: the starts are counted.
                if let Some(count) = open.take().and_then(|cut_off| tries.get_mut(&cut_off)) {
                    *count -= 1;
                }
                // What lacks after the verdict is tried again by each driver anew, of which the starts are counted.
                if std::mem::take(&mut over) {
                    tries.clear();
                }
                if matches!(driver.role, Role::RecoverByHand | Role::Leave) {
                    tries.clear();
                    starts = 0;
                }
                // Over boots the starts are counted.
                if boot.replace(driver.boot.clone()) != Some(driver.boot.clone()) {
                    tries.clear();
                }
                starts += 1;
                if starts > STARTS + 1 {
                    wrong.push("I6: it started too often".into());
                }
            }
            Entry::Intent { r#move, .. } if r#move.step != Step::CleanUp => {
                let this = (r#move.step, r#move.direction);
                open = Some(this);
                let count = tries.entry(this).or_insert(0);
                *count += 1;
                if *count > ATTEMPTS {
                    wrong.push(format!("I6: {} was tried too often", r#move.step));
                }
            }
            _ => {}
        }
    }
    wrong
}

/// I7: no key in anything that Holdfast writes about what it does. The configs themselves are kept, for root alone.
pub fn i7_keeps_secrets(world: &World, said: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, inode) in world.disk.files() {
        let kept = ["/originals/", "/found/", "/tunnels/", "/saved/"]
            .iter()
            .any(|k| path.contains(k));
        if path.starts_with(STATE)
            && !kept
            && String::from_utf8_lossy(&inode.now.data).contains(SECRET)
        {
            wrong.push(format!("I7: {path} holds a key"));
        }
    }
    if said.contains(SECRET) {
        wrong.push("I7: a message holds a key".into());
    }
    wrong
}

/// Whether the verdict names what the clean-up could not do.
pub fn names_leftovers(journal: &Journal) -> bool {
    let mut closings = journal.records.iter().filter_map(|r| match &r.entry {
        Entry::Closed { warnings, .. } => Some(warnings),
        _ => None,
    });
    closings.any(|warnings| {
        warnings
            .iter()
            .any(|w| w.code.is_none() || w.is(&Code::LEFT_OVER))
    })
}

/// I8: no staging and no barrier after the verdict, unless the verdict says so.
pub fn i8_leaves_nothing_behind(s: &Scenario, journal: &Journal, world: &World) -> Vec<String> {
    let named = names_leftovers(journal);
    let staging = world.disk.dirs().into_iter();
    let left = staging.filter(|d| !named && d.contains("/.holdfast-"));
    let mut wrong: Vec<String> = left.map(|d| format!("I8: {d} is left")).collect();
    if world.disk.find(&s.places.barrier).is_some() {
        wrong.push("I8: the barrier is left".into());
    }
    wrong
}

/// I9: whatever a restore replaced or removed is kept.
pub fn i9_keeps_what_was_there(s: &Scenario, journal: &Journal, world: &World) -> Vec<String> {
    if verdict(journal) != Verdict::Restored || names_leftovers(journal) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    let mut cut = world.clone();
    if let Some((_, disk)) = world.disk.images(0, &[]).into_iter().next() {
        cut.disk = disk;
    }
    for target in s.plan.databases.iter().chain(&s.plan.files) {
        if target.change == Change::Add {
            continue;
        }
        let originals = s.profile.restore_dir(&s.id).join("originals");
        let kept = originals.join(target.path.trim_start_matches('/'));
        let kept = kept.display().to_string();
        // Of a database that could not be settled, the side files are kept beside it.
        let have = cut.rows(&kept);
        let was = as_starts_left_it(s.before.clone(), world);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        if let Some((path, older)) = not_counted_yet(s, journal)
            && *path == target.path
            && have.as_ref().is_some_and(|h| h.starts_with(&lines(older)))
        {
            continue;
        }
        let want = match was.databases.get(&target.path) {
            Some(rows) => Some(rows.clone()),
            None => was.files.get(&target.path).map(|f| lines(&f.0)),
        };
        wrong.extend(differ(&format!("I9: {}", target.path), &want, &have));
    }
    wrong
}

/// The journal is sound and closed.
pub fn journal_verifies(journal: &Journal) -> Vec<String> {
    match &journal.soundness {
        None | Some(Soundness::Closed(_)) => Vec::new(),
        Some(other) => vec![format!("the journal is {other:?} after the end")],
    }
}

/// All of them, after a run that came to an end.
pub fn settled(s: &Scenario, journal: &Journal, world: &World, booted: bool) -> Vec<String> {
    let mut wrong = i1_before_or_after(s, journal, world, booted);
    wrong.extend(i2_i4_i8_as_the_host_saw(world));
    wrong.extend(i3_turns_once(journal));
    wrong.extend(i6_is_bounded(journal));
    wrong.extend(i7_keeps_secrets(world, ""));
    wrong.extend(i8_leaves_nothing_behind(s, journal, world));
    wrong.extend(i9_keeps_what_was_there(s, journal, world));
    wrong.extend(journal_verifies(journal));
    wrong
}

/// All that hold at any time, after a run that ended for the operator.
pub fn stuck(s: &Scenario, journal: &Journal, world: &World, why: &str) -> Vec<String> {
    let mut wrong = i1_stuck_is_fenced(s, journal, world);
    wrong.extend(i2_i4_i8_as_the_host_saw(world));
    wrong.extend(i3_turns_once(journal));
    wrong.extend(i6_is_bounded(journal));
    wrong.extend(i7_keeps_secrets(world, why));
    wrong
}
