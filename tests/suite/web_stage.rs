//! A sample gateway in its sandbox with the agent inside and the page outside, joined by the socket; and a client that
//! does what a browser without JavaScript does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fixtures::{Real, Running, Sample, Sandbox, User, program, skip};

use crate::on_a_gateway::json;

/// A gateway, the agent and the page.
pub struct Stage {
    pub sandbox: Sandbox,
    pub port: u16,
    agent: Option<Running>,
    web: Option<Child>,
    web_log: tempfile::NamedTempFile,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Up and ready; none where the machine cannot have it.
    pub fn set() -> Option<Stage> {
        Stage::with(|folder| Real::gateway_5().unpack(folder).unwrap())
    }

    /// With the gateway that this makes below a folder.
    pub fn with(make: impl FnOnce(&Path) -> Sample) -> Option<Stage> {
        if skip::cannot_run_gateways() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let sample = make(folder.path());
        let sandbox = Sandbox::start(&sample).unwrap();
        let mut stage = Stage {
            sandbox,
            port: 0,
            agent: None,
            web: None,
            web_log: tempfile::NamedTempFile::new().unwrap(),
            _folder: folder,
        };
        stage.secure();
        stage.start_agent();
        stage.start_web();
        Some(stage)
    }

    /// Closes what an install leaves open to every account, as an admin must before the page opens to anybody.
    pub fn secure(&self) {
        let holdfast = program("holdfast").unwrap();
        let argv = [
            holdfast.to_str().unwrap(),
            "--config",
            &self.config(),
            "secure",
        ];
        self.sandbox.run(&argv).unwrap().ok().unwrap();
    }

    pub fn sample(&self) -> &Sample {
        self.sandbox.sample()
    }

    fn socket(&self) -> String {
        self.sample()
            .root()
            .join("agent.sock")
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn config(&self) -> String {
        self.sample().profile().to_str().unwrap().to_owned()
    }

    fn agent(&self) -> [String; 6] {
        let holdfast = program("holdfast").unwrap();
        let options = ["--config", &self.config(), "agent", "--socket"];
        let [config, file, agent, socket] = options.map(str::to_owned);
        let holdfast = holdfast.to_str().unwrap().to_owned();
        [holdfast, config, file, agent, socket, self.socket()]
    }

    pub fn start_agent(&mut self) {
        let argv = self.agent();
        let argv = argv.each_ref().map(String::as_str);
        self.agent = Some(self.sandbox.spawn(&argv).unwrap());
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            let agent = self.agent.as_mut().unwrap();
            assert!(
                !agent.has_ended().unwrap(),
                "{}",
                agent.stderr_so_far().unwrap()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// In the place of the one that runs. What is written to its input is typed at the terminal.
    pub fn start_agent_at_a_terminal(&mut self) -> std::process::Child {
        self.kill_agent();
        let script = ["script", "-qefc", &self.agent().join(" "), "/dev/null"];
        let mut terminal = self
            .sandbox
            .command(&script)
            .env("SHELL", "/bin/bash")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(terminal.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(10));
        }
        terminal
    }

    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        assert!(agent.kill9().unwrap());
        agent.wait().unwrap();
    }

    /// Kills the process that works on the open restore, as a crash would.
    pub fn kill_restore(&self) {
        self.signal_restore("KILL");
    }

    pub fn signal_restore(&self, signal: &str) {
        let holdfast = program("holdfast").unwrap().to_str().unwrap().to_owned();
        let status = self
            .sandbox
            .run(&[&holdfast, "--config", &self.config(), "--json", "status"])
            .unwrap();
        let status = json(&status.ok().unwrap().stdout);
        let pid = status["view"]["pid"].as_u64().unwrap().to_string();
        self.sandbox
            .run(&["kill", "-s", signal, &pid])
            .unwrap()
            .ok()
            .unwrap();
    }

    /// A restore that the command line starts, from the newest backup that the page made.
    pub fn start_restore(&self) -> Running {
        let backups = std::fs::read_dir(self.sample().state_dir().join("backups")).unwrap();
        let zips = backups.map(|e| e.unwrap().path().to_str().unwrap().to_owned());
        let archive = zips.filter(|n| n.ends_with(".zip")).max().unwrap();
        let holdfast = program("holdfast").unwrap().to_str().unwrap().to_owned();
        self.sandbox
            .spawn(&[
                &holdfast,
                "--config",
                &self.config(),
                "restore",
                &archive,
                "--yes",
            ])
            .unwrap()
    }

    /// The page of the restore that has just been started, once it has a journal.
    pub fn page_of_running(&self) -> String {
        let restores = self.sample().state_dir().join("restores");
        loop {
            let found = std::fs::read_dir(&restores).ok().and_then(|mut r| r.next());
            match found.map(|e| e.unwrap().path()) {
                Some(restore) if restore.join("journal").exists() => {
                    let id = restore.file_name().unwrap();
                    return format!("/restores/{}", id.to_str().unwrap());
                }
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Settles the open restore from the command line.
    pub fn recover(&self) {
        let holdfast = program("holdfast").unwrap().to_str().unwrap().to_owned();
        self.sandbox
            .run(&[&holdfast, "--config", &self.config(), "recover"])
            .unwrap();
    }

    /// What the agent has logged.
    pub fn agent_log(&self) -> String {
        self.agent.as_ref().unwrap().stderr_so_far().unwrap()
    }

    /// What the page has logged.
    pub fn web_log(&self) -> String {
        std::fs::read_to_string(self.web_log.path()).unwrap()
    }

    /// At the port that it had before; the first time at any that is free.
    pub fn start_web(&mut self) {
        let logged = self.web_log().len();
        let web = Command::new(program("holdfast-web").unwrap())
            .args([
                "--config",
                &self.config(),
                "--socket",
                &self.socket(),
                "--port",
                &self.port.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(self.web_log.as_file().try_clone().unwrap())
            .stderr(self.web_log.as_file().try_clone().unwrap())
            .spawn()
            .unwrap();
        self.web = Some(web);
        let serves = "holdfast-web serves http://127.0.0.1:";
        loop {
            let log = self.web_log();
            let line = log[logged..]
                .split_inclusive('\n')
                .find(|line| line.ends_with('\n'));
            if let Some(port) = line.and_then(|line| line.strip_prefix(serves)) {
                self.port = port.trim_end().parse().unwrap();
                return;
            }
            let ended = self.web.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the page did not come up: {}",
                self.web_log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill_web(&mut self) {
        let mut web = self.web.take().unwrap();
        web.kill().unwrap();
        web.wait().unwrap();
    }

    pub fn url(&self, address: &str) -> String {
        format!("http://127.0.0.1:{}{address}", self.port)
    }

    /// What of uploads lies in the agent's spool.
    pub fn spool(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.sample().state_dir().join("spool")).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.starts_with("upload-")).collect()
    }

    /// Changes the gateway, as time does: one config is another, one is gone.
    pub fn change_gateway(&self) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let names = self.sample().clients().unwrap();
        let configs: Vec<_> = names
            .iter()
            .take(2)
            .map(|n| self.sample().configs_dir().join(format!("{n}.conf")))
            .collect();
        let before = configs
            .iter()
            .map(|p| (p.clone(), std::fs::read(p).unwrap()))
            .collect();
        let mut changed = std::fs::read(&configs[0]).unwrap();
        changed.extend_from_slice(b"\n# changed since the backup\n");
        std::fs::write(&configs[0], changed).unwrap();
        std::fs::remove_file(&configs[1]).unwrap();
        before
    }

    /// A client that has signed in as this user.
    pub fn client_of(&self, user: &User) -> Client {
        let (client, said) = self.try_to_sign_in(user);
        let signed_in = |c: &String| c.starts_with("holdfast-session=");
        assert!(client.cookies.iter().any(signed_in), "{said}");
        client
    }

    /// A client that tried to sign in as this user, and what the page says to it.
    pub fn try_to_sign_in(&self, user: &User) -> (Client, String) {
        let mut client = Client::new(self);
        let page = client.get("/sign-in").1;
        let form = [
            ("token", field(&page, "token")),
            ("user", user.name.clone()),
            ("password", user.password.clone()),
        ];
        let said = client.post("/sign-in", &form).2;
        (client, said)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.web.is_some() {
            self.kill_web();
        }
    }
}

/// The value of a hidden field.
pub fn field(page: &str, name: &str) -> String {
    let (_, rest) = page
        .split_once(&format!("name=\"{name}\" value=\""))
        .unwrap_or_else(|| panic!("no {name} in {page}"));
    rest.split_once('"').unwrap().0.to_owned()
}

/// A browser without JavaScript.
pub struct Client {
    http: ureq::Agent,
    base: String,
    pub cookies: Vec<String>,
}

/// One server-sent event.
#[derive(Debug)]
pub struct Sent {
    pub id: u64,
    pub data: serde_json::Value,
}

impl Client {
    fn new(stage: &Stage) -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Client {
            http: config.into(),
            base: stage.url(""),
            cookies: Vec::new(),
        }
    }

    fn url(&self, address: &str) -> String {
        if address.starts_with("http") {
            address.to_owned()
        } else {
            format!("{}{address}", self.base)
        }
    }

    fn cookie(&self) -> String {
        self.cookies.join("; ")
    }

    fn keep_cookies(&mut self, answer: &ureq::http::Response<ureq::Body>) {
        for set in answer.headers().get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
            let name = pair.split('=').next().unwrap().to_owned();
            self.cookies.retain(|c| !c.starts_with(&format!("{name}=")));
            self.cookies.push(pair);
        }
    }

    /// Status and body.
    pub fn get(&mut self, address: &str) -> (u16, String) {
        let (status, bytes) = self.get_bytes(address);
        (status, String::from_utf8(bytes).unwrap())
    }

    pub fn get_bytes(&mut self, address: &str) -> (u16, Vec<u8>) {
        let request = self
            .http
            .get(self.url(address))
            .header("Cookie", self.cookie())
            .header("Sec-Fetch-Site", "same-origin");
        let mut answer = request.call().unwrap();
        self.keep_cookies(&answer);
        let mut bytes = Vec::new();
        answer
            .body_mut()
            .as_reader()
            .read_to_end(&mut bytes)
            .unwrap();
        (answer.status().as_u16(), bytes)
    }

    /// The address that another one leads to.
    pub fn leads_to(&mut self, address: &str) -> String {
        let request = self.http.get(self.url(address));
        let request = request.header("Sec-Fetch-Site", "same-origin");
        let answer = request.header("Cookie", self.cookie()).call().unwrap();
        assert_eq!(answer.status().as_u16(), 303, "{address}");
        let location = answer.headers().get("location").unwrap();
        location.to_str().unwrap().to_owned()
    }

    /// Status, the address that it leads to, and body.
    pub fn post(&mut self, address: &str, fields: &[(&str, String)]) -> (u16, String, String) {
        let request = self
            .http
            .post(self.url(address))
            .header("Cookie", self.cookie());
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = request.send_form(fields).unwrap();
        self.finish(answer)
    }

    /// The same for an archive.
    pub fn upload(&mut self, token: &str, archive: &[u8]) -> (u16, String, String) {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n{token}\r\n--b\r\nContent-Disposition: form-data; \
             name=\"archive\"; filename=\"night.zip\"\r\nContent-Type: application/zip\r\n\r\n"
        );
        let body = [head.as_bytes(), archive, b"\r\n--b--\r\n"].concat();
        let request = self
            .http
            .post(self.url("/system/restore"))
            .header("Cookie", self.cookie());
        let answer = request
            .header("Content-Type", "multipart/form-data; boundary=b")
            .send(&body[..])
            .unwrap();
        self.finish(answer)
    }

    fn finish(&mut self, mut answer: ureq::http::Response<ureq::Body>) -> (u16, String, String) {
        self.keep_cookies(&answer);
        let location = answer
            .headers()
            .get("location")
            .map_or("", |l| l.to_str().unwrap())
            .to_owned();
        (
            answer.status().as_u16(),
            location,
            answer.body_mut().read_to_string().unwrap(),
        )
    }

    /// Uploads an archive and comes to its confirmation.
    pub fn reach_confirmation(&mut self, archive: &[u8]) -> String {
        let page = self.get("/system/restore").1;
        let (status, location, said) = self.upload(&field(&page, "token"), archive);
        assert_eq!(status, 303, "{said}");
        self.get(&location).1
    }

    /// Confirms what a page asks. Status, the restore's address, and body.
    pub fn confirm(&mut self, page: &str) -> (u16, String, String) {
        let fields = ["token", "upload", "plan", "request"].map(|name| (name, field(page, name)));
        self.post("/system/restore/confirm", &fields)
    }

    /// A restore's events after one of them, as they come.
    pub fn events(&self, restore: &str, last: Option<u64>) -> impl Iterator<Item = Sent> + use<> {
        let mut request = self
            .http
            .get(format!("{}/events", self.url(restore)))
            .header("Cookie", self.cookie());
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last.to_string());
        }
        let answer = request.call().unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let mut lines = BufReader::new(answer.into_body().into_reader()).lines();
        let (mut id, mut named, mut data) = (None, false, None);
        std::iter::from_fn(move || {
            loop {
                let line = lines.next()?.ok()?;
                match line.split_once(':') {
                    Some(("id", text)) => id = text.trim().parse::<u64>().ok(),
                    Some(("event", _)) => named = true,
                    Some(("data", text)) => data = Some(text.to_owned()),
                    // An empty line ends an event. One with a name is no record: it says that nothing works on the
                    // restore at this moment, or that the agent is away.
                    None => match (id.take(), std::mem::take(&mut named), data.take()) {
                        (Some(id), false, Some(text)) => {
                            let data: serde_json::Value = serde_json::from_str(&text).unwrap();
                            assert_eq!(data["seq"].as_u64(), Some(id));
                            return Some(Sent { id, data });
                        }
                        (None, false, Some(text)) => panic!("a record without its number: {text}"),
                        _ => {}
                    },
                    _ => {}
                }
            }
        })
    }
}
