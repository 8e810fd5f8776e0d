//! Takes the rules of replaced tunnels out, and loads the rules that are to hold: after the services started, which add
//! theirs a second time, and behind the fence.

use journal_format::{Direction, NOT_LOADED, Plan, Step};

use super::{Env, Report, StepOps, no_way_back, seen};
use crate::error::Problem;
use crate::host::{Family, GatewayCommand, Permit};
use crate::restore::decide::Observed;
use crate::restore::expected_rules::{self, Expected};
use crate::text::iptables::{Rules, without};
use crate::text::wording::{counted, in_a_line};

pub struct ResetRules;
pub struct LoadFirewall;

const ADVICE: &str = "look at the line that it names; `iptables-save` shows what is loaded now";

impl StepOps for ResetRules {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut count = 0;
        for family in expected_rules::touched(env) {
            let found = expected_rules::current(env.host, family)?.of_interfaces(&env.replaced());
            if !found.is_empty() {
                count += found.values().map(Vec::len).sum::<usize>();
                env.host
                    .run(permit, &GatewayCommand::EditRules(family), &without(&found))?
                    .expect_ok("take the tunnels' rules out", ADVICE)?;
            }
        }
        Ok(Report::did(format!(
            "took out {} of the tunnels",
            counted(count, "rule")
        )))
    }

    fn back(&self, _: &Env, _: &Permit) -> Result<Report, Problem> {
        Err(no_way_back(Step::ResetRules))
    }

    fn observe(&self, env: &Env, _: Direction) -> Result<Observed, Problem> {
        let mut left = Vec::new();
        for family in expected_rules::touched(env) {
            let found = expected_rules::current(env.host, family)?.of_interfaces(&env.replaced());
            left.extend(found.into_values().flatten());
        }
        Ok(seen(left))
    }
}

/// Loads what should hold. Every table at once or the old ones: `iptables-restore` is atomic for a table, not for a
/// file, so after a failure the caller loads a whole set again.
fn load(env: &Env, permit: &Permit, direction: Direction) -> Result<(), Problem> {
    for family in expected_rules::touched(env) {
        let now = expected_rules::current(env.host, family)?;
        let run = |command: GatewayCommand, text: &str| -> Result<(), Problem> {
            if text.is_empty() {
                return Ok(());
            }
            env.host
                .run(permit, &command, text)?
                .expect_ok("load the firewall rules", ADVICE)
                .map(drop)
        };
        match expected_rules::expected(env, direction, family)? {
            Expected::Whole(rules) => {
                if !rules.same_as(&now) || !now.blank_in(&rules).is_empty() {
                    run(GatewayCommand::LoadRules(family), &rules.replacing(&now))?;
                }
                let now = expected_rules::current(env.host, family)?;
                run(
                    GatewayCommand::Nft,
                    &without_tables(family, &rules.blank_in(&now)),
                )?;
            }
            Expected::Merged(rules) => {
                if !rules.same_as(&now) {
                    run(GatewayCommand::LoadRules(family), &rules.replacing(&now))?;
                }
            }
            Expected::Own(rules) => {
                let unlike = expected_rules::own_unlike(env, &rules, &now);
                run(GatewayCommand::EditRules(family), &without(&unlike.surplus))?;
                run(
                    GatewayCommand::EditRules(family),
                    &rules.appending(&unlike.missing, &now),
                )?;
            }
        }
    }
    for (family, on) in expected_rules::unlike_forwarding(env, direction)? {
        env.host.set_forwarding(permit, family, on)?;
    }
    // Behind that of all, which sets these as well.
    for (family, interface, on) in expected_rules::unlike_apart(env, direction)? {
        env.host.set_forwarding_of(permit, family, interface, on)?;
    }
    Ok(())
}

/// Removes emptied tables, so that `iptables-save` prints what it printed then. `iptables-restore` cannot; and where its
/// backend is not nft there is no such table for nft, and it is made and removed in one transaction.
fn without_tables(family: Family, tables: &[&str]) -> String {
    let nft = family.nft();
    tables
        .iter()
        .map(|t| format!("add table {nft} {t}\ndelete table {nft} {t}\n"))
        .collect()
}

/// What holds instead of the backup's rules, where the admin accepted that beforehand: whole tables, none half loaded.
fn fall_back(env: &Env, permit: &Permit, clean: &[(Family, Rules)]) -> Result<(), Problem> {
    for (family, rules) in clean {
        let now = expected_rules::current(env.host, *family)?;
        env.host
            .run(
                permit,
                &GatewayCommand::LoadRules(*family),
                &rules.replacing(&now),
            )?
            .expect_ok("load the rules of before", ADVICE)?;
    }
    env.host.keep(
        &env.dir.join("after").join("fell-back"),
        b"the backup's rules could not be loaded\n",
    )
}

/// What holds afterwards, of each family: rules of the backup, or those of before.
fn planned(plan: &Plan) -> Vec<String> {
    let families = [
        (Family::V4, &plan.firewall.v4),
        (Family::V6, &plan.firewall.v6),
    ];
    let of = |loaded: bool| -> Vec<&str> {
        let these = families
            .iter()
            .filter(|(_, rules)| rules.is_some() == loaded);
        these.map(|(family, _)| family.name()).collect()
    };
    let (loaded, kept) = (of(true), of(false));
    let mut did = Vec::new();
    if kept.is_empty() {
        did.push("the rules and forwarding are as planned".to_owned());
    } else if !loaded.is_empty() {
        did.push(format!(
            "the {} rules and forwarding are as planned",
            loaded.join(" and ")
        ));
    }
    if !kept.is_empty() {
        did.push(format!(
            "no {} rules of the backup were loaded: those of before hold, less those of the replaced tunnels",
            kept.join(" and ")
        ));
    }
    did
}

impl StepOps for LoadFirewall {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut fallback = Vec::new();
        if env.plan.keep_going_without_firewall {
            for family in expected_rules::touched(env) {
                fallback.push((family, expected_rules::merged(env, family)?));
            }
        }
        match load(env, permit, Direction::Forward) {
            Ok(()) => Ok(Report {
                did: planned(env.plan),
                ..Report::default()
            }),
            Err(problem) if env.plan.keep_going_without_firewall => {
                fall_back(env, permit, &fallback)?;
                load(env, permit, Direction::Forward)?;
                Ok(Report {
                    did: vec![
                        "the rules of before hold, less those of the replaced tunnels".into(),
                    ],
                    warnings: vec![format!("{NOT_LOADED}{}", in_a_line(&problem))],
                })
            }
            Err(problem) => Err(problem),
        }
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        load(env, permit, Direction::Back)?;
        Ok(Report::did("the old rules and forwarding hold"))
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        Ok(seen(expected_rules::differences(env, direction)?))
    }
}
