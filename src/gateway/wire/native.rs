//! Native routes of the topology: applications, services and partitions, and their names.

use std::sync::Arc;

use serde::Deserialize;

use super::error::ReplyError;
use super::page::Page;
use super::progress::EpochReply;
use super::query::Query;
use super::route::Route;
use crate::gateway::decode::{DecodeError, Field, Guid, Object};
use crate::model::{Epoch, ListedPartition, Name, PartitionId, PartitionKind};

/// `{"Name":…}`: an application in a list, or the owner of a service or partition.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NameReply {
    name: String,
}

/// Longest name accepted, in bytes: names become label values, and real ones are far shorter.
pub(super) const MAX_NAME: usize = 1_024;

/// A name without the scheme would not lead back to its id, and a dot segment would lead to another
/// path. U+FFFD stands for characters that the answer did not hold.
pub(super) fn name(text: &str) -> Result<Name, DecodeError> {
    let rest = text.strip_prefix("fabric:/").unwrap_or_default();
    let dots = rest.split('/').any(|level| matches!(level, "." | ".."));
    if rest.is_empty() || dots || text.len() > MAX_NAME || text.contains(is_unfit) {
        return Err(DecodeError::Name);
    }
    Ok(Arc::from(text))
}

/// Whether a character cannot be in a name.
pub(super) fn is_unfit(c: char) -> bool {
    c.is_control() || c == char::REPLACEMENT_CHARACTER
}

/// A version becomes a label value: numbers and dots, and whatever short word may follow.
fn version(text: String) -> Result<String, DecodeError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+_".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err(DecodeError::Version);
    }
    Ok(text)
}

// GET /$/GetClusterVersion, sample GetClusterVersion.json

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionReply {
    version: String,
}

/// The version of the runtime.
pub const CLUSTER_VERSION: Query<String> = Query {
    route: Route::native("GetClusterVersion", "6.4", &["$", "GetClusterVersion"]),
    answer: |reply| Ok(version(reply.required::<VersionReply>()?.version)?),
    not_enabled: None,
};

// GET /Applications, samples GetApplicationInfoList.*

/// The names of all applications.
pub const APPLICATIONS: Query<Page<Name>> = Query {
    route: Route {
        // Parameters may hold secrets.
        parameters: &[("ExcludeApplicationParameters", "true")],
        ..Route::native("GetApplicationInfoList", "6.1", &["Applications"]).list()
    },
    answer: |reply| {
        Page::read(reply, |Object(application): Object<NameReply>| {
            name(&application.name).map(Some)
        })
    },
    not_enabled: None,
};

// GET /Applications/{id}/$/GetServices, samples GetServiceInfoList.*

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceReply {
    service_kind: String,
    name: String,
    /// Absent for stateless services.
    #[serde(default)]
    has_persisted_state: Field<bool>,
}

/// The names of the services of an application that persist state.
pub const SERVICES: Query<Page<Name>> = Query {
    route: Route::native("GetServiceInfoList", "6.0", &["$", "GetServices"]).list(),
    answer: |reply| {
        Page::read(reply, |Object(service): Object<ServiceReply>| {
            let is_stateful = service.service_kind == STATEFUL;
            (is_stateful && service.has_persisted_state.readable()?.unwrap_or_default())
                .then(|| name(&service.name))
                .transpose()
        })
    },
    not_enabled: None,
};

/// The one of the service kinds that keeps state.
const STATEFUL: &str = "Stateful";

// GET /Services/{id}/$/GetPartitions, samples GetPartitionInfoList.*

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PartitionReply {
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

/// The partitions of a service, if it is stateful.
pub const PARTITIONS: Query<Page<ListedPartition>> = Query {
    route: Route::native("GetPartitionInfoList", "6.4", &["$", "GetPartitions"]).list(),
    answer: |reply| {
        Page::read(reply, |Object(partition): Object<PartitionReply>| {
            (partition.service_kind == STATEFUL)
                .then(|| stateful(partition))
                .transpose()
        })
    },
    not_enabled: None,
};

fn stateful(partition: PartitionReply) -> Result<ListedPartition, DecodeError> {
    let information = partition.partition_information.value();
    let Object(information) = information.ok_or(DecodeError::PartitionId)?;
    let epoch = partition.primary_epoch.value();
    let epoch = epoch.or_else(|| partition.current_configuration_epoch.value());
    let kind = information.service_partition_kind.value();
    Ok(ListedPartition {
        id: partition_id(information.id)?,
        kind: PartitionKind::from_wire(kind.as_deref().unwrap_or_default()),
        data_loss_time: epoch.and_then(|Object(epoch)| Epoch::from(epoch).data_loss_time()),
    })
}

/// The zero GUID is not a valid id.
pub(super) fn partition_id(id: Field<Guid>) -> Result<PartitionId, DecodeError> {
    let id = id.value().and_then(|id| id.0);
    id.map(PartitionId).ok_or(DecodeError::PartitionId)
}

// GET /Partitions/{id}/$/GetServiceName, sample GetServiceNameInfo.json

/// The name of the service that a partition belongs to.
pub const SERVICE_NAME: Query<Name> = Query {
    route: Route::native("GetServiceNameInfo", "6.0", &["$", "GetServiceName"]),
    answer: |reply| match reply.optional::<NameReply>()? {
        Some(service) => Ok(name(&service.name)?),
        // Queries by partition answer 204 when there is no such partition. A proxy in front of the
        // gateway may answer an empty 200.
        None if reply.status == 204 => Err(ReplyError::PartitionNotFound),
        None => Err(DecodeError::Empty.into()),
    },
    not_enabled: None,
};

// GET /Services/{id}/$/GetApplicationName, sample GetApplicationNameInfo.json

/// The name of the application that a service belongs to.
pub const APPLICATION_NAME: Query<Name> = Query {
    route: Route::native(
        "GetApplicationNameInfo",
        "6.0",
        &["$", "GetApplicationName"],
    ),
    answer: |reply| Ok(name(&reply.required::<NameReply>()?.name)?),
    not_enabled: None,
};
