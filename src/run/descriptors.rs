//! How many connections of clients fit the limit of open files.
//!
//! The connections to the gateways and the exporter's own files come first: without them there is
//! nothing to serve.

use metrics_process::collector::collect;
use tracing::warn;

use crate::server::listener::Limits;
use crate::settings::Config;

/// File descriptors of the process itself: listeners, connections that are being closed, the state
/// file, certificates that are read again, and what the runtime needs.
const OWN: u64 = 24;

/// File descriptors of one cluster besides its requests: name look-ups, tokens, and connections that
/// look at a certificate.
const PER_CLUSTER: u64 = 4;

/// The minimum number of client connections.
const LEAST: u64 = 8;

/// The default limits of the listener, with no more connections than file descriptors are left for.
pub(super) fn limits(config: &Config) -> Limits {
    let mut limits = Limits::default();
    let reserved = reserved(config);
    // 0 is unlimited.
    let files = collect().max_fds.filter(|files| *files > 0);
    if let Some(files) = files
        && let Some(connections) = lowered(files, reserved, limits.connections)
    {
        let needed = reserved + limits.connections as u64;
        warn!(
            files,
            connections,
            needed,
            "The process may open {files} files, which leaves room for {connections} client \
             connections instead of {}: raise the limit to at least {needed} (`LimitNOFILE=` of \
             systemd, `--ulimit nofile=` of Docker, `ulimit -n`).",
            limits.connections
        );
        limits.connections = connections;
    }
    limits
}

/// Every request of a cluster may have a connection, and keep one at the endpoint before it.
fn reserved(config: &Config) -> u64 {
    let concurrency = config.poll.concurrency as u64;
    let clusters = config.clusters.iter();
    let of_clusters = clusters.map(|cluster| {
        let endpoints = cluster.endpoints.len().clamp(1, 2) as u64;
        PER_CLUSTER.saturating_add(endpoints.saturating_mul(concurrency))
    });
    of_clusters.fold(OWN, u64::saturating_add)
}

/// The connections that are left, if they are fewer than `wanted`.
fn lowered(files: u64, reserved: u64, wanted: usize) -> Option<usize> {
    let left = files.saturating_sub(reserved).max(LEAST);
    usize::try_from(left).ok().filter(|left| *left < wanted)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn connections_are_what_the_limit_leaves_and_never_none() {
        for (files, reserved, lowered_to) in [
            (1 << 20, 44, None),
            (556, 44, None),
            (555, 44, Some(511)),
            (64, 44, Some(20)),
            (50, 44, Some(8)),
            (10, 44, Some(8)),
            (1024, u64::MAX, Some(8)),
        ] {
            assert_eq!(lowered(files, reserved, 512), lowered_to, "{files}");
        }
    }

    #[test]
    fn every_cluster_has_file_descriptors_for_its_requests_and_one_change_of_endpoint() {
        let of = |clusters: &str| {
            let text = format!("poll: {{concurrency: 16}}\nclusters: [{clusters}]\n");
            reserved(&Config::parse(&text, Path::new("exporter.yml")).unwrap())
        };
        let one = "{name: a, endpoints: ['http://a']}";
        let two = "{name: b, endpoints: ['http://b', 'http://c']}";
        let three = "{name: c, endpoints: ['http://d', 'http://e', 'http://f']}";
        assert_eq!(of(one), 24 + 20);
        assert_eq!(of(two), 24 + 36);
        assert_eq!(of(&format!("{one}, {two}, {three}")), 24 + 20 + 36 + 36);
    }
}
