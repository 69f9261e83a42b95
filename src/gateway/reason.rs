//! The reasons of failed calls, as label values.

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No connection, or it was closed before the response was complete.
    Connect,
    /// The TLS handshake failed, or one side rejected the other's certificate.
    Tls,
    /// No complete response in time, or the cluster reports a timeout of its own.
    Timeout,
    /// The exporter is unauthenticated or not authorized.
    Forbidden,
    /// The cluster has no backup service.
    ServiceAbsent,
    /// The service behind the route is temporarily unavailable.
    ServiceUnavailable,
    /// The cluster asks for fewer requests.
    Throttled,
    /// Any other error that the cluster reports.
    Api,
    /// The response does not have the expected form.
    Decode,
    /// The response exceeds a size limit.
    TooLarge,
    /// There is no token, so no request was sent.
    Token,
}

impl Reason {
    /// Every reason, in the order of the metric contract.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Forbidden,
        Self::ServiceAbsent,
        Self::ServiceUnavailable,
        Self::Throttled,
        Self::Api,
        Self::Decode,
        Self::TooLarge,
        Self::Token,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Forbidden => "forbidden",
            Self::ServiceAbsent => "service_absent",
            Self::ServiceUnavailable => "service_unavailable",
            Self::Throttled => "throttled",
            Self::Api => "api",
            Self::Decode => "decode",
            Self::TooLarge => "too_large",
            Self::Token => "token",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_distinct_label_values() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
