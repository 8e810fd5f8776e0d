//! How the gateway stands, with the buttons that lead on. Decides nothing: the agent says which ways there are.

use agent_protocol::GatewayLines;
use journal_format::Policy;
use serde_json::{Value, json};

/// How the gateway stands, and the buttons that lead on.
pub fn gateway_lines(now: &GatewayLines) -> Value {
    let button = |(n, policy): (usize, &Policy)| {
        let (value, text) = match policy {
            Policy::Auto => ("auto", "Recover"),
            Policy::RollBack => ("roll-back", "Roll back"),
            Policy::Resume => ("resume", "Complete the restore"),
        };
        json!({ "value": value, "text": text, "main": n == 0 })
    };
    json!({
        "lines": now.lines,
        "buttons": now.recoveries.iter().enumerate().map(button).collect::<Vec<_>>(),
    })
}
