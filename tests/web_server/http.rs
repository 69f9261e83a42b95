//! HTTP/1.1 over TLS: the limits of requests, connections and responses.

use std::pin::pin;

use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Http1, basic, request};
use crate::{BIG, DEADLINE, ENCRYPTED, Limits, SHORT, Server, limits, within_deadline};

async fn connect(server: &Server) -> Http1 {
    let stream = server.client(None).connect(server.address).await;
    Http1::over(stream.unwrap()).await.unwrap()
}

async fn body(client: &mut Http1, path: &str) -> String {
    within_deadline(client.get(path, None)).await.unwrap().body
}

#[tokio::test]
async fn client_that_offers_only_http2_is_rejected_in_the_handshake() {
    for settings in ["", "http_server_config: {http2: true}\n"] {
        let server = Server::start(&format!("{ENCRYPTED}{settings}"));
        let client = server.client(None).offering(&["h2"]);
        let error = client.connect(server.address).await.unwrap_err();
        assert!(
            error.to_string().contains("NoApplicationProtocol"),
            "{error}"
        );
        assert_eq!(server.status(None).await, Some(200));
    }
}

#[tokio::test]
async fn http2_without_negotiation_is_rejected() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let server = Server::start("");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(preface).await.unwrap();
    let mut answer = Vec::new();
    // The connection can be reset, because the server does not read the whole preface.
    let read = within_deadline(stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 400") || (answer.is_empty() && read.is_ok()),
        "{answer} {read:?}"
    );
}

#[tokio::test]
async fn connections_are_served_concurrently() {
    let server = Server::start(ENCRYPTED);
    let mut slow = JoinSet::new();
    for _ in 0..5 {
        let mut client = connect(&server).await;
        slow.spawn(async move { body(&mut client, "/slow").await });
        server.slow_is_entered().await;
    }
    let mut client = connect(&server).await;
    for _ in 0..50 {
        assert_eq!(body(&mut client, "/").await, "ok");
    }
    assert_eq!(body(&mut client, "/big").await.len(), BIG);
    server.slow_may_end.add_permits(5);
    while let Some(body) = slow.join_next().await {
        assert_eq!(body.unwrap(), "done");
    }
}

#[tokio::test]
async fn each_request_of_a_connection_is_subject_to_rate_limit_password_and_headers() {
    let hash = bcrypt::hash("right", 4).unwrap();
    let server = Server::start(&format!(
        "{ENCRYPTED}rate_limit: {{interval: 1h, burst: 4}}\n\
         basic_auth_users: {{alice: {hash}}}\n\
         http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    ));
    let mut client = connect(&server).await;
    let right = basic("alice", "right");
    let wrong = basic("alice", "wrong");
    for (authorization, status) in [
        (None, 401),
        (Some(&wrong), 401),
        (Some(&right), 200),
        (None, 401),
        (Some(&right), 429),
    ] {
        let answer = client.get("/", authorization.map(String::as_str));
        let answer = within_deadline(answer).await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-frame-options"), Some("deny"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn panicking_handler_closes_only_its_connection() {
    let server = Server::start(ENCRYPTED);
    let [mut panicking, mut other] = [connect(&server).await, connect(&server).await];
    assert!(
        within_deadline(panicking.get("/panic", None))
            .await
            .is_err()
    );
    assert_eq!(body(&mut other, "/").await, "ok");
}

#[tokio::test]
async fn connection_whose_response_is_not_ready_in_time_is_closed() {
    let server = Server::limited(
        ENCRYPTED,
        Limits {
            response: SHORT * 5,
            ..limits()
        },
    );
    let mut client = connect(&server).await;
    assert!(within_deadline(client.get("/slow", None)).await.is_err());
}

#[tokio::test]
async fn client_that_does_not_read_is_closed_at_the_response_limit() {
    unread_response_closes_its_connection(Limits {
        connections: 1,
        response: SHORT * 5,
        ..limits()
    })
    .await;
}

#[tokio::test]
async fn client_that_does_not_read_is_closed_at_the_stall_limit() {
    unread_response_closes_its_connection(Limits {
        connections: 1,
        stall: SHORT * 5,
        ..limits()
    })
    .await;
}

async fn unread_response_closes_its_connection(limits: Limits) {
    let server = Server::limited(ENCRYPTED, limits);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let stream = server.client(None).connect_over(stream).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let request = b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n";
    writer.write_all(request).await.unwrap();
    assert_eq!(within_deadline(reader.read_u8()).await.unwrap(), b'H');
    // The only slot is free again as soon as the unread response is closed.
    assert_eq!(server.status(None).await, Some(200));
    let mut rest = Vec::new();
    let read = within_deadline(reader.read_to_end(&mut rest)).await;
    assert!(read.is_err() && rest.len() < BIG, "{read:?} {}", rest.len());
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let server = Server::limited(
        ENCRYPTED,
        Limits {
            header_read: SHORT,
            ..limits()
        },
    );
    let mut client = connect(&server).await;
    assert_eq!(body(&mut client, "/big").await.len(), BIG);
    within_deadline(client.closed()).await;
}

#[tokio::test]
async fn at_the_cap_an_idle_connection_is_evicted_and_a_busy_one_is_not() {
    let server = Server::limited(
        ENCRYPTED,
        Limits {
            connections: 2,
            ..limits()
        },
    );
    let mut busy = connect(&server).await;
    assert_eq!(body(&mut busy, "/").await, "ok");
    let slow = tokio::spawn(async move { body(&mut busy, "/slow").await });
    server.slow_is_entered().await;
    let mut idle = connect(&server).await;
    assert_eq!(body(&mut idle, "/").await, "ok");
    let mut third = connect(&server).await;
    assert_eq!(body(&mut third, "/").await, "ok");
    assert!(idle.get("/", None).await.is_err(), "it is evicted");
    server.slow_may_end.add_permits(1);
    assert_eq!(slow.await.unwrap(), "done");
}

#[tokio::test]
async fn shutdown_lets_running_responses_end() {
    let server = Server::start(ENCRYPTED);
    let mut client = connect(&server).await;
    let slow = tokio::spawn(async move { body(&mut client, "/slow").await });
    server.slow_is_entered().await;
    let mut reader = connect(&server).await;
    let big = within_deadline(reader.send(request("/big", None))).await;
    server.shutdown.cancel();
    server.slow_may_end.add_permits(1);
    assert_eq!(slow.await.unwrap(), "done");
    let body = big.unwrap().into_body().collect();
    assert_eq!(within_deadline(body).await.unwrap().to_bytes().len(), BIG);
    assert!(server.ended_gracefully().await);
}

#[tokio::test]
async fn oversized_request_head_closes_only_its_connection() {
    let server = Server::start(ENCRYPTED);
    let mut client = connect(&server).await;
    let mut large: Request<Body> = request("/", None);
    let padding = "x".repeat(20 * 1024).parse().unwrap();
    large.headers_mut().insert("padding", padding);
    let answered = timeout(DEADLINE, pin!(client.send(large))).await;
    let status = answered.unwrap().map(|answer| answer.status().as_u16());
    assert!(status.is_err() || status.is_ok_and(|status| status == 431));
    let mut again = connect(&server).await;
    assert_eq!(body(&mut again, "/").await, "ok");
}
