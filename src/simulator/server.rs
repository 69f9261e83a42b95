//! Sockets of the simulated gateway.
//!
//! Listens with or without TLS, counts requests, and applies the faults of the connection. Knows no
//! routes and no records. The estate is locked for the lookup only; rendering, waiting and writing
//! happen outside the lock. Faults do not apply to unauthorized requests.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{Access, ClientIdentity, Fingerprint};
use super::estate::Estate;
use super::faults::{Fault, Faults, Filter};
use super::options::{Latency, Options};
use super::request::Request;
use super::response::GatewayResponse;
use super::routes::{self, Paging, ResponseSettings};
use super::tls::{self, ServerIdentity};
use crate::clock;

mod lock;
mod meter;
mod wire;

use lock::lock;
use meter::{InFlightRequest, Meter};
use wire::{ResetSwitch, ResettableStream, ResponseBody};

/// Timeout of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Maximum size of a request body in bytes; a larger one ends the connection.
const LARGEST_REQUEST: usize = 64 * 1024;

/// A simulated gateway that serves an [`Estate`] until it is dropped or stopped.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<SharedState>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct SharedState {
    state: Mutex<GatewayState>,
    identity: Mutex<Option<ServerIdentity>>,
    options: Options,
    chance: Mutex<fastrand::Rng>,
    meter: Arc<Meter>,
}

#[derive(Debug)]
struct GatewayState {
    estate: Estate,
    access: Access,
    faults: Faults,
}

impl Simulator {
    /// Starts to serve in the background; must be called within a tokio runtime. Fails if the
    /// address of the listener cannot be read.
    pub fn start(listener: TcpListener, estate: Estate, options: Options) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let seed = match options.latency {
            Latency::Spread { seed, .. } => seed,
            _ => 0,
        };
        let shared = Arc::new(SharedState {
            state: Mutex::new(GatewayState {
                estate,
                access: options.access.clone(),
                faults: Faults::default(),
            }),
            identity: Mutex::new(options.identity.clone()),
            options,
            chance: Mutex::new(fastrand::Rng::with_seed(seed)),
            meter: Arc::default(),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(listen(
            listener,
            Arc::clone(&shared),
            tasks.clone(),
            stop.clone(),
        ));
        Ok(Self {
            shared,
            address,
            stop,
            tasks,
        })
    }

    /// The base address of the gateway, without a slash at its end.
    pub fn url(&self) -> String {
        let scheme = lock(&self.shared.identity)
            .as_ref()
            .map_or("http", |_| "https");
        format!("{scheme}://{}", self.address)
    }

    /// Reads or changes the estate while it is served. Requests wait until `f` returns, and `f`
    /// must not use this simulator, because that would deadlock.
    pub fn with_estate<R>(&self, f: impl FnOnce(&mut Estate) -> R) -> R {
        f(&mut lock(&self.shared.state).estate)
    }

    /// Reads or changes the authorization of requests, from the next request on. `f` must not use
    /// this simulator.
    pub fn with_access<R>(&self, f: impl FnOnce(&mut Access) -> R) -> R {
        f(&mut lock(&self.shared.state).access)
    }

    /// Uses another certificate for new connections and discards TLS sessions. Existing connections
    /// are unchanged. A gateway without TLS switches to TLS.
    pub fn present(&self, identity: ServerIdentity) {
        *lock(&self.shared.identity) = Some(identity);
    }

    /// Injects a fault until [`Self::heal`]. The latest fault takes precedence.
    pub fn inject(&self, fault: Fault, filter: Filter) {
        self.state().faults.inject(fault, filter, None);
    }

    /// Injects a fault for the next `count` matching requests.
    pub fn inject_next(&self, count: u64, fault: Fault, filter: Filter) {
        self.state().faults.inject(fault, filter, Some(count));
    }

    /// Clears all faults; responses in progress are unchanged.
    pub fn heal(&self) {
        self.state().faults.heal();
    }

    /// Number of requests received, by [`super::Operation::name`].
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.shared.meter.requests()
    }

    /// Maximum number of concurrent requests so far.
    pub fn peak_in_flight(&self) -> usize {
        self.shared.meter.peak()
    }

    /// Number of requests in progress.
    pub fn in_flight(&self) -> usize {
        self.shared.meter.in_flight()
    }

    /// Number of accepted connections.
    pub fn connections(&self) -> u64 {
        self.shared.meter.connections()
    }

    /// Number of full TLS handshakes, without resumed sessions.
    pub fn full_handshakes(&self) -> u64 {
        self.shared.meter.full_handshakes()
    }

    /// Closes the port and every connection immediately.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn state(&self) -> MutexGuard<'_, GatewayState> {
        lock(&self.shared.state)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn listen(
    listener: TcpListener,
    shared: Arc<SharedState>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(stream, Arc::clone(&shared));
                let stop = stop.clone();
                tasks.spawn(async move { stop.run_until_cancelled(connection).await });
            }
            Err(error) => {
                tracing::warn!(%error, "simulated gateway failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<SharedState>) {
    shared.meter.count_connection();
    let reset_switch = ResetSwitch::default();
    let wire = ResettableStream::new(stream, reset_switch.clone());
    let identity = lock(&shared.identity).clone();
    let Some(identity) = identity else {
        return speak_http(wire, shared, reset_switch, None).await;
    };
    let handshake = timeout(HANDSHAKE, identity.accept(wire)).await;
    match handshake.unwrap_or_else(|late| Err(late.into())) {
        Ok(stream) => {
            if tls::is_full(&stream) {
                shared.meter.count_full_handshake();
            }
            let certificate = tls::certificate_of(&stream);
            speak_http(stream, shared, reset_switch, certificate).await;
        }
        Err(error) => tracing::debug!(%error, "TLS handshake with the simulated gateway failed"),
    }
}

/// Serves HTTP on a connection with this client certificate.
async fn speak_http<S>(
    stream: S,
    shared: Arc<SharedState>,
    reset_switch: ResetSwitch,
    certificate: Option<Fingerprint>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let client = ClientIdentity::of(request.headers(), certificate);
        respond(Arc::clone(&shared), reset_switch.clone(), client, request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection to the simulated gateway ended early");
    }
}

async fn respond(
    shared: Arc<SharedState>,
    reset_switch: ResetSwitch,
    client: ClientIdentity,
    incoming: hyper::Request<Incoming>,
) -> io::Result<Response<ResponseBody>> {
    let in_flight_request = Arc::new(InFlightRequest::take(&shared.meter));
    let mut request = Request::parse(incoming.method(), incoming.uri());
    shared.meter.count(&request);
    let body = Limited::new(incoming.into_body(), LARGEST_REQUEST);
    let body = body.collect().await;
    request.body = body.map_err(io::Error::other)?.to_bytes();
    let pause = shared.pause();
    // A sleep of zero lasts until the next timer tick, a millisecond.
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let (fault, answer) = shared.look_up(&request, &client);
    match fault {
        Some(Fault::Hang) => std::future::pending::<()>().await,
        Some(Fault::HangThen504(time)) => tokio::time::sleep(time).await,
        Some(Fault::Reset) => return Err(reset_switch.request_reset()),
        Some(Fault::Closed) => {
            return Err(io::Error::other("connection closed without a response"));
        }
        _ => {}
    }
    let (head, body) = answer.render(&shared.options.switches);
    Ok(match fault {
        Some(Fault::TooLarge(bytes)) => wire::unbounded(head, bytes),
        Some(Fault::SlowBody(time)) => wire::slow(head, &body, time, in_flight_request),
        Some(Fault::TruncatedBody) => wire::truncated(head, &body),
        Some(Fault::Malformed(how)) => wire::whole(head, how.corrupt(&body)),
        _ => wire::whole(head, body),
    })
}

impl SharedState {
    /// Draws the latency of the next response.
    fn pause(&self) -> Duration {
        match self.options.latency {
            Latency::None => Duration::ZERO,
            Latency::Fixed(time) => time,
            Latency::Spread { low, high, .. } => {
                let chance = lock(&self.chance).f64();
                low + high.saturating_sub(low).mul_f64(chance.powi(4))
            }
        }
    }

    fn look_up(
        &self,
        request: &Request,
        client: &ClientIdentity,
    ) -> (Option<Fault>, GatewayResponse) {
        let now = clock::now();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.estate.tick(now);
        let Some(role) = state.access.role(client, request.operation) else {
            return (None, GatewayResponse::no_certificate());
        };
        let fault = state.faults.strike(request);
        let replaced = fault.and_then(|fault| fault.answer(request.operation.kind()));
        let answer = replaced.unwrap_or_else(|| {
            let settings = ResponseSettings {
                switches: &self.options.switches,
                cluster_version: &self.options.cluster_version,
                on_demand: &self.options.on_demand,
                restore: &self.options.restore,
                backup_service: !state.faults.service_absent(),
                paging: match fault {
                    Some(Fault::EndlessPaging) => Paging::Endless,
                    Some(Fault::RepeatedToken) => Paging::Repeated,
                    _ => Paging::Normal,
                },
                access: &state.access,
                role,
            };
            routes::answer(&mut state.estate, request, &settings, now)
        });
        (fault, answer)
    }
}
