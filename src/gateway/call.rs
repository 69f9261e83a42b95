//! A call: one question, as many attempts as the rules allow.
//!
//! Holds a permit while it runs, asks the breaker first and tells it the outcome last. The
//! deadline covers all attempts with one token: waiting for the permit and for a token is not part
//! of it, and after a refusal the next token has a deadline of its own. Calls that have a storage
//! listed keep to the background: they leave permits to the others and never stand for the health
//! of the service.

use std::collections::HashSet;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use url::Url;

use crate::clock;
use crate::gateway::bearer::Bearer;
use crate::gateway::breaker::Lease;
use crate::gateway::deadline::Deadline;
use crate::gateway::decode::DecodeError;
use crate::gateway::error::{Cause, Error, Reason};
use crate::gateway::http::Exchange;
use crate::gateway::query::{self, Pace, Page, Query, Side, Subject};
use crate::gateway::quota::Footprint;
use crate::gateway::retry::{self, Course, Step, Time};
use crate::gateway::wire::{AadMetadata, NamedDirectory};
use crate::gateway::{Gateway, locked};
use crate::logging::chain;
use crate::model::Listed;

/// Most pages of one list: with the gateway's own 4 MB per page, more than any cluster has.
const MAX_PAGES: usize = 1_000;

/// Longest continuation token taken, in bytes; real ones are names with a mark.
const MAX_TOKEN: usize = 8 * 1024;

impl Gateway {
    /// Asks a question with a single answer.
    pub(super) async fn get<Q: Query>(&self, query: &Q) -> Result<Q::Answer, Error> {
        let subject = query.subject();
        self.call::<Q>(&subject, None)
            .await
            .map_err(|cause| Error::new(&Q::ROUTE, &subject, cause))
    }

    /// Asks for all pages of a list.
    pub(super) async fn get_all<Q, T>(&self, query: &Q) -> Result<Listed<T>, Error>
    where
        Q: Query<Answer = Page<T>>,
        T: Footprint,
    {
        let subject = query.subject();
        self.pages::<Q, T>(&subject)
            .await
            .map_err(|cause| Error::new(&Q::ROUTE, &subject, cause))
    }

    async fn pages<Q, T>(&self, subject: &Subject<'_>) -> Result<Listed<T>, Cause>
    where
        Q: Query<Answer = Page<T>>,
        T: Footprint,
    {
        let quota = match Q::PACE {
            Pace::Prompt => &self.cycle_quota,
            Pace::Storage => &self.storage_quota,
        };
        locked(quota).check()?;
        let mut items = Vec::new();
        let mut skipped = 0;
        let mut seen = HashSet::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = self.call::<Q>(subject, token.as_deref()).await?;
            if page
                .next
                .as_ref()
                .is_some_and(|token| token.len() > MAX_TOKEN)
            {
                return Err(DecodeError::Token.into());
            }
            locked(quota).charge(&page.items)?;
            page.log_skipped(&self.cluster, Q::ROUTE.name, subject);
            items.extend(page.items);
            skipped += page.skipped;
            let Some(next) = page.next else {
                return Ok(Listed { items, skipped });
            };
            if !seen.insert(next.clone()) {
                return Err(DecodeError::RepeatedToken.into());
            }
            token = Some(next);
        }
        Err(Cause::TooManyPages { limit: MAX_PAGES })
    }

    async fn call<Q: Query>(
        &self,
        subject: &Subject<'_>,
        token: Option<&str>,
    ) -> Result<Q::Answer, Cause> {
        let _turn = match Q::PACE {
            Pace::Prompt => None,
            Pace::Storage => Some(admitted(&self.storage_permits).await),
        };
        let _permit = admitted(&self.permits).await;
        let lease = self.lease::<Q>().map_err(Cause::BreakerOpen)?;
        // Not part of the deadline, and no outcome to the breaker: nothing was sent yet.
        let bearer = self.bearer().await?;
        locked(&self.budget).earn();
        let outcome = match &bearer {
            // Large, and not to be carried by those who need no token.
            Some(bearer) => Box::pin(self.attempts_with::<Q>(subject, token, bearer)).await,
            None => {
                self.attempts::<Q>(subject, token, None, self.deadline::<Q>())
                    .await
            }
        };
        match outcome.as_ref().err().map(Cause::reason) {
            Some(reason) if Q::PACE.explains(reason) => drop(lease),
            failure => lease.settle(failure, Instant::now().into_std()),
        }
        outcome
    }

    fn lease<Q: Query>(&self) -> Result<Lease<'_>, Reason> {
        // The health store is behind the gateway: while that does not answer, it cannot either.
        let gateway = self.native.open_because();
        if let Some(reason) = gateway.filter(|_| Q::SIDE == Side::HealthStore) {
            return Err(reason);
        }
        let gate = self.gate(Q::SIDE);
        match Q::PACE {
            Pace::Prompt => gate.enter(Instant::now().into_std()),
            Pace::Storage => gate.enter_closed(),
        }
    }

    /// A token of a cluster that wants one.
    async fn bearer(&self) -> Result<Option<Bearer>, Cause> {
        match &self.tokens {
            Some(tokens) => tokens.bearer(self).await.map(Some),
            None => Ok(None),
        }
    }

    /// Tries with `bearer`, and when it is refused once more with a newer one. A wrong token is
    /// answered like a missing certificate: 403 without a code. With one, the service behind the
    /// gateway knows who asks, and refuses that.
    async fn attempts_with<Q: Query>(
        &self,
        subject: &Subject<'_>,
        token: Option<&str>,
        bearer: &Bearer,
    ) -> Result<Q::Answer, Cause> {
        let attempts = self.attempts::<Q>(subject, token, Some(bearer), self.deadline::<Q>());
        let mut outcome = attempts.await;
        let locked_out =
            |cause: &Cause| matches!(cause, Cause::Refusal(refusal) if refusal.is_of_a_stranger());
        if outcome.as_ref().is_err_and(locked_out)
            && let Some(tokens) = &self.tokens
            && let Some(newer) = tokens.after_rejection(bearer, self).await
        {
            let again = self.attempts::<Q>(subject, token, Some(&newer), self.deadline::<Q>());
            outcome = again.await;
        }
        outcome
    }

    /// Asks the cluster which directory issues its tokens; for nobody but the source of tokens.
    pub(super) async fn directory(
        &self,
        deadline: Deadline,
    ) -> Result<Option<NamedDirectory>, Cause> {
        self.attempts::<AadMetadata>(&Subject::Cluster, None, None, deadline)
            .await
    }

    /// The deadline of attempts that begin now.
    fn deadline<Q: Query>(&self) -> Deadline {
        Deadline::after(Q::PACE.deadline(self.timeout))
    }

    async fn attempts<Q: Query>(
        &self,
        subject: &Subject<'_>,
        token: Option<&str>,
        bearer: Option<&Bearer>,
        deadline: Deadline,
    ) -> Result<Q::Answer, Cause> {
        let mut course = Course::starting_at(self.endpoints.current());
        let mut left = Vec::new();
        loop {
            let endpoint = self.endpoints.at(course.position);
            let attempt = self.attempt::<Q>(endpoint, subject, token, deadline, bearer);
            // Large, while cycles hold many calls.
            let (status, cause) = match Box::pin(attempt).await {
                (status, Ok(answer)) => {
                    self.note::<Q>(status, None);
                    self.settle::<Q>(&course, &left);
                    return Ok(answer);
                }
                (status, Err(cause)) => (status, cause),
            };
            if Q::PACE.explains(cause.reason()) {
                return Err(cause);
            }
            // Another endpoint would make the backup service read its store once more.
            if Q::PACE == Pace::Storage && retry::is_after_the_work(&cause) {
                return Err(self.give_up::<Q>(course, &left, status, cause));
            }
            let failed = course.position;
            match self.next_step(&mut course, &cause, deadline) {
                Some(Step::Move) => {
                    left.push((failed, chain(&cause)));
                    course.keep(status, cause);
                }
                Some(Step::Retry { pause }) => {
                    self.note::<Q>(status, Some(&cause));
                    sleep(pause).await;
                }
                None => return Err(self.give_up::<Q>(course, &left, status, cause)),
            }
        }
    }

    fn next_step(&self, course: &mut Course, cause: &Cause, deadline: Deadline) -> Option<Step> {
        if cause.is_of_the_endpoint() {
            self.endpoints.leave(course.position);
        }
        let time = Time {
            left: deadline.remaining(),
            connect: self.transport.connect_timeout(),
        };
        let budget = &mut locked(&self.budget);
        course.step(cause, &self.endpoints, time, fastrand::f64(), budget)
    }

    /// The failure of a call whose last attempt failed because of `cause`.
    fn give_up<Q: Query>(
        &self,
        course: Course,
        left: &[(usize, String)],
        status: Option<u16>,
        cause: Cause,
    ) -> Cause {
        if !cause.may_work_elsewhere() && !cause.is_of_the_endpoint() {
            self.settle::<Q>(&course, left);
        }
        let (status, cause) = course.failure(status, cause);
        self.note::<Q>(status, Some(&cause));
        cause
    }

    /// Stays with the endpoint that has answered for the cluster, and logs the faults of those that the
    /// call `left`. If no endpoint answers, that is a failure of the call and not of one of them.
    fn settle<Q: Query>(&self, course: &Course, left: &[(usize, String)]) {
        for bad in &course.bad {
            self.endpoints.replace(*bad, course.position);
        }
        let cluster = &self.cluster;
        for (position, error) in left {
            if self.endpoints.note_fault(*position, Q::ROUTE.name) {
                let endpoint = self.endpoints.at(*position);
                warn!(
                    %cluster,
                    %endpoint,
                    error,
                    "Cluster {cluster}: endpoint {endpoint} does not work, the next one is used: {error}."
                );
            }
        }
        if self.endpoints.note_answer(course.position, Q::ROUTE.name) {
            let endpoint = self.endpoints.at(course.position);
            info!(%cluster, %endpoint, "Cluster {cluster}: endpoint {endpoint} works again.");
        }
    }

    /// One attempt: the status if there was an answer, and what it means.
    async fn attempt<Q: Query>(
        &self,
        endpoint: &Url,
        subject: &Subject<'_>,
        token: Option<&str>,
        deadline: Deadline,
        bearer: Option<&Bearer>,
    ) -> (Option<u16>, Result<Q::Answer, Cause>) {
        let started = Instant::now();
        let remaining = deadline.end.duration_since(started);
        let url = query::url(endpoint, &Q::ROUTE, subject, token, remaining);
        let exchange = self
            .transport
            .get(
                endpoint,
                url,
                Q::PACE,
                Q::ROUTE.body_limit,
                deadline,
                bearer,
            )
            .await;
        self.telemetry.record_request(
            &self.cluster,
            Q::ROUTE.name,
            exchange.status,
            started.elapsed(),
        );
        let status = exchange.status;
        let answer = self.interpret::<Q>(subject, exchange);
        (status, answer.map_err(|cause| cause.answered_by(endpoint)))
    }

    fn interpret<Q: Query>(
        &self,
        subject: &Subject<'_>,
        exchange: Exchange,
    ) -> Result<Q::Answer, Cause> {
        let Exchange { status, date, body } = exchange;
        let answer =
            body.and_then(|body| query::read::<Q>(subject, status.unwrap_or_default(), &body));
        // What is not understood may come from something in between, with a clock of its own.
        if let Some(date) = date.filter(|_| answer.is_ok()) {
            *locked(&self.skew) = Some(date - clock::now());
        }
        answer.map_err(|cause| self.advised(cause))
    }

    /// Takes in what an attempt reveals about the two sides of the gateway.
    fn note<Q: Query>(&self, status: Option<u16>, failure: Option<&Cause>) {
        if !Q::ANONYMOUS {
            locked(&self.evidence).note(Q::ROUTE.kind, status, failure);
        }
    }

    /// `cause`, and what to do when the gateway does not know who asks.
    fn advised(&self, cause: Cause) -> Cause {
        match cause {
            Cause::Refusal(refusal) if refusal.is_of_a_stranger() => {
                let advice = self.transport.advice_of_the_locked_out(refusal.status);
                Cause::Refusal(refusal.advised(advice))
            }
            cause => cause,
        }
    }
}

async fn admitted(permits: &Semaphore) -> SemaphorePermit<'_> {
    let permit = permits.acquire().await;
    permit.expect("nobody closes the semaphore")
}
