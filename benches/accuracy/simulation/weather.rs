//! What stands between a cluster and the exporter: who answers badly at the moment, and how.
//!
//! Responsible for which of the exporter's requests go wrong and what it gets instead. It must not
//! change the cluster.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::calendar::{DAY, HOUR, MINUTE};
use super::rates::{Kind, lasting};

/// A time of bad weather; overlapping ones last until the last of them is over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spell {
    until: i64,
}

impl Spell {
    pub(crate) fn strike(&mut self, until: i64) {
        self.until = self.until.max(until);
    }

    pub(crate) fn strikes(self, now: i64) -> bool {
        now < self.until
    }
}

/// Who answers in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Gateway,
    HealthStore,
    BackupService,
}

/// Status and body of an answer that the cluster does not mean.
pub(crate) type Bad = (u16, &'static str);

/// All that disturbs the sight of the exporter.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    pub(crate) service: Spell,
    pub(crate) gateway: Spell,
    pub(crate) slow: Spell,
    pub(crate) health: Spell,
    pub(crate) late: Spell,
    /// By how much the health store is late then.
    pub(crate) lag: i64,
    pub(crate) requester: Spell,
    pub(crate) down: Spell,
    /// While lists of the backup service hold an item that violates their schema.
    pub(crate) malformed: Spell,
    /// Clock of the cluster minus that of the exporter.
    pub(crate) skew: i64,
    /// When the exporter's clock was last set.
    pub(crate) clock_set: Option<i64>,
    /// When a schedule was last restarted in a way that shows nowhere.
    pub(crate) restarted_unseen: BTreeMap<Uuid, i64>,
}

impl Weather {
    /// Clear sight, by clocks that differ.
    pub(crate) fn with_skew(skew: i64) -> Self {
        Self {
            skew,
            ..Self::default()
        }
    }

    /// Lets a disturbance begin at `at`; returns whether `kind` is one of the sight.
    pub(crate) fn disturb(&mut self, kind: Kind, rng: &mut fastrand::Rng, at: i64) -> bool {
        let (spell, low, high) = match kind {
            Kind::Restart => (&mut self.down, MINUTE, 15 * MINUTE),
            Kind::Malformed => (&mut self.malformed, 10 * MINUTE, DAY),
            Kind::ServiceAway => (&mut self.service, MINUTE, 4 * HOUR),
            Kind::GatewayAway => (&mut self.gateway, MINUTE, 2 * HOUR),
            Kind::GatewaySlow => (&mut self.slow, 10 * MINUTE, 6 * HOUR),
            Kind::HealthAway => (&mut self.health, 2 * MINUTE, 3 * HOUR),
            Kind::HealthLate => {
                self.lag = lasting(rng, MINUTE, 10 * MINUTE);
                (&mut self.late, 10 * MINUTE, 12 * HOUR)
            }
            Kind::RequesterStops => (&mut self.requester, HOUR, 5 * DAY),
            Kind::ClockJump => {
                self.set_clock(rng.i64(-20 * MINUTE..=20 * MINUTE), at);
                return true;
            }
            _ => return false,
        };
        spell.strike(at + lasting(rng, low, high));
        true
    }

    /// Sets the exporter's clock.
    pub(crate) fn set_clock(&mut self, skew: i64, at: i64) {
        self.skew = skew;
        self.clock_set = Some(at);
    }

    /// What a request gets instead of an answer, if it goes wrong.
    pub(crate) fn spoils(&self, side: Side, now: i64, rng: &mut fastrand::Rng) -> Option<Bad> {
        const UNAVAILABLE: Bad = (
            503,
            "<HTML><BODY><h2>Service Unavailable</h2></BODY></HTML>",
        );
        const AWAY: [Bad; 2] = [(404, ""), (504, "")];
        if self.gateway.strikes(now) || self.slow.strikes(now) && rng.u8(..) < 51 {
            return Some(UNAVAILABLE);
        }
        match side {
            Side::HealthStore if self.health.strikes(now) => Some(UNAVAILABLE),
            Side::BackupService if self.service.strikes(now) => rng.choice(AWAY),
            _ => None,
        }
    }
}
