//! The live step list as server-sent events. An event's id is its record's place in the journal, so a browser that
//! comes back says what it has and gets the rest: from the agent, not from anything remembered here.

use std::time::Duration;

use agent_protocol::{GatewayLines, Halt, Reply};
use journal_format::{RestoreId, Seq, View};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::Responder;
use rocket::response::status::NoContent;
use rocket::response::stream::{Event, EventStream};
use rocket::tokio::select;
use rocket::tokio::time::sleep;
use rocket::{Shutdown, State, get};
use rocket_dyn_templates::Metadata;
use serde_json::{Value, json};

use super::restore::now_ms;
use crate::agent::{AgentClient, NoAnswer};
use crate::caller::{Caller, form_token};
use crate::page::Page;
use crate::view;

/// How long a browser waits before it comes back, and this server before it asks the agent again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The last event that a browser that comes back has.
pub struct LastEvent(Option<Seq>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for LastEvent {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let id = request.headers().get_one("Last-Event-ID");
        Outcome::Success(LastEvent(id.and_then(|id| id.trim().parse().ok()).map(Seq)))
    }
}

/// What is answered where there are no events.
#[derive(Responder)]
pub enum Instead {
    /// Nothing was missed and nothing will come: the browser is not to ask again.
    Nothing(NoContent),
    /// A page.
    Page(Page),
}

impl From<Page> for Instead {
    fn from(page: Page) -> Self {
        Instead::Page(page)
    }
}

#[get("/restores/<id>/events?<after>")]
pub async fn events<'r>(
    caller: Caller<'r>,
    agent: &'r State<AgentClient>,
    templates: Metadata<'r>,
    last: LastEvent,
    id: &'r str,
    after: Option<u64>,
    mut shutdown: Shutdown,
) -> Result<EventStream![Event + 'r], Instead> {
    let id = RestoreId::new(id).map_err(|_| Page::nothing_here())?;
    let admin = caller.admin(agent).await?;
    // The address says what the page had when it was made; the header, what came since.
    let mut seen = last.0.or(after.map(Seq));
    let opened = agent.events(admin.bearer(), id.clone(), seen).await;
    let (first, mut replies) = admin.answered(opened)?;
    if matches!(first, Reply::Over) {
        return Err(Instead::Nothing(NoContent));
    }
    let mut waiting = Some(first);
    let around = Around {
        templates,
        form_token: form_token(admin.session.token.reveal()),
    };
    Ok(EventStream! {
        yield Event::retry(AGAIN_AFTER);
        loop {
            let reply = match waiting.take() {
                Some(reply) => Some(Ok(reply)),
                None => select! {
                    reply = replies.next() => reply,
                    () = &mut shutdown => break,
                },
            };
            match reply {
                Some(Ok(Reply::Event { event, view, now })) => {
                    if seen.is_some_and(|seen| event.seq <= seen) {
                        continue;
                    }
                    seen = Some(event.seq);
                    let news = news(&event, &view, now.as_ref(), &around);
                    yield Event::data(news.to_string()).id(event.seq.to_string());
                }
                // Without an id: the browser still has what it had of the journal.
                Some(Ok(Reply::Halt { view, halt, now })) => {
                    let news = shown(&view, halt.as_ref(), now.as_ref(), &around);
                    yield Event::data(news.to_string()).event("halt");
                }
                Some(Ok(Reply::Alive)) => {}
                // The session is over, say: the browser's own next question tells it.
                Some(Ok(Reply::Over | Reply::Refused(_))) => break,
                Some(Ok(_) | Err(_)) | None => {
                    yield Event::data("away").event("agent");
                    let again = loop {
                        select! {
                            () = sleep(AGAIN_AFTER) => {}
                            () = &mut shutdown => break None,
                        }
                        match agent.events(admin.bearer(), id.clone(), seen).await {
                            Ok(opened) => break Some(opened),
                            Err(NoAnswer::Away(_)) => {}
                            Err(NoAnswer::Refused(_)) => break None,
                        }
                    };
                    let Some((reply, more)) = again else { break };
                    yield Event::data("back").event("agent");
                    waiting = Some(reply);
                    replies = more;
                }
            }
        }
    })
}

/// What the list is shown with.
struct Around<'r> {
    templates: Metadata<'r>,
    /// What its forms carry.
    form_token: String,
}

/// One event for programs, and with it the list as the page shows it.
fn news(
    event: &journal_format::Event,
    view: &View,
    now: Option<&GatewayLines>,
    around: &Around<'_>,
) -> Value {
    let mut news = json!(event);
    if let (Some(fields), Value::Object(shown)) =
        (news.as_object_mut(), shown(view, None, now, around))
    {
        fields.extend(shown);
    }
    news
}

/// The list as the page shows it, and what is shown around it.
fn shown(
    view: &View,
    halt: Option<&Halt>,
    now: Option<&GatewayLines>,
    around: &Around<'_>,
) -> Value {
    let live = view::live(view, halt, now, now_ms());
    let context = json!({ "live": live, "form_token": around.form_token });
    let html = around.templates.render("live.html", context);
    json!({
        "title": format!("{} · Holdfast", live.title),
        "summary": journal_format::visible(&live.summary),
        "html": html.map(|(_, html)| html),
    })
}
