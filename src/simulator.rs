//! A simulated Service Fabric gateway: the only stand-in for a cluster this project has.
//!
//! Written from the documented behaviour of the gateway and of its backup service, in its own
//! types: it shares no type and no code with the client, so a mistake of the one cannot hide a
//! mistake of the other. [`Estate`] is the pure world, `routes` turns a request into an answer,
//! [`Access`] says who is let in, `server` owns sockets, TLS and faults, [`Life`] keeps a demo
//! estate busy. Same seed, same world.

mod access;
mod answer;
mod direct;
mod estate;
mod faults;
mod generation;
mod life;
mod malformed;
mod options;
mod record;
mod request;
mod routes;
mod server;
mod switches;
mod tls;

pub use access::{Access, EntraMetadata, Role};
pub use estate::{
    Appearance, Backup, Behaviour, Entity, Estate, Happened, Happening, Place, Policy, Refusal,
    RestoreOutcome, RestorePlan, Retention, Schedule, Scheme, ServiceKind, StateProvider, Storage,
    Tempo, Validation,
};
pub use faults::{Fault, Filter};
pub use generation::Shape;
pub use life::{Life, live};
pub use malformed::Malformation;
pub use options::{Latency, Options};
pub use record::{Code, Outcome, Plan};
pub use request::Operation;
pub use server::Simulator;
pub use switches::{
    CANARY, EpochSpelling, Never, Pages, PartitionEpoch, Prefixes, Secrets, Sentinel, Switches,
    TokenEnd, UnconfiguredApplication,
};
pub use tls::{ServerIdentity, UnusableIdentity};
