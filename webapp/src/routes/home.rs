//! The first page: the last good backup, a way to make one, a way to restore from one, and the restores there were.

use rocket::{State, get};

use crate::agent::AgentClient;
use crate::caller::Caller;
use crate::page::Page;
use crate::view;

#[get("/")]
pub async fn home(caller: Caller<'_>, agent: &State<AgentClient>) -> Result<Page, Page> {
    let admin = caller.admin(agent).await?;
    let overview = admin.answered(agent.overview(admin.bearer()).await)?;
    Ok(admin.page("home.html", view::home(&overview)))
}
