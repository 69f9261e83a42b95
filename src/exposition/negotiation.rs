//! Content negotiation: the format by `Accept`, compression by `Accept-Encoding`.
//!
//! Pure. Compares q-values, because versions of Prometheus send different weights. Without a
//! match, the format is text 0.0.4; no request is rejected.

/// The formats of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics1,
    /// The same page for a scraper that accepts only version 0.0.1.
    OpenMetrics0,
    /// The Prometheus text format 0.0.4.
    Text,
}

impl Format {
    /// The format with the highest weight in an `Accept` header.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (0, Self::Text);
        for clause in accept.split(',') {
            let (weight, format) = Self::of_clause(clause);
            if let Some(format) = format
                && weight > best.0
            {
                best = (weight, format);
            }
        }
        best.1
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics1 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::OpenMetrics0 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    pub(super) fn is_openmetrics(self) -> bool {
        self != Self::Text
    }

    fn of_clause(clause: &str) -> (u32, Option<Self>) {
        let mut parts = clause.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut version = None;
        let mut weight = MAX_WEIGHT;
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim() {
                "version" => version = Some(value.trim().trim_matches('"')),
                "q" => weight = parse_weight(value),
                _ => {}
            }
        }
        let format = match (&*media_type, version) {
            ("application/openmetrics-text", Some("1.0.0")) => Some(Self::OpenMetrics1),
            ("application/openmetrics-text", None | Some("0.0.1")) => Some(Self::OpenMetrics0),
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Some(Self::Text),
            _ => None,
        };
        (weight, format)
    }
}

/// Whether an `Accept-Encoding` header allows gzip.
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    let mut any = false;
    for clause in accept_encoding.split(',') {
        let (coding, parameters) = clause.split_once(';').unwrap_or((clause, ""));
        let weight = parameters.trim().strip_prefix("q=");
        let allowed = weight.map_or(MAX_WEIGHT, parse_weight) > 0;
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return allowed,
            "*" => any = allowed,
            _ => {}
        }
    }
    any
}

/// A weight of 1, in thousandths.
const MAX_WEIGHT: u32 = 1000;

/// A q-value in thousandths (RFC 9110, 12.4.2); 0 if invalid.
fn parse_weight(value: &str) -> u32 {
    let weight: f64 = value.trim().parse().unwrap_or(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=1000 first; a NaN becomes 0"
    )]
    let thousandths = (weight * f64::from(MAX_WEIGHT)).round().clamp(0.0, 1000.0) as u32;
    thousandths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_the_format_with_the_highest_weight() {
        let prometheus_2_42 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_2_53 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3_5 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let native_histograms = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for accept in [
            prometheus_2_42,
            prometheus_2_53,
            prometheus_3_5,
            native_histograms,
        ] {
            assert_eq!(Format::negotiate(accept), Format::OpenMetrics1, "{accept}");
        }
        let cases = [
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", Format::Text),
            (
                "text/plain;version=1.0.0;q=0.4, application/openmetrics-text;q=0.3",
                Format::OpenMetrics0,
            ),
            (
                "text/plain;q=0.5, application/openmetrics-text; version=1.0.0; q=0.49",
                Format::Text,
            ),
            (
                "application/openmetrics-text; version=1.0.0; q=0",
                Format::Text,
            ),
            ("application/openmetrics-text; version=2.0.0", Format::Text),
            (
                "Application/OpenMetrics-Text; version=\"1.0.0\"",
                Format::OpenMetrics1,
            ),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("application/json", Format::Text),
            ("", Format::Text),
            (";;,=;q=x,\u{0},", Format::Text),
        ];
        for (accept, format) in cases {
            assert_eq!(Format::negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn gzip_is_sent_only_if_accepted() {
        for accepted in ["gzip", "deflate, gzip;q=0.5", "GZIP", "*", "br, *;q=0.1"] {
            assert!(accepts_gzip(accepted), "{accepted}");
        }
        for refused in [
            "",
            "identity",
            "gzip;q=0",
            "gzip;q=0, *",
            "*;q=0",
            "zstd, br",
        ] {
            assert!(!accepts_gzip(refused), "{refused}");
        }
    }
}
