//! Families of protection: what is known to be backed up.

use super::seconds;
use crate::exposition::family::{Family, Kind, PARTITION, Source};
use crate::model::PartitionKind;

/// In the order of the page.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "servicefabric_backup_partition_info",
        kind: Kind::Info,
        labels: &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
            "partition_kind",
        ],
        help: "A known partition and what it is",
        source: Source::Labelled(|p| {
            let kind = p.known.partition.kind;
            Some(("partition_kind", kind.map(PartitionKind::as_str)))
        }),
    },
    Family::partition(
        "servicefabric_backup_last_success_timestamp_seconds",
        "Time of the newest backup known to be good; it stays through new requests, failures and restarts",
        |p| seconds(p.known.last_success.as_ref()?.at),
    ),
    Family::age(
        "servicefabric_backup_last_success_age_seconds",
        "Seconds since the newest backup known to be good, at the scrape: the data that a restore would lose",
        |p| Some(p.known.last_success.as_ref()?.at),
    ),
    Family::partition(
        "servicefabric_backup_last_success_lsn",
        "Log sequence number of the last record in the newest backup known to be good",
        |p| i64::try_from(p.known.last_success.as_ref()?.lsn?).ok(),
    ),
    Family {
        name: "servicefabric_backup_lsn_advance_total",
        kind: Kind::Counter,
        labels: PARTITION,
        help: "Log records newly covered by successful backups, summed within each data loss epoch",
        source: Source::Partition(|p| {
            p.known.last_success.as_ref()?.lsn?;
            i64::try_from(p.known.lsn_advance).ok()
        }),
    },
];
