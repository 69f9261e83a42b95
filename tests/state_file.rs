//! What the program remembers over restarts, clean ones and others.
//!
//! The state file is read here by the library itself, which sets a damaged one aside: a file with
//! `damaged` in its name is the proof that one was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::page::Page;
use crate::support::process::{Exporter, Setup};
use crate::support::{PATIENCE, at, estate, simulate, succeed_everywhere};
use reqwest::Method;
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::simulator::{Estate, Options, Outcome, Simulator};
use servicefabric_backup_exporter::state_file;
use tokio::time::interval;

const UP: &str = "servicefabric_backup_cluster_up";
const LAST_SUCCESS: &str = "servicefabric_backup_last_success_timestamp_seconds";
const WRITTEN: &str = "servicefabric_backup_exporter_state_file_last_write_successful";
const WRITTEN_AT: &str =
    "servicefabric_backup_exporter_state_file_last_write_success_timestamp_seconds";
const CYCLES: &str = "servicefabric_backup_gateway_requests_total";
const VERSION: &str = "GetClusterVersion";
const COMPLETIONS: &str = "servicefabric_backup_observed_completions_total";

/// Lets the program replace the shell that has prepared something for it.
const EXEC: &str = r#"exec "$0" "$@""#;

/// How often the exporter is killed.
const KILLS: usize = 15;

/// Newest successes, by partition.
type Successes = BTreeMap<String, i64>;

/// An exporter of this gateway with a state file.
fn remembering(simulator: &Simulator) -> Setup {
    Setup::new(&config(simulator, "state.json"))
}

fn config(simulator: &Simulator, state_file: &str) -> String {
    format!(
        "poll: {{interval: 1s, timeout: 1s}}\nstate_file: {state_file}\n\
         clusters: [{{name: test, endpoints: ['{}']}}]\n",
        simulator.url()
    )
}

async fn all_succeeded(partitions: usize) -> Simulator {
    let mut estate = estate(partitions);
    succeed_everywhere(&mut estate, 100);
    simulate(estate, Options::default()).await
}

fn exposed(page: &Page) -> Successes {
    let samples = page.all(LAST_SUCCESS, &[]).into_iter();
    samples
        .map(|sample| {
            let seconds = format!("{:.0}", sample.value).parse().unwrap();
            (sample.labels["partition_id"].clone(), seconds)
        })
        .collect()
}

/// What the state file of `folder` remembers.
fn remembered(folder: &Path) -> Successes {
    let loaded = state_file::load(&folder.join("state.json"), clock::now()).unwrap();
    assert!(loaded.damage.is_none(), "{:?}", loaded.damage);
    let clusters = loaded.clusters.values();
    let partitions = clusters.flat_map(|snapshot| &snapshot.partitions);
    partitions
        .filter_map(|(id, known)| Some((id.to_string(), known.last_success.as_ref()?.at)))
        .map(|(id, at)| (id, at.timestamp()))
        .collect()
}

/// Files of `folder` with `part` in their names.
fn files(folder: &Path, part: &str) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(part)).collect()
}

/// Completed backups of every kind and service.
fn completions(page: &Page) -> u64 {
    let samples = page.all(COMPLETIONS, &[]);
    let sum: f64 = samples.iter().map(|sample| sample.value).sum();
    format!("{sum:.0}").parse().unwrap()
}

/// Lets a later request take every success away from the cluster.
fn erase(estate: &mut Estate) {
    for id in estate.partition_ids() {
        estate.conclude(id, Outcome::Never, at(300));
    }
}

#[tokio::test]
async fn successes_survive_an_orderly_restart() {
    let simulator = all_succeeded(2).await;
    let setup = remembering(&simulator);
    let exporter = setup.start().await;
    exporter.ready().await;
    let before = exposed(&exporter.scrape().await);
    assert_eq!(before.len(), 16);
    exporter.stop().await;
    simulator.with_estate(erase);
    let exporter = setup.start().await;
    exporter.ready().await;
    assert_eq!(exposed(&exporter.scrape().await), before);
}

#[tokio::test]
async fn a_restart_while_the_cluster_is_dark_still_tells_the_successes() {
    let simulator = all_succeeded(2).await;
    let setup = remembering(&simulator);
    let exporter = setup.start().await;
    exporter.ready().await;
    let before = exposed(&exporter.scrape().await);
    exporter.stop().await;
    simulator.stop().await;
    let exporter = setup.start().await;
    exporter.ready().await;
    let page = exporter.scrape().await;
    assert_eq!(page.value(UP, &[]), Some(0.0));
    assert_eq!(exposed(&page), before);
    assert_eq!(before.len(), 16);
    assert!(!page.has("servicefabric_backup_progress_state"));
    assert_eq!(
        page.all("servicefabric_backup_partition_info", &[]).len(),
        16
    );
}

#[tokio::test]
async fn a_backup_that_ended_while_the_exporter_was_down_is_counted() {
    let simulator = all_succeeded(2).await;
    let setup = remembering(&simulator);
    let exporter = setup.start().await;
    exporter.ready().await;
    assert_eq!(completions(&exporter.scrape().await), 0, "only a baseline");
    exporter.stop().await;
    simulator.with_estate(|estate| {
        let ids = estate.partition_ids();
        estate.conclude(ids[0], Outcome::Success, at(200));
        estate.conclude(ids[1], Outcome::Timeout, at(200));
    });
    let exporter = setup.start().await;
    exporter.ready().await;
    let page = exporter.scrape().await;
    assert_eq!(completions(&page), 2);
    let timed_out = page.all(COMPLETIONS, &[("outcome", "timeout")]);
    let timed_out: Vec<_> = timed_out.iter().filter(|one| one.value > 0.0).collect();
    assert_eq!(timed_out.len(), 1);
    exporter.stop().await;
    let exporter = setup.start().await;
    exporter.ready().await;
    assert_eq!(completions(&exporter.scrape().await), 2, "and only once");
}

#[tokio::test]
async fn a_state_file_that_is_not_understood_is_set_aside() {
    let simulator = all_succeeded(1).await;
    for (content, told) in [
        ("{\"version\":1,\"clusters\":{\"te", "it is damaged"),
        ("not ours at all", "it is damaged, or not a state file"),
        ("{\"version\":7}", "it has format version 7"),
    ] {
        let setup = remembering(&simulator);
        fs::write(setup.file("state.json"), content).unwrap();
        let exporter = setup.start().await;
        exporter.ready().await;
        let aside = files(setup.folder(), "damaged");
        let [aside] = aside.as_slice() else {
            panic!("one file is set aside: {aside:?}");
        };
        assert_eq!(fs::read_to_string(setup.file(aside)).unwrap(), content);
        let log = exporter.log();
        let line = log.lines().find(|line| line.contains("level=error"));
        let line = line.unwrap();
        assert!(
            line.contains(told) && line.contains(aside.as_str()),
            "{line}"
        );
        assert_eq!(exposed(&exporter.scrape().await).len(), 8);
        exporter.stop().await;
        assert_eq!(remembered(setup.folder()).len(), 8, "a new one is written");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_to_costs_only_the_memory() {
    let simulator = all_succeeded(1).await;
    let setup = Setup::new(&config(&simulator, "no/such/folder/state.json"));
    let exporter = setup.start().await;
    exporter.logs("Cannot write the state file").await;
    let log = exporter.log();
    let line = log.lines().find(|line| line.contains("Cannot write"));
    let line = line.unwrap();
    assert!(line.contains("level=error") && line.contains("no/such/folder/state.json"));
    exporter.ready().await;
    let page = exporter.scrape().await;
    assert_eq!(exposed(&page).len(), 8);
    assert_eq!(page.value(WRITTEN, &[]), Some(0.0));
    assert!(!page.has(WRITTEN_AT));
    // Many writes fail before one succeeds.
    let cycles = |page: &Page| page.value(CYCLES, &[("route", VERSION), ("status", "200")]);
    let first = cycles(&page).unwrap();
    let later = |page: &Page| cycles(page) >= Some(first + 3.0);
    exporter.page_where("more cycles end", later).await;
    fs::create_dir_all(setup.file("no/such/folder")).unwrap();
    exporter.logs("is written again").await;
    let written = |page: &Page| page.value(WRITTEN, &[]) == Some(1.0);
    let page = exporter.page_where("the metric turns", written).await;
    assert!(page.value(WRITTEN_AT, &[]) > Some(1_700_000_000.0));
    assert_eq!(exporter.log().matches("Cannot write").count(), 1);
    exporter.stop().await;
}

#[tokio::test]
async fn the_metrics_of_the_state_file_are_absent_without_one() {
    let simulator = all_succeeded(1).await;
    let setup = Setup::new(&config(&simulator, "''")).flag("--web.enable-lifecycle");
    let exporter = setup.start().await;
    exporter.ready().await;
    assert!(!exporter.scrape().await.has(WRITTEN));
    setup.configure(&config(&simulator, "state.json"));
    exporter.send(Method::POST, "/-/reload").await;
    let written = |page: &Page| page.value(WRITTEN, &[]) == Some(1.0);
    exporter.page_where("the file is written", written).await;
    setup.configure(&config(&simulator, "''"));
    exporter.send(Method::POST, "/-/reload").await;
    let absent = |page: &Page| !page.has(WRITTEN) && !page.has(WRITTEN_AT);
    exporter.page_where("the metrics are absent", absent).await;
    exporter.stop().await;
}

#[tokio::test]
async fn a_named_pipe_or_a_device_blocks_neither_start_nor_end() {
    let simulator = all_succeeded(1).await;
    for make in ["mkfifo state.json", "ln -s /dev/zero state.json"] {
        let setup = remembering(&simulator);
        let folder = setup.folder().display().to_string();
        let setup = setup.launched_by(&format!("cd '{folder}' && {make} && {EXEC}"));
        let exporter = setup.start().await;
        exporter.logs("not a regular file").await;
        exporter.ready().await;
        let page = exporter.scrape().await;
        assert_eq!(exposed(&page).len(), 8);
        assert_eq!(page.value(WRITTEN, &[]), Some(0.0));
        exporter.stop().await;
        assert_eq!(files(setup.folder(), "damaged"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_limit_on_the_size_of_files_does_not_kill_and_leaves_nothing_behind() {
    let simulator = all_succeeded(20).await;
    let setup = remembering(&simulator).launched_by(&format!("ulimit -f 8 && {EXEC}"));
    let exporter = setup.start().await;
    exporter.logs("Cannot write the state file").await;
    exporter.ready().await;
    let failed = |page: &Page| page.value(WRITTEN, &[]) == Some(0.0);
    exporter.page_where("the write fails", failed).await;
    exporter.stop().await;
    assert_eq!(files(setup.folder(), "tmp"), Vec::<String>::new());
    // The first write, before anything was known, was small enough.
    assert_eq!(remembered(setup.folder()), Successes::new());
}

#[tokio::test]
async fn a_second_exporter_on_the_same_file_refuses_to_start() {
    let simulator = all_succeeded(1).await;
    let setup = remembering(&simulator).flag("--web.enable-lifecycle");
    let first = setup.start().await;
    first.ready().await;
    let mut second = setup.spawn();
    assert_eq!(second.ended().await.code(), Some(1));
    let log = second.log();
    assert!(log.contains("in use by another exporter"), "{log}");
    assert!(log.contains("state.json.lock"), "{log}");
    // By another name of the same file as well, and by a reload.
    std::os::unix::fs::symlink("state.json", setup.file("link.json")).unwrap();
    let other = Setup::new(&config(&simulator, "''")).flag("--web.enable-lifecycle");
    let third = other.start().await;
    let link = setup.file("link.json").display().to_string();
    other.configure(&config(&simulator, &link));
    let refused = third.send(Method::POST, "/-/reload").await;
    assert_eq!(refused.status, 500);
    assert!(refused.body.contains("in use by another exporter"));
    // The one that holds it may reload.
    let reloaded = first.send(Method::POST, "/-/reload").await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.body);
    // A crash leaves the lock file, and no lock.
    first.kill();
    let taken_over = third.send(Method::POST, "/-/reload").await;
    assert_eq!(taken_over.status, 200, "{}", taken_over.body);
    third.stop().await;
    setup.start().await.stop().await;
}

#[tokio::test]
async fn a_mounted_file_is_written_in_place() {
    let simulator = all_succeeded(2).await;
    let setup = remembering(&simulator);
    for name in ["source", "state.json"] {
        fs::write(setup.file(name), "").unwrap();
    }
    let folder = setup.folder().display().to_string();
    let mount = format!("cd \"{folder}\" && mount --bind source state.json");
    let mut trial = Command::new("unshare");
    trial.args(["--mount", "sh", "-c", &mount]);
    if !trial.status().is_ok_and(|status| status.success()) {
        // Mounting needs privileges.
        return;
    }
    let script =
        format!("exec unshare --mount sh -c '{mount} && exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    let setup = setup.launched_by(&script);
    let exporter = setup.start().await;
    exporter.ready().await;
    let written = |page: &Page| page.value(WRITTEN, &[]) == Some(1.0);
    let page = exporter.page_where("the file is written", written).await;
    let log = exporter.log();
    assert!(!log.contains("level=error"), "{log}");
    exporter.stop().await;
    assert_eq!(files(setup.folder(), "tmp"), Vec::<String>::new());
    fs::rename(setup.file("source"), setup.file("state.json")).unwrap();
    assert_eq!(remembered(setup.folder()), exposed(&page));
    assert_eq!(exposed(&page).len(), 16);
}

#[tokio::test]
async fn a_success_that_the_file_dates_in_the_future_is_not_trusted_until_a_real_one_comes() {
    let mut simulator_estate = estate(1);
    erase(&mut simulator_estate);
    let simulator = simulate(simulator_estate, Options::default()).await;
    let setup = remembering(&simulator);
    let ids = simulator.with_estate(|estate| estate.partition_ids());
    let tomorrow = clock::now() + chrono::TimeDelta::days(1);
    let entries = ids.iter().map(|id| {
        format!(
            r#"{{"id":"{id}","known_since":"2025-01-01T00:00:00Z","last_success":{{"at":"{}"}}}}"#,
            tomorrow.to_rfc3339()
        )
    });
    let entries: Vec<String> = entries.collect();
    let entries = entries.join(",");
    let version_1 = format!(
        r#"{{"version":1,"clusters":{{"test":{{"partitions":[{entries}],"services":[]}}}}}}"#
    );
    fs::write(setup.file("state.json"), version_1).unwrap();
    let exporter = setup.start().await;
    assert_eq!(exposed(&exporter.scrape().await), Successes::new());
    exporter.ready().await;
    let page = exporter.scrape().await;
    assert_eq!(exposed(&page), Successes::new());
    let protected = page.all(
        "servicefabric_backup_protection_state",
        &[("state", "Protected")],
    );
    assert!(protected.iter().all(|sample| sample.value < 1.0));
    let succeeded_at = clock::now();
    simulator.with_estate(|estate| {
        for id in ids {
            estate.conclude(id, Outcome::Success, succeeded_at);
        }
    });
    let replaced = |page: &Page| {
        let exposed = exposed(page);
        exposed.len() == 8 && exposed.values().all(|at| *at == succeeded_at.timestamp())
    };
    exporter
        .page_where("the real ones are shown", replaced)
        .await;
    exporter.stop().await;
    assert_eq!(remembered(setup.folder()).len(), 8);
}

#[tokio::test]
async fn what_can_be_neither_used_nor_set_aside_is_left_alone() {
    let simulator = all_succeeded(1).await;
    // The one is in a folder that is none, the other is a folder.
    for (path, obstacle) in [("plain/state.json", "plain"), ("folder", "folder/inside")] {
        let setup = Setup::new(&config(&simulator, path)).flag("--web.enable-lifecycle");
        fs::create_dir(setup.file("folder")).unwrap();
        fs::write(setup.file(obstacle), "as it was").unwrap();
        let exporter = setup.start().await;
        exporter.logs("is not used").await;
        exporter.ready().await;
        let reloaded = exporter.send(Method::POST, "/-/reload").await;
        assert_eq!(reloaded.status, 200);
        assert_eq!(exposed(&exporter.scrape().await).len(), 8);
        let log = exporter.log();
        exporter.stop().await;
        assert_eq!(log.matches("is not used").count(), 2, "tried again: {log}");
        assert!(!log.contains("Cannot write"), "{log}");
        let content = fs::read_to_string(setup.file(obstacle)).unwrap();
        assert_eq!(content, "as it was");
    }
}

/// Backups that succeed all the time, one partition after the other.
async fn keep_backing_up(simulator: Arc<Simulator>) {
    let ids = simulator.with_estate(|estate| estate.partition_ids());
    let mut pace = interval(Duration::from_millis(10));
    for id in ids.into_iter().cycle() {
        pace.tick().await;
        simulator.with_estate(|estate| estate.conclude(id, Outcome::Success, clock::now()));
    }
}

/// Asks without a pause, because what it waits for lasts no longer than that.
async fn watch_closely<T: Send + 'static>(
    what: &str,
    ask: impl Fn() -> Option<T> + Send + 'static,
) -> T {
    let watching = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = ask();
            if answer.is_some() || Instant::now() > deadline {
                return answer;
            }
            thread::yield_now();
        }
    });
    watching.await.unwrap().expect(what)
}

/// Waits for the moment at which round `round` kills the exporter: while the state file is being
/// written, when another one is there, or after any number of scrapes.
async fn moment(round: usize, setup: &Setup, exporter: &Exporter) {
    let file = setup.file("state.json");
    match round % 3 {
        0 => {
            let temporary = setup.file("state.json.tmp");
            let written = move || temporary.exists().then_some(());
            watch_closely("the state file is written", written).await;
        }
        1 => {
            let before = fs::read(&file).ok();
            let read = move || fs::read(&file).ok();
            let other = move || read().filter(|now| Some(now) != before.as_ref());
            let other = watch_closely("the state file is replaced", other).await;
            let copy = setup.file("copy.json");
            fs::write(&copy, other).unwrap();
            let loaded = state_file::load(&copy, clock::now()).unwrap();
            assert!(loaded.damage.is_none(), "it was whole at once");
        }
        _ => {
            for _ in 0..fastrand::usize(0..20) {
                exporter.scrape().await;
            }
        }
    }
}

/// Nothing that was known is missing or older.
fn assert_not_behind(now: &Successes, before: &Successes, when: &str) {
    for (id, at) in before {
        assert!(now.get(id) >= Some(at), "{when}: {id} fell behind {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_at_any_moment_damages_the_file_or_takes_a_success_away() {
    let simulator = Arc::new(simulate(estate(4), Options::default()).await);
    let backups = tokio::spawn(keep_backing_up(Arc::clone(&simulator)));
    let setup = remembering(&simulator);
    let (mut before, started) = (Successes::new(), clock::now().timestamp());
    for round in 0..KILLS {
        let exporter = setup.start().await;
        // Taken before the first cycle or after it: the memory is there at once.
        let at_start = exposed(&exporter.scrape().await);
        assert_not_behind(&at_start, &before, "at the start");
        moment(round, &setup, &exporter).await;
        exporter.kill();
        let after = remembered(setup.folder());
        assert_eq!(files(setup.folder(), "damaged"), Vec::<String>::new());
        assert_not_behind(&after, &before, "after the kill");
        before = after;
    }
    backups.abort();
    assert_eq!(before.len(), 32);
    let newest = before.values().max();
    assert!(newest > Some(&started), "backups went on: {before:?}");
}

#[tokio::test]
async fn a_reload_that_names_a_state_file_takes_in_what_it_remembers() {
    let simulator = all_succeeded(2).await;
    let setup = remembering(&simulator).flag("--web.enable-lifecycle");
    let exporter = setup.start().await;
    exporter.ready().await;
    let before = exposed(&exporter.scrape().await);
    exporter.stop().await;
    simulator.with_estate(erase);
    let with_memory = config(&simulator, "state.json");
    setup.configure(
        &with_memory
            .replace("name: test", "name: other")
            .replace("state.json", "''"),
    );
    let exporter = setup.start().await;
    exporter.ready().await;
    assert_eq!(exposed(&exporter.scrape().await), Successes::new());
    setup.configure(&with_memory);
    let reloaded = exporter.send(Method::POST, "/-/reload").await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.body);
    assert_eq!(exposed(&exporter.scrape().await), before);
    exporter.stop().await;
    assert_eq!(remembered(setup.folder()), before);
}
