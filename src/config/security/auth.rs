//! The keys of `auth`: at most one authentication method.
//!
//! An empty section counts as missing; an incomplete one is an error. URLs to which secrets are sent
//! must be `https`, or local to the machine.

use std::net::Ipv4Addr;
use std::path::Path;

use url::{Host, Url};

use super::super::values;
use super::super::yaml::Section;
use super::{file, optional};
use crate::settings::{
    ApplicationId, Auth, ClientCertificate, Entra, EntraProtocol, ManagedIdentity, TenantId,
    TokenSource, is_loopback, quoted,
};

const NO_CLUSTER_APPLICATION: &str = "missing; write the id of the cluster's application";

impl Auth {
    pub(super) fn read(s: &mut Section<'_>, folder: &Path) -> Self {
        let errors = s.error_count();
        let token = |source| Self::Token(source);
        let written: Vec<_> = [
            s.section("client_certificate", |s| ClientCertificate::read(s, folder))
                .map(Self::ClientCertificate),
            file(s, "token_file", folder)
                .map(TokenSource::File)
                .map(token),
            s.section("entra", |s| Entra::read(s, folder))
                .map(TokenSource::Entra)
                .map(token),
            s.section("managed_identity", ManagedIdentity::read)
                .map(TokenSource::ManagedIdentity)
                .map(token),
        ]
        .into_iter()
        .flatten()
        .collect();
        if written.len() > 1 && s.error_count() == errors {
            let message = "expected one authentication method, found several";
            s.error_here(message);
        }
        written.into_iter().next().unwrap_or_default()
    }
}

impl ClientCertificate {
    fn read(s: &mut Section<'_>, folder: &Path) -> Option<Self> {
        let cert_file = file(s, "cert_file", folder);
        let key_file = file(s, "key_file", folder);
        let pfx_file = file(s, "pfx_file", folder);
        let password_file = file(s, "password_file", folder);
        match (cert_file, pfx_file) {
            (Some(_), Some(_)) => {
                s.error(
                    "pfx_file",
                    "cannot be combined with cert_file; remove one of them",
                );
                None
            }
            (Some(_), None) if password_file.is_some() => {
                let message = "requires pfx_file; a PEM key must not be encrypted: decrypt it with \
                               `openssl pkcs8 -topk8 -nodes -in old.key -out new.key`";
                s.error("password_file", message);
                None
            }
            (Some(cert_file), None) => Some(Self::Pem {
                key_file: key_file.unwrap_or_else(|| cert_file.clone()),
                cert_file,
            }),
            (None, Some(_)) if key_file.is_some() => {
                s.error(
                    "key_file",
                    "cannot be combined with pfx_file, which contains the key; remove it",
                );
                None
            }
            (None, Some(pfx_file)) => Some(Self::Pfx {
                pfx_file,
                password_file,
            }),
            (None, None) => {
                if key_file.is_some() {
                    s.error(
                        "cert_file",
                        "missing; write the path of the certificate for key_file",
                    );
                }
                if password_file.is_some() {
                    s.error(
                        "pfx_file",
                        "missing; write the path of the file that has this password",
                    );
                }
                None
            }
        }
    }
}

impl Entra {
    fn read(s: &mut Section<'_>, folder: &Path) -> Option<Self> {
        let errors = s.error_count();
        let protocols = [("v1", EntraProtocol::V1), ("v2", EntraProtocol::V2)];
        let tenant_id = optional(s, "tenant_id", tenant);
        let client_id = optional(s, "client_id", application);
        let client_secret_file = file(s, "client_secret_file", folder);
        let cluster_application_id = optional(s, "cluster_application_id", application);
        let authority = optional(s, "authority", authority);
        let protocol = s.value("protocol", EntraProtocol::default(), |text| {
            values::word(text, &protocols)
        });
        let any = (tenant_id.is_some()
            || client_id.is_some()
            || client_secret_file.is_some()
            || cluster_application_id.is_some()
            || authority.is_some())
            && s.error_count() == errors;
        if any && client_id.is_none() {
            s.error(
                "client_id",
                "missing; write the id of the exporter's application",
            );
        }
        if any && client_secret_file.is_none() {
            s.error(
                "client_secret_file",
                "missing; write the path of the file with the client secret",
            );
        }
        if any && cluster_application_id.is_none() {
            s.error("cluster_application_id", NO_CLUSTER_APPLICATION);
        }
        Some(Self {
            tenant_id,
            client_id: client_id?,
            client_secret_file: client_secret_file?,
            cluster_application_id: cluster_application_id?,
            authority,
            protocol,
        })
    }
}

impl ManagedIdentity {
    fn read(s: &mut Section<'_>) -> Option<Self> {
        let cluster_application_id = optional(s, "cluster_application_id", application);
        let client_id = optional(s, "client_id", application);
        let endpoint = optional(s, "endpoint", metadata_service);
        if cluster_application_id.is_none() && (client_id.is_some() || endpoint.is_some()) {
            s.error("cluster_application_id", NO_CLUSTER_APPLICATION);
        }
        Some(Self {
            cluster_application_id: cluster_application_id?,
            client_id,
            endpoint,
        })
    }
}

fn tenant(text: &str) -> Result<TenantId, String> {
    text.parse().map_err(|()| {
        let shown = quoted(text);
        format!("expected the GUID or domain of a tenant, such as contoso.com, found {shown}")
    })
}

fn application(text: &str) -> Result<ApplicationId, String> {
    text.parse().map_err(|()| {
        let shown = quoted(text);
        format!("expected the GUID or URI of an application, found {shown}")
    })
}

fn authority(text: &str) -> Result<Url, String> {
    secret_url(text, is_loopback, "https://login.microsoftonline.com")
}

fn metadata_service(text: &str) -> Result<Url, String> {
    secret_url(
        text,
        |url| is_loopback(url) || url.host() == Some(METADATA_SERVICE),
        "http://169.254.169.254/metadata/identity/oauth2/token",
    )
}

/// The Azure Instance Metadata Service. Requests to it do not leave the host of the virtual machine.
const METADATA_SERVICE: Host<&str> = Host::Ipv4(Ipv4Addr::new(169, 254, 169, 254));

/// A URL to which secrets are sent: `https`, or `http` if `is_local`.
fn secret_url(
    text: &str,
    is_local: impl FnOnce(&Url) -> bool,
    example: &str,
) -> Result<Url, String> {
    // Other parts of the URL may contain a secret.
    let shown = if text.contains(['@', '?', '#']) {
        "another value".to_owned()
    } else {
        quoted(text)
    };
    let error = |expected: &str| format!("expected {expected} such as {example}, found {shown}");
    let url = Url::parse(text).map_err(|_| error("an https URL"))?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !bare {
        return Err(error("a URL with scheme, host, port and path only"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local(&url) => Ok(url),
        "http" => Err(error(
            "an https URL, because secrets would be sent unencrypted,",
        )),
        _ => Err(error("an https URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_sent_over_https_or_to_loopback() {
        for text in [
            "https://login.microsoftonline.us",
            "http://127.0.0.1:4000/token",
            "http://[::1]:4000",
            "http://localhost:4000",
        ] {
            assert!(authority(text).is_ok(), "{text}");
            assert!(metadata_service(text).is_ok(), "{text}");
        }
        for text in [
            "http://login.microsoftonline.com",
            "http://localhost.example.com",
            "ftp://a",
            "login.microsoftonline.com",
            "https://hunter2@a",
            "https://a/?x=hunter2",
            "https://a/#hunter2",
        ] {
            let error = authority(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(metadata_service(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metadata_service_is_the_only_other_http_address() {
        let service = "http://169.254.169.254/metadata/identity/oauth2/token";
        assert!(metadata_service(service).is_ok());
        assert!(authority(service).is_err());
        for text in [
            "http://169.254.169.253",
            "http://169.254.0.1",
            "http://[fe80::1]",
        ] {
            assert!(metadata_service(text).is_err(), "{text}");
        }
    }
}
