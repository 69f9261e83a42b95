//! The equivalent gateways of one cluster, of which one is in use.
//!
//! Sticky: calls go to the same gateway, and so over warm connections, until it cannot be
//! connected to. Each endpoint here is a valid base for the paths of the API.

use std::sync::atomic::{AtomicUsize, Ordering};

use url::Url;

use crate::gateway::error::BuildError;

/// At least one endpoint, in a ring.
#[derive(Debug)]
pub(super) struct Endpoints {
    first: Url,
    others: Vec<Url>,
    current: AtomicUsize,
}

impl Endpoints {
    pub(super) fn new(urls: Vec<Url>) -> Result<Self, BuildError> {
        urls.iter().try_for_each(check)?;
        let mut urls = urls.into_iter();
        Ok(Self {
            first: urls.next().ok_or(BuildError::NoEndpoint)?,
            others: urls.collect(),
            current: AtomicUsize::new(0),
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Url> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// Position of the endpoint in use.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    pub(super) fn at(&self, position: usize) -> &Url {
        position
            .checked_sub(1)
            .and_then(|other| self.others.get(other))
            .unwrap_or(&self.first)
    }

    pub(super) fn after(&self, position: usize) -> usize {
        (position + 1) % self.len()
    }

    /// Moves on from an endpoint that cannot be connected to, unless another call already did.
    pub(super) fn leave(&self, position: usize) {
        let moved = self.current.compare_exchange(
            position,
            self.after(position),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        // A lost race means that the work is done.
        moved.ok();
    }
}

/// An address with credentials, query or fragment is refused, so any other may stand in a log.
fn check(url: &Url) -> Result<(), BuildError> {
    let usable = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if usable {
        Ok(())
    } else {
        Err(BuildError::Endpoint {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(urls: &[&str]) -> Result<Endpoints, BuildError> {
        Endpoints::new(urls.iter().map(|url| url.parse().unwrap()).collect())
    }

    #[test]
    fn leaving_goes_round_and_only_once_per_position() {
        let ring = endpoints(&["http://a", "http://b", "http://c"]).unwrap();
        ring.leave(0);
        ring.leave(0);
        assert_eq!(ring.at(ring.current()).as_str(), "http://b/");
        ring.leave(1);
        ring.leave(2);
        assert_eq!(ring.at(ring.current()).as_str(), "http://a/");
    }

    #[test]
    fn unusable_endpoints_are_refused_without_showing_secrets() {
        assert!(matches!(endpoints(&[]), Err(BuildError::NoEndpoint)));
        for url in [
            "https://u:geheim@a",
            "ftp://a",
            "data:x",
            "http://u:geheim@a",
            "http://a/?x=geheim",
            "http://a/#geheim",
        ] {
            let error = endpoints(&["http://fine", url]).unwrap_err();
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }
}
