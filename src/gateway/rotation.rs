//! Reloads credential files that changed, and keeps the old ones while the new ones are invalid.
//!
//! Reads the files once per call, with a timeout. Reports an error when it appears or changes, and
//! its end once. Also replaces connections that are too old or dead: requests in flight end on the
//! old ones, later ones open new connections.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::clock;
use crate::gateway::blocking_read::BlockingRead;
use crate::gateway::build_error::BuildError;
use crate::gateway::connections::{ConnectionSettings, Connections};
use crate::gateway::file::{FileError, FileErrorKind};
use crate::gateway::tls::{self, ContentHash, CredentialFiles};
use crate::sync::lock;

/// Longest time to read the files.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Age at which connections are replaced, so that a name that moved to another address and a node
/// that recovered behind a load balancer are noticed.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// Age from which a dead connection has the whole pool replaced: the others have been idle as long
/// and are likely to be dead, too. Below it, a gateway that closes every connection after its first
/// response would have all of them replaced for each request.
const MIN_AGE: Duration = Duration::from_secs(1);

/// A change of the credential files of a cluster.
#[derive(Debug)]
pub enum Rotation {
    /// Their new contents are in use.
    Reloaded,
    /// They are valid again, with the contents that are in use.
    Recovered,
    /// They cannot be used; the old contents stay in use.
    Failed(BuildError),
}

/// The connections in use, and the files behind them.
#[derive(Debug)]
pub(super) struct RotatingConnections {
    settings: Arc<ConnectionSettings>,
    current: Mutex<Arc<Connections>>,
    watch: tokio::sync::Mutex<Watch>,
    /// Held while connections are replaced.
    replacement: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Watch {
    read: BlockingRead<Result<Option<Connections>, ReloadError>>,
    error: Option<String>,
    /// Digest of invalid files, so that they are not parsed again while they stay the same.
    rejected: Option<ContentHash>,
}

#[derive(Debug)]
enum ReloadError {
    /// The files are still the invalid ones that were reported.
    Unchanged,
    /// The digest is present if the same contents will fail again.
    Failed(BuildError, Option<ContentHash>),
}

impl RotatingConnections {
    /// Reads the files for the first time.
    pub(super) fn open(settings: ConnectionSettings) -> Result<Self, BuildError> {
        let files = CredentialFiles::read(&settings.security).map_err(BuildError::Files)?;
        Ok(Self {
            current: Mutex::new(Arc::new(settings.open(&files)?)),
            settings: Arc::new(settings),
            watch: tokio::sync::Mutex::default(),
            replacement: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    pub(super) fn current(&self) -> Arc<Connections> {
        Arc::clone(&lock(&self.current))
    }

    /// Whether the files were valid at the last read; `None` when there are none.
    pub(super) async fn is_valid(&self) -> Option<bool> {
        let valid = self.watch.lock().await.error.is_none();
        tls::has_files(&self.settings.security).then_some(valid)
    }

    /// Takes over the connections of `other`, which has just read the same files, if the files have
    /// changed. As at a start, an expired client certificate makes no difference. Returns whether
    /// they have changed.
    pub(super) async fn adopt(&self, other: Self) -> bool {
        let mut watch = self.watch.lock().await;
        let other = other.current();
        let changed = other.hash != self.current().hash;
        if changed {
            *lock(&self.current) = other;
        }
        // `other` could not have been opened with invalid files.
        (watch.error, watch.rejected) = (None, None);
        changed
    }

    /// Reads the files, and returns what changed.
    pub(super) async fn refresh(&self) -> Option<Rotation> {
        if !tls::has_files(&self.settings.security) {
            return None;
        }
        let mut watch = self.watch.lock().await;
        let (settings, current) = (Arc::clone(&self.settings), self.current());
        let rejected = watch.rejected;
        let read = move || reload(&settings, &current, rejected, clock::now());
        let outcome = watch.read.within(READ_TIMEOUT, read).await;
        let timeout = || ReloadError::Failed(BuildError::ReadTimeout(READ_TIMEOUT), None);
        self.apply(outcome.unwrap_or_else(|| Err(timeout())), &mut watch)
    }

    /// Replaces connections that have reached the maximum age at `now`.
    pub(super) async fn replace_old(&self, now: Instant) {
        let current = self.current();
        if now.duration_since(current.since) >= MAX_AGE {
            self.replace(&current).await;
        }
    }

    /// Replaces the connections of which one was found dead at `now`, unless they are younger than
    /// [`MIN_AGE`].
    pub(super) async fn replace_dead(&self, dead: &Arc<Connections>, now: Instant) {
        if now.duration_since(dead.since) >= MIN_AGE {
            self.replace(dead).await;
        }
    }

    /// Replaces `old` unless that is done already, or in progress.
    async fn replace(&self, old: &Arc<Connections>) {
        let Ok(_guard) = self.replacement.try_lock() else {
            return;
        };
        if !Arc::ptr_eq(old, &self.current()) {
            return;
        }
        let (settings, source) = (Arc::clone(&self.settings), Arc::clone(old));
        // Parses certificates, which takes milliseconds.
        let reopened = spawn_blocking(move || settings.reopen(&source)).await;
        // The same credentials were valid before, so a failure here is temporary: the old
        // connections stay until the next attempt.
        if let Ok(Ok(reopened)) = reopened {
            let mut current = lock(&self.current);
            if Arc::ptr_eq(old, &current) {
                *current = Arc::new(reopened);
            }
        }
    }

    fn apply(
        &self,
        outcome: Result<Option<Connections>, ReloadError>,
        watch: &mut Watch,
    ) -> Option<Rotation> {
        match outcome {
            Ok(Some(reloaded)) => {
                watch.error = None;
                *lock(&self.current) = Arc::new(reloaded);
                Some(Rotation::Reloaded)
            }
            Ok(None) => watch.error.take().map(|_| Rotation::Recovered),
            Err(ReloadError::Unchanged) => None,
            Err(ReloadError::Failed(error, hash)) => {
                watch.rejected = hash;
                let text = error.to_string();
                let known = watch.error.as_ref() == Some(&text);
                watch.error = Some(text);
                (!known).then_some(Rotation::Failed(error))
            }
        }
    }
}

/// New connections if the files have changed, unless to contents that were `rejected` before.
fn reload(
    settings: &ConnectionSettings,
    current: &Connections,
    rejected: Option<ContentHash>,
    now: DateTime<Utc>,
) -> Result<Option<Connections>, ReloadError> {
    let invalid = |errors| ReloadError::Failed(BuildError::Files(errors), None);
    let files = CredentialFiles::read(&settings.security).map_err(invalid)?;
    let hash = files.hash();
    if hash == current.hash {
        return Ok(None);
    }
    if rejected == Some(hash) {
        return Err(ReloadError::Unchanged);
    }
    let reloaded = settings.open(&files).map_err(|error| {
        // Any other error may go away although the files stay the same.
        let permanent = matches!(error, BuildError::Files(_) | BuildError::Identity { .. });
        ReloadError::Failed(error, permanent.then_some(hash))
    })?;
    match tls::client_file(&settings.security) {
        Some(file) if current.in_time(now) && !reloaded.in_time(now) => {
            Err(invalid(vec![FileError::new(
                file,
                FileErrorKind::NotValidNow,
            )]))
        }
        _ => Ok(Some(reloaded)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::settings::{Security, Trust};

    /// A server that answers every request with an empty 200, and the number of its connections.
    fn server() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                accepted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let mut request = Vec::new();
                    let mut byte = [0];
                    while let Ok(1) = stream.read(&mut byte) {
                        request.push(byte[0]);
                        if request.ends_with(b"\r\n\r\n") {
                            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                            stream.write_all(answer).unwrap();
                            request.clear();
                        }
                    }
                });
            }
        });
        (address, connections)
    }

    #[tokio::test]
    async fn connections_are_replaced_at_their_maximum_age_and_dead_ones_at_once() {
        let (address, connections) = server();
        let endpoint: url::Url = format!("http://{address}").parse().unwrap();
        let rotating = RotatingConnections::open(ConnectionSettings {
            security: Security::default(),
            endpoints: vec![endpoint.clone()],
            connect_timeout: READ_TIMEOUT,
        })
        .unwrap();
        let established = async |after: &str| {
            for _ in 0..3 {
                let request = reqwest::Request::new(reqwest::Method::GET, endpoint.clone());
                let current = rotating.current();
                let sent = current.clients(&endpoint).send(request, READ_TIMEOUT).await;
                sent.response.expect(after);
            }
            connections.load(Ordering::SeqCst)
        };
        assert_eq!(established("the start").await, 1);
        let first = rotating.current();
        let second = Duration::from_secs(1);
        rotating.replace_old(first.since + MAX_AGE - second).await;
        rotating
            .replace_dead(&first, first.since + MIN_AGE / 2)
            .await;
        assert_eq!(established("a moment before").await, 1);
        rotating.replace_old(first.since + MAX_AGE).await;
        assert_eq!(established("the maximum age").await, 2);
        rotating.replace_old(first.since + MAX_AGE).await;
        rotating.replace_dead(&first, first.since + MAX_AGE).await;
        assert_eq!(established("a late report about old ones").await, 2);
        let second = rotating.current();
        rotating.replace_dead(&second, second.since + MIN_AGE).await;
        assert_eq!(established("a dead one").await, 3);
    }

    #[test]
    fn an_invalid_file_is_parsed_again_only_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        let certificate = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        fs::write(&ca_file, certificate.cert.pem()).unwrap();
        let settings = ConnectionSettings {
            security: Security {
                trust: Trust::Authorities {
                    ca_file: Some(ca_file.clone()),
                    server_name: None,
                    thumbprints: Vec::new(),
                },
                ..Security::default()
            },
            endpoints: vec!["https://a".parse().unwrap()],
            connect_timeout: READ_TIMEOUT,
        };
        let files = CredentialFiles::read(&settings.security).unwrap();
        let current = settings.open(&files).unwrap();
        let reload = |rejected| reload(&settings, &current, rejected, clock::now());
        let written = |contents: &str| fs::write(&ca_file, contents).unwrap();
        written("bad");
        let Err(ReloadError::Failed(_, Some(hash))) = reload(None) else {
            panic!("a new error");
        };
        assert!(matches!(reload(Some(hash)), Err(ReloadError::Unchanged)));
        written("also bad");
        let other = reload(Some(hash));
        assert!(matches!(other, Err(ReloadError::Failed(_, Some(other))) if other != hash));
        written("");
        let unreadable = reload(Some(hash));
        assert!(matches!(unreadable, Err(ReloadError::Failed(_, None))));
        written(&certificate.cert.pem());
        assert!(matches!(reload(Some(hash)), Ok(None)));
    }
}
