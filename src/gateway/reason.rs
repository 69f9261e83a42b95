//! The kinds of failure of a call, as label values.
//!
//! Imports nothing: every part of the gateway that classifies a failure may use it.

/// Why a call failed, as a label value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No connection, or it broke off before the answer was complete.
    Connect,
    /// The two sides did not agree on TLS, or one did not believe the other; before any answer.
    Tls,
    /// No complete answer in time, or the cluster says that it ran out of time itself.
    Timeout,
    /// We are not let in.
    Forbidden,
    /// The cluster has no backup service.
    ServiceAbsent,
    /// What should answer cannot at the moment.
    ServiceUnavailable,
    /// We are asked to slow down.
    Throttled,
    /// Any other error that the cluster answered.
    Api,
    /// The answer is not what the route promises.
    Decode,
    /// The answer is larger than we are willing to read.
    TooLarge,
    /// No token could be had, so the cluster was not asked.
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
