//! A TCP load balancer in front of a gateway that drops connections like real ones.
//!
//! Drops connections on demand or after an idle timeout. Forwards bytes without parsing them, so TLS
//! works through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the client sees that its connection is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drop {
    /// FIN at once.
    Close,
    /// RST at once.
    Reset,
    /// FIN in response to the next request.
    CloseOnUse,
    /// RST in response to the next request.
    ResetOnUse,
    /// Not at all: later requests are acknowledged by the network and never answered.
    Ignore,
}

/// The last drop: applies to all connections with a lower number.
type Dropped = Option<(usize, Drop)>;

pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    dropped: watch::Sender<Dropped>,
}

impl Balancer {
    pub(crate) async fn start(gateway: SocketAddr) -> Self {
        Self::with_limit(gateway, None).await
    }

    /// Drops each connection that is idle for `limit`.
    pub(crate) async fn with_limit(gateway: SocketAddr, limit: Option<(Duration, Drop)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (dropped, watched) = watch::channel(None);
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let watched = watched.clone();
                tokio::spawn(async move {
                    let gateway = TcpStream::connect(gateway).await.unwrap();
                    forward(client, gateway, number, watched, limit).await;
                });
            }
        });
        Self {
            address,
            connections,
            dropped,
        }
    }

    /// Number of connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Drops all open connections.
    pub(crate) fn drop_all(&self, how: Drop) {
        self.dropped.send_replace(Some((self.connections(), how)));
    }
}

async fn forward(
    mut client: TcpStream,
    mut gateway: TcpStream,
    number: usize,
    mut dropped: watch::Receiver<Dropped>,
    limit: Option<(Duration, Drop)>,
) {
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    let mut last = Instant::now();
    let mut answered = false;
    loop {
        let drop = dropped
            .borrow_and_update()
            .filter(|(below, _)| number < *below);
        match drop.map(|(_, how)| how) {
            Some(Drop::Close) => return,
            Some(Drop::Reset) => return client.set_zero_linger().unwrap(),
            _ => {}
        }
        tokio::select! {
            changed = dropped.changed() => if changed.is_err() { return },
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                // A concurrent drop takes precedence, because the test has already requested it.
                let drop = dropped.borrow().filter(|(below, _)| number < *below);
                let expired = limit.filter(|(limit, _)| answered && last.elapsed() >= *limit);
                let drop = drop.or_else(|| expired.map(|(_, how)| (0, how)));
                match drop.map(|(_, how)| how) {
                    None => gateway.write_all(&up[..length]).await.unwrap(),
                    Some(Drop::Close | Drop::CloseOnUse) => return,
                    Some(Drop::Reset | Drop::ResetOnUse) => return client.set_zero_linger().unwrap(),
                    Some(Drop::Ignore) => {
                        while let Ok(1..) = client.read(&mut up).await {}
                        return;
                    }
                }
            }
            read = gateway.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() { return }
                (last, answered) = (Instant::now(), true);
            }
        }
    }
}
