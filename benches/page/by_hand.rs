//! What the page is compared with: a loop that writes the same sample lines, and nothing else.
//!
//! The labels of each partition are one text made beforehand, so there is nothing to format but
//! numbers and nothing to escape. It knows nothing of freshness, because every reading is fresh.

use std::io::Write as _;

use chrono::{DateTime, Utc};
use servicefabric_backup_exporter::model::{BackupState, Epoch, PartitionKind};
use servicefabric_backup_exporter::snapshot::{PartitionSnapshot, Snapshot};

/// A family with at most one number for each partition.
type Row = (
    &'static str,
    fn(&PartitionSnapshot, DateTime<Utc>) -> Option<i64>,
);

/// The families of partitions whose samples have no label of their own, in any order.
const ROWS: [Row; 11] = [
    (
        "servicefabric_backup_progress_state_since_timestamp_seconds",
        |p, _| {
            p.record()?;
            Some(p.seen.as_ref()?.since()?.timestamp())
        },
    ),
    ("servicefabric_backup_progress_timestamp_seconds", |p, _| {
        Some(p.record()?.timestamp?.timestamp())
    }),
    ("servicefabric_backup_progress_age_seconds", |p, now| {
        Some((now - p.record()?.timestamp?).num_seconds())
    }),
    ("servicefabric_backup_progress_lsn", |p, _| {
        let progress = p.record()?;
        let success = progress.state == BackupState::Success;
        progress.lsn.filter(|_| success).map(u64::cast_signed)
    }),
    (
        "servicefabric_backup_progress_configuration_version",
        |p, _| epoch(p)?.configuration_version.map(u64::cast_signed),
    ),
    (
        "servicefabric_backup_progress_data_loss_timestamp_seconds",
        |p, _| Some(epoch(p)?.data_loss_time()?.timestamp()),
    ),
    (
        "servicefabric_backup_last_success_timestamp_seconds",
        |p, _| Some(p.last_success.as_ref()?.at.timestamp()),
    ),
    ("servicefabric_backup_last_success_age_seconds", |p, now| {
        Some((now - p.last_success.as_ref()?.at).num_seconds())
    }),
    ("servicefabric_backup_last_success_lsn", |p, _| {
        p.last_success_lsn().map(u64::cast_signed)
    }),
    ("servicefabric_backup_lsn_advance_total", |p, _| {
        p.numbered.as_ref()?;
        Some(p.lsn_advance.cast_signed())
    }),
    (
        "servicefabric_backup_partition_poll_timestamp_seconds",
        |p, _| Some(p.read_at()?.timestamp()),
    ),
];

/// The rest of them.
const STATE: &str = "servicefabric_backup_progress_state";
const FAILURE: &str = "servicefabric_backup_progress_failure";
const INFO: &str = "servicefabric_backup_partition_info";

fn epoch(partition: &PartitionSnapshot) -> Option<Epoch> {
    let progress = partition.record()?;
    progress
        .epoch
        .filter(|_| progress.state == BackupState::Success)
}

/// The labels of every partition as text, without braces.
pub(crate) fn label_blocks(snapshot: &Snapshot) -> Vec<String> {
    let partitions = snapshot.partitions.values();
    let blocks = partitions.map(|known| {
        format!(
            "cluster_name=\"{}\",application_name=\"{}\",service_name=\"{}\",partition_id=\"{}\"",
            snapshot.cluster,
            known.partition.application.as_deref().unwrap_or_default(),
            known.partition.service.as_deref().unwrap_or_default(),
            known.partition.id
        )
    });
    blocks.collect()
}

/// Writes the samples of every partition, all states, family by family into one fresh buffer.
/// Returns it, and where each family begins and ends.
pub(crate) fn write(
    snapshot: &Snapshot,
    blocks: &[String],
    now: DateTime<Utc>,
) -> (Vec<u8>, Vec<(&'static str, std::ops::Range<usize>)>) {
    let mut text = Vec::new();
    let mut families = Vec::new();
    let partitions = || snapshot.partitions.values().zip(blocks);
    for (name, value) in ROWS {
        let start = text.len();
        for (known, block) in partitions() {
            if let Some(value) = value(known, now) {
                sample(&mut text, name, block, None, value);
            }
        }
        families.push((name, start..text.len()));
    }
    let start = text.len();
    for (known, block) in partitions() {
        let Some(progress) = known.record() else {
            continue;
        };
        for state in BackupState::ALL {
            let own = Some(("state", state.as_str()));
            sample(
                &mut text,
                STATE,
                block,
                own,
                (state == progress.state).into(),
            );
        }
    }
    families.push((STATE, start..text.len()));
    let start = text.len();
    for (known, block) in partitions() {
        let failure = known.record().and_then(|it| it.failure.as_ref());
        if let Some(failure) = failure {
            let own = Some(("code", failure.code.as_str()));
            sample(&mut text, FAILURE, block, own, 1);
        }
    }
    families.push((FAILURE, start..text.len()));
    let start = text.len();
    for (known, block) in partitions() {
        let kind = known.partition.kind.map(PartitionKind::as_str);
        sample(
            &mut text,
            INFO,
            block,
            kind.map(|kind| ("partition_kind", kind)),
            1,
        );
    }
    families.push((INFO, start..text.len()));
    (text, families)
}

fn sample(text: &mut Vec<u8>, name: &str, block: &str, own: Option<(&str, &str)>, value: i64) {
    text.extend_from_slice(name.as_bytes());
    text.push(b'{');
    text.extend_from_slice(block.as_bytes());
    if let Some((key, own)) = own {
        text.push(b',');
        text.extend_from_slice(key.as_bytes());
        text.extend_from_slice(b"=\"");
        text.extend_from_slice(own.as_bytes());
        text.push(b'"');
    }
    text.extend_from_slice(b"} ");
    writeln!(text, "{value}").expect("a Vec takes everything");
}
