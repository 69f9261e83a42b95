//! The program itself as a child process, with its configuration and its log.
//!
//! It gets a folder of its own and free ports, and is killed when the test is done with it.

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

/// What is to be started.
pub(crate) struct Setup {
    folder: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    open_files: Option<u32>,
}

/// A running exporter.
pub(crate) struct Exporter {
    child: Child,
    log: Arc<Mutex<String>>,
    client: Client,
    address: String,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Setup {
    /// An exporter on a free port with this configuration.
    pub(crate) fn new(config: &str) -> Self {
        let setup = Self {
            folder: tempfile::tempdir().unwrap(),
            arguments: Vec::new(),
            environment: Vec::new(),
            open_files: None,
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

    /// The last value given for a variable counts.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets it open at most so many files at a time.
    pub(crate) fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Writes the configuration file.
    pub(crate) fn configure(&self, config: &str) {
        fs::write(self.file("exporter.yml"), config).unwrap();
    }

    /// A file in the folder of the configuration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of the configuration.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it and waits until it serves.
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

    /// Starts it, to end by itself.
    pub(crate) fn spawn(&self) -> Exporter {
        let program = env!("CARGO_BIN_EXE_servicefabric-backup-exporter");
        let mut command = match self.open_files {
            None => Command::new(program),
            Some(limit) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script, program]);
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
    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log holds `text`.
    pub(crate) async fn logs(&self, text: &str) {
        eventually(&format!("the log says {text}"), async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// The base addresses that it says it serves on.
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

    /// As a user of the web configuration.
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

    /// A scrape; it never fails while the process lives.
    pub(crate) async fn scrape(&self) -> Page {
        let reply = self.get("/metrics").await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        Page::parse(&reply.body)
    }

    /// Scrapes until the page is as wanted.
    pub(crate) async fn page_where(&self, what: &str, wanted: impl Fn(&Page) -> bool) -> Page {
        eventually(what, async || {
            let page = self.scrape().await;
            wanted(&page).then_some(page)
        })
        .await
    }

    /// Waits until every cluster has been through a cycle.
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

    /// What every user of the machine can see of how it was started.
    pub(crate) fn command_line(&self) -> String {
        let id = self.child.id().to_string();
        // Small Linux systems have no `ps`, the others have no such file.
        let shown = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_else(|_| {
            let mut ps = Command::new("ps");
            ps.args(["-ww", "-o", "args=", "-p", &id]);
            ps.output().unwrap().stdout
        });
        assert!(!shown.is_empty(), "the command line is not to be seen");
        String::from_utf8(shown).unwrap()
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the exporter ends", async || self.child.try_wait().unwrap()).await
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Ends it without a warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // Most have ended already.
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
