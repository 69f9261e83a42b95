//! The keys of `auth`: how the exporter shows who it is, one way or none.
//!
//! A section in which nothing is written is no way; one that is written in part is a fault. An
//! address that secrets go to is https, or one that no request leaves this machine for.

use std::net::Ipv4Addr;
use std::path::Path;

use url::{Host, Url};

use super::super::reader::Section;
use super::super::values;
use super::{file, optional};
use crate::settings::{
    ApplicationId, Auth, ClientCertificate, Entra, EntraProtocol, ManagedIdentity, TenantId,
    TokenSource, is_loopback, quoted,
};

const NO_CLUSTER_APPLICATION: &str =
    "is missing; write the id of the application that stands for the cluster";

impl Auth {
    pub(super) fn read(s: &mut Section<'_>, folder: &Path) -> Self {
        let faults = s.fault_count();
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
        if written.len() > 1 && s.fault_count() == faults {
            let message = "holds several ways to show who we are; write one of them";
            s.fault_here(message);
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
                s.fault("pfx_file", "stands beside cert_file; write one of the two");
                None
            }
            (Some(_), None) if password_file.is_some() => {
                let message = "is for pfx_file; a key in PEM must not be encrypted: mend it with \
                               `openssl pkcs8 -topk8 -nodes -in old.key -out new.key`";
                s.fault("password_file", message);
                None
            }
            (Some(cert_file), None) => Some(Self::Pem {
                key_file: key_file.unwrap_or_else(|| cert_file.clone()),
                cert_file,
            }),
            (None, Some(_)) if key_file.is_some() => {
                s.fault(
                    "key_file",
                    "stands beside pfx_file, which holds the key; remove it",
                );
                None
            }
            (None, Some(pfx_file)) => Some(Self::Pfx {
                pfx_file,
                password_file,
            }),
            (None, None) => {
                if key_file.is_some() {
                    s.fault("cert_file", "is missing; write the certificate of key_file");
                }
                if password_file.is_some() {
                    s.fault(
                        "pfx_file",
                        "is missing; write the file that the password opens",
                    );
                }
                None
            }
        }
    }
}

impl Entra {
    fn read(s: &mut Section<'_>, folder: &Path) -> Option<Self> {
        let faults = s.fault_count();
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
            && s.fault_count() == faults;
        if any && client_id.is_none() {
            s.fault(
                "client_id",
                "is missing; write the id of the exporter's application",
            );
        }
        if any && client_secret_file.is_none() {
            s.fault(
                "client_secret_file",
                "is missing; write the file that holds the secret",
            );
        }
        if any && cluster_application_id.is_none() {
            s.fault("cluster_application_id", NO_CLUSTER_APPLICATION);
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
            s.fault("cluster_application_id", NO_CLUSTER_APPLICATION);
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
        format!("{shown} is not a tenant; write its GUID or its domain, for example contoso.com")
    })
}

fn application(text: &str) -> Result<ApplicationId, String> {
    text.parse().map_err(|()| {
        let shown = quoted(text);
        format!("{shown} is not the id of an application; write its GUID")
    })
}

fn authority(text: &str) -> Result<Url, String> {
    address(text, is_loopback, "https://login.microsoftonline.com")
}

fn metadata_service(text: &str) -> Result<Url, String> {
    address(
        text,
        |url| is_loopback(url) || url.host() == Some(METADATA_SERVICE),
        "http://169.254.169.254/metadata/identity/oauth2/token",
    )
}

/// The metadata service of a virtual machine, which its host answers.
const METADATA_SERVICE: Host<&str> = Host::Ipv4(Ipv4Addr::new(169, 254, 169, 254));

/// An address that secrets are sent to: by https, or to where `is_local` says that nobody else
/// hears them.
fn address(text: &str, is_local: impl FnOnce(&Url) -> bool, example: &str) -> Result<Url, String> {
    // Anything but scheme, host, port and path may be a secret.
    let shown = if text.contains(['@', '?', '#']) {
        "this".to_owned()
    } else {
        quoted(text)
    };
    let told = |fault: &str| format!("{shown} is {fault}; write for example {example}");
    let url = Url::parse(text).map_err(|_| told("not a URL"))?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !bare {
        return Err(told("a URL with more than scheme, host, port and path"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local(&url) => Ok(url),
        "http" => Err(told(
            "an http address of another machine: secrets would be overheard",
        )),
        _ => Err(told("not a URL with scheme https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_by_https_or_stay_on_the_machine() {
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
            let told = authority(text).unwrap_err();
            assert!(!told.contains("hunter2"), "{told}");
            assert!(metadata_service(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_metadata_service_is_asked_in_the_clear_beyond_loopback() {
        let service = "http://169.254.169.254/metadata/identity/oauth2/token";
        assert!(metadata_service(service).is_ok());
        assert!(authority(service).is_err());
        for neighbour in [
            "http://169.254.169.253",
            "http://169.254.0.1",
            "http://[fe80::1]",
        ] {
            assert!(metadata_service(neighbour).is_err(), "{neighbour}");
        }
    }
}
