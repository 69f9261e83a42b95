//! HTTP/2: several requests share a connection, and every limit holds for it as for another.

use hyper::client::conn::http2::SendRequest;

use axum::body::Body;
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Answer, Failure, basic, collect, http2, request};
use crate::{BIG, DEADLINE, ENCRYPTED, Limits, SHORT, Served, limits, within_deadline};

const WINDOW: u32 = 64 * 1024;

async fn connect(served: &Served, window: u32) -> SendRequest<Body> {
    let client = served.client(None).offering(&["h2"]);
    let stream = client.connect(served.address).await.unwrap();
    http2(stream, window).await.unwrap()
}

async fn get(sender: &SendRequest<Body>, path: &str) -> Result<Answer, Failure> {
    let mut sender = sender.clone();
    let request = request(&format!("https://localhost{path}"), None);
    let answer = async { collect(sender.send_request(request).await?).await };
    within_deadline(answer).await
}

#[tokio::test]
async fn streams_are_answered_at_the_same_time() {
    let served = Served::start(ENCRYPTED);
    let sender = connect(&served, WINDOW).await;
    let mut slow = JoinSet::new();
    for _ in 0..5 {
        let sender = sender.clone();
        slow.spawn(async move { get(&sender, "/slow").await.unwrap().body });
    }
    for _ in 0..5 {
        served.slow_is_entered().await;
    }
    for _ in 0..50 {
        assert_eq!(get(&sender, "/").await.unwrap().body, "ok");
    }
    assert_eq!(get(&sender, "/big").await.unwrap().body.len(), BIG);
    served.slow_may_end.add_permits(5);
    while let Some(body) = slow.join_next().await {
        assert_eq!(body.unwrap(), "done");
    }
}

#[tokio::test]
async fn each_request_is_subject_to_rate_limit_password_and_headers() {
    let hash = bcrypt::hash("right", 4).unwrap();
    let served = Served::start(&format!(
        "{ENCRYPTED}rate_limit: {{interval: 1h, burst: 4}}\n\
         basic_auth_users: {{alice: {hash}}}\n\
         http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    ));
    let mut sender = connect(&served, WINDOW).await;
    let right = basic("alice", "right");
    let wrong = basic("alice", "wrong");
    for (authorization, status) in [
        (None, 401),
        (Some(&wrong), 401),
        (Some(&right), 200),
        (None, 401),
        (Some(&right), 429),
    ] {
        let authorization = authorization.map(String::as_str);
        let request = request("https://localhost/", authorization);
        let answer = async { collect(sender.send_request(request).await?).await };
        let answer: Result<Answer, Failure> = within_deadline(answer).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-frame-options"), Some("deny"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn more_streams_than_allowed_wait_for_each_other() {
    let served = Served::start(ENCRYPTED);
    let sender = connect(&served, WINDOW).await;
    assert_eq!(get(&sender, "/").await.unwrap().body, "ok");
    let mut slow = JoinSet::new();
    for _ in 0..40 {
        let sender = sender.clone();
        slow.spawn(async move { get(&sender, "/slow").await.unwrap().body });
    }
    for _ in 0..16 {
        served.slow_is_entered().await;
    }
    let more = timeout(SHORT, served.slow_entered.acquire()).await;
    assert!(more.is_err(), "a seventeenth one is under way");
    served.slow_may_end.add_permits(40);
    while let Some(body) = slow.join_next().await {
        assert_eq!(body.unwrap(), "done");
    }
}

#[tokio::test]
async fn a_panicking_handler_ends_only_its_stream() {
    let served = Served::start(ENCRYPTED);
    let sender = connect(&served, WINDOW).await;
    assert!(get(&sender, "/panic").await.is_err());
    assert_eq!(get(&sender, "/").await.unwrap().body, "ok");
}

#[tokio::test]
async fn a_connection_whose_oldest_answer_is_overdue_is_closed() {
    let served = Served::limited(
        ENCRYPTED,
        Limits {
            response: SHORT * 5,
            ..limits()
        },
    );
    let sender = connect(&served, WINDOW).await;
    let slow = tokio::spawn({
        let sender = sender.clone();
        async move { get(&sender, "/slow").await.is_err() }
    });
    served.slow_is_entered().await;
    // Others on the same connection do not restart its clock.
    let others = async { while get(&sender, "/").await.is_ok() {} };
    within_deadline(others).await;
    assert!(slow.await.unwrap());
}

#[tokio::test]
async fn a_client_that_keeps_its_window_shut_is_dropped_at_the_response_limit() {
    a_shut_window_ends_its_connection(Limits {
        connections: 1,
        response: SHORT * 5,
        ..limits()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_keeps_its_window_shut_is_dropped_at_the_stall_limit() {
    a_shut_window_ends_its_connection(Limits {
        connections: 1,
        stall: SHORT * 5,
        ..limits()
    })
    .await;
}

async fn a_shut_window_ends_its_connection(limits: Limits) {
    let served = Served::limited(ENCRYPTED, limits);
    // The answer is small enough for every buffer, but not for the window.
    let mut sender = connect(&served, 1).await;
    let response = sender.send_request(request("https://localhost/", None));
    let response = within_deadline(response).await.unwrap();
    // Unread, it never opens the window of one byte again.
    let closed = async {
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    within_deadline(closed).await;
    drop(response);
    assert_eq!(
        get(&connect(&served, WINDOW).await, "/")
            .await
            .unwrap()
            .body,
        "ok"
    );
}

#[tokio::test]
async fn a_connection_that_idles_too_long_is_closed() {
    let served = Served::limited(
        ENCRYPTED,
        Limits {
            header_read: SHORT,
            ..limits()
        },
    );
    let mut sender = connect(&served, WINDOW).await;
    assert_eq!(get(&sender, "/big").await.unwrap().body.len(), BIG);
    let closed = async {
        while sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within_deadline(closed).await;
}

#[tokio::test]
async fn at_the_cap_an_idle_connection_makes_room_and_a_busy_one_does_not() {
    let served = Served::limited(
        ENCRYPTED,
        Limits {
            connections: 2,
            ..limits()
        },
    );
    let busy = connect(&served, WINDOW).await;
    let slow = tokio::spawn({
        let busy = busy.clone();
        async move { get(&busy, "/slow").await.unwrap().body }
    });
    served.slow_is_entered().await;
    assert_eq!(get(&busy, "/").await.unwrap().body, "ok");
    let idle = connect(&served, WINDOW).await;
    assert_eq!(get(&idle, "/").await.unwrap().body, "ok");
    let third = connect(&served, WINDOW).await;
    assert_eq!(get(&third, "/").await.unwrap().body, "ok");
    assert!(get(&idle, "/").await.is_err(), "it made room");
    served.slow_may_end.add_permits(1);
    assert_eq!(slow.await.unwrap(), "done");
}

#[tokio::test]
async fn the_shutdown_lets_running_answers_end() {
    let served = Served::start(ENCRYPTED);
    let sender = connect(&served, WINDOW).await;
    let slow = tokio::spawn({
        let sender = sender.clone();
        async move { get(&sender, "/slow").await.unwrap().body }
    });
    served.slow_is_entered().await;
    let mut reader = sender.clone();
    let big = reader.send_request(request("https://localhost/big", None));
    let big = within_deadline(big).await.unwrap();
    served.shutdown.cancel();
    served.slow_may_end.add_permits(1);
    assert_eq!(slow.await.unwrap(), "done");
    let body = within_deadline(big.into_body().collect()).await.unwrap();
    assert_eq!(body.to_bytes().len(), BIG);
    drop(sender);
    assert!(served.ended_gracefully().await);
}

#[tokio::test]
async fn an_oversized_request_head_ends_nothing_else() {
    let served = Served::start(ENCRYPTED);
    let sender = connect(&served, WINDOW).await;
    let mut large = request("https://localhost/", None);
    let padding = "x".repeat(20 * 1024).parse().unwrap();
    large.headers_mut().insert("padding", padding);
    let answered = timeout(DEADLINE, sender.clone().send_request(large)).await;
    let status = answered.unwrap().map(|answer| answer.status().as_u16());
    assert!(status.is_err() || status.is_ok_and(|status| status == 431));
    let again = connect(&served, WINDOW).await;
    assert_eq!(get(&again, "/").await.unwrap().body, "ok");
}
