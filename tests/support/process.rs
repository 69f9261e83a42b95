//! Runs the exporter as a child process with its own folder and free ports.
//!
//! The process is killed when [`Exporter`] is dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use super::eventually;
use super::page::Page;

/// The configuration of an exporter process.
pub(crate) struct Setup {
    folder: TempDir,
    launcher: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A running exporter.
pub(crate) struct Exporter {
    child: Child,
    log: Arc<Mutex<String>>,
    client: Client,
    address: String,
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Setup {
    /// An exporter on a free port with this configuration file.
    pub(crate) fn new(config: &str) -> Self {
        let setup = Self {
            folder: tempfile::tempdir().unwrap(),
            launcher: None,
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        setup.configure(config);
        let file = setup.file("exporter.yml").display().to_string();
        setup
            .env("SFBE_CONFIG_FILE", &file)
            .env("SFBE_WEB_LISTEN_ADDRESS", "127.0.0.1:0")
    }

    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.arguments.push(flag.to_owned());
        self
    }

    /// Starts the exporter through this shell script, whose arguments are the program and its
    /// arguments.
    pub(crate) fn launched_by(mut self, script: &str) -> Self {
        self.launcher = Some(script.to_owned());
        self
    }

    /// If a variable is set twice, the last value counts.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the configuration file.
    pub(crate) fn configure(&self, config: &str) {
        fs::write(self.file("exporter.yml"), config).unwrap();
    }

    /// The path of a file in the folder of the configuration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of the configuration.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the process and waits until it serves.
    pub(crate) async fn start(&self) -> Exporter {
        let mut exporter = self.spawn();
        exporter.address = eventually("the exporter serves", async || {
            let ended = exporter.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended early: {}", exporter.log());
            exporter.addresses().into_iter().next()
        })
        .await;
        exporter
    }

    /// Starts the process without waiting.
    pub(crate) fn spawn(&self) -> Exporter {
        let program = env!("CARGO_BIN_EXE_servicefabric-backup-exporter");
        let mut command = match &self.launcher {
            None => Command::new(program),
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script, program]);
                shell
            }
        };
        let mut child = command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log: Arc<Mutex<String>> = Arc::default();
        let (errors, written) = (child.stderr.take().unwrap(), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                *written.lock().unwrap() += &(line + "\n");
            }
        });
        Exporter {
            child,
            log,
            client: Client::builder().no_proxy().build().unwrap(),
            address: String::new(),
        }
    }
}

impl Exporter {
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log holds `text`.
    pub(crate) async fn logs(&self, text: &str) {
        eventually(&format!("the log contains {text}"), async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// The base URLs of the listeners, read from the log.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let log = self.log();
        let served = log.lines().filter_map(|line| {
            let (_, address) = line.split_once("Serving on ")?;
            Some(format!("http://{}", address.split_once(".\"")?.0))
        });
        served.collect()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    pub(crate) async fn send(&self, method: Method, path: &str) -> Reply {
        self.ask(self.client.request(method, self.url(path))).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path).await
    }

    pub(crate) async fn get_accepting(&self, path: &str, accept: &str) -> Reply {
        let request = self.client.get(self.url(path)).header(ACCEPT, accept);
        self.ask(request).await
    }

    /// Sends a request with basic authentication.
    pub(crate) async fn get_as(&self, path: &str, user: &str, password: &str) -> Reply {
        let request = self.client.get(self.url(path));
        self.ask(request.basic_auth(user, Some(password))).await
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        Reply {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        }
    }

    /// Scrapes the metrics, which succeeds while the process runs.
    pub(crate) async fn scrape(&self) -> Page {
        let reply = self.get("/metrics").await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        Page::parse(&reply.body)
    }

    /// Scrapes until the page matches `wanted`.
    pub(crate) async fn page_where(&self, what: &str, wanted: impl Fn(&Page) -> bool) -> Page {
        eventually(what, async || {
            let page = self.scrape().await;
            wanted(&page).then_some(page)
        })
        .await
    }

    /// Waits until every cluster has completed a cycle.
    pub(crate) async fn ready(&self) {
        eventually("the exporter is ready", async || {
            (self.get("/-/ready").await.status == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(status.success(), "{command}");
    }

    /// The command line, which every user of the machine can read.
    pub(crate) fn command_line(&self) -> String {
        let id = self.child.id().to_string();
        // Minimal Linux systems have no `ps`; other systems have no `/proc`.
        let shown = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_else(|_| {
            let mut ps = Command::new("ps");
            ps.args(["-ww", "-o", "args=", "-p", &id]);
            ps.output().unwrap().stdout
        });
        assert!(!shown.is_empty(), "cannot read the command line");
        String::from_utf8(shown).unwrap()
    }

    /// Waits until the process has exited.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the exporter ends", async || self.child.try_wait().unwrap()).await
    }

    /// Stops the process with SIGTERM and checks that it exits with 0.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // Most processes have exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }
}
