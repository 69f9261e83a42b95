//! The inputs of the routes.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::web_config::ReloadableWebConfig;
use crate::fleet::Watched;
use crate::inventory::Shard;
use crate::telemetry::{Reload, Telemetry};

/// A request to reload the configuration. The reply carries the configuration errors.
pub(crate) type ReloadRequest = oneshot::Sender<Result<(), String>>;

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) clusters: watch::Receiver<Arc<[Watched]>>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) reload: watch::Receiver<Reload>,
    pub(crate) web_config: Option<Arc<ReloadableWebConfig>>,
    pub(crate) shard: Shard,
    /// The path of the metrics, such as `/metrics`.
    pub(crate) telemetry_path: String,
    /// A notice at the top of the landing page.
    pub(crate) notice: Option<&'static str>,
    /// Limits how many pages are encoded at a time. Sending a response needs no permit, so a slow
    /// client delays no other one.
    pub(crate) encoding_permits: Arc<Semaphore>,
    /// `None` rejects `POST /-/reload`.
    pub(crate) reload_requests: Option<mpsc::Sender<ReloadRequest>>,
}

impl App {
    pub(super) fn clusters(&self) -> Arc<[Watched]> {
        Arc::clone(&self.clusters.borrow())
    }
}
