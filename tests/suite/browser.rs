//! A real browser on a real gateway: an admin signs in, downloads a backup, uploads it, confirms, and watches every step
//! change without a reload; and all of it without JavaScript.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use fixtures::skip;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::web_stage::Stage;

struct Browser {
    driver: Child,
    /// Kept open: it may have more to say.
    _said: Lines<BufReader<ChildStdout>>,
    client: Client,
    folder: tempfile::TempDir,
}

impl Browser {
    async fn open(scripts: bool) -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1000,1400",
        ];
        let preferences = json!({
            "download.default_directory": folder.path().join("downloads"),
            "download.prompt_for_download": false,
            "profile.managed_default_content_settings.javascript": if scripts { 1 } else { 2 },
        });
        let profile = format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        );
        let arguments: Vec<&str> = arguments.into_iter().chain([profile.as_str()]).collect();
        let wanted = json!({ "goog:chromeOptions": { "args": arguments, "prefs": preferences } });
        let Value::Object(wanted) = wanted else {
            unreachable!()
        };
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port: u16 = said
            .find_map(|line| {
                let line = line.unwrap();
                line.strip_prefix("ChromeDriver was started successfully on port ")?
                    .trim_end_matches('.')
                    .parse()
                    .ok()
            })
            .expect("chromedriver did not start");
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted);
        let client = builder
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        Browser {
            driver,
            _said: said,
            client,
            folder,
        }
    }

    async fn close(mut self) {
        self.client.clone().close().await.unwrap();
        self.driver.kill().unwrap();
        self.driver.wait().unwrap();
    }

    async fn find(&self, css: &str) -> Element {
        self.client
            .wait()
            .at_most(Duration::from_secs(30))
            .for_element(Locator::Css(css))
            .await
            .unwrap()
    }

    async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap()
    }

    async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap();
    }

    /// Waits until a page or a part of one is there that was not before.
    async fn until(&self, css: &str) {
        self.find(css).await;
    }

    async fn sign_in(&self, stage: &Stage) {
        let admin = stage.sample().admin().unwrap();
        self.client.goto(&stage.url("/")).await.unwrap();
        self.find("#name")
            .await
            .send_keys(&admin.name)
            .await
            .unwrap();
        self.find("#password")
            .await
            .send_keys(&admin.password)
            .await
            .unwrap();
        self.click("button.main").await;
        self.until("#archive").await;
    }

    /// Downloads a backup by the button on the first page.
    async fn download(&self) -> PathBuf {
        let folder = self.folder.path().join("downloads");
        self.click("a[href='/system/backup']").await;
        loop {
            if let Some(archive) = whole_zip(&folder) {
                return archive;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Uploads an archive, reads what would be overwritten, and confirms.
    async fn restore(&self, archive: &Path) {
        self.find("#archive")
            .await
            .send_keys(archive.to_str().unwrap())
            .await
            .unwrap();
        self.click("form.upload button").await;
        self.until("button.danger").await;
        let says = self.text("main").await;
        assert!(
            says.contains("What will be overwritten") && says.contains("replaces 3 databases"),
            "{says}"
        );
        assert!(
            !self
                .find("[name=keep_going_without_firewall]")
                .await
                .is_selected()
                .await
                .unwrap(),
            "off by default"
        );
        self.click("button.danger").await;
    }

    async fn is_over(&self) -> bool {
        let live = self
            .client
            .find(Locator::Css("#live[data-over=true]"))
            .await;
        live.is_ok()
    }
}

fn whole_zip(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "zip"))
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// Notes on the page what a person would see on it: every state of every step, every place of the journal, each notice.
/// All of it is gone if the page is loaded anew.
const WATCH: &str = r##"
    const seen = { states: {}, seqs: [], notices: [] };
    const note = () => {
        for (const row of document.querySelectorAll("li.step")) {
            const states = (seen.states[row.id] ??= []);
            const state = row.className.replace("step ", "");
            if (states.at(-1) !== state) states.push(state);
        }
        const seq = Number(document.getElementById("live").dataset.seq);
        if (seen.seqs.at(-1) !== seq) seen.seqs.push(seq);
        const notice = document.getElementById("link");
        if (!notice.hidden && seen.notices.at(-1) !== notice.textContent) seen.notices.push(notice.textContent);
    };
    window.seen = seen;
    note();
    new MutationObserver(note).observe(document.querySelector("main"),
        { subtree: true, childList: true, attributes: true, characterData: true });
"##;

#[test]
fn an_admin_watches_every_step_change_without_a_reload_also_while_the_page_loses_its_server() {
    let Some(mut stage) = Stage::set() else {
        return;
    };
    if skip::lacks(&["chromium", "chromedriver"]) {
        return;
    }
    run(async {
        let browser = Browser::open(true).await;
        browser.sign_in(&stage).await;
        let archive = browser.download().await;
        let before = stage.change_gateway();
        // On a machine that is busy the first restores may be over before the browser shows them.
        let mut tries = 0;
        let (seen, watched) = loop {
            browser.restore(&archive).await;
            browser.until("#live").await;
            browser.client.execute(WATCH, vec![]).await.unwrap();
            stage.kill_web();
            std::thread::sleep(Duration::from_millis(300));
            stage.start_web();
            while !browser.is_over().await {
                std::thread::sleep(Duration::from_millis(50));
            }
            let seen = browser
                .client
                .execute("return window.seen ?? null", vec![])
                .await
                .unwrap();
            assert!(seen.is_object(), "the page was loaded anew");
            let states = seen["states"].as_object().unwrap().clone();
            let mut watched: Vec<_> = states.into_iter().collect();
            watched.retain(|(_, states)| states[0] == "waiting");
            if watched.len() >= 3 {
                break (seen, watched);
            }
            tries += 1;
            assert!(tries < 10, "no restore could be watched: {seen}");
            stage.change_gateway();
        };
        for (step, states) in watched {
            assert_eq!(states, json!(["waiting", "running", "done"]), "{step}");
        }
        let seqs: Vec<u64> = seen["seqs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s.as_u64().unwrap())
            .collect();
        assert!(
            seqs.windows(2).all(|w| w[1] == w[0] + 1),
            "an event was missed or repeated: {seqs:?}"
        );
        let notices = seen["notices"].to_string();
        assert!(notices.contains("Reconnecting"), "{notices}");
        assert!(
            browser
                .find("#link")
                .await
                .attr("hidden")
                .await
                .unwrap()
                .is_some(),
            "it says that it is back"
        );
        assert_eq!(browser.text("#verdict h1").await, "Restored");
        for (path, bytes) in before {
            assert!(
                std::fs::read(&path).unwrap() == bytes,
                "{} is not as in the backup",
                path.display()
            );
        }
        browser.close().await;
    });
}

#[test]
fn an_admin_backs_up_restores_and_reads_the_verdict_without_javascript() {
    let Some(stage) = Stage::set() else { return };
    if skip::lacks(&["chromium", "chromedriver"]) {
        return;
    }
    run(async {
        let browser = Browser::open(false).await;
        browser.sign_in(&stage).await;
        let archive = browser.download().await;
        let before = stage.change_gateway();
        browser.restore(&archive).await;
        browser.until("#live").await;
        while !browser.is_over().await {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(browser.text("#verdict h1").await, "Restored");
        let done = browser
            .client
            .find_all(Locator::Css("#steps-forward li.step.done"))
            .await
            .unwrap()
            .len();
        let all = browser
            .client
            .find_all(Locator::Css("#steps-forward li.step"))
            .await
            .unwrap()
            .len();
        assert_eq!((done, all), (16, 16));
        for (path, bytes) in before {
            assert!(
                std::fs::read(&path).unwrap() == bytes,
                "{} is not as in the backup",
                path.display()
            );
        }
        browser.close().await;
    });
}
