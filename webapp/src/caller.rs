//! Who is asking: the session in the cookie, and whether the request comes from a page of this server. Decides nothing
//! about a user: the agent does.

use std::net::IpAddr;

use agent_protocol::{Session, Token};
use rocket::http::{Cookie, CookieJar, SameSite};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::time::Duration;
use serde_json::Value;
use subtle::ConstantTimeEq;

use crate::address;
use crate::agent::{AgentAnswer, AgentClient};
use crate::page::Page;

const SESSION: &str = "holdfast-session";
const SIGN_IN: &str = "holdfast-sign-in";
/// Opens nothing: it says to the agent that an admin has signed in here before.
const DEVICE: &str = "holdfast-device";
/// How long a browser keeps that; none keeps it longer.
const DEVICE_LASTS: Duration = Duration::days(400);

/// What one request says about who sent it.
pub struct Caller<'r> {
    cookies: &'r CookieJar<'r>,
    fetch_site: Option<&'r str>,
    origin: Option<&'r str>,
    host: Option<&'r str>,
    over_tls: bool,
    from: Option<IpAddr>,
}

/// What the agent gets to know of who asks: the session that the browser shows, and where the browser is.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The session.
    pub token: Token,
    /// Where the browser is.
    pub from: Option<IpAddr>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller<'r> {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let header = |name| request.headers().get_one(name);
        Outcome::Success(Caller {
            cookies: request.cookies(),
            fetch_site: header("Sec-Fetch-Site"),
            origin: header("Origin"),
            host: header("Host"),
            over_tls: header("X-Forwarded-Proto") == Some("https"),
            from: address::of(request),
        })
    }
}

/// An admin, as the agent said just now.
pub struct Admin {
    /// Their session.
    pub session: Session,
    from: Option<IpAddr>,
}

impl Admin {
    /// Who asks, for the agent.
    pub fn bearer(&self) -> Bearer {
        Bearer {
            token: self.session.token.clone(),
            from: self.from,
        }
    }
    /// A page with what every page of a signed-in admin shows and carries.
    pub fn page(&self, template: &'static str, mut context: Value) -> Page {
        if let Some(fields) = context.as_object_mut() {
            fields.insert("user".into(), self.session.user.clone().into());
            let form_token = form_token(self.session.token.reveal());
            fields.insert("form_token".into(), form_token.into());
        }
        Page::show(template, context)
    }
    /// What the agent answered, or the page that says why it did not.
    pub fn answered<T>(&self, answer: AgentAnswer<T>) -> Result<T, Page> {
        answer.map_err(|e| Page::no_answer(e, Some(&self.session)))
    }
}

/// That a page of this server, or the user of the browser, asked, and no other site: only with it is the agent asked for what
/// makes, changes or ends something. Only this module gives it.
pub struct Asked(());

/// What a form carries so that no other site can send it: known only to who knows the cookie, which no other site can
/// read, and never the cookie itself.
pub fn form_token(secret: &str) -> String {
    let key = blake3::derive_key("holdfast-web 2026-11-22 form token", secret.as_bytes());
    blake3::Hash::from_bytes(key).to_hex().to_string()
}

fn is_form_token(given: &str, secret: &str) -> bool {
    given.as_bytes().ct_eq(form_token(secret).as_bytes()).into()
}

impl Caller<'_> {
    /// The session that the browser shows, if it shows one.
    pub fn token(&self) -> Option<Token> {
        self.kept(SESSION)
    }

    /// The same, for the agent.
    pub fn bearer(&self) -> Option<Bearer> {
        let from = self.from;
        self.token().map(|token| Bearer { token, from })
    }

    /// Where the browser is.
    pub fn from(&self) -> Option<IpAddr> {
        self.from
    }

    fn kept(&self, cookie: &str) -> Option<Token> {
        Token::new(self.cookies.get(cookie)?.value()).ok()
    }

    /// The admin who asks, or the page that they get instead: sign-in, or that they are none.
    pub async fn admin(&self, agent: &AgentClient) -> Result<Admin, Page> {
        let Some(bearer) = self.bearer() else {
            return Err(Page::go("/sign-in"));
        };
        let session = agent.who(bearer).await;
        let session = session.map_err(|e| Page::no_answer(e, None))?;
        match session.admin {
            true => Ok(Admin {
                session,
                from: self.from,
            }),
            false => Err(Page::not_admin(&session)),
        }
    }

    /// The admin who asks by a form, or what they get instead.
    pub async fn admin_by_form(
        &self,
        agent: &AgentClient,
        token: Option<&str>,
    ) -> Result<(Admin, Asked), Page> {
        self.check_site()?;
        let admin = self.admin(agent).await?;
        let asked = self.check_form(token)?;
        Ok((admin, asked))
    }

    /// The admin who asks by a link for what makes or changes something, or what they get instead. A link carries nothing: the
    /// browser has to say that its own user asked.
    pub async fn admin_by_link(&self, agent: &AgentClient) -> Result<(Admin, Asked), Page> {
        let admin = self.admin(agent).await?;
        match self.fetch_site {
            Some("same-origin" | "none") => Ok((admin, Asked(()))),
            _ => Err(Page::forged_link()),
        }
    }

    /// Checks where a form of a signed-in user comes from and what it carries.
    pub fn check_form(&self, token: Option<&str>) -> Result<Asked, Page> {
        self.check_carried(token, self.token())
    }

    fn check_carried(&self, given: Option<&str>, secret: Option<Token>) -> Result<Asked, Page> {
        self.check_site()?;
        match (given, secret) {
            (Some(given), Some(secret)) if is_form_token(given, secret.reveal()) => Ok(Asked(())),
            _ => Err(Page::forged_form()),
        }
    }

    /// A form that a browser says comes from elsewhere is refused.
    pub fn check_site(&self) -> Result<(), Page> {
        let here = match (self.fetch_site, self.origin) {
            (Some(site), _) => matches!(site, "same-origin" | "none"),
            (None, Some(origin)) => {
                let host = origin
                    .strip_prefix("http://")
                    .or_else(|| origin.strip_prefix("https://"));
                host.is_some() && host == self.host
            }
            // No browser leaves out both; what the form carries decides.
            (None, None) => true,
        };
        here.then_some(()).ok_or_else(Page::forged_form)
    }

    /// The token for the sign-in form. Sets the cookie that it is made from, if there is none yet.
    pub fn sign_in_form(&self) -> Result<String, agent_protocol::NoRandomness> {
        let secret = self.kept(SIGN_IN).map_or_else(Token::random, Ok)?;
        self.cookies
            .add(self.cookie(SIGN_IN, secret.reveal(), "/sign-in"));
        Ok(form_token(secret.reveal()))
    }

    /// Checks what the sign-in form carries.
    pub fn check_sign_in_form(&self, token: Option<&str>) -> Result<Asked, Page> {
        self.check_carried(token, self.kept(SIGN_IN))
    }

    /// What this browser has kept of an earlier sign-in.
    pub fn device(&self) -> Option<Token> {
        self.kept(DEVICE)
    }

    /// From now on the browser shows this session, and the next time that it is known.
    pub fn signed_in(&self, session: &Session, device: Option<&Token>) {
        if let Some(device) = device {
            let mut cookie = self.cookie(DEVICE, device.reveal(), "/sign-in");
            cookie.set_max_age(DEVICE_LASTS);
            self.cookies.add(cookie);
        }
        self.cookies.remove(self.cookie(SIGN_IN, "", "/sign-in"));
        self.cookies
            .add(self.cookie(SESSION, session.token.reveal(), "/"));
    }

    /// From now on the browser shows none.
    pub fn signed_out(&self) {
        self.cookies.remove(self.cookie(SESSION, "", "/"));
    }

    fn cookie(&self, name: &'static str, value: &str, path: &'static str) -> Cookie<'static> {
        Cookie::build((name, value.to_string()))
            .path(path)
            .http_only(true)
            .same_site(SameSite::Strict)
            .secure(self.over_tls)
            .build()
    }
}
