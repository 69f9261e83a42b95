//! The keys `trust`, `auth` and `tls_max_version` of a cluster, and the rules between them.
//!
//! Empty text counts as missing. Keys without effect are errors. The files are not read here.

mod auth;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

use super::keys::path;
use super::values;
use super::yaml::Section;
use crate::settings::{Auth, HostName, Security, Thumbprint, TlsVersion, Trust, quoted};

impl Security {
    pub(super) fn read(s: &mut Section<'_>, endpoints: &[Url], folder: &Path) -> Self {
        let errors = s.error_count();
        let versions = [
            ("", None),
            ("1.2", Some(TlsVersion::V1_2)),
            ("1.3", Some(TlsVersion::V1_3)),
        ];
        let security = Self {
            trust: s.section("trust", |s| Trust::read(s, folder)),
            auth: s.section("auth", |s| Auth::read(s, folder)),
            tls_max_version: s.value("tls_max_version", None, |text| {
                let known = versions.iter().find(|(word, _)| *word == text);
                known
                    .map(|(_, version)| *version)
                    .ok_or_else(|| format!("expected 1.2 or 1.3, found {}", quoted(text)))
            }),
        };
        if s.error_count() == errors {
            security.check(s, endpoints);
        }
        security
    }

    /// Rules between several settings.
    fn check(&self, s: &mut Section<'_>, endpoints: &[Url]) {
        if let Err(exposure) = self.check_endpoints(endpoints) {
            s.error("auth", exposure.to_string());
        }
        let plain = endpoints.iter().any(|endpoint| endpoint.scheme() == "http");
        if !plain {
            return;
        }
        if endpoints.iter().any(|endpoint| endpoint.scheme() != "http") {
            let message = "expected only https or only http URLs, found both";
            s.error("endpoints", message);
            return;
        }
        let without_effect = [
            ("trust", self.trust != Trust::default()),
            ("auth", matches!(self.auth, Auth::ClientCertificate(_))),
            ("tls_max_version", self.tls_max_version.is_some()),
        ];
        for (key, _) in without_effect.iter().filter(|(_, written)| *written) {
            let message = "has no effect with http endpoints; write https endpoints, or remove it";
            s.error(key, message);
        }
    }
}

impl Trust {
    fn read(s: &mut Section<'_>, folder: &Path) -> Self {
        let errors = s.error_count();
        let ca_file = file(s, "ca_file", folder);
        let server_name = optional(s, "server_name", host_name);
        let thumbprints = s.list("thumbprints", thumbprint).unwrap_or_default();
        let accept_expired = boolean(s, "accept_expired");
        let insecure = boolean(s, "insecure");
        if s.error_count() > errors {
            return Self::default();
        }
        let pinned = !thumbprints.is_empty() && ca_file.is_none();
        let errors = s.error_count();
        if insecure && (ca_file.is_some() || server_name.is_some() || !thumbprints.is_empty()) {
            let message = "disables all other keys of this section; remove it or them";
            s.error("insecure", message);
        }
        if accept_expired && !pinned {
            let message = "requires thumbprints without ca_file, because authorities do not accept \
                           expired certificates; remove it";
            s.error("accept_expired", message);
        }
        if server_name.is_some() && pinned {
            let message = "has no effect with thumbprints alone, which accept any name; remove it, or \
                           add ca_file";
            s.error("server_name", message);
        }
        if s.error_count() > errors {
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

fn boolean(s: &mut Section<'_>, key: &'static str) -> bool {
    let words = [("true", true), ("false", false)];
    s.value(key, false, |text| values::word(text, &words))
}

fn file(s: &mut Section<'_>, key: &'static str, folder: &Path) -> Option<PathBuf> {
    s.value(key, None, |text| path(text, folder))
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
            "expected a server name such as prod.westeurope.cloudapp.azure.com, found {}",
            quoted(text)
        )
    })
}

fn thumbprint(text: &str) -> Result<Thumbprint, String> {
    Thumbprint::from_str(text).map_err(|()| {
        format!(
            "expected a thumbprint of 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, found {}",
            quoted(text)
        )
    })
}
