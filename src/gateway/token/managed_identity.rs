//! Tokens of a managed identity: that of the virtual machine, or of the Service Fabric application
//! that contains the exporter.
//!
//! Both services run on this machine, identify the caller themselves and are called without a proxy.
//! The one of Service Fabric is trusted by the thumbprint in `IDENTITY_SERVER_THUMBPRINT`.

use reqwest::Client;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::access_token::AccessToken;
use super::endpoint::{self, TokenRequest};
use super::error::TokenError;
use crate::gateway::build_error::BuildError;
use crate::gateway::deadline::Deadline;
use crate::gateway::tls::{self, CertificateExpiry, Credentials};
use crate::settings::{
    FabricIdentity, FabricIdentityError, ManagedIdentity, Security, TlsVersion, Trust,
};

/// The metadata service of a virtual machine, and its API version:
/// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>.
const MACHINE_ADDRESS: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const MACHINE_VERSION: &str = "2018-02-01";

/// The only API version of the token service of Service Fabric:
/// <https://learn.microsoft.com/azure/service-fabric/how-to-managed-identity-service-fabric-app-code>.
const FABRIC_VERSION: &str = "2019-07-01-preview";

#[derive(Debug)]
pub(super) struct ManagedIdentityClient {
    address: Url,
    header: HeaderName,
    /// Value of the header; `None` for a virtual machine, where the header is `true`.
    secret: Option<SecretString>,
    hint: &'static str,
    client: Client,
}

impl ManagedIdentityClient {
    /// Uses the configured endpoint, otherwise that of `fabric`, otherwise that of the machine.
    pub(super) fn new(
        settings: &ManagedIdentity,
        fabric: Option<Result<FabricIdentity, FabricIdentityError>>,
    ) -> Result<Self, BuildError> {
        match fabric.filter(|_| settings.endpoint.is_none()) {
            Some(fabric) => {
                let fabric = fabric.map_err(BuildError::FabricIdentity)?;
                Self::of_application(settings, &fabric)
            }
            None => Self::of_machine(settings),
        }
    }

    fn of_machine(settings: &ManagedIdentity) -> Result<Self, BuildError> {
        let platform = || MACHINE_ADDRESS.parse().expect("the address is fixed");
        let service = settings.endpoint.clone().unwrap_or_else(platform);
        Ok(Self {
            address: with_query(service, MACHINE_VERSION, settings),
            header: HeaderName::from_static("metadata"),
            secret: None,
            hint: "check that the exporter runs on an Azure virtual machine with a managed identity",
            client: endpoint::client().build().map_err(BuildError::Client)?,
        })
    }

    fn of_application(
        settings: &ManagedIdentity,
        fabric: &FabricIdentity,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            address: with_query(fabric.endpoint.clone(), FABRIC_VERSION, settings),
            header: HeaderName::from_static("secret"),
            secret: Some(fabric.header.clone()),
            hint: "check that the token service of Service Fabric runs on this node, with the \
                   certificate of IDENTITY_SERVER_THUMBPRINT",
            client: pinned(fabric).map_err(BuildError::Client)?,
        })
    }

    pub(super) async fn token(&self, deadline: Deadline) -> Result<AccessToken, TokenError> {
        let secret = self.secret.as_ref().map(ExposeSecret::expose_secret);
        let value = HeaderValue::from_str(secret.unwrap_or("true"));
        let mut value = value.expect("FabricIdentity has validated the secret");
        value.set_sensitive(true);
        let get = self.client.get(self.address.clone());
        let request = TokenRequest {
            address: &self.address,
            request: get.header(&self.header, value),
            secret: self.secret.as_ref(),
            hint: self.hint,
        };
        request.send(deadline).await
    }
}

/// A client that trusts only the certificate in the environment.
fn pinned(fabric: &FabricIdentity) -> Result<Client, reqwest::Error> {
    let security = Security {
        trust: Trust::Thumbprints {
            thumbprints: vec![fabric.thumbprint],
            // The platform updates the environment only at the start of the process.
            accept_expired: true,
        },
        // The reason for the limit of 1.2 applies to gateways only.
        tls_max_version: Some(TlsVersion::V1_3),
        ..Security::default()
    };
    let (none, expiry) = (Credentials::default(), CertificateExpiry::default());
    tls::secure(
        endpoint::client(),
        &security,
        &none,
        &fabric.endpoint,
        expiry,
    )
    .build()
}

fn with_query(mut service: Url, version: &str, settings: &ManagedIdentity) -> Url {
    let mut query = service.query_pairs_mut();
    query.append_pair("api-version", version);
    query.append_pair("resource", settings.cluster_application_id.as_str());
    if let Some(client_id) = &settings.client_id {
        query.append_pair("client_id", client_id.as_str());
    }
    drop(query);
    service
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: Option<&str>) -> ManagedIdentity {
        ManagedIdentity {
            cluster_application_id: "api://cluster/&x".parse().unwrap(),
            client_id: Some("identity".parse().unwrap()),
            endpoint: endpoint.map(|text| text.parse().unwrap()),
        }
    }

    fn fabric() -> FabricIdentity {
        let endpoint = "https://localhost:2377/metadata/identity/oauth2/token";
        let thumbprint = "150112AA0F5BBEE52C3F59A4F0E3A1D95E58C0DE";
        FabricIdentity::new(endpoint, "hunter2", thumbprint).unwrap()
    }

    #[test]
    fn configured_endpoint_precedes_application_and_machine() {
        let (machine, fabric) = (settings(None), fabric());
        let query = "resource=api%3A%2F%2Fcluster%2F%26x&client_id=identity";
        let service = ManagedIdentityClient::new(&machine, None).unwrap();
        assert_eq!(
            service.address.as_str(),
            format!("{MACHINE_ADDRESS}?api-version=2018-02-01&{query}")
        );
        let service = ManagedIdentityClient::new(&machine, Some(Ok(fabric.clone()))).unwrap();
        assert_eq!(
            service.address.as_str(),
            format!(
                "https://localhost:2377/metadata/identity/oauth2/token\
                 ?api-version=2019-07-01-preview&{query}"
            )
        );
        let configured = settings(Some("http://127.0.0.1:4000/token"));
        let service = ManagedIdentityClient::new(&configured, Some(Ok(fabric))).unwrap();
        assert!(
            service
                .address
                .as_str()
                .starts_with("http://127.0.0.1:4000/token?")
        );
        assert_eq!(service.header, "metadata");
    }

    #[test]
    fn secret_is_hidden_in_debug_output() {
        let fabric = fabric();
        let service =
            ManagedIdentityClient::new(&settings(None), Some(Ok(fabric.clone()))).unwrap();
        assert!(!format!("{service:?} {fabric:?}").contains("hunter2"));
    }
}
