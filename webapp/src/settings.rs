//! Where the page is served and where the agent listens: the command line over the profile's `[web]` table. No other
//! table is looked at; what they hold is the agent's.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Serves the page of Holdfast. Needs no privilege.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "holdfast-web", version, about)]
pub struct Args {
    /// The profile; only its table "web" is read
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    pub config: Option<PathBuf>,
    /// The agent's socket
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// The address to serve on, instead of the profile's
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// The port to serve on, instead of the profile's
    #[arg(long)]
    pub port: Option<u16>,
}

/// Where the page is served and where the agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The agent's socket.
    pub socket: PathBuf,
    /// The address to serve on.
    pub address: IpAddr,
    /// The port to serve on; 0 takes a free one.
    pub port: u16,
    /// Names, besides addresses and `localhost`, under which the page may be asked for.
    pub hosts: Vec<String>,
    /// Proxies that are believed when they say where a browser is.
    pub trusted_proxies: Vec<IpAddr>,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// The profile cannot be read.
    #[error("cannot read the profile {}: {error}\n  what to do: name an existing file with --config or HOLDFAST_CONFIG", file.display())]
    Unreadable {
        /// The profile.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The profile's `[web]` table is not understood.
    #[error("cannot understand the [web] table of the profile {}: {error}\n  what to do: change that line; the README describes every key", file.display())]
    NotUnderstood {
        /// The profile.
        file: PathBuf,
        /// Why.
        error: String,
    },
}

const DEFAULT_CONFIG: &str = "/etc/holdfast/holdfast.toml";

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    web: Web,
}

#[derive(Deserialize)]
#[serde(default)]
struct Web {
    address: String,
    port: u16,
    hosts: Vec<String>,
    trusted_proxies: Vec<IpAddr>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            address: "127.0.0.1".into(),
            port: 8080,
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Settings {
    /// The command line over the profile over the defaults. Only the profile at its default place may be missing.
    pub fn from_args(args: &Args) -> Result<Settings, BadSettings> {
        let file = args.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into());
        let web = match std::fs::read_to_string(&file) {
            Ok(text) => web_table(&text, &file)?,
            Err(e) if args.config.is_none() && e.kind() == std::io::ErrorKind::NotFound => {
                Web::default()
            }
            Err(error) => return Err(BadSettings::Unreadable { file, error }),
        };
        let address = match args.address {
            Some(address) => address,
            None => web
                .address
                .parse()
                .map_err(|_| BadSettings::NotUnderstood {
                    file,
                    error: format!("{:?} is not an IP address", web.address),
                })?,
        };
        Ok(Settings {
            socket: args.socket.clone(),
            address,
            port: args.port.unwrap_or(web.port),
            hosts: web.hosts,
            trusted_proxies: web.trusted_proxies,
        })
    }
}

fn web_table(text: &str, file: &Path) -> Result<Web, BadSettings> {
    toml::from_str::<File>(text)
        .map(|f| f.web)
        .map_err(|e| BadSettings::NotUnderstood {
            file: file.into(),
            // The full error quotes the line, and a line of another table is none of this program's business.
            error: e.message().into(),
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    fn from(profile: &str, args: &[&str]) -> Result<Settings, BadSettings> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("holdfast.toml");
        std::fs::write(&file, profile).unwrap();
        let file = file.to_str().unwrap();
        let fixed = ["holdfast-web", "--config", file, "--socket", "/run/a.sock"];
        Settings::from_args(&Args::parse_from(fixed.iter().chain(args)))
    }

    #[test]
    fn the_command_line_goes_before_the_profile_and_the_profile_before_the_defaults() {
        let profile = "state_dir = 5\n[gateway]\nanything = true\n[web]\naddress = \"::1\"\nport = 81\nhosts = [\"gw.example.org\"]\ntrusted_proxies = [\"::1\"]\nadmins = []";
        let got = from(profile, &[]).unwrap();
        assert_eq!((got.address.to_string().as_str(), got.port), ("::1", 81));
        assert_eq!(got.hosts, ["gw.example.org"]);
        assert_eq!(got.trusted_proxies, ["::1".parse::<IpAddr>().unwrap()]);
        let got = from(profile, &["--port", "82", "--address", "127.0.0.2"]).unwrap();
        assert_eq!(
            (got.address.to_string().as_str(), got.port),
            ("127.0.0.2", 82)
        );
        let got = from("", &[]).unwrap();
        assert_eq!(
            (got.address.to_string().as_str(), got.port),
            ("127.0.0.1", 8080)
        );
    }

    #[test]
    fn a_profile_that_was_named_must_be_there_and_its_address_must_be_one() {
        assert!(matches!(
            from("[web]\naddress = \"everywhere\"", &[]),
            Err(BadSettings::NotUnderstood { .. })
        ));
        let args = Args::parse_from([
            "holdfast-web",
            "--config",
            "/nonexistent/x",
            "--socket",
            "/s",
        ]);
        assert!(matches!(
            Settings::from_args(&args),
            Err(BadSettings::Unreadable { .. })
        ));
    }
}
