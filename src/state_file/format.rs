//! The JSON of the state file, version 1, and its way to and from a snapshot.
//!
//! The shapes here are the file format: they change only together with [`VERSION`]. They are
//! kept apart from the model so that the model may change freely.

mod partition;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use self::partition::PartitionEntry;
use super::Damage;
use crate::model::FailureCode;
use crate::snapshot::{ServiceKey, Snapshot, Totals};

/// The format written here.
pub(super) const VERSION: u64 = 1;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    clusters: BTreeMap<Cow<'a, str>, Cluster<'a>>,
}

/// A [`Document`] on its way out, made entry by entry: there may be 100,000 of them.
#[derive(Serialize)]
struct Outgoing<'a> {
    version: u64,
    clusters: BTreeMap<&'a str, OutgoingCluster<'a>>,
}

#[derive(Serialize)]
struct OutgoingCluster<'a> {
    partitions: Partitions<'a>,
    services: Services<'a>,
    policy_checksums: BTreeMap<&'a str, u32>,
}

struct Partitions<'a>(&'a Snapshot);

impl Serialize for Partitions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.partitions.values().map(PartitionEntry::of))
    }
}

struct Services<'a>(&'a Snapshot);

impl Serialize for Services<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = self.0.totals.iter();
        serializer.collect_seq(entries.map(|(key, totals)| ServiceEntry::of(key, totals)))
    }
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Deserialize)]
struct Cluster<'a> {
    #[serde(borrow)]
    partitions: Vec<PartitionEntry<'a>>,
    #[serde(borrow)]
    services: Vec<ServiceEntry<'a>>,
    /// Checksums of the policies, by name. Where they are made of something else from one version of
    /// the exporter to the next, their key gets another name: taken for changed policies, they would
    /// grant every partition another interval.
    #[serde(borrow, default)]
    policy_checksums: BTreeMap<Cow<'a, str>, u32>,
}

#[derive(Serialize, Deserialize)]
struct ServiceEntry<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    application: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    service: Option<Cow<'a, str>>,
    successes: u64,
    failed: u64,
    timed_out: u64,
    #[serde(borrow, skip_serializing_if = "BTreeMap::is_empty", default)]
    failures: BTreeMap<Cow<'a, str>, u64>,
}

pub(super) fn write(clusters: &[Arc<Snapshot>], to: impl Write) -> io::Result<()> {
    let clusters = clusters.iter().map(|snapshot| {
        let marks = snapshot.policy_marks.iter();
        let cluster = OutgoingCluster {
            partitions: Partitions(snapshot),
            services: Services(snapshot),
            policy_checksums: marks.map(|(name, mark)| (&**name, *mark)).collect(),
        };
        (&*snapshot.cluster, cluster)
    });
    let document = Outgoing {
        version: VERSION,
        clusters: clusters.collect(),
    };
    let mut buffered = BufWriter::new(to);
    serde_json::to_writer(&mut buffered, &document)?;
    buffered.flush()
}

pub(super) fn decode(bytes: &[u8]) -> Result<BTreeMap<Arc<str>, Snapshot>, Damage> {
    let Version { version } = serde_json::from_slice(bytes).map_err(Damage::Decode)?;
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    let document: Document<'_> = serde_json::from_slice(bytes).map_err(Damage::Decode)?;
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
        let marks = self.policy_checksums.into_iter();
        Snapshot::remembered(
            cluster,
            partitions.collect(),
            totals.collect(),
            marks.map(|(name, mark)| (name.into(), mark)).collect(),
        )
    }
}

impl<'a> ServiceEntry<'a> {
    fn of(key: &'a ServiceKey, totals: &'a Totals) -> Self {
        let failures = totals.failures.iter();
        Self {
            application: key.application.as_deref().map(Cow::from),
            service: key.service.as_deref().map(Cow::from),
            successes: totals.successes,
            failed: totals.failed,
            timed_out: totals.timed_out,
            failures: failures
                .map(|(code, count)| (code.as_str().into(), *count))
                .collect(),
        }
    }

    fn restore(self) -> (ServiceKey, Totals) {
        let key = ServiceKey {
            application: self.application.map(Into::into),
            service: self.service.map(Into::into),
        };
        let failures = self.failures.into_iter();
        let totals = Totals {
            successes: self.successes,
            failed: self.failed,
            timed_out: self.timed_out,
            failures: failures
                .map(|(code, count)| (FailureCode::from_text(&code), count))
                .collect(),
        };
        (key, totals)
    }
}
