//! The gateway client against responses that violate HTTP, and against servers that are not
//! gateways.
//!
//! The servers send raw bytes in segments of several sizes. No other HTTP implementation is
//! involved.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use servicefabric_backup_exporter::gateway::{Gateway, Options, Reason};
use servicefabric_backup_exporter::settings::Security;
use servicefabric_backup_exporter::telemetry::Telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

const VERSION: &str = r#"{"Version":"6.4.514.9494"}"#;

/// Sizes of the segments in which an answer is sent.
const STEPS: [usize; 3] = [1, 7, usize::MAX];

/// When a server speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    AfterTheRequest,
    AtOnce,
}

/// The framing of a body.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunks(usize),
    Close,
}

const FRAMINGS: [Framing; 4] = [
    Framing::Length,
    Framing::Chunks(3),
    Framing::Chunks(1000),
    Framing::Close,
];

/// An answer with `status` and further header `lines`, each with its line end.
fn answer(status: &str, lines: &str, body: &[u8], framing: Framing) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{lines}").into_bytes();
    match framing {
        Framing::Length => {
            write!(bytes, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
            bytes.extend(body);
        }
        Framing::Chunks(size) => {
            bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(size) {
                write!(bytes, "{:x}\r\n", chunk.len()).unwrap();
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        }
        Framing::Close => {
            bytes.extend(b"Connection: close\r\n\r\n");
            bytes.extend(body);
        }
    }
    bytes
}

/// Sends `bytes` on every connection, `step` of them at a time, and closes it.
async fn serve(bytes: Vec<u8>, step: usize, turn: Turn) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bytes: Arc<[u8]> = bytes.into();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(send(stream, Arc::clone(&bytes), step, turn));
        }
    });
    url.parse().unwrap()
}

async fn send(mut stream: TcpStream, bytes: Arc<[u8]>, step: usize, turn: Turn) {
    stream.set_nodelay(true).unwrap();
    if turn == Turn::AfterTheRequest {
        read_head(&mut stream).await;
    }
    for segment in bytes.chunks(step.min(bytes.len()).max(1)) {
        if stream.write_all(segment).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.ok();
    // Closing with unread bytes would reset the connection.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
}

fn gateway(endpoint: Url) -> Gateway {
    let options = Options {
        cluster: "test".into(),
        endpoints: vec![endpoint],
        timeout: Duration::from_secs(30),
        concurrency: 4,
        security: Security::default(),
        fabric_identity: None,
    };
    Gateway::new(options, Arc::new(Telemetry::default())).unwrap()
}

async fn version(bytes: Vec<u8>, step: usize, turn: Turn) -> Result<String, (Reason, String)> {
    let gateway = gateway(serve(bytes, step, turn).await);
    gateway.cluster_version().await.map_err(|error| {
        let reason = error.reason();
        (reason, format!("{:#}", anyhow::Error::new(error)))
    })
}

/// Tiny segments are for small answers: a long head is parsed anew with each of them.
fn steps(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let least = bytes.len() / 1_000;
    STEPS.into_iter().map(move |step| step.max(least))
}

async fn accepts(what: &str, bytes: &[u8]) {
    for step in steps(bytes) {
        let read = version(bytes.to_vec(), step, Turn::AfterTheRequest).await;
        assert_eq!(read, Ok("6.4.514.9494".to_owned()), "{what}, {step}");
    }
}

/// The reason and the text of a failure, which do not depend on the segments.
async fn rejects(what: &str, bytes: &[u8], reason: Reason) -> String {
    let mut texts = Vec::new();
    for step in steps(bytes) {
        let read = version(bytes.to_vec(), step, Turn::AfterTheRequest).await;
        let (found, text) = read.expect_err(what);
        assert_eq!(found, reason, "{what}, {step}: {text}");
        texts.push(text);
    }
    texts.swap_remove(0)
}

fn assert_contains(text: &str, expected: &str) {
    assert!(text.contains(expected), "{expected:?} is not in {text:?}");
}

fn assert_no_hint_about_tls(text: &str) {
    assert!(!text.contains("https"), "{text}");
}

fn many(count: usize) -> String {
    let line = |number| format!("X-{number}: {number}\r\n");
    (0..count).map(line).collect()
}

#[tokio::test]
async fn responses_with_unusual_header_lines_are_accepted() {
    let mut framings = FRAMINGS.into_iter().cycle();
    for (what, lines) in [
        ("101 lines", many(101)),
        ("150 lines", many(150)),
        ("900 lines", many(900)),
        ("a blank before the colon", "X-Name : value\r\n".to_owned()),
        ("a tab before the colon", "X-Name\t: value\r\n".to_owned()),
        (
            "a folded line",
            "X-Name: one\r\n two\r\n\tthree\r\n".to_owned(),
        ),
        ("no colon", "this is no header\r\n".to_owned()),
        ("an invalid name", "X(Name): value\r\n".to_owned()),
        ("an empty value", "X-Name:\r\n".to_owned()),
        ("a value in Latin-1", "X-Name: \u{fc}\r\n".to_owned()),
        ("a long line", format!("X-Name: {}\r\n", "x".repeat(60_000))),
    ] {
        let framing = framings.next().unwrap();
        let bytes = answer("200 OK", &lines, VERSION.as_bytes(), framing);
        accepts(&format!("{what}, {framing:?}"), &bytes).await;
    }
}

#[tokio::test]
async fn spaces_before_the_colon_do_not_hide_the_content_length() {
    let length = VERSION.len();
    for head in [
        format!("Content-Length : {length}\r\n\r\n"),
        format!("Content-Length:\r\n {length}\r\n\r\n"),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{head}{VERSION}");
        accepts(&head, bytes.as_bytes()).await;
    }
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n{length:x}\r\n{VERSION}\r\n0\r\n\r\n"
    );
    accepts("chunks", chunked.as_bytes()).await;
}

#[tokio::test]
async fn too_large_response_heads_are_rejected_with_the_limit() {
    for lines in [
        many(1_500),
        format!("X-Name: {}\r\n", "x".repeat(1_000_000)),
    ] {
        let bytes = answer("200 OK", &lines, VERSION.as_bytes(), Framing::Length);
        let read = version(bytes, 1_000, Turn::AfterTheRequest).await;
        let (reason, text) = read.unwrap_err();
        assert_eq!(reason, Reason::TooLarge, "{text}");
        assert_contains(&text, "more than 1000 header lines");
        assert_no_hint_about_tls(&text);
    }
}

#[tokio::test]
async fn malformed_http_is_reported() {
    for bytes in [
        &b"HTTP/1.1 abc OK\r\n\r\n"[..],
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/3.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ] {
        let what = String::from_utf8_lossy(bytes);
        let text = rejects(&what, bytes, Reason::Decode).await;
        assert_contains(&text, "sent a malformed HTTP answer");
        assert_no_hint_about_tls(&text);
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_responses_and_byte_order_marks_are_accepted() {
    let mut framings = FRAMINGS.into_iter().cycle();
    let marked = format!("\u{feff}{VERSION}");
    for document in [VERSION, &marked, &format!("\u{feff}\r\n {VERSION}\r\n")] {
        for (coding, body) in [
            ("identity", document.as_bytes().to_vec()),
            ("gzip", gzip(document.as_bytes())),
            ("GZIP", gzip(document.as_bytes())),
            ("x-gzip", gzip(document.as_bytes())),
            ("deflate", zlib(document.as_bytes())),
            ("deflate", raw_deflate(document.as_bytes())),
        ] {
            let framing = framings.next().unwrap();
            let line = format!("Content-Encoding: {coding}\r\n");
            let bytes = answer("200 OK", &line, &body, framing);
            accepts(&format!("{coding}, {framing:?}"), &bytes).await;
        }
    }
}

#[tokio::test]
async fn compressed_errors_of_the_cluster_are_decoded() {
    let document = br#"{"Error":{"Code":"FABRIC_E_TIMEOUT","Message":"m"}}"#;
    for (coding, body) in [("gzip", gzip(document)), ("deflate", zlib(document))] {
        let line = format!("Content-Encoding: {coding}\r\n");
        let bytes = answer("500 Error", &line, &body, Framing::Length);
        let text = rejects(coding, &bytes, Reason::Timeout).await;
        assert_contains(&text, "FABRIC_E_TIMEOUT");
    }
}

#[tokio::test]
async fn unsupported_content_encodings_are_reported() {
    for (coding, name) in [
        ("br", "Brotli"),
        ("zstd", "Zstandard"),
        ("hunter2", "an unknown content coding"),
        ("gzip, gzip", "more than one content coding"),
    ] {
        let line = format!("Content-Encoding: {coding}\r\n");
        let bytes = answer("200 OK", &line, b"\x0b\x02\x80{}\x03", Framing::Length);
        let text = rejects(coding, &bytes, Reason::Decode).await;
        assert_contains(&text, &format!("unrequested content encoding {name}"));
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn corrupt_compressed_data_is_an_error_and_never_an_empty_answer() {
    for (coding, whole) in [
        ("gzip", gzip(VERSION.as_bytes())),
        ("deflate", zlib(VERSION.as_bytes())),
        ("deflate", raw_deflate(VERSION.as_bytes())),
    ] {
        for length in [1, 2, 5, whole.len() / 2, whole.len() - 1] {
            let line = format!("Content-Encoding: {coding}\r\n");
            let bytes = answer("200 OK", &line, &whole[..length], Framing::Length);
            let text = rejects(coding, &bytes, Reason::Decode).await;
            assert_contains(&text, "corrupt or incomplete");
        }
    }
}

#[tokio::test]
async fn the_body_limit_applies_to_inflated_data() {
    let bomb = vec![b' '; 50_000_000];
    for (coding, body) in [("gzip", gzip(&bomb)), ("deflate", zlib(&bomb))] {
        assert!(body.len() < 60_000);
        let line = format!("Content-Encoding: {coding}\r\n");
        let bytes = answer("200 OK", &line, &body, Framing::Length);
        let read = version(bytes, 1_000, Turn::AfterTheRequest).await;
        let (reason, text) = read.unwrap_err();
        assert_eq!(reason, Reason::TooLarge, "{text}");
        assert_contains(&text, "larger than 4194304 bytes");
    }
}

#[tokio::test]
async fn only_a_server_that_answers_in_tls_causes_the_https_hint() {
    for bytes in [
        &b"\x15\x03\x01\x00\x02\x02\x46"[..],
        b"\x15\x03\x03\x00\x02\x02\x0a",
        b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76",
    ] {
        let text = rejects("TLS", bytes, Reason::Connect).await;
        assert_contains(&text, "answers in TLS; write https instead of http");
    }
}

#[tokio::test]
async fn servers_of_other_protocols_are_recognised() {
    let frame: Vec<u8> = (0..200_u8).map(|byte| byte.wrapping_mul(37)).collect();
    for (what, bytes) in [
        ("SSH", &b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"[..]),
        ("SMTP", b"220 mail.example.org ESMTP\r\n"),
        ("a binary protocol", &frame),
        (
            "HTTP/2 alone",
            b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80",
        ),
        ("zeroes", &[0; 64]),
    ] {
        for turn in [Turn::AfterTheRequest, Turn::AtOnce] {
            for step in STEPS {
                let read = version(bytes.to_vec(), step, turn).await;
                let (reason, text) = read.expect_err(what);
                assert_eq!(reason, Reason::Connect, "{what}, {turn:?}, {step}: {text}");
                assert_contains(&text, "does not speak HTTP");
                assert_contains(&text, "19080");
                assert_no_hint_about_tls(&text);
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_closes_without_an_answer_is_recognised() {
    let text = rejects("silence", b"", Reason::Connect).await;
    assert_contains(&text, "was closed before it answered");
    assert_contains(&text, "use the port of the HTTP gateway, 19080 by default");
    let begun = rejects(
        "half of a body",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        Reason::Connect,
    );
    let begun = begun.await;
    assert_contains(&begun, "was closed");
    assert!(!begun.contains("19080"), "{begun}");
}

#[tokio::test]
async fn other_http_servers_are_recognised() {
    let mut framings = FRAMINGS.into_iter().cycle();
    let prometheus = br#"<a href="/graph">Found</a>."#;
    let html = b"<!DOCTYPE html><html><body>Sign in</body></html>";
    let api = br#"{"status":"success","data":{"version":"3.5.0"}}"#;
    let list = br#"[{"id":1},{"id":2}]"#;
    for (what, status, body) in [
        ("a page", "200 OK", &html[..]),
        ("plain text", "200 OK", b"ok\n"),
        ("a number", "200 OK", b"42"),
        ("a list", "200 OK", list),
        ("a JSON API", "200 OK", api),
        ("Prometheus", "404 Not Found", b"404 page not found\n"),
        ("a redirect", "302 Found", prometheus),
        ("another method", "405 Method Not Allowed", b""),
        (
            "an API without the route",
            "404 Not Found",
            br#"{"error":"no route"}"#,
        ),
    ] {
        let framing = framings.next().unwrap();
        let bytes = answer(status, "Content-Type: text/x\r\n", body, framing);
        let reason = if status.starts_with("200") {
            Reason::Decode
        } else {
            Reason::Api
        };
        let text = rejects(what, &bytes, reason).await;
        assert_contains(&text, "not a Service Fabric gateway");
        assert_contains(&text, "use the port of the HTTP gateway, 19080 by default");
        assert_no_hint_about_tls(&text);
    }
}

#[tokio::test]
async fn the_client_port_causes_a_warning_without_a_connection() {
    let warnings = |url: &str| gateway(url.parse().unwrap()).warnings();
    let warning = warnings("http://node1:19000").join("\n");
    assert_contains(&warning, "Connect-ServiceFabricCluster");
    assert_contains(&warning, "19080");
    assert_eq!(warnings("http://node1:19080"), Vec::<String>::new());
}
