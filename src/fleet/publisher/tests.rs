use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::super::running::Watched;
use super::*;
use crate::inventory::Inventory;
use crate::model::{BackupProgress, BackupState, Partition, PartitionId, Read};
use crate::protection::{ProtectionState, Rules};
use crate::settings::States;
use crate::snapshot::{Observations, PartitionObservation};

/// Wall clock that follows the paused clock of the runtime.
fn clock() -> DateTime<Utc> {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let (start, now) = (*START, Instant::now());
    let since = |from, to: Instant| TimeDelta::from_std(to.duration_since(from)).unwrap();
    let elapsed = if start <= now {
        since(start, now)
    } else {
        -since(now, start)
    };
    DateTime::from_timestamp(1_700_000_000, 0).unwrap() + elapsed
}

const SETTINGS: ViewSettings = ViewSettings {
    rules: Rules {
        staleness: TimeDelta::minutes(5),
        list_staleness: TimeDelta::minutes(30),
        overdue_allowance: TimeDelta::minutes(1),
        run_tolerance: TimeDelta::minutes(1),
        stuck_after: TimeDelta::minutes(15),
        expected_interval: Some(TimeDelta::minutes(4)),
        reads_configuration: false,
        reads_lists: false,
    },
    states: States::All,
};

/// One partition, whose progress was read at `at` and shows a success at `success`.
fn snapshot(at: DateTime<Utc>, success: DateTime<Utc>) -> Arc<Snapshot> {
    let id = PartitionId(Uuid::from_u128(1));
    let partition = Partition {
        id,
        application: Some("fabric:/Shop".into()),
        service: Some("fabric:/Shop/Orders".into()),
        kind: None,
        data_loss_time: None,
    };
    let value = Inventory {
        listed: vec![partition],
        unread: Vec::new(),
    };
    let progress = BackupProgress {
        state: BackupState::Success,
        timestamp: Some(success),
        backup_id: Some(Uuid::from_u128(2)),
        epoch: None,
        lsn: Some(7),
        failure: None,
    };
    let value = Observations {
        inventory: Some(Read { value, at }),
        partitions: vec![(
            id,
            Read {
                value: PartitionObservation::Progress(Some(Arc::new(progress))),
                at,
            },
        )],
        ..Observations::default()
    };
    Arc::new(Snapshot::empty("prod".into()).advance(value, at))
}

struct Cluster {
    snapshots: watch::Sender<Arc<Snapshot>>,
    settings: watch::Sender<ViewSettings>,
    published: watch::Receiver<Published>,
    encodings: Arc<AtomicUsize>,
}

impl Cluster {
    /// Starts a publisher that calls `before` on the blocking thread before each encoding.
    fn start(snapshot: Arc<Snapshot>, before: impl Fn() + Send + Sync + 'static) -> Self {
        let (snapshots, snapshot_receiver) = watch::channel(snapshot);
        let settings = watch::Sender::new(SETTINGS);
        let (sender, receiver) = watch::channel(None);
        let encodings = Arc::new(AtomicUsize::new(0));
        let (counter, before) = (Arc::clone(&encodings), Arc::new(before));
        let publisher = Publisher {
            snapshots: snapshot_receiver,
            settings: settings.subscribe(),
            published: sender,
            clock,
            permits: Arc::new(Semaphore::new(1)),
            encode: move |view: ClusterView, previous: Option<&EncodedCluster>| {
                counter.fetch_add(1, Ordering::SeqCst);
                before();
                EncodedCluster::encode(view, previous)
            },
        };
        tokio::spawn(publisher.run());
        Self {
            snapshots,
            settings,
            published: receiver,
            encodings,
        }
    }

    async fn next(&mut self) -> Published {
        self.published.changed().await.unwrap();
        self.published.borrow().clone()
    }

    fn encodings(&self) -> usize {
        self.encodings.load(Ordering::SeqCst)
    }
}

fn state(encoded: &EncodedCluster) -> ProtectionState {
    encoded.view.partitions().next().unwrap().verdict.state
}

#[tokio::test(start_paused = true)]
async fn verdicts_are_published_when_time_changes_them() {
    let read_at = clock();
    let mut cluster = Cluster::start(snapshot(read_at, read_at), || {});
    let first = cluster.next().await.unwrap();
    assert_eq!(state(&first), ProtectionState::Protected);
    // The last backup is due after 4 minutes, and the progress is stale after 5.
    let turn = read_at + SETTINGS.rules.staleness;
    let mut last = cluster.next().await.unwrap();
    while state(&last) != ProtectionState::Unknown {
        assert!(clock() < turn + TimeDelta::seconds(2), "{:?}", last.view.at);
        last = cluster.next().await.unwrap();
    }
    let delay = clock() - turn;
    assert!(
        delay >= TimeDelta::zero() && delay < TimeDelta::milliseconds(2_100),
        "{delay}"
    );
    assert!(last.view.at >= turn);
}

#[tokio::test(start_paused = true)]
async fn overdue_backup_is_published_without_a_new_snapshot() {
    let read_at = clock();
    let success = read_at - TimeDelta::minutes(2);
    let mut cluster = Cluster::start(snapshot(read_at, success), || {});
    assert_eq!(
        state(&cluster.next().await.unwrap()),
        ProtectionState::Protected
    );
    let overdue = cluster.next().await.unwrap();
    let delay = clock() - (read_at + TimeDelta::minutes(3));
    assert_eq!(state(&overdue), ProtectionState::Overdue);
    assert!(
        delay >= TimeDelta::zero() && delay < TimeDelta::milliseconds(1_100),
        "{delay}"
    );
    assert_eq!(cluster.encodings(), 2);
}

#[tokio::test(start_paused = true)]
async fn valid_view_is_not_encoded_again() {
    let read_at = clock();
    let mut cluster = Cluster::start(snapshot(read_at, read_at), || {});
    cluster.next().await.unwrap();
    sleep(Duration::from_secs(200)).await;
    assert_eq!(cluster.encodings(), 1);
}

#[tokio::test]
async fn previous_encoding_stays_published_and_the_latest_snapshot_follows() {
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let (end, may_end) = mpsc::channel::<()>();
    let may_end = Mutex::new(may_end);
    let now = clock();
    let snapshots = [1, 2, 3, 4].map(|minute| snapshot(now, now - TimeDelta::minutes(minute)));
    let mut cluster = Cluster::start(Arc::clone(&snapshots[0]), move || {
        begun.send(()).unwrap();
        may_end.lock().unwrap().recv().unwrap();
    });
    has_begun.recv().await.unwrap();
    end.send(()).unwrap();
    let first = cluster.next().await.unwrap();
    cluster.snapshots.send_replace(Arc::clone(&snapshots[1]));
    has_begun.recv().await.unwrap();
    // Published while the second snapshot is encoded.
    cluster.snapshots.send_replace(Arc::clone(&snapshots[2]));
    cluster.snapshots.send_replace(Arc::clone(&snapshots[3]));
    assert!(!cluster.published.has_changed().unwrap());
    let served = cluster.published.borrow().clone().unwrap();
    assert!(
        Arc::ptr_eq(&served, &first),
        "the previous encoding is served"
    );
    end.send(()).unwrap();
    let second = cluster.next().await.unwrap();
    assert!(Arc::ptr_eq(&second.view.snapshot, &snapshots[1]));
    has_begun.recv().await.unwrap();
    end.send(()).unwrap();
    let last = cluster.next().await.unwrap();
    assert!(Arc::ptr_eq(&last.view.snapshot, &snapshots[3]));
    assert_eq!(cluster.encodings(), 3);
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_encoder_withdraws_the_page_until_an_encoding_succeeds() {
    let fails = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&fails);
    let now = clock();
    let mut cluster = Cluster::start(snapshot(now, now), move || {
        assert!(!flag.load(Ordering::SeqCst), "injected");
    });
    cluster.next().await.unwrap();
    fails.store(true, Ordering::SeqCst);
    let second = snapshot(now, now - TimeDelta::minutes(1));
    cluster.snapshots.send_replace(Arc::clone(&second));
    assert!(cluster.next().await.is_none());
    let failed_at = Instant::now();
    fails.store(false, Ordering::SeqCst);
    let recovered = cluster.next().await.unwrap();
    assert!(Arc::ptr_eq(&recovered.view.snapshot, &second));
    assert!(failed_at.elapsed() <= RETRY_INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_published() {
    let now = clock();
    let mut cluster = Cluster::start(snapshot(now, now), || {});
    cluster.next().await.unwrap();
    let settings = ViewSettings {
        states: States::Current,
        ..SETTINGS
    };
    cluster.settings.send_replace(settings);
    let encoded = cluster.next().await.unwrap();
    assert_eq!(encoded.view.settings, settings);
}

#[tokio::test]
async fn encoding_that_is_late_for_a_minute_is_not_served() {
    let now = clock();
    let (snapshots, snapshot_receiver) = watch::channel(snapshot(now, now));
    let view = ClusterView::new(Arc::clone(&snapshots.borrow()), SETTINGS, now);
    let valid_until = view.valid_until().unwrap();
    let encoded = Arc::new(EncodedCluster::encode(view, None));
    let (_sender, published) = watch::channel(Some(encoded));
    let watched = Watched {
        name: "prod".into(),
        snapshots: snapshot_receiver,
        published,
    };
    assert!(
        watched
            .encoded(valid_until + TimeDelta::seconds(60))
            .is_some()
    );
    assert!(
        watched
            .encoded(valid_until + TimeDelta::seconds(61))
            .is_none()
    );
}
