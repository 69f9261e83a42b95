//! What changes while the exporter runs, without a restart.

use std::fs;

use crate::certificates::{Authority, client};
use crate::client::{Http1, basic};
use crate::{ENCRYPTED, Folder, Served, limits, within_deadline};

const ASKING: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  \
                      client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";

#[tokio::test]
async fn a_changed_configuration_counts_at_once_and_a_broken_one_closes() {
    let served = Served::start(ASKING);
    let folder = &served.folder;
    assert_eq!(served.status(None).await, None, "blocked");
    folder.write("web.yml", ENCRYPTED);
    assert_eq!(served.status(None).await, Some(200), "open");
    let mut kept = Http1::over(served.client(None).connect(served.address).await.unwrap())
        .await
        .unwrap();
    assert_eq!(kept.get("/", None).await.unwrap().status, 200);
    folder.write("web.yml", "tls_server_config: {cert_file: nowhere}\n");
    assert_eq!(served.status(None).await, None, "closed");
    let answer = kept.get("/", None).await.unwrap();
    assert_eq!(answer.status, 500, "closed to those within, too");
    assert!(!answer.body.contains("nowhere"), "{}", answer.body);
    folder.write("web.yml", ENCRYPTED);
    assert_eq!(served.status(None).await, Some(200), "mended");
    fs::remove_file(folder.path("web.yml")).unwrap();
    assert_eq!(served.status(None).await, None, "away");
}

#[tokio::test]
async fn a_new_certificate_is_shown_as_soon_as_its_key_is_there() {
    let served = Served::start(ENCRYPTED);
    let shown = async || {
        let stream = served.client(None).connect(served.address).await.ok()?;
        let (_, tls) = stream.get_ref();
        Some(tls.peer_certificates().unwrap()[0].clone())
    };
    let old = within_deadline(shown()).await.unwrap();
    let other = Folder::new("");
    for (name, works) in [("server.crt", false), ("server.key", true)] {
        let identity = fs::read_to_string(other.path(name)).unwrap();
        served.folder.write(name, &identity);
        // Its own authority is not the one that the client trusts: only the handshake counts.
        let stranger = crate::Tls::new(other.authority.der(), None);
        let connected = within_deadline(stranger.connect(served.address)).await;
        assert_eq!(connected.is_ok(), works, "{name}");
    }
    served.folder.issue_server();
    let new = within_deadline(shown()).await.unwrap();
    assert_ne!(old, new);
}

#[tokio::test]
async fn an_authority_that_is_removed_ends_open_connections_too() {
    let served = Served::start(ASKING);
    let identity = served.folder.authority.signed(&client("signed"));
    let stream = served.client(Some(&identity)).connect(served.address).await;
    let mut kept = Http1::over(stream.unwrap()).await.unwrap();
    assert_eq!(kept.get("/", None).await.unwrap().status, 200);
    served.folder.write("ca.pem", &Authority::new().pem());
    let refused = kept.get("/", None).await.unwrap();
    assert_eq!(refused.status, 421);
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(within_deadline(kept.get("/", None)).await.is_err());
    assert_eq!(served.status(Some(&identity)).await, None);
}

#[tokio::test]
async fn what_changes_beside_tls_ends_no_connection() {
    let served = Served::start(ASKING);
    let identity = served.folder.authority.signed(&client("signed"));
    let stream = served.client(Some(&identity)).connect(served.address).await;
    let mut kept = Http1::over(stream.unwrap()).await.unwrap();
    assert_eq!(kept.get("/", None).await.unwrap().status, 200);
    let hash = bcrypt::hash("right", 4).unwrap();
    let users = format!("{ASKING}basic_auth_users: {{alice: {hash}}}\n");
    let certificate = fs::read_to_string(served.folder.path("server.crt")).unwrap();
    let right = basic("alice", "right");
    for (web, authorization, status) in [
        (&*users, None, 401),
        (&users, Some(&*right), 200),
        ("faulty", None, 500),
        (ASKING, None, 200),
    ] {
        served.folder.write("web.yml", web);
        served.folder.write("server.crt", &certificate);
        let answer = kept.get("/", authorization).await.unwrap();
        assert_eq!(answer.status, status);
    }
    served.folder.issue_server();
    assert_eq!(kept.get("/", None).await.unwrap().status, 421);
}

#[tokio::test]
async fn users_and_headers_follow_at_once() {
    let user = |name: &str, password: &str| {
        let hash = bcrypt::hash(password, 4).unwrap();
        format!("basic_auth_users: {{{name}: {hash}}}\n")
    };
    let served = Served::start(&user("alice", "old"));
    let get = async |password: &str| {
        let header = basic("alice", password);
        let mut client = Http1::plain(served.address).await.unwrap();
        client.get("/", Some(&header)).await.unwrap()
    };
    assert_eq!(get("old").await.status, 200);
    served.folder.write(
        "web.yml",
        &(user("alice", "new") + "http_server_config: {headers: {X-Frame-Options: deny}}\n"),
    );
    let answer = get("old").await;
    assert_eq!(answer.status, 401, "its verdict was kept for another hash");
    assert_eq!(answer.header("x-frame-options"), Some("deny"));
    assert_eq!(get("new").await.status, 200);
    served.folder.write("web.yml", &user("bob", "new"));
    assert_eq!(get("new").await.status, 401, "no user any more");
}

#[tokio::test]
async fn a_file_that_has_become_empty_opens_nothing() {
    let hash = bcrypt::hash("right", 4).unwrap();
    let config = format!("basic_auth_users: {{alice: {hash}}}\n");
    let served = Served::start("");
    served.folder.write("web.yml", &config);
    assert_eq!(served.plain_status("/", None).await, 401);
    served.folder.write("web.yml", "# nothing\n");
    assert_eq!(served.plain_status("/", None).await, 500);
    served.folder.write("web.yml", &config);
    assert_eq!(served.plain_status("/", None).await, 401);
    served.folder.write("web.yml", "basic_auth_users: {}\n");
    assert_eq!(served.plain_status("/", None).await, 200, "as it says");
}

#[tokio::test]
async fn tls_is_neither_switched_on_nor_off_by_a_change() {
    let plain = Served::start("");
    let folder = &plain.folder;
    folder.write("web.yml", ENCRYPTED);
    assert_eq!(plain.plain_status("/", None).await, 200);
    let encrypted = Served::of(Folder::new(ENCRYPTED), limits());
    encrypted
        .folder
        .write("web.yml", "http_server_config: {}\n");
    assert_eq!(encrypted.status(None).await, None);
}

#[tokio::test]
async fn the_rate_limit_stays_as_it_began() {
    let served = Served::start("rate_limit: {interval: 1h, burst: 1}\n");
    assert_eq!(served.plain_status("/", None).await, 200);
    served
        .folder
        .write("web.yml", "rate_limit: {interval: 1h, burst: 5}\n");
    assert_eq!(served.plain_status("/", None).await, 429);
}
