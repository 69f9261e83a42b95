//! A call: one question with everything that limits it.
//!
//! Waits for a permit, checks the circuit breaker, obtains a token, and reports the outcome to the
//! breaker. The timeout covers all attempts with one token; waiting for a permit or a token does not
//! count, and after a rejected token the attempts with the next one have a new deadline. Storage
//! scans run in the background: they leave permits to other calls, and their timeouts do not count
//! as an outage.

use std::collections::HashSet;
use std::sync::Mutex;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::gateway::bearer::Bearer;
use crate::gateway::breaker::{BreakerPermit, CircuitBreaker};
use crate::gateway::client::{Call, Client};
use crate::gateway::decode::DecodeError;
use crate::gateway::error::{Cause, Error};
use crate::gateway::failure::Failure;
use crate::gateway::quota::{Footprint, Quota};
use crate::gateway::reason::Reason;
use crate::gateway::token::Tokens;
use crate::gateway::wire::{CallClass, Page, Query, Side, Subject};
use crate::model::DecodedList;
use crate::sync::lock;

/// Most pages of one list: with the gateway's 4 MB per page, more than any cluster has.
const MAX_PAGES: usize = 1_000;

/// Longest continuation token accepted, in bytes; real ones are names with a suffix.
const MAX_CONTINUATION_TOKEN: usize = 8 * 1024;

/// Makes calls to one cluster.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) tokens: Option<Tokens>,
    permits: Semaphore,
    scan_permits: Semaphore,
    gateway: CircuitBreaker,
    health_store: CircuitBreaker,
    backup_service: CircuitBreaker,
    pub(super) cycle_quota: Mutex<Quota>,
    pub(super) scan_quota: Mutex<Quota>,
}

impl Caller {
    /// At most half of the `concurrency` (rounded up) is available to storage scans.
    pub(super) fn new(client: Client, tokens: Option<Tokens>, concurrency: usize) -> Self {
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            client,
            tokens,
            permits: Semaphore::new(concurrency),
            scan_permits: Semaphore::new(concurrency.div_ceil(2)),
            gateway: CircuitBreaker::new(concurrency),
            health_store: CircuitBreaker::new(concurrency),
            backup_service: CircuitBreaker::new(concurrency),
            cycle_quota: Mutex::default(),
            scan_quota: Mutex::default(),
        }
    }

    /// Asks a question with a single answer.
    pub(super) async fn get<T>(&self, query: &Query<T>, subject: Subject<'_>) -> Result<T, Error> {
        let outcome = self.call(query, &subject, None).await;
        outcome.map_err(|cause| Error::new(&query.route, &subject, cause))
    }

    /// Asks for all pages of a list.
    pub(super) async fn get_all<T: Footprint>(
        &self,
        query: &Query<Page<T>>,
        subject: Subject<'_>,
    ) -> Result<DecodedList<T>, Error> {
        let outcome = self.pages(query, &subject).await;
        outcome.map_err(|cause| Error::new(&query.route, &subject, cause))
    }

    pub(super) fn begin_cycle(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.begin_cycle();
        }
        self.client.begin_cycle();
        lock(&self.cycle_quota).renew();
    }

    pub(super) fn begin_list_round(&self) {
        lock(&self.scan_quota).renew();
    }

    /// Whether the backup service answers, according to the calls since [`Self::begin_cycle`].
    pub(super) fn backup_service(&self) -> Option<bool> {
        let reachability = self.client.reachability();
        match self.backup_service.open_reason() {
            Some(Reason::ServiceAbsent | Reason::ServiceUnavailable | Reason::Timeout) => {
                reachability.gateway_answered().then_some(false)
            }
            _ => reachability.backup_service(),
        }
    }

    /// Closes all circuit breakers: failures of old connections say nothing about new ones.
    pub(super) fn reset_breakers(&self) {
        for breaker in [&self.gateway, &self.health_store, &self.backup_service] {
            breaker.reset();
        }
    }

    async fn pages<T: Footprint>(
        &self,
        query: &Query<Page<T>>,
        subject: &Subject<'_>,
    ) -> Result<DecodedList<T>, Cause> {
        let quota = match query.route.class {
            CallClass::Normal => &self.cycle_quota,
            CallClass::StorageScan => &self.scan_quota,
        };
        lock(quota).check()?;
        let mut items = Vec::new();
        let mut skipped = 0;
        let mut seen = HashSet::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = self.call(query, subject, token.as_deref()).await?;
            let next = page.next.as_ref();
            if next.is_some_and(|token| token.len() > MAX_CONTINUATION_TOKEN) {
                return Err(Cause::Page(DecodeError::Token));
            }
            lock(quota).charge(&page.items)?;
            page.log_skipped(&self.client.cluster, query.route.name, subject);
            items.extend(page.items);
            skipped += page.skipped;
            let Some(next) = page.next else {
                return Ok(DecodedList { items, skipped });
            };
            if !seen.insert(next.clone()) {
                return Err(Cause::Page(DecodeError::RepeatedToken));
            }
            token = Some(next);
        }
        Err(Cause::TooManyPages { limit: MAX_PAGES })
    }

    async fn call<T>(
        &self,
        query: &Query<T>,
        subject: &Subject<'_>,
        page: Option<&str>,
    ) -> Result<T, Cause> {
        let class = query.route.class;
        let _scan_permit = match class {
            CallClass::Normal => None,
            CallClass::StorageScan => Some(acquire(&self.scan_permits).await),
        };
        let _permit = acquire(&self.permits).await;
        let permit = self.enter(query).map_err(Cause::BreakerOpen)?;
        // Without an outcome for the breaker: nothing was sent yet.
        let bearer = match &self.tokens {
            Some(tokens) => Some(tokens.bearer(&self.client).await?),
            None => None,
        };
        let call = Call {
            subject,
            page,
            bearer: bearer.as_ref(),
            deadline: self.client.deadline(query),
        };
        let outcome = match &bearer {
            // Boxed because it is large, and many clusters need no token.
            Some(bearer) => Box::pin(self.ask_with_token(query, call, bearer)).await,
            None => self.client.ask(query, call).await,
        };
        match outcome.as_ref().err().map(Failure::reason) {
            Some(reason) if class.explains(reason) => drop(permit),
            failure => permit.settle(failure, Instant::now().into_std()),
        }
        Ok(outcome?)
    }

    fn enter<T>(&self, query: &Query<T>) -> Result<BreakerPermit<'_>, Reason> {
        let breaker = match query.route.side {
            Side::Gateway => &self.gateway,
            Side::BackupService => &self.backup_service,
            // Behind the gateway: while that is unavailable, the health store is, too.
            Side::HealthStore => match self.gateway.open_reason() {
                Some(reason) => return Err(reason),
                None => &self.health_store,
            },
        };
        match query.route.class {
            CallClass::Normal => breaker.enter(Instant::now().into_std()),
            CallClass::StorageScan => breaker.enter_closed(),
        }
    }

    /// Asks with a token, and once more with a newer one if the gateway rejects it. A gateway
    /// answers an invalid token like a missing certificate, with 403 and no error code.
    async fn ask_with_token<T>(
        &self,
        query: &Query<T>,
        call: Call<'_>,
        bearer: &Bearer,
    ) -> Result<T, Failure> {
        let outcome = self.client.ask(query, call).await;
        if outcome.as_ref().is_err_and(Failure::is_unauthenticated)
            && let Some(tokens) = &self.tokens
            && let Some(newer) = tokens.after_refusal(bearer, &self.client).await
        {
            let again = Call {
                bearer: Some(&newer),
                deadline: self.client.deadline(query),
                ..call
            };
            return self.client.ask(query, again).await;
        }
        outcome
    }
}

async fn acquire(permits: &Semaphore) -> SemaphorePermit<'_> {
    let permit = permits.acquire().await;
    permit.expect("the semaphore is never closed")
}
