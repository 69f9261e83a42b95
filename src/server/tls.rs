//! The TLS side of the listener: settings → what rustls serves with, and the handshake.
//!
//! The cryptography is always ring's; no default of the process is asked for or set. How long a
//! handshake may take is the supervisor's business.

mod clients;

use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{Acceptor, NoServerSessionStorage};
use rustls::sign::SingleCertAndKey;
use rustls::{Error, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use self::clients::ClientJudge;
use super::live::{Admission, Live};
use crate::settings::web::{ClientAuth, Tls};

/// The name of HTTP/2 in a handshake.
pub(super) const HTTP2: &[u8] = b"h2";

/// What a handshake by these settings needs; HTTP/2 is offered only when asked for.
pub(super) fn server_config(tls: Tls, http2: bool) -> Result<ServerConfig, Error> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: tls.suites,
        kx_groups: tls.curves,
        ..ring::default_provider()
    });
    let judged = tls.clients.auth != ClientAuth::None;
    let clients = ClientJudge::new(tls.clients, Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&tls.versions)?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(tls.certified)));
    config.ignore_client_order = tls.prefer_server_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, HTTP2.to_vec());
    }
    if judged {
        // A resumed session would bring an old verdict on its certificate along.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// Shakes hands by the settings of the moment at which the client has said hello.
pub(super) async fn accept(
    stream: TcpStream,
    live: &Arc<Live>,
) -> io::Result<(TlsStream<TcpStream>, Admission)> {
    let peer = stream.peer_addr()?.ip();
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let current = live.current().await;
    let config = current.and_then(|current| current.tls.clone());
    let config = config.ok_or_else(|| {
        io::Error::other("the web configuration cannot be used, or has no TLS any more")
    })?;
    let admission = Admission::by(Arc::clone(&config), peer);
    Ok((hello.into_stream(config).await?, admission))
}
