use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read as _;

use super::*;
use crate::inventory::{Inventory, Shard};
use crate::model::{
    BackupProgress, BackupState, Epoch, Failure, FailureCode, Partition, PartitionId, PartitionKind,
};
use crate::protection::{Protection, Read, Rules};
use crate::snapshot::{ClusterReading, Collector, Observations, Reading, Run, SecurityReading};
use crate::telemetry::{Reload, Telemetry};
use chrono::{TimeDelta, TimeZone};
use family::Kind;
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

/// Three partitions: 1 has a success, 2 failed after a success, 3 was never asked for a backup.
fn snapshot() -> Arc<Snapshot> {
    let listed = (1..=3).map(|number| Partition {
        id: id(number),
        application: Some("fabric:/Shop \"A\"\\B\nC".into()),
        service: Some("fabric:/Shop/Orders".into()),
        kind: Some(PartitionKind::Int64Range),
        data_loss: Some(at(-5_000)),
    });
    let inventory = Inventory {
        listed: listed.collect(),
        unread: Vec::new(),
    };
    let read = |second, number, record: Option<BackupProgress>| {
        let value = Reading::Progress(record.map(Arc::new));
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
        cluster: Some(ClusterReading {
            up: true,
            service_up: Some(true),
            version: Some("10.1.2308.9590".to_owned()),
            clock_skew: Some(TimeDelta::milliseconds(-1_001)),
            security: SecurityReading {
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
    stuck_after: TimeDelta::minutes(15),
    expected_interval: None,
    reads_configuration: true,
    reads_lists: true,
};

fn run(collector: Collector, success: bool, milliseconds: u64) -> Run {
    Run {
        collector,
        success,
        duration: Duration::from_millis(milliseconds),
    }
}

fn view(states: States) -> ClusterView {
    ClusterView {
        snapshot: snapshot(),
        rules: RULES,
        states,
    }
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

fn page_of(views: Vec<ClusterView>, format: Format, now: DateTime<Utc>) -> Page {
    let kept = views
        .into_iter()
        .map(|view| Arc::new(KeptPieces::encode(view, now, None)));
    Page::assemble(&kept.collect::<Vec<_>>(), &process(), format, now)
}

fn text(format: Format, now: DateTime<Utc>) -> String {
    String::from_utf8(page_of(vec![view(States::All)], format, now).plain()).unwrap()
}

/// The samples of a family, without its name.
fn samples(page: &str, family: &str) -> Vec<String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(family));
    lines
        .filter(|rest| rest.starts_with(['{', ' ']))
        .map(str::to_owned)
        .collect()
}

/// Not from this process and this build, and in an order that is the same each time.
fn is_from_the_snapshot(line: &&str) -> bool {
    let others = ["process_", "build_info", "collector_errors_total{"];
    !others.iter().any(|other| line.contains(other)) && !line.contains("gateway_request")
}

#[test]
fn the_page_of_a_known_cluster_is_as_it_was() {
    let page = text(Format::OpenMetrics1, at(60));
    let lines: Vec<&str> = page.lines().filter(is_from_the_snapshot).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_numbers_of_the_verdicts_are_those_that_the_help_names() {
    let severity = families().find(|family| family.name.ends_with("protection_severity"));
    let (_, named) = severity.unwrap().help.split_once(": ").unwrap();
    let numbered = Protection::ALL.into_iter().filter_map(|verdict| {
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
        lines
            .filter(is_from_the_snapshot)
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(samples(&openmetrics), samples(&plain));
    assert!(openmetrics.ends_with("\n# EOF\n"));
    assert!(!plain.contains("# EOF") && !plain.contains("# UNIT") && !plain.contains(" info\n"));
}

#[test]
fn the_openmetrics_headers_are_those_of_prometheus_client() {
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
fn a_failure_is_observed_unless_it_was_there_at_the_first_look() {
    let read = |number, record: BackupProgress, second| {
        let value = Reading::Progress(Some(Arc::new(record)));
        let at = at(second);
        (id(number), Read { value, at })
    };
    let later = Observations {
        // 1 had a success until now; of 3 this is the first reading.
        partitions: vec![read(1, failure(), 40), read(3, failure(), 40)],
        ..Observations::default()
    };
    let mut listed = Snapshot::clone(&snapshot());
    listed.partitions.get_mut(&id(3)).unwrap().seen = None;
    let view = ClusterView {
        snapshot: Arc::new(listed.advance(later, at(40))),
        ..view(States::All)
    };
    let page = page_of(vec![view], Format::Text, at(60)).plain();
    let page = String::from_utf8(page).unwrap();
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
fn gzip_holds_the_same_page() {
    let page = page_of(vec![view(States::All)], Format::Text, at(60));
    let mut inflated = Vec::new();
    let compressed = page.gzip().concat();
    flate2::read::GzDecoder::new(&*compressed)
        .read_to_end(&mut inflated)
        .unwrap();
    assert!(inflated == page.plain());
    assert!(compressed.len() * 2 < inflated.len());
}

#[test]
fn no_series_stands_twice_and_families_are_not_interleaved() {
    let mut second = Snapshot::clone(&snapshot());
    second.cluster = "test".into();
    let second = ClusterView {
        snapshot: Arc::new(second),
        ..view(States::All)
    };
    let page = page_of(vec![view(States::All), second], Format::Text, at(60));
    let page = String::from_utf8(page.plain()).unwrap();
    let mut series = HashSet::new();
    let mut ended = BTreeSet::new();
    let mut current = "";
    for line in page.lines() {
        if let Some(header) = line.strip_prefix("# HELP ") {
            ended.insert(current);
            current = header.split(' ').next().unwrap();
            assert!(!ended.contains(current), "{current} stands twice");
        } else if !line.starts_with('#') {
            let (name, _) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(current), "{line} below {current}");
            assert!(series.insert(name), "{name} stands twice");
        }
    }
}

#[test]
fn with_current_states_only_the_one_that_is_is_shown() {
    let page = page_of(vec![view(States::Current)], Format::Text, at(60));
    let page = String::from_utf8(page.plain()).unwrap();
    let states = samples(&page, "servicefabric_backup_progress_state");
    assert_eq!(states.len(), 2);
    assert!(
        states.iter().all(|sample| sample.ends_with(" 1")),
        "{states:?}"
    );
}

#[test]
fn what_is_stale_is_left_out_and_facts_of_the_past_stay() {
    // Partition 1 was read at 10 and is believed until 310, partition 2 at 20, partition 3 at 30.
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
fn kept_pieces_hold_until_the_next_reading_grows_stale() {
    let view = view(States::All);
    let kept = KeptPieces::encode(view.clone(), at(60), None);
    assert!(kept.still_hold(&view, at(299)));
    assert!(!kept.still_hold(&view, at(300)), "the inventory is stale");
    let renewed = KeptPieces::encode(view.clone(), at(300), Some(&kept));
    assert!(renewed.still_hold(&view, at(309)));
    assert!(!renewed.still_hold(&view, at(310)), "a progress is stale");
    let other = ClusterView {
        states: States::Current,
        ..view.clone()
    };
    assert!(!kept.still_hold(&other, at(60)));
    let all_stale = KeptPieces::encode(view.clone(), at(1_000), None);
    assert!(all_stale.still_hold(&view, at(1_000_000)));
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
fn a_cluster_of_which_nothing_is_known_shows_no_state() {
    let view = ClusterView {
        snapshot: Arc::new(Snapshot::empty("dark".into())),
        ..view(States::All)
    };
    let page = page_of(vec![view], Format::Text, at(0)).plain();
    let page = String::from_utf8(page).unwrap();
    assert!(!page.contains("cluster_up"), "{page}");
    assert!(page.contains("servicefabric_backup_partitions{cluster_name=\"dark\"} 0\n"));
}

#[test]
fn the_catalogue_keeps_its_own_rules() {
    let mut names = HashSet::new();
    for family in families() {
        let name = family.name;
        assert!(names.insert(name), "{name} stands twice");
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
fn every_sample_carries_only_labels_of_its_row() {
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
