//! The resource limits of the listener.

use std::time::Duration;

/// The resources that one client, and all clients together, can use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of open connections over all listeners; at least 1.
    pub connections: usize,
    /// Time from the accept to the first complete request head, the TLS handshake included.
    pub first_request: Duration,
    /// Time from the end of a response to the next complete request head, and so the keep-alive
    /// timeout. If it is shorter than the scrape interval, every scrape opens a new connection.
    pub header_read: Duration,
    /// Time from a complete request head to the last byte of the response.
    pub response: Duration,
    /// Time in which a client must read 64 KiB of a response.
    pub stall: Duration,
    /// Time without that much progress after which a connection can be closed to make room for
    /// another one.
    pub grace: Duration,
    /// Maximum number of bytes that all responses hold, in addition to two of the largest one.
    /// Above it, the slowest clients are disconnected.
    pub response_memory: usize,
    /// Time in which running responses must end once the shutdown has begun.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            first_request: Duration::from_secs(10),
            header_read: Duration::from_secs(120),
            response: Duration::from_secs(60),
            stall: Duration::from_secs(10),
            grace: Duration::from_secs(1),
            response_memory: 64 * 1024 * 1024,
            drain: Duration::from_secs(10),
        }
    }
}
