//! The JSON of the state file, version 1, and its way to and from a snapshot.
//!
//! The shapes here are the file format: they change only together with [`VERSION`]. They are
//! kept apart from the model so that the model may change freely.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::Damage;
use crate::model::{BackupState, FailureCode, Partition, PartitionId, PartitionKind};
use crate::snapshot::{
    PartitionSnapshot, RecordIdentity, RecoveryPoint, Seen, ServiceKey, Snapshot, Totals,
};

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
}

#[derive(Serialize, Deserialize)]
struct PartitionEntry<'a> {
    id: Uuid,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    application: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    service: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    seen: Option<SeenEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    last_success: Option<SuccessEntry>,
    #[serde(skip_serializing_if = "is_zero", default)]
    lsn_advance: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct SeenEntry<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    record: Option<RecordEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    newest_success: Option<(DateTime<Utc>, Option<Uuid>)>,
}

#[derive(Serialize, Deserialize)]
struct RecordEntry<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
    since: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    backup_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    timestamp: Option<DateTime<Utc>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    code: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct SuccessEntry {
    at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    backup_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    lsn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    data_loss_version: Option<u64>,
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
        let cluster = OutgoingCluster {
            partitions: Partitions(snapshot),
            services: Services(snapshot),
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
        Snapshot::remembered(cluster, partitions.collect(), totals.collect())
    }
}

impl<'a> PartitionEntry<'a> {
    fn of(known: &'a PartitionSnapshot) -> Self {
        Self {
            id: known.partition.id.0,
            application: known.partition.application.as_deref().map(Cow::from),
            service: known.partition.service.as_deref().map(Cow::from),
            kind: known.partition.kind.map(|kind| kind.as_str().into()),
            seen: known.seen.as_deref().map(SeenEntry::of),
            last_success: known.last_success.as_deref().map(|point| SuccessEntry {
                at: point.at,
                backup_id: point.backup_id,
                lsn: point.lsn,
                data_loss_version: point.data_loss_version,
            }),
            lsn_advance: known.lsn_advance,
        }
    }

    fn restore(self) -> PartitionSnapshot {
        let partition = Partition {
            id: PartitionId(self.id),
            application: self.application.map(Into::into),
            service: self.service.map(Into::into),
            kind: self.kind.map(|word| PartitionKind::from_word(&word)),
        };
        PartitionSnapshot {
            seen: self.seen.map(|entry| Arc::new(entry.restore())),
            last_success: self.last_success.map(|entry| {
                Arc::new(RecoveryPoint {
                    at: entry.at,
                    backup_id: entry.backup_id,
                    lsn: entry.lsn,
                    data_loss_version: entry.data_loss_version,
                })
            }),
            lsn_advance: self.lsn_advance,
            ..PartitionSnapshot::new(partition)
        }
    }
}

impl<'a> SeenEntry<'a> {
    fn of(seen: &'a Seen) -> Self {
        let record = seen.record.as_ref().map(|(identity, since)| RecordEntry {
            state: identity.state.as_str().into(),
            since: *since,
            backup_id: identity.backup_id,
            timestamp: identity.timestamp,
            code: identity.code.as_ref().map(|code| code.as_str().into()),
        });
        Self {
            record,
            newest_success: seen.newest_success,
        }
    }

    fn restore(self) -> Seen {
        let record = self.record.map(|entry| {
            let identity = RecordIdentity {
                state: BackupState::from_word(&entry.state),
                backup_id: entry.backup_id,
                timestamp: entry.timestamp,
                code: entry.code.map(|code| FailureCode::from_text(&code)),
            };
            (identity, entry.since)
        });
        Seen {
            record,
            newest_success: self.newest_success,
        }
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
