//! Helpers of the rows.

use chrono::{DateTime, Utc};

use crate::exposition::samples::Labels;
use crate::snapshot::ServiceKey;

/// A label that is left out.
pub(super) const NONE: (&str, Option<&str>) = ("", None);

#[expect(clippy::unnecessary_wraps, reason = "rows return an Option")]
pub(super) fn seconds(instant: DateTime<Utc>) -> Option<i64> {
    Some(instant.timestamp())
}

/// Adds the labels of a service.
pub(super) fn of_service<'a>(labels: &Labels<'a>, key: &'a ServiceKey) -> Labels<'a> {
    labels
        .with("application_name", key.application.as_deref())
        .with("service_name", key.service.as_deref())
}
