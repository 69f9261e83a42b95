use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::*;
use crate::cluster_view::ViewSettings;
use crate::inventory::{Inventory, Shard};
use crate::model::{
    BackupProgress, BackupState, Collector, Epoch, Failure, FailureCode, Partition, PartitionId,
    PartitionKind, Read,
};
use crate::protection::{ProtectionState, Rules};
use crate::settings::States;
use crate::snapshot::{
    ClusterObservation, CollectorRun, Observations, PartitionObservation, SecurityStatus, Snapshot,
};
use crate::telemetry::{Reload, StateFileWrites, Telemetry};
use bytes::Bytes;
use chrono::{TimeDelta, TimeZone};
use std::time::Duration;
use uuid::Uuid;

fn at(second: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_700_000_000 + second, 0).unwrap()
}

fn id(number: u128) -> PartitionId {
    PartitionId(Uuid::from_u128(number))
}

fn success() -> BackupProgress {
    BackupProgress {
        state: BackupState::Success,
        timestamp: Some(at(-600)),
        backup_id: Some(Uuid::from_u128(9)),
        epoch: Some(Epoch {
            data_loss_version: Some(131_873_018_908_156_893),
            configuration_version: Some(8_589_934_592),
        }),
        lsn: Some(36),
        failure: None,
    }
}

fn failure() -> BackupProgress {
    BackupProgress {
        state: BackupState::Failure,
        timestamp: None,
        backup_id: None,
        epoch: None,
        lsn: None,
        failure: Some(Failure {
            code: FailureCode::from_number(2_148_734_208),
            message: Some("not a label".into()),
        }),
    }
}

/// Three partitions: 1 has a success, 2 failed after a success, 3 has no record.
fn snapshot() -> Arc<Snapshot> {
    let listed = (1..=3).map(|number| Partition {
        id: id(number),
        application: Some("fabric:/Shop \"A\"\\B\nC".into()),
        service: Some("fabric:/Shop/Orders".into()),
        kind: Some(PartitionKind::Int64Range),
        data_loss_time: Some(at(-5_000)),
    });
    let inventory = Inventory {
        listed: listed.collect(),
        unread: Vec::new(),
    };
    let read = |second, number, record: Option<BackupProgress>| {
        let value = PartitionObservation::Progress(record.map(Arc::new));
        let at = at(second);
        (id(number), Read { value, at })
    };
    let first = Observations {
        inventory: Some(Read {
            value: inventory,
            at: at(0),
        }),
        partitions: vec![
            read(0, 1, None),
            read(0, 2, Some(success())),
            read(0, 3, None),
        ],
        ..Observations::default()
    };
    let second = Observations {
        partitions: vec![
            read(10, 1, Some(success())),
            read(20, 2, Some(failure())),
            read(30, 3, None),
        ],
        clock_skew: Some(TimeDelta::milliseconds(-1_001)),
        cluster: Some(ClusterObservation {
            up: true,
            service_up: Some(true),
            version: Some("10.1.2308.9590".to_owned()),
            security: SecurityStatus {
                insecure: Some(false),
                client_certificate_expiry: Some(at(86_400)),
                gateway_certificate_expiry: Some(at(172_800)),
                token_expiry: Some(at(3_600)),
                good_credentials: Some(true),
            },
        }),
        runs: vec![
            run(Collector::Inventory, true, 1_500),
            run(Collector::Progress, false, 45_000),
        ],
        ..Observations::default()
    };
    let empty = Snapshot::empty("prod".into());
    Arc::new(empty.advance(first, at(0)).advance(second, at(30)))
}

const RULES: Rules = Rules {
    staleness: TimeDelta::minutes(5),
    list_staleness: TimeDelta::minutes(30),
    overdue_allowance: TimeDelta::minutes(15),
    run_tolerance: TimeDelta::minutes(1),
    stuck_after: TimeDelta::minutes(15),
    expected_interval: None,
    reads_configuration: true,
    reads_lists: true,
};

fn run(collector: Collector, success: bool, milliseconds: u64) -> CollectorRun {
    CollectorRun {
        collector,
        success,
        duration: Duration::from_millis(milliseconds),
    }
}

/// The inputs of a view.
type Source = (Arc<Snapshot>, ViewSettings);

fn settings(states: States) -> ViewSettings {
    ViewSettings {
        rules: RULES,
        states,
    }
}

fn view(states: States) -> Source {
    (snapshot(), settings(states))
}

fn encoded((snapshot, settings): Source, now: DateTime<Utc>) -> Arc<EncodedCluster> {
    let view = ClusterView::new(snapshot, settings, now);
    Arc::new(EncodedCluster::encode(view, None))
}

fn process() -> Arc<Process> {
    let telemetry = Telemetry::default();
    let cluster = "prod".into();
    telemetry.watch_cluster(&cluster, &["timeout"]);
    telemetry.record_error(&cluster, Collector::Progress, "timeout");
    telemetry.record_request(
        &cluster,
        "GetClusterVersion",
        Some(200),
        Duration::from_millis(3),
    );
    telemetry.record_request(&cluster, "GetClusterVersion", None, Duration::from_secs(10));
    Arc::new(Process {
        telemetry: Arc::new(telemetry),
        reload: Reload {
            successful: true,
            succeeded_at: at(-5),
        },
        web_certificate_expiry: Some(at(259_200)),
        shard: Shard::default(),
        resources: metrics_process::collector::collect(),
    })
}

fn page_of(views: Vec<Source>, format: Format, now: DateTime<Utc>) -> Text {
    let clusters: Vec<_> = views.into_iter().map(|view| encoded(view, now)).collect();
    Page::assemble(&clusters, &process(), now).in_format(format)
}

fn text(format: Format, now: DateTime<Utc>) -> String {
    plain(&page_of(vec![view(States::All)], format, now))
}

fn plain(page: &Text) -> String {
    let portions: Vec<Bytes> = page.plain().collect();
    String::from_utf8(portions.concat()).unwrap()
}

/// The samples of a family, without its name.
fn samples(page: &str, family: &str) -> Vec<String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(family));
    lines
        .filter(|rest| rest.starts_with(['{', ' ']))
        .map(str::to_owned)
        .collect()
}

/// Whether the line does not depend on this process or build, nor on the order of a hash map.
fn is_deterministic(line: &&str) -> bool {
    let others = [
        "process_",
        "build_info",
        "collector_errors_total{",
        "undecodable_items_total{",
    ];
    !others.iter().any(|other| line.contains(other)) && !line.contains("gateway_request")
}

#[test]
fn page_matches_the_snapshot() {
    let page = text(Format::OpenMetrics1, at(60));
    let lines: Vec<&str> = page.lines().filter(is_deterministic).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn help_of_severity_names_every_severity() {
    let severity = families().find(|family| family.name.ends_with("protection_severity"));
    let (_, named) = severity.unwrap().help.split_once(": ").unwrap();
    let numbered = ProtectionState::ALL.into_iter().filter_map(|verdict| {
        let number = verdict.severity()?;
        Some((number, format!("{number} {}", verdict.as_str())))
    });
    let numbered: BTreeMap<i64, String> = numbered.collect();
    let expected = numbered.into_values().collect::<Vec<_>>().join(", ");
    assert_eq!(named, format!("{expected}; absent while it is Unknown"));
}

#[test]
fn both_formats_have_the_same_samples() {
    let (openmetrics, plain) = (
        text(Format::OpenMetrics1, at(60)),
        text(Format::Text, at(60)),
    );
    let samples = |page: &str| -> Vec<String> {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.filter(is_deterministic).map(str::to_owned).collect()
    };
    assert_eq!(samples(&openmetrics), samples(&plain));
    assert!(openmetrics.ends_with("\n# EOF\n"));
    assert!(!plain.contains("# EOF") && !plain.contains("# UNIT") && !plain.contains(" info\n"));
}

#[test]
fn openmetrics_headers_equal_those_of_prometheus_client() {
    use prometheus_client::encoding::text::encode_registry;
    use prometheus_client::metrics::{
        counter::Counter, gauge::Gauge, histogram::Histogram, info::Info,
    };
    use prometheus_client::registry::{Registry, Unit};
    for family in families() {
        let name = family.openmetrics_name();
        let help = family.help;
        let unit = family.unit().map(|unit| Unit::Other(unit.to_owned()));
        let name = match family.unit() {
            Some(unit) => name.strip_suffix(&format!("_{unit}")).unwrap(),
            None => name,
        };
        let mut registry = Registry::default();
        let unit = unit.unwrap_or_else(|| Unit::Other("none".to_owned()));
        match family.kind {
            Kind::Gauge => registry.register_with_unit(name, help, unit, Gauge::<i64>::default()),
            Kind::Counter => {
                registry.register_with_unit(name, help, unit, Counter::<u64>::default());
            }
            Kind::Info => registry.register_with_unit(name, help, unit, Info::new([("a", "b")])),
            Kind::Histogram => registry.register_with_unit(name, help, unit, Histogram::new([1.0])),
        }
        let mut theirs = String::new();
        encode_registry(&mut theirs, &registry).unwrap();
        let headers = theirs.lines().filter(|line| line.starts_with('#'));
        let headers =
            headers.map(|line| line.replace("_none", "").replace(&format!("{help}."), help));
        let headers = headers.filter(|line| !line.ends_with(" none"));
        let ours = family.openmetrics_header();
        assert_eq!(
            ours.lines().collect::<Vec<_>>(),
            headers.collect::<Vec<_>>()
        );
    }
}

#[test]
fn failure_is_observed_unless_it_precedes_the_first_read() {
    let read = |number, record: BackupProgress, second| {
        let value = PartitionObservation::Progress(Some(Arc::new(record)));
        let at = at(second);
        (id(number), Read { value, at })
    };
    let later = Observations {
        // 1 had a success until now; of 3 this is the first reading.
        partitions: vec![read(1, failure(), 40), read(3, failure(), 40)],
        ..Observations::default()
    };
    let mut listed = Snapshot::clone(&snapshot());
    listed.partitions.get_mut(&id(3)).unwrap().progress_history = None;
    let view = (
        Arc::new(listed.advance(later, at(40))),
        settings(States::All),
    );
    let page = plain(&page_of(vec![view], Format::Text, at(60)));
    let observed = samples(&page, "servicefabric_backup_progress_failure_observed");
    let observed = observed.iter().map(|sample| {
        let (labels, value) = sample.rsplit_once("} ").unwrap();
        (labels.trim_end_matches('"').chars().last().unwrap(), value)
    });
    let observed: BTreeMap<char, &str> = observed.collect();
    assert_eq!(
        observed,
        BTreeMap::from([('1', "1"), ('2', "1"), ('3', "0")])
    );
}

#[test]
fn gzip_contains_the_same_page() {
    let page = page_of(vec![view(States::All)], Format::Text, at(60));
    let compressed = page.gzip().concat();
    let inflated = gzip::tests::gunzip(&compressed);
    assert!(inflated == plain(&page).as_bytes());
    assert!(compressed.len() * 2 < inflated.len());
}

/// The record of partition `number` in [`fleet`]: of twenty partitions one has none and one a failure.
fn record(number: u32) -> Option<BackupProgress> {
    match number % 20 {
        0 => None,
        1 => Some(failure()),
        _ => Some(BackupProgress {
            timestamp: Some(at(-i64::from(number * 7_919 % 100_000))),
            backup_id: Some(Uuid::from_u128(u128::from(number) << 64)),
            lsn: Some(u64::from(number) * 37),
            ..success()
        }),
    }
}

/// A cluster of partitions with the numbers 1 to `size`.
fn fleet(size: u32) -> Source {
    let listed = (1..=size).map(|number| Partition {
        id: id(number.into()),
        application: Some(format!("fabric:/Shop{}", number % 13).into()),
        service: Some(format!("fabric:/Shop{}/Orders{}", number % 13, number % 101).into()),
        kind: Some(PartitionKind::Int64Range),
        data_loss_time: Some(at(-5_000)),
    });
    let inventory = Inventory {
        listed: listed.collect(),
        unread: Vec::new(),
    };
    let read = |number: u32| {
        let value = PartitionObservation::Progress(record(number).map(Arc::new));
        (id(number.into()), Read { value, at: at(0) })
    };
    let observations = Observations {
        inventory: Some(Read {
            value: inventory,
            at: at(0),
        }),
        partitions: (1..=size).map(read).collect(),
        ..Observations::default()
    };
    let snapshot = Snapshot::empty("prod".into()).advance(observations, at(0));
    (Arc::new(snapshot), settings(States::All))
}

/// The samples of a family by the number of their partition.
fn by_partition(page: &str, family: &str) -> BTreeMap<u32, String> {
    let numbered = samples(page, family).into_iter().map(|sample| {
        let (_, rest) = sample.split_once("partition_id=\"").unwrap();
        let (id, rest) = rest.split_once('"').unwrap();
        let number = Uuid::try_parse(id).unwrap().as_u128();
        let (_, value) = rest.rsplit_once(' ').unwrap();
        (u32::try_from(number).unwrap(), value.to_owned())
    });
    numbered.collect()
}

fn assert_page_is_complete(size: u32) {
    let page = page_of(vec![fleet(size)], Format::OpenMetrics1, at(60));
    let text = plain(&page);
    let inflated = gzip::tests::gunzip(&page.gzip().concat());
    let inflated = String::from_utf8(inflated).unwrap();
    for (left, right) in text.lines().zip(inflated.lines()) {
        assert_eq!(left, right, "{size} partitions: plain and gzip differ");
    }
    assert_eq!(text.len(), inflated.len(), "{size} partitions");
    assert_eq!(text.len() as u64, page.plain_length());
    assert!(text.ends_with("\n# EOF\n"));

    let numbers = || 1..=size;
    let with_record = numbers().filter(|number| number % 20 != 0).count();
    let states = samples(&text, "servicefabric_backup_progress_state");
    assert_eq!(states.len(), 7 * with_record, "{size} partitions");
    let successes = || numbers().filter(|number| number % 20 > 1);
    let lsns = successes().map(|number| (number, (u64::from(number) * 37).to_string()));
    assert!(by_partition(&text, "servicefabric_backup_progress_lsn") == lsns.collect());
    let times = successes().map(|number| {
        let time = 1_700_000_000 - i64::from(number * 7_919 % 100_000);
        (number, time.to_string())
    });
    let family = "servicefabric_backup_progress_timestamp_seconds";
    assert!(
        by_partition(&text, family) == times.collect(),
        "{size} partitions"
    );
    let ones = numbers().map(|number| (number, "1".to_owned()));
    let family = "servicefabric_backup_partition_info";
    assert!(
        by_partition(&text, family) == ones.collect(),
        "{size} partitions"
    );
}

#[test]
fn pages_of_fifty_sizes_are_complete_plain_and_compressed() {
    let sizes: Vec<u32> = (0..46)
        .map(|n| 1_000 + n * 88)
        .chain([1_400, 1_410, 1_500, 1_520])
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for part in sizes.chunks(sizes.len().div_ceil(threads)) {
            scope.spawn(|| part.iter().copied().for_each(assert_page_is_complete));
        }
    });
}

#[test]
fn series_are_unique_and_families_are_not_interleaved() {
    let mut second = Snapshot::clone(&snapshot());
    second.cluster = "test".into();
    let second = (Arc::new(second), settings(States::All));
    let page = page_of(vec![view(States::All), second], Format::Text, at(60));
    let page = plain(&page);
    let mut series = HashSet::new();
    let mut ended = BTreeSet::new();
    let mut current = "";
    for line in page.lines() {
        if let Some(header) = line.strip_prefix("# HELP ") {
            ended.insert(current);
            current = header.split(' ').next().unwrap();
            assert!(!ended.contains(current), "{current} is not unique");
        } else if !line.starts_with('#') {
            let (name, _) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(current), "{line} below {current}");
            assert!(series.insert(name), "{name} is not unique");
        }
    }
}

#[test]
fn current_states_expose_only_the_current_state() {
    let page = page_of(vec![view(States::Current)], Format::Text, at(60));
    let page = plain(&page);
    let states = samples(&page, "servicefabric_backup_progress_state");
    assert_eq!(states.len(), 2);
    assert!(
        states.iter().all(|sample| sample.ends_with(" 1")),
        "{states:?}"
    );
}

#[test]
fn stale_values_are_absent_and_past_facts_stay() {
    // Partition 1 was read at 10 and is fresh until 310, partition 2 at 20, partition 3 at 30.
    let count = |now, family| samples(&text(Format::Text, at(now)), family).len();
    let progress = [
        "servicefabric_backup_progress_age_seconds",
        "servicefabric_backup_progress_timestamp_seconds",
        "servicefabric_backup_progress_lsn",
    ];
    for family in progress {
        assert_eq!(count(309, family), 1, "{family}");
        assert_eq!(count(310, family), 0, "{family}");
    }
    assert_eq!(count(310, "servicefabric_backup_progress_state"), 7);
    assert_eq!(count(320, "servicefabric_backup_progress_state"), 0);
    assert_eq!(count(320, "servicefabric_backup_progress_failure"), 0);
    let past = [
        ("servicefabric_backup_partition_info", 3),
        ("servicefabric_backup_last_success_timestamp_seconds", 2),
        ("servicefabric_backup_last_success_age_seconds", 2),
        ("servicefabric_backup_last_success_lsn", 2),
        ("servicefabric_backup_partition_poll_timestamp_seconds", 3),
        ("servicefabric_backup_observed_completions_total", 3),
        ("servicefabric_backup_lsn_advance_total", 2),
    ];
    for (family, expected) in past {
        assert_eq!(count(100_000, family), expected, "{family}");
    }
}

#[test]
fn view_is_valid_until_the_next_reading_grows_stale() {
    let (snapshot, settings) = view(States::All);
    let at_second = |second| ClusterView::new(Arc::clone(&snapshot), settings, at(second));
    let early = at_second(149);
    assert!(early.is_valid_at(at(149)));
    assert!(!early.is_valid_at(at(148)), "before its moment");
    assert!(!early.is_valid_at(at(150)), "the code is no longer new");
    let later = at_second(150);
    assert!(later.is_valid_at(at(299)));
    assert!(!later.is_valid_at(at(300)), "the inventory is stale");
    let renewed = at_second(300);
    assert!(renewed.is_valid_at(at(309)));
    assert!(!renewed.is_valid_at(at(310)), "a progress is stale");
    let current = ViewSettings {
        states: States::Current,
        ..settings
    };
    let other = ClusterView::new(Arc::clone(&snapshot), current, at(60));
    assert!(!other.has_facts_of(&at_second(60)) && !other.has_verdicts_of(&at_second(60)));
    // The first list is awaited for half an hour.
    assert!(at_second(2_000).is_valid_at(at(1_000_000)));
}

/// Segments that `encoded` shares with `previous`, of those with samples.
fn reused(encoded: &EncodedCluster, previous: &EncodedCluster) -> Vec<&'static str> {
    let segments = encoded.segments.iter().zip(&previous.segments);
    let families = families().zip(segments);
    let reused = families
        .filter(|(_, (segment, before))| !segment.is_empty() && segment.shares_memory_with(before));
    reused.map(|(family, _)| family.name).collect()
}

#[test]
fn reused_segments_equal_those_of_a_new_encoding() {
    for states in [States::All, States::Current] {
        let (snapshot, settings) = view(states);
        let mut previous: Option<Arc<EncodedCluster>> = None;
        // Codes, readings, lists and verdicts turn within this time.
        for second in (30..2_400).step_by(10).chain([120, 60]) {
            let view = || ClusterView::new(Arc::clone(&snapshot), settings, at(second));
            let incremental = Arc::new(EncodedCluster::encode(view(), previous.as_deref()));
            let complete = Arc::new(EncodedCluster::encode(view(), None));
            let page = |cluster: &Arc<EncodedCluster>| {
                let page = Page::assemble(&[Arc::clone(cluster)], &process(), at(second));
                let page = plain(&page.in_format(Format::OpenMetrics1));
                let lines = page.lines().filter(is_deterministic);
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(page(&incremental), page(&complete), "{second} s");
            previous = Some(incremental);
        }
    }
}

#[test]
fn only_verdicts_are_encoded_again_when_only_a_verdict_changes() {
    let (snapshot, settings) = view(States::All);
    let settings = ViewSettings {
        rules: Rules {
            staleness: TimeDelta::days(9),
            expected_interval: Some(TimeDelta::seconds(600)),
            reads_configuration: false,
            reads_lists: false,
            ..RULES
        },
        ..settings
    };
    let encode = |now, previous: Option<&EncodedCluster>| {
        let view = ClusterView::new(Arc::clone(&snapshot), settings, now);
        EncodedCluster::encode(view, previous)
    };
    let mut before = encode(at(200), None);
    let has_samples = before.segments.iter().filter(|it| !it.is_empty()).count();
    loop {
        let turn = before.view.valid_until().unwrap();
        assert!(turn < at(3_600), "a verdict changes within the hour");
        let after = encode(turn, Some(&before));
        let reused = reused(&after, &before);
        if !after.view.has_verdicts_of(&before.view) {
            assert!(!reused.contains(&"servicefabric_backup_protection_state"));
            assert!(reused.contains(&"servicefabric_backup_progress_state"));
            let verdicts = families().filter(|family| family.shows_verdicts()).count();
            assert!(reused.len() + verdicts >= has_samples, "{reused:?}");
            break;
        }
        assert_eq!(reused.len(), has_samples);
        before = after;
    }
}

#[test]
fn scrape_does_not_encode_the_segments_of_a_view() {
    let cluster = encoded(view(States::All), at(60));
    for scrape in 0..3 {
        let page = Page::assemble(&[Arc::clone(&cluster)], &process(), at(60 + scrape));
        for (index, family) in families().enumerate() {
            if family.is_fresh_per_scrape() || cluster.segments[index].is_empty() {
                continue;
            }
            let segments = &page.families[index];
            assert_eq!(segments.len(), 1, "{}", family.name);
            let shares = segments[0].shares_memory_with(&cluster.segments[index]);
            assert!(shares, "{} was encoded by a scrape", family.name);
        }
    }
}

#[test]
fn pages_of_no_and_of_one_partition_are_complete() {
    for size in [0, 1] {
        let page = page_of(vec![fleet(size)], Format::Text, at(60));
        let text = plain(&page);
        assert!(gzip::tests::gunzip(&page.gzip().concat()) == text.as_bytes());
        let infos = samples(&text, "servicefabric_backup_partition_info");
        assert_eq!(infos.len(), size as usize);
        assert!(text.contains(&format!(
            "servicefabric_backup_partitions{{cluster_name=\"prod\"}} {size}\n"
        )));
    }
}

#[test]
fn success_dated_in_the_future_is_absent_until_its_time() {
    let families = [
        "servicefabric_backup_last_success_timestamp_seconds",
        "servicefabric_backup_last_success_age_seconds",
        "servicefabric_backup_last_success_lsn",
    ];
    // Both successes are dated at -600.
    let plausible = -600 - 300;
    for family in families {
        let count = |now| samples(&text(Format::Text, at(now)), family).len();
        assert_eq!(count(plausible), 2, "{family}");
        assert_eq!(count(plausible - 1), 0, "{family}");
        assert_eq!(count(-400 * 86_400), 0, "{family}");
    }
    let (snapshot, settings) = view(States::All);
    let view = ClusterView::new(snapshot, settings, at(plausible - 1));
    assert!(!view.is_valid_at(at(plausible)));
}

#[test]
fn every_date_is_encoded() {
    for date in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        let value = PartitionObservation::Progress(Some(Arc::new(BackupProgress {
            timestamp: Some(date),
            ..success()
        })));
        let observations = Observations {
            partitions: vec![(id(1), Read { value, at: at(40) })],
            ..Observations::default()
        };
        let view = (
            Arc::new(snapshot().advance(observations, at(40))),
            settings(States::All),
        );
        let page = plain(&page_of(vec![view], Format::Text, at(40)));
        let shown = samples(&page, "servicefabric_backup_progress_timestamp_seconds");
        assert!(
            shown[0].ends_with(&format!(" {}", date.timestamp())),
            "{shown:?}"
        );
    }
}

#[test]
fn state_file_families_are_absent_without_a_state_file() {
    let process = process();
    let lines = || {
        let page = plain(&Page::assemble(&[], &process, at(0)).in_format(Format::Text));
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let lines = lines
            .filter_map(|line| line.strip_prefix("servicefabric_backup_exporter_state_file_last_"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let telemetry = &process.telemetry;
    assert_eq!(lines(), Vec::<String>::new());
    let writes = StateFileWrites {
        successful: Some(true),
        succeeded_at: Some(at(7)),
    };
    telemetry.set_state_file(writes);
    let written = "write_success_timestamp_seconds 1700000007";
    assert_eq!(lines(), ["write_successful 1", written]);
    telemetry.set_state_file(StateFileWrites {
        successful: Some(false),
        ..writes
    });
    assert_eq!(lines(), ["write_successful 0", written]);
}

#[test]
fn ages_are_whole_seconds_rounded_down_and_may_be_negative() {
    let age = |now: DateTime<Utc>| {
        let page = text(Format::Text, now);
        let age = samples(&page, "servicefabric_backup_last_success_age_seconds");
        age[0].rsplit_once(' ').unwrap().1.to_owned()
    };
    assert_eq!(age(at(60)), "660");
    assert_eq!(age(at(60) + TimeDelta::milliseconds(999)), "660");
    assert_eq!(age(at(-600)), "0");
    assert_eq!(age(at(-600) - TimeDelta::milliseconds(1)), "-1");
}

#[test]
fn unread_cluster_has_no_state() {
    let view = (
        Arc::new(Snapshot::empty("unread".into())),
        settings(States::All),
    );
    let page = plain(&page_of(vec![view], Format::Text, at(0)));
    assert!(!page.contains("cluster_up"), "{page}");
    assert!(page.contains("servicefabric_backup_partitions{cluster_name=\"unread\"} 0\n"));
}

#[test]
fn catalogue_follows_the_naming_rules() {
    let mut names = HashSet::new();
    for family in families() {
        let name = family.name;
        assert!(names.insert(name), "{name} is not unique");
        assert!(
            name.starts_with("servicefabric_backup_") || name.starts_with("process_"),
            "{name}"
        );
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );
        assert_eq!(
            family.kind == Kind::Counter,
            name.ends_with("_total"),
            "{name}"
        );
        assert_eq!(family.kind == Kind::Info, name.ends_with("_info"), "{name}");
        let help = family.help;
        assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
        assert!(!help.contains(['\\', '\n', '"']), "{name}: {help}");
        assert!(family.labels.len() <= 7, "{name}");
    }
}

#[test]
fn samples_have_only_labels_of_their_row() {
    let page = text(Format::Text, at(60));
    for family in families() {
        for sample in samples(&page, family.name) {
            let Some((labels, _)) = sample.rsplit_once('}') else {
                continue;
            };
            let keys = labels
                .split("=\"")
                .filter_map(|part| part.rsplit(['{', ',']).next());
            for key in keys.filter(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
                let known = key.is_empty() || family.labels.contains(&key);
                assert!(known, "{}: {key}", family.name);
            }
        }
    }
}

/// The increase that Prometheus computes from the samples of a counter, without extrapolation.
fn increase(samples: &[u64]) -> u64 {
    let steps = samples.windows(2).map(|pair| match *pair {
        [before, after] if after >= before => after - before,
        [_, after] => after,
        _ => 0,
    });
    steps.sum()
}

/// The snapshots after the polls that found `failures`, each with the second of its poll.
fn polled(failures: &[(i64, FailureCode)]) -> Vec<(i64, Arc<Snapshot>)> {
    let mut snapshot = Arc::unwrap_or_clone(snapshot());
    let mut polls = vec![(30, Arc::new(snapshot.clone()))];
    for (second, code) in failures {
        for record in [success(), with_code(code)] {
            let read = Read {
                value: PartitionObservation::Progress(Some(Arc::new(record))),
                at: at(*second),
            };
            let observations = Observations {
                partitions: vec![(id(3), read)],
                ..Observations::default()
            };
            snapshot = snapshot.advance(observations, at(*second));
        }
        polls.push((*second, Arc::new(snapshot.clone())));
    }
    polls
}

fn with_code(code: &FailureCode) -> BackupProgress {
    let mut record = failure();
    if let Some(failure) = &mut record.failure {
        failure.code = code.clone();
    }
    record
}

/// The samples of the counter of `code`, scraped every `interval` seconds until `end`.
fn scraped(
    polls: &[(i64, Arc<Snapshot>)],
    code: &FailureCode,
    (first, interval, end): (i64, i64, i64),
) -> Vec<u64> {
    let mut previous: Option<Arc<EncodedCluster>> = None;
    let mut values = Vec::new();
    let mut second = first;
    while second <= end {
        let poll = polls.iter().rev().find(|(polled, _)| *polled <= second);
        let (_, snapshot) = poll.unwrap();
        let settings = settings(States::Current);
        let view = ClusterView::new(Arc::clone(snapshot), settings, at(second));
        let cluster = Arc::new(EncodedCluster::encode(view, previous.as_deref()));
        let page = Page::assemble(&[Arc::clone(&cluster)], &process(), at(second));
        previous = Some(cluster);
        let page = plain(&page.in_format(Format::Text));
        let found = samples(&page, "servicefabric_backup_observed_failures_total");
        let label = format!("code=\"{}\"", code.as_str());
        let value = found.iter().find(|sample| sample.contains(&label));
        values.extend(value.map(|it| it.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()));
        second += interval;
    }
    values
}

#[test]
fn first_failure_of_any_code_is_an_increase_at_every_scrape_interval_up_to_two_minutes() {
    let codes = [
        FailureCode::from_text("FABRIC_E_TIMEOUT"),
        FailureCode::from_text("E_POINTER"),
        FailureCode::from_number(0x8013_1509),
        FailureCode::other(),
    ];
    for (index, code) in codes.iter().enumerate() {
        for interval in [15, 60, 61, 119, 120] {
            for first in [30, 31 + i64::try_from(index).unwrap() * 17] {
                let polls = polled(&[(100, code.clone())]);
                let samples = scraped(&polls, code, (first, interval, 100 + 3 * 120));
                assert_eq!(
                    increase(&samples),
                    1,
                    "{code:?} each {interval} s: {samples:?}"
                );
            }
        }
    }
}

#[test]
fn failures_soon_after_a_new_code_are_all_counted() {
    let code = FailureCode::from_text("E_ABORT");
    let failures = [100, 110, 130, 219, 220, 400].map(|second| (second, code.clone()));
    let polls = polled(&failures);
    for interval in [5, 60, 120] {
        let samples = scraped(&polls, &code, (40, interval, 640));
        assert_eq!(increase(&samples), 6, "each {interval} s: {samples:?}");
        assert!(samples.is_sorted(), "{samples:?}");
    }
}
