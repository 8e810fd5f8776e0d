//! Making and downloading a backup, and what runs. The bytes pass through; nothing of them is kept here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use agent_protocol::Status as Standing;
use rocket::http::ContentType;
use rocket::request::Request;
use rocket::response::{self, Responder, Response};
use rocket::serde::json::Json;
use rocket::tokio::io::{AsyncRead, ReadBuf};
use rocket::{State, get};

use crate::agent::{Agent, Bytes};
use crate::caller::Caller;
use crate::page::Page;

/// A backup on its way to the browser.
pub struct Download {
    backup: agent_protocol::Backup,
    body: Body,
}

/// The agent's bytes as a reader. A transfer that breaks off is an error, never an early end.
struct Body {
    bytes: Bytes,
    part: io::Cursor<Vec<u8>>,
}

impl AsyncRead for Body {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.part.position() >= self.part.get_ref().len() as u64 {
            match ready!(self.bytes.poll_recv(cx)) {
                Some(Ok(part)) => self.part = io::Cursor::new(part),
                Some(Err(e)) => return Poll::Ready(Err(io::Error::other(e.to_string()))),
                None => return Poll::Ready(Ok(())),
            }
        }
        Pin::new(&mut self.part).poll_read(cx, into)
    }
}

impl<'r> Responder<'r, 'static> for Download {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        Response::build()
            .header(ContentType::ZIP)
            // With the length said beforehand, a browser tells a download that broke off from a whole one.
            .raw_header("Content-Length", self.backup.size.to_string())
            .raw_header(
                "Content-Disposition",
                format!("attachment; filename=\"{}\"", plain(&self.backup.name)),
            )
            .raw_header("Cache-Control", "no-store")
            .streamed_body(self.body)
            .ok()
    }
}

/// The agent makes these names itself; a quote in one must still not end the header's value.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .collect()
}

#[get("/system/backup")]
pub async fn download(caller: Caller<'_>, agent: &State<Agent>) -> Result<Download, Page> {
    let admin = caller.admin(agent).await?;
    // It makes something, though it is asked for with GET: no other site may cause it.
    if !caller.asked_by_user() {
        return Err(Page::forged_download());
    }
    let backup = agent.backup(admin.token()).await;
    let (backup, bytes) = backup.map_err(|e| Page::no_answer_for(e, Some(&admin.session)))?;
    Ok(Download {
        backup,
        body: Body {
            bytes,
            part: io::Cursor::default(),
        },
    })
}

#[get("/system/backup-status")]
pub async fn status(caller: Caller<'_>, agent: &State<Agent>) -> Result<Json<Standing>, Page> {
    let admin = caller.admin(agent).await?;
    let status = agent.status(admin.token()).await;
    status
        .map(Json)
        .map_err(|e| Page::no_answer_for(e, Some(&admin.session)))
}
