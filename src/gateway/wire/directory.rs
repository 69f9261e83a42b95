//! The native route that names the directory whose tokens the cluster takes.
//!
//! The only one that answers everybody. What it names is as good as the connection it came over,
//! and is not checked here. The application that the cluster says it is stays unread: nobody may
//! name himself the audience of a token.

use serde::Deserialize;

use super::SINGLE_LIMIT;
use crate::gateway::decode::{DecodeError, Object};
use crate::gateway::error::Cause;
use crate::gateway::query::{Query, Route, RouteKind, Subject};

/// What a cluster says of its directory, unchecked.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(in crate::gateway) struct NamedDirectory {
    /// Base address of the sign-in service; empty from runtimes that know only the public one.
    pub(in crate::gateway) login: Option<String>,
    /// GUID or domain.
    pub(in crate::gateway) tenant: Option<String>,
}

// GET /$/GetAadMetadata, samples GetAadMetadata.*

pub(in crate::gateway) struct AadMetadata;

#[derive(Deserialize)]
pub(in crate::gateway) struct MetadataReply {
    r#type: Option<String>,
    metadata: Option<Object<NamedDirectory>>,
}

impl Query for AadMetadata {
    const ROUTE: Route = Route {
        name: "GetAadMetadata",
        kind: RouteKind::Native,
        api_version: "6.0",
        operation: &["$", "GetAadMetadata"],
        parameters: &[],
        body_limit: SINGLE_LIMIT,
    };
    const ANONYMOUS: bool = true;
    type Reply = MetadataReply;
    type Answer = Option<NamedDirectory>;

    fn subject(&self) -> Subject<'_> {
        Subject::Cluster
    }

    /// `None` of a cluster that takes no tokens.
    fn answer(reply: Option<MetadataReply>) -> Result<Option<NamedDirectory>, Cause> {
        let reply = reply.ok_or(DecodeError::Empty)?;
        let takes_tokens = reply.r#type.is_some_and(|kind| kind == "aad");
        let metadata = reply.metadata.filter(|_| takes_tokens);
        Ok(metadata.map(|metadata| metadata.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::decode::tests::sample;
    use crate::gateway::wire::tests::answer;

    #[test]
    fn a_cluster_with_a_directory_names_it_and_another_names_none() {
        let named = answer::<AadMetadata>(sample("GetAadMetadata.aad.json")).unwrap();
        let named = named.unwrap();
        assert_eq!(
            named.login.as_deref(),
            Some("https://login.microsoftonline.com")
        );
        assert_eq!(named.tenant.as_deref(), Some("<tenant-guid>"));
        let none = answer::<AadMetadata>(sample("GetAadMetadata.none.sfx.json")).unwrap();
        assert_eq!(none, None);
    }
}
