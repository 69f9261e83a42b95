//! The equivalent gateways of one cluster, one of which is in use.
//!
//! Sticky: calls use the same gateway, and so warm connections, until it is unreachable, or another
//! one sends an answer of the cluster and it does not. Every endpoint is a valid base URL of the API.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use url::Url;

use crate::gateway::build_error::BuildError;
use crate::sync::lock;

/// A ring of at least one endpoint.
#[derive(Debug)]
pub(super) struct Endpoints {
    ring: Vec<Endpoint>,
    current: AtomicUsize,
}

#[derive(Debug)]
struct Endpoint {
    url: Url,
    /// The route of the failure that was reported; other routes may work.
    failed_route: Mutex<Option<&'static str>>,
}

impl Endpoints {
    pub(super) fn new(urls: Vec<Url>) -> Result<Self, BuildError> {
        if urls.is_empty() {
            return Err(BuildError::NoEndpoint);
        }
        urls.iter().try_for_each(check)?;
        let endpoint = |url| Endpoint {
            url,
            failed_route: Mutex::default(),
        };
        Ok(Self {
            ring: urls.into_iter().map(endpoint).collect(),
            current: AtomicUsize::new(0),
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Url> {
        self.ring.iter().map(|endpoint| &endpoint.url)
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Position of the endpoint in use.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    pub(super) fn at(&self, position: usize) -> &Url {
        &self.endpoint(position).url
    }

    fn endpoint(&self, position: usize) -> &Endpoint {
        let endpoint = self.ring.get(position % self.len());
        endpoint.expect("the ring is not empty")
    }

    fn after(&self, position: usize) -> usize {
        (position + 1) % self.len()
    }

    /// The next position that is not in `excluded`; the next one if all are.
    pub(super) fn after_except(&self, position: usize, excluded: &[usize]) -> usize {
        let mut others = (1..=self.len()).map(|step| (position + step) % self.len());
        let other = others.find(|other| !excluded.contains(other));
        other.unwrap_or_else(|| self.after(position))
    }

    /// Records that a call moved on from an endpoint. Returns whether the failure is new.
    pub(super) fn record_failure(&self, position: usize, route: &'static str) -> bool {
        let mut failed = lock(&self.endpoint(position).failed_route);
        let is_new = failed.is_none();
        failed.get_or_insert(route);
        is_new
    }

    /// Records an answer of the cluster. Returns whether it ends a failure, which only an answer on
    /// the same route does.
    pub(super) fn record_answer(&self, position: usize, route: &'static str) -> bool {
        let mut failed = lock(&self.endpoint(position).failed_route);
        failed.take_if(|failed| *failed == route).is_some()
    }

    /// Moves on from an endpoint that is unreachable, unless another call already did.
    pub(super) fn leave(&self, position: usize) {
        self.replace(position, self.after(position));
    }

    /// Moves from one endpoint to another, unless another call already moved.
    pub(super) fn replace(&self, position: usize, other: usize) {
        let moved =
            self.current
                .compare_exchange(position, other, Ordering::Relaxed, Ordering::Relaxed);
        // An error means that another call moved first.
        moved.ok();
    }
}

/// Checks an endpoint. Rejects credentials, query and fragment, so that logs may contain the URL.
fn check(url: &Url) -> Result<(), BuildError> {
    let valid = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if valid {
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
    fn leave_moves_around_the_ring_once_per_position() {
        let ring = endpoints(&["http://a", "http://b", "http://c"]).unwrap();
        ring.leave(0);
        ring.leave(0);
        assert_eq!(ring.at(ring.current()).as_str(), "http://b/");
        ring.leave(1);
        ring.leave(2);
        assert_eq!(ring.at(ring.current()).as_str(), "http://a/");
    }

    #[test]
    fn after_except_skips_excluded_endpoints_unless_all_are() {
        let ring = endpoints(&["http://a", "http://b", "http://c"]).unwrap();
        assert_eq!(ring.after_except(0, &[0]), 1);
        assert_eq!(ring.after_except(0, &[0, 1]), 2);
        assert_eq!(ring.after_except(1, &[0, 2]), 1);
        assert_eq!(ring.after_except(2, &[0, 1, 2]), 0);
    }

    #[test]
    fn a_failure_is_new_once_and_ends_with_an_answer_on_the_same_route() {
        let ring = endpoints(&["http://a", "http://b"]).unwrap();
        assert!(!ring.record_answer(1, "A"));
        assert!(ring.record_failure(1, "A"));
        assert!(!ring.record_failure(1, "A"));
        assert!(!ring.record_failure(1, "B"));
        assert!(!ring.record_answer(1, "B"));
        assert!(!ring.record_answer(0, "A"));
        assert!(ring.record_answer(1, "A"));
        assert!(!ring.record_answer(1, "A"));
        assert!(ring.record_failure(1, "B"));
    }

    #[test]
    fn invalid_endpoints_are_rejected_without_exposing_secrets() {
        assert!(matches!(endpoints(&[]), Err(BuildError::NoEndpoint)));
        for url in [
            "https://u:hunter2@a",
            "ftp://a",
            "data:x",
            "http://u:hunter2@a",
            "http://a/?x=hunter2",
            "http://a/#hunter2",
        ] {
            let error = endpoints(&["http://fine", url]).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
