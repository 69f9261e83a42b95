//! Tokens of Entra ID, for an application with a secret.
//!
//! What is not configured is asked of the cluster each time, over its own verified connection. It
//! may name the directory, but not where the secret goes, which is one of Microsoft's own sign-in
//! services or one that somebody wrote down; and not for whom the token is, which it would be given.

use secrecy::ExposeSecret as _;
use url::{Host, Url};

use super::endpoint::{self, Question};
use super::error::TokenError;
use super::issued::Issued;
use super::{SecretFile, secret_in};
use crate::gateway::build_error::BuildError;
use crate::gateway::client::{Call, Client};
use crate::gateway::deadline::Deadline;
use crate::gateway::wire::{AAD_METADATA, NamedDirectory, Subject};
use crate::settings::{Entra, EntraProtocol, TenantId};

/// The sign-in services of the public cloud, of US Government and of China (the second is what
/// clusters there were set up with at first), as in
/// <https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud> and in the
/// aliases of <https://login.microsoftonline.com/common/discovery/instance>.
const SIGN_IN_SERVICES: [&str; 5] = [
    "login.microsoftonline.com",
    "login.windows.net",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "login.chinacloudapi.cn",
];

/// What a cluster means that names no sign-in service.
const PUBLIC: &str = "https://login.microsoftonline.com";

/// The application that we are.
#[derive(Debug)]
pub(super) struct Application {
    settings: Entra,
    client: reqwest::Client,
}

/// Where to ask.
#[derive(Debug, PartialEq, Eq)]
struct Directory {
    authority: Url,
    tenant: TenantId,
}

impl Application {
    pub(super) fn new(settings: Entra) -> Result<Self, BuildError> {
        let client = endpoint::client().build().map_err(BuildError::Client)?;
        Ok(Self { settings, client })
    }

    /// Asks for a token; `cluster` only for what is not configured.
    pub(super) async fn token(
        &self,
        cluster: &Client,
        file: &mut SecretFile,
        deadline: Deadline,
    ) -> Result<Issued, TokenError> {
        let directory = self.directory(cluster, deadline).await?;
        let secret = secret_in(&self.settings.client_secret_file, file, deadline).await?;
        let address = directory.address(self.settings.protocol);
        let (key, audience) = audience(&self.settings);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.settings.client_id.as_str()),
            ("client_secret", secret.expose_secret()),
            (key, &audience),
        ];
        let question = Question {
            request: self.client.post(address.clone()).form(&form),
            address: &address,
            secret: Some(&secret),
            advice: "the sign-in service must be reachable from here, without a proxy",
        };
        question.ask(deadline).await
    }

    async fn directory(
        &self,
        cluster: &Client,
        deadline: Deadline,
    ) -> Result<Directory, TokenError> {
        if let Some(configured) = Directory::configured(&self.settings) {
            return Ok(configured);
        }
        let call = Call {
            subject: &Subject::Cluster,
            page: None,
            bearer: None,
            deadline,
        };
        let named = cluster.ask(&AAD_METADATA, call).await;
        let named = named.map_err(TokenError::Discovery)?;
        Directory::named(&self.settings, named.ok_or(TokenError::NoDirectory)?)
    }
}

impl Directory {
    fn configured(settings: &Entra) -> Option<Self> {
        Some(Self {
            authority: settings.authority.clone()?,
            tenant: settings.tenant_id.clone()?,
        })
    }

    /// The configured, and what the cluster names for the rest.
    fn named(settings: &Entra, named: NamedDirectory) -> Result<Self, TokenError> {
        let tenant = named.tenant.and_then(|text| text.parse().ok());
        Ok(Self {
            authority: match &settings.authority {
                Some(authority) => authority.clone(),
                None => authority(named.login.as_deref().unwrap_or_default())?,
            },
            tenant: settings
                .tenant_id
                .clone()
                .or(tenant)
                .ok_or(TokenError::Unnamed { what: "tenant_id" })?,
        })
    }

    fn address(&self, protocol: EntraProtocol) -> Url {
        let version: &[&str] = match protocol {
            EntraProtocol::V1 => &[],
            EntraProtocol::V2 => &["v2.0"],
        };
        let mut address = self.authority.clone();
        if let Ok(mut path) = address.path_segments_mut() {
            path.pop_if_empty().extend([self.tenant.as_str(), "oauth2"]);
            path.extend(version).push("token");
        }
        address
    }
}

/// For what the token is, as the protocol spells it.
fn audience(settings: &Entra) -> (&'static str, String) {
    let cluster = &settings.cluster_application_id;
    match settings.protocol {
        EntraProtocol::V1 => ("resource", cluster.to_string()),
        EntraProtocol::V2 => ("scope", format!("{cluster}/.default")),
    }
}

/// A sign-in service that a cluster names, if it is one that may have the secret. Only its host is
/// taken: path and port are ours.
fn authority(login: &str) -> Result<Url, TokenError> {
    let login = if login.is_empty() { PUBLIC } else { login };
    let url = Url::parse(login).map_err(|_| TokenError::Unnamed { what: "authority" })?;
    let Some(Host::Domain(host)) = url.host() else {
        return Err(TokenError::Unnamed { what: "authority" });
    };
    let service = SIGN_IN_SERVICES.into_iter().find(|known| *known == host);
    let service = service.filter(|_| url.scheme() == "https" && url.port().is_none());
    let service = service.ok_or_else(|| TokenError::ForeignAuthority {
        host: url
            .origin()
            .ascii_serialization()
            .chars()
            .take(253)
            .collect(),
    })?;
    let address = format!("https://{service}");
    Ok(Url::parse(&address).expect("each of the services is a host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Entra {
        Entra {
            tenant_id: None,
            client_id: "exporter".parse().unwrap(),
            client_secret_file: "secret".into(),
            cluster_application_id: "api://ours".parse().unwrap(),
            authority: None,
            protocol: EntraProtocol::V1,
        }
    }

    fn named(login: &str, tenant: &str) -> Result<Directory, TokenError> {
        let named = NamedDirectory {
            login: Some(login.to_owned()),
            tenant: Some(tenant.to_owned()),
        };
        Directory::named(&settings(), named)
    }

    #[test]
    fn a_cluster_may_name_the_sign_in_services_of_microsoft() {
        for host in SIGN_IN_SERVICES {
            let login = format!("https://{host}/common/");
            let directory = named(&login, "contoso.com").unwrap();
            assert_eq!(
                directory.address(EntraProtocol::V1).as_str(),
                format!("https://{host}/contoso.com/oauth2/token")
            );
        }
        let unnamed = named("", "contoso.com").unwrap();
        assert_eq!(
            unnamed.authority.as_str(),
            "https://login.microsoftonline.com/"
        );
    }

    #[test]
    fn a_cluster_may_not_send_the_secret_elsewhere() {
        for login in [
            "https://attacker.example",
            "https://login.microsoftonline.com.attacker.example",
            "https://attacker.example/login.microsoftonline.com",
            "https://login.microsoftonline.com@attacker.example",
            "https://login.microsoftonline.com:8443",
            "http://login.microsoftonline.com",
            "ftp://login.microsoftonline.com",
        ] {
            let error = named(login, "contoso.com").unwrap_err();
            let told = error.to_string();
            assert!(told.contains("auth.entra.authority"), "{login}: {told}");
        }
        for login in [
            "login.microsoftonline.com",
            "https://10.0.0.1",
            "data:x",
            "::",
        ] {
            let error = named(login, "contoso.com").unwrap_err();
            assert!(error.to_string().contains("authority"), "{login}: {error}");
        }
    }

    #[test]
    fn what_a_cluster_names_cannot_change_the_address() {
        for tenant in ["", "..", "a/b", "a?b", "a%2fb"] {
            let error = named("", tenant).unwrap_err();
            assert!(error.to_string().contains("write auth.entra.tenant_id"));
        }
    }

    #[test]
    fn what_is_configured_goes_before_what_the_cluster_names() {
        let settings = Entra {
            tenant_id: Some("ours".parse().unwrap()),
            protocol: EntraProtocol::V2,
            authority: Some("http://127.0.0.1:4000/base/".parse().unwrap()),
            ..settings()
        };
        let named = NamedDirectory {
            login: Some("https://attacker.example".to_owned()),
            tenant: Some("theirs".to_owned()),
        };
        let directory = Directory::named(&settings, named).unwrap();
        assert_eq!(Directory::configured(&settings).unwrap(), directory);
        assert_eq!(
            directory.address(EntraProtocol::V2).as_str(),
            "http://127.0.0.1:4000/base/ours/oauth2/v2.0/token"
        );
        assert_eq!(
            audience(&settings),
            ("scope", "api://ours/.default".to_owned())
        );
    }
}
