//! The dates of the listener's own certificate, as they pass while the exporter runs.
//!
//! The moment comes as an argument. A warning is logged once, when its reason begins.

use std::path::Path;

use chrono::{DateTime, Utc};
use tracing::{error, warn};

use crate::settings::web::Validity;

/// The certificate in use, and the last warning about its dates.
#[derive(Debug, Default)]
pub(super) struct Certificate {
    validity: Option<Validity>,
    warning: Option<String>,
}

impl Certificate {
    /// Logs when the dates of the certificate become a reason for a warning, or another one.
    pub(super) fn update(&mut self, path: &Path, validity: Option<Validity>, now: DateTime<Utc>) {
        let warning = validity.and_then(|validity| validity.warning(now));
        self.validity = validity;
        if self.warning == warning {
            return;
        }
        if let (Some(warning), Some(validity)) = (&warning, validity) {
            let path = path.display();
            if validity.contains(now) {
                warn!("The web configuration {path}: {warning}.");
            } else {
                error!("The web configuration {path}: {warning}.");
            }
        }
        self.warning = warning;
    }

    pub(super) fn expiry(&self) -> Option<DateTime<Utc>> {
        Some(self.validity?.not_after)
    }

    /// What is wrong with the dates, without the period at its end.
    pub(super) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn the_dates_of_a_certificate_are_logged_once_for_each_reason() {
        let at = |day| DateTime::UNIX_EPOCH + TimeDelta::days(day);
        let validity = Validity {
            not_before: at(100),
            not_after: at(200),
        };
        let mut certificate = Certificate::default();
        let path = Path::new("web.yml");
        let mut warnings = Vec::new();
        for day in [50, 99, 100, 150, 192, 194, 199, 200, 201, 300] {
            certificate.update(path, Some(validity), at(day));
            warnings.push(certificate.warning.clone().unwrap_or_default());
        }
        warnings.dedup();
        let [early, good, soon, expired] = warnings.try_into().unwrap();
        assert!(
            early.contains("is not valid before 1970-04-11T00:00:00Z"),
            "{early}"
        );
        assert_eq!(good, "");
        assert!(soon.contains("expires at 1970-07-20T00:00:00Z"), "{soon}");
        assert!(
            expired.contains("expired at 1970-07-20T00:00:00Z"),
            "{expired}"
        );
        certificate.update(path, None, at(300));
        assert_eq!((certificate.validity, certificate.warning), (None, None));
    }
}
