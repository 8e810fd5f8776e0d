//! What a browser gets: a page, or another address to go to. Owns the wording of what went wrong; the routes say when.

use agent_protocol::{Refusal, Session};
use journal_format::Problem;
use rocket::http::{Header, Method, Status};
use rocket::request::Request;
use rocket::response::{self, Redirect, Responder, Response};
use rocket_dyn_templates::Template;
use serde_json::{Value, json};

use crate::agent::{Away, NoAnswer};
use crate::{assets, caller};

/// What a browser gets.
#[derive(Debug)]
pub enum Page {
    /// A page.
    Show {
        /// The status.
        status: Status,
        /// The template.
        template: &'static str,
        /// What it shows.
        context: Value,
    },
    /// Another address, to be asked for with GET.
    Go(String),
}

impl<'r> Responder<'r, 'static> for Page {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        match self {
            Page::Go(address) => Redirect::to(address).respond_to(request),
            Page::Show {
                status,
                template,
                mut context,
            } => {
                if let Some(fields) = context.as_object_mut() {
                    // Only what was asked for with GET can be asked for again.
                    let again = fields.get("refresh") == Some(&true.into());
                    if again && request.method() != Method::Get {
                        fields.insert("refresh".into(), false.into());
                        let first = json!({ "address": "/", "text": "Back to the overview" });
                        fields.insert("link".into(), first);
                    }
                    fields.insert("version".into(), assets::version().into());
                }
                let mut page =
                    Response::build_from(Template::render(template, context).respond_to(request)?);
                page.status(status);
                if status == Status::ServiceUnavailable {
                    page.header(Header::new("Retry-After", "5"));
                }
                page.ok()
            }
        }
    }
}

/// What a page that only says something shows.
struct Message {
    status: Status,
    title: &'static str,
    says: String,
    advice: &'static str,
    problems: Vec<Problem>,
    link: Option<(String, &'static str)>,
    refresh: bool,
}

impl Message {
    fn new(
        status: Status,
        title: &'static str,
        says: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self {
            status,
            title,
            says: says.into(),
            advice,
            problems: Vec::new(),
            link: None,
            refresh: false,
        }
    }
    fn problems(mut self, problems: Vec<Problem>) -> Self {
        self.problems = problems;
        self
    }
    fn link(mut self, address: impl Into<String>, text: &'static str) -> Self {
        self.link = Some((address.into(), text));
        self
    }
    fn page(self, who: Option<&Session>) -> Page {
        Page::Show {
            status: self.status,
            template: "message.html",
            context: json!({
                "title": self.title,
                "says": self.says,
                "advice": self.advice,
                "problems": self.problems,
                "link": self.link.map(|(address, text)| json!({ "address": address, "text": text })),
                "refresh": self.refresh,
                "user": who.map(|s| &s.user),
                "form_token": who.map(|s| caller::form_token(s.token.reveal())),
            }),
        }
    }
}

impl Page {
    /// A page.
    pub fn show(template: &'static str, context: Value) -> Page {
        Page::Show {
            status: Status::Ok,
            template,
            context,
        }
    }

    /// Another address, to be asked for with GET.
    pub fn go(address: impl Into<String>) -> Page {
        Page::Go(address.into())
    }

    /// The same page under another status.
    pub fn with_status(mut self, new: Status) -> Page {
        if let Page::Show { status, .. } = &mut self {
            *status = new;
        }
        self
    }

    /// The user is no admin.
    pub fn not_admin(session: &Session) -> Page {
        let says = format!(
            "{} is signed in, but is not an admin of this gateway.",
            session.user
        );
        let advice = "Sign out and sign in as an admin, or add the user to admins in the [web] table of the profile.";
        Message::new(Status::Forbidden, "For admins only", says, advice).page(Some(session))
    }

    /// A form without its token, or from another site.
    pub fn forged_form() -> Page {
        Message::new(
            Status::Forbidden,
            "This form is not accepted",
            "It does not carry what a form of this page carries, or it was sent from another site. Nothing was done.",
            "Go back to the first page, and send the form from there.",
        )
        .link("/", "Back to the overview")
        .page(None)
    }

    /// The page was asked for under a name that is not its own.
    pub fn wrong_host() -> Page {
        Message::new(
            Status::MisdirectedRequest,
            "Host name not allowed",
            "It was asked for under a name that the profile does not know: a page elsewhere may have led here. Nothing was \
             done.",
            "Use the gateway's IP address or localhost, or list the name in hosts in the [web] table of the profile and \
             start holdfast-web again.",
        )
        .page(None)
    }

    /// A link, to a download or to what changes something, that no page of this server was asked by.
    pub fn forged_link() -> Page {
        Message::new(
            Status::Forbidden,
            "This link is not accepted",
            "The browser did not say that it was asked for from this page (Sec-Fetch-Site). No backup was made, and nothing was \
             changed.",
            "Use the links and buttons of this page. Browsers say it only over HTTPS or on the gateway itself (localhost, or \
             127.0.0.1 through a tunnel of ssh).",
        )
        .link("/", "Back to the overview")
        .page(None)
    }

    /// A body over the limit.
    pub fn too_large(limit_mib: Option<u64>, who: Option<&Session>) -> Page {
        let says = match limit_mib {
            Some(mib) => {
                format!("The limit is {mib} MiB. Nothing of it was kept, and nothing was changed.")
            }
            None => "What was sent is over the limit of this form. Nothing was changed.".into(),
        };
        let advice = "If it is the right file, raise upload_mib in the [limits] table of the profile, or restore on the \
                      gateway itself: holdfast restore ARCHIVE.";
        Message::new(
            Status::PayloadTooLarge,
            "The upload is too large",
            says,
            advice,
        )
        .link("/system/restore", "Choose another file")
        .page(who)
    }

    /// An upload that broke off or was no file.
    pub fn bad_upload(says: &'static str, who: Option<&Session>) -> Page {
        Message::new(
            Status::BadRequest,
            "No archive arrived",
            says,
            "Choose the archive again. Nothing was changed.",
        )
        .link("/system/restore", "Choose a file")
        .page(who)
    }

    /// There is no such page.
    pub fn nothing_here() -> Page {
        Message::new(
            Status::NotFound,
            "Nothing here",
            "There is no such page. Nothing was changed.",
            "",
        )
        .link("/", "Back to the overview")
        .page(None)
    }

    /// A request that is not understood.
    pub fn not_understood(status: Status) -> Page {
        Message::new(
            status,
            "Not understood",
            "The request is not one that this page makes. Nothing was done.",
            "",
        )
        .link("/", "Back to the overview")
        .page(None)
    }

    /// This program failed.
    pub fn broken(says: impl Into<String>) -> Page {
        let advice = "Try again. A restore that runs continues: it is a process of its own.";
        Message::new(
            Status::InternalServerError,
            "The request failed",
            says,
            advice,
        )
        .link("/", "Back to the overview")
        .page(None)
    }

    /// What the agent's refusal, or its silence, looks like; to nobody in particular where no session counts.
    pub fn no_answer(answer: NoAnswer, who: Option<&Session>) -> Page {
        match answer {
            NoAnswer::Away(away) => Page::away(&away, who),
            NoAnswer::Refused(refusal) => Page::refused(refusal, who),
        }
    }

    fn away(away: &Away, who: Option<&Session>) -> Page {
        let mut message = Message::new(
            Status::ServiceUnavailable,
            "The agent does not answer",
            format!("The Holdfast agent on this gateway does not answer: {away}."),
            "On the gateway, run `systemctl status holdfast-agent`, and if the agent does not run, `systemctl restart holdfast-agent`. A restore that runs is a process of its own and continues.",
        );
        message.refresh = true;
        message.page(who)
    }

    fn refused(refusal: Refusal, who: Option<&Session>) -> Page {
        match refusal {
            // Wherever it is not the sign-in form that is answered, they must sign in again.
            Refusal::WrongPassword | Refusal::MustChangePassword | Refusal::NotSignedIn => {
                Page::go("/sign-in?ended=yes")
            }
            Refusal::NotAdmin => match who {
                Some(session) => Page::not_admin(session),
                None => Message::new(
                    Status::Forbidden,
                    "For admins only",
                    "Only admins may do this.",
                    "",
                )
                .page(None),
            },
            Refusal::TooLarge { limit_mib } => Page::too_large(Some(limit_mib), who),
            Refusal::Unacceptable { problems } => Message::new(
                Status::UnprocessableEntity,
                "This backup cannot be restored here",
                "A restore from this archive was not started. Nothing was changed.",
                "",
            )
            .problems(problems)
            .link("/system/restore", "Choose another file")
            .page(who),
            Refusal::Busy { problem, restore } => {
                let says = match restore {
                    Some(_) => "Another restore is not finished. This request changed nothing.",
                    None => "Holdfast already works on the gateway. This request changed nothing.",
                };
                let message =
                    Message::new(Status::Conflict, "Busy", says, "").problems(vec![problem]);
                match restore {
                    Some(id) => message.link(format!("/restores/{id}"), "Show that restore"),
                    None => message.link("/", "Back to the overview"),
                }
                .page(who)
            }
            Refusal::Gone { problem } => Message::new(
                Status::NotFound,
                "No longer available",
                "What this page would show is not there any more. This request changed nothing.",
                "",
            )
            .problems(vec![problem])
            .link("/", "Back to the overview")
            .page(who),
            Refusal::Used { restore } => Message::new(
                Status::Conflict,
                "Confirmed already",
                "A confirmation counts once. This one has started a restore.",
                "To restore from the same archive again, upload it again.",
            )
            .link(format!("/restores/{restore}"), "Show that restore")
            .page(who),
            Refusal::Failed { problem } => {
                let says = "The agent on the gateway could not do what this page asked for. The reason is below. The overview \
                            shows whether the gateway changed.";
                Message::new(Status::InternalServerError, "The request failed", says, "")
                    .problems(vec![problem])
                    .link("/", "Back to the overview")
                    .page(who)
            }
        }
    }
}
