//! The dashboard Partition: state and history of one partition.

use serde_json::{Value, json};

use super::dashboard::Dashboard;
use super::panel::{FollowUp, Panel};
use super::scope::Scope;
use super::states::{self, GREEN, GREY, ORANGE, SKY, VERMILLION, flag_mapping};
use super::variables;

/// Text for panels that need the collector `history`.
const NO_HISTORY: &str = "Collector history is disabled, or has no data";

pub(super) fn dashboard() -> Value {
    let mut variables = variables::exporters();
    variables.extend([
        variables::cluster(),
        variables::application(),
        variables::service(),
        variables::partition(),
    ]);
    let dashboard = Dashboard {
        uid: "sfbe-partition",
        title: "Service Fabric Backup / Partition",
        description: "State and history of one partition.",
        from: "now-24h",
        scope: Scope {
            clusters: r#"cluster_name="$cluster_name""#,
            services: SERVICES,
            partitions: PARTITION,
        },
        variables,
        annotations: Vec::new(),
        rows: vec![
            (
                4,
                vec![verdict(), last_backup(), due(), lsn(), policy(), data_age()],
            ),
            (9, vec![timeline()]),
            (8, vec![age(), lsn_rate()]),
            (
                4,
                vec![
                    attempt_result(),
                    attempt(),
                    failure(),
                    restore(),
                    data_loss(),
                ],
            ),
            (4, vec![recovery_points(), chain(), last_full(), oldest()]),
        ],
    };
    dashboard.into_json()
}

const SERVICES: &str = r#"cluster_name="$cluster_name", application_name="$application_name", service_name="$service_name""#;
const PARTITION: &str = r#"cluster_name="$cluster_name", application_name="$application_name", service_name="$service_name", partition_id="$partition_id""#;

/// A stat panel without colours.
fn plain(title: &str, description: &str, follow_up: &FollowUp) -> Panel {
    Panel::stat(title, description, follow_up)
        .option("colorMode", json!("value"))
        .steps(&[(None, "text")])
}

/// A query for the age of a timestamp.
fn age_of(family: &str) -> String {
    format!("time() - max({family}{{@partitions}})")
}

fn verdict() -> Panel {
    let verdicts = states::verdicts();
    Panel::stat(
        "Verdict",
        "Whether the partition can be restored and its backup is on time. Look up the verdict in docs/protection.md.",
        &FollowUp::Runbook("ServiceFabricBackupOverdue"),
    )
    .now(&states::verdict_numbers(), "verdict")
    .mapped(&verdicts.mapping())
    .steps(&[(None, GREY)])
    .empty("No data")
    .width(4)
}

fn last_backup() -> Panel {
    plain(
        "Last successful backup",
        "Age of the newest restorable backup. A restore would lose all writes since then. If it exceeds the schedule, check storage and policy.",
        &FollowUp::Runbook("ServiceFabricBackupOverdue"),
    )
    .now(&age_of("servicefabric_backup_last_success_timestamp_seconds"), "age")
    .unit("s")
    .set("decimals", json!(1))
    .empty("No known successful backup")
    .width(4)
}

fn due() -> Panel {
    Panel::stat(
        "Next backup due in",
        "Time until the next success is due, without the allowance. It is negative, and orange, if the backup is late: check the timeline below, then the storage.",
        &FollowUp::Runbook("ServiceFabricBackupOverdue"),
    )
    .now("max(servicefabric_backup_due_timestamp_seconds{@partitions}) - time()", "due in")
    .option("colorMode", json!("value"))
    .unit("s")
    .set("decimals", json!(1))
    .steps(&[(None, GREY), (Some(-1e12), ORANGE), (Some(0.0), "text")])
    .empty("No known due time")
    .width(4)
}

fn lsn() -> Panel {
    plain(
        "Last backed-up LSN",
        "Log sequence number (LSN) of the last record in the newest successful backup, available once the backup is listed. If it does not advance while the service writes, check the newest backup.",
        &FollowUp::Runbook("ServiceFabricBackupLsnFrozen"),
    )
    .now("max(servicefabric_backup_last_success_lsn{@partitions})", "number")
    .empty("Not reported")
    .width(4)
}

fn policy() -> Panel {
    let query = r#"label_join(group by (policy_name, policy_inherited_from) (servicefabric_backup_partition_info{@partitions, policy_name!=""}), "policy", ", set at the ", "policy_name", "policy_inherited_from")"#;
    plain(
        "Policy",
        "The policy that applies, and the level on which it was enabled. If there is none, enable backup for the service.",
        &FollowUp::Runbook("ServiceFabricBackupUnprotected"),
    )
    .now(query, "policy")
    .label("policy")
    .empty("No known policy")
    .width(4)
}

fn data_age() -> Panel {
    plain(
        "Age of request data",
        "Age of the data about requested backups of this partition. Other collectors read policy, periodic backups and health: if it grows, compare it with the age of each collector.",
        &FollowUp::Dashboard("Exporter"),
    )
    .now(&age_of("servicefabric_backup_partition_poll_timestamp_seconds"), "age")
    .unit("s")
    .empty("No data")
    .width(4)
}

fn timeline() -> Panel {
    let (verdicts, requests, restores) =
        (states::verdicts(), states::requests(), states::restores());
    let attempts =
        "31 + min by (partition_id) (servicefabric_backup_periodic_success{@partitions})";
    let suspended = "41 + max by (partition_id) (servicefabric_backup_suspended{@partitions})";
    let periodic = json!({ "type": "value", "options": {
        "31": { "text": "failed", "color": ORANGE },
        "32": { "text": "succeeded", "color": GREEN },
        "41": { "text": "not suspended", "color": SKY },
        "42": { "text": "suspended", "color": states::YELLOW },
    } });
    let mappings = [
        verdicts.mapping(),
        requests.mapping(),
        restores.mapping(),
        periodic,
    ];
    Panel::states(
        "Timeline",
        "The verdict and its causes: the last periodic attempt, the last requested backup, suspension, and the last restore. A row without data is missing. Check which row changes before the verdict, and look up the verdict in docs/protection.md.",
        &FollowUp::Runbook("ServiceFabricBackupOverdue"),
        &mappings,
    )
    .over_time(&states::verdict_numbers(), "Verdict")
    .over_time(attempts, "Last periodic attempt")
    .over_time(&requests.numbers(), "Last request")
    .over_time(suspended, "Suspension")
    .over_time(&restores.numbers(), "Last restore")
    .empty("No data")
}

fn age() -> Panel {
    Panel::lines(
        "Age and due time",
        "Age of the last successful backup, and time until the next one is due. Below 0, the backup is late. Check the timeline where the age did not drop.",
        &FollowUp::Runbook("ServiceFabricBackupOverdue"),
    )
    .over_time(&age_of("servicefabric_backup_last_success_timestamp_seconds"), "age of the last successful backup")
    .over_time("max(servicefabric_backup_due_timestamp_seconds{@partitions}) - time()", "time until the next backup is due")
    .override_field("time until the next backup is due", &[("color", json!({ "mode": "fixed", "fixedColor": ORANGE }))])
    .override_field("age of the last successful backup", &[("color", json!({ "mode": "fixed", "fixedColor": SKY }))])
    .unit("s")
    .empty("No known success or due time")
    .width(12)
}

fn lsn_rate() -> Panel {
    let query = "max(rate(servicefabric_backup_lsn_advance_total{@partitions}[$__rate_interval]))";
    Panel::lines(
        "Log records backed up",
        "New log records per second in successful backups. If the rate stays at 0 while the service writes, the backups contain no new data: check the newest ones.",
        &FollowUp::Runbook("ServiceFabricBackupLsnFrozen"),
    )
    .over_time(query, "records per second")
    .unit("short")
    .set("min", json!(0))
    .empty("No known LSN")
    .width(12)
}

fn attempt_result() -> Panel {
    Panel::stat(
        "Last periodic attempt",
        "Result of the last periodic backup, as reported by the replica. If it failed, read the health report of the partition. The cluster retries automatically.",
        &FollowUp::Runbook("ServiceFabricBackupPeriodicFailing"),
    )
    .now("min(servicefabric_backup_periodic_success{@partitions})", "attempt")
    .mapped(&flag_mapping(("succeeded", GREEN), ("failed", ORANGE)))
    .steps(&[(None, GREY)])
    .empty("No known periodic attempt")
    .width(5)
}

fn attempt() -> Panel {
    plain(
        "End of the last periodic attempt",
        "Time at which the last periodic backup succeeded or failed. If it is much older than the schedule, backups have stopped silently: check the Backup and Restore Service.",
        &FollowUp::Runbook("ServiceFabricBackupSilentStop"),
    )
    .now("1000 * max(servicefabric_backup_periodic_attempt_timestamp_seconds{@partitions})", "expired")
    .unit("dateTimeAsIso")
    .empty("No known periodic attempt")
    .width(5)
}

fn failure() -> Panel {
    Panel::stat(
        "Failure of the last request",
        "Failure code of the last requested backup. Look up the code in docs/runbooks/failure-codes.md, and read the message in the API of the exporter.",
        &FollowUp::Runbook("ServiceFabricBackupRequestFailed"),
    )
    .now("max by (code) (servicefabric_backup_progress_failure{@partitions})", "code")
    .label("code")
    .mapped(&json!({ "type": "regex", "options": {
        "pattern": ".+", "result": { "color": VERMILLION, "index": 0 },
    } }))
    .steps(&[(None, GREY)])
    .empty("No known failed requests")
    .width(5)
}

fn restore() -> Panel {
    plain(
        "Last restore",
        "Time of the last restore, if the cluster reports it. The timeline has its result. If it failed, check the cause before you request another restore.",
        &FollowUp::Runbook("ServiceFabricBackupRestoreFailed"),
    )
    .now("1000 * max(servicefabric_backup_restore_timestamp_seconds{@partitions})", "restore")
    .unit("dateTimeAsIso")
    .empty("No known restore")
    .width(5)
}

fn data_loss() -> Panel {
    plain(
        "Last data loss or creation",
        "Time of the last data loss, which includes restores, or of the creation. If it changes without a restore, find the cause.",
        &FollowUp::Runbook("ServiceFabricBackupDataLoss"),
    )
    .now("1000 * max(servicefabric_backup_partition_data_loss_timestamp_seconds{@partitions})", "since")
    .unit("dateTimeAsIso")
    .empty("Not reported")
    .width(4)
}

fn recovery_points() -> Panel {
    plain(
        "Recovery points",
        "Backups in the last backup list. If there are many more than the policy retains, check its retention.",
        &FollowUp::Runbook("ServiceFabricBackupRetentionExceeded"),
    )
    .now("max(servicefabric_backup_recovery_points{@partitions})", "backups")
    .unit("locale")
    .empty(NO_HISTORY)
    .width(6)
}

fn chain() -> Panel {
    plain(
        "Newest chain",
        "Backups in the newest chain, including the full one. A restore needs all of them. If the chain is longer than the policy permits, check why no full backup was taken.",
        &FollowUp::Runbook("ServiceFabricBackupChainTooLong"),
    )
    .now("max(servicefabric_backup_chain_length{@partitions})", "backups")
    .unit("locale")
    .empty(NO_HISTORY)
    .width(6)
}

fn last_full() -> Panel {
    plain(
        "Last full backup",
        "Age of the newest full backup in the last backup list. If it grows steadily, check why only incremental backups are taken.",
        &FollowUp::Runbook("ServiceFabricBackupChainTooLong"),
    )
    .now(&age_of("servicefabric_backup_last_full_timestamp_seconds"), "age")
    .unit("s")
    .set("decimals", json!(1))
    .empty(NO_HISTORY)
    .width(6)
}

fn oldest() -> Panel {
    plain(
        "Oldest recovery point",
        "Age of the oldest backup in the last backup list. If it exceeds the retention of the policy, check retention and storage cost.",
        &FollowUp::Runbook("ServiceFabricBackupRetentionExceeded"),
    )
    .now(&age_of("servicefabric_backup_oldest_recovery_point_timestamp_seconds"), "age")
    .unit("s")
    .set("decimals", json!(1))
    .empty(NO_HISTORY)
    .width(6)
}
