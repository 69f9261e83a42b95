//! What the page is compared with: a loop that writes the same sample lines, and nothing else.
//!
//! The labels of each partition are one text made beforehand, so there is nothing to format but
//! numbers and nothing to escape. It knows nothing of freshness, because every reading is fresh,
//! and it asks for each verdict once.

use std::io::Write as _;
use std::ops::Range;

use chrono::{DateTime, Utc};
use servicefabric_backup_exporter::model::{BackupState, Epoch, PartitionKind, RestoreState};
use servicefabric_backup_exporter::protection::history::BackupHistory;
use servicefabric_backup_exporter::protection::{ProtectionState, Rules, Verdict, evaluate};
use servicefabric_backup_exporter::snapshot::{PartitionSnapshot, Snapshot};

/// A family with at most one number for each partition.
type Row = (
    &'static str,
    fn(&PartitionSnapshot, DateTime<Utc>) -> Option<i64>,
);

/// The families of partitions whose samples have no label of their own, in any order.
const ROWS: [Row; 22] = [
    (
        "servicefabric_backup_last_listed_timestamp_seconds",
        |p, _| Some(p.successes.listed.as_ref()?.at.timestamp()),
    ),
    ("servicefabric_backup_unrestorable_backups", |p, _| {
        p.listed_at?;
        Some(p.unrestorable.into())
    }),
    (
        "servicefabric_backup_progress_state_since_timestamp_seconds",
        |p, _| {
            p.record()?;
            Some(p.progress_history.as_ref()?.since()?.timestamp())
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
        p.newest_with_lsn.as_ref()?;
        Some(p.lsn_advance.cast_signed())
    }),
    (
        "servicefabric_backup_partition_poll_timestamp_seconds",
        |p, _| Some(p.read_at()?.timestamp()),
    ),
    ("servicefabric_backup_periodic_success", |p, _| {
        Some(p.health?.value?.succeeded.into())
    }),
    (
        "servicefabric_backup_periodic_attempt_timestamp_seconds",
        |p, _| Some(p.health?.value?.ended.timestamp()),
    ),
    ("servicefabric_backup_suspended", |p, _| {
        let applied = p.configuration.as_ref()?;
        applied.policy.as_ref()?;
        Some(applied.suspended.is_some().into())
    }),
    ("servicefabric_backup_chain_length", |p, _| {
        history(p)?.chain_length.map(u64::cast_signed)
    }),
    (
        "servicefabric_backup_last_full_timestamp_seconds",
        |p, _| Some(history(p)?.last_full?.timestamp()),
    ),
    (
        "servicefabric_backup_oldest_recovery_point_timestamp_seconds",
        |p, _| Some(history(p)?.oldest?.timestamp()),
    ),
    ("servicefabric_backup_recovery_points", |p, _| {
        Some(history(p)?.recovery_points.cast_signed())
    }),
    (
        "servicefabric_backup_partition_data_loss_timestamp_seconds",
        |p, _| Some(p.partition.data_loss_time?.timestamp()),
    ),
    ("servicefabric_backup_restore_timestamp_seconds", |p, _| {
        Some(p.restore?.value?.timestamp?.timestamp())
    }),
];

/// The rest of them.
const PROGRESS: &str = "servicefabric_backup_progress_state";
const PROTECTION: &str = "servicefabric_backup_protection_state";
const RESTORE: &str = "servicefabric_backup_restore_state";
const DUE: &str = "servicefabric_backup_due_timestamp_seconds";
const FAILURE: &str = "servicefabric_backup_progress_failure";
const INFO: &str = "servicefabric_backup_partition_info";

fn history(partition: &PartitionSnapshot) -> Option<&BackupHistory> {
    partition.history.as_ref().map(|read| &read.value)
}

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

/// Text, and where each family in it begins and ends.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) text: Vec<u8>,
    pub(crate) families: Vec<(&'static str, Range<usize>)>,
}

/// Writes the samples of every partition, all states, family by family into one fresh buffer.
pub(crate) fn write(
    snapshot: &Snapshot,
    blocks: &[String],
    rules: &Rules,
    now: DateTime<Utc>,
) -> Written {
    let partitions = || snapshot.partitions.values().zip(blocks);
    let verdict =
        |(known, _): (&PartitionSnapshot, _)| evaluate(&known.facts(snapshot), rules, now);
    let verdicts: Vec<Verdict> = partitions().map(verdict).collect();
    let judged = || partitions().zip(&verdicts);
    let mut written = Written::default();
    for (name, value) in ROWS {
        written.family(name, |text| {
            for (known, block) in partitions() {
                if let Some(value) = value(known, now) {
                    sample(text, name, block, &[], value);
                }
            }
        });
    }
    written.family(DUE, |text| {
        for ((_, block), verdict) in judged() {
            if let Some(due) = verdict.due {
                sample(text, DUE, block, &[], due.timestamp());
            }
        }
    });
    written.family(PROTECTION, |text| {
        for ((_, block), verdict) in judged() {
            let states = ProtectionState::ALL.map(|it| (it.as_str(), it == verdict.state));
            write_states(text, PROTECTION, block, &states);
        }
    });
    written.family(PROGRESS, |text| {
        for (known, block) in partitions() {
            if let Some(progress) = known.record() {
                let states = BackupState::ALL.map(|it| (it.as_str(), it == progress.state));
                write_states(text, PROGRESS, block, &states);
            }
        }
    });
    written.family(RESTORE, |text| {
        for (known, block) in partitions() {
            if let Some(restore) = known.restore.and_then(|read| read.value) {
                let states = RestoreState::ALL.map(|it| (it.as_str(), it == restore.state));
                write_states(text, RESTORE, block, &states);
            }
        }
    });
    written.family(FAILURE, |text| {
        for (known, block) in partitions() {
            let failure = known.record().and_then(|it| it.failure.as_ref());
            if let Some(failure) = failure {
                sample(text, FAILURE, block, &[("code", failure.code.as_str())], 1);
            }
        }
    });
    written.family(INFO, |text| {
        for (known, block) in partitions() {
            write_info(text, known, block);
        }
    });
    written
}

impl Written {
    fn family(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        self.families.push((name, start..self.text.len()));
    }
}

fn write_states(text: &mut Vec<u8>, name: &str, block: &str, states: &[(&str, bool)]) {
    for (state, is_current) in states {
        sample(text, name, block, &[("state", state)], (*is_current).into());
    }
}

fn write_info(text: &mut Vec<u8>, known: &PartitionSnapshot, block: &str) {
    let kind = known.partition.kind.map_or("", PartitionKind::as_str);
    let applied = known.configuration.as_ref();
    match applied.and_then(|applied| applied.policy.as_ref()) {
        None => sample(text, INFO, block, &[("partition_kind", kind)], 1),
        Some((policy, level)) => {
            let own = [
                ("partition_kind", kind),
                ("policy_name", policy),
                ("policy_inherited_from", level.as_str()),
            ];
            sample(text, INFO, block, &own, 1);
        }
    }
}

fn sample(text: &mut Vec<u8>, name: &str, block: &str, own: &[(&str, &str)], value: i64) {
    text.extend_from_slice(name.as_bytes());
    text.push(b'{');
    text.extend_from_slice(block.as_bytes());
    for (key, value) in own {
        text.push(b',');
        text.extend_from_slice(key.as_bytes());
        text.extend_from_slice(b"=\"");
        text.extend_from_slice(value.as_bytes());
        text.push(b'"');
    }
    text.extend_from_slice(b"} ");
    writeln!(text, "{value}").expect("a Vec takes everything");
}
