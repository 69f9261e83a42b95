//! The counters of one service in the state file, to and from a snapshot.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_zero;
use crate::model::FailureCode;
use crate::snapshot::{ServiceKey, ServiceTotals};

#[derive(Serialize, Deserialize)]
pub(super) struct ServiceEntry<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    application: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    service: Option<Cow<'a, str>>,
    successes: u64,
    failed: u64,
    timed_out: u64,
    #[serde(borrow, skip_serializing_if = "BTreeMap::is_empty", default)]
    failures: BTreeMap<Cow<'a, str>, u64>,
    #[serde(skip_serializing_if = "is_zero", default)]
    refuted_health: u64,
    #[serde(skip_serializing_if = "is_zero", default)]
    refuted_progress: u64,
}

impl<'a> ServiceEntry<'a> {
    pub(super) fn of(key: &'a ServiceKey, totals: &'a ServiceTotals) -> Self {
        let failures = totals.failures.iter();
        Self {
            application: key.application.as_deref().map(Cow::from),
            service: key.service.as_deref().map(Cow::from),
            successes: totals.successes,
            failed: totals.failed,
            timed_out: totals.timed_out,
            failures: failures
                .map(|(code, count)| (code.as_str().into(), *count))
                .collect(),
            refuted_health: totals.refuted_health,
            refuted_progress: totals.refuted_progress,
        }
    }

    pub(super) fn restore(self) -> (ServiceKey, ServiceTotals) {
        let key = ServiceKey {
            application: self.application.map(Into::into),
            service: self.service.map(Into::into),
        };
        let failures = self.failures.into_iter();
        let totals = ServiceTotals {
            successes: self.successes,
            failed: self.failed,
            timed_out: self.timed_out,
            failures: failures
                .map(|(code, count)| (FailureCode::from_text(&code), count))
                .collect(),
            refuted_health: self.refuted_health,
            refuted_progress: self.refuted_progress,
        };
        (key, totals)
    }
}
