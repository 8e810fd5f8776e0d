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

#[get("/sign-in?<restore>")]
pub fn form(caller: Caller<'_>, restore: Option<&str>) -> Page {
    show(&caller, restore, None, None)
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
) -> Page {
    let form = form.into_inner();
    let asked = match caller.check_sign_in_form(form.token.as_deref()) {
        Ok(asked) => asked,
        Err(page) => return page,
    };
    let restore = form
        .restore
        .as_deref()
        .and_then(|id| RestoreId::new(id).ok());
    let password = Password::new(form.password);
    let again = |says, status| {
        let (restore, name) = (form.restore.as_deref(), form.user.as_str());
        show(&caller, restore, Some(name), Some(says)).with_status(status)
    };
    match agent
        .sign_in(form.user.clone(), password, caller.device(), &asked)
        .await
    {
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
        Err(e) => Page::no_answer(e),
    }
}

#[post("/sign-out", data = "<form>")]
pub async fn sign_out(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
    form: Form<OnlyToken>,
) -> Page {
    let asked = match caller.check_form(form.token.as_deref()) {
        Ok(asked) => asked,
        Err(page) => return page,
    };
    let Some(token) = caller.session_to_end() else {
        return Page::go("/sign-in");
    };
    match agent.sign_out(token, &asked).await {
        Ok(()) => {
            caller.signed_out();
            Page::go("/sign-in")
        }
        // The session would go on: it must not look as if it had ended.
        Err(e) => Page::no_answer(e),
    }
}
