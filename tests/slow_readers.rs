//! The exporter process with clients that hardly read their pages.

use std::time::Duration;

use crate::support::large_page::{
    begin_to_scrape, connect_with_small_buffer, started_with_a_large_page,
};
use crate::support::process::Exporter;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

const INFO: &str = "servicefabric_backup_partition_info";

/// Reads every page completely.
async fn gets_every_page(exporter: &Exporter) {
    let page = exporter.scrape().await;
    assert_eq!(page.all(INFO, &[]).len(), 308);
    let list = exporter.get("/api/v1/partitions").await;
    assert_eq!(list.status, StatusCode::OK);
    assert_eq!(list.json()["partitions"].as_array().unwrap().len(), 308);
    for path in ["/", "/-/healthy"] {
        assert_eq!(exporter.get(path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn unread_scrape_delays_no_other_request() {
    let (_simulator, exporter) = started_with_a_large_page("--web.max-requests=1").await;
    let _scrape = begin_to_scrape(&exporter).await;
    gets_every_page(&exporter).await;
}

/// Requests the metrics and reads one byte per second, or none.
async fn read_slowly(mut stream: TcpStream, number: usize) {
    let coding = ["identity", "gzip"][number % 2];
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {coding}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    if number.is_multiple_of(3) {
        std::future::pending::<()>().await;
    }
    while stream.read_u8().await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn five_hundred_slow_scrapers_delay_no_other_request() {
    let (_simulator, exporter) = started_with_a_large_page("--log.level=info").await;
    let mut slow = JoinSet::new();
    for number in 0..500 {
        let stream = connect_with_small_buffer(&exporter).await;
        slow.spawn(read_slowly(stream, number));
    }
    for _ in 0..3 {
        gets_every_page(&exporter).await;
    }
}
