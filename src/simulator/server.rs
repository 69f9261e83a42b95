//! The sockets of the simulated gateway.
//!
//! Responsible for listening, in TLS or not, for metering what arrives, and for carrying out the
//! faults that only show on the wire. It may not know routes or records. The estate is locked for
//! the lookup only; rendering, waiting and writing happen outside the lock. Who is not let in
//! meets no fault and learns nothing.

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

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes of the largest body of a request, of which all have some hundreds; a larger one ends the
/// connection.
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
    /// Starts to serve in the background; must be called within a tokio runtime. Fails when the
    /// listener cannot tell its address.
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

    /// Looks at the world, or changes it, while it is being served. Requests wait until `f` is
    /// done, and `f` must not use this simulator: it would wait for itself.
    pub fn with_estate<R>(&self, f: impl FnOnce(&mut Estate) -> R) -> R {
        f(&mut lock(&self.shared.state).estate)
    }

    /// Looks at who is let in, or changes it from the next request on. `f` must not use this
    /// simulator.
    pub fn with_access<R>(&self, f: impl FnOnce(&mut Access) -> R) -> R {
        f(&mut lock(&self.shared.state).access)
    }

    /// Shows another certificate on connections from now on, and knows no session from before.
    /// Those that exist stay as they are. A plain gateway turns to TLS with it.
    pub fn present(&self, identity: ServerIdentity) {
        *lock(&self.shared.identity) = Some(identity);
    }

    /// Makes things go wrong until [`Self::heal`]. The fault injected last goes first.
    pub fn inject(&self, fault: Fault, filter: Filter) {
        self.state().faults.inject(fault, filter, None);
    }

    /// Makes things go wrong for the next `count` requests that match.
    pub fn inject_next(&self, count: u64, fault: Fault, filter: Filter) {
        self.state().faults.inject(fault, filter, Some(count));
    }

    /// Ends all faults; answers already under way are not changed by it.
    pub fn heal(&self) {
        self.state().faults.heal();
    }

    /// How many requests arrived, by [`super::Operation::name`].
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.shared.meter.requests()
    }

    /// The most requests that were being answered at the same moment.
    pub fn peak_in_flight(&self) -> usize {
        self.shared.meter.peak()
    }

    /// How many requests are being answered now.
    pub fn in_flight(&self) -> usize {
        self.shared.meter.in_flight()
    }

    /// How many connections were accepted, whatever came of them.
    pub fn connections(&self) -> u64 {
        self.shared.meter.connections()
    }

    /// How many TLS handshakes were completed that did not resume a session.
    pub fn full_handshakes(&self) -> u64 {
        self.shared.meter.full_handshakes()
    }

    /// Closes the port and every connection at once, without waiting for answers.
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
                tracing::warn!(%error, "the simulated gateway could not accept a connection");
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
        Err(error) => tracing::debug!(%error, "no TLS with a client of the simulated gateway"),
    }
}

/// Serves HTTP on a connection whose client has shown this certificate.
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
        tracing::debug!(%error, "a connection to the simulated gateway ended early");
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
    // A sleep of nothing would still last until the next tick of the timer, a millisecond.
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let (fault, answer) = shared.look_up(&request, &client);
    match fault {
        Some(Fault::Hang) => std::future::pending::<()>().await,
        Some(Fault::HangThen504(time)) => tokio::time::sleep(time).await,
        Some(Fault::Reset) => return Err(reset_switch.request_reset()),
        Some(Fault::Closed) => return Err(io::Error::other("closed without an answer")),
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
    /// The latency of the next answer.
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
