//! Confirming a restore, and the page on which it is watched.

use std::time::UNIX_EPOCH;

use agent_protocol::{Ask, RequestId, UploadId};
use journal_format::{Digest, Policy, RestoreId};
use rocket::form::Form;
use rocket::http::Status;
use rocket::{FromForm, State, get, post};
use serde_json::json;

use crate::agent::AgentClient;
use crate::caller::Caller;
use crate::page::Page;
use crate::view;

#[derive(FromForm)]
pub struct Confirm {
    token: Option<String>,
    upload: String,
    plan: String,
    request: String,
    keep_going_without_firewall: Option<String>,
    keep_going_without_services: Option<String>,
    keep_open_folders: Option<String>,
    without_safety_backup_of: Vec<String>,
    leave_down: Vec<String>,
}

#[derive(FromForm)]
pub struct Discard {
    token: Option<String>,
    upload: String,
}

#[derive(FromForm)]
pub struct Recover {
    token: Option<String>,
    policy: Option<String>,
}

#[post("/system/restore/confirm", data = "<form>")]
pub async fn confirm(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
    form: Form<Confirm>,
) -> Result<Page, Page> {
    let (admin, asked) = caller.admin_by_form(agent, form.token.as_deref()).await?;
    let bad = || Page::not_understood(Status::BadRequest);
    let ticked = |tick: &Option<String>| tick.as_deref() == Some("yes");
    let ask = Ask::Start {
        upload: UploadId::new(form.upload.as_str()).map_err(|_| bad())?,
        plan: Digest::new(form.plan.as_str()).map_err(|_| bad())?,
        request: RequestId::new(form.request.as_str()).map_err(|_| bad())?,
        keep_going_without_firewall: ticked(&form.keep_going_without_firewall),
        keep_going_without_services: ticked(&form.keep_going_without_services),
        keep_open_folders: ticked(&form.keep_open_folders),
        without_safety_backup_of: form.without_safety_backup_of.clone(),
        leave_down: form.leave_down.clone(),
    };
    let id = admin.answered(agent.start(admin.bearer(), ask, &asked).await)?;
    Ok(Page::go(format!("/restores/{id}")))
}

#[post("/system/restore/discard", data = "<form>")]
pub async fn discard(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
    form: Form<Discard>,
) -> Result<Page, Page> {
    let (admin, asked) = caller.admin_by_form(agent, form.token.as_deref()).await?;
    let upload = UploadId::new(form.upload.as_str());
    let upload = upload.map_err(|_| Page::not_understood(Status::BadRequest))?;
    admin.answered(agent.discard(admin.bearer(), upload, &asked).await)?;
    Ok(Page::go("/"))
}

#[get("/restores/<id>")]
pub async fn page(caller: Caller<'_>, agent: &State<AgentClient>, id: &str) -> Result<Page, Page> {
    let id = RestoreId::new(id).map_err(|_| Page::nothing_here())?;
    if caller.token().is_none() {
        return Err(Page::go(format!("/sign-in?restore={id}")));
    }
    let admin = caller.admin(agent).await?;
    let (restore, halt, now) = admin.answered(agent.restore(admin.bearer(), id).await)?;
    let live = view::live(&restore, halt.as_ref(), now.as_ref(), now_ms());
    let asked_by = restore.asked_by.as_ref().map(ToString::to_string);
    let context = json!({ "live": live, "asked_by": asked_by });
    Ok(admin.page("restore.html", context))
}

/// Recovers a restore that waits for somebody, in the direction that was chosen.
#[post("/restores/<id>/recover", data = "<form>")]
pub async fn recover(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
    id: &str,
    form: Form<Recover>,
) -> Result<Page, Page> {
    let (admin, asked) = caller.admin_by_form(agent, form.token.as_deref()).await?;
    let id = RestoreId::new(id).map_err(|_| Page::nothing_here())?;
    let policy = match form.policy.as_deref() {
        None | Some("auto") => None,
        Some("resume") => Some(Policy::Resume),
        Some("roll-back") => Some(Policy::RollBack),
        Some(_) => return Err(Page::not_understood(Status::BadRequest)),
    };
    let id = admin.answered(agent.recover(admin.bearer(), id, policy, &asked).await)?;
    Ok(Page::go(format!("/restores/{id}")))
}

/// To the confirmation again, where what the safety backup lacked can be accepted.
#[get("/restores/<id>/again")]
pub async fn again(caller: Caller<'_>, agent: &State<AgentClient>, id: &str) -> Result<Page, Page> {
    let id = RestoreId::new(id).map_err(|_| Page::nothing_here())?;
    let (admin, asked) = caller.admin_by_link(agent).await?;
    let preview = admin.answered(agent.again(admin.bearer(), id, &asked).await)?;
    let address = format!("/system/restore?upload={}", preview.upload);
    Ok(Page::go(address))
}

/// The wall clock, milliseconds since 1970 UTC; only to say how long a step has run by now.
pub fn now_ms() -> i64 {
    let since = UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
