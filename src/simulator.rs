//! A simulated Service Fabric gateway, the only stand-in for a cluster in this project.
//!
//! Written from the documented behaviour of the gateway and of its backup service. It shares no
//! type and no code with the client, so that a mistake in one cannot hide a mistake in the other.
//! [`Estate`] is the pure state of a cluster, `routes` maps a request to a response, [`Access`]
//! authorizes requests, `server` owns sockets, TLS and faults, and [`Activity`] drives the demo.
//! The same seed gives the same cluster.

mod access;
mod activity;
mod direct;
mod estate;
mod faults;
mod generation;
mod malformed;
mod options;
mod record;
mod request;
mod response;
mod routes;
mod server;
mod switches;
mod tls;

pub use access::{Access, EntraMetadata, Role};
pub use activity::{Activity, run_activity};
pub use estate::{
    Appearance, Backup, Behaviour, Entity, Estate, EstateEvent, EstateEventKind, Policy, Rejection,
    RestoreOutcome, RestorePlan, Retention, Schedule, Scheme, ServiceKind, StateProvider, Storage,
    StorageId, Tempo, Validation,
};
pub use faults::{Fault, Filter};
pub use generation::EstateSize;
pub use malformed::Malformation;
pub use options::{Latency, Options};
pub use record::{BackupPlan, Code, Outcome};
pub use request::Operation;
pub use server::Simulator;
pub use switches::{
    CANARY, EpochSpelling, Never, Pages, PartitionEpoch, Prefixes, Secrets, Sentinel, Switches,
    TokenEnd, UnconfiguredApplication,
};
pub use tls::{ServerIdentity, UnusableIdentity};
