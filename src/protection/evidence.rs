//! The evidence of a verdict: each fact with its value, source and age.
//!
//! For people, in the terms of Service Fabric. It includes missing facts, because these lead to
//! `Unknown`.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;

use super::current::CurrentFacts;
use super::expectation::Expectation;
use super::facts::{Facts, Rules};
use super::verdict::{ProtectionState, Verdict};
use crate::model::{ConfigurationScope, Read, Schedule};

/// A fact that a verdict is based on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Name of the fact.
    pub fact: &'static str,
    /// Value of the fact; `null` if it is unknown.
    pub value: Option<String>,
    /// API operation or other source of the fact.
    pub source: &'static str,
    /// Seconds since the fact was read; `null` if it was never read, or is derived from other facts.
    pub age_seconds: Option<i64>,
}

/// The evidence of `verdict`, the result of evaluating `facts` at `now`.
pub fn evidence(
    facts: &Facts<'_>,
    rules: &Rules,
    verdict: &Verdict,
    now: DateTime<Utc>,
) -> Vec<Evidence> {
    let current = CurrentFacts { facts, rules, now };
    let due = verdict.due.map(rfc3339);
    let allowance = Some(seconds(rules.overdue_allowance));
    let expected = rules.expected_interval.map(seconds);
    let listed = facts.listed_at.map(|at| Read { value: (), at });
    let schedule = facts.schedule.and_then(|read| read.value).map(describe);
    let success = facts.last_success.map(|at| match facts.success_at(now) {
        Some(at) => rfc3339(at),
        None => format!("ignored, dated in the future: {}", rfc3339(at)),
    });
    let confirmed = Some(confirmation(facts, rules));
    let reset = facts.reset_at.map(rfc3339);
    let explanation = possible_cause(&current, verdict);
    let [policy, suspended] = configuration(facts);
    let applied = age(facts.configuration, now);
    let rows = [
        ("policy", policy, CONFIGURATION, applied),
        ("suspended at", suspended, CONFIGURATION, applied),
        ("schedule", schedule, POLICIES, age(facts.schedule, now)),
        ("expected interval", expected, SETTINGS, None),
        ("last success", success, NEWEST, None),
        ("confirmed by the store", confirmed, LIST, age(listed, now)),
        (
            "last periodic attempt",
            attempt(&current),
            HEALTH,
            age(facts.health, now),
        ),
        ("next attempt by", next_attempt(&current), DERIVED, None),
        (
            "last requested backup",
            record(facts),
            PROGRESS,
            age(facts.progress, now),
        ),
        (
            "backups listed",
            facts.listed_at.map(rfc3339),
            LIST,
            age(listed, now),
        ),
        (
            "first expected",
            facts.expected_since.map(rfc3339),
            OBSERVED,
            None,
        ),
        (
            "protection changed",
            facts.changed_at.map(rfc3339),
            OBSERVED,
            None,
        ),
        ("created or restored", reset, RESET, None),
        ("clock skew", clock_skew(facts), DATE, None),
        ("due", due, DERIVED, None),
        ("possible cause", explanation, DERIVED, None),
        ("overdue allowance", allowance, SETTINGS, None),
    ];
    rows.into_iter().map(Evidence::from).collect()
}

impl From<(&'static str, Option<String>, &'static str, Option<i64>)> for Evidence {
    fn from(row: (&'static str, Option<String>, &'static str, Option<i64>)) -> Self {
        let (fact, value, source, age_seconds) = row;
        Self {
            fact,
            value,
            source,
            age_seconds,
        }
    }
}

fn configuration(facts: &Facts<'_>) -> [Option<String>; 2] {
    let Some(Read { value: applied, .. }) = facts.configuration else {
        return [None, None];
    };
    let policy = applied.policy.as_ref().map_or_else(
        || "none applies".to_owned(),
        |(name, level)| format!("{name}, set at the {}", level.as_str()),
    );
    let suspended = applied
        .suspended
        .map_or("nowhere", ConfigurationScope::as_str);
    [Some(policy), Some(suspended.to_owned())]
}

fn attempt(current: &CurrentFacts<'_>) -> Option<String> {
    let attempt = current.facts.health?.value?;
    let outcome = if attempt.succeeded {
        "succeeded"
    } else {
        "failed"
    };
    let former = if current.attempt().is_some() {
        ""
    } else {
        ", before the schedule restarted"
    };
    Some(format!("{outcome} at {}{former}", rfc3339(attempt.ended)))
}

/// After a failure, a replica makes five more attempts about a minute apart, and then waits as after
/// a success: for a whole interval, or until the next run (`BackupRestoreManager.cs`).
fn next_attempt(current: &CurrentFacts<'_>) -> Option<String> {
    let schedule = current.facts.schedule?.value?;
    current.facts.health?.value?;
    let next = if let Some(attempt) = current.attempt() {
        schedule.next_after_success(attempt.ended, current.rules.run_tolerance)?
    } else {
        let expected = Expectation::Policy(schedule);
        expected.first(current.restarted_at(&expected)?, current.rules)?
    };
    Some(rfc3339(next))
}

/// Whether the last success is confirmed, why not, and the newest listed backup.
fn confirmation(facts: &Facts<'_>, rules: &Rules) -> String {
    let confirmation = facts.confirmation;
    let newest = confirmation.newest_listed.map(rfc3339);
    let newest = newest.map_or_else(
        || "no restorable backup listed".to_owned(),
        |newest| format!("newest listed backup {newest}"),
    );
    if !rules.reads_lists {
        return "no: lists of backups are switched off".to_owned();
    }
    let Some(listed) = facts.listed_at.map(rfc3339) else {
        let status = if confirmation.is_confirmed {
            "before the start"
        } else {
            "no"
        };
        return format!("{status}: not listed since the start, {newest}");
    };
    match confirmation.rejected_claim {
        _ if confirmation.is_confirmed => format!("yes: {newest}"),
        Some((claim, Some(at))) => {
            let (claim, at) = (rfc3339(claim), rfc3339(at));
            format!("no: the list of {at} did not hold the success reported for {claim}, {newest}")
        }
        Some((claim, None)) => {
            let claim = rfc3339(claim);
            format!(
                "no: the success reported for {claim} counts once a list holds it, because an \
                 earlier one was not listed; {newest}"
            )
        }
        None => format!("not since the list of {listed}, {newest}"),
    }
}

fn clock_skew(facts: &Facts<'_>) -> Option<String> {
    let clock_skew = facts.clock_skew;
    if let Some(skew) = clock_skew.excessive() {
        let skew = seconds(skew);
        return Some(format!(
            "cluster minus exporter {skew}: too large to compare times of backups with the \
             exporter's clock"
        ));
    }
    let skew = Some(clock_skew.correction()).filter(|skew| !skew.is_zero())?;
    Some(format!("cluster minus exporter {}", seconds(skew)))
}

/// A change of the certificate that encrypts the secrets in policies restarts every schedule, which
/// the API does not show (`BackupRestoreService.cs`, `UpdateSecretsAsync`). It postpones the next
/// backup only under a frequency: runs at fixed times do not change.
fn possible_cause(current: &CurrentFacts<'_>, verdict: &Verdict) -> Option<String> {
    let due = verdict
        .due
        .filter(|_| verdict.state == ProtectionState::Overdue)?;
    let schedule = current.facts.schedule?.value?;
    let next = schedule.next(due)?;
    let is_within = current.facts.clock_skew.to_cluster_time(current.now) < next;
    let counts = |ended| current.last_success() >= Some(ended);
    let attempt = current.attempt().filter(|attempt| attempt.succeeded);
    let succeeded = attempt.is_some_and(|attempt| counts(attempt.ended));
    let is_possible = matches!(schedule, Schedule::Frequency(_)) && is_within && succeeded;
    is_possible.then(|| {
        format!(
            "may be a restart of all schedules that the cluster does not show, such as a change of \
             its secret-encryption certificate; then the next backup ends by about {}",
            rfc3339(next)
        )
    })
}

fn record(facts: &Facts<'_>) -> Option<String> {
    let state = facts.progress?.value?.state.as_str();
    Some(match facts.record_since {
        Some(since) => format!("{state} since {}", rfc3339(since)),
        None => state.to_owned(),
    })
}

fn age<T>(read: Option<Read<T>>, now: DateTime<Utc>) -> Option<i64> {
    Some((now - read?.at).num_seconds())
}

const CONFIGURATION: &str = "GetBackupConfigurationInfo";
const POLICIES: &str = "GetBackupPolicyList";
const HEALTH: &str = "GetPartitionHealth";
const PROGRESS: &str = "GetPartitionBackupProgress";
const LIST: &str = "GetApplicationBackupList";
const SETTINGS: &str = "exporter configuration";
const DATE: &str = "Date header of the gateway";
const OBSERVED: &str = "observed by the exporter";
const RESET: &str = "DataLossVersion and GetPartitionRestoreProgress";
const NEWEST: &str = "the newest that progress, health and list have shown";
const DERIVED: &str = "schedule and last success";

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn seconds(delta: TimeDelta) -> String {
    format!("{} s", delta.num_seconds())
}

fn describe(schedule: &Schedule) -> String {
    let times = |times: &[chrono::NaiveTime]| {
        let times: Vec<_> = times.iter().map(ToString::to_string).collect();
        times.join(", ")
    };
    match schedule {
        Schedule::Frequency(interval) => format!("every {} s", interval.as_secs()),
        Schedule::Daily(at) => format!("daily at {} UTC", times(at)),
        Schedule::Weekly(days, at) => {
            let days: Vec<_> = days.iter().map(ToString::to_string).collect();
            format!("{} at {} UTC", days.join(", "), times(at))
        }
    }
}
