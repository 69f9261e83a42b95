//! The catalogue: every family that `/metrics` can show, one row each, in the order of the page.
//!
//! A new metric is a new row in one of the sections. HELP, the reference in `docs/metrics.md` and
//! the names that dashboards and rules may use are checked against these rows.

/// The label values of all states of an enum.
macro_rules! words {
    ($states:ty) => {{
        let mut words = [""; <$states>::ALL.len()];
        let mut index = 0;
        while index < words.len() {
            words[index] = <$states>::ALL[index].as_str();
            index += 1;
        }
        words
    }};
}

mod exporter;
mod process;
mod protected;
mod requested;

use chrono::{DateTime, Utc};

use super::family::Family;
use super::samples::Labels;
use crate::snapshot::ServiceKey;

const SECTIONS: [&[Family]; 4] = [
    requested::FAMILIES,
    protected::FAMILIES,
    exporter::FAMILIES,
    process::FAMILIES,
];

/// A label that is left out.
const NONE: (&str, Option<&str>) = ("", None);

/// Every family.
pub fn families() -> impl Iterator<Item = &'static Family> {
    SECTIONS.into_iter().flatten()
}

#[expect(clippy::unnecessary_wraps, reason = "rows answer with an Option")]
fn seconds(instant: DateTime<Utc>) -> Option<i64> {
    Some(instant.timestamp())
}

/// The labels of a service.
fn of_service<'a>(labels: &Labels<'a>, key: &'a ServiceKey) -> Labels<'a> {
    labels
        .with("application_name", key.application.as_deref())
        .with("service_name", key.service.as_deref())
}
