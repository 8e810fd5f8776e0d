//! Making and downloading a backup, and what runs. The bytes pass through; nothing of them is kept here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use agent_protocol::{BackupLine, Status as Standing};
use journal_format::Digest;
use rocket::http::{ContentType, Status as HttpStatus};
use rocket::request::Request;
use rocket::response::{self, Responder, Response};
use rocket::serde::json::Json;
use rocket::tokio::io::{AsyncRead, ReadBuf};
use rocket::{State, get};
use serde_json::json;

use crate::agent::{AgentClient, ArchiveBytes, MadeBackup};
use crate::caller::{Admin, Caller};
use crate::page::Page;
use crate::view;

/// A backup on its way to the browser.
pub struct Download {
    backup: BackupLine,
    body: Body,
}

/// The agent's bytes as a reader. A transfer that breaks off is an error, never an early end.
struct Body {
    bytes: ArchiveBytes,
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
pub async fn download(caller: Caller<'_>, agent: &State<AgentClient>) -> Result<Download, Page> {
    // It makes something, though it is asked for with GET.
    let (admin, asked) = caller.admin_by_link(agent).await?;
    let made = admin.answered(agent.backup(admin.bearer(), &asked).await)?;
    answer(made, &admin)
}

/// A backup that was said to be incomplete, all the same.
#[get("/system/backup/<sha256>")]
pub async fn download_as_it_is(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
    sha256: &str,
) -> Result<Download, Page> {
    let sha256 = Digest::new(sha256).map_err(|_| Page::nothing_here())?;
    let (admin, asked) = caller.admin_by_link(agent).await?;
    let made = agent.backup_as_it_is(admin.bearer(), sha256, &asked).await;
    answer(admin.answered(made)?, &admin)
}

fn answer(made: MadeBackup, admin: &Admin) -> Result<Download, Page> {
    match made {
        MadeBackup::Given(backup, bytes) => {
            let part = io::Cursor::default();
            let body = Body { bytes, part };
            Ok(Download { backup, body })
        }
        MadeBackup::Incomplete(backup) => Err(incomplete(&backup, admin)),
    }
}

/// Nobody who saves what is answered, a script least of all, may take it for a good backup: the page says what lacks, and
/// where the bytes are.
fn incomplete(backup: &BackupLine, admin: &Admin) -> Page {
    let context = json!({ "backup": view::backup(backup) });
    let page = admin.page("incomplete.html", context);
    page.with_status(HttpStatus::Conflict)
}

#[get("/system/backup-status")]
pub async fn status(
    caller: Caller<'_>,
    agent: &State<AgentClient>,
) -> Result<Json<Standing>, Page> {
    let admin = caller.admin(agent).await?;
    let status = admin.answered(agent.status(admin.bearer()).await)?;
    Ok(Json(status))
}
