//! A resolver that hangs until the test releases it.

use std::collections::BTreeMap;
use std::sync::{Condvar, PoisonError};

use futures_util::future::join_all;
use tokio::runtime::Builder;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::*;
use crate::gateway::connections::client_builder;

const DEADLINE: Duration = Duration::from_secs(60);

/// A system resolver under the control of a test: hosts whose name begins with `slow` hang until
/// they are released, hosts whose name begins with `bad` fail.
#[derive(Clone, Default)]
struct System(Arc<(Mutex<Calls>, Condvar)>);

#[derive(Default)]
struct Calls {
    made: BTreeMap<String, usize>,
    running: usize,
    most: usize,
    released: bool,
}

impl System {
    fn resolver(&self, fast: usize, threads: usize, slow_after: Duration) -> Resolver {
        let system = self.clone();
        let limits = Limits {
            fast,
            threads,
            slow_after,
        };
        Resolver::new(limits, move |host| system.lookup(host))
    }

    fn lookup(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let (calls, changed) = &*self.0;
        let mut calls = lock(calls);
        *calls.made.entry(host.to_owned()).or_default() += 1;
        calls.running += 1;
        calls.most = calls.most.max(calls.running);
        while host.starts_with("slow") && !calls.released {
            calls = changed.wait(calls).unwrap_or_else(PoisonError::into_inner);
        }
        calls.running -= 1;
        if host.starts_with("bad") {
            return Err(io::Error::other("no such host"));
        }
        Ok(vec![([127, 0, 0, 1], 0).into()])
    }

    fn release(&self) {
        lock(&self.0.0).released = true;
        self.0.1.notify_all();
    }

    fn made(&self, host: &str) -> usize {
        lock(&self.0.0).made.get(host).copied().unwrap_or_default()
    }

    fn running(&self) -> usize {
        lock(&self.0.0).running
    }

    async fn until_running(&self, count: usize) {
        let reached = async {
            while self.running() != count {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = timeout(DEADLINE, reached).await;
        assert!(waited.is_ok(), "{} of {count} run", self.running());
    }
}

#[tokio::test]
async fn callers_share_one_lookup_and_its_result() {
    for callers in [1, 2, 7, 200] {
        let system = System::default();
        let resolver = system.resolver(2, 8, DEADLINE);
        let mut calls = JoinSet::new();
        for _ in 0..callers {
            let resolver = resolver.clone();
            calls.spawn(async move { resolver.addresses("slow").await.unwrap() });
        }
        system.until_running(1).await;
        system.release();
        for addresses in calls.join_all().await {
            assert_eq!(*addresses, [([127, 0, 0, 1], 0).into()]);
        }
        resolver.addresses("slow").await.unwrap();
        assert_eq!(system.made("slow"), 1, "{callers}");
    }
}

#[tokio::test]
async fn a_failure_is_shared_by_its_callers_and_not_cached() {
    let system = System::default();
    let resolver = system.resolver(2, 8, DEADLINE);
    for round in 1..4 {
        let calls = (0..5).map(|_| resolver.addresses("bad"));
        for answer in join_all(calls).await {
            assert!(answer.unwrap_err().to_string().contains("no such host"));
        }
        assert_eq!(system.made("bad"), round);
    }
}

#[tokio::test]
async fn concurrent_lookups_are_limited() {
    for (fast, threads) in [(1, 8), (3, 8), (8, 3)] {
        let system = System::default();
        let resolver = system.resolver(fast, threads, DEADLINE);
        let hosts: Vec<String> = (0..20).map(|number| format!("slow-{number}")).collect();
        let calls = join_all(hosts.iter().map(|host| resolver.addresses(host)));
        let release = async {
            system.until_running(fast.min(threads)).await;
            system.release();
        };
        let (answers, ()) = tokio::join!(calls, release);
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(lock(&system.0.0).most, fast.min(threads));
    }
}

#[tokio::test]
async fn hosts_that_hang_forever_do_not_starve_others() {
    let system = System::default();
    let resolver = system.resolver(2, 64, Duration::from_millis(5));
    let mut calls = JoinSet::new();
    for number in 0..20 {
        let resolver = resolver.clone();
        calls.spawn(async move { resolver.addresses(&format!("slow-{number}")).await });
    }
    for number in 0..20 {
        let host = format!("well-{number}");
        let answer = timeout(DEADLINE, resolver.addresses(&host)).await;
        answer.expect("a healthy host is resolved").unwrap();
    }
    system.until_running(20).await;
    // Callers that come while a lookup hangs join it.
    let late = timeout(Duration::from_millis(20), resolver.addresses("slow-3")).await;
    assert!(late.is_err());
    assert_eq!(system.made("slow-3"), 1);
    system.release();
    assert!(calls.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_lookup_continues_after_its_caller_is_cancelled() {
    let system = System::default();
    let resolver = system.resolver(1, 8, DEADLINE);
    let call = timeout(Duration::from_millis(5), resolver.addresses("slow")).await;
    assert!(call.is_err());
    system.until_running(1).await;
    system.release();
    resolver.addresses("slow").await.unwrap();
    assert_eq!(system.made("slow"), 1);
}

#[tokio::test]
async fn a_lookup_that_panics_is_an_error_and_can_be_repeated() {
    let limits = Limits { fast: 1, ..LIMITS };
    let resolver = Resolver::new(limits, |_| panic!("injected by the test"));
    for _ in 0..3 {
        let answer = timeout(DEADLINE, resolver.addresses("host")).await.unwrap();
        assert!(answer.unwrap_err().to_string().contains("panicked"));
    }
}

#[test]
fn a_lookup_that_hangs_delays_neither_shutdown_nor_later_lookups() {
    let system = System::default();
    let resolver = system.resolver(1, 8, DEADLINE);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let call =
        runtime.block_on(async { timeout(Duration::ZERO, resolver.addresses("slow")).await });
    assert!(call.is_err());
    drop(runtime);
    system.release();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(resolver.addresses("slow")).unwrap();
}

/// Pages are encoded in the blocking threads of the runtime; here there is one.
#[test]
fn pages_are_encoded_while_the_lookups_of_all_clusters_hang() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let system = System::default();
        let resolver = system.resolver(8, 64, Duration::from_millis(5));
        let mut calls = JoinSet::new();
        for number in 0..20 {
            let client = client_builder(DEADLINE).tls_certs_only([]);
            let client = client.dns_resolver(resolver.clone()).build().unwrap();
            let url = format!("http://slow-{number}.invalid:19080/");
            calls.spawn(async move { client.get(url).send().await });
        }
        system.until_running(20).await;
        let page = timeout(DEADLINE, spawn_blocking(|| "page")).await;
        assert_eq!(page.expect("a page is encoded").unwrap(), "page");
        calls.shutdown().await;
        system.release();
    });
}

/// Conversely, busy blocking threads do not delay lookups.
#[test]
fn lookups_do_not_use_the_blocking_threads() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (release, hanging) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let blocked = spawn_blocking(move || hanging.recv());
        let client = client_builder(DEADLINE).tls_certs_only([]).build().unwrap();
        let call = client.get("http://localhost:1/").send();
        let error = timeout(DEADLINE, call).await.expect("it is resolved");
        assert!(error.unwrap_err().is_connect());
        let url = "http://localhost:1/".parse().unwrap();
        let found = timeout(DEADLINE, addresses(&url)).await.unwrap().unwrap();
        assert!(found.iter().all(|address| address.port() == 1));
        drop(release);
        blocked.await.unwrap().unwrap_err();
    });
}
