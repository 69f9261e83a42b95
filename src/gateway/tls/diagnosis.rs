//! What is wrong between two sides that cannot agree on TLS, and what to do about it.
//!
//! Looks through everything an error of the HTTP client was made of. Numbers of the TLS library
//! decide where it has any; its words only for what it tells in no other way. What does not come
//! from TLS is left to others: a connection that breaks off is no matter of trust.

use std::error::Error;
use std::io;

use super::certificate::Description;
use super::pins::Refused;

/// What the wire tells of a failure.
#[cfg_attr(
    any(target_os = "windows", target_vendor = "apple"),
    expect(dead_code, reason = "the system says it in words of its own")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum Diagnosis {
    /// Our own check has said why.
    #[error("its certificate is not admitted")]
    NotAdmitted,
    #[error(
        "its certificate comes from an authority that is not known here; name the authority's file in trust.ca_file, or the certificate in trust.thumbprints"
    )]
    UnknownAuthority,
    #[error(
        "the way from its certificate to a root is not complete; write the certificates in between and the root into trust.ca_file"
    )]
    IncompleteChain,
    #[error(
        "its certificate is for another name; write one of its names in trust.server_name, or pin it in trust.thumbprints"
    )]
    OtherName,
    #[error(
        "its certificate, or one that vouches for it, has expired; renew it, or pin it in trust.thumbprints with trust.accept_expired"
    )]
    Expired,
    #[error("its certificate is not valid yet; are the clocks right?")]
    NotYetValid,
    #[error("its certificate cannot be verified")]
    NotVerified,
    #[error(
        "it wants a client certificate, and none is configured; write auth.client_certificate, with a certificate that the cluster knows as a read-only client"
    )]
    WantsCertificate,
    #[error(
        "it does not take the client certificate; is it registered as a read-only client, in its time, and with the certificates up to its root in cert_file?"
    )]
    RefusesCertificate,
    #[error(
        "it refuses the handshake; does it take the client certificate, and does it speak the version of TLS in tls_max_version?"
    )]
    RefusesHandshake,
    #[error(
        "both sides have no version of TLS in common; only 1.2 is offered unless tls_max_version says otherwise"
    )]
    Version,
    #[error(
        "what answers there does not speak TLS; is the port right, or is the cluster not secured (http)?"
    )]
    NotTls,
    #[error(
        "it cannot renegotiate safely (RFC 5746), which no gateway of Service Fabric lacks; does a load balancer end TLS in front of it?"
    )]
    LegacyRenegotiation,
    #[error("TLS failed")]
    Other,
}

impl Diagnosis {
    /// Whether it helps to know which certificate it is about.
    pub(in crate::gateway) fn is_about_the_certificate(self) -> bool {
        matches!(
            self,
            Self::UnknownAuthority
                | Self::IncompleteChain
                | Self::OtherName
                | Self::Expired
                | Self::NotYetValid
                | Self::NotVerified
        )
    }
}

/// What `error` says about TLS; `None` when it is about something else. `identified` tells whether
/// a client certificate is configured.
pub(in crate::gateway) fn diagnose(
    error: &(dyn Error + 'static),
    identified: bool,
) -> Option<Diagnosis> {
    if links(error).any(<dyn Error>::is::<Refused>) {
        return Some(Diagnosis::NotAdmitted);
    }
    links(error).find_map(|link| library::judge(link, identified))
}

/// The certificate that a client of [`describe`](super::describe) has seen.
pub(in crate::gateway) fn described(error: &(dyn Error + 'static)) -> Option<Description> {
    links(error).find_map(|link| match link.downcast_ref()? {
        Refused::Described(description) => Some(description.clone()),
        _ => None,
    })
}

/// `error`, what it was caused by, and what is wrapped inside, which `source` of an I/O error
/// skips.
pub(in crate::gateway) fn links<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |link: &&'a (dyn Error + 'static)| {
        let link: &'a (dyn Error + 'static) = *link;
        let wrapped = link
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => link.source(),
        }
    })
}

#[cfg(not(any(target_os = "windows", target_vendor = "apple")))]
mod library {
    use std::error::Error;

    use openssl::error::ErrorStack;
    use openssl::ssl;

    use super::Diagnosis;

    // Numbers of `openssl/sslerr.h` and `openssl/err.h`, which the bindings do not name.
    const LIBRARY_SSL: i32 = 20;
    const CERTIFICATE_VERIFY_FAILED: i32 = 134;
    const HTTP_REQUEST: i32 = 156;
    const UNSUPPORTED_PROTOCOL: i32 = 258;
    const WRONG_VERSION_NUMBER: i32 = 267;
    const UNEXPECTED_EOF: i32 = 294;
    const NO_SAFE_RENEGOTIATION: i32 = 338;
    /// An alert that was received has the number of the alert above this one.
    const ALERT: i32 = 1000;

    /// What this link of the chain says by itself.
    pub(super) fn judge(link: &(dyn Error + 'static), identified: bool) -> Option<Diagnosis> {
        if let Some(error) = link.downcast_ref::<native_tls::Error>() {
            let reason = error.source()?.downcast_ref().and_then(reason)?;
            // How verification ended stands in its words only.
            return Some(match reason {
                CERTIFICATE_VERIFY_FAILED => of_verification(&error.to_string()),
                reason => return of_reason(reason, identified),
            });
        }
        let error = link.downcast_ref::<ssl::Error>()?;
        of_reason(error.ssl_error().and_then(reason)?, identified)
    }

    fn reason(errors: &ErrorStack) -> Option<i32> {
        let of_ssl = |error: &&openssl::error::Error| error.library_code() == LIBRARY_SSL;
        let error = errors.errors().iter().find(of_ssl)?;
        Some(error.reason_code())
    }

    fn of_reason(reason: i32, identified: bool) -> Option<Diagnosis> {
        Some(match reason {
            UNEXPECTED_EOF => return None,
            HTTP_REQUEST | WRONG_VERSION_NUMBER => Diagnosis::NotTls,
            UNSUPPORTED_PROTOCOL => Diagnosis::Version,
            NO_SAFE_RENEGOTIATION => Diagnosis::LegacyRenegotiation,
            reason if reason >= ALERT => of_alert(reason - ALERT, identified),
            _ => Diagnosis::Other,
        })
    }

    /// Numbers of RFC 8446, section 6.
    fn of_alert(alert: i32, identified: bool) -> Diagnosis {
        match alert {
            // Says "handshake failure" in TLS 1.2 what has a word of its own in 1.3.
            40 | 41 | 116 if !identified => Diagnosis::WantsCertificate,
            42..=46 | 48 | 49 | 116 if identified => Diagnosis::RefusesCertificate,
            40 | 71 => Diagnosis::RefusesHandshake,
            70 => Diagnosis::Version,
            _ => Diagnosis::Other,
        }
    }

    fn of_verification(words: &str) -> Diagnosis {
        let says = |part| words.contains(part);
        if says("mismatch") {
            Diagnosis::OtherName
        } else if says("has expired") {
            Diagnosis::Expired
        } else if says("not yet valid") {
            Diagnosis::NotYetValid
        } else if says("unable to get issuer certificate") {
            Diagnosis::IncompleteChain
        } else if says("local issuer certificate")
            || says("self-signed")
            || says("self signed")
            || says("unable to verify the first certificate")
            // An authority of the same name with another key.
            || says("certificate signature failure")
        {
            Diagnosis::UnknownAuthority
        } else {
            Diagnosis::NotVerified
        }
    }
}

/// Elsewhere the system says in its own words what is wrong.
#[cfg(any(target_os = "windows", target_vendor = "apple"))]
mod library {
    use std::error::Error;

    use super::Diagnosis;

    pub(super) fn judge(link: &(dyn Error + 'static), _: bool) -> Option<Diagnosis> {
        link.is::<native_tls::Error>().then_some(Diagnosis::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_explains_every_diagnosis() {
        let documented = include_str!("../../../docs/security/troubleshooting.md");
        for diagnosis in [
            Diagnosis::NotAdmitted,
            Diagnosis::UnknownAuthority,
            Diagnosis::IncompleteChain,
            Diagnosis::OtherName,
            Diagnosis::Expired,
            Diagnosis::NotYetValid,
            Diagnosis::NotVerified,
            Diagnosis::WantsCertificate,
            Diagnosis::RefusesCertificate,
            Diagnosis::RefusesHandshake,
            Diagnosis::Version,
            Diagnosis::NotTls,
            Diagnosis::LegacyRenegotiation,
            Diagnosis::Other,
        ] {
            let told = diagnosis.to_string();
            let fault = told.split([';', '(']).next().unwrap().trim();
            assert!(documented.contains(&format!("| {fault} |")), "{fault}");
        }
    }
}
