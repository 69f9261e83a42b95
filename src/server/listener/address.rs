//! Parses listen addresses and opens their sockets.
//!
//! Forms: `:19180` (all interfaces, with both IP versions where the host has them),
//! `127.0.0.1:19180`, `[::1]:19180` and `localhost:19180` (all addresses of the name). An address
//! that the host does not have is skipped if another one can be used; an address that is in use or
//! forbidden is an error.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use thiserror::Error;
use tokio::net::TcpListener;

/// Listens on `address`, which can need several sockets. Port 0 selects one free port for all.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] if `address` is malformed; otherwise the error of the operating
/// system, with the address.
///
/// # Panics
///
/// Outside of a Tokio runtime with I/O.
pub fn bind(address: &str) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<std::net::TcpListener> = Vec::new();
    let mut skipped = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for mut socket in sockets(address)? {
        if let Some(first) = listeners.first() {
            socket.set_port(first.local_addr()?.port());
            if is_dual_stack(first)? && socket.ip() == Ipv4Addr::UNSPECIFIED {
                continue;
            }
        }
        match listen(socket) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_denied(&error) => return Err(error),
            Err(error) => skipped = error,
        }
    }
    if listeners.is_empty() {
        return Err(skipped);
    }
    listeners.into_iter().map(TcpListener::from_std).collect()
}

/// Checks the syntax of `addresses`, that names resolve, and that no two addresses overlap. Opens no
/// socket.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] for an address that is malformed or overlaps with another one;
/// otherwise the error of the name resolution.
pub(crate) fn check(addresses: &[String]) -> io::Result<()> {
    let mut earlier: Vec<(&str, SocketAddr)> = Vec::new();
    for address in addresses {
        let sockets = sockets(address)?;
        let overlapping =
            |(_, one): &&(&str, SocketAddr)| sockets.iter().any(|socket| overlap(*socket, *one));
        if let Some((other, _)) = earlier.iter().find(overlapping) {
            let error = AddressError::Overlap(address.clone(), (*other).to_owned());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        earlier.extend(sockets.into_iter().map(|socket| (&**address, socket)));
    }
    Ok(())
}

/// Whether two sockets cannot listen at the same time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    let same_address = a.ip() == b.ip() || (any && a.is_ipv4() == b.is_ipv4());
    a.port() != 0 && a.port() == b.port() && same_address
}

#[derive(Debug, Error)]
enum AddressError {
    #[error("invalid listen address `{0}`; expected `:port`, `host:port` or `[IPv6 address]:port`")]
    Malformed(String),
    #[error("the listen addresses `{0}` and `{1}` overlap; specify each address once")]
    Overlap(String, String),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot resolve the listen address `{host}`")]
    Resolve { host: String, source: io::Error },
}

/// The socket addresses of a listen address.
fn sockets(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(socket) = address.parse() {
        return Ok(vec![socket]);
    }
    let (host, port) = split(address).ok_or_else(|| {
        let error = AddressError::Malformed(address.to_owned());
        io::Error::new(io::ErrorKind::InvalidInput, error)
    })?;
    if host.is_empty() {
        return Ok(vec![
            (Ipv6Addr::UNSPECIFIED, port).into(),
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ]);
    }
    let resolved = (host, port).to_socket_addrs().map_err(|source| {
        let (kind, host) = (source.kind(), host.to_owned());
        io::Error::new(kind, AddressError::Resolve { host, source })
    });
    let mut sockets: Vec<_> = resolved?.collect();
    sockets.sort_unstable();
    sockets.dedup();
    Ok(sockets)
}

fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    // `u16::from_str` alone accepts a plus sign.
    if !host.chars().all(is_name) || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((host, port.parse().ok()?))
}

/// Whether the listener accepts connections over IPv4 and IPv6. An IPv6 socket does so on Linux
/// unless `net.ipv6.bindv6only` is set, and never on Windows.
#[expect(
    deprecated,
    reason = "deprecated together with its setter, which has no effect on a bound socket; std has no other getter"
)]
fn is_dual_stack(listener: &std::net::TcpListener) -> io::Result<bool> {
    Ok(listener.local_addr()?.ip() == Ipv6Addr::UNSPECIFIED && !listener.only_v6()?)
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).map_err(|source| {
        io::Error::new(source.kind(), AddressError::Listen { address, source })
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether the host has the address but does not grant it. Serving on the other addresses only
/// would hide the error.
fn is_denied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}
