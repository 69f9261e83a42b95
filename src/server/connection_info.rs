//! The facts about a connection that the guard needs to authorize its requests.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ServerConfig;

/// The peer of a connection and the TLS settings that accepted it. The listener adds it to every
/// request as an extension.
#[derive(Clone, Debug)]
pub(super) struct ConnectionInfo {
    pub(super) peer: IpAddr,
    /// `None` without TLS.
    pub(super) tls: Option<Arc<ServerConfig>>,
}
