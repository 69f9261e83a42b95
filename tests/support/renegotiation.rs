//! A TLS front of a gateway: requests the client certificate by renegotiation, like http.sys, and
//! forwards the decrypted requests.
//!
//! Uses OpenSSL, because rustls does not renegotiate. One thread per connection; every connection
//! leaves a record of the client.

#![expect(unsafe_code, reason = "only the C library can renegotiate")]

use std::ffi::c_int;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ptr;
use std::sync::{Arc, Mutex};
use std::thread;

use foreign_types::ForeignTypeRef;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslOptions, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl_sys as ffi;

use super::certificates::Pair;
use super::eventually;

unsafe extern "C" {
    // Not declared by the bindings.
    fn SSL_renegotiate(ssl: *mut ffi::SSL) -> c_int;
}

/// Not declared by the bindings.
const SSL_CTRL_CLEAR_MODE: c_int = 78;

/// When the client certificate is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Never,
    /// In the first handshake.
    AtFirst,
    /// By renegotiation, after the head of a request without a token.
    Later,
}

/// The reaction to a client without a certificate, or with an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strangers {
    /// Status 403 with an empty body, like Service Fabric.
    Answered,
    /// A TLS alert, like servers that leave it to their TLS library.
    Alerted,
}

/// The source of the responses.
#[derive(Clone)]
pub(crate) enum Backend {
    /// An HTTP server without TLS, which gets the role in the header `X-Role`.
    Address(SocketAddr),
    /// This body, with status 200, for every request.
    Body(&'static str),
    /// These bytes for every request.
    Raw(&'static str),
}

/// The behaviour of a front.
#[derive(Clone)]
pub(crate) struct Behaviour {
    pub(crate) asks: Asks,
    pub(crate) strangers: Strangers,
    /// Client certificates that have the role `User`, in DER.
    pub(crate) known: Vec<Vec<u8>>,
    pub(crate) oldest: SslVersion,
    pub(crate) newest: SslVersion,
    /// Whether each connection ends with its first answer.
    pub(crate) closes: bool,
    /// One for each connection; the last one for all that follow.
    pub(crate) shows: Vec<Pair>,
    /// Sent along with what is shown.
    pub(crate) intermediate: Option<String>,
    pub(crate) backend: Backend,
}

impl Behaviour {
    /// A gateway of a current cluster.
    pub(crate) fn of_service_fabric(shows: &Pair, known: &[&Pair], backend: Backend) -> Self {
        Self {
            asks: Asks::Later,
            strangers: Strangers::Answered,
            known: known.iter().map(|pair| pair.der.clone()).collect(),
            oldest: SslVersion::TLS1_2,
            newest: SslVersion::TLS1_2,
            closes: false,
            shows: vec![shows.clone()],
            intermediate: None,
            backend,
        }
    }
}

/// The record of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether the first handshake succeeded.
    pub(crate) handshake: bool,
    pub(crate) renegotiations: usize,
    /// Bytes that the client sent inside TLS.
    pub(crate) bytes: usize,
    pub(crate) requests: usize,
    /// Common name in the client's certificate.
    pub(crate) client: Option<String>,
    /// Whether the connection has ended.
    pub(crate) over: bool,
}

/// A front that runs until the test ends.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    manner: Arc<Mutex<Behaviour>>,
}

impl Front {
    pub(crate) fn start(manner: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            manner: Arc::new(Mutex::new(manner)),
        };
        let (seen, manner) = (Arc::clone(&front.seen), Arc::clone(&front.manner));
        thread::spawn(move || {
            for (number, tcp) in listener.incoming().flatten().enumerate() {
                seen.lock().unwrap().push(Seen::default());
                let manner = manner.lock().unwrap().clone();
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    // How a connection ends is in its record.
                    serve(tcp, number, &manner, &seen).ok();
                    seen.lock().unwrap()[number].over = true;
                });
            }
        });
        front
    }

    pub(crate) fn url(&self) -> url::Url {
        format!("https://{}", self.address).parse().unwrap()
    }

    /// Every connection so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Every connection, once so many have ended and no other is open.
    pub(crate) async fn seen_of(&self, connections: usize) -> Vec<Seen> {
        eventually("all connections have ended", async || {
            let seen = self.seen();
            let done = seen.len() == connections && seen.iter().all(|seen| seen.over);
            done.then_some(seen)
        })
        .await
    }
}

/// One connection, and what is noted of it.
struct Connection<'a> {
    tls: SslStream<TcpStream>,
    manner: &'a Behaviour,
    number: usize,
    seen: &'a Mutex<Vec<Seen>>,
    backend: Option<BufReader<TcpStream>>,
}

fn serve(
    tcp: TcpStream,
    number: usize,
    manner: &Behaviour,
    seen: &Mutex<Vec<Seen>>,
) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let shown = manner.shows.get(number).or_else(|| manner.shows.last());
    let tls = acceptor(manner, shown.unwrap())?;
    let mut connection = Connection {
        tls: tls.accept(tcp).map_err(io::Error::other)?,
        manner,
        number,
        seen,
        backend: None,
    };
    connection.note(|seen| seen.handshake = true);
    connection.requests()
}

fn acceptor(manner: &Behaviour, shown: &Pair) -> io::Result<SslAcceptor> {
    let mut tls = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    tls.set_certificate(&*X509::from_pem(shown.certificate.as_bytes())?)?;
    tls.set_private_key(&*PKey::private_key_from_pem(shown.key.as_bytes())?)?;
    if let Some(intermediate) = &manner.intermediate {
        tls.add_extra_chain_cert(X509::from_pem(intermediate.as_bytes())?)?;
    }
    tls.set_min_proto_version(Some(manner.oldest))?;
    tls.set_max_proto_version(Some(manner.newest))?;
    // A resumed session carries no certificate request.
    tls.set_options(SslOptions::NO_SESSION_RESUMPTION_ON_RENEGOTIATION);
    if manner.asks == Asks::AtFirst {
        match manner.strangers {
            Strangers::Answered => tls.set_verify_callback(SslVerifyMode::PEER, |_, _| true),
            Strangers::Alerted => {
                tls.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            }
        }
    }
    Ok(tls.build())
}

impl Connection<'_> {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap()[self.number]);
    }

    fn requests(&mut self) -> io::Result<()> {
        loop {
            let Some(head) = self.head()? else {
                return Ok(());
            };
            self.note(|seen| seen.requests += 1);
            let answer = self.answer(&head)?;
            self.tls.write_all(&answer)?;
            if self.manner.closes {
                self.tls.shutdown().map_err(io::Error::other)?;
                return Ok(());
            }
        }
    }

    /// The next head of a request; what is asked here never has a body.
    fn head(&mut self) -> io::Result<Option<String>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut chunk = [0; 4096];
            let length = self.tls.read(&mut chunk)?;
            if length == 0 {
                return Ok(None);
            }
            self.note(|seen| seen.bytes += length);
            head.extend_from_slice(&chunk[..length]);
        }
        String::from_utf8(head).map(Some).map_err(io::Error::other)
    }

    fn answer(&mut self, head: &str) -> io::Result<Vec<u8>> {
        let token = head.to_ascii_lowercase().contains("\r\nauthorization: ");
        if self.manner.asks == Asks::Later && !token && self.tls.ssl().peer_certificate().is_none()
        {
            self.ask_for_certificate()?;
        }
        let client = self.tls.ssl().peer_certificate();
        let subject = client.as_ref().and_then(|client| {
            let name = client.subject_name();
            let name = name.entries_by_nid(Nid::COMMONNAME).next()?.data();
            name.to_string().ok()
        });
        self.note(|seen| seen.client.clone_from(&subject));
        let der = client.and_then(|client| client.to_der().ok());
        let known = der.is_some_and(|der| self.manner.known.contains(&der));
        if self.manner.asks != Asks::Never && !token && !known {
            return Ok(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec());
        }
        match self.manner.backend.clone() {
            Backend::Address(address) => self.forward(address, head, known),
            Backend::Body(body) => {
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                Ok([head.as_bytes(), body.as_bytes()].concat())
            }
            Backend::Raw(answer) => Ok(answer.as_bytes().to_vec()),
        }
    }

    /// The answer of a server behind; it must tell its length.
    fn forward(&mut self, address: SocketAddr, head: &str, known: bool) -> io::Result<Vec<u8>> {
        let backend = match &mut self.backend {
            Some(backend) => backend,
            none => none.insert(BufReader::new(TcpStream::connect(address)?)),
        };
        let (line, fields) = head.split_once("\r\n").unwrap();
        let role = if known { "X-Role: User\r\n" } else { "" };
        let request = format!("{line}\r\n{role}{fields}");
        backend.get_mut().write_all(request.as_bytes())?;
        let (mut answer, mut length) = (Vec::new(), 0);
        loop {
            let start = answer.len();
            if backend.read_until(b'\n', &mut answer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&answer[start..]).to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            } else if line == "\r\n" {
                break;
            }
        }
        backend.take(length).read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn ask_for_certificate(&mut self) -> io::Result<()> {
        extern "C" fn accept_any(_: c_int, _: *mut ffi::X509_STORE_CTX) -> c_int {
            1
        }
        let (mode, callback) = match self.manner.strangers {
            Strangers::Answered => (ffi::SSL_VERIFY_PEER, Some(accept_any as _)),
            Strangers::Alerted => (
                ffi::SSL_VERIFY_PEER | ffi::SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                None,
            ),
        };
        let ssl = self.tls.ssl().as_ptr();
        // SAFETY: `ssl` lives as long as the stream, which is borrowed here and in no other thread.
        unsafe {
            ffi::SSL_set_verify(ssl, mode, callback);
            // Else the peek below would wait for data after the handshake.
            ffi::SSL_ctrl(
                ssl,
                SSL_CTRL_CLEAR_MODE,
                ffi::SSL_MODE_AUTO_RETRY,
                ptr::null_mut(),
            );
            if SSL_renegotiate(ssl) != 1 {
                return Err(io::Error::other("it cannot renegotiate"));
            }
        }
        // Sends the request for a new handshake; to look at nothing runs it.
        self.tls.do_handshake().map_err(io::Error::other)?;
        let peeked = self.tls.ssl_peek(&mut []);
        if !self.tls.ssl().is_init_finished() {
            return Err(io::Error::other(format!("{peeked:?}")));
        }
        self.note(|seen| seen.renegotiations += 1);
        Ok(())
    }
}
