//! The equivalent gateways of one cluster, of which one is in use.
//!
//! Sticky: calls go to the same gateway, and so over warm connections, until it cannot be
//! connected to, or another one answers for the cluster and it does not. Each endpoint here is a
//! valid base for the paths of the API.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use url::Url;

use crate::gateway::build_error::BuildError;
use crate::sync::lock;

/// At least one endpoint, in a ring.
#[derive(Debug)]
pub(super) struct Endpoints {
    first: Url,
    others: Vec<Url>,
    current: AtomicUsize,
    /// For each position, the name of the route on which the endpoint failed first.
    faults: Vec<Mutex<Option<&'static str>>>,
}

impl Endpoints {
    pub(super) fn new(urls: Vec<Url>) -> Result<Self, BuildError> {
        urls.iter().try_for_each(check)?;
        let faults = urls.iter().map(|_| Mutex::default()).collect();
        let mut urls = urls.into_iter();
        Ok(Self {
            faults,
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

    /// The position after `position` that is not in `except`; if all are, simply the next one.
    pub(super) fn after_except(&self, position: usize, except: &[usize]) -> usize {
        let mut others = (1..=self.len()).map(|step| (position + step) % self.len());
        let other = others.find(|other| !except.contains(other));
        other.unwrap_or_else(|| self.after(position))
    }

    /// Notes that a call about `route` moved on from an endpoint. Returns whether that is new.
    pub(super) fn record_failure(&self, position: usize, route: &'static str) -> bool {
        let fault = self.faults.get(position).map(lock);
        fault.is_some_and(|mut fault| {
            let new = fault.is_none();
            fault.get_or_insert(route);
            new
        })
    }

    /// Notes an answer of the cluster about `route`. Returns whether it ends a fault: other routes
    /// may have worked all the time.
    pub(super) fn record_answer(&self, position: usize, route: &'static str) -> bool {
        let fault = self.faults.get(position).map(lock);
        fault.is_some_and(|mut fault| fault.take_if(|failed| *failed == route).is_some())
    }

    /// Moves on from an endpoint that cannot be connected to, unless another call already did.
    pub(super) fn leave(&self, position: usize) {
        self.replace(position, self.after(position));
    }

    /// Moves on to another endpoint, unless another call already moved on from this one.
    pub(super) fn replace(&self, position: usize, other: usize) {
        let moved =
            self.current
                .compare_exchange(position, other, Ordering::Relaxed, Ordering::Relaxed);
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
    fn the_next_endpoint_is_one_that_has_not_failed_while_there_is_one() {
        let ring = endpoints(&["http://a", "http://b", "http://c"]).unwrap();
        assert_eq!(ring.after_except(0, &[0]), 1);
        assert_eq!(ring.after_except(0, &[0, 1]), 2);
        assert_eq!(ring.after_except(1, &[0, 2]), 1);
        assert_eq!(ring.after_except(2, &[0, 1, 2]), 0);
    }

    #[test]
    fn a_fault_begins_once_and_ends_with_an_answer_about_the_same_route() {
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
