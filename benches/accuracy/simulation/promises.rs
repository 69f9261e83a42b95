//! What is promised of the verdict, and whether a run keeps it.
//!
//! Responsible for the limits; the bench and the test suite hold every run against the same ones.

use super::tally::Tally;

/// Limits of the figures that are no zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At least this part of all breaches is told within two polls.
    pub(crate) in_time: f64,
    /// Fewer false alarms than this in 1,000 partition-days.
    pub(crate) false_alarms: f64,
}

/// The promises that a run breaks, in words.
pub(crate) fn broken(tally: &Tally, limits: Limits) -> Vec<String> {
    let mut broken = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    let missed = tally.missed(0);
    expect(missed == 0, format!("{missed} breaches were missed"));
    let in_time = tally.in_time(0);
    expect(
        in_time >= limits.in_time,
        format!("only {in_time:.4} of all breaches were reported in time"),
    );
    let lies = tally.protected_in_breach.against_answers;
    expect(
        lies == 0,
        format!("{lies} partition-minutes of Protected in a breach that answers had shown"),
    );
    let by_list = tally.in_time_by_list();
    expect(
        by_list >= limits.in_time || tally.listed().count() == 0,
        format!("only {by_list:.4} of the breaches that only a list shows were reported in time"),
    );
    let rate = tally.false_rate(0);
    expect(
        rate < limits.false_alarms,
        format!("{rate:.3} false alarms in 1,000 partition-days"),
    );
    let false_alarms = tally.false_alarms.first().copied().unwrap_or_default();
    let other = tally.reasons.iter().filter(|((_, why), _)| *why == "other");
    let other: u64 = other.map(|(_, count)| count).sum();
    expect(
        other <= 1 + false_alarms / 10,
        format!("{other} of {false_alarms} false alarms are not explained"),
    );
    let blind = tally.without_sight;
    expect(
        blind == 0,
        format!("{blind} partition-minutes of a verdict other than Unknown without sight"),
    );
    broken
}
