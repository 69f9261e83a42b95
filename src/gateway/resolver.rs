//! Resolves host names with the system's resolver, in separate threads.
//!
//! A lookup blocks its thread and cannot be cancelled. The HTTP client would use the threads that
//! encode pages; here, lookups have a limit for the whole process, and all callers share the one
//! lookup of a host and its result. A slow lookup stops counting against the limit, so that hosts
//! whose name servers hang do not delay others.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use crate::sync::lock;

const LIMITS: Limits = Limits {
    fast: 32,
    threads: 64,
    slow_after: Duration::from_secs(5),
};

/// How long a result is cached: long enough for the connections that a cycle opens at its start, and
/// short enough to notice a change of the address.
const TIME_TO_LIVE: Duration = Duration::from_secs(10);

type Addresses = Arc<[SocketAddr]>;
type Answer = Result<Addresses, Arc<io::Error>>;
type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The resolver of the process: its limits apply to all clusters together.
pub(super) fn shared() -> Resolver {
    static SHARED: LazyLock<Resolver> =
        LazyLock::new(|| Resolver::new(LIMITS, |host| Ok((host, 0).to_socket_addrs()?.collect())));
    SHARED.clone()
}

/// The addresses of the host of `url`, with the port of `url`.
pub(super) async fn addresses(url: &Url) -> io::Result<Vec<SocketAddr>> {
    let port = url.port_or_known_default().unwrap_or_default();
    match url.host() {
        Some(Host::Ipv4(address)) => Ok(vec![(address, port).into()]),
        Some(Host::Ipv6(address)) => Ok(vec![(address, port).into()]),
        Some(Host::Domain(name)) => {
            let found = shared().addresses(name).await.map_err(io::Error::other)?;
            Ok(found
                .iter()
                .map(|address| (address.ip(), port).into())
                .collect())
        }
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Limits on concurrent lookups.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Lookups younger than `slow_after`.
    fast: usize,
    /// Lookups of any age.
    threads: usize,
    slow_after: Duration,
}

/// A caching resolver, shared by all clones.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Shared>);

struct Shared {
    lookup: Box<Lookup>,
    fast: Semaphore,
    threads: Semaphore,
    slow_after: Duration,
    hosts: Mutex<HashMap<String, State>>,
}

enum State {
    Pending(watch::Receiver<Option<Answer>>),
    Known {
        addresses: Addresses,
        until: Instant,
    },
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    fn new(
        limits: Limits,
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            lookup: Box::new(lookup),
            fast: Semaphore::new(limits.fast),
            threads: Semaphore::new(limits.threads),
            slow_after: limits.slow_after,
            hosts: Mutex::default(),
        }))
    }

    /// The addresses of `host`, from the cache, a pending look-up, or a new one.
    async fn addresses(&self, host: &str) -> Answer {
        let mut pending = match self.join(host) {
            Ok(addresses) => return Ok(addresses),
            Err(pending) => pending,
        };
        let answer = pending.wait_for(Option::is_some).await;
        let answer = answer.ok().and_then(|answer| answer.clone());
        answer.unwrap_or_else(|| Err(Arc::new(io::Error::other("the lookup was cancelled"))))
    }

    /// The cached addresses of `host`, or the receiver of a lookup in progress.
    fn join(&self, host: &str) -> Result<Addresses, watch::Receiver<Option<Answer>>> {
        let mut hosts = lock(&self.0.hosts);
        match hosts.get(host) {
            Some(State::Known { addresses, until }) if Instant::now() < *until => {
                return Ok(Arc::clone(addresses));
            }
            // The sender is gone if the runtime of the lookup has ended.
            Some(State::Pending(pending)) if pending.has_changed().is_ok() => {
                return Err(pending.clone());
            }
            _ => {}
        }
        let (sender, pending) = watch::channel(None);
        hosts.insert(host.to_owned(), State::Pending(pending.clone()));
        // In its own task, because the caller may stop waiting.
        tokio::spawn(self.clone().run(host.to_owned(), sender));
        Err(pending)
    }

    async fn run(self, host: String, sender: watch::Sender<Option<Answer>>) {
        let answer = self.in_thread(&host).await.map_err(Arc::new);
        let mut hosts = lock(&self.0.hosts);
        let now = Instant::now();
        hosts.retain(|_, state| !matches!(state, State::Known { until, .. } if *until <= now));
        match &answer {
            Ok(addresses) => {
                let state = State::Known {
                    addresses: Arc::clone(addresses),
                    until: now + TIME_TO_LIVE,
                };
                hosts.insert(host, state);
            }
            Err(_) => drop(hosts.remove(&host)),
        }
        sender.send_replace(Some(answer));
    }

    /// Resolves `host` in its own thread, once permits are available.
    async fn in_thread(&self, host: &str) -> io::Result<Addresses> {
        const OPEN: &str = "the semaphore is never closed";
        let _thread = self.0.threads.acquire().await.expect(OPEN);
        let fast = self.0.fast.acquire().await.expect(OPEN);
        let (sender, mut answer) = oneshot::channel();
        let (resolver, name) = (self.clone(), host.to_owned());
        thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || drop(sender.send((resolver.0.lookup)(&name))))?;
        let answer = if let Ok(answer) = timeout(self.0.slow_after, &mut answer).await {
            answer
        } else {
            drop(fast);
            answer.await
        };
        let found = answer.unwrap_or_else(|_| Err(io::Error::other("the lookup panicked")))?;
        Ok(found.into())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            let addresses: Vec<_> = addresses.to_vec();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
