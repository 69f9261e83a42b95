//! Checks the certificate of every new connection before the first byte of a request.
//!
//! A layer around the connector of the HTTP client, so that no connection bypasses the check, not
//! even those of a retry. A connection without a certificate is rejected: if the client were built
//! without `tls_info`, it could not connect at all.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use chrono::{DateTime, Utc};
use hyper::http::Extensions;
use hyper_util::client::legacy::connect::Connection;
use reqwest::tls::TlsInfo;
use tower_layer::Layer;
use tower_service::Service;

use super::certificate::Validity;
use super::pins::{CertificateError, Pins};
use crate::clock;
use crate::sync::lock;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// When the certificate expires that an endpoint presented last. Shared by all its connections.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct CertificateExpiry(Arc<Mutex<Option<DateTime<Utc>>>>);

impl CertificateExpiry {
    pub(in crate::gateway) fn get(&self) -> Option<DateTime<Utc>> {
        *lock(&self.0)
    }

    fn set(&self, leaf: &[u8]) {
        *lock(&self.0) = Validity::of(leaf).map(|validity| validity.not_after);
    }
}

/// The layer that adds the check to a connector.
#[derive(Clone, Debug)]
pub(super) struct CertificateCheck {
    pins: Arc<Pins>,
    expiry: CertificateExpiry,
}

impl CertificateCheck {
    pub(super) fn new(pins: Pins, expiry: CertificateExpiry) -> Self {
        let pins = Arc::new(pins);
        Self { pins, expiry }
    }

    fn check(&self, connection: &impl Connection) -> Result<(), CertificateError> {
        let mut extensions = Extensions::new();
        connection.connected().get_extras(&mut extensions);
        let leaf = extensions.get().and_then(TlsInfo::peer_certificate);
        let leaf = leaf.ok_or(CertificateError::NoCertificate)?;
        self.pins.check_thumbprint(leaf)?;
        self.expiry.set(leaf);
        self.pins.check_dates(leaf, clock::now())
    }
}

impl<S> Layer<S> for CertificateCheck {
    type Service = CheckingConnector<S>;

    fn layer(&self, connector: S) -> CheckingConnector<S> {
        let check = self.clone();
        CheckingConnector { connector, check }
    }
}

/// A connector that only returns connections whose certificate is accepted.
#[derive(Clone, Debug)]
pub(super) struct CheckingConnector<S> {
    connector: S,
    check: CertificateCheck,
}

impl<S, Target> Service<Target> for CheckingConnector<S>
where
    S: Service<Target, Error = BoxError>,
    S::Response: Connection,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let connecting = self.connector.call(target);
        let check = self.check.clone();
        Box::pin(async move {
            let connection = connecting.await?;
            check.check(&connection)?;
            Ok(connection)
        })
    }
}
