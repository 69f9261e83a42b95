//! Four days of two small clusters against the ground truth of `docs/accuracy.md`: the promises of
//! that document hold. Takes about half a minute in the debug profile on two cores.

#[path = "../benches/accuracy/simulation/mod.rs"]
mod simulation;

use servicefabric_backup_exporter::protection::ProtectionState;
use simulation::promises::{Limits, broken};
use simulation::rates::RATES;
use simulation::tally::{OBSERVERS, share};
use simulation::{Plan, run};

/// In so short a run one false alarm, or one breach told late, is much.
const LIMITS: Limits = Limits {
    in_time: 0.96,
    false_alarms: 2.5,
};

/// The least precision and recall of each verdict, a little less than measured. `Overdue` is missed
/// for actor services whose storage cannot be listed.
const LEAST: [(ProtectionState, f64, f64); 9] = [
    (ProtectionState::Unknown, 0.65, 0.98),
    (ProtectionState::Stuck, 0.97, 0.97),
    (ProtectionState::Unprotected, 0.999, 0.998),
    (ProtectionState::Suspended, 0.997, 0.997),
    (ProtectionState::NeverBackedUp, 0.998, 0.998),
    (ProtectionState::Overdue, 0.995, 0.90),
    (ProtectionState::Failing, 0.99, 0.99),
    (ProtectionState::Pending, 0.995, 0.98),
    (ProtectionState::Protected, 0.99, 0.99),
];

#[test]
fn the_verdict_keeps_its_promises_through_four_days_of_trouble() {
    let tally = run(&Plan {
        seed: 6,
        first: 11,
        clusters: 2,
        partitions: 24,
        days: 4,
        threads: 2,
        unrest: 4.0,
        explains: true,
    });
    let notes = tally.notes.join("\n\n");
    assert_eq!(broken(&tally, LIMITS), Vec::<String>::new(), "{notes}");
    let breaches = tally.breaches.len();
    assert!(breaches >= 10, "only {breaches} breaches to report");
    for (state, precision, recall) in LEAST {
        let is_true = tally.sum(|truth, _| truth == state);
        let said = tally.sum(|_, said| said == state);
        let both = tally.sum(|truth, said| truth == state && said == state);
        let measured = (share(both, said), share(both, is_true));
        assert!(
            measured.0 >= precision && measured.1 >= recall,
            "{state:?}: precision and recall are {measured:?}\n{notes}"
        );
    }
    for (baseline, name) in OBSERVERS.iter().enumerate().skip(1) {
        assert!(tally.missed(baseline) > 0, "{name} misses nothing?");
    }
}

#[test]
fn the_document_lists_every_disturbance_with_its_rate() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/accuracy.md");
    let document = std::fs::read_to_string(path).unwrap_or_default();
    for rate in &RATES {
        let row = format!("| {} | {} |", rate.per_quarter, rate.what);
        assert!(
            document.contains(&row),
            "write into docs/accuracy.md: {row}"
        );
    }
}
