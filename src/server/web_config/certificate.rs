//! Expiry warnings about the listener's own certificate.
//!
//! The time is an argument. A warning is logged once, when it begins to apply.

use std::path::Path;

use chrono::{DateTime, Utc};
use tracing::{error, warn};

use crate::settings::web::Validity;

/// The validity of the certificate in use, and the current warning about it.
#[derive(Debug, Default)]
pub(super) struct CertificateMonitor {
    validity: Option<Validity>,
    warning: Option<String>,
}

impl CertificateMonitor {
    /// Logs a warning if one begins to apply at `now`, or another one than before.
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

    /// Without the period at the end.
    pub(super) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn each_warning_about_the_validity_begins_once() {
        let at = |day| DateTime::UNIX_EPOCH + TimeDelta::days(day);
        let validity = Validity {
            not_before: at(100),
            not_after: at(200),
        };
        let mut certificate = CertificateMonitor::default();
        let path = Path::new("web.yml");
        let mut warnings = Vec::new();
        for day in [50, 99, 100, 150, 192, 194, 199, 200, 201, 300] {
            certificate.update(path, Some(validity), at(day));
            warnings.push(certificate.warning.clone().unwrap_or_default());
        }
        warnings.dedup();
        let [early, valid, soon, expired] = warnings.try_into().unwrap();
        assert!(
            early.contains("is not valid before 1970-04-11T00:00:00Z"),
            "{early}"
        );
        assert_eq!(valid, "");
        assert!(soon.contains("expires at 1970-07-20T00:00:00Z"), "{soon}");
        assert!(
            expired.contains("expired at 1970-07-20T00:00:00Z"),
            "{expired}"
        );
        certificate.update(path, None, at(300));
        assert_eq!((certificate.validity, certificate.warning), (None, None));
    }
}
