//! Detection of cross-site requests that a browser sends for a page of another origin.
//!
//! Same algorithm as `CrossOriginProtection` in Go's `net/http`: browsers send `Sec-Fetch-Site` to
//! HTTPS and loopback addresses, and `Origin` with every POST; other clients send neither.

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};

pub(super) fn is_cross_site(request: &Request) -> bool {
    let host = request.headers().get(HOST);
    has_other_origin(request.headers(), host.and_then(|host| host.to_str().ok()))
}

fn has_other_origin(headers: &HeaderMap, host: Option<&str>) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let origin = origin.to_str().ok();
    let origin = origin.and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((_, origin)), Some(host)) => !origin.eq_ignore_ascii_case(host),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_of_pages_of_other_origins_are_cross_site() {
        let host = Some("exporter:19180");
        let cases: [(&[(&'static str, &'static str)], bool); 14] = [
            (&[], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "")], true),
            (
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "http://other"),
                ],
                false,
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "http://exporter:19180"),
                ],
                true,
            ),
            (&[("origin", "http://exporter:19180")], false),
            (&[("origin", "https://EXPORTER:19180")], false),
            (&[("origin", "http://exporter")], true),
            (&[("origin", "http://exporter:19180.evil.example")], true),
            (&[("origin", "null")], true),
            (&[("origin", "http://\u{e9}vil")], true),
        ];
        for (pairs, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(has_other_origin(&headers, host), expected, "{pairs:?}");
        }
        let headers = HeaderMap::from_iter([(ORIGIN, "http://a".parse().unwrap())]);
        assert!(has_other_origin(&headers, None));
    }
}
