//! Taking a request apart: which operation of the gateway it is, on what, with what query.
//!
//! Responsible for paths, verbs and escapes; they match exactly, capitals included. It may not
//! know what exists or what the answer is. A path that is no route is an operation too: Unknown.

use std::collections::HashMap;

use hyper::{Method, Uri};
use uuid::Uuid;

use super::answer::Kind;

/// An operation of the gateway, by the name its specification gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `GET /Applications`
    GetApplicationInfoList,
    /// `GET /Applications/{id}`
    GetApplicationInfo,
    /// `GET /Applications/{id}/$/GetServices`
    GetServiceInfoList,
    /// `GET /Services/{id}/$/GetApplicationName`
    GetApplicationNameInfo,
    /// `GET /Services/{id}/$/GetPartitions`
    GetPartitionInfoList,
    /// `GET /Partitions/{id}`
    GetPartitionInfo,
    /// `GET /Partitions/{id}/$/GetServiceName`
    GetServiceNameInfo,
    /// `GET /$/GetClusterVersion`
    GetClusterVersion,
    /// `GET /Partitions/{id}/$/GetBackupProgress`
    GetPartitionBackupProgress,
    /// `POST /Partitions/{id}/$/Backup`
    BackupPartition,
    /// `GET /Applications/{id}/$/GetBackupConfigurationInfo`
    GetApplicationBackupConfigurationInfo,
    /// `GET /Services/{id}/$/GetBackupConfigurationInfo`
    GetServiceBackupConfigurationInfo,
    /// Anything else.
    Unknown,
}

impl Operation {
    /// The name under which requests are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetApplicationInfoList => "GetApplicationInfoList",
            Self::GetApplicationInfo => "GetApplicationInfo",
            Self::GetServiceInfoList => "GetServiceInfoList",
            Self::GetApplicationNameInfo => "GetApplicationNameInfo",
            Self::GetPartitionInfoList => "GetPartitionInfoList",
            Self::GetPartitionInfo => "GetPartitionInfo",
            Self::GetServiceNameInfo => "GetServiceNameInfo",
            Self::GetClusterVersion => "GetClusterVersion",
            Self::GetPartitionBackupProgress => "GetPartitionBackupProgress",
            Self::BackupPartition => "BackupPartition",
            Self::GetApplicationBackupConfigurationInfo => "GetApplicationBackupConfigurationInfo",
            Self::GetServiceBackupConfigurationInfo => "GetServiceBackupConfigurationInfo",
            Self::Unknown => "Unknown",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::GetPartitionBackupProgress
            | Self::BackupPartition
            | Self::GetApplicationBackupConfigurationInfo
            | Self::GetServiceBackupConfigurationInfo => Kind::Backup,
            _ => Kind::Native,
        }
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

/// A request, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    /// The id in the path, percent-decoded; empty where the route has none.
    pub(super) id: String,
    pub(super) query: HashMap<String, String>,
}

impl Request {
    pub(super) fn parse(method: &Method, uri: &Uri) -> Self {
        let (operation, id) = route(method, &decode(uri.path()));
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self {
            operation,
            id,
            query: query.into_owned().collect(),
        }
    }

    /// The partition in the path, if it is a GUID.
    pub(super) fn partition(&self) -> Option<Uuid> {
        match self.operation {
            Operation::GetPartitionInfo
            | Operation::GetServiceNameInfo
            | Operation::GetPartitionBackupProgress
            | Operation::BackupPartition => self.id.parse().ok(),
            _ => None,
        }
    }

    /// The full name of the application or service in the path of a native route.
    pub(super) fn name(&self) -> String {
        format!("fabric:/{}", self.id.replace('~', "/"))
    }

    pub(super) fn api_version(&self) -> Option<(u32, u32)> {
        parse_version(self.query.get("api-version")?)
    }

    /// `timeout` is in seconds, from 1 on.
    pub(super) fn has_valid_timeout(&self) -> bool {
        let timeout = self.query.get("timeout");
        timeout.is_none_or(|text| text.parse::<u32>().is_ok_and(|seconds| seconds >= 1))
    }
}

/// Operation and id of a decoded path; paths and verbs match exactly, capitals included.
fn route(method: &Method, path: &str) -> (Operation, String) {
    let (entity, action) = path.rsplit_once("/$/").unwrap_or((path, ""));
    let mut segments = entity.trim_start_matches('/').splitn(2, '/');
    let collection = segments.next().unwrap_or_default();
    let id = segments.next().unwrap_or_default();
    let operation = match (method.as_str(), collection, !id.is_empty(), action) {
        ("GET", "Applications", false, "") => Operation::GetApplicationInfoList,
        ("GET", "Applications", true, "") => Operation::GetApplicationInfo,
        ("GET", "Applications", true, "GetServices") => Operation::GetServiceInfoList,
        ("GET", "Services", true, "GetApplicationName") => Operation::GetApplicationNameInfo,
        ("GET", "Services", true, "GetPartitions") => Operation::GetPartitionInfoList,
        ("GET", "Partitions", true, "") => Operation::GetPartitionInfo,
        ("GET", "Partitions", true, "GetServiceName") => Operation::GetServiceNameInfo,
        ("GET", "", false, "GetClusterVersion") => Operation::GetClusterVersion,
        ("GET", "Partitions", true, "GetBackupProgress") => Operation::GetPartitionBackupProgress,
        ("POST", "Partitions", true, "Backup") => Operation::BackupPartition,
        ("GET", "Applications", true, "GetBackupConfigurationInfo") => {
            Operation::GetApplicationBackupConfigurationInfo
        }
        ("GET", "Services", true, "GetBackupConfigurationInfo") => {
            Operation::GetServiceBackupConfigurationInfo
        }
        _ => Operation::Unknown,
    };
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
            (Method::GET, "/"),
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
