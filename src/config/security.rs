//! The keys `trust`, `auth` and `tls_max_version` of a cluster, and the rules between them.
//!
//! An empty text counts as left out. Whatever would have no effect, or would send a secret where
//! it can be overheard, is a fault. Files are named here and read elsewhere: a configuration can
//! be checked without what it points to.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::{Host, Url};

use super::fault::quoted;
use super::keys::path;
use super::reader::Section;
use super::values;
use super::{Auth, Security, TlsVersion, Trust};
use crate::gateway::{
    ClientCertificate, Entra, EntraProtocol, HostName, ManagedIdentity, Thumbprint, TokenSource,
};

impl Security {
    pub(super) fn read(s: &mut Section<'_>, endpoints: &[Url], folder: &Path) -> Self {
        let faults = s.fault_count();
        let versions = [
            ("", None),
            ("1.2", Some(TlsVersion::V1_2)),
            ("1.3", Some(TlsVersion::V1_3)),
        ];
        let security = Self {
            trust: s.section("trust", |s| Trust::read(s, folder)),
            auth: s.section("auth", |s| Auth::read(s, folder)),
            tls_max_version: s.value("tls_max_version", super::TLS_MAX_VERSION, |text| {
                let known = versions.iter().find(|(word, _)| *word == text);
                known
                    .map(|(_, version)| *version)
                    .ok_or_else(|| format!("{} is not known here; write 1.2 or 1.3", quoted(text)))
            }),
        };
        if s.fault_count() == faults {
            security.compare(s, endpoints);
        }
        security
    }

    /// Rules about several settings at once.
    fn compare(&self, s: &mut Section<'_>, endpoints: &[Url]) {
        let token = matches!(self.auth, Auth::Token(_));
        if self.trust == Trust::Insecure && token {
            s.fault(
                "auth",
                "a token would go to whoever answers, because trust.insecure checks nobody; write \
                 trust.thumbprints or trust.ca_file instead of it",
            );
        }
        let plain = endpoints.iter().any(|endpoint| endpoint.scheme() == "http");
        if !plain {
            return;
        }
        if endpoints.iter().any(|endpoint| endpoint.scheme() != "http") {
            let message = "some are http and some https; write https for all of them";
            s.fault("endpoints", message);
            return;
        }
        if token {
            let message = "a token would be sent in the clear; write https endpoints";
            s.fault("auth", message);
        }
        let without_effect = [
            ("trust", self.trust != Trust::default()),
            ("auth", matches!(self.auth, Auth::ClientCertificate(_))),
            ("tls_max_version", self.tls_max_version.is_some()),
        ];
        for (key, _) in without_effect.iter().filter(|(_, written)| *written) {
            let message = "has no effect on http endpoints; write https endpoints, or remove it";
            s.fault(key, message);
        }
    }
}

impl Trust {
    fn read(s: &mut Section<'_>, folder: &Path) -> Self {
        let faults = s.fault_count();
        let ca_file = file(s, "ca_file", folder);
        let server_name = optional(s, "server_name", host_name);
        let thumbprints = s.list("thumbprints", thumbprint).unwrap_or_default();
        let accept_expired = switch(s, "accept_expired");
        let insecure = switch(s, "insecure");
        if s.fault_count() > faults {
            return Self::default();
        }
        let pinned = !thumbprints.is_empty() && ca_file.is_none();
        let faults = s.fault_count();
        if insecure && (ca_file.is_some() || server_name.is_some() || !thumbprints.is_empty()) {
            let message =
                "nothing is checked with it; remove it, or all other keys of this section";
            s.fault("insecure", message);
        }
        if accept_expired && !pinned {
            let message = "is for thumbprints alone: authorities vouch for no certificate past its \
                           date; remove it";
            s.fault("accept_expired", message);
        }
        if server_name.is_some() && pinned {
            let message = "has no effect on thumbprints alone, which accept a certificate whatever \
                           its name; remove it, or write ca_file as well";
            s.fault("server_name", message);
        }
        if s.fault_count() > faults {
            Self::default()
        } else if insecure {
            Self::Insecure
        } else if pinned {
            Self::Thumbprints {
                thumbprints,
                accept_expired,
            }
        } else {
            Self::Authorities {
                ca_file,
                server_name,
                thumbprints,
            }
        }
    }
}

impl Auth {
    fn read(s: &mut Section<'_>, folder: &Path) -> Self {
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
        let client_id = optional(s, "client_id", identifier);
        let client_secret_file = file(s, "client_secret_file", folder);
        let cluster_application_id = optional(s, "cluster_application_id", identifier);
        let authority = optional(s, "authority", authority);
        let protocol = s.value("protocol", super::ENTRA_PROTOCOL, |text| {
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
        Some(Self {
            tenant_id,
            client_id: client_id?,
            client_secret_file: client_secret_file?,
            cluster_application_id,
            authority,
            protocol,
        })
    }
}

impl ManagedIdentity {
    fn read(s: &mut Section<'_>) -> Option<Self> {
        let cluster_application_id = optional(s, "cluster_application_id", identifier);
        let client_id = optional(s, "client_id", identifier);
        let endpoint = optional(s, "endpoint", metadata_service);
        if cluster_application_id.is_none() && (client_id.is_some() || endpoint.is_some()) {
            let message = "is missing; write the id of the application that stands for the cluster";
            s.fault("cluster_application_id", message);
        }
        Some(Self {
            cluster_application_id: cluster_application_id?,
            client_id,
            endpoint,
        })
    }
}

fn switch(s: &mut Section<'_>, key: &'static str) -> bool {
    let words = [("true", true), ("false", false)];
    s.value(key, false, |text| values::word(text, &words))
}

fn file(s: &mut Section<'_>, key: &'static str, folder: &Path) -> Option<PathBuf> {
    s.value(key, None, |text| Ok(path(text, folder)))
}

fn optional<T>(
    s: &mut Section<'_>,
    key: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    s.value(key, None, |text| {
        let text = text.trim();
        (!text.is_empty()).then(|| parse(text)).transpose()
    })
}

fn host_name(text: &str) -> Result<HostName, String> {
    HostName::from_str(text).map_err(|()| {
        format!(
            "{} is not the name of a server; write for example prod.westeurope.cloudapp.azure.com",
            quoted(text)
        )
    })
}

fn thumbprint(text: &str) -> Result<Thumbprint, String> {
    Thumbprint::from_str(text).map_err(|()| {
        format!(
            "{} is not a thumbprint; write the 40 hexadecimal digits of SHA-1 or the 64 of SHA-256",
            quoted(text)
        )
    })
}

fn tenant(text: &str) -> Result<String, String> {
    Entra::is_tenant(text)
        .then(|| text.to_owned())
        .ok_or_else(|| {
            let shown = quoted(text);
            format!(
                "{shown} is not a tenant; write its GUID or its domain, for example contoso.com"
            )
        })
}

/// The id of an application, as GUID or as URI (`api://…`).
fn identifier(text: &str) -> Result<String, String> {
    Entra::is_application(text)
        .then(|| text.to_owned())
        .ok_or_else(|| {
            let shown = quoted(text);
            format!("{shown} is not the id of an application; write its GUID")
        })
}

fn authority(text: &str) -> Result<Url, String> {
    address(text, "https://login.microsoftonline.com")
}

fn metadata_service(text: &str) -> Result<Url, String> {
    address(
        text,
        "http://169.254.169.254/metadata/identity/oauth2/token",
    )
}

/// An address that secrets are sent to: by https, or without leaving this machine.
fn address(text: &str, example: &str) -> Result<Url, String> {
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

/// Whether requests do not leave the machine: loopback, or the link-local metadata service.
fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_link_local(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
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
            "http://169.254.169.254/metadata/identity/oauth2/token",
        ] {
            assert!(authority(text).is_ok(), "{text}");
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
        }
    }

    #[test]
    fn a_tenant_cannot_lead_to_another_path() {
        for text in ["contoso.com", "72f988bf-86f1-41af-91ab-2d7cd011db47"] {
            assert!(tenant(text).is_ok(), "{text}");
        }
        for text in ["..", ".", "a/b", "a%2fb", "a?b", "a b"] {
            assert!(tenant(text).is_err(), "{text}");
        }
    }
}
