//! Why a command did not do what it was asked, for whoever asked: text on standard error, with `--json` a document. Decides nothing.

use journal_format::{problem_text, visible};

use super::print_json;
use crate::error::{Fault, Problem};
use crate::restore::gateway_state::StateOfGateway;

/// Why a command did not do what it was asked; the last words are how the gateway stands, where that was looked at.
pub(super) fn say_fault(json: bool, fault: &Fault, after: Option<&StateOfGateway>) {
    if json {
        let mut all = fault_json(fault);
        if let (Some(fields), Some(state)) = (all.as_object_mut(), after) {
            fields.insert("state".into(), state.as_json());
        }
        print_json(&all);
    }
    tell!("holdfast: {}", fault_text(fault, after));
    after.iter().for_each(|state| tell!("{}", state.text()));
}

/// How it ended. Where the lines about the gateway follow, what to do is theirs to say, once: advice for another restore is called
/// that, and advice that they repeat is left to them.
pub(super) fn fault_text(fault: &Fault, after: Option<&StateOfGateway>) -> String {
    if matches!(fault, Fault::Declined | Fault::Usage(_)) {
        return fault.to_string();
    }
    let follows = after.map(StateOfGateway::text).unwrap_or_default();
    let text = |problem: &Problem| {
        let bare = || {
            problem_text(&Problem {
                advice: String::new(),
                ..problem.clone()
            })
        };
        match (after, fault) {
            (_, Fault::RolledBack(_)) => why_rolled_back(problem),
            (None, _) => problem_text(problem),
            (Some(_), _) if follows.contains(&visible(&problem.advice)) => bare(),
            (Some(_), _) => problem_text(problem),
        }
    };
    let texts: Vec<String> = fault.problems().iter().map(text).collect();
    texts.join("\nholdfast: ")
}

/// Why a restore did not come about that is over: nothing of it is so now, and what to do is for the next one.
fn why_rolled_back(problem: &Problem) -> String {
    let bare = problem_text(&Problem {
        advice: String::new(),
        ..problem.clone()
    });
    let advice = match problem.advice.is_empty() {
        true => String::new(),
        false => format!("\n  before the next restore: {}", visible(&problem.advice)),
    };
    format!("the reason for the rollback: {bare}{advice}")
}

fn fault_json(fault: &Fault) -> serde_json::Value {
    let kind = match fault {
        Fault::Failed(_) => "failed",
        Fault::Declined => "declined",
        Fault::Usage(_) => "usage",
        Fault::Refused(_) => "refused",
        Fault::RolledBack(_) => "rolled-back",
        Fault::Stuck(_) => "stuck",
        Fault::Busy(_) => "busy",
    };
    let problems = fault.problems();
    serde_json::json!({ "verdict": kind, "exit_status": fault.exit_status(), "problems": problems })
}
