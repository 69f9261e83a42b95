//! Names and passwords.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use servicefabric_backup_exporter::server::listener::Limits;
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::basic;
use crate::{ENCRYPTED, Http1, Served, limits, within_deadline};

/// The address of a guesser by its number.
type Source = fn(u8) -> Ipv4Addr;

/// Guesses one password after the other, on one connection from `source`; counts those that were
/// compared.
async fn guess(address: SocketAddr, source: Ipv4Addr, compared: Arc<AtomicUsize>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let mut client = Http1::over(stream).await.unwrap();
    loop {
        let number = compared.load(Ordering::Relaxed);
        let guess = basic("alice", &format!("{source} {number} {}", fastrand::u64(..)));
        let answer = client.get("/", Some(&guess)).await.unwrap();
        assert!(matches!(answer.status, 401 | 429), "{answer:?}");
        compared.fetch_add(usize::from(answer.status == 401), Ordering::Relaxed);
    }
}

/// The hash of a password, cheap to compare with, spelled as this version of bcrypt.
fn hash(password: &str, version: &str) -> String {
    bcrypt::hash(password, 4)
        .unwrap()
        .replacen("2b", version, 1)
}

fn users(users: &[(&str, &str)]) -> String {
    let lines = users
        .iter()
        .map(|(user, hash)| format!("  {user}: {hash}\n"));
    format!("basic_auth_users:\n{}", lines.collect::<String>())
}

#[tokio::test]
async fn only_a_user_with_the_right_password_comes_in() {
    let config = users(&[
        ("alice", &hash("alice's", "2y")),
        ("bob", &hash("bob's", "2a")),
        ("carol", &hash("", "2b")),
    ]);
    for encrypted in [false, true] {
        let tls = if encrypted { ENCRYPTED } else { "" };
        let served = Served::start(&format!("{tls}{config}"));
        for (user, password, status) in [
            ("alice", "alice's", 200),
            ("bob", "bob's", 200),
            ("carol", "", 200),
            ("alice", "bob's", 401),
            ("alice", "", 401),
            ("Alice", "alice's", 401),
            ("dave", "alice's", 401),
            ("", "alice's", 401),
        ] {
            for cached in [false, true] {
                let header = basic(user, password);
                let told = if encrypted {
                    let client = served.client(None);
                    let answer = client.get(served.address, "/", Some(&header)).await;
                    answer.unwrap().status
                } else {
                    served.plain_status("/", Some(&header)).await
                };
                assert_eq!(told, status, "{user}:{password} {encrypted} {cached}");
            }
        }
    }
}

#[tokio::test]
async fn a_password_is_asked_for_on_every_path() {
    let served = Served::start(&users(&[("alice", &hash("right", "2y"))]));
    for path in ["/", "/slow", "/nowhere", "/-/healthy"] {
        let mut client = Http1::plain(served.address).await.unwrap();
        let answer = client.get(path, None).await.unwrap();
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Basic"));
        assert!(!answer.body.contains("alice"), "{}", answer.body);
    }
}

#[tokio::test]
async fn what_is_no_name_with_a_password_is_refused() {
    let served = Served::start(&users(&[("alice", &hash("right", "2y"))]));
    let right = basic("alice", "right");
    let (_, encoded) = right.split_once(' ').unwrap();
    assert_eq!(
        served
            .plain_status("/", Some(&format!("bAsIc {encoded}")))
            .await,
        200
    );
    for header in [
        "",
        "Basic",
        "Basic ",
        "Basic *",
        encoded,
        &format!("Bearer {encoded}"),
        &format!("Basic  {encoded}"),
        &format!("Basic {encoded}="),
        "Basic YWxpY2U=", // A name alone.
        "Basic /////w==", // No UTF-8, and no colon.
    ] {
        assert_eq!(
            served.plain_status("/", Some(header)).await,
            401,
            "{header}"
        );
    }
}

#[tokio::test]
async fn many_logins_at_a_time_are_each_judged_rightly() {
    let served = Arc::new(Served::start(&users(&[("alice", &hash("right", "2y"))])));
    let mut logins = JoinSet::new();
    // One refused for now would be told to come again.
    let at_a_time = Arc::new(Semaphore::new(16));
    for number in 0..300 {
        let (served, at_a_time) = (Arc::clone(&served), Arc::clone(&at_a_time));
        logins.spawn(async move {
            let _permit = at_a_time.acquire().await.unwrap();
            let (header, status) = match number % 3 {
                0 => (basic("alice", "right"), 200),
                1 => (basic("alice", "wrong"), 401),
                _ => (basic("alice", &number.to_string()), 401),
            };
            assert_eq!(served.plain_status("/", Some(&header)).await, status);
        });
    }
    while let Some(login) = logins.join_next().await {
        login.unwrap();
    }
}

#[tokio::test]
async fn guesses_beyond_those_that_may_wait_are_told_to_come_again() {
    let dear = bcrypt::hash("right", 6).unwrap();
    let few = Limits {
        connections: 64,
        ..limits()
    };
    let served = Arc::new(Served::limited(&users(&[("alice", &dear)]), few));
    let mut guesses = JoinSet::new();
    for number in 0..60 {
        let served = Arc::clone(&served);
        guesses.spawn(async move {
            let mut client = Http1::plain(served.address).await.unwrap();
            let header = basic("alice", &number.to_string());
            client.get("/", Some(&header)).await.unwrap()
        });
    }
    let mut told = 0;
    while let Some(answer) = guesses.join_next().await {
        let answer = answer.unwrap();
        let again = answer.header("retry-after");
        assert!(
            matches!((answer.status, again), (401, None) | (429, Some("1"))),
            "{answer:?}"
        );
        told += u32::from(answer.status == 429);
    }
    assert!(told > 0);
    let right = basic("alice", "right");
    assert_eq!(served.plain_status("/", Some(&right)).await, 200);
}

#[tokio::test]
async fn a_right_password_is_accepted_while_others_are_guessed_after_a_restart() {
    const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
    let config = users(&[("alice", &bcrypt::hash("right", 5).unwrap())]);
    // As behind a proxy; as many that wait, and more; from another address; from many.
    let other = |_| Ipv4Addr::new(127, 0, 0, 2);
    let many = |number: u8| Ipv4Addr::new(127, 0, number, 3);
    let scenes: [(u8, Source); 4] = [
        (100, |_| LOCALHOST),
        (200, |_| LOCALHOST),
        (200, other),
        (200, many),
    ];
    // Elsewhere this machine has no further addresses of its own.
    let scenes = scenes
        .into_iter()
        .take(if cfg!(target_os = "linux") { 4 } else { 2 });
    for (guessers, source) in scenes {
        let served = Served::start(&config);
        let compared = Arc::new(AtomicUsize::new(0));
        let mut attack = JoinSet::new();
        for number in 0..guessers {
            attack.spawn(guess(served.address, source(number), Arc::clone(&compared)));
        }
        let mut statuses = Vec::new();
        while statuses.last() != Some(&200) && statuses.len() < 4 {
            // A scraper comes back after its interval, in which the logins that wait are compared.
            let enough = compared.load(Ordering::Relaxed) + 128;
            let interval = async {
                while compared.load(Ordering::Relaxed) < enough {
                    tokio::task::yield_now().await;
                }
            };
            within_deadline(interval).await;
            let right = basic("alice", "right");
            statuses.push(served.plain_status("/", Some(&right)).await);
        }
        let source = source(1);
        assert_eq!(
            statuses.last(),
            Some(&200),
            "{guessers} from {source}: {statuses:?}"
        );
        // A panic of a guesser shows here.
        while let Some(ended) = attack.try_join_next() {
            ended.unwrap();
        }
    }
}

/// CVE-2022-46146: with a cache whose key is the parts of a login in a row, whoever knows a hash
/// can make the key of his own refused login equal to one that lets in.
#[tokio::test]
async fn no_login_is_taken_for_another_by_how_its_parts_join() {
    let known = hash("right", "2y");
    let served = Served::start(&users(&[("alice", &known), ("alice2", &known)]));
    let fake = hash("fakepassword", "2y");
    let (half, rest) = known.split_at(30);
    for (user, password) in [
        (format!("alice{known}"), "right".to_owned()),
        (format!("alice{fake}"), "fakepassword".to_owned()),
        (format!("alice{half}"), format!("{rest}right")),
        ("ali".to_owned(), format!("ce{known}right")),
        ("alice".to_owned(), format!("{known}right")),
        ("alice".to_owned(), "2right".to_owned()),
    ] {
        for _ in 0..2 {
            let right = basic("alice", "right");
            assert_eq!(served.plain_status("/", Some(&right)).await, 200);
            let header = basic(&user, &password);
            assert_eq!(served.plain_status("/", Some(&header)).await, 401, "{user}");
        }
    }
}
