//! The page of Holdfast. Unprivileged: talks to the agent and to nothing else of the gateway; reads no gateway file and
//! no state file; holds nothing that a restart would lose.
//!
//! [`rocket()`] is the whole application; the program and the tests start the same one. To the network it is served by
//! [`behind_front()`].
#![forbid(unsafe_code)]

mod address;
mod agent;
mod assets;
mod caller;
mod front;
mod headers;
mod host;
mod page;
mod routes;
mod settings;
mod view;

use address::{Connected, TrustedProxies};
pub use agent::AgentClient;
pub use caller::form_token;
pub use front::FrontLimits;
pub use settings::{Args, BadSettings, Settings};

use rocket::config::{LogLevel, Shutdown};
use rocket::figment::Figment;
use rocket::{Build, Config, Rocket};
use rocket_dyn_templates::Template;
use rocket_dyn_templates::minijinja::AutoEscape;

/// What the application needs to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Where the page is served and where the agent listens.
    pub settings: Settings,
}

/// This program, as it greets the agent.
pub const PROGRAM: &str = concat!("holdfast-web ", env!("CARGO_PKG_VERSION"));

/// The templates' engine wants a folder; all templates are in the program, so it stays empty.
struct NoTemplates {
    _folder: tempfile::TempDir,
}

/// The whole application.
pub fn rocket(app: App) -> std::io::Result<Rocket<Build>> {
    let folder = tempfile::Builder::new().prefix("holdfast-web-").tempdir()?;
    let config = Config {
        // For the front. Rocket listens on no socket that is closed to other accounts of this machine: whoever is on it can
        // connect here past the front's limits. There they find what the front passes on, and can fill it.
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        port: 0,
        // The front passes on one request of each connection.
        keep_alive: 0,
        // A header that any client can send says nothing about the client.
        ip_header: None,
        // Names that clients send stay out of the log: only what Rocket calls critical is written.
        log_level: LogLevel::Critical,
        cli_colors: false,
        ident: rocket::config::Ident::none(),
        // Event streams end by themselves at shutdown; nothing else takes long.
        shutdown: Shutdown {
            grace: 1,
            mercy: 1,
            ..Shutdown::default()
        },
        ..Config::default()
    };
    let figment = Figment::from(config).merge(("template_dir", folder.path()));
    Ok(rocket::custom(figment)
        .manage(AgentClient::new(app.settings.socket.clone()))
        .manage(NoTemplates { _folder: folder })
        .manage(TrustedProxies(app.settings.trusted_proxies.clone()))
        .attach(Template::custom(|engines| {
            // Before the templates: each takes the rule that holds when it is added.
            engines
                .minijinja
                .set_auto_escape_callback(|_| AutoEscape::Html);
            engines.minijinja.set_formatter(view::visible_formatter);
            for (name, text) in assets::TEMPLATES {
                if let Err(e) = engines.minijinja.add_template(name, text) {
                    // The texts are constants, and a test renders each of them.
                    rocket::error!("template {name}: {e}");
                }
            }
        }))
        .attach(host::Hosts(app.settings.hosts.clone()))
        .attach(headers::Headers)
        .mount("/", routes::all())
        .register("/", routes::catchers()))
}

/// The whole application behind its front, which serves this listener within these limits. Must be called on the runtime
/// that serves it.
pub fn behind_front(
    app: App,
    listener: std::net::TcpListener,
    limits: FrontLimits,
) -> std::io::Result<Rocket<Build>> {
    let connected = Connected::default();
    let front = front::Front::new(listener, limits, connected.clone())?;
    Ok(rocket(app)?.manage(connected).attach(front))
}
