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
    match parse(address)? {
        Target::AllInterfaces(port) => listen_on_all_interfaces(port),
        Target::Address(address) => Ok(vec![listen(address)?]),
        Target::Name(host, port) => listen_on_name(host, port),
    }?
    .into_iter()
    .map(TcpListener::from_std)
    .collect()
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
        let sockets = match parse(address)? {
            Target::AllInterfaces(port) => vec![
                (Ipv4Addr::UNSPECIFIED, port).into(),
                (Ipv6Addr::UNSPECIFIED, port).into(),
            ],
            Target::Address(socket) => vec![socket],
            Target::Name(host, port) => resolve(host, port)?,
        };
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

enum Target<'a> {
    AllInterfaces(u16),
    Address(SocketAddr),
    Name(&'a str, u16),
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

fn parse(address: &str) -> io::Result<Target<'_>> {
    if let Ok(address) = address.parse() {
        return Ok(Target::Address(address));
    }
    address
        .rsplit_once(':')
        .and_then(|(host, port)| parse_name(host, port))
        .ok_or_else(|| {
            let error = AddressError::Malformed(address.to_owned());
            io::Error::new(io::ErrorKind::InvalidInput, error)
        })
}

fn parse_name<'a>(host: &'a str, port: &str) -> Option<Target<'a>> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    // `u16::from_str` alone accepts a plus sign.
    if !host.chars().all(is_name) || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let port = port.parse().ok()?;
    Some(match host {
        "" => Target::AllInterfaces(port),
        _ => Target::Name(host, port),
    })
}

fn listen_on_all_interfaces(port: u16) -> io::Result<Vec<std::net::TcpListener>> {
    let any_v4 = |port| listen((Ipv4Addr::UNSPECIFIED, port).into());
    let any_v6 = match listen((Ipv6Addr::UNSPECIFIED, port).into()) {
        Ok(any_v6) => any_v6,
        Err(error) if is_denied(&error) => return Err(error),
        Err(_) => return Ok(vec![any_v4(port)?]),
    };
    if !is_v6_only(&any_v6)? {
        return Ok(vec![any_v6]);
    }
    let port = any_v6.local_addr()?.port();
    Ok(vec![any_v6, any_v4(port)?])
}

/// Whether an IPv6 socket accepts no IPv4: always on Windows, and on Linux if
/// `net.ipv6.bindv6only` is set.
#[expect(
    deprecated,
    reason = "deprecated together with its setter, which has no effect on a bound socket; std has no other getter"
)]
fn is_v6_only(listener: &std::net::TcpListener) -> io::Result<bool> {
    listener.only_v6()
}

fn listen_on_name(host: &str, mut port: u16) -> io::Result<Vec<std::net::TcpListener>> {
    let mut addresses: Vec<SocketAddr> = resolve(host, port)?;
    addresses.sort_unstable();
    addresses.dedup();
    let mut listeners = Vec::new();
    let mut skipped = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for mut address in addresses {
        address.set_port(port);
        match listen(address) {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            Err(error) if is_denied(&error) => return Err(error),
            Err(error) => skipped = error,
        }
    }
    if listeners.is_empty() {
        return Err(skipped);
    }
    Ok(listeners)
}

fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(source) => Err(io::Error::new(
            source.kind(),
            AddressError::Resolve {
                host: host.to_owned(),
                source,
            },
        )),
    }
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
