//! Native routes of the topology: what exists in the cluster and what it is called.

use std::sync::Arc;

use serde::Deserialize;

use super::progress::EpochReply;
use super::{LIST_LIMIT, SINGLE_LIMIT};
use crate::gateway::decode::{Field, Guid, Object};
use crate::gateway::error::{Cause, Misread};
use crate::gateway::query::{Page, PageReply, Query, Route, RouteKind, Subject};
use crate::model::{Epoch, ListedPartition, Name, PartitionId, PartitionKind};

/// `{"Name":…}`: an application in a list, or the answer to "whose is it".
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct NameReply {
    name: String,
}

/// Longest name accepted, in bytes: names become label values, and real ones are far shorter.
pub(super) const MAX_NAME: usize = 1_024;

/// A name without the scheme would not lead back to its id, and a dot segment would lead to another
/// path. U+FFFD stands for characters that the answer did not hold.
pub(super) fn name(text: &str) -> Result<Name, Misread> {
    let rest = text.strip_prefix("fabric:/").unwrap_or_default();
    let dots = rest.split('/').any(|level| matches!(level, "." | ".."));
    if rest.is_empty() || dots || text.len() > MAX_NAME || text.contains(is_unfit) {
        return Err(Misread::Name);
    }
    Ok(Arc::from(text))
}

/// Whether a character cannot be in a name.
pub(super) fn is_unfit(c: char) -> bool {
    c.is_control() || c == char::REPLACEMENT_CHARACTER
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
    type Reply = PageReply<Object<NameReply>>;
    type Answer = Page<Name>;

    fn subject(&self) -> Subject<'_> {
        Subject::Cluster
    }

    fn answer(reply: Option<Self::Reply>) -> Result<Page<Name>, Cause> {
        Page::of(reply, |Object(application)| {
            name(&application.name).map(Some)
        })
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
    has_persisted_state: Field<bool>,
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
    type Reply = PageReply<Object<ServiceReply>>;
    type Answer = Page<Name>;

    fn subject(&self) -> Subject<'_> {
        Subject::Application(self.application)
    }

    fn answer(reply: Option<Self::Reply>) -> Result<Page<Name>, Cause> {
        Page::of(reply, |Object(service)| {
            let is_stateful = service.service_kind == STATEFUL;
            (is_stateful && service.has_persisted_state.readable()?.unwrap_or_default())
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
    #[serde(default)]
    partition_information: Field<Object<PartitionInformation>>,
    #[serde(default)]
    primary_epoch: Field<Object<EpochReply>>,
    /// Its name in answers to api-versions before 6.4, and of some runtimes to newer ones.
    #[serde(default)]
    current_configuration_epoch: Field<Object<EpochReply>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct PartitionInformation {
    service_partition_kind: Field<String>,
    id: Field<Guid>,
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
    type Reply = PageReply<Object<PartitionReply>>;
    type Answer = Page<ListedPartition>;

    fn subject(&self) -> Subject<'_> {
        Subject::Service(self.service)
    }

    fn answer(reply: Option<Self::Reply>) -> Result<Self::Answer, Cause> {
        Page::of(reply, |Object(partition)| {
            (partition.service_kind == STATEFUL)
                .then(|| stateful(partition))
                .transpose()
        })
    }
}

fn stateful(partition: PartitionReply) -> Result<ListedPartition, Misread> {
    let information = partition.partition_information.value();
    let Object(information) = information.ok_or(Misread::PartitionId)?;
    let epoch = partition.primary_epoch.value();
    let epoch = epoch.or_else(|| partition.current_configuration_epoch.value());
    let kind = information.service_partition_kind.value();
    Ok(ListedPartition {
        id: partition_id(information.id)?,
        kind: PartitionKind::from_wire(kind.as_deref().unwrap_or_default()),
        data_loss_time: epoch.and_then(|Object(epoch)| Epoch::from(epoch).data_loss_time()),
    })
}

/// The zero GUID is nobody's.
pub(super) fn partition_id(id: Field<Guid>) -> Result<PartitionId, Misread> {
    let id = id.value().and_then(|id| id.0);
    id.map(PartitionId).ok_or(Misread::PartitionId)
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

    const NOTHING_IS_204: bool = true;

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
