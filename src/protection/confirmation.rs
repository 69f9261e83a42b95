//! Whether a list of the store has confirmed the last success, in words.

use chrono::{DateTime, Utc};

use super::evidence::rfc3339;
use super::{Facts, Rules};

/// What lists of the store say of the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// The newest restorable backup that a list has shown.
    pub newest_listed: Option<DateTime<Utc>>,
    /// Whether a list has shown the backup of the last success.
    pub is_confirmed: bool,
    /// Since when only a list can tell if the last success is real, on the exporter's clock: it is a
    /// claim that no list has confirmed, and no listed backup has a log sequence number. `None` with
    /// such a number: then the service is not an actor service, which reports failed uploads as
    /// successes.
    pub needs_list_since: Option<DateTime<Utc>>,
    /// The newest success that a list had confirmed before another one showed that it is gone.
    pub deleted: Option<DateTime<Utc>>,
    /// The newest claimed success that does not count, and when the list was requested that ended
    /// it; `None` inside while no list could judge it.
    pub ended_claim: Option<(DateTime<Utc>, Option<DateTime<Utc>>)>,
}

/// The value of the evidence: the newest listed backup, or why there is no confirmation.
pub(super) fn describe(facts: &Facts<'_>, rules: &Rules) -> String {
    let confirmation = facts.confirmation;
    let newest = confirmation.newest_listed.map(rfc3339);
    let newest = newest.map_or_else(
        || "no restorable backup listed".to_owned(),
        |newest| format!("newest listed backup {newest}"),
    );
    if !rules.reads_lists {
        return "no: lists of backups are switched off".to_owned();
    }
    let Some(listed) = facts.listed_at.map(rfc3339) else {
        let standing = if confirmation.is_confirmed {
            "before the start"
        } else {
            "no"
        };
        return format!("{standing}: not listed since the start, {newest}");
    };
    match confirmation.ended_claim {
        _ if confirmation.is_confirmed => format!("yes: {newest}"),
        Some((claim, Some(at))) => {
            let (claim, at) = (rfc3339(claim), rfc3339(at));
            format!("no: the list of {at} did not hold the success reported for {claim}, {newest}")
        }
        Some((claim, None)) => {
            let claim = rfc3339(claim);
            format!(
                "no: the success reported for {claim} counts once a list holds it, because an \
                 earlier one was not listed; {newest}"
            )
        }
        None => format!("not since the list of {listed}, {newest}"),
    }
}
