//! The figures: what was reported against what was true, by partition-minute, breach and alarm.
//!
//! Responsible for counting. A breach is reported when an alarm about it is first seen; an alarm is
//! false when nothing it could mean was true from two polls before it began to two polls after.

use std::collections::BTreeMap;

use servicefabric_backup_exporter::protection::ProtectionState;

use super::truth::{IN_TIME, Instant, LISTS_EVERY};

/// Who is measured.
pub(crate) const OBSERVERS: [&str; 3] = [
    "this exporter",
    "(a) last requested backup",
    "(b) newest listed backup",
];

/// What is reported about a partition by one scrape, and what is true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) now: i64,
    pub(crate) truth: Instant,
    pub(crate) verdict: ProtectionState,
    /// Whether the two baselines alert.
    pub(crate) naive: [bool; 2],
    /// Whether only a list could show the breach, and none can be read, or the last one that was asked
    /// for was not complete.
    pub(crate) lists_fail: bool,
    /// Why a false alarm may begin now.
    pub(crate) excuse: &'static str,
}

/// Partition-minutes of `Protected` in a breach that is older than two polls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProtectedInBreach {
    /// Only a list could refute the success that was reported, and none was due yet.
    pub(crate) before_the_list: u64,
    /// Only a list could refute it, and lists fail, also that of the partition alone.
    pub(crate) without_lists: u64,
    /// The newest backup depends on one that is gone, which only a list of all backups shows.
    pub(crate) without_history: u64,
    /// All others: an answer that had been read showed the breach.
    pub(crate) against_answers: u64,
}

/// A breach that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// How long after its beginning each observer reported it, without the time in which it could
    /// not be seen; `None` where it never did.
    pub(crate) reported: [Option<i64>; 3],
    /// The same for this exporter, with the time in which only a list could show it.
    pub(crate) reported_after: Option<i64>,
    /// Whether only a list could show it at first.
    pub(crate) needed_list: bool,
    /// Whether it was a gap that a restart made longer which shows nowhere.
    pub(crate) after_unseen_restart: bool,
}

/// All figures of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Partition-minutes by what should be reported and what was.
    pub(crate) minutes: BTreeMap<(ProtectionState, ProtectionState), u64>,
    /// Partition-minutes in which the exporter did not run.
    pub(crate) down: u64,
    pub(crate) protected_in_breach: ProtectedInBreach,
    /// Partition-minutes of a verdict other than `Unknown` after more than one poll without sight.
    pub(crate) without_sight: u64,
    /// Breaches that could be seen for longer than two polls.
    pub(crate) breaches: Vec<Ended>,
    /// Breaches that ended, or could be seen, for less.
    pub(crate) short_breaches: u64,
    pub(crate) alarms: [u64; 3],
    /// False alarms of each observer; those of the exporter by verdict and excuse.
    pub(crate) false_alarms: [u64; 3],
    pub(crate) reasons: BTreeMap<(&'static str, &'static str), u64>,
    /// What went wrong, with its evidence.
    pub(crate) notes: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        for (key, count) in other.minutes {
            *self.minutes.entry(key).or_default() += count;
        }
        for (key, count) in other.reasons {
            *self.reasons.entry(key).or_default() += count;
        }
        self.down += other.down;
        self.without_sight += other.without_sight;
        let (sum, its) = (&mut self.protected_in_breach, other.protected_in_breach);
        sum.before_the_list += its.before_the_list;
        sum.without_lists += its.without_lists;
        sum.without_history += its.without_history;
        sum.against_answers += its.against_answers;
        self.breaches.extend(other.breaches);
        self.short_breaches += other.short_breaches;
        for (mine, its) in self.alarms.iter_mut().zip(other.alarms) {
            *mine += its;
        }
        for (mine, its) in self.false_alarms.iter_mut().zip(other.false_alarms) {
            *mine += its;
        }
        self.notes.extend(other.notes);
    }

    /// Partition-minutes that were compared.
    pub(crate) fn looks(&self) -> u64 {
        self.minutes.values().sum()
    }

    /// Partition-minutes in which `counts` holds of what should be reported and what was.
    pub(crate) fn sum(&self, counts: impl Fn(ProtectionState, ProtectionState) -> bool) -> u64 {
        let minutes = self.minutes.iter();
        let counted = minutes.filter(|((truth, said), _)| counts(*truth, *said));
        counted.map(|(_, count)| count).sum()
    }

    /// Breaches that the answers of each poll show.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Ended> {
        self.breaches.iter().filter(|breach| !breach.needed_list)
    }

    /// Breaches that only a list shows.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Ended> {
        self.breaches.iter().filter(|breach| breach.needed_list)
    }

    /// Breaches that an observer never reported, though it could see them for longer than two polls.
    pub(crate) fn missed(&self, observer: usize) -> usize {
        let reported = self.breaches.iter().map(|it| it.reported.get(observer));
        reported.filter(|it| matches!(it, Some(None))).count()
    }

    /// How long an observer took to report the shown breaches that it reported, sorted.
    pub(crate) fn delays(&self, observer: usize) -> Vec<i64> {
        let delays = self.shown().map(|it| it.reported.get(observer).copied());
        let mut delays: Vec<i64> = delays.flatten().flatten().collect();
        delays.sort_unstable();
        delays
    }

    /// The share of the shown breaches that an observer reported within two polls.
    pub(crate) fn in_time(&self, observer: usize) -> f64 {
        let delays = self.delays(observer);
        let in_time = delays.iter().filter(|delay| **delay <= IN_TIME).count();
        share(in_time as u64, self.shown().count() as u64)
    }

    /// The share of the breaches that only a list shows which were reported within one interval of
    /// lists and two polls.
    pub(crate) fn in_time_by_list(&self) -> f64 {
        let limit = LISTS_EVERY + IN_TIME;
        let delays = self.listed().filter_map(|it| it.reported_after);
        let in_time = delays.filter(|delay| *delay <= limit).count();
        share(in_time as u64, self.listed().count() as u64)
    }

    /// False alarms in 1,000 partition-days.
    pub(crate) fn false_rate(&self, observer: usize) -> f64 {
        let false_alarms = self.false_alarms.get(observer).copied().unwrap_or_default();
        let days = self.looks() + self.down;
        share(false_alarms * 24 * 60, days) * 1_000.0
    }
}

/// A part of a whole; of nothing, nothing.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}
