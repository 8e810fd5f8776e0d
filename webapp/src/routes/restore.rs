//! Confirming a restore, and the page on which it is watched.

use std::time::{SystemTime, UNIX_EPOCH};

use agent_protocol::{Ask, RequestId, UploadId};
use journal_format::{Digest, RestoreId};
use rocket::form::Form;
use rocket::http::Status;
use rocket::{FromForm, State, get, post};
use serde_json::json;

use super::home::signed_in;
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
    keep_open_folders: Option<String>,
    without_safety_backup_of: Vec<String>,
}

#[derive(FromForm)]
pub struct Discard {
    token: Option<String>,
    upload: String,
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
        keep_open_folders: ticked(&form.keep_open_folders),
        without_safety_backup_of: form.without_safety_backup_of.clone(),
    };
    let started = agent.start(admin.token(), ask, &asked).await;
    let id = started.map_err(|e| Page::no_answer_for(e, Some(&admin.session)))?;
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
    let discarded = agent.discard(admin.token(), upload, &asked).await;
    discarded.map_err(|e| Page::no_answer_for(e, Some(&admin.session)))?;
    Ok(Page::go("/"))
}

#[get("/restores/<id>")]
pub async fn page(caller: Caller<'_>, agent: &State<AgentClient>, id: &str) -> Result<Page, Page> {
    let id = RestoreId::new(id).map_err(|_| Page::nothing_here())?;
    if !caller.has_session() {
        return Err(Page::go(format!("/sign-in?restore={id}")));
    }
    let admin = caller.admin(agent).await?;
    let restore = agent.restore(admin.token(), id).await;
    let (restore, halt) = restore.map_err(|e| Page::no_answer_for(e, Some(&admin.session)))?;
    let live = view::live(&restore, halt.as_ref(), now_ms());
    Ok(Page::show(
        "restore.html",
        signed_in(json!({ "live": live }), &admin),
    ))
}

/// To the confirmation again, where what the safety backup lacked can be accepted.
#[get("/restores/<id>/again")]
pub async fn again(caller: Caller<'_>, agent: &State<AgentClient>, id: &str) -> Result<Page, Page> {
    let id = RestoreId::new(id).map_err(|_| Page::nothing_here())?;
    let (admin, asked) = caller.admin_by_link(agent).await?;
    let preview = agent.again(admin.token(), id, &asked).await;
    let preview = preview.map_err(|e| Page::no_answer_for(e, Some(&admin.session)))?;
    let address = format!("/system/restore?upload={}", preview.upload);
    Ok(Page::go(address))
}

/// The wall clock, milliseconds since 1970 UTC; only to say how long a step has run by now.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
