//! Routes that the gateway answers itself: what exists in the cluster and what it is called.

use std::sync::Arc;

use serde::Deserialize;

use super::{LIST_LIMIT, SINGLE_LIMIT};
use crate::gateway::decode::{Guid, Object};
use crate::gateway::error::{Cause, Misread};
use crate::gateway::query::{Page, PageReply, Query, Route, RouteKind, Subject};
use crate::model::{Name, PartitionId, PartitionKind};

/// `{"Name":…}`: an application in a list, or the answer to "whose is it".
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct NameReply {
    name: String,
}

/// Longest name accepted, in bytes: names become label values, and real ones are far shorter.
const MAX_NAME: usize = 1_024;

/// A name without the scheme would not lead back to its id.
fn name(text: &str) -> Result<Name, Misread> {
    let rest = text.strip_prefix("fabric:/").unwrap_or_default();
    if rest.is_empty() || text.len() > MAX_NAME || text.contains(char::is_control) {
        return Err(Misread::Name);
    }
    Ok(Arc::from(text))
}

/// A version becomes a label value: numbers and dots, and whatever short word may follow.
fn version(text: String) -> Result<String, Misread> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+_".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err(Misread::Version);
    }
    Ok(text)
}

// GET /$/GetClusterVersion, sample GetClusterVersion.json

pub(in crate::gateway) struct ClusterVersion;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct VersionReply {
    version: String,
}

impl Query for ClusterVersion {
    const ROUTE: Route = Route {
        name: "GetClusterVersion",
        kind: RouteKind::Native,
        api_version: "6.4",
        operation: &["$", "GetClusterVersion"],
        parameters: &[],
        body_limit: SINGLE_LIMIT,
    };
    type Reply = VersionReply;
    type Answer = String;

    fn subject(&self) -> Subject<'_> {
        Subject::Cluster
    }

    fn answer(reply: Option<VersionReply>) -> Result<String, Cause> {
        Ok(version(reply.ok_or(Misread::Nothing)?.version)?)
    }
}

// GET /Applications, samples GetApplicationInfoList.*

pub(in crate::gateway) struct Applications;

impl Query for Applications {
    const ROUTE: Route = Route {
        name: "GetApplicationInfoList",
        kind: RouteKind::Native,
        api_version: "6.1",
        operation: &["Applications"],
        // Parameters may hold secrets.
        parameters: &[("ExcludeApplicationParameters", "true")],
        body_limit: LIST_LIMIT,
    };
    type Reply = PageReply<NameReply>;
    type Answer = Page<Name>;

    fn subject(&self) -> Subject<'_> {
        Subject::Cluster
    }

    fn answer(reply: Option<Self::Reply>) -> Result<Page<Name>, Cause> {
        Page::of(reply, |application| name(&application.name).map(Some))
    }
}

// GET /Applications/{id}/$/GetServices, samples GetServiceInfoList.*

pub(in crate::gateway) struct Services<'a> {
    pub(in crate::gateway) application: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct ServiceReply {
    service_kind: String,
    name: String,
    /// Absent for stateless services.
    #[serde(default)]
    has_persisted_state: bool,
}

impl Query for Services<'_> {
    const ROUTE: Route = Route {
        name: "GetServiceInfoList",
        kind: RouteKind::Native,
        api_version: "6.0",
        operation: &["$", "GetServices"],
        parameters: &[],
        body_limit: LIST_LIMIT,
    };
    type Reply = PageReply<ServiceReply>;
    type Answer = Page<Name>;

    fn subject(&self) -> Subject<'_> {
        Subject::Application(self.application)
    }

    fn answer(reply: Option<Self::Reply>) -> Result<Page<Name>, Cause> {
        Page::of(reply, |service| {
            (service.service_kind == STATEFUL && service.has_persisted_state)
                .then(|| name(&service.name))
                .transpose()
        })
    }
}

/// The one of the service kinds that keeps state.
const STATEFUL: &str = "Stateful";

// GET /Services/{id}/$/GetPartitions, samples GetPartitionInfoList.*

pub(in crate::gateway) struct Partitions<'a> {
    pub(in crate::gateway) service: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct PartitionReply {
    service_kind: String,
    partition_information: Option<Object<PartitionInformation>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PartitionInformation {
    service_partition_kind: String,
    id: Guid,
}

impl Query for Partitions<'_> {
    const ROUTE: Route = Route {
        name: "GetPartitionInfoList",
        kind: RouteKind::Native,
        api_version: "6.4",
        operation: &["$", "GetPartitions"],
        parameters: &[],
        body_limit: LIST_LIMIT,
    };
    type Reply = PageReply<PartitionReply>;
    type Answer = Page<(PartitionId, PartitionKind)>;

    fn subject(&self) -> Subject<'_> {
        Subject::Service(self.service)
    }

    fn answer(reply: Option<Self::Reply>) -> Result<Self::Answer, Cause> {
        Page::of(reply, |partition| {
            (partition.service_kind == STATEFUL)
                .then(|| stateful(partition.partition_information))
                .transpose()
        })
    }
}

fn stateful(
    information: Option<Object<PartitionInformation>>,
) -> Result<(PartitionId, PartitionKind), Misread> {
    let Object(information) = information.ok_or(Misread::PartitionId)?;
    let kind = PartitionKind::from_word(&information.service_partition_kind);
    let id = information.id.0.ok_or(Misread::PartitionId)?;
    Ok((PartitionId(id), kind))
}

// GET /Partitions/{id}/$/GetServiceName, sample GetServiceNameInfo.json

pub(in crate::gateway) struct ServiceName {
    pub(in crate::gateway) partition: PartitionId,
}

impl Query for ServiceName {
    const ROUTE: Route = Route {
        name: "GetServiceNameInfo",
        kind: RouteKind::Native,
        api_version: "6.0",
        operation: &["$", "GetServiceName"],
        parameters: &[],
        body_limit: SINGLE_LIMIT,
    };
    type Reply = NameReply;
    type Answer = Name;

    fn subject(&self) -> Subject<'_> {
        Subject::Partition(self.partition)
    }

    /// Queries by partition answer 204 when there is no such partition.
    fn answer(reply: Option<NameReply>) -> Result<Name, Cause> {
        Ok(name(&reply.ok_or(Cause::PartitionNotFound)?.name)?)
    }
}

// GET /Services/{id}/$/GetApplicationName, sample GetApplicationNameInfo.json

pub(in crate::gateway) struct ApplicationName<'a> {
    pub(in crate::gateway) service: &'a str,
}

impl Query for ApplicationName<'_> {
    const ROUTE: Route = Route {
        name: "GetApplicationNameInfo",
        kind: RouteKind::Native,
        api_version: "6.0",
        operation: &["$", "GetApplicationName"],
        parameters: &[],
        body_limit: SINGLE_LIMIT,
    };
    type Reply = NameReply;
    type Answer = Name;

    fn subject(&self) -> Subject<'_> {
        Subject::Service(self.service)
    }

    fn answer(reply: Option<NameReply>) -> Result<Name, Cause> {
        Ok(name(&reply.ok_or(Misread::Nothing)?.name)?)
    }
}
