//! HTTP/2 by hand: a client that never agrees to the end of its connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::client::TlsStream;

use crate::certificates::{Authority, client};
use crate::{Limits, SHORT, Served, limits, within_deadline};

const ASKING: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  \
                      client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
const HEADERS: u8 = 1;
/// `:status: 200` from the static table of HPACK.
const OK: u8 = 0x88;

/// Answers to no PING, and ends no connection.
struct Stubborn {
    stream: TlsStream<TcpStream>,
    next_stream: u32,
}

impl Stubborn {
    async fn connect(served: &Served) -> Self {
        let identity = served.folder.authority.signed(&client("signed"));
        let client = served.client(Some(&identity)).offering(&["h2"]);
        let mut stream = client.connect(served.address).await.unwrap();
        let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(settings).await.unwrap();
        Self {
            stream,
            next_stream: 1,
        }
    }

    /// Whether the request could be sent.
    async fn ask(&mut self, path: &str) -> bool {
        // GET, https, then path and authority with names from the static table.
        let mut block = vec![0x82, 0x87];
        for (name, value) in [(0x04, path), (0x01, "localhost")] {
            block.extend([name, u8::try_from(value.len()).unwrap()]);
            block.extend(value.as_bytes());
        }
        let length = u8::try_from(block.len()).unwrap();
        let mut frame = vec![0, 0, length, HEADERS, 5];
        frame.extend(self.next_stream.to_be_bytes());
        frame.extend(block);
        self.next_stream += 2;
        self.stream.write_all(&frame).await.is_ok()
    }

    /// The first byte of the next head of an answer; `None` when the connection is closed.
    async fn answer(&mut self) -> Option<u8> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut payload).await.ok()?;
            if head[3] == HEADERS {
                return payload.first().copied();
            }
        }
    }
}

#[tokio::test]
async fn no_request_is_served_once_other_settings_are_in_force() {
    let served = Served::limited(
        ASKING,
        Limits {
            drain: SHORT * 5,
            ..limits()
        },
    );
    let mut stubborn = Stubborn::connect(&served).await;
    assert!(stubborn.ask("/").await);
    assert_eq!(within_deadline(stubborn.answer()).await, Some(OK));
    served.folder.write("ca.pem", &Authority::new().pem());
    let closed = async {
        while stubborn.ask("/").await {
            match stubborn.answer().await {
                Some(answer) => assert_ne!(answer, OK),
                None => break,
            }
            sleep(Duration::from_millis(1)).await; // Never idle for long.
        }
    };
    within_deadline(closed).await;
}

#[tokio::test]
async fn a_connection_that_becomes_idle_does_not_hold_the_shutdown_up() {
    let served = Served::start(ASKING);
    let mut stubborn = Stubborn::connect(&served).await;
    assert!(stubborn.ask("/slow").await);
    served.slow_is_entered().await;
    served.shutdown.cancel();
    served.slow_may_end.add_permits(1);
    assert_eq!(within_deadline(stubborn.answer()).await, Some(OK));
    assert!(served.ended_gracefully().await);
}
