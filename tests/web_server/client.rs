//! HTTP clients: without TLS, over rustls, and over OpenSSL for restricted TLS settings.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates::Identity;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The value of an `Authorization` header.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

pub(crate) fn request(path: &str, authorization: Option<&str>) -> Request<Body> {
    let mut request = Request::get(path).header("host", "localhost");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    request.body(Body::empty()).unwrap()
}

/// A keep-alive connection.
pub(crate) struct Http1(http1::SendRequest<Body>);

impl Http1 {
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, Failure> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    pub(crate) async fn plain(address: SocketAddr) -> Result<Self, Failure> {
        Self::over(TcpStream::connect(address).await?).await
    }

    pub(crate) async fn get(
        &mut self,
        path: &str,
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        collect(self.send(request(path, authorization)).await?).await
    }

    /// Returns once the head of the response has arrived.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failure> {
        self.0.ready().await?;
        Ok(self.0.send_request(request).await?)
    }

    /// Completes when the server has closed the connection.
    pub(crate) async fn closed(&mut self) {
        while self.0.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

async fn collect(response: Response<Incoming>) -> Result<Answer, Failure> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// A rustls client that trusts one authority.
#[derive(Clone)]
pub(crate) struct Tls {
    roots: RootCertStore,
    config: ClientConfig,
}

impl Tls {
    pub(crate) fn new(authority: CertificateDer<'static>, identity: Option<&Identity>) -> Self {
        Self::with_versions(rustls::ALL_VERSIONS, authority, identity)
    }

    pub(crate) fn with_versions(
        versions: &[&'static SupportedProtocolVersion],
        authority: CertificateDer<'static>,
        identity: Option<&Identity>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots.clone());
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.for_client();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self { roots, config }
    }

    /// Presents a certificate and signs with a key that is not its own.
    pub(crate) fn with_forged(
        self,
        forged: &Identity,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let (chain, key) = forged.for_client();
        let key = ring::sign::any_supported_type(&key).unwrap();
        let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(Arc::new(certified));
        Self { config, ..self }
    }

    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        self.config.alpn_protocols = protocols.collect();
        self
    }

    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        self.connect_over(TcpStream::connect(address).await?).await
    }

    pub(crate) async fn connect_over(
        &self,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let name = ServerName::try_from("localhost").unwrap();
        Ok(connector.connect(name, stream).await?)
    }

    /// Sends one request on a new connection. With TLS 1.3, a client whose certificate is rejected
    /// observes that only after the handshake.
    pub(crate) async fn get(
        &self,
        address: SocketAddr,
        path: &str,
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        let stream = self.connect(address).await?;
        Http1::over(stream).await?.get(path, authorization).await
    }
}

/// The TLS settings of an OpenSSL client.
#[derive(Clone, Copy, Default)]
pub(crate) struct OpenSslClient {
    pub(crate) newest: Option<SslVersion>,
    pub(crate) suites: Option<&'static str>,
    pub(crate) curves: Option<&'static str>,
}

impl OpenSslClient {
    /// The negotiated TLS version and cipher suite, by their names in OpenSSL.
    pub(crate) async fn negotiate(self, address: SocketAddr) -> Result<(String, String), Failure> {
        tokio::task::spawn_blocking(move || self.handshake(address)).await?
    }

    fn handshake(self, address: SocketAddr) -> Result<(String, String), Failure> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_min_proto_version(Some(SslVersion::TLS1))?;
        builder.set_max_proto_version(self.newest)?;
        builder.set_cipher_list(self.suites.unwrap_or("ALL:@SECLEVEL=0"))?;
        if let Some(curves) = self.curves {
            builder.set_groups_list(curves)?;
        }
        let stream = std::net::TcpStream::connect(address)?;
        let stream = builder.build().connect("localhost", stream);
        let stream = stream.map_err(|error| error.to_string())?;
        let suite = stream.ssl().current_cipher().unwrap().name().to_owned();
        Ok((stream.ssl().version_str().to_owned(), suite))
    }
}
