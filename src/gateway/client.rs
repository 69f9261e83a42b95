//! One question over all endpoints of a cluster: attempts, retries and failover.
//!
//! Sends requests and translates answers. Permits, circuit breakers and tokens belong to the layer
//! above, so that the token source can use the client. Records which systems answered, the clock of
//! the cluster, and the request metrics.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use url::Url;

use crate::clock;
use crate::gateway::bearer::Bearer;
use crate::gateway::deadline::Deadline;
use crate::gateway::endpoints::Endpoints;
use crate::gateway::failure::Failure;
use crate::gateway::http::{Exchange, Request, Transport};
use crate::gateway::reachability::Reachability;
use crate::gateway::retry::{Attempts, RetryBudget, Step};
use crate::gateway::wire::{CallClass, Query, ReplyError, Subject};
use crate::logging::chain;
use crate::sync::lock;
use crate::telemetry::Telemetry;

/// The endpoints of one cluster.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) cluster: Arc<str>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) transport: Transport,
    pub(super) endpoints: Endpoints,
    pub(super) timeout: Duration,
    retry_budget: Mutex<RetryBudget>,
    reachability: Mutex<Reachability>,
    skew: Mutex<Option<TimeDelta>>,
}

/// Everything about a request that is the same for all attempts.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) subject: &'a Subject<'a>,
    /// The continuation token of a list.
    pub(super) page: Option<&'a str>,
    pub(super) bearer: Option<&'a Bearer>,
    pub(super) deadline: Deadline,
}

impl Client {
    pub(super) fn new(
        cluster: Arc<str>,
        telemetry: Arc<Telemetry>,
        transport: Transport,
        endpoints: Endpoints,
        timeout: Duration,
    ) -> Self {
        Self {
            cluster,
            telemetry,
            transport,
            endpoints,
            timeout,
            retry_budget: Mutex::default(),
            reachability: Mutex::default(),
            skew: Mutex::default(),
        }
    }

    /// The deadline of attempts that begin now.
    pub(super) fn deadline<T>(&self, query: &Query<T>) -> Deadline {
        Deadline::after(query.route.class.timeout(self.timeout))
    }

    /// What the answers since [`Self::begin_cycle`] show.
    pub(super) fn reachability(&self) -> Reachability {
        *lock(&self.reachability)
    }

    pub(super) fn begin_cycle(&self) {
        *lock(&self.reachability) = Reachability::default();
    }

    /// How far the cluster's clock is ahead of the local one, according to the last answer with a
    /// `Date` header.
    pub(super) fn clock_skew(&self) -> Option<TimeDelta> {
        *lock(&self.skew)
    }

    /// Asks one endpoint after the other until one answers or the rules of [`Attempts`] forbid
    /// another attempt.
    pub(super) async fn ask<T>(&self, query: &Query<T>, call: Call<'_>) -> Result<T, Failure> {
        let class = query.route.class;
        lock(&self.retry_budget).deposit();
        let mut attempts = Attempts::starting_at(self.endpoints.current());
        loop {
            // Boxed because it is large, while a cycle holds many calls.
            let (status, failure) = match Box::pin(self.attempt(query, call, &attempts)).await {
                (status, Ok(answer)) => {
                    self.record(query, status, None);
                    self.settle(query, &attempts);
                    return Ok(answer);
                }
                (status, Err(failure)) => (status, failure),
            };
            if class.explains(failure.reason()) {
                return Err(failure);
            }
            // Another endpoint would make the backup service list its storage once more.
            let repeatable = class == CallClass::Normal || !failure.is_after_work();
            let left = call.deadline.remaining();
            let step = repeatable.then(|| self.next_step(&attempts, &failure, left));
            match step.flatten() {
                Some(Step::Move) => attempts.move_on(status, failure, &self.endpoints),
                Some(Step::Retry { pause }) => {
                    self.record(query, status, Some(&failure));
                    attempts.retry(&self.endpoints);
                    sleep(pause).await;
                }
                None => return Err(self.give_up(query, attempts, status, failure)),
            }
        }
    }

    fn next_step(&self, attempts: &Attempts, failure: &Failure, left: Duration) -> Option<Step> {
        if failure.is_of_endpoint() {
            self.endpoints.leave(attempts.position);
        }
        let connect = self.transport.connect_timeout();
        let endpoints = self.endpoints.len();
        match attempts.next(failure, endpoints, left, connect, fastrand::f64())? {
            Step::Retry { .. } if !lock(&self.retry_budget).withdraw() => None,
            step => Some(step),
        }
    }

    /// The failure of a call whose last attempt ended with `failure`.
    fn give_up<T>(
        &self,
        query: &Query<T>,
        attempts: Attempts,
        status: Option<u16>,
        failure: Failure,
    ) -> Failure {
        if !failure.allows_another_endpoint() && !failure.is_of_endpoint() {
            self.settle(query, &attempts);
        }
        let (status, failure) = attempts.into_failure(status, failure);
        self.record(query, status, Some(&failure));
        failure
    }

    /// Stays with the endpoint that sent an answer of the cluster, and logs the failures of those
    /// that the call moved on from. Without such an answer, the call has failed and not an endpoint.
    fn settle<T>(&self, query: &Query<T>, attempts: &Attempts) {
        let cluster = &self.cluster;
        for left in &attempts.left {
            if left.failure.is_from_node() {
                self.endpoints.replace(left.position, attempts.position);
            }
            if self
                .endpoints
                .record_failure(left.position, query.route.name)
            {
                let endpoint = self.endpoints.at(left.position);
                let error = chain(&left.failure);
                warn!(
                    %cluster,
                    %endpoint,
                    error,
                    "Cluster {cluster}: endpoint {endpoint} failed, switched to the next one: {error}."
                );
            }
        }
        if self
            .endpoints
            .record_answer(attempts.position, query.route.name)
        {
            let endpoint = self.endpoints.at(attempts.position);
            info!(%cluster, %endpoint, "Cluster {cluster}: endpoint {endpoint} recovered.");
        }
    }

    /// One attempt: the status if there was a response, and the answer.
    async fn attempt<T>(
        &self,
        query: &Query<T>,
        call: Call<'_>,
        attempts: &Attempts,
    ) -> (Option<u16>, Result<T, Failure>) {
        let endpoint = self.endpoints.at(attempts.position);
        let route = &query.route;
        let started = Instant::now();
        let remaining = call.deadline.end.duration_since(started);
        let url = route.url(endpoint, call.subject, call.page, remaining);
        let exchange = self
            .transport
            .get(Request {
                endpoint,
                url: &url,
                class: route.class,
                limit: route.body_limit,
                deadline: call.deadline,
                bearer: call.bearer,
            })
            .await;
        let status = exchange.status;
        let (cluster, telemetry) = (&self.cluster, &self.telemetry);
        telemetry.record_request(cluster, route.name, status, started.elapsed());
        (status, self.interpret(query, call, endpoint, exchange))
    }

    fn interpret<T>(
        &self,
        query: &Query<T>,
        call: Call<'_>,
        endpoint: &Url,
        exchange: Exchange,
    ) -> Result<T, Failure> {
        let Exchange { status, date, body } = exchange;
        let answer = query.read(call.subject, status.unwrap_or_default(), &body?);
        let answer = answer.map_err(|error| Failure::of_reply(error, endpoint));
        // A response that cannot be decoded may come from a proxy with a clock of its own.
        if let Some(date) = date.filter(|_| answer.is_ok()) {
            *lock(&self.skew) = Some(date - clock::now());
        }
        answer.map_err(|failure| self.with_auth_hint(failure))
    }

    fn record<T>(&self, query: &Query<T>, status: Option<u16>, failure: Option<&Failure>) {
        if !query.route.anonymous {
            lock(&self.reachability).record(query.route.kind, status, failure);
        }
    }

    /// `failure` with a hint about our credentials if the gateway rejected them.
    fn with_auth_hint(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Reply(ReplyError::Rejected(reply)) if reply.is_unauthenticated() => {
                let hint = self.transport.auth_hint(reply.status);
                Failure::Reply(ReplyError::Rejected(reply.with_hint(hint)))
            }
            failure => failure,
        }
    }
}
