//! Shared by the end-to-end tests: waiting, small estates, simulated gateways.
//!
//! Only [`eventually`] sleeps; every wait has a deadline that a healthy machine never reaches.

use std::ops::AsyncFnMut;
use std::time::Duration;

use chrono::{DateTime, Utc};
use servicefabric_backup_exporter::simulator::{
    BackupPlan, Code, Estate, EstateSize, Options, Outcome, Simulator,
};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

pub(crate) mod balancer;
pub(crate) mod bless;
pub(crate) mod canned;
#[cfg(unix)]
pub(crate) mod certificates;
pub(crate) mod encodings;
#[cfg(unix)]
pub(crate) mod large_page;
pub(crate) mod page;
pub(crate) mod process;
#[cfg(unix)]
pub(crate) mod renegotiation;
pub(crate) mod watch;

/// Longest wait of a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until there is a result, and fails with `what` at the deadline.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, Duration::from_millis(10), what, ask).await
}

/// Like [`eventually`], with a deadline and a pause between two polls.
pub(crate) async fn within<T>(
    patience: Duration,
    pause: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        sleep(pause).await;
    }
}

/// The creation time of everything in the estates.
pub(crate) fn born() -> DateTime<Utc> {
    at(0)
}

/// The time a number of seconds after the creation of the estates.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000 + seconds, 0).unwrap()
}

/// An estate of four applications with two services each, `partitions` in each of those, and
/// decoys that cannot be backed up.
pub(crate) fn estate(partitions: usize) -> Estate {
    let shape = EstateSize {
        seed: 7,
        applications: 4,
        services_per_application: 2,
        partitions_per_service: partitions,
    };
    Estate::generate(&shape, born())
}

/// Gives the partitions of an estate, in turn, every kind of record that a request leads to, and
/// to every seventh none at all.
pub(crate) fn with_history(mut estate: Estate) -> Estate {
    for (index, id) in estate.partition_ids().into_iter().enumerate() {
        let symbol = Code::Name("FABRIC_E_BACKUPCOPIER_TIMEOUT".to_owned());
        let number = Code::Number(0x8013_1500);
        let outcome = match index % 7 {
            0 => Outcome::Success,
            1 => Outcome::Failure(symbol, "Upload ended.".to_owned()),
            2 => Outcome::Failure(number, "Not supported.".to_owned()),
            3 => Outcome::Timeout,
            4 => Outcome::Never,
            5 => {
                start_backup(&mut estate, id);
                continue;
            }
            _ => continue,
        };
        estate.conclude(id, outcome, at(3600));
    }
    estate
}

/// Puts a backup of the partition in progress; it stays so for longer than any test.
fn start_backup(estate: &mut Estate, id: Uuid) {
    let plan = BackupPlan {
        accepted_for: Duration::ZERO,
        running_for: Duration::from_secs(1_000_000_000),
        ..BackupPlan::default()
    };
    estate.request_backup(id, plan, born()).unwrap();
    estate.tick(at(1));
}

/// Lets every partition of an estate have a successful backup at that moment.
pub(crate) fn succeed_everywhere(estate: &mut Estate, seconds: i64) {
    for id in estate.partition_ids() {
        estate.conclude(id, Outcome::Success, at(seconds));
    }
}

/// A gateway of `estate` on a free port.
pub(crate) async fn simulate(estate: Estate, options: Options) -> Simulator {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Simulator::start(listener, estate, options).unwrap()
}
