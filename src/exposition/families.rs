//! The catalogue: every family of `/metrics`, one row each, in the order of the page.
//!
//! A new metric is a new row in one of the sections. Tests compare `docs/metrics.md`, the dashboards
//! and the rules with these rows.

/// The label values of all variants of an enum.
macro_rules! label_values {
    ($states:ty) => {{
        let mut values = [""; <$states>::ALL.len()];
        let mut index = 0;
        while index < values.len() {
            values[index] = <$states>::ALL[index].as_str();
            index += 1;
        }
        values
    }};
}

mod common;
mod exporter;
mod process;
mod protected;
mod requested;

use super::family::Family;

const SECTIONS: [&[Family]; 4] = [
    requested::FAMILIES,
    protected::FAMILIES,
    exporter::FAMILIES,
    process::FAMILIES,
];

/// All families, in the order of the page.
pub fn families() -> impl Iterator<Item = &'static Family> {
    SECTIONS.into_iter().flatten()
}
