//! What an admin is asked to agree to, as the page shows it: what is lost comes first. Decides nothing.

use agent_protocol::{Preview, RootCommands};
use journal_format::{Code, Weight, ago, moment_of, size};
use serde_json::{Value, json};

use super::moment;
use super::notes::{KindLines, NoteLine, kind_lines};

/// What an admin is asked to agree to.
pub fn preview(preview: &Preview, user: &str, now_ms: i64) -> Value {
    let (commands, too_many) = match &preview.commands {
        RootCommands::Shown(shown) => (shown.as_slice(), None),
        RootCommands::TooMany { count } => (&[][..], Some(count)),
    };
    let notes = |weight| -> Vec<KindLines> {
        let kinds = preview.notes.iter().filter(|k| k.weight() == weight);
        kind_lines(&kinds.cloned().collect::<Vec<_>>(), NoteLine::below_heading)
    };
    let made = moment_of(&preview.created_at);
    // What a backup or a restore does to the very account that is signed in.
    let of_user = preview.notes.iter().flat_map(|k| &k.first);
    let of_user = of_user.filter(|n| n.weight == Weight::Lost && n.names.iter().any(|u| u == user));
    let of_user: Vec<&str> = of_user
        .filter_map(|n| n.code.as_ref())
        .filter_map(yours)
        .collect();
    json!({
        "host": preview.gateway,
        "upload": preview.upload,
        "plan": preview.plan,
        "name": preview.name,
        "size": size(preview.size),
        "made": made.map_or_else(|| preview.created_at.clone(), moment),
        "age": made.map(|made| ago(made, now_ms)),
        "yours": of_user,
        "backup_host": preview.host,
        "other_host": preview.host.as_deref().is_some_and(|h| h != preview.gateway),
        "made_by": preview.made_by,
        "lost": notes(Weight::Lost),
        "down": notes(Weight::Down),
        "commands": commands,
        "too_many": too_many,
        "changes": preview.changes,
        "left_out": kind_lines(&preview.left_out, NoteLine::below_heading),
        "known": notes(Weight::Known),
        "needs_keep_going": preview.needs_keep_going,
        "has_open_folders": preview.has_open_folders,
        "unsaved": preview.unsaved,
        "unfit": preview.unfit,
        "until": moment(preview.until_ms),
    })
}

/// What a note of this code means for the one whom it names.
fn yours(code: &Code) -> Option<&'static str> {
    match code {
        c if *c == Code::PASSWORDS_CHANGE => Some(
            "Your password is among them: afterwards you sign in with the one that you had when the backup was made.",
        ),
        c if *c == Code::USERS_GONE => {
            Some("Your own account is among them: afterwards you cannot sign in.")
        }
        _ => None,
    }
}
