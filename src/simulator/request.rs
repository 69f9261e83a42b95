//! Parsing of requests: operation, id and query.
//!
//! Paths and verbs match exactly, case included. A path that is not a route is the operation
//! `Unknown`.

use std::collections::HashMap;
use std::num::ParseIntError;

use bytes::Bytes;
use hyper::{Method, Uri};
use serde_json::Value;
use uuid::Uuid;

use super::estate::Entity;
use super::response::RouteKind;

/// The collections that ids belong to.
const APPLICATIONS: &str = "Applications";
const SERVICES: &str = "Services";
const PARTITIONS: &str = "Partitions";
const NODES: &str = "Nodes";
const POLICIES: &str = "BackupRestore/BackupPolicies";
const NOTHING: &str = "";

/// Whether a route names one member of its collection.
const ONE: bool = true;
const ALL: bool = false;

const GET: &str = "GET";
const POST: &str = "POST";

/// A route of the gateway.
struct Route {
    operation: Operation,
    name: &'static str,
    kind: RouteKind,
    method: &'static str,
    collection: &'static str,
    has_id: bool,
    action: &'static str,
}

/// The operations and their routes: verb, collection, with or without an id, action.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, $method:expr, $collection:expr, $has_id:expr,
       $action:literal;)*) => {
        /// An operation of the gateway, by the name its specification gives it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation {
            $($(#[$doc])* $name,)*
            /// Any other request.
            Unknown,
        }

        const ROUTES: &[Route] = &[$(Route {
            operation: Operation::$name,
            name: stringify!($name),
            kind: RouteKind::$kind,
            method: $method,
            collection: $collection,
            has_id: $has_id,
            action: $action,
        },)*];
    };
}

operations! {
    /// `GET /`, the page of Service Fabric Explorer.
    GetExplorer: Native, GET, NOTHING, ALL, "";
    /// `GET /Nodes`
    GetNodeInfoList: Native, GET, NODES, ALL, "";
    /// `GET /$/GetClusterHealth`
    GetClusterHealth: Native, GET, NOTHING, ALL, "GetClusterHealth";
    /// `GET /Applications/{id}/$/GetHealth`
    GetApplicationHealth: Native, GET, APPLICATIONS, ONE, "GetHealth";
    /// `GET /Services/{id}/$/GetHealth`
    GetServiceHealth: Native, GET, SERVICES, ONE, "GetHealth";
    /// `GET /Applications`
    GetApplicationInfoList: Native, GET, APPLICATIONS, ALL, "";
    /// `GET /Applications/{id}`
    GetApplicationInfo: Native, GET, APPLICATIONS, ONE, "";
    /// `GET /Applications/{id}/$/GetServices`
    GetServiceInfoList: Native, GET, APPLICATIONS, ONE, "GetServices";
    /// `GET /Services/{id}/$/GetApplicationName`
    GetApplicationNameInfo: Native, GET, SERVICES, ONE, "GetApplicationName";
    /// `GET /Services/{id}/$/GetPartitions`
    GetPartitionInfoList: Native, GET, SERVICES, ONE, "GetPartitions";
    /// `GET /Partitions/{id}`
    GetPartitionInfo: Native, GET, PARTITIONS, ONE, "";
    /// `GET /Partitions/{id}/$/GetServiceName`
    GetServiceNameInfo: Native, GET, PARTITIONS, ONE, "GetServiceName";
    /// `GET /Partitions/{id}/$/GetHealth`
    GetPartitionHealth: Native, GET, PARTITIONS, ONE, "GetHealth";
    /// `GET /$/GetClusterVersion`
    GetClusterVersion: Native, GET, NOTHING, ALL, "GetClusterVersion";
    /// `GET /$/GetAadMetadata`
    GetAadMetadata: Native, GET, NOTHING, ALL, "GetAadMetadata";
    /// `GET /Partitions/{id}/$/GetBackupProgress`
    GetPartitionBackupProgress: Backup, GET, PARTITIONS, ONE, "GetBackupProgress";
    /// `GET /Partitions/{id}/$/GetRestoreProgress`
    GetPartitionRestoreProgress: Backup, GET, PARTITIONS, ONE, "GetRestoreProgress";
    /// `POST /Partitions/{id}/$/Backup`
    BackupPartition: Backup, POST, PARTITIONS, ONE, "Backup";
    /// `POST /Partitions/{id}/$/Restore`
    RestorePartition: Backup, POST, PARTITIONS, ONE, "Restore";
    /// `GET /Applications/{id}/$/GetBackupConfigurationInfo`
    GetApplicationBackupConfigurationInfo: Backup, GET, APPLICATIONS, ONE, "GetBackupConfigurationInfo";
    /// `GET /Services/{id}/$/GetBackupConfigurationInfo`
    GetServiceBackupConfigurationInfo: Backup, GET, SERVICES, ONE, "GetBackupConfigurationInfo";
    /// `GET /Partitions/{id}/$/GetBackupConfigurationInfo`
    GetPartitionBackupConfigurationInfo: Backup, GET, PARTITIONS, ONE, "GetBackupConfigurationInfo";
    /// `GET /Applications/{id}/$/GetBackups`
    GetApplicationBackupList: Backup, GET, APPLICATIONS, ONE, "GetBackups";
    /// `GET /Services/{id}/$/GetBackups`
    GetServiceBackupList: Backup, GET, SERVICES, ONE, "GetBackups";
    /// `GET /Partitions/{id}/$/GetBackups`
    GetPartitionBackupList: Backup, GET, PARTITIONS, ONE, "GetBackups";
    /// `POST /Applications/{id}/$/EnableBackup`
    EnableApplicationBackup: Backup, POST, APPLICATIONS, ONE, "EnableBackup";
    /// `POST /Services/{id}/$/EnableBackup`
    EnableServiceBackup: Backup, POST, SERVICES, ONE, "EnableBackup";
    /// `POST /Partitions/{id}/$/EnableBackup`
    EnablePartitionBackup: Backup, POST, PARTITIONS, ONE, "EnableBackup";
    /// `POST /Applications/{id}/$/DisableBackup`
    DisableApplicationBackup: Backup, POST, APPLICATIONS, ONE, "DisableBackup";
    /// `POST /Services/{id}/$/DisableBackup`
    DisableServiceBackup: Backup, POST, SERVICES, ONE, "DisableBackup";
    /// `POST /Partitions/{id}/$/DisableBackup`
    DisablePartitionBackup: Backup, POST, PARTITIONS, ONE, "DisableBackup";
    /// `POST /Applications/{id}/$/SuspendBackup`
    SuspendApplicationBackup: Backup, POST, APPLICATIONS, ONE, "SuspendBackup";
    /// `POST /Services/{id}/$/SuspendBackup`
    SuspendServiceBackup: Backup, POST, SERVICES, ONE, "SuspendBackup";
    /// `POST /Partitions/{id}/$/SuspendBackup`
    SuspendPartitionBackup: Backup, POST, PARTITIONS, ONE, "SuspendBackup";
    /// `POST /Applications/{id}/$/ResumeBackup`
    ResumeApplicationBackup: Backup, POST, APPLICATIONS, ONE, "ResumeBackup";
    /// `POST /Services/{id}/$/ResumeBackup`
    ResumeServiceBackup: Backup, POST, SERVICES, ONE, "ResumeBackup";
    /// `POST /Partitions/{id}/$/ResumeBackup`
    ResumePartitionBackup: Backup, POST, PARTITIONS, ONE, "ResumeBackup";
    /// `GET /BackupRestore/BackupPolicies`
    GetBackupPolicyList: Backup, GET, POLICIES, ALL, "";
    /// `GET /BackupRestore/BackupPolicies/{id}`
    GetBackupPolicyByName: Backup, GET, POLICIES, ONE, "";
    /// `GET /BackupRestore/BackupPolicies/{id}/$/GetBackupEnabledEntities`
    GetAllEntitiesBackedUpByPolicy: Backup, GET, POLICIES, ONE, "GetBackupEnabledEntities";
    /// `POST /BackupRestore/BackupPolicies/$/Create`
    CreateBackupPolicy: Backup, POST, POLICIES, ALL, "Create";
    /// `POST /BackupRestore/BackupPolicies/{id}/$/Update`
    UpdateBackupPolicy: Backup, POST, POLICIES, ONE, "Update";
    /// `POST /BackupRestore/BackupPolicies/{id}/$/Delete`
    DeleteBackupPolicy: Backup, POST, POLICIES, ONE, "Delete";
}

impl Operation {
    /// The name under which requests are counted.
    pub fn name(self) -> &'static str {
        self.route().map_or("Unknown", |route| route.name)
    }

    pub(super) fn kind(self) -> RouteKind {
        self.route().map_or(RouteKind::Native, |route| route.kind)
    }

    /// Whether the operation changes the cluster.
    pub(super) fn changes(self) -> bool {
        self.route().is_some_and(|route| route.method == POST)
    }

    fn route(self) -> Option<&'static Route> {
        ROUTES.iter().find(|route| route.operation == self)
    }

    fn collection(self) -> &'static str {
        self.route().map_or(NOTHING, |route| route.collection)
    }

    /// The lowest api-version of a native route.
    pub(super) fn minimum_version(self) -> (u32, u32) {
        match self {
            Self::GetApplicationInfoList => (6, 1),
            Self::GetClusterVersion => (6, 4),
            _ => (6, 0),
        }
    }
}

/// A parsed request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    /// The id in the path, percent-decoded; empty where the route has none.
    pub(super) id: String,
    pub(super) query: HashMap<String, String>,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn parse(method: &Method, uri: &Uri) -> Self {
        let (operation, id) = route(method, &decode(uri.path()));
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self {
            operation,
            id,
            query: query.into_owned().collect(),
            body: Bytes::new(),
        }
    }

    /// The partition in the path, if it is a GUID.
    pub(super) fn partition(&self) -> Option<Uuid> {
        let named = self.operation.collection() == PARTITIONS;
        self.id.parse().ok().filter(|_| named)
    }

    /// What the path of a backup route names; `None` for a partition that is no GUID. An older
    /// service takes the id as it is.
    pub(super) fn entity(&self, tilde: bool) -> Option<Entity> {
        let name = if tilde {
            self.name()
        } else {
            format!("fabric:/{}", self.id)
        };
        match self.operation.collection() {
            APPLICATIONS => Some(Entity::Application(name.into())),
            SERVICES => Some(Entity::Service(name.into())),
            _ => self.partition().map(Entity::Partition),
        }
    }

    /// Whether it asks for a list of backups.
    pub(super) fn lists_backups(&self) -> bool {
        matches!(
            self.operation,
            Operation::GetApplicationBackupList
                | Operation::GetServiceBackupList
                | Operation::GetPartitionBackupList
        )
    }

    /// Whether it names this application, or a service of it.
    pub(super) fn is_within(&self, application: &str) -> bool {
        let name = match self.operation.collection() {
            APPLICATIONS | SERVICES => self.name(),
            _ => return false,
        };
        let rest = name.strip_prefix(application);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether it is a backup route below an application, a service or a partition.
    pub(super) fn names_an_entity(&self) -> bool {
        let collection = self.operation.collection();
        self.operation.kind() == RouteKind::Backup && collection != POLICIES
    }

    /// Whether it is about one request for a backup or a restore: the routes on which a failed
    /// lookup of the partition is an invalid argument (BRS `UtilityHelper.cs`,
    /// `GetFabricUriFromRequstHeaderForPartitions`).
    pub(super) fn is_on_demand(&self) -> bool {
        matches!(
            self.operation,
            Operation::GetPartitionBackupProgress
                | Operation::GetPartitionRestoreProgress
                | Operation::BackupPartition
                | Operation::RestorePartition
        )
    }

    /// The JSON in the body; null when there is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A text property of the JSON object in the body.
    pub(super) fn property(&self, key: &str) -> Option<String> {
        Some(self.json().get(key)?.as_str()?.to_owned())
    }

    /// Whether a property of the body is true.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.json().get(key) == Some(&Value::Bool(true))
    }

    /// The full name of the application or service in the path of a native route.
    pub(super) fn name(&self) -> String {
        format!("fabric:/{}", self.id.replace('~', "/"))
    }

    pub(super) fn api_version(&self) -> Option<(u32, u32)> {
        parse_version(self.query.get("api-version")?)
    }

    /// `timeout` in seconds.
    pub(super) fn timeout(&self) -> Option<Result<i64, ParseIntError>> {
        self.query.get("timeout").map(|text| text.parse())
    }
}

/// Operation and id of a decoded path; paths and verbs match exactly, capitals included. Only
/// below the policies a slash at the end does no harm.
fn route(method: &Method, path: &str) -> (Operation, String) {
    let (entity, action) = path.rsplit_once("/$/").unwrap_or((path, ""));
    let entity = entity.trim_start_matches('/');
    let (collection, id) = match entity.strip_prefix(POLICIES) {
        Some(name) => (POLICIES, name.trim_matches('/')),
        None => entity.split_once('/').unwrap_or((entity, "")),
    };
    let found = ROUTES.iter().find(|route| {
        route.method == method.as_str()
            && route.collection == collection
            && route.has_id != id.is_empty()
            && route.action == action
    });
    let operation = found.map_or(Operation::Unknown, |route| route.operation);
    (operation, id.to_owned())
}

/// Major and minor of a version; more numbers may follow.
pub(super) fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next().unwrap_or(Ok(0)).ok()?;
    Some((major, minor))
}

/// Percent-decodes a path; what is not an escape stays as it is.
fn decode(path: &str) -> String {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| escape(after)).flatten();
        decoded.push(escaped.unwrap_or(byte));
        rest = match escaped {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn escape(after: &[u8]) -> Option<u8> {
    let digit = |index: usize| char::from(*after.get(index)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_both_separators_name_the_same_service() {
        for path in [
            "/Services/Retail~Shop~Orders/$/GetPartitions",
            "/Services/Retail%2FShop%2forders/$/GetPartitions",
            "/Services/Retail/Shop/Orders/%24/GetPartitions",
        ] {
            let request = Request::parse(&Method::GET, &path.parse().unwrap());
            assert_eq!(request.operation, Operation::GetPartitionInfoList, "{path}");
            assert_eq!(
                request.name().to_lowercase(),
                "fabric:/retail/shop/orders",
                "{path}"
            );
        }
    }

    #[test]
    fn wrong_verbs_capitals_and_paths_are_no_route() {
        for (method, path) in [
            (Method::POST, "/Applications"),
            (Method::GET, "/applications"),
            (Method::GET, "/Partitions"),
            (Method::GET, "/Partitions/x/$/Backup"),
            (Method::POST, "/"),
            (Method::GET, "/Applications/x/$/getservices"),
        ] {
            let request = Request::parse(&method, &path.parse().unwrap());
            assert_eq!(request.operation, Operation::Unknown, "{method} {path}");
        }
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(decode("/a%2Fb%zz%4"), "/a/b%zz%4");
    }
}
