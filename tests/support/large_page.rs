//! An exporter with a page larger than the socket buffers, and clients that do not read it.

use std::net::SocketAddr;

use servicefabric_backup_exporter::simulator::{Options, Scheme, ServiceKind, Simulator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::process::{Exporter, Setup};
use crate::support::{born, estate, simulate, succeed_everywhere};

/// Starts an exporter whose page exceeds the socket buffers of both ends.
pub(crate) async fn started_with_a_large_page(flag: &str) -> (Simulator, Exporter) {
    let mut estate = estate(1);
    let application = format!("fabric:/{}", "LongName".repeat(120));
    let service = format!("{application}/Service");
    estate.add_service(
        &application,
        &service,
        ServiceKind::Persisted,
        Scheme::Ranges(300),
        born(),
    );
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let config = format!(
        "clusters: [{{name: test, endpoints: ['{}']}}]",
        simulator.url()
    );
    let exporter = Setup::new(&config).flag(flag).start().await;
    exporter.ready().await;
    (simulator, exporter)
}

pub(crate) async fn connect_with_small_buffer(exporter: &Exporter) -> TcpStream {
    let address = exporter.addresses()[0].clone();
    let address: SocketAddr = address.strip_prefix("http://").unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address).await.unwrap()
}

/// Requests the metrics and reads only the first byte.
pub(crate) async fn begin_to_scrape(exporter: &Exporter) -> TcpStream {
    let mut stream = connect_with_small_buffer(exporter).await;
    let request = b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'H');
    stream
}
