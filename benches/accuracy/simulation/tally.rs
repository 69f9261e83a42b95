//! The figures: what was said against what was true, by partition-minute, breach and alarm.
//!
//! Responsible for counting, and for nothing that is counted. A breach is reported when an alarm
//! about it is first seen; an alarm is false when nothing it could mean was true within two polls
//! of its beginning.

use std::collections::BTreeMap;

use servicefabric_backup_exporter::protection::Protection;

use super::calendar::MINUTE;
use super::truth::{IN_TIME, Instant};

/// Who is measured.
pub(crate) const OBSERVERS: [&str; 3] = [
    "this exporter",
    "(a) last requested backup",
    "(b) newest listed backup",
];

/// What is said about a partition at one look, and what is true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) now: i64,
    pub(crate) truth: Instant,
    pub(crate) verdict: Protection,
    /// Whether the two baselines ring.
    pub(crate) naive: [bool; 2],
    /// Why a false alarm may begin now.
    pub(crate) excuse: &'static str,
}

/// All figures of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Partition-minutes by what should be said and what was.
    pub(crate) minutes: BTreeMap<(Protection, Protection), u64>,
    /// Partition-minutes in which the exporter did not run.
    pub(crate) down: u64,
    /// Partition-minutes with `Protected` said of a breach that is older than one poll.
    pub(crate) protected_in_breach: u64,
    /// Lengths of the breaches that could be seen for longer than two polls, and when each
    /// observer told of them, in milliseconds that it could see.
    pub(crate) breaches: Vec<[Option<i64>; 3]>,
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
        self.protected_in_breach += other.protected_in_breach;
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

    /// Partition-minutes that were looked at.
    pub(crate) fn looks(&self) -> u64 {
        self.minutes.values().sum()
    }

    /// Partition-minutes in which `counts` holds of what should be said and what was.
    pub(crate) fn sum(&self, counts: impl Fn(Protection, Protection) -> bool) -> u64 {
        let minutes = self.minutes.iter();
        let counted = minutes.filter(|((truth, said), _)| counts(*truth, *said));
        counted.map(|(_, count)| count).sum()
    }

    /// Breaches that an observer never told of, though it could see them for longer than two polls.
    pub(crate) fn missed(&self, observer: usize) -> usize {
        let delays = self.breaches.iter().map(|it| it.get(observer));
        delays.filter(|it| matches!(it, Some(None))).count()
    }

    /// How long after due and allowance an observer told of the breaches it told of, sorted.
    pub(crate) fn delays(&self, observer: usize) -> Vec<i64> {
        let breaches = self.breaches.iter();
        let mut delays: Vec<i64> = breaches
            .filter_map(|it| it.get(observer).copied().flatten())
            .collect();
        delays.sort_unstable();
        delays
    }

    /// The share of all breaches that an observer told of in time.
    pub(crate) fn in_time(&self, observer: usize) -> f64 {
        let delays = self.delays(observer);
        let in_time = delays.iter().filter(|delay| **delay <= IN_TIME).count();
        share(in_time as u64, self.breaches.len() as u64)
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

/// What is followed of one partition from look to look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Follower {
    breach: Option<Breach>,
    alarms: [Alarm; 4],
    /// Looks in a row at which another state was said than should be.
    wrong: u64,
}

/// A breach that lasts.
#[derive(Clone, Copy, Debug)]
struct Breach {
    began: i64,
    looked: i64,
    unseen: i64,
    told: [Option<i64>; 3],
}

/// An alarm of one kind, ringing or not.
#[derive(Clone, Copy, Debug, Default)]
struct Alarm {
    rings: bool,
    /// Whether what it could mean was true at the last looks, newest in the lowest bit.
    meant: u8,
    /// Looks after which a new alarm is false, if nothing comes true.
    doubted: Option<u8>,
    excuse: &'static str,
}

impl Follower {
    /// Takes a look in.
    pub(crate) fn look(&mut self, look: &Look, tally: &mut Tally) -> Option<&'static str> {
        let Look { truth, verdict, .. } = *look;
        *tally.minutes.entry((truth.expected, verdict)).or_default() += 1;
        let is_old = truth.breach.is_some_and(|from| look.now - from > MINUTE);
        let lies = verdict == Protection::Protected && is_old;
        tally.protected_in_breach += u64::from(lies);
        let late = matches!(verdict, Protection::Overdue | Protection::NeverBackedUp);
        let told = late || verdict == Protection::Stuck;
        let seen = truth.expected != Protection::Unknown;
        self.follow_breach(look, seen, [told, look.naive[0], look.naive[1]], tally);
        let wrong = self.follow_alarms(look, late, tally);
        let is_wrong = u64::from(verdict != truth.expected);
        self.wrong = (self.wrong + 1) * is_wrong;
        let stays_wrong = self.wrong == 4;
        let blind_word = !seen && verdict != Protection::Unknown;
        let untold = self.breach.filter(|breach| seen && breach.is_untold());
        let errors = [
            (wrong.is_some(), wrong.unwrap_or_default()),
            (lies, "Protected in breach"),
            (untold.is_some(), "breach not told"),
            (blind_word, "said while blind"),
            (stays_wrong, "stays wrong"),
        ];
        errors
            .into_iter()
            .find(|(is, _)| *is)
            .map(|(_, error)| error)
    }

    /// The exporter does not run, or does not know the partition.
    pub(crate) fn look_away(&mut self, now: i64, truth: Instant, tally: &mut Tally) {
        tally.down += 1;
        self.breach(now, truth.breach, false, [false; 3], tally);
        // What rings afterwards has begun anew, and must be true by then.
        for (alarm, means) in self.alarms.iter_mut().zip(meanings(truth)) {
            alarm.fall_silent(means);
        }
    }

    /// There is no such partition any more, or no time left.
    pub(crate) fn end(self, tally: &mut Tally) {
        if let Some(breach) = self.breach {
            breach.end(tally);
        }
    }

    fn follow_breach(&mut self, look: &Look, seen: bool, told: [bool; 3], tally: &mut Tally) {
        self.breach(look.now, look.truth.breach, seen, told, tally);
    }

    fn breach(
        &mut self,
        now: i64,
        began: Option<i64>,
        seen: bool,
        told: [bool; 3],
        tally: &mut Tally,
    ) {
        let known = self.breach.take();
        let Some(began) = began else {
            if let Some(breach) = known {
                breach.end(tally);
            }
            return;
        };
        let mut breach = known.unwrap_or(Breach {
            began,
            looked: began,
            unseen: 0,
            told: [None; 3],
        });
        if !seen {
            breach.unseen += now - breach.looked;
        }
        breach.looked = now;
        let delay = breach.seen();
        for (first, told) in breach.told.iter_mut().zip(told) {
            if told && first.is_none() {
                *first = Some(delay);
            }
        }
        self.breach = Some(breach);
    }

    /// Follows the alarms of all observers; tells which alarm of the exporter turned out false.
    fn follow_alarms(
        &mut self,
        look: &Look,
        late: bool,
        tally: &mut Tally,
    ) -> Option<&'static str> {
        let failing = look.verdict == Protection::Failing;
        let rings = [late, failing, look.naive[0], look.naive[1]];
        let means = meanings(look.truth);
        let mut wrong = None;
        for (index, alarm) in self.alarms.iter_mut().enumerate() {
            let observer = index.saturating_sub(1);
            let began = rings[index] && !alarm.rings;
            tally.alarms[observer] += u64::from(began);
            if alarm.look(rings[index], means[index], look.excuse) {
                tally.false_alarms[observer] += 1;
                let name = ["Overdue, NeverBackedUp", "Failing"].get(index).copied();
                if let Some(name) = name {
                    *tally.reasons.entry((name, alarm.excuse)).or_default() += 1;
                    wrong = Some(name);
                }
            }
        }
        wrong
    }
}

/// What each kind of alarm could mean, and whether it is so.
fn meanings(truth: Instant) -> [bool; 4] {
    let breached = truth.breach.is_some();
    let bad = breached || matches!(truth.real, Protection::Failing | Protection::Stuck);
    [breached, bad, bad, breached]
}

impl Breach {
    /// Whether the exporter has said nothing of it for just too long.
    fn is_untold(&self) -> bool {
        let seen = self.seen();
        self.told.first() == Some(&None) && seen > IN_TIME && seen <= IN_TIME + MINUTE
    }

    /// How long somebody could have seen it, up to the last look.
    fn seen(&self) -> i64 {
        self.looked - self.began - self.unseen
    }

    fn end(self, tally: &mut Tally) {
        if self.seen() > IN_TIME {
            tally.breaches.push(self.told);
        } else {
            tally.short_breaches += 1;
        }
    }
}

impl Alarm {
    fn fall_silent(&mut self, means: bool) {
        self.meant = self.meant << 1 & 0b111 | u8::from(means);
        self.rings = false;
    }

    /// Whether the alarm that began lately is false for sure now.
    fn look(&mut self, rings: bool, means: bool, excuse: &'static str) -> bool {
        self.meant = self.meant << 1 & 0b111 | u8::from(means);
        let began = rings && !self.rings;
        self.rings = rings;
        if began && self.doubted.is_none() && self.meant == 0 {
            self.doubted = Some(2);
            self.excuse = excuse;
            return false;
        }
        match self.doubted {
            Some(_) if means => self.doubted = None,
            Some(0) => {
                self.doubted = None;
                return true;
            }
            Some(left) => self.doubted = Some(left - 1),
            None => {}
        }
        false
    }
}
