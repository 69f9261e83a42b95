//! The landing page: the state of each cluster, and links to the other pages.
//!
//! Plain HTML without scripts and external resources. All text from clusters and from the
//! configuration must be escaped.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use super::app::App;
use super::headers;
use super::shared::Shared;
use crate::clock;
use crate::exposition::ClusterView;
use crate::fleet::Watched;
use crate::inventory::listed;
use crate::protection::{ProtectionState, evaluate};
use crate::telemetry::BuildInfo;

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Service Fabric backup exporter</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: #222; }
header { background: #e6522c; color: #fff; padding: 0.8rem 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; }
main { padding: 1rem 1.5rem; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: 0.3rem 1rem 0.3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
</style>
</head>
<body>
<header><h1>Service Fabric backup exporter</h1></header>
<main>
<p>Can every partition of the cluster be restored, and how much would be lost?</p>
";

/// The landing page that concurrent requests share: it costs as much as a scrape, because it needs
/// the verdict of every partition.
#[derive(Debug)]
pub(super) struct LandingPage {
    app: Arc<App>,
    html: Shared<String>,
}

impl LandingPage {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self {
            app: Arc::clone(app),
            html: Shared::default(),
        }
    }
}

pub(super) async fn landing_page(State(page): State<Arc<LandingPage>>) -> Response {
    let app = Arc::clone(&page.app);
    let encode = move |_: Option<&_>| {
        let views: Vec<ClusterView> = app.clusters().iter().map(Watched::view).collect();
        let html = Html {
            views: &views,
            telemetry_path: &app.telemetry_path,
            notice: app.notice,
            now: clock::now(),
        };
        html.to_string()
    };
    let Ok(html) = page.html.next(&page.app.encoding_permits, encode).await else {
        let text = "Failed to encode the page.\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8")];
    (headers, headers::HTML_PAGE, String::clone(&html)).into_response()
}

struct Html<'a> {
    views: &'a [ClusterView],
    telemetry_path: &'a str,
    notice: Option<&'static str>,
    now: DateTime<Utc>,
}

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = BuildInfo::CURRENT;
        f.write_str(HEAD)?;
        if let Some(notice) = self.notice {
            writeln!(f, "<p><strong>{}</strong></p>", HtmlEscaped(notice))?;
        }
        f.write_str("<table>\n<tr><th>Cluster</th><th>Gateway</th><th>Backup service</th>")?;
        f.write_str("<th>Partitions</th><th>Protection</th></tr>\n")?;
        for view in self.views {
            self.write_cluster(view, f)?;
        }
        f.write_str("</table>\n")?;
        self.views
            .iter()
            .try_for_each(|view| write_warnings(view, f))?;
        write!(
            f,
            "<ul>\n<li><a href=\"{}\">Metrics</a></li>\n\
             <li><a href=\"/api/v1/partitions\">Partitions as JSON</a></li>\n\
             <li><a href=\"/-/healthy\">Health</a> and <a href=\"/-/ready\">readiness</a></li>\n\
             </ul>\n<p>Version {}, revision {}, rustc {}</p>\n</main>\n</body>\n</html>\n",
            HtmlEscaped(self.telemetry_path),
            HtmlEscaped(build.version),
            HtmlEscaped(build.revision),
            HtmlEscaped(build.rustc),
        )
    }
}

impl Html<'_> {
    fn write_cluster(&self, view: &ClusterView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = &view.snapshot;
        let status = &snapshot.status;
        let gateway = match (status.up, &status.version) {
            (None, _) => "not polled yet".to_owned(),
            (Some(false), _) => "unreachable, or rejects the exporter".to_owned(),
            (Some(true), Some(version)) => format!("up, version {version}"),
            (Some(true), None) => "up".to_owned(),
        };
        let service = match status.service_up {
            None => "unknown",
            Some(true) => "up",
            Some(false) => "not installed, unreachable, or rejects the exporter",
        };
        let mut counts: BTreeMap<ProtectionState, usize> = BTreeMap::new();
        for partition in snapshot.partitions.values() {
            let facts = partition.facts(snapshot);
            let state = evaluate(&facts, &view.rules, self.now).state;
            *counts.entry(state).or_default() += 1;
        }
        write!(
            f,
            "<tr><td>{}</td><td>{}</td><td>{service}</td><td>{}</td><td>",
            HtmlEscaped(&snapshot.cluster),
            HtmlEscaped(&gateway),
            snapshot.partitions.len(),
        )?;
        for (state, count) in counts {
            write!(f, "{count} {}<br>", state.as_str())?;
        }
        f.write_str("</td></tr>\n")
    }
}

/// Writes warnings about selectors that match nothing and about a cluster without partitions.
fn write_warnings(view: &ClusterView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let snapshot = &view.snapshot;
    let Some(selection) = &snapshot.status.selection else {
        return Ok(());
    };
    let cluster = HtmlEscaped(&snapshot.cluster);
    if let Some(reason) = selection.value.empty {
        writeln!(
            f,
            "<p><strong>Cluster {cluster}: no partition is monitored, because {}.</strong></p>",
            HtmlEscaped(reason.as_str())
        )?;
    }
    let unmatched: Vec<_> = selection.value.unmatched.iter().collect();
    if !unmatched.is_empty() {
        writeln!(
            f,
            "<p><strong>Cluster {cluster}: selectors match nothing: {}.</strong></p>",
            HtmlEscaped(&listed(&unmatched))
        )?;
    }
    Ok(())
}

/// Displays text with the special characters of HTML escaped.
struct HtmlEscaped<'a>(&'a str);

impl fmt::Display for HtmlEscaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ring::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn content_security_policy_allows_the_style_of_the_page_and_no_script() {
        let (_, after) = HEAD.split_once("<style>").unwrap();
        let (style, rest) = after.split_once("</style>").unwrap();
        let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
        let [(_, policy), ..] = headers::HTML_PAGE;
        assert!(
            policy.contains(&format!("style-src 'sha256-{hash}'")),
            "{hash}"
        );
        assert!(!policy.contains("script") && policy.starts_with("default-src 'none'"));
        assert!(!rest.contains("style") && !rest.contains("<script"));
    }

    #[test]
    fn special_characters_of_html_are_escaped() {
        let text = HtmlEscaped("<script>\"a\" & 'b'</script>").to_string();
        assert_eq!(
            text,
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;"
        );
    }
}
