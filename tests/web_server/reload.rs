//! Changes of the web configuration without a restart.

use std::fs;

use crate::certificates::{Authority, client};
use crate::client::{Http1, basic};
use crate::{ENCRYPTED, Folder, Server, limits, within_deadline};

const MUTUAL_TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  \
                      client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";

#[tokio::test]
async fn changed_configuration_takes_effect_at_once_and_an_invalid_one_denies_access() {
    let server = Server::start(MUTUAL_TLS);
    let folder = &server.folder;
    assert_eq!(server.status(None).await, None, "no client certificate");
    folder.write("web.yml", ENCRYPTED);
    assert_eq!(server.status(None).await, Some(200), "open");
    let mut client = Http1::over(server.client(None).connect(server.address).await.unwrap())
        .await
        .unwrap();
    assert_eq!(client.get("/", None).await.unwrap().status, 200);
    folder.write("web.yml", "tls_server_config: {cert_file: nowhere}\n");
    assert_eq!(server.status(None).await, None, "invalid configuration");
    let answer = client.get("/", None).await.unwrap();
    assert_eq!(answer.status, 500, "open connections are denied, too");
    assert!(!answer.body.contains("nowhere"), "{}", answer.body);
    folder.write("web.yml", ENCRYPTED);
    assert_eq!(server.status(None).await, Some(200), "fixed");
    fs::remove_file(folder.path("web.yml")).unwrap();
    assert_eq!(server.status(None).await, None, "removed");
}

#[tokio::test]
async fn new_certificate_is_used_once_its_key_is_in_place() {
    let server = Server::start(ENCRYPTED);
    let certificate = async || {
        let stream = server.client(None).connect(server.address).await.ok()?;
        let (_, tls) = stream.get_ref();
        Some(tls.peer_certificates().unwrap()[0].clone())
    };
    let old = within_deadline(certificate()).await.unwrap();
    let other = Folder::new("");
    for (name, works) in [("server.crt", false), ("server.key", true)] {
        let identity = fs::read_to_string(other.path(name)).unwrap();
        server.folder.write(name, &identity);
        // The new certificate has another authority, which this client trusts.
        let client = crate::Tls::new(other.authority.der(), None);
        let connected = within_deadline(client.connect(server.address)).await;
        assert_eq!(connected.is_ok(), works, "{name}");
    }
    server.folder.issue_server();
    let new = within_deadline(certificate()).await.unwrap();
    assert_ne!(old, new);
}

#[tokio::test]
async fn removed_authority_closes_open_connections() {
    let server = Server::start(MUTUAL_TLS);
    let identity = server.folder.authority.signed(&client("signed"));
    let stream = server.client(Some(&identity)).connect(server.address).await;
    let mut client = Http1::over(stream.unwrap()).await.unwrap();
    assert_eq!(client.get("/", None).await.unwrap().status, 200);
    server.folder.write("ca.pem", &Authority::new().pem());
    let refused = client.get("/", None).await.unwrap();
    assert_eq!(refused.status, 421);
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(within_deadline(client.get("/", None)).await.is_err());
    assert_eq!(server.status(Some(&identity)).await, None);
}

#[tokio::test]
async fn changes_outside_tls_close_no_connection() {
    let server = Server::start(MUTUAL_TLS);
    let identity = server.folder.authority.signed(&client("signed"));
    let stream = server.client(Some(&identity)).connect(server.address).await;
    let mut client = Http1::over(stream.unwrap()).await.unwrap();
    assert_eq!(client.get("/", None).await.unwrap().status, 200);
    let hash = bcrypt::hash("right", 4).unwrap();
    let users = format!("{MUTUAL_TLS}basic_auth_users: {{alice: {hash}}}\n");
    let certificate = fs::read_to_string(server.folder.path("server.crt")).unwrap();
    let right = basic("alice", "right");
    for (web, authorization, status) in [
        (&*users, None, 401),
        (&users, Some(&*right), 200),
        ("faulty", None, 500),
        (MUTUAL_TLS, None, 200),
    ] {
        server.folder.write("web.yml", web);
        server.folder.write("server.crt", &certificate);
        let answer = client.get("/", authorization).await.unwrap();
        assert_eq!(answer.status, status);
    }
    server.folder.issue_server();
    assert_eq!(client.get("/", None).await.unwrap().status, 421);
}

#[tokio::test]
async fn changed_users_and_headers_take_effect_at_once() {
    let user = |name: &str, password: &str| {
        let hash = bcrypt::hash(password, 4).unwrap();
        format!("basic_auth_users: {{{name}: {hash}}}\n")
    };
    let server = Server::start(&user("alice", "old"));
    let get = async |password: &str| {
        let header = basic("alice", password);
        let mut client = Http1::plain(server.address).await.unwrap();
        client.get("/", Some(&header)).await.unwrap()
    };
    assert_eq!(get("old").await.status, 200);
    server.folder.write(
        "web.yml",
        &(user("alice", "new") + "http_server_config: {headers: {X-Frame-Options: deny}}\n"),
    );
    let answer = get("old").await;
    assert_eq!(answer.status, 401, "its verdict was kept for another hash");
    assert_eq!(answer.header("x-frame-options"), Some("deny"));
    assert_eq!(get("new").await.status, 200);
    server.folder.write("web.yml", &user("bob", "new"));
    assert_eq!(get("new").await.status, 401, "the user is removed");
}

#[tokio::test]
async fn emptied_file_denies_access() {
    let hash = bcrypt::hash("right", 4).unwrap();
    let config = format!("basic_auth_users: {{alice: {hash}}}\n");
    let server = Server::start("");
    server.folder.write("web.yml", &config);
    assert_eq!(server.plain_status("/", None).await, 401);
    server.folder.write("web.yml", "# nothing\n");
    assert_eq!(server.plain_status("/", None).await, 500);
    server.folder.write("web.yml", &config);
    assert_eq!(server.plain_status("/", None).await, 401);
    server.folder.write("web.yml", "basic_auth_users: {}\n");
    assert_eq!(
        server.plain_status("/", None).await,
        200,
        "no users are configured"
    );
}

#[tokio::test]
async fn tls_is_turned_on_and_off_with_a_restart_only() {
    let plain = Server::start("");
    let folder = &plain.folder;
    folder.write("web.yml", ENCRYPTED);
    assert_eq!(plain.plain_status("/", None).await, 200);
    let encrypted = Server::of(Folder::new(ENCRYPTED), limits());
    encrypted
        .folder
        .write("web.yml", "http_server_config: {}\n");
    assert_eq!(encrypted.status(None).await, None);
}

#[tokio::test]
async fn rate_limit_changes_with_a_restart_only() {
    let server = Server::start("rate_limit: {interval: 1h, burst: 1}\n");
    assert_eq!(server.plain_status("/", None).await, 200);
    server
        .folder
        .write("web.yml", "rate_limit: {interval: 1h, burst: 5}\n");
    assert_eq!(server.plain_status("/", None).await, 429);
}
