//! Takes over files that have changed, and keeps what is in use when the new ones are no good.
//!
//! Looks once per call, and gives up on files that do not come in time. A fault is told when it
//! appears or changes, and its end once. Also replaces connections that are too old or dead:
//! requests under way end on the old ones, later ones open new connections.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::clock;
use crate::gateway::connections::{Connections, Plan};
use crate::gateway::error::BuildError;
use crate::gateway::file::{FileError, FileErrorKind};
use crate::gateway::locked;
use crate::gateway::look::Look;
use crate::gateway::tls::{self, ContentHash, CredentialFiles};

/// Longest wait for the files.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Age at which connections are replaced, so that a name that moved to another address and a node
/// that recovered behind a load balancer are noticed.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// Age from which a dead connection has the whole pool replaced: the others have been idle as long
/// and are likely to be dead, too. A gateway that drops every connection after its first answer must
/// not have all of them replaced for each request.
const MIN_AGE: Duration = Duration::from_secs(1);

/// News about the files of a cluster.
#[derive(Debug)]
pub enum Rotation {
    /// Their new contents are in use.
    Renewed,
    /// They are again what is in use.
    Mended,
    /// They cannot be used; what is in use stays.
    Refused(BuildError),
}

/// The connections in use, and the files behind them.
#[derive(Debug)]
pub(super) struct Rotating {
    plan: Arc<Plan>,
    in_use: Mutex<Arc<Connections>>,
    watch: tokio::sync::Mutex<Watch>,
    /// Held while connections are replaced.
    renewal: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Watch {
    look: Look<Result<Option<Connections>, Unusable>>,
    fault: Option<String>,
    /// Of the files that cannot be understood, so that they are not taken in again while they stay
    /// the same.
    refused: Option<ContentHash>,
}

/// Files that cannot be used.
#[derive(Debug)]
enum Unusable {
    /// The same as at the last look.
    Still,
    /// For this reason; with their mark if time will not mend it.
    Because(BuildError, Option<ContentHash>),
}

impl Rotating {
    /// Reads the files for the first time.
    pub(super) fn start(plan: Plan) -> Result<Self, BuildError> {
        let files = CredentialFiles::read(&plan.security).map_err(BuildError::Files)?;
        Ok(Self {
            in_use: Mutex::new(Arc::new(plan.open(&files)?)),
            plan: Arc::new(plan),
            watch: tokio::sync::Mutex::default(),
            renewal: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn in_use(&self) -> Arc<Connections> {
        Arc::clone(&locked(&self.in_use))
    }

    /// Whether the files were good when last looked at; `None` when there are none.
    pub(super) async fn is_good(&self) -> Option<bool> {
        let good = self.watch.lock().await.fault.is_none();
        tls::has_files(&self.plan.security).then_some(good)
    }

    /// Takes over the connections of `other`, which has just read the same files, if the files have
    /// changed, as a start would: whether the client certificate is in time makes no difference.
    /// Returns whether they have.
    pub(super) async fn adopt(&self, other: Self) -> bool {
        let mut watch = self.watch.lock().await;
        let other = other.in_use();
        let changed = other.mark != self.in_use().mark;
        if changed {
            *locked(&self.in_use) = other;
        }
        // Files with a fault could not have been opened.
        (watch.fault, watch.refused) = (None, None);
        changed
    }

    /// Looks at the files, and tells what is new.
    pub(super) async fn refresh(&self) -> Option<Rotation> {
        if !tls::has_files(&self.plan.security) {
            return None;
        }
        let mut watch = self.watch.lock().await;
        let (plan, in_use, refused) = (Arc::clone(&self.plan), self.in_use(), watch.refused);
        let looked = watch.look.within(PATIENCE, move || {
            look(&plan, &in_use, refused, clock::now())
        });
        let looked = looked
            .await
            .unwrap_or(Err(Unusable::Because(BuildError::Late(PATIENCE), None)));
        self.take(looked, &mut watch)
    }

    /// Replaces connections that have reached the maximum age at `now`.
    pub(super) async fn renew_old(&self, now: Instant) {
        let in_use = self.in_use();
        if now.duration_since(in_use.since) >= MAX_AGE {
            self.renew(&in_use).await;
        }
    }

    /// Replaces the connections of which one was found dead at `now`, unless they are in use for a
    /// moment only.
    pub(super) async fn renew_dead(&self, dead: &Arc<Connections>, now: Instant) {
        if now.duration_since(dead.since) >= MIN_AGE {
            self.renew(dead).await;
        }
    }

    /// Replaces `old` unless that is done already, or under way.
    async fn renew(&self, old: &Arc<Connections>) {
        let Ok(_turn) = self.renewal.try_lock() else {
            return;
        };
        if !Arc::ptr_eq(old, &self.in_use()) {
            return;
        }
        let (plan, renewing) = (Arc::clone(&self.plan), Arc::clone(old));
        // Parses certificates, which takes milliseconds.
        let renewed = spawn_blocking(move || plan.renew(&renewing)).await;
        // The same credentials were usable before, so a failure here is temporary: the old
        // connections stay until the next attempt.
        if let Ok(Ok(renewed)) = renewed {
            let mut in_use = locked(&self.in_use);
            if Arc::ptr_eq(old, &in_use) {
                *in_use = Arc::new(renewed);
            }
        }
    }

    fn take(
        &self,
        looked: Result<Option<Connections>, Unusable>,
        watch: &mut Watch,
    ) -> Option<Rotation> {
        match looked {
            Ok(Some(renewed)) => {
                watch.fault = None;
                *locked(&self.in_use) = Arc::new(renewed);
                Some(Rotation::Renewed)
            }
            Ok(None) => watch.fault.take().map(|_| Rotation::Mended),
            Err(Unusable::Still) => None,
            Err(Unusable::Because(fault, mark)) => {
                watch.refused = mark;
                let text = fault.to_string();
                let known = watch.fault.as_ref() == Some(&text);
                watch.fault = Some(text);
                (!known).then_some(Rotation::Refused(fault))
            }
        }
    }
}

/// New connections if the files have changed, and not into what was `refused` already.
fn look(
    plan: &Plan,
    in_use: &Connections,
    refused: Option<ContentHash>,
    now: DateTime<Utc>,
) -> Result<Option<Connections>, Unusable> {
    let because = |faults| Unusable::Because(BuildError::Files(faults), None);
    let files = CredentialFiles::read(&plan.security).map_err(because)?;
    let mark = files.hash();
    if mark == in_use.mark {
        return Ok(None);
    }
    if refused == Some(mark) {
        return Err(Unusable::Still);
    }
    let renewed = plan.open(&files);
    let renewed = renewed.map_err(|fault| {
        // Anything else may be over a moment later, though the files stay the same.
        let of_the_files = matches!(fault, BuildError::Files(_) | BuildError::Identity { .. });
        Unusable::Because(fault, of_the_files.then_some(mark))
    })?;
    match tls::client_file(&plan.security) {
        Some(file) if in_use.in_time(now) && !renewed.in_time(now) => {
            Err(because(vec![FileError::new(
                file,
                FileErrorKind::NotValidNow,
            )]))
        }
        _ => Ok(Some(renewed)),
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
    use crate::gateway::security::{Security, Trust};

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
        let rotating = Rotating::start(Plan {
            security: Security::default(),
            endpoints: vec![endpoint.clone()],
            connect_timeout: PATIENCE,
        })
        .unwrap();
        let established = async |after: &str| {
            for _ in 0..3 {
                let request = reqwest::Request::new(reqwest::Method::GET, endpoint.clone());
                let in_use = rotating.in_use();
                let sent = in_use.clients(&endpoint).send(request, PATIENCE).await;
                sent.response.expect(after);
            }
            connections.load(Ordering::SeqCst)
        };
        assert_eq!(established("the start").await, 1);
        let first = rotating.in_use();
        let second = Duration::from_secs(1);
        rotating.renew_old(first.since + MAX_AGE - second).await;
        rotating.renew_dead(&first, first.since + MIN_AGE / 2).await;
        assert_eq!(established("a moment before").await, 1);
        rotating.renew_old(first.since + MAX_AGE).await;
        assert_eq!(established("the maximum age").await, 2);
        rotating.renew_old(first.since + MAX_AGE).await;
        rotating.renew_dead(&first, first.since + MAX_AGE).await;
        assert_eq!(established("a late report about old ones").await, 2);
        let second = rotating.in_use();
        rotating.renew_dead(&second, second.since + MIN_AGE).await;
        assert_eq!(established("a dead one").await, 3);
    }

    #[test]
    fn a_bad_file_is_understood_again_only_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        let certificate = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        fs::write(&ca_file, certificate.cert.pem()).unwrap();
        let plan = Plan {
            security: Security {
                trust: Trust::Authorities {
                    ca_file: Some(ca_file.clone()),
                    server_name: None,
                    thumbprints: Vec::new(),
                },
                ..Security::default()
            },
            endpoints: vec!["https://a".parse().unwrap()],
            connect_timeout: PATIENCE,
        };
        let in_use = plan
            .open(&CredentialFiles::read(&plan.security).unwrap())
            .unwrap();
        let look = |refused| look(&plan, &in_use, refused, clock::now());
        let written = |contents: &str| fs::write(&ca_file, contents).unwrap();
        written("bad");
        let Err(Unusable::Because(_, Some(mark))) = look(None) else {
            panic!("a new fault");
        };
        assert!(matches!(look(Some(mark)), Err(Unusable::Still)));
        written("also bad");
        let other = look(Some(mark));
        assert!(matches!(other, Err(Unusable::Because(_, Some(other))) if other != mark));
        written("");
        let unreadable = look(Some(mark));
        assert!(matches!(unreadable, Err(Unusable::Because(_, None))));
        written(&certificate.cert.pem());
        assert!(matches!(look(Some(mark)), Ok(None)));
    }
}
