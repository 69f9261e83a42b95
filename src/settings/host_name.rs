//! Names of servers.

use std::str::FromStr;

use url::Host;

/// A DNS name that a certificate can contain. Not an address: the HTTP client would connect to an
/// address in the `Host` of a request instead of the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// The name in the normal form of URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match Host::parse(text) {
            Ok(Host::Domain(name)) => Ok(Self(name)),
            Ok(Host::Ipv4(_) | Host::Ipv6(_)) | Err(_) => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_names_are_host_names() {
        for text in ["cluster.example.com", "cluster"] {
            assert_eq!(text.parse::<HostName>().unwrap().as_str(), text);
        }
        for text in ["", "a b", "a:1", "a/b", "user@a", "10.0.0.4", "[::1]"] {
            assert!(text.parse::<HostName>().is_err(), "{text:?}");
        }
    }
}
