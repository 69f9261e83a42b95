//! Ports of a Service Fabric cluster.

use url::Url;

/// Advice for a server that does not answer like an HTTP gateway.
pub(super) const PORT_HINT: &str = "use the port of the HTTP gateway, 19080 by default";

/// The default port of the native client API, which is not HTTP.
const CLIENT_PORT: u16 = 19_000;

/// A warning if `endpoint` has the port of the native client API; a full sentence.
pub(super) fn port_warning(endpoint: &Url) -> Option<String> {
    (endpoint.port() == Some(CLIENT_PORT)).then(|| {
        format!(
            "The port of {endpoint} is that of the cluster's client connections \
             (Connect-ServiceFabricCluster), which do not use HTTP: {PORT_HINT}."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_client_port_is_warned_about() {
        let warned = |url: &str| port_warning(&url.parse().unwrap());
        let warning = warned("https://node1:19000").unwrap();
        assert!(warning.contains("https://node1:19000/"), "{warning}");
        assert!(warning.contains("19080"), "{warning}");
        for url in ["http://node1:19080", "http://node1", "https://node1:9000"] {
            assert_eq!(warned(url), None, "{url}");
        }
    }
}
