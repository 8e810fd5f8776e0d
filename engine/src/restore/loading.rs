//! Loads the firewall rules that should hold: for the step that is there for it, and after a start of the services, which add
//! theirs a second time. Loads nothing that holds already. What should hold is `expected_rules`'s to say.

use journal_format::Direction;

use crate::error::{Code, Problem};
use crate::host::{Family, GatewayCommand, Permit};
use crate::restore::expected_rules::{self, Expected};
use crate::restore::step::Env;
use crate::text::iptables::without;

/// What to do where rules cannot be loaded.
pub const ADVICE: &str = "look at the line that it names; `iptables-save` shows what is loaded now";

/// Loads what should hold. Every table at once or the old ones: `iptables-restore` is atomic for a table, not for a
/// file, so after a failure the caller loads a whole set again.
pub fn load(env: &Env, permit: &Permit, direction: Direction) -> Result<(), Problem> {
    for family in expected_rules::touched(env) {
        let now = expected_rules::current(env.host, family)?;
        let run = |command: GatewayCommand, text: &str| -> Result<(), Problem> {
            if text.is_empty() {
                return Ok(());
            }
            env.host
                .run(permit, &command, text)?
                .expect_ok(Code::RULES_REFUSED, "load the firewall rules", ADVICE)
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
