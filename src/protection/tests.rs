use super::effective::EffectiveConfiguration;
use super::evidence::evidence;
use super::*;
use crate::model::{
    BackupProgress, BackupState, ConfigurationScope, Failure, FailureCode, PeriodicAttempt, Read,
    Schedule,
};
use proptest::prelude::*;
use std::sync::LazyLock;
use std::time::Duration;

const INTERVAL: i64 = 3_600;
const ALLOWANCE: i64 = 900;
const STUCK: i64 = 900;
const STALE: i64 = 300;
const LIST_STALE: i64 = 1_800;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "the facts are options")]
fn read<T>(second: i64, value: T) -> Option<Read<T>> {
    let at = at(second);
    Some(Read { value, at })
}

const RULES: Rules = Rules {
    staleness: TimeDelta::seconds(STALE),
    list_staleness: TimeDelta::seconds(LIST_STALE),
    overdue_allowance: TimeDelta::seconds(ALLOWANCE),
    run_tolerance: TimeDelta::minutes(1),
    stuck_after: TimeDelta::seconds(STUCK),
    expected_interval: None,
    reads_configuration: true,
    reads_lists: true,
};

const REQUESTS: Rules = Rules {
    expected_interval: Some(TimeDelta::seconds(INTERVAL)),
    ..RULES
};

fn hourly() -> Schedule {
    Schedule::Frequency(Duration::from_secs(3_600))
}

static NO_POLICY: EffectiveConfiguration = EffectiveConfiguration {
    policy: None,
    suspended: None,
};

static PROTECTED: LazyLock<EffectiveConfiguration> = LazyLock::new(|| EffectiveConfiguration {
    policy: Some(("Hourly".into(), ConfigurationScope::Application)),
    suspended: None,
});

/// A partition under an hourly policy, everything read at `second`, last success at 0.
fn facts(schedule: &Schedule, second: i64) -> Facts<'_> {
    Facts {
        configuration: read(second, &*PROTECTED),
        schedule: read(second, Some(schedule)),
        progress: read(second, None),
        health: read(second, Some(ended(true, 0))),
        listed_at: Some(at(second)),
        last_success: Some(at(0)),
        expected_since: Some(at(-100_000)),
        ..Facts::default()
    }
}

fn ahead_by(skew: i64) -> ClockSkew {
    ClockSkew::new(TimeDelta::seconds(skew))
}

fn ended(succeeded: bool, second: i64) -> PeriodicAttempt {
    let ended = at(second);
    PeriodicAttempt { succeeded, ended }
}

fn record(state: BackupState) -> BackupProgress {
    BackupProgress {
        state,
        timestamp: None,
        backup_id: None,
        epoch: None,
        lsn: None,
        failure: Some(Failure {
            code: FailureCode::other(),
            message: None,
        }),
    }
}

fn state(facts: &Facts<'_>, rules: &Rules, second: i64) -> ProtectionState {
    evaluate(facts, rules, at(second)).state
}

/// The state holds from `second` on and does not hold a second before.
fn begins(facts: &Facts<'_>, rules: &Rules, expected: ProtectionState, second: i64) {
    assert_eq!(state(facts, rules, second), expected);
    let before = state(facts, rules, second - 1);
    assert_ne!(before, expected, "one second too early");
}

#[test]
fn nothing_read_is_unknown() {
    assert_eq!(
        state(&Facts::default(), &RULES, 0),
        ProtectionState::Unknown
    );
    assert_eq!(
        state(&Facts::default(), &REQUESTS, 0),
        ProtectionState::Unknown
    );
}

#[test]
fn a_configuration_that_was_never_read_or_is_stale_is_unknown() {
    let schedule = hourly();
    let fresh = facts(&schedule, 100);
    assert_eq!(state(&fresh, &RULES, 100), ProtectionState::Protected);
    let unread = Facts {
        configuration: None,
        ..fresh
    };
    assert_eq!(state(&unread, &RULES, 100), ProtectionState::Unknown);
    let stale = Facts {
        configuration: read(0, &*PROTECTED),
        ..fresh
    };
    begins(&stale, &RULES, ProtectionState::Unknown, STALE);
    let policies = Facts {
        schedule: read(0, Some(&schedule)),
        ..fresh
    };
    begins(&policies, &RULES, ProtectionState::Unknown, STALE);
}

#[test]
fn a_schedule_of_an_unknown_kind_is_unknown_not_protected() {
    let schedule = hourly();
    let facts = Facts {
        schedule: read(100, None),
        ..facts(&schedule, 100)
    };
    assert_eq!(state(&facts, &RULES, 100), ProtectionState::Unknown);
}

#[test]
fn without_any_source_of_the_expected_successes_it_is_unknown() {
    let schedule = hourly();
    let blind = Facts {
        health: read(100, Some(ended(true, 0))),
        listed_at: None,
        progress: read(1_000, None),
        ..facts(&schedule, 100 + STALE - 50)
    };
    // Progress is still fresh, but periodic backups never show there.
    begins(&blind, &RULES, ProtectionState::Unknown, 100 + STALE);
    let listed = Facts {
        health: None,
        listed_at: Some(at(0)),
        configuration: read(LIST_STALE, &*PROTECTED),
        schedule: read(LIST_STALE, Some(&schedule)),
        ..blind
    };
    begins(&listed, &RULES, ProtectionState::Unknown, LIST_STALE);
}

#[test]
fn an_accepted_request_is_stuck_when_it_takes_too_long() {
    let schedule = hourly();
    for running in [BackupState::Accepted, BackupState::BackupInProgress] {
        let record = record(running);
        let facts = Facts {
            progress: read(STUCK, Some(&record)),
            record_since: Some(at(0)),
            ..facts(&schedule, STUCK)
        };
        begins(&facts, &RULES, ProtectionState::Stuck, STUCK + 1);
    }
}

#[test]
fn a_request_that_was_seen_long_ago_is_not_stuck() {
    let schedule = hourly();
    let record = record(BackupState::Accepted);
    let facts = Facts {
        progress: read(STUCK - STALE, Some(&record)),
        record_since: Some(at(0)),
        ..facts(&schedule, STUCK)
    };
    assert_ne!(state(&facts, &RULES, STUCK + 1), ProtectionState::Stuck);
}

#[test]
fn no_policy_and_no_expectation_is_unprotected() {
    let schedule = hourly();
    let facts = Facts {
        configuration: read(100, &NO_POLICY),
        schedule: None,
        ..facts(&schedule, 100)
    };
    assert_eq!(state(&facts, &RULES, 100), ProtectionState::Unprotected);
    assert_ne!(state(&facts, &REQUESTS, 100), ProtectionState::Unprotected);
}

#[test]
fn suspended_protection_is_suspended_however_late_it_is() {
    let schedule = hourly();
    let suspended = EffectiveConfiguration {
        suspended: Some(ConfigurationScope::Service),
        ..PROTECTED.clone()
    };
    let facts = Facts {
        configuration: read(1_000_000, &suspended),
        health: read(1_000_000, None),
        ..facts(&schedule, 1_000_000)
    };
    let verdict = evaluate(&facts, &RULES, at(1_000_000));
    assert_eq!(verdict.state, ProtectionState::Suspended);
    assert_eq!(verdict.due, None);
}

#[test]
fn without_a_success_it_is_pending_until_the_first_one_is_overdue() {
    let schedule = hourly();
    let overdue = INTERVAL + ALLOWANCE + 1;
    let facts = Facts {
        health: read(overdue, None),
        last_success: None,
        expected_since: Some(at(0)),
        ..facts(&schedule, overdue)
    };
    begins(&facts, &RULES, ProtectionState::NeverBackedUp, overdue);
    // A request long before does not make a policy late that has just begun.
    let requested = Facts {
        last_success: Some(at(-1_000_000)),
        ..facts
    };
    begins(&requested, &RULES, ProtectionState::Overdue, overdue);
    assert_eq!(state(&facts, &RULES, overdue - 1), ProtectionState::Pending);
    assert_eq!(
        evaluate(&facts, &RULES, at(overdue)).due,
        Some(at(INTERVAL))
    );
}

#[test]
fn a_success_is_overdue_behind_due_and_allowance() {
    let schedule = hourly();
    let overdue = INTERVAL + ALLOWANCE + 1;
    let facts = facts(&schedule, overdue);
    begins(&facts, &RULES, ProtectionState::Overdue, overdue);
    assert_eq!(
        state(&facts, &RULES, overdue - 1),
        ProtectionState::Protected
    );
}

#[test]
fn a_run_time_is_what_counts_for_a_daily_schedule() {
    let schedule = Schedule::Daily(vec![chrono::NaiveTime::MIN]);
    // 1_700_000_000 is 22:13:20: midnight is 6,400 s later.
    let overdue = 6_400 + ALLOWANCE + 1;
    let facts = facts(&schedule, overdue);
    begins(&facts, &RULES, ProtectionState::Overdue, overdue);
}

#[test]
fn a_change_of_protection_grants_a_whole_interval() {
    let schedule = hourly();
    let overdue = 2_000 + INTERVAL + ALLOWANCE + 1;
    let facts = Facts {
        changed_at: Some(at(2_000)),
        ..facts(&schedule, overdue)
    };
    begins(&facts, &RULES, ProtectionState::Overdue, overdue);
    let overdue = INTERVAL + ALLOWANCE + 1;
    let earlier = Facts {
        changed_at: Some(at(-2_000)),
        ..self::facts(&schedule, overdue)
    };
    assert_eq!(state(&earlier, &RULES, overdue), ProtectionState::Overdue);
}

#[test]
fn a_replica_that_had_reported_nothing_is_untried_while_the_health_store_is_away() {
    let schedule = hourly();
    let overdue = INTERVAL + ALLOWANCE + 1;
    let facts = Facts {
        health: read(-STALE, None),
        last_success: Some(at(-1_000_000)),
        expected_since: Some(at(0)),
        ..facts(&schedule, overdue)
    };
    assert_eq!(
        evaluate(&facts, &RULES, at(overdue)).due,
        Some(at(INTERVAL))
    );
    assert_eq!(state(&facts, &RULES, overdue), ProtectionState::Overdue);
    let listed_before = Facts {
        listed_at: Some(at(overdue - 1)),
        ..facts
    };
    assert_eq!(
        state(&listed_before, &RULES, overdue - 1),
        ProtectionState::Protected
    );
}

#[test]
fn a_start_without_memory_calls_nobody_protected_who_may_be_late() {
    let schedule = hourly();
    let start = 1_000_000;
    let forgotten = Facts {
        health: read(start + 60, None),
        expected_since: Some(at(start + 10)),
        watched_since: Some(at(start)),
        ..facts(&schedule, start + 60)
    };
    // Protection may have been resumed a minute ago, or the backup is days late.
    assert_eq!(
        state(&forgotten, &RULES, start + 60),
        ProtectionState::Unknown
    );
    let late = start + INTERVAL + ALLOWANCE + 1;
    let in_time = Facts {
        health: read(late - 1, None),
        last_success: Some(at(start)),
        expected_since: forgotten.expected_since,
        watched_since: forgotten.watched_since,
        ..facts(&schedule, late - 1)
    };
    begins(&in_time, &RULES, ProtectionState::Unknown, late);
    let turn = evaluate(&in_time, &RULES, at(late - 1)).valid_until;
    assert_eq!(turn, Some(at(late - 1) + TimeDelta::nanoseconds(1)));
    let remembered = Facts {
        watched_since: Some(at(start + 10 + STALE)),
        ..forgotten
    };
    assert_eq!(
        state(&remembered, &RULES, start + 60),
        ProtectionState::Protected,
        "somebody saw it begin"
    );
}

#[test]
fn what_was_read_before_the_clock_was_set_back_is_not_believed() {
    let schedule = hourly();
    let read = facts(&schedule, 1_000);
    assert_eq!(state(&read, &RULES, 996), ProtectionState::Protected);
    for set_back in [400, -1_000] {
        assert_eq!(state(&read, &RULES, set_back), ProtectionState::Unknown);
    }
    let listed = Facts {
        health: None,
        listed_at: Some(at(1_000)),
        ..facts(&schedule, 400)
    };
    assert_eq!(state(&listed, &RULES, 400), ProtectionState::Unknown);
}

#[test]
fn a_list_proves_that_nothing_happened_only_up_to_its_reading() {
    let schedule = hourly();
    let overdue = INTERVAL + ALLOWANCE + 1;
    let listed = |second| Facts {
        health: None,
        listed_at: Some(at(second)),
        ..facts(&schedule, overdue)
    };
    assert_eq!(
        state(&listed(overdue), &RULES, overdue),
        ProtectionState::Overdue
    );
    // It is unknown whether it ran since: neither late nor protected.
    let before = listed(overdue - 600);
    begins(&before, &RULES, ProtectionState::Unknown, overdue);
    assert_eq!(
        state(&before, &RULES, overdue - 1),
        ProtectionState::Protected
    );
}

#[test]
fn what_is_said_to_have_changed_in_the_future_hides_no_breach() {
    let schedule = hourly();
    let own = INTERVAL + ALLOWANCE + 1;
    let month = 30 * 86_400;
    let changed = Facts {
        changed_at: Some(at(own + month)),
        ..facts(&schedule, own)
    };
    let verdict = evaluate(&changed, &RULES, at(own));
    assert_eq!(verdict.state, ProtectionState::Overdue);
    let begun = Facts {
        last_success: None,
        expected_since: Some(at(own + month)),
        ..facts(&schedule, own)
    };
    assert_eq!(
        evaluate(&begun, &RULES, at(own)).state,
        ProtectionState::Unknown
    );
}

#[test]
fn backups_are_judged_by_the_clock_that_dates_them() {
    let schedule = hourly();
    for skew in [-1_200, -30, 0, 30, 1_200] {
        let own = INTERVAL + ALLOWANCE + 1 - skew;
        let facts = Facts {
            clock_skew: ahead_by(skew),
            ..facts(&schedule, own)
        };
        begins(&facts, &RULES, ProtectionState::Overdue, own);
        let verdict = evaluate(&facts, &RULES, at(own - 1));
        assert_eq!(verdict.due, Some(at(INTERVAL)), "as the cluster counts");
        assert_eq!(
            verdict.valid_until,
            Some(at(own - 1) + TimeDelta::nanoseconds(1))
        );
        let resumed = Facts {
            changed_at: Some(at(2_000)),
            ..facts
        };
        let due = evaluate(&resumed, &RULES, at(own)).due;
        assert_eq!(
            due,
            Some(at(2_000 + skew + INTERVAL)),
            "what is observed is moved"
        );
    }
}

#[test]
fn a_request_that_failed_is_compared_with_backups_by_one_clock() {
    let schedule = hourly();
    let record = record(BackupState::Failure);
    let facts = |skew| Facts {
        progress: read(200, Some(&record)),
        record_since: Some(at(200)),
        health: read(200, Some(ended(true, 700))),
        last_success: Some(at(700)),
        clock_skew: ahead_by(skew),
        ..facts(&schedule, 200)
    };
    assert_eq!(state(&facts(600), &RULES, 250), ProtectionState::Failing);
    assert_eq!(state(&facts(400), &RULES, 250), ProtectionState::Protected);
}

#[test]
fn a_failed_attempt_fails_until_a_success_or_until_it_is_overdue() {
    let schedule = hourly();
    let warned = Facts {
        health: read(1_000, Some(ended(false, 500))),
        ..facts(&schedule, 1_000)
    };
    assert_eq!(state(&warned, &RULES, 1_000), ProtectionState::Failing);
    let mended = Facts {
        last_success: Some(at(600)),
        ..warned
    };
    assert_eq!(state(&mended, &RULES, 1_000), ProtectionState::Protected);
    let first = Facts {
        last_success: None,
        expected_since: Some(at(0)),
        ..warned
    };
    assert_eq!(state(&first, &RULES, 1_000), ProtectionState::Failing);
}

#[test]
fn a_failed_attempt_proves_that_the_first_backup_was_due_whenever_it_was_first_expected() {
    let schedule = hourly();
    let overdue = 500 + ALLOWANCE + 1;
    let facts = Facts {
        last_success: None,
        expected_since: Some(at(400)),
        health: read(overdue, Some(ended(false, 500))),
        listed_at: Some(at(overdue)),
        ..facts(&schedule, overdue)
    };
    begins(&facts, &RULES, ProtectionState::NeverBackedUp, overdue);
    let changed = Facts {
        changed_at: Some(at(600)),
        ..facts
    };
    assert_eq!(state(&changed, &RULES, overdue), ProtectionState::Pending);
}

#[test]
fn a_failure_seen_at_the_start_is_not_overdue_before_the_first_list_tells_what_was_before() {
    let schedule = hourly();
    let overdue = INTERVAL + ALLOWANCE + 1;
    let first_since = Facts {
        health: read(overdue, Some(ended(false, overdue - 60))),
        listed_at: None,
        watched_since: Some(at(overdue - 10)),
        ..facts(&schedule, overdue)
    };
    begins(&first_since, &RULES, ProtectionState::Overdue, overdue);
    // Of an older success it is not known whether another one came in between.
    let started = Facts {
        last_success: Some(at(-2 * INTERVAL)),
        ..first_since
    };
    assert_eq!(state(&started, &RULES, overdue), ProtectionState::Failing);
    let listed = Facts {
        listed_at: Some(at(overdue)),
        ..started
    };
    assert_eq!(state(&listed, &RULES, overdue), ProtectionState::Overdue);
    // Whatever it hides, the next one was due when it was tried.
    let tried = Facts {
        health: read(overdue, Some(ended(false, overdue - ALLOWANCE - 1))),
        ..started
    };
    begins(&tried, &RULES, ProtectionState::Overdue, overdue);
    let forgotten = Facts {
        last_success: None,
        expected_since: Some(at(overdue - 10)),
        ..tried
    };
    assert_eq!(state(&forgotten, &RULES, overdue), ProtectionState::Failing);
    let waited = Facts {
        watched_since: Some(at(overdue - LIST_STALE)),
        ..started
    };
    begins(&waited, &RULES, ProtectionState::Overdue, overdue);
    let without_lists = Rules {
        reads_lists: false,
        ..RULES
    };
    assert_eq!(
        state(&started, &without_lists, overdue),
        ProtectionState::Overdue
    );
}

#[test]
fn a_failed_request_from_before_a_success_that_was_deleted_does_not_count() {
    let schedule = hourly();
    let record = record(BackupState::Failure);
    let of = |confirmation| Facts {
        progress: read(1_000, Some(&record)),
        record_since: Some(at(500)),
        health: read(1_000, None),
        last_success: None,
        confirmation,
        expected_since: Some(at(950)),
        ..facts(&schedule, 1_000)
    };
    let state_after = |confirmation| state(&of(confirmation), &RULES, 1_000);
    for (deleted, expected) in [
        (600, ProtectionState::Pending),
        (400, ProtectionState::Failing),
        (2_000, ProtectionState::Failing),
    ] {
        let confirmation = Confirmation {
            deleted: Some(at(deleted)),
            rejected_claim: Some((at(deleted), Some(at(900)))),
            ..Confirmation::default()
        };
        assert_eq!(state_after(confirmation), expected, "{deleted}");
    }
    // A report that a list refuted is no attempt that succeeded.
    let refuted = Confirmation {
        rejected_claim: Some((at(600), Some(at(900)))),
        ..Confirmation::default()
    };
    assert_eq!(state_after(refuted), ProtectionState::Failing);
    // A time in the future hides no attempt of the past.
    let future = Confirmation {
        deleted: Some(at(2_000)),
        ..Confirmation::default()
    };
    let attempted = Facts {
        health: read(1_000, Some(ended(true, 900))),
        changed_at: Some(at(950)),
        ..of(future)
    };
    assert_eq!(state(&attempted, &RULES, 1_000), ProtectionState::Pending);
}

/// A success at 0 that is only claimed, since that second; lists are stale from this one on.
fn claimed(schedule: &Schedule, since: i64, stale: i64, second: i64) -> Facts<'_> {
    Facts {
        confirmation: Confirmation {
            needs_list_since: Some(at(since)),
            ..Confirmation::default()
        },
        listed_at: Some(at(stale - LIST_STALE)),
        ..facts(schedule, second)
    }
}

#[test]
fn a_success_that_only_a_list_can_confirm_is_unknown_while_lists_are_stale() {
    let schedule = hourly();
    let stale = LIST_STALE - 100;
    let claimed = |second| claimed(&schedule, 0, stale, second);
    begins(&claimed(stale), &RULES, ProtectionState::Unknown, stale);
    let turn = evaluate(&claimed(stale - 1), &RULES, at(stale - 1)).valid_until;
    assert_eq!(turn, Some(at(stale)));
    // Late is late, whether the success is real or not.
    let late = INTERVAL + ALLOWANCE + 1;
    begins(&claimed(late), &RULES, ProtectionState::Overdue, late);
    let attempted = Facts {
        health: read(stale, Some(ended(false, 10))),
        ..claimed(stale)
    };
    assert_eq!(state(&attempted, &RULES, stale), ProtectionState::Unknown);
    let confirmed = Facts {
        confirmation: Confirmation::default(),
        ..claimed(stale)
    };
    assert_eq!(state(&confirmed, &RULES, stale), ProtectionState::Protected);
    let without_lists = Rules {
        reads_lists: false,
        ..RULES
    };
    let facts = claimed(stale);
    assert_eq!(
        state(&facts, &without_lists, stale),
        ProtectionState::Protected
    );
    // No list shows requested backups where no policy applies.
    let bare = EffectiveConfiguration {
        policy: None,
        suspended: None,
    };
    let requested = Facts {
        configuration: read(stale, &bare),
        ..claimed(stale)
    };
    assert_eq!(
        state(&requested, &REQUESTS, stale),
        ProtectionState::Protected
    );
}

#[test]
fn a_restart_does_not_make_a_claim_credible_again() {
    let schedule = hourly();
    let until = LIST_STALE + 50;
    let started = |second| Facts {
        listed_at: None,
        watched_since: Some(at(second - 10)),
        ..claimed(&schedule, 50, 0, second)
    };
    assert_eq!(
        state(&started(until - 1), &RULES, until - 1),
        ProtectionState::Protected
    );
    assert_eq!(
        state(&started(until), &RULES, until),
        ProtectionState::Unknown
    );
    let turn = evaluate(&started(until - 1), &RULES, at(until - 1)).valid_until;
    assert_eq!(turn, Some(at(until)));
    // A policy that began later gets its first list later.
    let begun = Facts {
        expected_since: Some(at(until - 100)),
        health: read(until, Some(ended(true, 0))),
        ..started(until)
    };
    assert_eq!(state(&begun, &RULES, until), ProtectionState::Protected);
}

#[test]
fn a_listed_backup_that_keeps_the_schedule_needs_no_claim() {
    let schedule = hourly();
    let proved_until = INTERVAL + ALLOWANCE - 1_200;
    let facts = |second| {
        let claimed = claimed(&schedule, 0, 0, second);
        Facts {
            confirmation: Confirmation {
                newest_listed: Some(at(-1_200)),
                ..claimed.confirmation
            },
            ..claimed
        }
    };
    let state_at = |second| state(&facts(second), &RULES, second);
    assert_eq!(state_at(proved_until), ProtectionState::Protected);
    assert_eq!(state_at(proved_until + 1), ProtectionState::Unknown);
    let turn = evaluate(&facts(proved_until), &RULES, at(proved_until)).valid_until;
    let behind = at(proved_until) + TimeDelta::nanoseconds(1);
    assert_eq!(turn, Some(behind));
}

#[test]
fn a_requested_failure_stands_from_when_it_was_first_seen() {
    let schedule = hourly();
    for failed in [BackupState::Failure, BackupState::Timeout] {
        let record = record(failed);
        let requested = Facts {
            progress: read(1_000, Some(&record)),
            record_since: Some(at(500)),
            ..facts(&schedule, 1_000)
        };
        assert_eq!(state(&requested, &RULES, 1_000), ProtectionState::Failing);
        let later_success = Facts {
            last_success: Some(at(501)),
            ..requested
        };
        assert_eq!(
            state(&later_success, &RULES, 1_000),
            ProtectionState::Protected
        );
        let later_attempt = Facts {
            health: read(1_000, Some(ended(true, 501))),
            ..requested
        };
        assert_eq!(
            state(&later_attempt, &RULES, 1_000),
            ProtectionState::Protected
        );
    }
}

#[test]
fn a_failure_from_before_the_first_look_counts_only_without_a_success() {
    let schedule = hourly();
    let record = record(BackupState::Failure);
    let known = Facts {
        progress: read(1_000, Some(&record)),
        record_since: Some(at(500)),
        record_is_baseline: true,
        ..facts(&schedule, 1_000)
    };
    assert_eq!(state(&known, &RULES, 1_000), ProtectionState::Protected);
    let unknown = Facts {
        last_success: None,
        health: read(1_000, None),
        expected_since: Some(at(500)),
        ..known
    };
    assert_eq!(state(&unknown, &RULES, 1_000), ProtectionState::Failing);
}

#[test]
fn requests_are_judged_by_the_expected_interval() {
    let overdue = INTERVAL + ALLOWANCE + 1;
    let facts = Facts {
        configuration: read(overdue, &NO_POLICY),
        progress: read(overdue, None),
        last_success: Some(at(0)),
        expected_since: Some(at(-50)),
        ..Facts::default()
    };
    begins(&facts, &REQUESTS, ProtectionState::Overdue, overdue);
    assert_eq!(
        state(&facts, &REQUESTS, overdue - 1),
        ProtectionState::Protected
    );
    let never = Facts {
        configuration: read(overdue - 50, &NO_POLICY),
        progress: read(overdue - 50, None),
        last_success: None,
        ..facts
    };
    begins(
        &never,
        &REQUESTS,
        ProtectionState::NeverBackedUp,
        overdue - 50,
    );
    let unread = Facts {
        progress: None,
        health: read(overdue, None),
        ..facts
    };
    assert_eq!(state(&unread, &REQUESTS, overdue), ProtectionState::Unknown);
    let without_configuration = Rules {
        reads_configuration: false,
        ..REQUESTS
    };
    let unread = Facts {
        configuration: None,
        ..facts
    };
    assert_eq!(
        state(&unread, &without_configuration, overdue),
        ProtectionState::Overdue
    );
}

#[test]
fn a_clock_that_is_an_hour_ahead_neither_hides_nor_invents_a_breach() {
    let schedule = hourly();
    // The cluster's clock is an hour ahead: its success is in the future.
    let facts = Facts {
        health: read(0, Some(ended(true, 3_600))),
        last_success: Some(at(3_600)),
        clock_skew: ahead_by(3_600),
        ..facts(&schedule, 0)
    };
    let verdict = evaluate(&facts, &RULES, at(0));
    assert_eq!(verdict.state, ProtectionState::Protected);
    assert_eq!(verdict.due, Some(at(3_600 + INTERVAL)));
}

#[test]
fn a_schedule_at_the_end_of_the_calendar_does_no_harm() {
    let left = DateTime::<Utc>::MAX_UTC - at(0);
    for spare in [0, 1, ALLOWANCE] {
        let interval = (left - TimeDelta::seconds(spare)).to_std().unwrap();
        let schedule = Schedule::Frequency(interval);
        let facts = facts(&schedule, 100);
        assert_eq!(state(&facts, &RULES, 100), ProtectionState::Protected);
    }
}

#[test]
fn a_success_dated_in_the_future_makes_nothing_protected() {
    let schedule = hourly();
    for skew in [-3_600, 0, 3_600] {
        for ahead in [301, 82_800, 400 * 86_400, 250_000_000_000] {
            let wrong = |now: i64| Facts {
                health: read(now, Some(ended(true, skew + ahead))),
                last_success: Some(at(skew + ahead)),
                clock_skew: ahead_by(skew),
                ..facts(&schedule, now)
            };
            let state_at = |now| state(&wrong(now), &RULES, now);
            assert_eq!(
                state_at(0),
                ProtectionState::NeverBackedUp,
                "{skew} {ahead}"
            );
            // It expires where nothing is read any more as well.
            let until = evaluate(&wrong(0), &RULES, at(0)).valid_until.unwrap();
            assert!(until <= at(ahead - 300), "{until}");
            assert_eq!(state_at(ahead - 301), ProtectionState::NeverBackedUp);
            assert_eq!(state_at(ahead - 300), ProtectionState::Protected);
        }
    }
}

#[test]
fn verdicts_that_depend_on_time_are_unknown_while_the_clocks_are_apart() {
    let schedule = hourly();
    let overdue = INTERVAL + ALLOWANCE + 1;
    for skew in [-86_400, -7_200, -3_601, 3_601, 7_200, 86_400] {
        for (now, last_success) in [(60, Some(at(0))), (overdue, Some(at(0))), (overdue, None)] {
            let facts = Facts {
                health: read(now, Some(ended(true, skew))),
                last_success,
                clock_skew: ahead_by(skew),
                ..facts(&schedule, now)
            };
            let verdict = evaluate(&facts, &RULES, at(now));
            assert_eq!(verdict.state, ProtectionState::Unknown, "{skew} {now}");
            assert_eq!(verdict.due, None);
            let rows = evidence(&facts, &RULES, &verdict, at(now));
            let row = rows.iter().find(|row| row.fact == "clock skew").unwrap();
            let reason = row.value.as_deref().unwrap();
            assert!(reason.contains(&format!("{skew} s: too large")), "{reason}");
        }
        let suspended = EffectiveConfiguration {
            suspended: Some(ConfigurationScope::Service),
            ..PROTECTED.clone()
        };
        for (applied, expected) in [
            (&NO_POLICY, ProtectionState::Unprotected),
            (&suspended, ProtectionState::Suspended),
        ] {
            let facts = Facts {
                configuration: read(60, applied),
                clock_skew: ahead_by(skew),
                ..facts(&schedule, 60)
            };
            assert_eq!(state(&facts, &RULES, 60), expected);
        }
    }
}

#[test]
fn a_schedule_restarts_when_the_partition_is_restored_or_loses_data() {
    let schedule = hourly();
    for skew in [-1_200, 0, 1_200] {
        let overdue = 3_000 + INTERVAL + ALLOWANCE + 1 - skew;
        let facts = Facts {
            reset_at: Some(at(3_000)),
            clock_skew: ahead_by(skew),
            ..facts(&schedule, overdue)
        };
        begins(&facts, &RULES, ProtectionState::Overdue, overdue);
        let verdict = evaluate(&facts, &RULES, at(overdue - 1));
        assert_eq!(verdict.due, Some(at(3_000 + INTERVAL)));
        let future = Facts {
            reset_at: Some(at(overdue + skew + 301)),
            ..facts
        };
        let due = evaluate(&future, &RULES, at(overdue)).due;
        assert_eq!(due, Some(at(INTERVAL)), "in the future");
    }
    // What is requested from outside has no schedule that could restart.
    let overdue = INTERVAL + ALLOWANCE + 1;
    let requested = Facts {
        configuration: read(overdue, &NO_POLICY),
        reset_at: Some(at(3_000)),
        ..facts(&schedule, overdue)
    };
    assert_eq!(
        state(&requested, &REQUESTS, overdue),
        ProtectionState::Overdue
    );
}

#[test]
fn an_attempt_from_before_a_restart_is_not_the_last_attempt() {
    let schedule = hourly();
    let warned = Facts {
        health: read(1_000, Some(ended(false, 500))),
        ..facts(&schedule, 1_000)
    };
    let restarts: [&dyn Fn(i64) -> Facts<'static>; 2] = [
        &|second| Facts {
            changed_at: Some(at(second)),
            ..Facts::default()
        },
        &|second| Facts {
            reset_at: Some(at(second)),
            ..Facts::default()
        },
    ];
    for restart in restarts {
        let state_after = |second, last_success| {
            let Facts {
                changed_at,
                reset_at,
                ..
            } = restart(second);
            let facts = Facts {
                last_success,
                changed_at,
                reset_at,
                ..warned
            };
            state(&facts, &RULES, 1_000)
        };
        assert_eq!(state_after(499, Some(at(0))), ProtectionState::Failing);
        assert_eq!(state_after(500, Some(at(0))), ProtectionState::Protected);
        assert_eq!(state_after(500, None), ProtectionState::Pending);
    }
    let facts = Facts {
        changed_at: Some(at(600)),
        ..warned
    };
    let verdict = evaluate(&facts, &RULES, at(1_000));
    let rows = evidence(&facts, &RULES, &verdict, at(1_000));
    let value = |fact| {
        let row = rows.iter().find(|row| row.fact == fact).unwrap();
        row.value.clone().unwrap()
    };
    let attempt = value("last periodic attempt");
    assert!(attempt.ends_with(", before the schedule restarted"));
    assert_eq!(value("next attempt by"), "2023-11-14T23:23:20Z");
}

#[test]
fn a_restart_seen_shortly_before_a_run_expects_the_run_after_it() {
    let schedule = Schedule::Daily(vec![chrono::NaiveTime::MIN]);
    // 1_700_000_000 is 22:13:20: midnight is 6,400 s later.
    let (run, day) = (6_400, 86_400);
    let late = |changed_at| {
        let facts = Facts {
            changed_at: Some(at(changed_at)),
            ..facts(&schedule, changed_at)
        };
        evaluate(&facts, &RULES, at(changed_at)).due
    };
    assert_eq!(late(run - ALLOWANCE - 1), Some(at(run)));
    for before in [0, 30, ALLOWANCE] {
        assert_eq!(late(run - before), Some(at(run + day)), "{before}");
    }
    assert_eq!(late(run + 1), Some(at(run + day)));
}

#[test]
fn a_start_without_memory_does_not_call_an_old_partition_pending() {
    let schedule = hourly();
    let start = 1_000_000;
    let late = start + INTERVAL + ALLOWANCE + 1;
    let started = |reset_at: Option<i64>, now| Facts {
        health: read(now, None),
        last_success: None,
        expected_since: Some(at(start + 10)),
        watched_since: Some(at(start)),
        reset_at: reset_at.map(at),
        ..facts(&schedule, now)
    };
    let state_at = |reset_at, now| state(&started(reset_at, now), &RULES, now);
    let youngest = start + 60 - INTERVAL - ALLOWANCE;
    assert_eq!(
        state_at(Some(youngest), start + 60),
        ProtectionState::Pending
    );
    for old in [Some(youngest - 1), Some(0), None] {
        assert_eq!(
            state_at(old, start + 60),
            ProtectionState::Unknown,
            "{old:?}"
        );
        // A whole interval was watched.
        assert_eq!(state_at(old, late + 9), ProtectionState::Unknown);
        assert_eq!(state_at(old, late + 10), ProtectionState::NeverBackedUp);
    }
    let until = evaluate(&started(Some(youngest), start + 60), &RULES, at(start + 60));
    assert_eq!(
        until.valid_until,
        Some(at(start + 60) + TimeDelta::nanoseconds(1))
    );
    let only_lists = Facts {
        health: None,
        ..started(None, start + 60)
    };
    assert_eq!(
        state(&only_lists, &RULES, start + 60),
        ProtectionState::Unknown
    );
    for known in [
        Facts {
            expected_since: Some(at(start - STALE)),
            ..started(None, start + 60)
        },
        Facts {
            changed_at: Some(at(start + 10)),
            ..started(None, start + 60)
        },
    ] {
        assert_eq!(state(&known, &RULES, start + 60), ProtectionState::Pending);
    }
    // An attempt proves that the schedule ran.
    let tried = Facts {
        health: read(start + 60, Some(ended(false, start))),
        ..started(None, start + 60)
    };
    assert_eq!(state(&tried, &RULES, start + 60), ProtectionState::Failing);
}

#[test]
fn evidence_names_the_restart_that_no_answer_shows() {
    let schedule = hourly();
    let daily = Schedule::Daily(vec![chrono::NaiveTime::MIN]);
    let cause = |schedule: &Schedule, succeeded, now| {
        let facts = Facts {
            health: read(now, Some(ended(succeeded, 0))),
            ..facts(schedule, now)
        };
        let verdict = evaluate(&facts, &RULES, at(now));
        let rows = evidence(&facts, &RULES, &verdict, at(now));
        let row = rows.into_iter().find(|row| row.fact == "possible cause");
        row.unwrap().value
    };
    let late = INTERVAL + ALLOWANCE + 1;
    assert_eq!(cause(&schedule, true, late - 1), None);
    let text = cause(&schedule, true, late).unwrap();
    assert!(text.ends_with("the next backup ends by about 2023-11-15T00:13:20Z"));
    assert!(cause(&schedule, true, 2 * INTERVAL - 1).is_some());
    assert_eq!(cause(&schedule, true, 2 * INTERVAL), None);
    assert_eq!(cause(&schedule, false, late), None);
    assert_eq!(cause(&daily, true, 2 * 86_400), None);
}

#[test]
fn a_periodic_attempt_dated_in_the_future_hides_no_failed_request() {
    let schedule = hourly();
    let record = record(BackupState::Failure);
    let facts = Facts {
        progress: read(100, Some(&record)),
        record_since: Some(at(90)),
        health: read(100, Some(ended(true, 400 * 86_400))),
        ..facts(&schedule, 100)
    };
    assert_eq!(state(&facts, &RULES, 100), ProtectionState::Failing);
}

#[test]
fn evidence_says_that_a_success_of_the_future_is_ignored() {
    let schedule = hourly();
    let facts = Facts {
        last_success: Some(at(10_000)),
        ..facts(&schedule, 0)
    };
    let rows = evidence(&facts, &RULES, &evaluate(&facts, &RULES, at(0)), at(0));
    let row = rows.iter().find(|row| row.fact == "last success").unwrap();
    assert_eq!(
        row.value.as_deref(),
        Some("ignored, dated in the future: 2023-11-15T01:00:00Z")
    );
}

#[test]
fn evidence_names_every_fact_with_its_age() {
    let schedule = hourly();
    let record = record(BackupState::Timeout);
    let facts = Facts {
        progress: read(90, Some(&record)),
        record_since: Some(at(40)),
        ..facts(&schedule, 95)
    };
    let lines = evidence(&facts, &RULES, &evaluate(&facts, &RULES, at(100)), at(100))
        .into_iter()
        .map(|evidence| {
            let value = evidence.value.unwrap_or_else(|| "-".to_owned());
            let age = evidence
                .age_seconds
                .map_or_else(|| "-".to_owned(), |age| age.to_string());
            format!("{}: {value} ({}, {age})", evidence.fact, evidence.source)
        });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}

prop_compose! {
    fn any_second()(second in -8_000_i64..8_000) -> DateTime<Utc> {
        at(second)
    }
}

fn extreme() -> impl Strategy<Value = DateTime<Utc>> {
    let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    prop_oneof![
        any_second(),
        Just(first),
        Just(last),
        (first.timestamp()..=last.timestamp())
            .prop_map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap()),
    ]
}

proptest! {
    #[test]
    fn a_success_of_the_future_counts_as_none_and_no_date_panics(
        success in extreme(),
        attempt in extreme(),
        succeeded in any::<bool>(),
        since in extreme(),
        changed_at in prop::option::of(extreme()),
        daily in any::<bool>(),
        skew in -3_600_i64..=3_600,
        now in -8_000_i64..8_000,
    ) {
        let schedule = if daily { Schedule::Daily(vec![chrono::NaiveTime::MIN]) } else { hourly() };
        let record = record(BackupState::Failure);
        let with = Facts {
            progress: read(now, Some(&record)),
            record_since: Some(since),
            running_since: Some(since),
            health: read(now, Some(PeriodicAttempt { succeeded, ended: attempt })),
            last_success: Some(success),
            confirmation: Confirmation {
                needs_list_since: Some(since),
                ..Confirmation::default()
            },
            expected_since: Some(since),
            changed_at,
            watched_since: Some(since),
            clock_skew: ahead_by(skew),
            ..facts(&schedule, now)
        };
        let without = Facts { last_success: None, ..with };
        // A difference of less than 10 s is not corrected.
        let skew = if skew.abs() < 10 { 0 } else { skew };
        let is_future = success > at(now + skew + 300);
        for rules in [RULES, REQUESTS] {
            let verdict = evaluate(&with, &rules, at(now));
            evidence(&with, &rules, &verdict, at(now));
            if is_future {
                let same = evaluate(&without, &rules, at(now));
                prop_assert_eq!((verdict.state, verdict.due), (same.state, same.due));
                prop_assert_ne!(verdict.state, ProtectionState::Protected);
            }
        }
    }

    #[test]
    fn a_verdict_holds_as_long_as_it_says(
        applied in prop::option::of(any_second()),
        policy in any::<bool>(),
        suspended in any::<bool>(),
        scheduled in prop::option::of(any_second()),
        progress in prop::option::of((any_second(), prop::sample::select(BackupState::ALL.to_vec()))),
        since in any_second(),
        baseline in any::<bool>(),
        health in prop::option::of((any_second(), any::<bool>(), any_second())),
        listed_at in prop::option::of(any_second()),
        last_success in prop::option::of(any_second()),
        needs_list_since in prop::option::of(any_second()),
        newest_listed in prop::option::of(any_second()),
        deleted in prop::option::of(any_second()),
        changed_at in prop::option::of(any_second()),
        watched_since in prop::option::of(any_second()),
        reset_at in prop::option::of(any_second()),
        skew in -5_000_i64..5_000,
        expects in any::<bool>(),
        now in any_second(),
        later in 0_i64..10_000,
    ) {
        let schedule = hourly();
        let record = progress.map(|(_, state)| record(state));
        let setting = EffectiveConfiguration {
            policy: policy.then(|| ("Hourly".into(), ConfigurationScope::Partition)),
            suspended: suspended.then_some(ConfigurationScope::Partition),
        };
        let facts = Facts {
            first_attempt: None,
            configuration: applied.map(|at| Read { value: &setting, at }),
            schedule: scheduled.map(|at| Read { value: Some(&schedule), at }),
            progress: progress.map(|(at, _)| Read { value: record.as_ref(), at }),
            record_since: record.as_ref().map(|_| since),
            running_since: record.as_ref().map(|_| since),
            record_is_baseline: baseline,
            health: health.map(|(at, succeeded, ended)| Read {
                value: Some(PeriodicAttempt { succeeded, ended }),
                at,
            }),
            listed_at,
            last_success,
            confirmation: Confirmation {
                newest_listed,
                needs_list_since,
                deleted,
                ..Confirmation::default()
            },
            expected_since: Some(since),
            changed_at,
            watched_since,
            reset_at,
            clock_skew: ahead_by(skew),
        };
        let rules = if expects { REQUESTS } else { RULES };
        let verdict = evaluate(&facts, &rules, now);
        let moment = now + TimeDelta::seconds(later);
        if verdict.valid_until.is_none_or(|until| moment < until) {
            let again = evaluate(&facts, &rules, moment);
            prop_assert_eq!((again.state, again.due), (verdict.state, verdict.due));
        }
    }
}

#[test]
fn later_attempts_without_a_success_do_not_postpone_the_first_backup() {
    let (hourly, first) = (hourly(), 1_000);
    for last in [first, first + INTERVAL, first + 2 * INTERVAL] {
        let facts = Facts {
            last_success: None,
            first_attempt: Some(at(first)),
            expected_since: Some(at(first - 500)),
            health: read(
                last + 10,
                Some(PeriodicAttempt {
                    succeeded: true,
                    ended: at(last),
                }),
            ),
            ..facts(&hourly, last + 10)
        };
        let verdict = evaluate(&facts, &RULES, at(last + 10));
        assert_eq!(verdict.due, Some(at(first)), "{last}");
        let overdue = last + 10 > first + ALLOWANCE;
        let expected = if overdue {
            ProtectionState::NeverBackedUp
        } else {
            ProtectionState::Pending
        };
        assert_eq!(verdict.state, expected, "{last}");
        let restarted = Facts {
            changed_at: Some(at(first + 600)),
            ..facts
        };
        let due = evaluate(&restarted, &RULES, at(last + 10)).due;
        let is_later = due > Some(at(first));
        assert_eq!(is_later, last > first, "an attempt of the former schedule");
    }
}
