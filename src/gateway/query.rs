//! What all routes have in common: how an address is built, an answer read and a page taken apart.
//!
//! Builds and reads only, sends nothing. Every part of an address is percent-encoded here, so that
//! a name or a token of the cluster cannot change the meaning of a request.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::debug;
use url::Url;

use crate::gateway::classify::classify;
use crate::gateway::decode::DecodeError;
use crate::gateway::decode::{self, Items};
use crate::gateway::error::{Cause, Reason};
use crate::model::PartitionId;

/// A question to the gateway.
pub(super) trait Query {
    /// Where to ask.
    const ROUTE: Route;
    /// Who answers in the end, and stops answering alone.
    const SIDE: Side = match Self::ROUTE.kind {
        RouteKind::Native => Side::Gateway,
        RouteKind::Backup => Side::BackupService,
    };
    /// How long the answer may take.
    const PACE: Pace = Pace::Prompt;
    /// The JSON object that is answered.
    type Reply: DeserializeOwned;
    /// What it means.
    type Answer;

    /// Whether "nothing" is only believed as 204: something in front of a gateway may answer
    /// empty bodies with 200, and here nothing means that something is gone.
    const NOTHING_IS_204: bool = false;

    /// Whether everybody is answered: an answer then does not show that we are let in.
    const ANONYMOUS: bool = false;

    /// What the question is about.
    fn subject(&self) -> Subject<'_>;

    /// Translates the reply; `None` is an empty body or `null`.
    fn answer(reply: Option<Self::Reply>) -> Result<Self::Answer, Cause>;

    /// The answer when the service says that nothing is protected here; by default an error.
    fn unprotected() -> Option<Self::Answer> {
        None
    }
}

/// The fixed part of an address.
#[derive(Debug)]
pub(super) struct Route {
    /// Name of the operation in the REST reference; a label value.
    pub(super) name: &'static str,
    pub(super) kind: RouteKind,
    /// The lowest that has what we need: the gateway refuses a newer one than its own, and the
    /// backup service any but 6.4.
    pub(super) api_version: &'static str,
    /// Path segments behind the subject.
    pub(super) operation: &'static [&'static str],
    pub(super) parameters: &'static [(&'static str, &'static str)],
    /// Largest body accepted, in bytes.
    pub(super) body_limit: usize,
}

/// Who answers a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    /// The gateway itself.
    Native,
    /// The backup service, behind the gateway's inner proxy.
    Backup,
}

/// Who answers in the end. Each has a breaker of its own, because each can be away alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The gateway and the system services behind its native routes.
    Gateway,
    /// The health store: it may fail over while the rest of the gateway answers.
    HealthStore,
    /// The backup service.
    BackupService,
}

/// How long an answer may take, and what it means when it takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Comes out of memory: whoever does not answer in time is not well.
    Prompt,
    /// Has a whole storage listed first: takes several times as long, even where all is well.
    Storage,
}

impl Pace {
    /// How long a call may take where a prompt one may take `timeout`.
    pub(super) fn deadline(self, timeout: Duration) -> Duration {
        match self {
            Self::Prompt => timeout,
            Self::Storage => timeout.saturating_mul(6),
        }
    }

    /// Whether a failure may come from a large storage alone. It then tells nothing of the
    /// service, and asking again would only have the storage listed once more: old runtimes go
    /// on listing when nobody waits any longer, and the inner proxy gives up with an empty 504.
    pub(super) fn explains(self, reason: Reason) -> bool {
        self == Self::Storage && matches!(reason, Reason::Timeout | Reason::ServiceUnavailable)
    }
}

/// What a question is about: the first part of its path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    Cluster,
    Application(&'a str),
    Service(&'a str),
    Partition(PartitionId),
    Policy(&'a str),
}

impl Subject<'_> {
    /// Collection and id, as `kind` spells it. Between the levels of a name stands `~` on native
    /// routes and `/` on backup routes, where 6.4 does not know the other; it is escaped like
    /// everything in an id, which every runtime undoes.
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
            Self::Policy(name) => Some((POLICIES, (*name).to_owned())),
        }
    }
}

/// Where the backup service keeps its policies.
pub(super) const POLICIES: &[&str] = &["BackupRestore", "BackupPolicies"];

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

/// The address of one request, of which `remaining` is left of the deadline.
pub(super) fn url(
    endpoint: &Url,
    route: &Route,
    subject: &Subject<'_>,
    token: Option<&str>,
    remaining: Duration,
) -> Url {
    let mut url = endpoint.clone();
    let base = endpoint.path();
    let mut path = base.strip_suffix('/').unwrap_or(base).to_owned();
    let mut push = |segment: &str| {
        path.push('/');
        path.push_str(segment);
    };
    if let Some((collection, id)) = subject.segments(route.kind) {
        for segment in collection {
            push(segment);
        }
        push(&encoded(&id).to_string());
    }
    for segment in route.operation {
        push(segment);
    }
    url.set_path(&path);
    let timeout = server_timeout(remaining).to_string();
    let own = [("api-version", route.api_version), ("timeout", &timeout)];
    let token = token.map(|token| ("ContinuationToken", token));
    let query: Vec<_> = own
        .iter()
        .chain(route.parameters)
        .chain(token.iter())
        .map(|(key, value)| format!("{key}={}", encoded(value)))
        .collect();
    url.set_query(Some(&query.join("&")));
    url
}

/// Whole seconds, a little less than we wait: an error of the service tells more than our own.
fn server_timeout(remaining: Duration) -> u64 {
    remaining
        .saturating_sub(Duration::from_millis(500))
        .as_secs()
        .max(1)
}

/// Every character but the unreserved ones of RFC 3986. The set of the `url` crate, which is the
/// one of browsers, leaves `|`, `[`, `]` and `^` as they are, which strict servers reject.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn encoded(value: &str) -> PercentEncode<'_> {
    utf8_percent_encode(value, RESERVED)
}

/// Reads an answer of any status.
pub(super) fn read<Q: Query>(
    subject: &Subject<'_>,
    status: u16,
    body: &[u8],
) -> Result<Q::Answer, Cause> {
    if (200..300).contains(&status) {
        let reply =
            decode::document(body).map_err(|misread| foreign(Q::ROUTE.kind, body, misread))?;
        if reply.is_none() && status != 204 && Q::NOTHING_IS_204 {
            return Err(DecodeError::Empty.into());
        }
        return Q::answer(reply);
    }
    let mut refusal = classify(Q::ROUTE.kind, subject, status, body);
    if refusal.code.is_none()
        && refusal.reason == Reason::Api
        && matches!(status, 300..=399 | 404 | 405 | 501)
    {
        refusal = refusal.advised(DecodeError::NotGateway.to_string());
    }
    let answer = Q::unprotected().filter(|_| refusal.is_backup_not_enabled());
    answer.ok_or(Cause::Refusal(refusal))
}

/// `misread`, and what it says about the server: all routes of a gateway answer JSON objects.
fn foreign(kind: RouteKind, body: &[u8], misread: DecodeError) -> DecodeError {
    match misread {
        DecodeError::Structure { .. } | DecodeError::Syntax { .. }
            if !decode::without_padding(body).starts_with(b"{") =>
        {
            DecodeError::NotGateway
        }
        DecodeError::Structure { line, column } if kind == RouteKind::Native => {
            DecodeError::NativeStructure { line, column }
        }
        misread => misread,
    }
}

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Number of items that could not be decoded.
    pub(super) skipped: usize,
    /// Why one of them could not, where more is known than that it is not the object expected.
    pub(super) fault: Option<DecodeError>,
    /// The token of the next page; `None` at the end.
    pub(super) next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PageReply<T> {
    /// `""` from native routes and null from the backup service at the end.
    continuation_token: Option<String>,
    items: Items<T>,
}

impl<T> Page<T> {
    /// The end of a list, and nothing on it.
    pub(super) fn empty() -> Self {
        Self {
            items: Vec::new(),
            skipped: 0,
            fault: None,
            next: None,
        }
    }

    /// Translates the items. Those that `item` answers `None` for do not concern us, those that it
    /// does not understand are skipped.
    pub(super) fn of<R>(
        reply: Option<PageReply<R>>,
        item: impl Fn(R) -> Result<Option<T>, DecodeError>,
    ) -> Result<Self, Cause> {
        let reply = reply.ok_or(DecodeError::Empty)?;
        let limit = Items::<R>::LIMIT;
        let decodable = reply.items.decodable();
        let (replies, skipped) = decodable.ok_or(Cause::TooManyItems { limit })?;
        let mut page = Self {
            items: Vec::new(),
            skipped,
            fault: None,
            next: reply.continuation_token.filter(|token| !token.is_empty()),
        };
        for reply in replies {
            match item(reply) {
                Ok(translated) => page.items.extend(translated),
                Err(misread) => {
                    page.skipped += 1;
                    page.fault.get_or_insert(misread);
                }
            }
        }
        Ok(page)
    }

    /// Logs the items that could not be decoded, for those who look for the reason.
    pub(super) fn log_skipped(&self, cluster: &str, route: &str, subject: &Subject<'_>) {
        if self.skipped > 0 {
            let (skipped, fault) = (self.skipped, self.fault.unwrap_or(DecodeError::Item));
            debug!(
                cluster,
                route,
                skipped,
                "Cluster {cluster}: {route} about {subject} skipped {skipped} items: {fault}."
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::gateway::decode::tests::sample;
    use crate::gateway::wire::{
        Applications, Backups, ClusterVersion, Configurations, Entities, Health, Partitions,
        Policies, Progress, Restore, Services,
    };

    fn address<Q: Query>(endpoint: &str, query: &Q, token: Option<&str>) -> String {
        let endpoint = endpoint.parse().unwrap();
        let timeout = Duration::from_millis(29_990);
        url(&endpoint, &Q::ROUTE, &query.subject(), token, timeout).to_string()
    }

    #[test]
    fn addresses_follow_the_reference() {
        let partition = PartitionId(Uuid::from_u128(0xAB));
        for (built, expected) in [
            (
                address("http://sf:19080", &ClusterVersion, None),
                "http://sf:19080/$/GetClusterVersion?api-version=6.4&timeout=29",
            ),
            (
                address("http://sf:19080/", &Applications, None),
                "http://sf:19080/Applications?api-version=6.1&timeout=29&ExcludeApplicationParameters=true",
            ),
            (
                address("http://proxy/cluster/a/", &Progress { partition }, None),
                "http://proxy/cluster/a/Partitions/00000000-0000-0000-0000-0000000000ab/$/GetBackupProgress?api-version=6.4&timeout=29",
            ),
            (
                address(
                    "http://sf",
                    &Services {
                        application: "fabric:/samples/Shop",
                    },
                    None,
                ),
                "http://sf/Applications/samples~Shop/$/GetServices?api-version=6.0&timeout=29",
            ),
            (
                address(
                    "http://sf",
                    &Partitions {
                        service: "fabric:/A b/Ü?x#%2F",
                    },
                    None,
                ),
                "http://sf/Services/A%20b~%C3%9C%3Fx%23%252F/$/GetPartitions?api-version=6.4&timeout=29",
            ),
            (
                address(
                    "http://sf",
                    &Partitions {
                        service: "fabric:/A",
                    },
                    Some("a b+c/d:e#f&g=%é"),
                ),
                "http://sf/Services/A/$/GetPartitions?api-version=6.4&timeout=29&ContinuationToken=a%20b%2Bc%2Fd%3Ae%23f%26g%3D%25%C3%A9",
            ),
        ] {
            assert_eq!(built, expected);
        }
    }

    #[test]
    fn addresses_of_what_protects_a_partition_follow_the_reference() {
        let partition = PartitionId(Uuid::from_u128(0xAB));
        let application = "fabric:/samples~1/A b";
        let policy = "Every 4/5 h?";
        for (built, expected) in [
            (
                address("http://sf", &Health { partition }, None),
                "Partitions/00000000-0000-0000-0000-0000000000ab/$/GetHealth?api-version=6.0&timeout=29&ReplicasHealthStateFilter=1&ExcludeHealthStatistics=true",
            ),
            (
                address("http://sf", &Restore { partition }, None),
                "Partitions/00000000-0000-0000-0000-0000000000ab/$/GetRestoreProgress?api-version=6.4&timeout=29",
            ),
            (
                address("http://sf", &Configurations { application }, Some("a#b")),
                "Applications/samples~1%2FA%20b/$/GetBackupConfigurationInfo?api-version=6.4&timeout=29&ContinuationToken=a%23b",
            ),
            (
                address("http://sf", &Policies, None),
                "BackupRestore/BackupPolicies?api-version=6.4&timeout=29",
            ),
            (
                address("http://sf", &Entities { policy }, None),
                "BackupRestore/BackupPolicies/Every%204%2F5%20h%3F/$/GetBackupEnabledEntities?api-version=6.4&timeout=29",
            ),
            (
                address("http://sf", &Backups::<true> { application }, None),
                "Applications/samples~1%2FA%20b/$/GetBackups?api-version=6.4&timeout=29&Latest=true",
            ),
            (
                address("http://sf", &Backups::<false> { application }, None),
                "Applications/samples~1%2FA%20b/$/GetBackups?api-version=6.4&timeout=29",
            ),
        ] {
            assert_eq!(built, format!("http://sf/{expected}"));
        }
    }

    #[test]
    fn not_protected_is_no_error_where_protection_is_asked_for() {
        let body = sample("error.404.backup-not-enabled.json");
        let subject = Subject::Cluster;
        let configurations = read::<Configurations<'_>>(&subject, 404, &body).unwrap();
        assert_eq!((configurations.items.len(), configurations.next), (0, None));
        let backups = read::<Backups<'_, true>>(&subject, 404, &body);
        assert!(backups.is_err(), "no storage, so no list");
        let restore = read::<Restore>(&subject, 404, &body);
        assert_eq!(restore.unwrap(), None);
        for (status, refusal) in [
            (404, "error.404.partition-not-found.json"),
            (404, "error.404.policy-does-not-exist.json"),
            (404, "error.404.brs-not-installed-empty.txt"),
            (500, "error.500.recovery-point-details.brs.json"),
        ] {
            let read = read::<Backups<'_, true>>(&subject, status, &sample(refusal));
            assert!(matches!(read, Err(Cause::Refusal(_))), "{refusal}");
        }
        assert!(read::<Applications>(&subject, 404, &body).is_err());
    }

    #[test]
    fn only_a_slow_storage_explains_silence() {
        for reason in Reason::ALL {
            let silence = matches!(reason, Reason::Timeout | Reason::ServiceUnavailable);
            assert_eq!(Pace::Storage.explains(reason), silence, "{reason:?}");
            assert!(!Pace::Prompt.explains(reason), "{reason:?}");
        }
    }

    #[test]
    fn the_server_gets_whole_seconds_and_less_than_we_wait() {
        for (milliseconds, seconds) in [(0, 1), (900, 1), (2_400, 1), (2_500, 2), (30_000, 29)] {
            assert_eq!(server_timeout(Duration::from_millis(milliseconds)), seconds);
        }
    }

    /// The grammar of `path-absolute` in RFC 3986, section 3.3.
    fn is_path(path: &str) -> bool {
        let mut rest = path.bytes();
        while let Some(byte) = rest.next() {
            let good = match byte {
                b'%' => {
                    let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
                    hex(rest.next()) && hex(rest.next())
                }
                byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte),
            };
            if !good {
                return false;
            }
        }
        path.starts_with('/')
    }

    /// Undoes percent-encoding as RFC 3986, section 2.1, defines it.
    fn decoded(segment: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = segment;
        while let Some((plain, escape)) = rest.split_once('%') {
            bytes.extend(plain.bytes());
            let (digits, after) = escape.split_at(2);
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = after;
        }
        bytes.extend(rest.bytes());
        String::from_utf8(bytes).unwrap()
    }

    /// The path that `query` leads to, and the id in it.
    fn path_and_id<Q: Query>(query: &Q, position: usize) -> (String, String) {
        let address = address("http://sf/x", query, None);
        let path = address.strip_prefix("http://sf").unwrap();
        let path = path.split('?').next().unwrap();
        let id = decoded(path.split('/').nth(position).unwrap());
        (path.to_owned(), id)
    }

    /// Whether `name` arrives whole, on all kinds of routes.
    fn arrives(name: &str) -> bool {
        let full = format!("fabric:/{name}");
        let (native, native_id) = path_and_id(&Partitions { service: &full }, 3);
        let (backup, backup_id) = path_and_id(&Configurations { application: &full }, 3);
        let (policy, policy_id) = path_and_id(&Entities { policy: name }, 4);
        [&native, &backup, &policy]
            .into_iter()
            .all(|path| is_path(path))
            && native_id == name.replace('/', "~")
            && backup_id == name
            && policy_id == name
            && native.split('/').count() == 6
            && backup.split('/').count() == 6
            && policy.split('/').count() == 7
    }

    #[test]
    fn names_with_every_kind_of_character_arrive_whole() {
        for name in [
            "a|b",
            "[x]",
            "a^b",
            "a\\b",
            "{\"}<>`",
            "100%",
            "%41",
            "%2F%2f%",
            "a?b#c",
            "a+b c",
            " ",
            "\t\r\n\0\u{7f}",
            "Ü/日本/🚀",
            "a~b",
            "$/$",
            "!$&'()*,;=:@",
            "..a/.b",
            "%2e%2e",
        ] {
            assert!(arrives(name), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_arrives_whole(name in "(?s).{1,40}") {
            prop_assume!(name != "." && name != "..");
            prop_assert!(arrives(&name), "{:?}", name);
        }

        #[test]
        fn no_name_or_token_leaves_its_place(name in "\\PC{1,30}", token in "(?s).{0,30}") {
            prop_assume!(name != "." && name != "..");
            let built: Url = address("http://sf/x", &Partitions { service: &name }, Some(&token))
                .parse()
                .unwrap();
            prop_assert_eq!(built.path_segments().unwrap().count(), 5);
            let pairs: Vec<_> = built.query_pairs().collect();
            prop_assert_eq!(pairs.len(), 3);
            prop_assert_eq!(&pairs[2].1, &token);
            for (built, segments) in [
                (address("http://sf/x", &Configurations { application: &name }, None), 5),
                (address("http://sf/x", &Entities { policy: &name }, None), 6),
            ] {
                let built: Url = built.parse().unwrap();
                prop_assert_eq!(built.path_segments().unwrap().count(), segments);
            }
        }
    }
}
