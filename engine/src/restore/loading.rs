//! Loads the firewall rules that should hold: for the step that is there for it, and after a start of the services, which add
//! theirs a second time. Loads nothing that holds already. What should hold is `expected_rules`'s to say.

use journal_format::Direction;

use crate::error::{Code, Problem};
use crate::host::{Family, GatewayCommand, Output, Permit};
use crate::restore::expected_rules::{self, Expected};
use crate::restore::step::Env;
use crate::text::iptables::{Mine, Rules, without};
use crate::text::wording::quoted_path;

/// How often rules are looked at and edited anew: others may have changed them in between.
const LOOKS: u32 = 3;

/// Loads what should hold, and forwards as it should be. Every table at once or the old ones: `iptables-restore` is atomic for a
/// table, not for a file, so after a failure the caller loads a whole set again.
pub fn load(env: &Env, permit: &Permit, direction: Direction) -> Result<(), Problem> {
    for family in expected_rules::touched(env) {
        match expected_rules::expected(env, direction, family)? {
            Expected::Whole(rules) => stand(env, permit, family, &rules)?,
            Expected::Own(rules) => {
                let now = expected_rules::current(env.host, family)?;
                let unlike = expected_rules::own_unlike(env, &rules, &now);
                edit(env, permit, family, &without(&unlike.surplus))?;
                edit(env, permit, family, &rules.appending(&unlike.missing, &now))?;
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

/// Makes these rules stand, each as often as here, and nothing else of what stood before or was loaded by the restore; what others
/// added since stays.
pub fn stand(env: &Env, permit: &Permit, family: Family, rules: &Rules) -> Result<(), Problem> {
    let known = expected_rules::known(env, family)?;
    let known: Vec<&Rules> = known.iter().chain([rules]).collect();
    let managed = expected_rules::managed(env);
    let mine = Mine::of(&known, &managed);
    for look in 1.. {
        let now = expected_rules::current(env.host, family)?;
        let all = rules.beside_others(&now, &mine);
        match edit(env, permit, family, &all.edits(&now)) {
            Err(problem) if look == LOOKS => return Err(problem),
            Err(_) => {}
            Ok(()) if all.has_every_table_of(&now) => return Ok(()),
            Ok(()) => break,
        }
    }
    let now = expected_rules::current(env.host, family)?;
    let emptied = without_tables(family, &rules.blank_in(&now));
    run(env, permit, &GatewayCommand::Nft, &emptied)
}

fn edit(env: &Env, permit: &Permit, family: Family, text: &str) -> Result<(), Problem> {
    run(env, permit, &GatewayCommand::EditRules(family), text)
}

fn run(env: &Env, permit: &Permit, command: &GatewayCommand, text: &str) -> Result<(), Problem> {
    if text.is_empty() {
        return Ok(());
    }
    let out = env.host.run(permit, command, text)?;
    match out.ok() {
        true => Ok(()),
        false => Err(refused(env, &out, "load the firewall rules", text)),
    }
}

/// Why rules are not loaded. What was refused is kept, since the reason names a line of it.
pub fn refused(env: &Env, out: &Output, what: &str, text: &str) -> Problem {
    let kept = env.dir.join("refused-rules");
    let is_kept = env.host.keep(&kept, text.as_bytes()).is_ok();
    let advice = match (out.stderr.trim().is_empty(), is_kept) {
        (false, true) => format!(
            "look at the line that it names, in {}; `iptables-save` shows what is loaded now",
            quoted_path(&kept)
        ),
        (_, _) => "see which program changes firewall rules at the same time; `iptables-save` shows what is loaded now".into(),
    };
    out.problem(Code::RULES_REFUSED, what, advice)
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
