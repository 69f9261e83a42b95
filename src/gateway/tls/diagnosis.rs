//! Classifies TLS failures and names a solution.
//!
//! Walks the chain of causes of an error of the HTTP client. Decides by the error codes of OpenSSL
//! where it has any, and by its texts only for the result of the verification. A failure that is
//! not one of TLS has no diagnosis, such as a connection that was closed.

use std::error::Error;
use std::io;

use super::pins::CertificateError;

/// The cause of a failed handshake.
#[cfg_attr(
    any(target_os = "windows", target_vendor = "apple"),
    expect(dead_code, reason = "the system reports no error codes")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum Diagnosis {
    /// The source of the error is a [`CertificateError`].
    #[error("its certificate was rejected")]
    Rejected,
    #[error(
        "its certificate was issued by an unknown authority; set trust.ca_file to the certificate of the authority, or add the certificate to trust.thumbprints"
    )]
    UnknownAuthority,
    #[error(
        "its certificate chain is incomplete; write the intermediate certificates and the root into trust.ca_file"
    )]
    IncompleteChain,
    #[error(
        "its certificate is for another name; set trust.server_name to a name in the certificate, or add the certificate to trust.thumbprints"
    )]
    OtherName,
    #[error(
        "a certificate in its chain has expired; renew it, or use trust.thumbprints with trust.accept_expired"
    )]
    Expired,
    #[error("its certificate is not valid yet; check the clocks")]
    NotYetValid,
    #[error("its certificate cannot be verified")]
    NotVerified,
    #[error(
        "it requires a client certificate, and none is configured; set auth.client_certificate to a certificate that is registered in the cluster as a read-only client"
    )]
    CertificateRequired,
    #[error(
        "it rejected the client certificate; check that it is registered as a read-only client and valid now, and that cert_file holds the chain up to its root"
    )]
    CertificateRejected,
    #[error("it rejected the handshake; check the client certificate and tls_max_version")]
    HandshakeRejected,
    #[error("no common TLS version; only 1.2 is offered unless tls_max_version is set")]
    Version,
    #[error(
        "the server does not use TLS; check the port, or write http if the cluster is not secured"
    )]
    NotTls,
    #[error(
        "it does not support secure renegotiation (RFC 5746), which every Service Fabric gateway supports; check for a load balancer that terminates TLS"
    )]
    LegacyRenegotiation,
    #[error("TLS failed")]
    Other,
}

/// The cause of the TLS failure in the chain of `error`; `None` if there is none. Some alerts mean
/// different things with and without a client certificate.
pub(in crate::gateway) fn diagnose(
    error: &(dyn Error + 'static),
    has_client_certificate: bool,
) -> Option<Diagnosis> {
    if causes(error).any(<dyn Error>::is::<CertificateError>) {
        return Some(Diagnosis::Rejected);
    }
    causes(error).find_map(|link| library::diagnose(link, has_client_certificate))
}

/// `error` and its causes, including an error that an I/O error wraps, which `source` skips.
pub(in crate::gateway) fn causes<'a>(
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

    // Constants of `openssl/sslerr.h` and `openssl/err.h` that the bindings lack.
    const LIBRARY_SSL: i32 = 20;
    const CERTIFICATE_VERIFY_FAILED: i32 = 134;
    const HTTP_REQUEST: i32 = 156;
    const UNSUPPORTED_PROTOCOL: i32 = 258;
    const WRONG_VERSION_NUMBER: i32 = 267;
    const UNEXPECTED_EOF: i32 = 294;
    const NO_SAFE_RENEGOTIATION: i32 = 338;
    /// The reason code of a received alert is the code of the alert plus this offset.
    const ALERT_OFFSET: i32 = 1000;

    /// The diagnosis for one error of the chain.
    pub(super) fn diagnose(
        link: &(dyn Error + 'static),
        has_client_certificate: bool,
    ) -> Option<Diagnosis> {
        if let Some(error) = link.downcast_ref::<native_tls::Error>() {
            let reason = error.source()?.downcast_ref().and_then(reason)?;
            // native-tls exposes the result of the verification only as text.
            return if reason == CERTIFICATE_VERIFY_FAILED {
                Some(from_verification(&error.to_string()))
            } else {
                from_reason(reason, has_client_certificate)
            };
        }
        let error = link.downcast_ref::<ssl::Error>()?;
        from_reason(error.ssl_error().and_then(reason)?, has_client_certificate)
    }

    fn reason(errors: &ErrorStack) -> Option<i32> {
        let of_ssl = |error: &&openssl::error::Error| error.library_code() == LIBRARY_SSL;
        let error = errors.errors().iter().find(of_ssl)?;
        Some(error.reason_code())
    }

    fn from_reason(reason: i32, has_client_certificate: bool) -> Option<Diagnosis> {
        Some(match reason {
            UNEXPECTED_EOF => return None,
            HTTP_REQUEST | WRONG_VERSION_NUMBER => Diagnosis::NotTls,
            UNSUPPORTED_PROTOCOL => Diagnosis::Version,
            NO_SAFE_RENEGOTIATION => Diagnosis::LegacyRenegotiation,
            reason if reason >= ALERT_OFFSET => {
                from_alert(reason - ALERT_OFFSET, has_client_certificate)
            }
            _ => Diagnosis::Other,
        })
    }

    /// Alert codes of RFC 8446, section 6.
    fn from_alert(alert: i32, has_client_certificate: bool) -> Diagnosis {
        match alert {
            // In TLS 1.2 a missing certificate is a handshake_failure (40), in 1.3
            // certificate_required (116).
            40 | 41 | 116 if !has_client_certificate => Diagnosis::CertificateRequired,
            42..=46 | 48 | 49 | 116 if has_client_certificate => Diagnosis::CertificateRejected,
            40 | 71 => Diagnosis::HandshakeRejected,
            70 => Diagnosis::Version,
            _ => Diagnosis::Other,
        }
    }

    fn from_verification(text: &str) -> Diagnosis {
        let contains = |part| text.contains(part);
        if contains("mismatch") {
            Diagnosis::OtherName
        } else if contains("has expired") {
            Diagnosis::Expired
        } else if contains("not yet valid") {
            Diagnosis::NotYetValid
        } else if contains("unable to get issuer certificate") {
            Diagnosis::IncompleteChain
        } else if contains("local issuer certificate")
            || contains("self-signed")
            || contains("self signed")
            || contains("unable to verify the first certificate")
            // An authority with the same name and another key.
            || contains("certificate signature failure")
        {
            Diagnosis::UnknownAuthority
        } else {
            Diagnosis::NotVerified
        }
    }
}

/// Other TLS libraries report the cause as text only.
#[cfg(any(target_os = "windows", target_vendor = "apple"))]
mod library {
    use std::error::Error;

    use super::Diagnosis;

    pub(super) fn diagnose(link: &(dyn Error + 'static), _: bool) -> Option<Diagnosis> {
        link.is::<native_tls::Error>().then_some(Diagnosis::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_diagnosis_is_documented() {
        let documented = include_str!("../../../docs/security/troubleshooting.md");
        for diagnosis in [
            Diagnosis::Rejected,
            Diagnosis::UnknownAuthority,
            Diagnosis::IncompleteChain,
            Diagnosis::OtherName,
            Diagnosis::Expired,
            Diagnosis::NotYetValid,
            Diagnosis::NotVerified,
            Diagnosis::CertificateRequired,
            Diagnosis::CertificateRejected,
            Diagnosis::HandshakeRejected,
            Diagnosis::Version,
            Diagnosis::NotTls,
            Diagnosis::LegacyRenegotiation,
            Diagnosis::Other,
        ] {
            let message = diagnosis.to_string();
            let cause = message.split([';', '(']).next().unwrap().trim();
            assert!(documented.contains(&format!("| {cause} |")), "{cause}");
        }
    }
}
