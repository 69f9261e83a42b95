//! Partition: what is known of one partition, and what happened to it.

use serde_json::{Value, json};

use super::look::{self, GREEN, GREY, ORANGE, SKY, VERMILLION, flag};
use super::panel::{Next, Panel};
use super::{Dashboard, Scope, variables};

/// Why the families of the collector `history` may have no answer.
const NO_HISTORY: &str = "Collector history is off, or has not listed it";

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
        description: "What is known of one partition, and what happened to it.",
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
                vec![
                    verdict(),
                    last_backup(),
                    due(),
                    log_number(),
                    policy(),
                    reading(),
                ],
            ),
            (9, vec![events()]),
            (8, vec![age(), log_progress()]),
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
    dashboard.laid_out()
}

const SERVICES: &str = r#"cluster_name="$cluster_name", application_name="$application_name", service_name="$service_name""#;
const PARTITION: &str = r#"cluster_name="$cluster_name", application_name="$application_name", service_name="$service_name", partition_id="$partition_id""#;

/// A value that is neither good nor bad by itself.
fn plain(title: &str, description: &str, next: &Next) -> Panel {
    Panel::stat(title, description, next)
        .option("colorMode", json!("value"))
        .steps(&[(None, "text")])
}

/// How long ago something was.
fn age_of(family: &str) -> String {
    format!("time() - max({family}{{@partitions}})")
}

fn verdict() -> Panel {
    let verdicts = look::verdicts();
    Panel::stat(
        "Verdict",
        "Whether the partition can be restored and its backup is on time. Look up what the verdict means, and what to do, in docs/protection.md.",
        &Next::Runbook("ServiceFabricBackupOverdue"),
    )
    .now(&look::verdict_numbers(), "verdict")
    .mapped(&verdicts.mapping())
    .steps(&[(None, GREY)])
    .empty("No exporter tells of it")
    .width(4)
}

fn last_backup() -> Panel {
    plain(
        "Last good backup",
        "How long ago the newest backup was that is known to be good: so much a restore would lose. When it grows beyond the schedule, look at storage and policy.",
        &Next::Runbook("ServiceFabricBackupOverdue"),
    )
    .now(&age_of("servicefabric_backup_last_success_timestamp_seconds"), "age")
    .unit("s")
    .set("decimals", json!(1))
    .empty("No good backup is known")
    .width(4)
}

fn due() -> Panel {
    Panel::stat(
        "Next backup due in",
        "When the next success is due under the schedule, the allowance not counted; negative when it is late. Orange means late: look at the events below, then at the storage.",
        &Next::Runbook("ServiceFabricBackupOverdue"),
    )
    .now("max(servicefabric_backup_due_timestamp_seconds{@partitions}) - time()", "due in")
    .option("colorMode", json!("value"))
    .unit("s")
    .set("decimals", json!(1))
    .steps(&[(None, GREY), (Some(-1e12), ORANGE), (Some(0.0), "text")])
    .empty("No due moment: no schedule, or unknown")
    .width(4)
}

fn log_number() -> Panel {
    plain(
        "Last log number backed up",
        "Log sequence number of the last record in the newest good backup. It comes once the backup is listed. When it stays the same while the service writes, check the newest backup.",
        &Next::Runbook("ServiceFabricBackupLsnFrozen"),
    )
    .now("max(servicefabric_backup_last_success_lsn{@partitions})", "number")
    .empty("Not told")
    .width(4)
}

fn policy() -> Panel {
    let query = r#"label_join(group by (policy_name, policy_inherited_from) (servicefabric_backup_partition_info{@partitions, policy_name!=""}), "policy", ", set at the ", "policy_name", "policy_inherited_from")"#;
    plain(
        "Policy",
        "The policy that applies, and where it was set. Where there is none, enable backup for the service.",
        &Next::Runbook("ServiceFabricBackupUnprotected"),
    )
    .now(query, "policy")
    .label("policy")
    .empty("No policy is known")
    .width(4)
}

fn reading() -> Panel {
    plain(
        "Last reading of requests",
        "How long ago an exporter last read what became of the requested backups of this partition. Other collectors read policy, periodic backups and health: when it grows, compare it with the age of each collector.",
        &Next::Dashboard("Exporter"),
    )
    .now(&age_of("servicefabric_backup_partition_poll_timestamp_seconds"), "age")
    .unit("s")
    .empty("Never read")
    .width(4)
}

fn events() -> Panel {
    let (verdicts, requests, restores) = (look::verdicts(), look::requests(), look::restores());
    let attempts =
        "31 + min by (partition_id) (servicefabric_backup_periodic_success{@partitions})";
    let suspended = "41 + max by (partition_id) (servicefabric_backup_suspended{@partitions})";
    let periodic = json!({ "type": "value", "options": {
        "31": { "text": "failed", "color": ORANGE },
        "32": { "text": "succeeded", "color": GREEN },
        "41": { "text": "not suspended", "color": SKY },
        "42": { "text": "suspended", "color": look::YELLOW },
    } });
    let mappings = [
        verdicts.mapping(),
        requests.mapping(),
        restores.mapping(),
        periodic,
    ];
    Panel::states(
        "What happened",
        "The verdict and, below it, what it follows from: the last periodic attempt, the last requested backup, suspension, and the last restore. A row is missing where nothing of the kind is known. Read upwards from where a colour turns, and look up the verdict in docs/protection.md.",
        &Next::Runbook("ServiceFabricBackupOverdue"),
        &mappings,
    )
    .over_time(&look::verdict_numbers(), "Verdict")
    .over_time(attempts, "Last periodic attempt")
    .over_time(&requests.numbers(), "Last request")
    .over_time(suspended, "Suspension")
    .over_time(&restores.numbers(), "Last restore")
    .empty("No exporter tells of it")
}

fn age() -> Panel {
    Panel::lines(
        "Age and due moment",
        "Age of the last good backup, and the time left until the next one is due. Below 0 the backup is late. Look for what happened where the age did not fall.",
        &Next::Runbook("ServiceFabricBackupOverdue"),
    )
    .over_time(&age_of("servicefabric_backup_last_success_timestamp_seconds"), "age of the last good backup")
    .over_time("max(servicefabric_backup_due_timestamp_seconds{@partitions}) - time()", "time until the next is due")
    .only("time until the next is due", &[("color", json!({ "mode": "fixed", "fixedColor": ORANGE }))])
    .only("age of the last good backup", &[("color", json!({ "mode": "fixed", "fixedColor": SKY }))])
    .unit("s")
    .empty("No good backup and no due moment is known")
    .width(12)
}

fn log_progress() -> Panel {
    let query = "max(rate(servicefabric_backup_lsn_advance_total{@partitions}[$__rate_interval]))";
    Panel::lines(
        "Log records newly backed up",
        "Log records per second that successful backups newly covered. Flat at 0 under a service that writes means that backups hold nothing new: check the newest ones.",
        &Next::Runbook("ServiceFabricBackupLsnFrozen"),
    )
    .over_time(query, "records per second")
    .unit("short")
    .set("min", json!(0))
    .empty("No log sequence number is known")
    .width(12)
}

fn attempt_result() -> Panel {
    Panel::stat(
        "Last periodic attempt",
        "How the last periodic backup ended, as the replica reported it. When it failed, read the health report of the partition; the cluster tries again by itself.",
        &Next::Runbook("ServiceFabricBackupPeriodicFailing"),
    )
    .now("min(servicefabric_backup_periodic_success{@partitions})", "attempt")
    .mapped(&flag(("succeeded", GREEN), ("failed", ORANGE)))
    .steps(&[(None, GREY)])
    .empty("No attempt is reported")
    .width(5)
}

fn attempt() -> Panel {
    plain(
        "Periodic attempt ended",
        "When the last periodic backup ended, well or not. When this is long ago and the schedule short, backups have stopped without a word: check the backup service.",
        &Next::Runbook("ServiceFabricBackupSilentStop"),
    )
    .now("1000 * max(servicefabric_backup_periodic_attempt_timestamp_seconds{@partitions})", "ended")
    .unit("dateTimeAsIso")
    .empty("No attempt is reported")
    .width(5)
}

fn failure() -> Panel {
    Panel::stat(
        "Failure of the last request",
        "The failure code of the last requested backup. Look it up among the failure codes, and read the message on the exporter's page of the partition.",
        &Next::Runbook("ServiceFabricBackupRequestFailed"),
    )
    .now("max by (code) (servicefabric_backup_progress_failure{@partitions})", "code")
    .label("code")
    .mapped(&json!({ "type": "regex", "options": {
        "pattern": ".+", "result": { "color": VERMILLION, "index": 0 },
    } }))
    .steps(&[(None, GREY)])
    .empty("No failed request is known")
    .width(5)
}

fn restore() -> Panel {
    plain(
        "Last restore",
        "Time of the last restore, while the cluster tells one. How it went stands in the row Last restore above; when it failed, look at the restore before asking for another.",
        &Next::Runbook("ServiceFabricBackupRestoreFailed"),
    )
    .now("1000 * max(servicefabric_backup_restore_timestamp_seconds{@partitions})", "restore")
    .unit("dateTimeAsIso")
    .empty("No restore is known")
    .width(5)
}

fn data_loss() -> Panel {
    plain(
        "Last data loss or creation",
        "When the partition last lost data, which a restore does on purpose, or was created. When it moves without a restore, find out who asked for it.",
        &Next::Runbook("ServiceFabricBackupDataLoss"),
    )
    .now("1000 * max(servicefabric_backup_partition_data_loss_timestamp_seconds{@partitions})", "since")
    .unit("dateTimeAsIso")
    .empty("Not told")
    .width(4)
}

fn recovery_points() -> Panel {
    plain(
        "Recovery points",
        "Backups in the store, as last listed. When there are many more than the policy keeps, check its retention.",
        &Next::Runbook("ServiceFabricBackupRetentionExceeded"),
    )
    .now("max(servicefabric_backup_recovery_points{@partitions})", "backups")
    .unit("locale")
    .empty(NO_HISTORY)
    .width(6)
}

fn chain() -> Panel {
    plain(
        "Newest chain",
        "Backups in the newest chain, the full one included. A restore needs all of them. When it is longer than the policy allows, look why no full backup was taken.",
        &Next::Runbook("ServiceFabricBackupChainTooLong"),
    )
    .now("max(servicefabric_backup_chain_length{@partitions})", "backups")
    .unit("locale")
    .empty(NO_HISTORY)
    .width(6)
}

fn last_full() -> Panel {
    plain(
        "Last full backup",
        "How long ago the newest full backup was, as last listed. When it grows without end, look why only incremental ones are taken.",
        &Next::Runbook("ServiceFabricBackupChainTooLong"),
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
        "How far back a restore can go, as last listed. When it is older than the policy keeps backups, check retention and cost.",
        &Next::Runbook("ServiceFabricBackupRetentionExceeded"),
    )
    .now(&age_of("servicefabric_backup_oldest_recovery_point_timestamp_seconds"), "age")
    .unit("s")
    .set("decimals", json!(1))
    .empty(NO_HISTORY)
    .width(6)
}
