//! The keys `trust`, `auth` and `tls_max_version` of a cluster, and the rules between them.
//!
//! An empty text counts as left out. Whatever would have no effect, or would send a secret where
//! it can be overheard, is a fault. Files are named here and read elsewhere: a configuration can
//! be checked without what it points to.

mod auth;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

use super::keys::path;
use super::reader::Section;
use super::values;
use crate::settings::{Auth, HostName, Security, Thumbprint, TlsVersion, Trust, quoted};

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
            tls_max_version: s.value("tls_max_version", None, |text| {
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
        if let Err(exposure) = self.check_endpoints(endpoints) {
            s.fault("auth", exposure.to_string());
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

fn switch(s: &mut Section<'_>, key: &'static str) -> bool {
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
