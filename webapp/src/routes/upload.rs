//! Taking an archive, and the page that says what a restore from it would overwrite. The bytes go on to the agent part
//! by part as they come; nothing of them is kept here, and what breaks off the agent throws away.

use std::time::Duration;

use agent_protocol::{Preview, RequestId, UploadId};
use multer::{Field, Multipart};
use rocket::data::{ByteUnit, Data};
use rocket::http::{ContentType, Status};
use rocket::tokio::io::{AsyncRead, sink};
use rocket::tokio::time::timeout;
use rocket::{State, get, post};
use serde_json::json;

use super::restore::now_ms;
use crate::agent::{AgentClient, Away, UploadChunk};
use crate::caller::{Admin, Asked, Caller};
use crate::page::Page;
use crate::view;

/// The longest field besides the archive, bytes.
const FIELD: usize = 4096;
/// The longest name of an archive that is kept, for people only.
const NAME: usize = 200;
/// How long the rest of a refused body is taken in, so that the browser reads the answer instead of a broken connection.
const DRAIN: Duration = Duration::from_secs(60);

#[get("/system/restore?<upload>")]
pub async fn form(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
    upload: Option<&str>,
) -> Result<Page, Page> {
    let admin = caller.admin(agent).await?;
    let Some(upload) = upload else {
        let overview = admin.answered(agent.overview(admin.bearer()).await)?;
        return Ok(admin.page("upload.html", view::home(&overview)));
    };
    let upload = UploadId::new(upload).map_err(|_| Page::nothing_here())?;
    let preview = admin.answered(agent.preview(admin.bearer(), upload).await)?;
    let request = RequestId::random()
        .map_err(|e| Page::broken(format!("The form could not be made: {e}.")))?;
    let context = json!({ "preview": view::preview(&preview, &admin.session.user, now_ms()), "request": request });
    Ok(admin.page("confirm.html", context))
}

#[post("/system/restore", data = "<body>")]
pub async fn upload(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
    kind: Option<&ContentType>,
    body: Data<'_>,
) -> Result<Page, Page> {
    caller.check_site()?;
    let admin = caller.admin(agent).await?;
    let kind = kind.filter(|k| k.is_form_data());
    let Some(boundary) = kind.and_then(|k| k.param("boundary")) else {
        return Err(Page::bad_upload(
            "The form was not sent as one with a file.",
            Some(&admin.session),
        ));
    };
    // The agent says how much it takes; the count is kept below.
    let mut body = body.open(ByteUnit::max_value());
    let form = Multipart::with_reader(&mut body, boundary);
    match take(&caller, agent, &admin, form).await {
        Ok(preview) => {
            let address = format!("/system/restore?upload={}", preview.upload);
            Ok(Page::go(address))
        }
        Err(page) => {
            drain(body).await;
            Err(page)
        }
    }
}

/// Reads a refused body to its end, within bounds.
async fn drain(mut body: impl AsyncRead + Unpin) {
    // What comes of it does not matter: the answer is known already.
    drop(timeout(DRAIN, rocket::tokio::io::copy(&mut body, &mut sink())).await);
}

async fn take(
    caller: &Caller<'_>,
    agent: &AgentClient,
    admin: &Admin,
    mut form: Multipart<'_>,
) -> Result<Preview, Page> {
    let who = Some(&admin.session);
    let broken = |_| Page::bad_upload("The upload broke off, or is not a form.", who);
    let mut token = None;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        match field.name() {
            Some("token") => token = Some(text(field, who).await?),
            Some("archive") => {
                // The form sends its token first: no byte of a file is taken in from elsewhere.
                let asked = caller.check_form(token.as_deref())?;
                let name = shown_name(field.file_name().unwrap_or_default());
                if name.is_empty() {
                    return Err(Page::bad_upload("No file was chosen.", who));
                }
                return pass_on(agent, admin, (name, field), &asked).await;
            }
            _ => {}
        }
    }
    caller.check_form(token.as_deref())?;
    Err(Page::bad_upload("No file was chosen.", who))
}

async fn text(mut field: Field<'_>, who: Option<&agent_protocol::Session>) -> Result<String, Page> {
    let broken = |_| Page::bad_upload("The upload broke off.", who);
    let mut bytes = Vec::new();
    while let Some(part) = field.chunk().await.map_err(broken)? {
        if bytes.len() + part.len() > FIELD {
            return Err(Page::not_understood(Status::BadRequest));
        }
        bytes.extend_from_slice(&part);
    }
    String::from_utf8(bytes).map_err(|_| Page::not_understood(Status::BadRequest))
}

/// The name as people see it. It is never a path: no part of it before a slash, no control characters.
fn shown_name(sent: &str) -> String {
    let last = sent.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown = last.chars().filter(|c| !c.is_control());
    shown.take(NAME).collect()
}

async fn pass_on(
    agent: &AgentClient,
    admin: &Admin,
    (name, mut field): (String, Field<'_>),
    asked: &Asked,
) -> Result<Preview, Page> {
    let who = Some(&admin.session);
    let upload = admin.answered(agent.upload(admin.bearer(), name, asked).await)?;
    let mut sent = 0u64;
    loop {
        match field.chunk().await {
            Ok(Some(part)) => {
                sent = sent.saturating_add(part.len() as u64);
                if sent > upload.limit {
                    return Err(Page::too_large(Some(upload.limit >> 20), who));
                }
                // The agent that takes no more says why.
                let part = UploadChunk::Bytes(part.to_vec());
                if upload.parts.send(part).await.is_err() {
                    break;
                }
            }
            Ok(None) => {
                // The same holds here: the outcome tells.
                drop(upload.parts.send(UploadChunk::End).await);
                break;
            }
            Err(_) => return Err(Page::bad_upload("The upload broke off.", who)),
        }
    }
    let outcome = upload.outcome.await;
    admin.answered(outcome.unwrap_or_else(|_| Err(Away::GaveUp.into())))
}
