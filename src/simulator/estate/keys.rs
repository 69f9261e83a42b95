//! Partition schemes and partition keys.
//!
//! Ranges are equal, adjacent and cover every 64-bit key once.

use std::sync::Arc;

/// Keys of a partition.
#[derive(Clone, Debug)]
pub(in crate::simulator) enum Keys {
    Singleton,
    Named(Arc<str>),
    Range(i64, i64),
}

/// Partition scheme of a new service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// One partition.
    Singleton,
    /// One partition for each name.
    Named(Vec<String>),
    /// This many equal ranges of the 64-bit keys.
    Ranges(usize),
}

impl Scheme {
    pub(super) fn into_keys(self) -> Vec<Keys> {
        match self {
            Self::Singleton => vec![Keys::Singleton],
            Self::Named(names) => names.into_iter().map(|it| Keys::Named(it.into())).collect(),
            Self::Ranges(count) => (0..count).map(|index| range(index, count)).collect(),
        }
    }
}

/// The `index`-th of `count` equal ranges of all 64-bit keys.
fn range(index: usize, count: usize) -> Keys {
    let edge = |index: usize| {
        let share = (1_u128 << 64) * index as u128 / count as u128;
        i128::from(i64::MIN).saturating_add_unsigned(share)
    };
    let narrow = |key: i128| i64::try_from(key).unwrap_or(i64::MAX);
    Keys::Range(narrow(edge(index)), narrow(edge(index + 1) - 1))
}
