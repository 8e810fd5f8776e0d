//! What an upload would do, for the page that asks for consent; once more where the first try lacked one. Starts nothing.

use super::check_quiet;
use crate::agent::refusal::{self, bounded, bounded_notes, short};
use crate::agent::uploads::Fresh;
use crate::agent::{Agent, now_ms, overview};
use crate::error::{Code, Fault};
use crate::gateway::parts::{Lack, Part};
use crate::plan::planner::Choices;
use crate::plan::prepare::{RestoreRequest, prepare};
use crate::plan::preview;
use crate::state_dir;
use agent_protocol::{Preview, Refusal, UnfitTunnel, UploadId};
use journal_format::{Problem, RestoreId, View};
use std::collections::BTreeSet;
use std::fs::File;

/// What a restore from a fresh upload would do. The archive is checked and the rules are rehearsed; nothing changes.
pub fn look(agent: &Agent, fresh: Fresh, name: &str) -> Result<Preview, Refusal> {
    check_quiet(agent)?;
    let open = || fresh.open();
    let preview = preview(agent, &open, (fresh.id.clone(), name, fresh.size))?;
    let kept = agent.uploads.keep(fresh, |until_ms| Preview {
        until_ms,
        ..preview
    });
    Ok(kept?)
}

/// What a restore from an archive would do, but for how long that can be confirmed.
pub fn preview(
    agent: &Agent,
    open: &dyn Fn() -> Result<File, Problem>,
    (upload, name, size): (UploadId, &str, u64),
) -> Result<Preview, Refusal> {
    let prepare = |keep_going_without_firewall, leave_down| -> Result<_, Fault> {
        let choices = Choices {
            keep_going_without_firewall,
            policy: agent.profile.recovery.policy,
            keep_open_folders: false,
            without_safety_backup_of: BTreeSet::new(),
            keep_going_without_services: false,
            leave_down,
            full_stop: true,
        };
        let request = RestoreRequest {
            file: open()?,
            name: name.into(),
            choices,
            id: None,
            approved: None,
        };
        prepare(&agent.profile, &agent.host, request)
    };
    // It may be tunnels alone that are not acceptable, or the firewall, and these the admin may accept.
    let mut unfit = Vec::new();
    let mut first = prepare(false, BTreeSet::new());
    if let Err(Fault::Refused(problems)) = &first {
        unfit = unfit_tunnels(problems);
    }
    let down: BTreeSet<String> = unfit.iter().map(|t| t.name.clone()).collect();
    if !down.is_empty() {
        first = prepare(false, down.clone());
    }
    let (prepared, needs_keep_going) = match first {
        Err(refused @ Fault::Refused(_)) => match prepare(true, down) {
            Ok(prepared) => (prepared, true),
            Err(_) => return Err(refusal::of(agent, refused)),
        },
        other => (other.map_err(|fault| refusal::of(agent, fault))?, false),
    };
    let plan = &prepared.plan;
    Ok(Preview {
        upload,
        gateway: crate::host::this_box::host_name().unwrap_or_else(|| "?".into()),
        name: name.into(),
        size,
        created_at: plan.archive.created_at.clone(),
        host: plan.archive.host.clone(),
        made_by: plan.archive.made_by.clone(),
        commands: prepared.consent.for_a_page(),
        changes: bounded(preview::preview(plan, now_ms())),
        left_out: bounded_notes(&plan.left_out),
        notes: bounded_notes(&preview::notes(plan)),
        plan: preview::approval(plan),
        needs_keep_going,
        has_open_folders: prepared.closes_something(),
        unsaved: prepared.unsaved.iter().map(overview::lack).collect(),
        unfit,
        until_ms: 0,
    })
}

/// The tunnels of these problems that may be left down; none unless that is what all of them are about.
fn unfit_tunnels(problems: &[Problem]) -> Vec<UnfitTunnel> {
    let mut unfit = Vec::new();
    for problem in problems {
        let [name] = &problem.about[..] else {
            return Vec::new();
        };
        if !problem.is(&Code::TUNNEL_UNFIT) {
            return Vec::new();
        }
        match unfit.last_mut() {
            Some(UnfitTunnel { name: last, why }) if last == name => {
                *why = short(&format!("{why}; {}", problem.what));
            }
            Some(_) | None => unfit.push(UnfitTunnel {
                name: name.clone(),
                why: short(&problem.what),
            }),
        }
    }
    unfit
}

/// What a restore from the upload of one that ended before it changed anything, since its safety backup lacked parts, would
/// do now; these parts are among those that may be accepted.
pub fn again(agent: &Agent, id: &RestoreId) -> Result<Preview, Refusal> {
    check_quiet(agent)?;
    let kept = agent.uploads.of_restore(id)?;
    let (upload, size) = (kept.preview.upload.clone(), kept.preview.size);
    let open = || agent.uploads.reopen(&upload);
    let mut preview = preview(agent, &open, (upload.clone(), &kept.preview.name, size))?;
    if let Some(state) = state_dir::read(&agent.profile, id)?.state {
        let problem = View::of(&state).problem;
        let why = problem.map_or_else(String::new, |p| {
            format!("The last try could not {}", p.what)
        });
        for part in state.unsaved() {
            let known = preview.unsaved.iter().any(|l| l.part == part);
            if let (Ok(part), false) = (part.parse::<Part>(), known) {
                let why = short(&why);
                preview.unsaved.push(overview::lack(&Lack { part, why }));
            }
        }
    }
    agent.uploads.renew(preview)
}

/// Whether a restore ended for want of a part in its safety backup, before it changed anything: then its upload may be
/// confirmed again.
pub fn may_be_tried_again(agent: &Agent, id: &RestoreId) -> bool {
    let found = state_dir::read(&agent.profile, id).ok();
    let state = found.and_then(|scan| scan.state);
    state.is_some_and(|s| !s.unsaved().is_empty())
}
