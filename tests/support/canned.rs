//! A gateway that answers with canned bodies, at a clock of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use servicefabric_backup_exporter::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the gateway answers.
#[derive(Debug, Default)]
struct Answers {
    /// Bodies by the path of the request. Anything else is not found.
    bodies: BTreeMap<String, String>,
    /// How far its clock is ahead.
    skew: TimeDelta,
}

/// A gateway whose answers can be changed while it serves.
pub(crate) struct Canned {
    url: String,
    answers: Arc<Mutex<Answers>>,
}

impl Canned {
    /// A gateway on a free port, with nothing to say.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::<Mutex<Answers>>::default();
        let served = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&served)));
            }
        });
        Self { url, answers }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Answers requests for `path` with `body` from now on.
    pub(crate) fn put(&self, path: &str, body: impl Into<String>) {
        let mut answers = self.answers.lock().unwrap();
        answers.bodies.insert(path.to_owned(), body.into());
    }

    /// Sets its clock ahead by `skew`.
    pub(crate) fn set_skew(&self, skew: TimeDelta) {
        self.answers.lock().unwrap().skew = skew;
    }

    /// The time of its clock.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        clock::now() + self.answers.lock().unwrap().skew
    }
}

async fn answer(mut stream: TcpStream, answers: Arc<Mutex<Answers>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let (body, skew) = {
        let answers = answers.lock().unwrap();
        (answers.bodies.get(path).cloned(), answers.skew)
    };
    let (status, body) = match body {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", String::new()),
    };
    let date = (clock::now() + skew).format("%a, %d %b %Y %H:%M:%S GMT");
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: application/json; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}
