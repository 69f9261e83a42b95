//! A simulated Service Fabric gateway: the only stand-in for a cluster this project has.
//!
//! Written from the documented behaviour of the gateway and of its backup service, in its own
//! types: it shares no type and no code with the client, so a mistake of the one cannot hide a
//! mistake of the other. [`Estate`] is the pure world, `routes` turns a request into an answer,
//! [`Access`] says who is let in, `server` owns sockets, TLS and faults, [`Activity`] keeps a demo
//! estate busy. Same seed, same world.

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
