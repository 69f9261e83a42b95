//! Version 1 of the state file: one JSON document without checksums. It is only read.
//!
//! A damaged file is recognized only where it is no longer JSON of this shape.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::entries::{PartitionEntry, ServiceEntry};
use crate::snapshot::Snapshot;

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    clusters: BTreeMap<Cow<'a, str>, Cluster<'a>>,
}

#[derive(Deserialize)]
struct Cluster<'a> {
    #[serde(borrow)]
    partitions: Vec<PartitionEntry<'a>>,
    #[serde(borrow)]
    services: Vec<ServiceEntry<'a>>,
}

/// The version of a document.
pub(super) fn version(bytes: &[u8]) -> serde_json::Result<u64> {
    serde_json::from_slice(bytes).map(|Version { version }| version)
}

/// The clusters in a document of version 1.
pub(super) fn decode(bytes: &[u8]) -> serde_json::Result<BTreeMap<Arc<str>, Snapshot>> {
    let document: Document<'_> = serde_json::from_slice(bytes)?;
    let clusters = document.clusters.into_iter().map(|(name, cluster)| {
        let name: Arc<str> = name.into();
        let snapshot = cluster.into_snapshot(Arc::clone(&name));
        (name, snapshot)
    });
    Ok(clusters.collect())
}

impl Cluster<'_> {
    fn into_snapshot(self, cluster: Arc<str>) -> Snapshot {
        let partitions = self.partitions.into_iter().map(PartitionEntry::restore);
        let totals = self.services.into_iter().map(ServiceEntry::restore);
        Snapshot::restored(
            cluster,
            partitions.collect(),
            totals.collect(),
            // Its checksums of policies were computed from other parts of them.
            BTreeMap::new(),
        )
    }
}
