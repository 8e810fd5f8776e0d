//! The first page: the last good backup, a way to make one, a way to restore from one, and the restores there were.

use rocket::{State, get};

use crate::agent::AgentClient;
use crate::caller::{Admin, Caller};
use crate::page::Page;
use crate::view;

#[get("/")]
pub async fn home(caller: Caller<'_>, agent: &State<AgentClient>) -> Result<Page, Page> {
    let admin = caller.admin(agent).await?;
    let overview = agent.overview(admin.token()).await;
    let overview = overview.map_err(|e| Page::no_answer_for(e, Some(&admin.session)))?;
    Ok(Page::show(
        "home.html",
        signed_in(view::home(&overview), &admin),
    ))
}

/// A context with what every page of a signed-in admin shows and carries.
pub fn signed_in(mut context: serde_json::Value, admin: &Admin) -> serde_json::Value {
    if let Some(fields) = context.as_object_mut() {
        fields.insert("user".into(), admin.session.user.clone().into());
        fields.insert("form_token".into(), admin.form_token().into());
    }
    context
}
