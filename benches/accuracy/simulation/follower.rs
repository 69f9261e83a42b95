//! One partition from look to look: its breach, its alarms, and how long a verdict stays wrong.
//!
//! Responsible for recognizing when a breach or an alarm begins and ends, and for adding it to the
//! figures.

use servicefabric_backup_exporter::protection::ProtectionState;

use super::calendar::MINUTE;
use super::tally::{Ended, Look, Tally};
use super::truth::{IN_TIME, Instant, LISTS_EVERY};

/// What is followed of one partition from look to look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Follower {
    breach: Option<Lasting>,
    alarms: [Alarm; 4],
    /// Looks in a row at which another state was reported than should be.
    wrong: u64,
}

/// A breach that lasts.
#[derive(Clone, Copy, Debug)]
struct Lasting {
    began: i64,
    looked: i64,
    /// How long it could not be seen at all.
    unseen: i64,
    /// How long only a list that had not been read could show it.
    unlisted: i64,
    ended: Ended,
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
    /// Takes a look in; returns the kind of an error that it shows.
    pub(crate) fn look(&mut self, look: &Look, tally: &mut Tally) -> Option<&'static str> {
        let Look { truth, verdict, .. } = *look;
        *tally.minutes.entry((truth.expected, verdict)).or_default() += 1;
        let lies = protected_in_breach(look, tally);
        let late = matches!(
            verdict,
            ProtectionState::Overdue | ProtectionState::NeverBackedUp
        );
        let reported = late || verdict == ProtectionState::Stuck;
        let seen = truth.expected != ProtectionState::Unknown && !look.lists_fail;
        let reported = [reported, look.naive[0], look.naive[1]];
        self.breach(look.now, truth, seen, reported, tally);
        let wrong = self.follow_alarms(look, late, tally);
        let is_wrong = u64::from(verdict != truth.expected);
        self.wrong = (self.wrong + 1) * is_wrong;
        let stays_wrong = self.wrong == 4;
        let blind_word = truth.is_blind && verdict != ProtectionState::Unknown;
        tally.without_sight += u64::from(blind_word);
        let unreported = self.breach.filter(|it| seen && it.is_unreported());
        let errors = [
            (wrong.is_some(), wrong.unwrap_or_default()),
            (lies.is_some(), lies.unwrap_or_default()),
            (unreported.is_some(), "breach not reported"),
            (blind_word, "reported without sight"),
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
        self.breach(now, truth, false, [false; 3], tally);
        // Alarms that ring afterwards have begun anew, and must be true by then.
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

    fn breach(
        &mut self,
        now: i64,
        truth: Instant,
        seen: bool,
        reported: [bool; 3],
        tally: &mut Tally,
    ) {
        let known = self.breach.take();
        let Some(breach) = truth.breach else {
            if let Some(known) = known {
                known.end(tally);
            }
            return;
        };
        let mut lasting = known.unwrap_or_else(|| Lasting::new(breach.began));
        let passed = now - lasting.looked;
        if !seen || breach.needs_history {
            lasting.unseen += passed;
        } else if breach.needs_list_since.is_some() {
            lasting.unlisted += passed;
        }
        lasting.looked = now;
        lasting.ended.needed_list |= breach.needs_list_since.is_some();
        lasting.ended.after_unseen_restart |= breach.after_unseen_restart;
        let delay = lasting.seen();
        for (first, reported) in lasting.ended.reported.iter_mut().zip(reported) {
            if reported && first.is_none() {
                *first = Some(delay);
            }
        }
        if reported[0] && lasting.ended.reported_after.is_none() {
            lasting.ended.reported_after = Some(delay + lasting.unlisted);
        }
        self.breach = Some(lasting);
    }

    /// Follows the alarms of all observers; returns the alarm of the exporter that turned out false,
    /// or that may.
    fn follow_alarms(
        &mut self,
        look: &Look,
        late: bool,
        tally: &mut Tally,
    ) -> Option<&'static str> {
        let failing = look.verdict == ProtectionState::Failing;
        let rings = [late, failing, look.naive[0], look.naive[1]];
        let means = meanings(look.truth);
        let mut wrong = None;
        for (index, alarm) in self.alarms.iter_mut().enumerate() {
            let observer = index.saturating_sub(1);
            let began = rings[index] && !alarm.rings;
            tally.alarms[observer] += u64::from(began);
            let was_doubted = alarm.doubted.is_some();
            if alarm.look(rings[index], means[index], look.excuse) {
                tally.false_alarms[observer] += 1;
                let name = ["Overdue, NeverBackedUp", "Failing"].get(index).copied();
                if let Some(name) = name {
                    *tally.reasons.entry((name, alarm.excuse)).or_default() += 1;
                    wrong = Some(name);
                }
            } else if index < 2 && alarm.doubted.is_some() && !was_doubted {
                wrong = wrong.or(Some("alarm that may be false"));
            }
        }
        wrong
    }
}

/// Counts `Protected` of a breach that is older than two polls; returns the kind of error it is.
fn protected_in_breach(look: &Look, tally: &mut Tally) -> Option<&'static str> {
    let breach = look.truth.breach?;
    let age = look.now - breach.began;
    if look.verdict != ProtectionState::Protected || age <= IN_TIME {
        return None;
    }
    let count = &mut tally.protected_in_breach;
    if breach.needs_history {
        count.without_history += 1;
        return None;
    }
    let Some(since) = breach.needs_list_since else {
        count.against_answers += 1;
        return Some("Protected in a breach against answers");
    };
    if look.now - since <= LISTS_EVERY + IN_TIME {
        count.before_the_list += 1;
        return None;
    }
    if look.lists_fail {
        count.without_lists += 1;
        return Some("Protected in a breach without lists");
    }
    count.against_answers += 1;
    Some("Protected in a breach for longer than one list interval")
}

/// What each kind of alarm could mean, and whether it is so.
fn meanings(truth: Instant) -> [bool; 4] {
    let breached = truth.breach.is_some();
    let bad = breached
        || matches!(
            truth.real,
            ProtectionState::Failing | ProtectionState::Stuck
        );
    [breached, bad, bad, breached]
}

impl Lasting {
    fn new(began: i64) -> Self {
        Self {
            began,
            looked: began,
            unseen: 0,
            unlisted: 0,
            ended: Ended {
                reported: [None; 3],
                reported_after: None,
                needed_list: false,
                after_unseen_restart: false,
            },
        }
    }

    /// Whether the exporter has not reported it for just too long.
    fn is_unreported(&self) -> bool {
        let seen = self.seen();
        self.ended.reported_after.is_none() && seen > IN_TIME && seen <= IN_TIME + MINUTE
    }

    /// How long it could be seen, up to the last look.
    fn seen(&self) -> i64 {
        self.looked - self.began - self.unseen - self.unlisted
    }

    fn end(self, tally: &mut Tally) {
        if self.seen() > IN_TIME {
            tally.breaches.push(self.ended);
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
