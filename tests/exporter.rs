//! The program itself: what it serves, how it reloads, how it ends.
//!
//! The gateway is simulated in this process; the exporter is a child that polls it over HTTP.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use crate::support::large_page::{begin_to_scrape, started_with_a_large_page};
use crate::support::process::{Exporter, Setup};
use crate::support::{at, born, estate, eventually, simulate, succeed_everywhere, with_history};
use flate2::read::GzDecoder;
use reqwest::{Client, Method, StatusCode};
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::simulator::{
    CANARY, Code, Entity, Estate, Fault, Filter, Latency, Operation, Options, Outcome, Policy,
    Schedule, Scheme, Secrets, ServiceKind, Simulator, Storage, Switches,
};
use tokio::io::AsyncReadExt;
use uuid::Uuid;

const STATE: &str = "servicefabric_backup_progress_state";
const UP: &str = "servicefabric_backup_cluster_up";
const SERVICE_UP: &str = "servicefabric_backup_service_up";
const LAST_SUCCESS: &str = "servicefabric_backup_last_success_timestamp_seconds";
const COMPLETIONS: &str = "servicefabric_backup_observed_completions_total";
const REQUESTS: &str = "servicefabric_backup_gateway_requests_total";
const UNMATCHED: &str = "servicefabric_backup_selectors_unmatched";
const RELOADED: &str = "servicefabric_backup_exporter_config_last_reload_successful";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

/// Polls as often as it can.
const FAST: &str = "poll: {interval: 1s, timeout: 1s}\n";

/// The clusters `names`, all of them behind this gateway; for the configuration, each watches
/// another part of it.
fn clusters(names: &[&str], simulator: &Simulator) -> String {
    let url = simulator.url();
    let clusters = names.iter().map(|name| {
        let other = format!("applications: {{exclude: ['fabric:/{name}']}}");
        format!("- {{name: {name}, endpoints: ['{url}'], {other}}}\n")
    });
    format!("{FAST}clusters:\n{}", clusters.collect::<String>())
}

/// An exporter of a gateway with some history, after its first cycle.
async fn started() -> (Simulator, Exporter) {
    let simulator = simulate(with_history(estate(7)), Options::default()).await;
    let setup = Setup::new(&clusters(&["test"], &simulator));
    let exporter = setup.start().await;
    exporter.ready().await;
    (simulator, exporter)
}

#[tokio::test]
async fn metrics_are_served_in_both_formats_plain_and_compressed() {
    let (simulator, exporter) = started().await;
    let text = exporter.get("/metrics").await;
    assert_eq!(
        text.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(!text.body.contains("# EOF"));
    let open = exporter.get_accepting("/metrics", OPENMETRICS).await;
    assert_eq!(
        open.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(open.body.ends_with("\n# EOF\n"));
    for body in [&text.body, &open.body] {
        let page = crate::support::page::Page::parse(body);
        let info = page.all("servicefabric_backup_partition_info", &[]);
        assert_eq!(info.len(), 56);
        // One partition in seven has no record.
        assert_eq!(page.all(STATE, &[]).len(), 48 * 7);
        for state in [
            "Success",
            "Failure",
            "Timeout",
            "Accepted",
            "BackupInProgress",
        ] {
            let in_state = page.all(STATE, &[("state", state)]);
            let current = in_state.iter().filter(|sample| sample.value > 0.0).count();
            let expected = if state == "Failure" { 16 } else { 8 };
            assert_eq!(current, expected, "{state}");
        }
        assert_eq!(page.value(UP, &[("cluster_name", "test")]), Some(1.0));
        assert_eq!(page.value(SERVICE_UP, &[]), Some(1.0));
        assert_eq!(
            page.value("servicefabric_backup_partitions", &[]),
            Some(56.0)
        );
    }
    drop(simulator);

    let request = Client::new().get(format!("{}/metrics", exporter.addresses()[0]));
    let packed = request
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let mut unpacked = String::new();
    let packed = packed.bytes().await.unwrap();
    GzDecoder::new(packed.as_ref())
        .read_to_string(&mut unpacked)
        .unwrap();
    let families = |page: &str| -> Vec<String> {
        let lines = page.lines().filter(|line| line.starts_with("# HELP"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(families(&unpacked), families(&text.body));
}

#[tokio::test]
async fn pages_exist_where_they_should_and_nowhere_else() {
    let (_simulator, exporter) = started().await;
    let healthy = exporter.get("/-/healthy").await;
    assert_eq!(
        (healthy.status, &*healthy.body),
        (StatusCode::OK, "Healthy.\n")
    );
    let landing = exporter.get("/").await;
    assert_eq!(landing.status, StatusCode::OK);
    assert!(landing.header("content-type").starts_with("text/html"));
    for part in [
        "<td>test</td>",
        "<td>56</td>",
        "56 Unprotected<br>",
        "href=\"/metrics\"",
    ] {
        assert!(landing.body.contains(part), "{part}: {}", landing.body);
    }
    for path in ["/metrics/", "/nothing", "/api/v1", "/-/"] {
        let reply = exporter.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
    }
    let posted = exporter.send(Method::POST, "/metrics").await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    for path in [
        "/metrics",
        "/",
        "/-/healthy",
        "/-/ready",
        "/api/v1/partitions",
    ] {
        let head = exporter.send(Method::HEAD, path).await;
        assert_eq!((head.status, &*head.body), (StatusCode::OK, ""), "{path}");
    }
}

#[tokio::test]
async fn partitions_are_told_as_json_and_no_secret_gets_out() {
    const SECRET: &str = "aHVudGVyMg==";
    let mut estate = estate(1);
    let id = estate.partition_ids()[0];
    let message = format!("Access denied: AccountName=shop;AccountKey={SECRET};Suffix=x");
    let code = Code::Name("FABRIC_E_BACKUPCOPIER_ACCESS_DENIED".to_owned());
    estate.conclude(id, Outcome::Failure(code, message), born());
    let simulator = simulate(estate, Options::default()).await;
    let setup = Setup::new(&clusters(&["test"], &simulator)).flag("--log.level=debug");
    let exporter = setup.start().await;
    exporter.ready().await;

    let list = exporter.get("/api/v1/partitions").await;
    assert_eq!(list.json()["partitions"].as_array().unwrap().len(), 8);
    let one = exporter.get(&format!("/api/v1/partitions/{id}")).await;
    assert_eq!(one.header("content-type"), "application/json");
    let told = one.json();
    assert_eq!(told["partition_id"], id.to_string());
    assert_eq!(told["progress"]["state"], "Failure");
    let failure = &told["progress"]["failure"];
    assert_eq!(failure["code"], "FABRIC_E_BACKUPCOPIER_ACCESS_DENIED");
    let message = "Access denied: AccountName=shop;AccountKey=***;Suffix=x";
    assert_eq!(failure["message"], message);
    assert!(
        list.json()["partitions"]
            .as_array()
            .unwrap()
            .contains(&told)
    );

    for (path, status, error) in [
        ("not-a-guid", 400, "GUID"),
        (
            "00000000-0000-0000-0000-000000000001",
            404,
            "no such partition",
        ),
    ] {
        let reply = exporter.get(&format!("/api/v1/partitions/{path}")).await;
        assert_eq!(reply.status, status);
        assert!(reply.json()["error"].as_str().unwrap().contains(error));
    }
    let mut everything = exporter.log() + &list.body + &one.body;
    for path in ["/", "/metrics"] {
        let page = exporter.get(path).await.body;
        assert!(
            !page.contains("Access denied"),
            "messages stay out of {path}"
        );
        everything += &page;
    }
    assert!(!everything.contains(SECRET));
}

/// An estate whose partitions are protected by policies of every kind of storage, and the names
/// of those.
fn protected_estate() -> (Estate, [&'static str; 3]) {
    let mut estate = estate(1);
    let (shared, now) = (str::to_owned, clock::now());
    let storages = [
        Storage::AzureBlob {
            friendly_name: shared("blob"),
            container: shared("backups"),
        },
        Storage::FileShare {
            friendly_name: shared("share"),
            path: shared(r"\\storage\backups"),
            user: Some(shared("backup-user")),
        },
        Storage::Dsms {
            friendly_name: shared("dsms"),
            credentials_location: shared("somewhere"),
            container: shared("backups"),
        },
    ];
    let names = ["Blob", "Share", "Dsms"];
    for (name, storage) in names.into_iter().zip(storages) {
        let policy = Policy {
            name: name.to_owned(),
            auto_restore_on_data_loss: false,
            max_incremental_backups: 3,
            schedule: Schedule::Every(Duration::from_secs(3600)),
            storage,
            retention: None,
        };
        estate.add_policy(policy, now);
    }
    for (id, name) in estate.partition_ids().into_iter().zip(names.iter().cycle()) {
        estate.enable(&Entity::Partition(id), name, now).unwrap();
    }
    (estate, names)
}

/// All that it serves.
async fn all_pages(exporter: &Exporter, ids: &[Uuid]) -> String {
    let mut pages = String::new();
    for path in ["/", "/metrics", "/api/v1/partitions", "/-/ready"] {
        pages += &exporter.get(path).await.body;
        pages += &exporter.get_accepting(path, OPENMETRICS).await.body;
    }
    for id in ids {
        let one = exporter.get(&format!("/api/v1/partitions/{id}")).await;
        assert_eq!(one.status, StatusCode::OK);
        pages += &one.body;
    }
    pages
}

#[tokio::test]
async fn no_secret_of_a_policy_gets_out() {
    let (estate, names) = protected_estate();
    let ids = estate.partition_ids();
    let options = Options {
        switches: Switches {
            secrets: Secrets::Canaries,
            ..Switches::default()
        },
        ..Options::default()
    };
    let simulator = simulate(estate, options).await;
    let answer = Client::new()
        .get(format!(
            "{}/BackupRestore/BackupPolicies?api-version=6.4",
            simulator.url()
        ))
        .send();
    let told = answer.await.unwrap().text().await.unwrap();
    assert_eq!(told.matches(CANARY).count(), 3, "the cluster tells them");

    let config = format!(
        "state_file: state.json\n{}",
        clusters(&["test"], &simulator)
    );
    let setup = Setup::new(&config).flag("--log.level=debug");
    let mut exporter = setup.start().await;
    let info = "servicefabric_backup_policy_info";
    exporter
        .page_where("the policies are there", |page| {
            names
                .iter()
                .all(|name| page.value(info, &[("policy_name", name)]).is_some())
        })
        .await;
    let policies = Filter::Operation(Operation::GetBackupPolicyList);
    // Answers that break off within or behind a secret, or are something else.
    for fault in [Fault::TruncatedBody, Fault::NotJson, Fault::InternalError] {
        simulator.inject_next(2, fault, policies);
        let asked = || simulator.requests()[Operation::GetBackupPolicyList.name()];
        let before = asked();
        eventually("the faults are over", async || {
            (asked() > before + 2).then_some(())
        })
        .await;
    }
    let mut everything = all_pages(&exporter, &ids).await;
    exporter.signal("TERM");
    exporter.ended().await;
    everything += &exporter.log();
    everything += &std::fs::read_to_string(setup.file("state.json")).unwrap();
    for name in names {
        assert!(everything.contains(name), "{name} is told");
    }
    assert!(
        everything.contains("GetBackupPolicyList"),
        "so are the faults"
    );
    assert!(!everything.contains(CANARY));
}

#[tokio::test]
async fn readiness_waits_for_the_first_cycle_and_for_no_dark_cluster() {
    let simulator = simulate(estate(1), Options::default()).await;
    simulator.inject(Fault::Hang, Filter::All);
    let config = format!(
        "poll: {{interval: 5m, timeout: 5m}}\nclusters: [{{name: dark, endpoints: ['{}']}}]",
        simulator.url()
    );
    let exporter = Setup::new(&config).start().await;
    let waiting = exporter.get("/-/ready").await;
    assert_eq!(waiting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(waiting.body.contains("dark"), "{}", waiting.body);
    assert_eq!(exporter.get("/-/healthy").await.status, StatusCode::OK);
    let page = exporter.scrape().await;
    assert!(
        !page.has(UP),
        "nothing is known before the first cycle has ended"
    );
    simulator.stop().await;
    exporter.ready().await;
    let page = exporter.scrape().await;
    assert_eq!(page.value(UP, &[("cluster_name", "dark")]), Some(0.0));
    assert!(!page.has(SERVICE_UP));
}

#[tokio::test]
async fn a_cluster_that_is_lost_goes_stale_and_keeps_the_facts_of_the_past() {
    let simulator = simulate(with_history(estate(7)), Options::default()).await;
    let config = format!(
        "poll: {{interval: 1s, timeout: 1s, staleness: 3s}}\n\
         clusters: [{{name: test, endpoints: ['{}']}}]",
        simulator.url()
    );
    let exporter = Setup::new(&config).start().await;
    let before = exporter
        .page_where("the progress is there", |page| page.has(STATE))
        .await;
    simulator.stop().await;
    let after = exporter
        .page_where("the cluster is dark and the progress stale", |page| {
            page.value(UP, &[]) == Some(0.0) && !page.has(STATE)
        })
        .await;
    let names: BTreeSet<_> = after.samples.iter().map(|s| s.name.as_str()).collect();
    let of_now = names
        .iter()
        .filter(|name| name.contains("_backup_progress_"));
    assert_eq!(of_now.collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(!names.contains(SERVICE_UP));
    for name in [
        "servicefabric_backup_partition_info",
        LAST_SUCCESS,
        "servicefabric_backup_last_success_lsn",
        COMPLETIONS,
    ] {
        assert!(before.has(name));
        assert_eq!(before.all(name, &[]), after.all(name, &[]), "{name}");
    }
    let poll = "servicefabric_backup_partition_poll_timestamp_seconds";
    assert_eq!(after.all(poll, &[]).len(), 56);
    let landing = exporter.get("/").await.body;
    assert!(landing.contains("56 Unknown<br>"), "{landing}");
}

#[tokio::test]
async fn flags_have_twins_in_the_environment_and_win_over_them() {
    let simulator = simulate(estate(1), Options::default()).await;
    let setup = Setup::new(&clusters(&["test"], &simulator))
        .env("SFBE_WEB_LISTEN_ADDRESS", "127.0.0.1:0,127.0.0.1:0")
        .env("SFBE_WEB_TELEMETRY_PATH", "/from-environment")
        .env("SFBE_WEB_ENABLE_LIFECYCLE", "true")
        .env("SFBE_LOG_FORMAT", "json")
        .env("SFBE_LOG_LEVEL", "error")
        .env("SFBE_SHARD", "1")
        .env("SFBE_TOTAL_SHARDS", "2")
        .flag("--web.telemetry-path=/from-flag")
        .flag("--log.level=info");
    let exporter = setup.start().await;
    exporter.ready().await;
    let reply = exporter.get("/from-flag").await;
    assert_eq!(reply.status, StatusCode::OK);
    let page = crate::support::page::Page::parse(&reply.body);
    let shard = [("shard", "1"), ("shards", "2")];
    let info = page.value("servicefabric_backup_exporter_shard_info", &shard);
    assert_eq!(info, Some(1.0));
    let absent = exporter.get("/from-environment").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    let reloaded = exporter.send(Method::POST, "/-/reload").await;
    assert_eq!(reloaded.status, StatusCode::OK);
    for line in exporter.log().lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    }
    let addresses = exporter.addresses();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let url = format!("{address}/-/healthy");
        assert_eq!(Client::new().get(url).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn several_addresses_and_metrics_at_the_root_are_served() {
    let simulator = simulate(estate(1), Options::default()).await;
    let setup = Setup::new(&clusters(&["test"], &simulator))
        .flag("--web.listen-address=127.0.0.1:0")
        .flag("--web.listen-address=localhost:0")
        .flag("--web.telemetry-path=/");
    let exporter = setup.start().await;
    let addresses = eventually("two addresses", async || {
        Some(exporter.addresses()).filter(|addresses| addresses.len() >= 2)
    });
    for address in addresses.await {
        let page = Client::new().get(address).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert!(page.text().await.unwrap().starts_with("# HELP"));
    }
}

#[tokio::test]
async fn reloading_over_http_must_be_enabled() {
    let simulator = simulate(estate(1), Options::default()).await;
    let exporter = Setup::new(&clusters(&["test"], &simulator)).start().await;
    let refused = exporter.send(Method::POST, "/-/reload").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("--web.enable-lifecycle"));
    let got = exporter.get("/-/reload").await;
    assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
}

/// What a reload with two faults must tell.
const FAULTY: &str = "poll: {interval: 0s}\nclusters: [{name: test, endpoint: ['http://x']}]\n";

#[tokio::test]
async fn a_bad_configuration_is_told_over_http_and_the_old_one_stays() {
    let simulator = simulate(estate(1), Options::default()).await;
    let good = clusters(&["test"], &simulator);
    let setup = Setup::new(&good).flag("--web.enable-lifecycle");
    let exporter = setup.start().await;
    exporter.ready().await;
    setup.configure(FAULTY);
    let failed = exporter.send(Method::POST, "/-/reload").await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    for fault in [
        "exporter.yml:1:",
        "poll.interval",
        "exporter.yml:2:",
        "endpoint",
    ] {
        assert!(failed.body.contains(fault), "{fault}: {}", failed.body);
    }
    let page = exporter.scrape().await;
    assert_eq!(page.value(RELOADED, &[]), Some(0.0));
    assert_eq!(page.value(UP, &[("cluster_name", "test")]), Some(1.0));
    setup.configure(&good);
    let mended = exporter.send(Method::POST, "/-/reload").await;
    assert_eq!(mended.status, StatusCode::OK, "{}", mended.body);
    assert_eq!(exporter.scrape().await.value(RELOADED, &[]), Some(1.0));
}

#[tokio::test]
async fn a_hang_up_reloads_and_a_bad_configuration_changes_nothing() {
    let simulator = simulate(estate(1), Options::default()).await;
    let setup = Setup::new(&clusters(&["one"], &simulator));
    let exporter = setup.start().await;
    exporter.ready().await;
    setup.configure(FAULTY);
    exporter.signal("HUP");
    let page = exporter
        .page_where("the reload has failed", |page| {
            page.value(RELOADED, &[]) == Some(0.0)
        })
        .await;
    assert_eq!(page.value(UP, &[("cluster_name", "one")]), Some(1.0));
    exporter.logs("the current one stays in use").await;
    assert!(exporter.log().contains("poll.interval"), "the log says why");
    setup.configure(&clusters(&["one", "two"], &simulator));
    exporter.signal("HUP");
    let page = exporter
        .page_where("the second cluster is polled", |page| {
            page.value(UP, &[("cluster_name", "two")]) == Some(1.0)
        })
        .await;
    assert_eq!(page.value(RELOADED, &[]), Some(1.0));
    assert_eq!(page.value(UP, &[("cluster_name", "one")]), Some(1.0));
}

/// How many lines of the log contain all of `parts`.
fn logged(exporter: &Exporter, parts: &[&str]) -> usize {
    let log = exporter.log();
    let lines = log.lines();
    lines
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .count()
}

#[tokio::test]
async fn a_selector_that_matches_nothing_is_logged_when_that_begins_and_ends_and_shown() {
    let simulator = simulate(estate(1), Options::default()).await;
    let url = simulator.url();
    let config = |include: &str| {
        format!(
            "{FAST}clusters: [{{name: test, endpoints: ['{url}'], \
             applications: {{include: [{include}]}}}}]"
        )
    };
    let setup = Setup::new(&config("'fabric:/App1', 'fabric:/New<b>'"));
    let exporter = setup.start().await;
    exporter.ready().await;
    let begin = ["Cluster test: selectors match nothing", "fabric:/New<b>"];
    exporter.logs(begin[0]).await;
    assert_eq!(exporter.scrape().await.value(UNMATCHED, &[]), Some(1.0));
    let page = exporter.get("/").await.body;
    assert!(
        page.contains("Cluster test: selectors match nothing"),
        "{page}"
    );
    assert!(
        page.contains("fabric:/New&lt;b&gt;") && !page.contains("<b>"),
        "{page}"
    );
    // A repeated fact is logged once.
    let inventories = || simulator.requests()[Operation::GetApplicationInfoList.name()];
    let first = inventories();
    eventually("there are three more inventories", async || {
        (inventories() > first + 3).then_some(())
    })
    .await;
    assert_eq!(logged(&exporter, &begin), 1);
    simulator.with_estate(|estate| {
        let (application, service) = ("fabric:/New<b>", "fabric:/New<b>/Service");
        let one = Scheme::Singleton;
        estate.add_service(application, service, ServiceKind::Persisted, one, born());
    });
    exporter
        .logs("selectors that matched nothing match again (1); 0 still")
        .await;
    exporter
        .page_where("nothing is unmatched", |page| {
            page.value(UNMATCHED, &[]) == Some(0.0)
        })
        .await;
    let page = exporter.get("/").await.body;
    assert!(!page.contains("match nothing"), "{page}");

    setup.configure(&config("'app1', 'fabric:/None'"));
    exporter.signal("HUP");
    exporter
        .logs("no partition is watched, because none of its applications")
        .await;
    let offline = "applications.include: \\\"app1\\\" never matches";
    assert_eq!(logged(&exporter, &[offline]), 1);
    assert_eq!(logged(&exporter, &begin[..1]), 2);
    let drop = "0 partitions are watched since the reload, 3 were before it";
    exporter.logs(drop).await;
    assert_eq!(logged(&exporter, &[drop]), 1);
}

#[tokio::test]
async fn counters_and_successes_survive_a_reload_that_removes_another_cluster() {
    let mut estate = estate(1);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let setup = Setup::new(&clusters(&["kept", "gone"], &simulator)).flag("--web.enable-lifecycle");
    let exporter = setup.start().await;
    exporter.ready().await;
    simulator.with_estate(|estate| succeed_everywhere(estate, 200));
    let success = |name| [("cluster_name", name), ("outcome", "success")];
    let counted = |page: &crate::support::page::Page, name| {
        let samples = page.all(COMPLETIONS, &success(name));
        samples.iter().map(|sample| sample.value).sum::<f64>() >= 8.0
    };
    let before = exporter
        .page_where("the backups are counted", |page| {
            counted(page, "kept") && counted(page, "gone")
        })
        .await;
    // From now on only the exporter knows of the successes.
    simulator.with_estate(|estate| {
        for id in estate.partition_ids() {
            estate.conclude(id, Outcome::Never, at(300));
        }
    });
    setup.configure(&clusters(&["kept"], &simulator));
    let reloaded = exporter.send(Method::POST, "/-/reload").await;
    assert_eq!(reloaded.status, StatusCode::OK);
    let page = exporter
        .page_where("the cluster is polled again", |page| {
            let accepted = page.all(STATE, &[("state", "Accepted")]);
            accepted.len() == 8 && accepted.iter().all(|sample| sample.value > 0.0)
        })
        .await;
    assert_eq!(page.label_values("cluster_name"), ["kept"].into());
    assert!(counted(&page, "kept"));
    let versions = [
        ("route", "GetClusterVersion"),
        ("cluster_name", "kept"),
        ("status", "200"),
    ];
    let asked = |page: &crate::support::page::Page| page.value(REQUESTS, &versions);
    assert!(asked(&page) >= asked(&before), "no counter starts again");
    let last: BTreeSet<_> = page
        .all(LAST_SUCCESS, &[])
        .iter()
        .map(|sample| format!("{:.0}", sample.value))
        .collect();
    assert_eq!(last, [at(200).timestamp().to_string()].into());
}

#[tokio::test]
async fn a_fault_is_logged_when_it_begins_and_when_it_ends() {
    let simulator = simulate(with_history(estate(2)), Options::default()).await;
    let exporter = Setup::new(&clusters(&["test"], &simulator)).start().await;
    let cycles = async |count: u64| {
        let lists = || simulator.requests()[Operation::GetApplicationInfoList.name()];
        let before = lists();
        eventually("cycles pass", async || {
            (lists() >= before + count).then_some(())
        })
        .await;
    };
    exporter.ready().await;
    cycles(2).await;
    let quiet = exporter.log();
    let since = || exporter.log().split_off(quiet.len());
    cycles(3).await;
    assert_eq!(since(), "");
    let restores = Filter::Operation(Operation::GetPartitionRestoreProgress);
    simulator.inject(Fault::InternalError, restores);
    cycles(4).await;
    simulator.heal();
    exporter.logs("the collector restore succeeds again").await;
    let log = since();
    assert_eq!(log.matches("level=warn").count(), 1, "{log}");
    assert_eq!(log.lines().count(), 2, "{log}");
    simulator.inject(Fault::Forbidden, Filter::All);
    exporter.logs("Cluster test cannot be read").await;
    let asked = || simulator.requests().values().sum::<u64>();
    let before = asked();
    eventually("the outage goes on", async || {
        (asked() >= before + 3).then_some(())
    })
    .await;
    simulator.heal();
    exporter.logs("Cluster test can be read again").await;
    cycles(3).await;
    let log = since();
    // A cycle during which the outage began or ended has its own lines about collectors.
    for line in ["cannot be read", "can be read again"] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn hang_ups_during_a_long_cycle_do_not_keep_it_from_ending() {
    let options = Options {
        latency: Latency::Fixed(Duration::from_millis(100)),
        ..Options::default()
    };
    let simulator = simulate(estate(8), options).await;
    let config = format!(
        "poll: {{interval: 10m, staleness: 20m, concurrency: 4}}\n\
         clusters: [{{name: test, endpoints: ['{}']}}]",
        simulator.url()
    );
    let setup = Setup::new(&config);
    let exporter = setup.start().await;
    let mut signals = 0;
    eventually("a cycle has ended", async || {
        exporter.signal("HUP");
        signals += 1;
        (exporter.get("/-/ready").await.status == StatusCode::OK).then_some(())
    })
    .await;
    assert!(signals > 5, "{signals} signals during the cycle");
    exporter.logs("Reloaded the configuration.").await;
    let lists = simulator.requests()[Operation::GetApplicationInfoList.name()];
    assert_eq!(lists, 1, "one cycle for {signals} signals");
    let reloads = exporter
        .log()
        .matches("Reloaded the configuration.")
        .count();
    assert!(reloads < signals, "{reloads} reloads for {signals} signals");
}

#[tokio::test]
async fn every_request_to_reload_is_answered_truthfully_when_many_come_at_once() {
    let simulator = simulate(estate(1), Options::default()).await;
    let good = clusters(&["test"], &simulator);
    let setup = Setup::new(&good).flag("--web.enable-lifecycle");
    let exporter = setup.start().await;
    for (config, status) in [(&*good, 200), (FAULTY, 500), (&good, 200)] {
        setup.configure(config);
        let replies = (0..20).map(|_| exporter.send(Method::POST, "/-/reload"));
        for reply in futures_util::future::join_all(replies).await {
            assert_eq!(reply.status, status, "{}", reply.body);
        }
    }
}

#[tokio::test]
async fn a_page_of_another_site_cannot_reload() {
    let simulator = simulate(estate(1), Options::default()).await;
    let setup = Setup::new(&clusters(&["test"], &simulator)).flag("--web.enable-lifecycle");
    let exporter = setup.start().await;
    let address = exporter.addresses()[0].clone();
    let post = async |headers: &[(&str, &str)]| {
        let mut request = Client::new().post(format!("{address}/-/reload"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site"), ("origin", &address)],
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
    ] {
        let (status, body) = post(headers).await;
        assert_eq!(status, 403, "{headers:?}");
        assert!(body.contains("Cross-site request"), "{body}");
    }
    assert!(!exporter.log().contains("Reloaded"));
    for headers in [
        &[][..],
        &[("sec-fetch-site", "same-origin"), ("origin", &address)],
        &[("sec-fetch-site", "none")],
        &[("origin", &address)],
    ] {
        assert_eq!(post(headers).await.0, 200, "{headers:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_exporter_whose_log_cannot_be_written_serves_and_ends_in_order() {
    use std::process::{Command, Stdio};

    let simulator = simulate(estate(1), Options::default()).await;
    for redirection in ["2>/dev/full", "2>&-", ">/dev/full 2>&1"] {
        let setup = Setup::new(&clusters(&["test"], &simulator));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec \"$0\" \"$@\" {redirection}")])
            .arg(env!("CARGO_BIN_EXE_servicefabric-backup-exporter"))
            .arg(format!(
                "--config.file={}",
                setup.file("exporter.yml").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=debug")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let ready = format!("http://{address}/-/ready");
        eventually("a cycle has ended", async || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{redirection}: {ended:?}");
            let reply = Client::new().get(&ready).send().await.ok()?;
            (reply.status() == StatusCode::OK).then_some(())
        })
        .await;
        let kill = format!("kill -TERM {}", child.id());
        Command::new("sh").args(["-c", &kill]).status().unwrap();
        let status = eventually("it ends", async || child.try_wait().unwrap()).await;
        assert_eq!(status.code(), Some(0), "{redirection}");
    }
}

#[tokio::test]
async fn an_answer_under_way_is_finished_before_the_end() {
    let (_simulator, mut exporter) = started_with_a_large_page("--log.level=info").await;
    let mut scrape = begin_to_scrape(&exporter).await;
    exporter.signal("TERM");
    exporter.logs("Stopping.").await;
    let mut rest = Vec::new();
    scrape.read_to_end(&mut rest).await.unwrap();
    let rest = String::from_utf8(rest).unwrap();
    let (head, body) = rest.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    assert_eq!(length.unwrap(), body.len().to_string());
    assert!(body.len() > 4 * 1024 * 1024, "larger than the buffers");
    assert_eq!(exporter.ended().await.code(), Some(0));
    exporter.logs("msg=Stopped.").await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (_simulator, mut exporter) = started_with_a_large_page("--log.level=info").await;
    let _scrape = begin_to_scrape(&exporter).await;
    exporter.signal("TERM");
    exporter.logs("Stopping.").await;
    exporter.signal("INT");
    assert_eq!(exporter.ended().await.code(), Some(0));
    exporter.logs("Stopped at once").await;
    assert!(
        !exporter.log().contains("still busy"),
        "it was cut by the signal"
    );
}

#[tokio::test]
async fn a_cluster_that_hangs_does_not_hold_the_end_up() {
    let simulator = simulate(estate(1), Options::default()).await;
    simulator.inject(Fault::Hang, Filter::All);
    let config = format!(
        "poll: {{interval: 1h, timeout: 1h, staleness: 1h}}\n\
         clusters: [{{name: test, endpoints: ['{}']}}]",
        simulator.url()
    );
    let exporter = Setup::new(&config).start().await;
    eventually("a request hangs", async || {
        (simulator.in_flight() > 0).then_some(())
    })
    .await;
    exporter.stop().await;
}

#[tokio::test]
async fn an_idle_exporter_ends_cleanly_and_takes_no_connection_any_more() {
    let (_simulator, exporter) = started().await;
    let address = exporter.addresses()[0].clone();
    exporter.stop().await;
    let refused = Client::new().get(format!("{address}/-/healthy")).send();
    assert!(refused.await.unwrap_err().is_connect());
}
