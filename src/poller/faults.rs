//! Faults of one cluster over its rounds: when one begins, gets a new reason, and ends.
//!
//! Pure: the clock comes in as an argument. A fault that lasts is reported when it begins and once
//! for each further reason, not in every round.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::Reason;
use crate::model::Collector;

/// What fails or succeeds in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// All calls to the cluster.
    Cluster,
    /// The requests of one collector.
    Collector(Collector),
    /// The items in the answers to one collector.
    Items(Collector),
}

/// A change that is worth a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The fault began, or has a reason that it did not have before.
    Failing,
    /// Two rounds in a row were without the fault: a fault in every other round is one fault.
    Ended {
        /// From the first failed round to the first one without a failure.
        lasted: Duration,
        /// The failed rounds.
        rounds: u32,
    },
}

/// The faults that have not ended.
#[derive(Debug, Default)]
pub(super) struct Faults(BTreeMap<Subject, Fault>);

#[derive(Debug)]
struct Fault {
    since: Instant,
    rounds: u32,
    reasons: BTreeSet<Reason>,
    /// End of the last round, if it was without a failure.
    succeeded_at: Option<Instant>,
}

impl Faults {
    /// Notes a round of `subject` that ended at `now` and failed for these `reasons`; without any,
    /// it succeeded.
    pub(super) fn observe(
        &mut self,
        subject: Subject,
        reasons: BTreeSet<Reason>,
        now: Instant,
    ) -> Option<Change> {
        if reasons.is_empty() {
            return self.succeed(subject, now);
        }
        match self.0.entry(subject) {
            Entry::Vacant(vacant) => {
                vacant.insert(Fault {
                    since: now,
                    rounds: 1,
                    reasons,
                    succeeded_at: None,
                });
                Some(Change::Failing)
            }
            Entry::Occupied(occupied) => {
                let fault = occupied.into_mut();
                let known = fault.reasons.len();
                fault.rounds = fault.rounds.saturating_add(1);
                fault.succeeded_at = None;
                fault.reasons.extend(reasons);
                (fault.reasons.len() > known).then_some(Change::Failing)
            }
        }
    }

    /// Whether a fault of `subject` has not ended.
    pub(super) fn contains(&self, subject: Subject) -> bool {
        self.0.contains_key(&subject)
    }

    fn succeed(&mut self, subject: Subject, now: Instant) -> Option<Change> {
        let fault = self.0.get_mut(&subject)?;
        let Some(succeeded_at) = fault.succeeded_at else {
            fault.succeeded_at = Some(now);
            return None;
        };
        let (lasted, rounds) = (succeeded_at.duration_since(fault.since), fault.rounds);
        self.0.remove(&subject);
        Some(Change::Ended { lasted, rounds })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROGRESS: Subject = Subject::Collector(Collector::Progress);
    const ROUND: Duration = Duration::from_secs(60);

    /// What is reported in each of these rounds, which are a minute apart.
    fn reported(rounds: &[&[Reason]]) -> Vec<Option<Change>> {
        let (mut faults, start) = (Faults::default(), Instant::now());
        let rounds = (0..).zip(rounds).map(|(number, reasons)| {
            let reasons = reasons.iter().copied().collect();
            faults.observe(PROGRESS, reasons, start + ROUND * number)
        });
        rounds.collect()
    }

    const fn ended(minutes: u64, rounds: u32) -> Change {
        let lasted = Duration::from_secs(60 * minutes);
        Change::Ended { lasted, rounds }
    }

    #[test]
    fn a_lasting_fault_is_reported_when_it_begins_and_when_it_ends() {
        use Reason::{Connect, Timeout};
        const FAILING: Option<Change> = Some(Change::Failing);
        type Case<'a> = (&'a [&'a [Reason]], &'a [Option<Change>]);
        let cases: [Case<'_>; 5] = [
            (&[&[], &[], &[]], &[None, None, None]),
            (
                &[&[Timeout], &[Timeout], &[Timeout], &[], &[], &[]],
                &[FAILING, None, None, None, Some(ended(3, 3)), None],
            ),
            (
                &[&[Timeout], &[Connect, Timeout], &[Timeout], &[Connect]],
                &[FAILING, FAILING, None, None],
            ),
            (
                &[&[Timeout], &[], &[Timeout], &[], &[Timeout], &[], &[]],
                &[FAILING, None, None, None, None, None, Some(ended(5, 3))],
            ),
            (
                &[&[Timeout], &[], &[], &[Timeout]],
                &[FAILING, None, Some(ended(1, 1)), FAILING],
            ),
        ];
        for (rounds, expected) in cases {
            assert_eq!(reported(rounds), expected, "{rounds:?}");
        }
    }

    #[test]
    fn subjects_do_not_affect_each_other() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        let failing = || BTreeSet::from([Reason::Connect]);
        for subject in [
            Subject::Cluster,
            PROGRESS,
            Subject::Collector(Collector::Health),
        ] {
            let change = faults.observe(subject, failing(), now);
            assert_eq!(change, Some(Change::Failing));
            assert_eq!(faults.observe(subject, failing(), now), None);
        }
    }

    proptest! {
        /// The oracle counts over the whole series of rounds and keeps no state.
        #[test]
        fn every_fault_is_reported_once_and_its_end_once(rounds in prop::collection::vec(any::<bool>(), 0..60)) {
            let series: Vec<&[Reason]> = rounds
                .iter()
                .map(|fails| if *fails { &[Reason::Api][..] } else { &[] })
                .collect();
            let text: String = rounds.iter().map(|fails| if *fails { 'x' } else { '.' }).collect();
            // Two successes in a row separate faults.
            let faults = text.split("..").filter(|part| part.contains('x')).count();
            let changes = reported(&series);
            let began = changes.iter().filter(|change| **change == Some(Change::Failing)).count();
            let ended = changes.iter().filter_map(|change| match change {
                Some(Change::Ended { rounds, .. }) => Some(*rounds),
                _ => None,
            });
            let ended: Vec<u32> = ended.collect();
            prop_assert_eq!(began, faults);
            let lasts = text.contains('x') && !text.ends_with("..");
            prop_assert_eq!(ended.len(), faults - usize::from(lasts), "{}", text);
        }
    }
}
