//! Signing in and out. Who may sign in is the agent's to say.

use agent_protocol::{Password, Refusal};
use journal_format::RestoreId;
use rocket::form::Form;
use rocket::http::Status;
use rocket::{FromForm, State, get, post};
use serde_json::json;

use crate::agent::{AgentClient, NoAnswer};
use crate::caller::Caller;
use crate::page::Page;

#[derive(FromForm)]
pub struct SignInForm {
    token: Option<String>,
    user: String,
    password: String,
    restore: Option<String>,
}

#[derive(FromForm)]
pub struct OnlyToken {
    pub token: Option<String>,
}

/// What whoever held a session that is over reads, instead of a form without a reason.
const ENDED: &str = "Your session has ended: it was too old, or your password or your user on the gateway changed. \
                     After a restore the passwords are those of its backup.";

#[get("/sign-in?<restore>&<ended>")]
pub fn form(caller: Caller<'_>, restore: Option<&str>, ended: Option<&str>) -> Page {
    show(&caller, restore, None, ended.map(|_| ENDED))
}

/// The form. An address to come back to is known only as the id of a restore: never a text that could lead elsewhere.
fn show(
    caller: &Caller<'_>,
    restore: Option<&str>,
    name: Option<&str>,
    says: Option<&str>,
) -> Page {
    let restore = restore.and_then(|id| RestoreId::new(id).ok());
    match caller.sign_in_form() {
        Ok(token) => {
            let context =
                json!({ "sign_in_token": token, "restore": restore, "name": name, "says": says });
            Page::show("sign_in.html", context)
        }
        Err(e) => Page::broken(format!("The form could not be made: {e}.")),
    }
}

#[post("/sign-in", data = "<form>")]
pub async fn sign_in(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
    form: Form<SignInForm>,
) -> Result<Page, Page> {
    let form = form.into_inner();
    let asked = caller.check_sign_in_form(form.token.as_deref())?;
    let restore = form
        .restore
        .as_deref()
        .and_then(|id| RestoreId::new(id).ok());
    let password = Password::new(form.password);
    let again = |says, status| {
        let (restore, name) = (form.restore.as_deref(), form.user.as_str());
        show(&caller, restore, Some(name), Some(says)).with_status(status)
    };
    let user = form.user.clone();
    let signed_in = agent
        .sign_in(user, password, caller.device(), caller.from(), &asked)
        .await;
    Ok(match signed_in {
        Ok((session, device)) => {
            caller.signed_in(&session, device.as_ref());
            match (session.admin, restore) {
                (false, _) => Page::not_admin(&session),
                (true, Some(id)) => Page::go(format!("/restores/{id}")),
                (true, None) => Page::go("/"),
            }
        }
        Err(NoAnswer::Refused(Refusal::WrongPassword)) => again(
            "The user or the password is wrong, or the user is not active.",
            Status::Unauthorized,
        ),
        Err(NoAnswer::Refused(Refusal::MustChangePassword)) => again(
            "This password must be changed first. Sign in to the gateway once and choose another, then sign in here with that.",
            Status::Forbidden,
        ),
        Err(e) => Page::no_answer(e, None),
    })
}

#[post("/sign-out", data = "<form>")]
pub async fn sign_out(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
    form: Form<OnlyToken>,
) -> Result<Page, Page> {
    let asked = caller.check_form(form.token.as_deref())?;
    if let Some(bearer) = caller.bearer() {
        // If that fails the session goes on: it must not look as if it had ended.
        let ended = agent.sign_out(bearer, &asked).await;
        ended.map_err(|e| Page::no_answer(e, None))?;
        caller.signed_out();
    }
    Ok(Page::go("/sign-in"))
}
