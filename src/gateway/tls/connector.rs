//! Looks at the certificate of every new connection before the first byte of a request.
//!
//! A layer around the connector of the HTTP client: whatever opens a connection, a retry or a
//! change of endpoint, comes through here. A connection without a certificate is refused, so that
//! forgetting to ask the client for it shuts everybody out instead of letting somebody in.

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
use super::pins::{Pins, Refused};
use crate::clock;
use crate::sync::lock;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// When the certificate that was last seen expires; shared by all connections to one endpoint.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct LastSeen(Arc<Mutex<Option<DateTime<Utc>>>>);

impl LastSeen {
    pub(in crate::gateway) fn not_after(&self) -> Option<DateTime<Utc>> {
        *lock(&self.0)
    }

    fn note(&self, leaf: &[u8]) {
        *lock(&self.0) = Validity::of(leaf).map(|validity| validity.not_after);
    }
}

/// Makes connectors check what the gateway shows.
#[derive(Clone, Debug)]
pub(super) struct CheckPeer {
    pins: Arc<Pins>,
    seen: LastSeen,
}

impl CheckPeer {
    pub(super) fn new(pins: Pins, seen: LastSeen) -> Self {
        let pins = Arc::new(pins);
        Self { pins, seen }
    }

    fn check(&self, connection: &impl Connection) -> Result<(), Refused> {
        let mut extras = Extensions::new();
        connection.connected().get_extras(&mut extras);
        let leaf = extras.get().and_then(TlsInfo::peer_certificate);
        let leaf = leaf.ok_or(Refused::NoCertificate)?;
        self.pins.recognise(leaf)?;
        self.seen.note(leaf);
        self.pins.judge_dates(leaf, clock::now())
    }
}

impl<S> Layer<S> for CheckPeer {
    type Service = Checked<S>;

    fn layer(&self, connector: S) -> Checked<S> {
        let check = self.clone();
        Checked { connector, check }
    }
}

/// A connector whose connections have been looked at.
#[derive(Clone, Debug)]
pub(super) struct Checked<S> {
    connector: S,
    check: CheckPeer,
}

impl<S, Target> Service<Target> for Checked<S>
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
