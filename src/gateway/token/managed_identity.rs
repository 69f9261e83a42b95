//! Tokens of a managed identity: of the virtual machine, or of the Service Fabric application that
//! the exporter is a part of.
//!
//! Both services are on this machine and know who asks; neither is asked through a proxy. The one
//! of Service Fabric is believed by its certificate, which the platform names.

use reqwest::Client;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::endpoint::{self, Question};
use super::error::TokenError;
use super::issued::Issued;
use crate::gateway::build_error::BuildError;
use crate::gateway::deadline::Deadline;
use crate::gateway::tls::{self, CertificateExpiry, Credentials};
use crate::settings::{
    FabricIdentity, FabricIdentityError, ManagedIdentity, Security, TlsVersion, Trust,
};

/// The metadata service of a virtual machine and the version of its contract:
/// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>.
const MACHINE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const MACHINE_VERSION: &str = "2018-02-01";

/// The only version that the token service of Service Fabric takes:
/// <https://learn.microsoft.com/azure/service-fabric/how-to-managed-identity-service-fabric-app-code>.
const FABRIC_VERSION: &str = "2019-07-01-preview";

/// The service that knows the identity.
#[derive(Debug)]
pub(super) struct IdentityService {
    address: Url,
    header: HeaderName,
    /// Value of the header, where it is one: a machine is known by where it asks from.
    secret: Option<SecretString>,
    advice: &'static str,
    client: Client,
}

impl IdentityService {
    /// The configured service, else the one that `fabric` names, else that of the machine.
    pub(super) fn new(
        settings: &ManagedIdentity,
        fabric: Option<Result<FabricIdentity, FabricIdentityError>>,
    ) -> Result<Self, BuildError> {
        match fabric.filter(|_| settings.endpoint.is_none()) {
            Some(fabric) => {
                let fabric = fabric.map_err(BuildError::FabricIdentity)?;
                Self::of_the_application(settings, &fabric)
            }
            None => Self::of_the_machine(settings),
        }
    }

    fn of_the_machine(settings: &ManagedIdentity) -> Result<Self, BuildError> {
        let platform = || MACHINE.parse().expect("the address is fixed");
        let service = settings.endpoint.clone().unwrap_or_else(platform);
        Ok(Self {
            address: address(service, MACHINE_VERSION, settings),
            header: HeaderName::from_static("metadata"),
            secret: None,
            advice: "does the exporter run on a virtual machine of Azure that has an identity?",
            client: endpoint::client().build().map_err(BuildError::Client)?,
        })
    }

    fn of_the_application(
        settings: &ManagedIdentity,
        fabric: &FabricIdentity,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            address: address(fabric.endpoint.clone(), FABRIC_VERSION, settings),
            header: HeaderName::from_static("secret"),
            secret: Some(fabric.header.clone()),
            advice: "the token service of Service Fabric must run on this node, with the \
                     certificate of IDENTITY_SERVER_THUMBPRINT",
            client: pinned(fabric).map_err(BuildError::Client)?,
        })
    }

    /// Asks for a token.
    pub(super) async fn token(&self, deadline: Deadline) -> Result<Issued, TokenError> {
        let secret = self.secret.as_ref().map(ExposeSecret::expose_secret);
        let value = HeaderValue::from_str(secret.unwrap_or("true"));
        let mut value = value.expect("a secret was checked where it was read");
        value.set_sensitive(true);
        let request = self.client.get(self.address.clone());
        let question = Question {
            address: &self.address,
            request: request.header(&self.header, value),
            secret: self.secret.as_ref(),
            advice: self.advice,
        };
        question.ask(deadline).await
    }
}

/// A client that believes the certificate which the platform named, and no other.
fn pinned(fabric: &FabricIdentity) -> Result<Client, reqwest::Error> {
    let security = Security {
        trust: Trust::Thumbprints {
            thumbprints: vec![fabric.thumbprint],
            // The platform names what is in use now, and renews it without us.
            accept_expired: true,
        },
        // What holds a gateway back does not hold for this service.
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

fn address(mut service: Url, version: &str, settings: &ManagedIdentity) -> Url {
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
    fn the_application_goes_before_the_machine_and_the_configuration_before_both() {
        let (machine, fabric) = (settings(None), fabric());
        let query = "resource=api%3A%2F%2Fcluster%2F%26x&client_id=identity";
        let service = IdentityService::new(&machine, None).unwrap();
        assert_eq!(
            service.address.as_str(),
            format!("{MACHINE}?api-version=2018-02-01&{query}")
        );
        let service = IdentityService::new(&machine, Some(Ok(fabric.clone()))).unwrap();
        assert_eq!(
            service.address.as_str(),
            format!(
                "https://localhost:2377/metadata/identity/oauth2/token\
                 ?api-version=2019-07-01-preview&{query}"
            )
        );
        let configured = settings(Some("http://127.0.0.1:4000/token"));
        let service = IdentityService::new(&configured, Some(Ok(fabric))).unwrap();
        assert!(
            service
                .address
                .as_str()
                .starts_with("http://127.0.0.1:4000/token?")
        );
        assert_eq!(service.header, "metadata");
    }

    #[test]
    fn the_secret_of_the_application_shows_itself_to_nobody() {
        let fabric = fabric();
        let service = IdentityService::new(&settings(None), Some(Ok(fabric.clone()))).unwrap();
        assert!(!format!("{service:?} {fabric:?}").contains("hunter2"));
    }
}
