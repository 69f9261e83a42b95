//! The native route that returns the directory whose tokens the cluster accepts.
//!
//! The only route that answers unauthenticated requests. The answer is only as trustworthy as the
//! connection and is not checked here. The application id in it is not read: a cluster must not
//! choose the audience of a token.

use serde::Deserialize;

use super::query::Query;
use super::route::Route;
use crate::gateway::decode::Object;

/// The directory that a cluster reports, unchecked.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(in crate::gateway) struct NamedDirectory {
    /// Base address of the sign-in service; empty from runtimes that know only the public one.
    pub(in crate::gateway) login: Option<String>,
    /// GUID or domain.
    pub(in crate::gateway) tenant: Option<String>,
}

// GET /$/GetAadMetadata, samples GetAadMetadata.*

#[derive(Deserialize)]
struct MetadataReply {
    r#type: Option<String>,
    metadata: Option<Object<NamedDirectory>>,
}

/// The directory that issues tokens; `None` if the cluster accepts no tokens.
pub(in crate::gateway) const AAD_METADATA: Query<Option<NamedDirectory>> = Query {
    route: Route {
        anonymous: true,
        ..Route::native("GetAadMetadata", "6.0", &["$", "GetAadMetadata"])
    },
    answer: |reply| {
        let reply = reply.required::<MetadataReply>()?;
        let takes_tokens = reply.r#type.is_some_and(|kind| kind == "aad");
        let metadata = reply.metadata.filter(|_| takes_tokens);
        Ok(metadata.map(|metadata| metadata.0))
    },
    not_enabled: None,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::decode::tests::sample;
    use crate::gateway::wire::tests::answer;

    #[test]
    fn a_cluster_with_a_directory_names_it_and_another_names_none() {
        let named = answer(&AAD_METADATA, sample("GetAadMetadata.aad.json")).unwrap();
        let named = named.unwrap();
        assert_eq!(
            named.login.as_deref(),
            Some("https://login.microsoftonline.com")
        );
        assert_eq!(named.tenant.as_deref(), Some("<tenant-guid>"));
        let none = answer(&AAD_METADATA, sample("GetAadMetadata.none.sfx.json")).unwrap();
        assert_eq!(none, None);
    }
}
