//! Basic authentication.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use servicefabric_backup_exporter::server::listener::Limits;
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::basic;
use crate::{ENCRYPTED, Http1, Server, limits, within_deadline};

/// Maps the number of a guesser to its address.
type Source = fn(u8) -> Ipv4Addr;

/// Guesses passwords on one connection from `source`, and counts the guesses that were compared.
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

/// The hash of a password with the lowest cost, labelled as this version of bcrypt.
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
async fn only_a_user_with_the_right_password_is_accepted() {
    let config = users(&[
        ("alice", &hash("alice's", "2y")),
        ("bob", &hash("bob's", "2a")),
        ("carol", &hash("", "2b")),
    ]);
    for encrypted in [false, true] {
        let tls = if encrypted { ENCRYPTED } else { "" };
        let server = Server::start(&format!("{tls}{config}"));
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
                let answered = if encrypted {
                    let client = server.client(None);
                    let answer = client.get(server.address, "/", Some(&header)).await;
                    answer.unwrap().status
                } else {
                    server.plain_status("/", Some(&header)).await
                };
                assert_eq!(answered, status, "{user}:{password} {encrypted} {cached}");
            }
        }
    }
}

#[tokio::test]
async fn password_is_required_on_every_path() {
    let server = Server::start(&users(&[("alice", &hash("right", "2y"))]));
    for path in ["/", "/slow", "/nowhere", "/-/healthy"] {
        let mut client = Http1::plain(server.address).await.unwrap();
        let answer = client.get(path, None).await.unwrap();
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Basic"));
        assert!(!answer.body.contains("alice"), "{}", answer.body);
    }
}

#[tokio::test]
async fn malformed_authorization_is_rejected() {
    let server = Server::start(&users(&[("alice", &hash("right", "2y"))]));
    let right = basic("alice", "right");
    let (_, encoded) = right.split_once(' ').unwrap();
    assert_eq!(
        server
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
        "Basic YWxpY2U=", // Without a colon.
        "Basic /////w==", // Neither UTF-8 nor a colon.
    ] {
        assert_eq!(
            server.plain_status("/", Some(header)).await,
            401,
            "{header}"
        );
    }
}

#[tokio::test]
async fn concurrent_logins_get_the_right_outcome() {
    let server = Arc::new(Server::start(&users(&[("alice", &hash("right", "2y"))])));
    let mut logins = JoinSet::new();
    // More logins than the queue holds would be answered 429.
    let at_a_time = Arc::new(Semaphore::new(16));
    for number in 0..300 {
        let (server, at_a_time) = (Arc::clone(&server), Arc::clone(&at_a_time));
        logins.spawn(async move {
            let _permit = at_a_time.acquire().await.unwrap();
            let (header, status) = match number % 3 {
                0 => (basic("alice", "right"), 200),
                1 => (basic("alice", "wrong"), 401),
                _ => (basic("alice", &number.to_string()), 401),
            };
            assert_eq!(server.plain_status("/", Some(&header)).await, status);
        });
    }
    while let Some(login) = logins.join_next().await {
        login.unwrap();
    }
}

#[tokio::test]
async fn logins_beyond_the_queue_are_asked_to_retry() {
    let expensive = bcrypt::hash("right", 6).unwrap();
    let limits = Limits {
        connections: 64,
        ..limits()
    };
    let server = Arc::new(Server::limited(&users(&[("alice", &expensive)]), limits));
    let mut guesses = JoinSet::new();
    for number in 0..60 {
        let server = Arc::clone(&server);
        guesses.spawn(async move {
            let mut client = Http1::plain(server.address).await.unwrap();
            let header = basic("alice", &number.to_string());
            client.get("/", Some(&header)).await.unwrap()
        });
    }
    let mut rejected = 0;
    while let Some(answer) = guesses.join_next().await {
        let answer = answer.unwrap();
        let retry_after = answer.header("retry-after");
        assert!(
            matches!((answer.status, retry_after), (401, None) | (429, Some("1"))),
            "{answer:?}"
        );
        rejected += u32::from(answer.status == 429);
    }
    assert!(rejected > 0);
    let right = basic("alice", "right");
    assert_eq!(server.plain_status("/", Some(&right)).await, 200);
}

#[tokio::test]
async fn right_password_is_accepted_during_a_brute_force_attack_after_a_restart() {
    const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
    let config = users(&[("alice", &bcrypt::hash("right", 5).unwrap())]);
    // From the address of the scraper, as behind a proxy, with fewer and with more guessers than the
    // queue holds; from one other address; from many addresses.
    let other = |_| Ipv4Addr::new(127, 0, 0, 2);
    let many = |number: u8| Ipv4Addr::new(127, 0, number, 3);
    let attacks: [(u8, Source); 4] = [
        (100, |_| LOCALHOST),
        (200, |_| LOCALHOST),
        (200, other),
        (200, many),
    ];
    // Only Linux has the whole of 127.0.0.0/8 on the loopback interface.
    let attacks = attacks
        .into_iter()
        .take(if cfg!(target_os = "linux") { 4 } else { 2 });
    for (guessers, source) in attacks {
        let server = Server::start(&config);
        let compared = Arc::new(AtomicUsize::new(0));
        let mut attack = JoinSet::new();
        for number in 0..guessers {
            attack.spawn(guess(server.address, source(number), Arc::clone(&compared)));
        }
        let mut statuses = Vec::new();
        while statuses.last() != Some(&200) && statuses.len() < 4 {
            // A scraper retries after its interval, in which the waiting logins are compared.
            let enough = compared.load(Ordering::Relaxed) + 128;
            let interval = async {
                while compared.load(Ordering::Relaxed) < enough {
                    tokio::task::yield_now().await;
                }
            };
            within_deadline(interval).await;
            let right = basic("alice", "right");
            statuses.push(server.plain_status("/", Some(&right)).await);
        }
        let source = source(1);
        assert_eq!(
            statuses.last(),
            Some(&200),
            "{guessers} from {source}: {statuses:?}"
        );
        // Reports a panic of a guesser.
        while let Some(ended) = attack.try_join_next() {
            ended.unwrap();
        }
    }
}

/// CVE-2022-46146: if the cache key is the concatenation of the parts of a login, a client that
/// knows a hash can construct a rejected login with the key of an accepted one.
#[tokio::test]
async fn cache_keys_of_different_logins_never_collide() {
    let known = hash("right", "2y");
    let server = Server::start(&users(&[("alice", &known), ("alice2", &known)]));
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
            assert_eq!(server.plain_status("/", Some(&right)).await, 200);
            let header = basic(&user, &password);
            assert_eq!(server.plain_status("/", Some(&header)).await, 401, "{user}");
        }
    }
}
