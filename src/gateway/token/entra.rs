//! Tokens of Entra ID for an application with a client secret.
//!
//! The cluster reports the directory if it is not configured, over its verified connection. The
//! secret is only sent to a known Microsoft sign-in service or to the configured authority, and the
//! audience of the token must be configured: otherwise a cluster could obtain the secret, or a token
//! for another application.

use secrecy::ExposeSecret as _;
use url::{Host, Url};

use super::access_token::AccessToken;
use super::endpoint::{self, TokenRequest};
use super::error::TokenError;
use super::secret_file::SecretFile;
use crate::gateway::build_error::BuildError;
use crate::gateway::client::{Call, Client};
use crate::gateway::deadline::Deadline;
use crate::gateway::file;
use crate::gateway::wire::{AAD_METADATA, NamedDirectory, Subject};
use crate::settings::{Entra, EntraProtocol, TenantId};

/// The sign-in services of the public cloud, US Government and China (the second one of China is the
/// default of older clusters there), from
/// <https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud> and in the
/// aliases in <https://login.microsoftonline.com/common/discovery/instance>.
const SIGN_IN_SERVICES: [&str; 5] = [
    "login.microsoftonline.com",
    "login.windows.net",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "login.chinacloudapi.cn",
];

/// The sign-in service if the cluster reports none.
const DEFAULT_AUTHORITY: &str = "https://login.microsoftonline.com";

#[derive(Debug)]
pub(super) struct EntraClient {
    settings: Entra,
    client: reqwest::Client,
}

/// A directory (tenant) and its sign-in service.
#[derive(Debug, PartialEq, Eq)]
struct Directory {
    authority: Url,
    tenant: TenantId,
}

impl EntraClient {
    pub(super) fn new(settings: Entra) -> Result<Self, BuildError> {
        let client = endpoint::client().build().map_err(BuildError::Client)?;
        Ok(Self { settings, client })
    }

    /// Requests a token. `cluster` reports the settings of the directory that are not configured.
    pub(super) async fn token(
        &self,
        cluster: &Client,
        file: &mut SecretFile,
        deadline: Deadline,
    ) -> Result<AccessToken, TokenError> {
        let directory = self.directory(cluster, deadline).await?;
        let secret = file
            .read(file::secret, &self.settings.client_secret_file, deadline)
            .await?;
        let address = directory.address(self.settings.protocol);
        let (key, audience) = audience(&self.settings);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.settings.client_id.as_str()),
            ("client_secret", secret.expose_secret()),
            (key, &audience),
        ];
        let request = TokenRequest {
            request: self.client.post(address.clone()).form(&form),
            address: &address,
            secret: Some(&secret),
            hint: "the sign-in service must be reachable without a proxy",
        };
        request.send(deadline).await
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
        Directory::discovered(&self.settings, named.ok_or(TokenError::NoDirectory)?)
    }
}

impl Directory {
    fn configured(settings: &Entra) -> Option<Self> {
        Some(Self {
            authority: settings.authority.clone()?,
            tenant: settings.tenant_id.clone()?,
        })
    }

    /// The configured settings, completed with those that the cluster reports.
    fn discovered(settings: &Entra, named: NamedDirectory) -> Result<Self, TokenError> {
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
                .ok_or(TokenError::Undiscovered {
                    setting: "tenant_id",
                })?,
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

/// The audience of the token, as a form field of the protocol.
fn audience(settings: &Entra) -> (&'static str, String) {
    let cluster = &settings.cluster_application_id;
    match settings.protocol {
        EntraProtocol::V1 => ("resource", cluster.to_string()),
        EntraProtocol::V2 => ("scope", format!("{cluster}/.default")),
    }
}

/// The sign-in service that a cluster reports, if it is known. Only its host is used.
fn authority(login: &str) -> Result<Url, TokenError> {
    let login = if login.is_empty() {
        DEFAULT_AUTHORITY
    } else {
        login
    };
    let url = Url::parse(login).map_err(|_| TokenError::Undiscovered {
        setting: "authority",
    })?;
    let Some(Host::Domain(host)) = url.host() else {
        return Err(TokenError::Undiscovered {
            setting: "authority",
        });
    };
    let service = SIGN_IN_SERVICES.into_iter().find(|known| *known == host);
    let service = service.filter(|_| url.scheme() == "https" && url.port().is_none());
    let service = service.ok_or_else(|| TokenError::UnknownAuthority {
        host: url
            .origin()
            .ascii_serialization()
            .chars()
            .take(253)
            .collect(),
    })?;
    let address = format!("https://{service}");
    Ok(Url::parse(&address).expect("every known service is a valid host"))
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
        Directory::discovered(&settings(), named)
    }

    #[test]
    fn microsoft_sign_in_services_are_accepted() {
        for host in SIGN_IN_SERVICES {
            let login = format!("https://{host}/common/");
            let directory = named(&login, "contoso.com").unwrap();
            assert_eq!(
                directory.address(EntraProtocol::V1).as_str(),
                format!("https://{host}/contoso.com/oauth2/token")
            );
        }
        let default = named("", "contoso.com").unwrap();
        assert_eq!(
            default.authority.as_str(),
            "https://login.microsoftonline.com/"
        );
    }

    #[test]
    fn other_sign_in_services_are_rejected() {
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
            let message = error.to_string();
            assert!(
                message.contains("auth.entra.authority"),
                "{login}: {message}"
            );
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
    fn invalid_tenant_is_rejected() {
        for tenant in ["", "..", "a/b", "a?b", "a%2fb"] {
            let error = named("", tenant).unwrap_err();
            assert!(error.to_string().contains("set auth.entra.tenant_id"));
        }
    }

    #[test]
    fn configuration_precedes_discovery() {
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
        let directory = Directory::discovered(&settings, named).unwrap();
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
