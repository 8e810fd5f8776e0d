//! Takes the rules of replaced tunnels out, and loads the rules that are to hold, behind the fence.

use journal_format::{Direction, NOT_LOADED, Note, Plan, Step};

use super::{Env, Report, StepOps, no_way_back, seen};
use crate::error::{Code, Problem};
use crate::host::{Family, GatewayCommand, Permit};
use crate::restore::decide::Observed;
use crate::restore::expected_rules;
use crate::restore::loading::{load, refused, stand};
use crate::text::iptables::{Rules, without};
use crate::text::wording::{counted, in_a_line};

pub struct ResetRules;
pub struct LoadFirewall;

impl StepOps for ResetRules {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut count = 0;
        for family in expected_rules::touched(env) {
            let found = expected_rules::current(env.host, family)?.of_interfaces(&env.replaced());
            if !found.is_empty() {
                count += found.values().map(Vec::len).sum::<usize>();
                let text = without(&found);
                let edit = GatewayCommand::EditRules(family);
                let out = env.host.run(permit, &edit, &text)?;
                if !out.ok() {
                    return Err(refused(env, &out, "remove the tunnels' rules", &text));
                }
            }
        }
        Ok(Report::did(format!(
            "removed {} of the tunnels",
            counted(count, "firewall rule")
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

/// What holds instead of the backup's rules, where the admin accepted that beforehand: whole tables, none half loaded.
fn fall_back(
    env: &Env,
    permit: &Permit,
    clean: &[(Family, Rules)],
    why: &str,
) -> Result<(), Problem> {
    for (family, rules) in clean {
        stand(env, permit, *family, rules)?;
    }
    env.host.keep(&expected_rules::note(env), why.as_bytes())
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
        did.push("the rules and forwarding are as in the backup".to_owned());
    } else if !loaded.is_empty() {
        did.push(format!(
            "the {} rules and forwarding are as planned",
            loaded.join(" and ")
        ));
    }
    if !kept.is_empty() {
        did.push(format!(
            "no {} rules of the backup were loaded: the old ones stay, without those of the replaced tunnels",
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
        let loaded = load(env, permit, Direction::Forward);
        if let Err(problem) = loaded {
            if !env.plan.keep_going_without_firewall {
                return Err(problem);
            }
            fall_back(env, permit, &fallback, &in_a_line(&problem))?;
            load(env, permit, Direction::Forward)?;
        }
        // Also where it came true earlier, and this step is made again.
        Ok(match expected_rules::fell_back(env)? {
            None => Report {
                did: planned(env.plan),
                ..Report::default()
            },
            Some(why) => Report {
                did: vec!["the old rules stay, without those of the replaced tunnels".into()],
                warnings: vec![Note::down(
                    Code::RULES_NOT_LOADED,
                    format!("{NOT_LOADED}{why}"),
                )],
            },
        })
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        load(env, permit, Direction::Back)?;
        Ok(Report::did("the old rules and forwarding are in force"))
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        Ok(seen(expected_rules::differences(env, direction)?))
    }
}
