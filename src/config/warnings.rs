//! Warnings about settings that are valid but probably unintended.

use std::collections::HashMap;

use url::Url;

use crate::settings::{APPLICATIONS, Cluster, Config, SERVICES, Selector};

/// Host and port of an endpoint in normal form.
pub(super) type Address = (String, Option<u16>);

pub(super) fn address(endpoint: &Url) -> Address {
    let host = endpoint.host_str().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    (host.to_owned(), endpoint.port_or_known_default())
}

impl Config {
    /// Settings that are valid but probably unintended, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for cluster in &self.clusters {
            let name = &cluster.name;
            let of_cluster = cluster.warnings().into_iter();
            warnings.extend(of_cluster.map(|warning| format!("Cluster {name}: {warning}")));
        }
        warnings.extend(self.shared_endpoints());
        warnings
    }

    fn shared_endpoints(&self) -> Vec<String> {
        let mut seen = HashMap::new();
        let mut warnings = Vec::new();
        for Cluster {
            name, endpoints, ..
        } in &self.clusters
        {
            let mut shared = None;
            for endpoint in endpoints {
                let other = seen.insert(address(endpoint), name);
                let other = other.filter(|other| *other != name);
                shared = shared.or_else(|| other.map(|other| (endpoint, other)));
            }
            warnings.extend(shared.map(|(endpoint, other)| {
                format!(
                    "Cluster {name}: endpoint {endpoint} also belongs to cluster {other}; \
                     partitions that both select are monitored twice."
                )
            }));
        }
        warnings
    }
}

impl Cluster {
    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.collector_warnings();
        if self.partitions.is_empty() {
            warnings.extend(self.applications.impossible(APPLICATIONS));
            warnings.extend(self.services.impossible(SERVICES));
        } else if [&self.applications, &self.services] != [&Selector::default(); 2] {
            let warning = "applications and services have no effect with a list of partitions.";
            warnings.push(warning.to_owned());
        }
        warnings
    }

    fn collector_warnings(&self) -> Vec<String> {
        let on = self.collectors;
        let mut warnings = Vec::new();
        if !on.configuration && self.expected_interval.is_none() {
            warnings.push(
                "collectors.configuration is off and expected_interval is not set, so the \
                 protection state of every partition is Unknown."
                    .to_owned(),
            );
        }
        if on.configuration && !on.policies {
            warnings.push(
                "collectors.policies is off, so the protection state of every partition with a \
                 policy is Unknown."
                    .to_owned(),
            );
        }
        if on.configuration && on.policies && !on.see_periodic_backups() {
            warnings.push(
                "collectors.health, backups and history are off, so the protection state of every \
                 partition with a policy is Unknown."
                    .to_owned(),
            );
        }
        if self.expected_interval.is_some() && !on.see_requested_backups() {
            warnings.push(
                "collectors.progress is off, so the protection state of every partition without a \
                 policy is Unknown despite expected_interval."
                    .to_owned(),
            );
        }
        warnings
    }
}
