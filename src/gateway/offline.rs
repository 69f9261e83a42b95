//! Queries without a network, for a bench that simulates a cluster in its own process.

use std::time::Duration;

use url::Url;

use crate::gateway::error::Error;
use crate::gateway::failure::Failure;
use crate::gateway::wire::{Query, Subject};

impl<T> Query<T> {
    /// The URL of a request at `endpoint`. `page` is the continuation token of a list, `remaining`
    /// the time left for the request.
    pub fn url(
        &self,
        endpoint: &Url,
        subject: &Subject<'_>,
        page: Option<&str>,
        remaining: Duration,
    ) -> Url {
        self.route.url(endpoint, subject, page, remaining)
    }

    /// The answer in a response of `endpoint`, as [`Gateway`](super::Gateway) decodes it.
    pub fn decode(
        &self,
        endpoint: &Url,
        subject: &Subject<'_>,
        status: u16,
        body: &[u8],
    ) -> Result<T, Error> {
        let answer = self.read(subject, status, body);
        answer.map_err(|error| {
            let failure = Failure::of_reply(error, endpoint);
            Error::new(&self.route, subject, failure.into())
        })
    }
}
