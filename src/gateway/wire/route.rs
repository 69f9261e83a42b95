//! The fixed part of a request: path template, API version, limits, and which system answers.
//!
//! Builds addresses and sends nothing. Every variable part of an address is percent-encoded here,
//! so that a name or a token from the cluster cannot change the meaning of a request.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use url::Url;

use crate::gateway::reason::Reason;
use crate::model::PartitionId;

/// Largest body of a single answer, in bytes: the limit that the gateway itself has.
const SINGLE_LIMIT: usize = 4 << 20;

/// Largest page of a list: the gateway cuts at about 4 MB, the backup service nowhere.
const LIST_LIMIT: usize = 64 << 20;

/// The path of the backup policies.
pub(super) const POLICIES_PATH: &[&str] = &["BackupRestore", "BackupPolicies"];

/// A route of the REST API.
#[derive(Debug)]
pub(in crate::gateway) struct Route {
    /// Name of the operation in the REST reference; a label value.
    pub(in crate::gateway) name: &'static str,
    pub(in crate::gateway) kind: RouteKind,
    pub(in crate::gateway) side: Side,
    pub(in crate::gateway) class: CallClass,
    /// The lowest version that has the members we need: the gateway rejects versions newer than
    /// its own, and the backup service any but 6.4.
    pub(super) api_version: &'static str,
    /// Path segments after the subject.
    pub(super) operation: &'static [&'static str],
    pub(super) parameters: &'static [(&'static str, &'static str)],
    /// Largest body accepted, in bytes.
    pub(in crate::gateway) body_limit: usize,
    /// Whether unauthenticated requests are answered: a success is then no proof of authorization.
    pub(in crate::gateway) anonymous: bool,
}

impl Route {
    /// A route that the gateway itself answers with a single object.
    pub(super) const fn native(
        name: &'static str,
        api_version: &'static str,
        operation: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            kind: RouteKind::Native,
            side: Side::Gateway,
            class: CallClass::Normal,
            api_version,
            operation,
            parameters: &[],
            body_limit: SINGLE_LIMIT,
            anonymous: false,
        }
    }

    /// A route that the backup service answers with a single object.
    pub(super) const fn backup(name: &'static str, operation: &'static [&'static str]) -> Self {
        Self {
            kind: RouteKind::Backup,
            side: Side::BackupService,
            ..Self::native(name, "6.4", operation)
        }
    }

    /// The same route with the body limit of a list.
    pub(super) const fn list(self) -> Self {
        Self {
            body_limit: LIST_LIMIT,
            ..self
        }
    }

    /// The URL of one request. `page` is the continuation token of a list, `remaining` the time
    /// left until the deadline.
    pub(in crate::gateway) fn url(
        &self,
        endpoint: &Url,
        subject: &Subject<'_>,
        page: Option<&str>,
        remaining: Duration,
    ) -> Url {
        let mut url = endpoint.clone();
        let base = endpoint.path();
        let mut path = base.strip_suffix('/').unwrap_or(base).to_owned();
        let mut push = |segment: &str| {
            path.push('/');
            path.push_str(segment);
        };
        if let Some((collection, id)) = subject.segments(self.kind) {
            for segment in collection {
                push(segment);
            }
            push(&encoded(&id).to_string());
        }
        for segment in self.operation {
            push(segment);
        }
        url.set_path(&path);
        let timeout = server_timeout(remaining).to_string();
        let common = [("api-version", self.api_version), ("timeout", &timeout)];
        let page = page.map(|token| ("ContinuationToken", token));
        let query: Vec<_> = common
            .iter()
            .chain(self.parameters)
            .chain(page.iter())
            .map(|(key, value)| format!("{key}={}", encoded(value)))
            .collect();
        url.set_query(Some(&query.join("&")));
        url
    }
}

/// The system that a route is implemented by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum RouteKind {
    /// The gateway itself.
    Native,
    /// The backup service, behind the gateway's reverse proxy.
    Backup,
}

/// The system that answers in the end. Each has its own circuit breaker, because each can be
/// unavailable alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Side {
    /// The gateway and the system services behind its native routes.
    Gateway,
    /// The health store: it may fail over while the rest of the gateway answers.
    HealthStore,
    BackupService,
}

/// How long a call takes, and how a timeout of it is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum CallClass {
    /// Answered from memory: a timeout means that the service is unhealthy.
    Normal,
    /// The whole storage is listed for the answer: takes several times as long, even in a healthy
    /// cluster.
    StorageScan,
}

impl CallClass {
    /// The timeout of a call of this class where a normal one has `timeout`.
    pub(in crate::gateway) fn timeout(self, timeout: Duration) -> Duration {
        match self {
            Self::Normal => timeout,
            Self::StorageScan => timeout.saturating_mul(6),
        }
    }

    /// Whether a large storage alone can cause a failure. Such a failure is no sign of an outage,
    /// and a retry would only list the storage once more: old runtimes continue to list after the
    /// client has left, and the reverse proxy gives up with an empty 504.
    pub(in crate::gateway) fn explains(self, reason: Reason) -> bool {
        self == Self::StorageScan && matches!(reason, Reason::Timeout | Reason::ServiceUnavailable)
    }
}

/// The object that a request is about: the first part of its path.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The cluster as a whole.
    Cluster,
    /// The name of an application.
    Application(&'a str),
    /// The name of a service.
    Service(&'a str),
    /// The id of a partition.
    Partition(PartitionId),
    /// The name of a policy.
    Policy(&'a str),
}

impl Subject<'_> {
    /// Collection and id, as `kind` spells it. The levels of a name are separated by `~` on native
    /// routes and by `/` on backup routes, where 6.4 does not support `~`. The separator is escaped
    /// like every other character of an id, which every runtime decodes.
    fn segments(&self, kind: RouteKind) -> Option<(&'static [&'static str], String)> {
        let id = |name: &str| {
            let name = name.strip_prefix("fabric:/").unwrap_or(name);
            match kind {
                RouteKind::Native => name.replace('/', "~"),
                RouteKind::Backup => name.to_owned(),
            }
        };
        match self {
            Self::Cluster => None,
            Self::Application(name) => Some((&["Applications"], id(name))),
            Self::Service(name) => Some((&["Services"], id(name))),
            Self::Partition(partition) => Some((&["Partitions"], partition.to_string())),
            Self::Policy(name) => Some((POLICIES_PATH, (*name).to_owned())),
        }
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Application(name) => write!(f, "application {name}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Partition(partition) => write!(f, "partition {partition}"),
            Self::Policy(name) => write!(f, "policy {name}"),
        }
    }
}

/// Whole seconds, less than our own timeout: an error of the service carries more information than
/// a timeout on our side.
fn server_timeout(remaining: Duration) -> u64 {
    remaining
        .saturating_sub(Duration::from_millis(500))
        .as_secs()
        .max(1)
}

/// Every character but the unreserved ones of RFC 3986. The set of the `url` crate, which is the
/// one of browsers, leaves `|`, `[`, `]` and `^` unescaped, which strict servers reject.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn encoded(value: &str) -> PercentEncode<'_> {
    utf8_percent_encode(value, RESERVED)
}

#[cfg(test)]
mod tests;
