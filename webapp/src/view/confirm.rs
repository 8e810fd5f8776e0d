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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use agent_protocol::UploadId;
    use journal_format::{Digest, Note, alike};

    use super::*;

    fn shown(notes: &[Note], user: &str) -> Value {
        let asked = Preview {
            upload: UploadId::new("0".repeat(32)).unwrap(),
            gateway: "gw".into(),
            name: "b.zip".into(),
            size: 1,
            created_at: "2026-11-20T03:00:00.188537+00:00".into(),
            host: None,
            made_by: "holdfast".into(),
            commands: RootCommands::Shown(Vec::new()),
            changes: Vec::new(),
            left_out: Vec::new(),
            notes: alike(notes),
            plan: Digest::of_bytes([0; 32]),
            needs_keep_going: false,
            has_open_folders: false,
            unsaved: Vec::new(),
            unfit: Vec::new(),
            until_ms: 0,
        };
        preview(&asked, user, 1_795_373_540_000)
    }

    #[test]
    fn whoever_is_signed_in_reads_that_their_own_password_or_account_is_among_what_is_lost() {
        let notes = [
            Note::lost(Code::PASSWORDS_CHANGE, "2 users lose their passwords")
                .naming(["ann", "bob"]),
            Note::lost(Code::USERS_GONE, "1 user will be gone").naming(["cid"]),
        ];
        let of = |user: &str| shown(&notes, user)["yours"].to_string();
        assert!(of("bob").contains("Your password is among them"));
        assert!(of("cid").contains("afterwards you cannot sign in"));
        assert_eq!(of("dan"), "[]");
        let shown = shown(&notes, "dan");
        assert_eq!(shown["made"], "2026-11-20 03:00:00 UTC", "no microseconds");
        assert_eq!(shown["age"], "2 days ago");
    }

    #[test]
    fn of_many_hints_of_one_kind_one_is_shown_and_the_others_are_folded_and_counted() {
        let hints =
            (0..40).map(|i| Note::known(Code::TUNNEL_UNFIT, format!("c{i} never comes up")));
        let lost = Note::lost(Code::CLIENTS_GONE, "1 client will be gone: x").naming(["x"]);
        let notes: Vec<Note> = hints.chain([lost]).collect();
        let shown = shown(&notes, "ann");
        assert_eq!(
            shown["lost"][0]["lines"][0]["text"],
            "1 client will be gone: x"
        );
        let known = &shown["known"][0];
        assert_eq!(known["lines"].as_array().unwrap().len(), 1);
        assert_eq!(known["folded"], 39);
        assert_eq!(known["rest"].as_array().unwrap().len(), 39);
    }
}
