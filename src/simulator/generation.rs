//! Generation of an estate from a seed.
//!
//! Creates two-level application names, a pair of names of which one is a prefix of the other, all
//! three partition schemes, and services that cannot be backed up. The same size gives the same
//! estate, ids included.

use chrono::{DateTime, Utc};

use super::estate::{Estate, Scheme, ServiceKind};

/// The first applications of every estate; further ones are numbered.
const APPLICATIONS: [&str; 8] = [
    "Shop",
    "Retail/Shop",
    "App1",
    "App10",
    "Billing",
    "Retail/Warehouse",
    "Identity",
    "Telemetry",
];

/// The first services of every application; further ones are numbered.
const SERVICES: [&str; 8] = [
    "Orders",
    "Carts",
    "Customer.ActorService",
    "Inventory",
    "Payments",
    "Sessions",
    "Audit",
    "Search",
];

/// The first partitions of a service with named partitions; further ones are numbered.
const PARTITIONS: [&str; 6] = ["eu", "us", "apac", "latam", "africa", "anz"];

/// Size of an estate: `applications` × `services_per_application` × `partitions_per_service`
/// partitions that can be backed up, and a few services that cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EstateSize {
    /// Seed of all ids and numbers.
    pub seed: u64,
    /// Applications outside `fabric:/System`.
    pub applications: usize,
    /// Stateful services with persisted state in each of them.
    pub services_per_application: usize,
    /// Partitions of each of those.
    pub partitions_per_service: usize,
}

impl Estate {
    /// Generates the estate of this size, with everything created at `created`.
    pub fn generate(size: &EstateSize, created: DateTime<Utc>) -> Self {
        let mut estate = Self::empty(size.seed, created);
        let first = estate.rng.usize(..SERVICES.len());
        for index in 0..size.applications {
            let application = format!("fabric:/{}", pick(&APPLICATIONS, index, "App1"));
            for number in 0..size.services_per_application {
                let rotated = match SERVICES.len() {
                    known if number < known => (number + first + index) % known,
                    _ => number,
                };
                let service = format!("{application}/{}", pick(&SERVICES, rotated, "Service"));
                let scheme = scheme(index + number, size.partitions_per_service);
                estate.add_service(
                    &application,
                    &service,
                    ServiceKind::Persisted,
                    scheme,
                    created,
                );
            }
            estate.add_decoys(&application, index, created);
        }
        estate
    }

    /// Services that cannot be backed up.
    fn add_decoys(&mut self, application: &str, index: usize, created: DateTime<Utc>) {
        let mut decoys = vec![("Web", ServiceKind::Stateless)];
        if index.is_multiple_of(2) {
            decoys.push(("Cache", ServiceKind::Volatile));
        }
        if index == 0 {
            decoys.push(("Proxy", ServiceKind::SelfReconfiguring));
        }
        for (name, kind) in decoys {
            let service = format!("{application}/{name}");
            self.add_service(application, &service, kind, Scheme::Singleton, created);
        }
    }
}

fn pick(known: &[&str], index: usize, numbered: &str) -> String {
    match known.get(index) {
        Some(name) => (*name).to_owned(),
        None => format!("{numbered}{index}"),
    }
}

fn scheme(index: usize, partitions: usize) -> Scheme {
    match (partitions, index % 3) {
        (1, 0) => Scheme::Singleton,
        (_, 1) => Scheme::Named(
            (0..partitions)
                .map(|it| pick(&PARTITIONS, it, "p"))
                .collect(),
        ),
        _ => Scheme::Ranges(partitions),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Version;

    use super::*;

    const SHAPE: EstateSize = EstateSize {
        seed: 42,
        applications: 10,
        services_per_application: 10,
        partitions_per_service: 7,
    };

    fn born() -> DateTime<Utc> {
        DateTime::from_timestamp(1_750_000_000, 0).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_estate_and_another_seed_another_one() {
        let ids = |seed| Estate::generate(&EstateSize { seed, ..SHAPE }, born()).partition_ids();
        assert_eq!(ids(42), ids(42));
        let (one, other): (HashSet<_>, HashSet<_>) =
            (ids(42).into_iter().collect(), ids(43).into_iter().collect());
        assert!(one.is_disjoint(&other));
    }

    #[test]
    fn an_estate_has_as_many_partitions_as_its_shape_says_and_version_4_ids() {
        let ids = Estate::generate(&SHAPE, born()).partition_ids();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 700);
        assert!(
            ids.iter()
                .all(|id| id.get_version() == Some(Version::Random))
        );
    }

    #[test]
    fn the_names_hold_the_known_traps() {
        let estate = Estate::generate(&SHAPE, born());
        let names = estate.application_names();
        for name in ["fabric:/Retail/Shop", "fabric:/App1", "fabric:/App10"] {
            assert!(names.iter().any(|it| **it == *name), "{name}");
        }
        assert_eq!(estate.service_names().len(), 100);
    }

    #[test]
    fn one_hundred_thousand_partitions_are_no_trouble() {
        let size = EstateSize {
            applications: 50,
            services_per_application: 20,
            partitions_per_service: 100,
            ..SHAPE
        };
        let estate = Estate::generate(&size, born());
        let ids = estate.partition_ids();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| estate.service_of(*id).is_some()));
    }
}
