//! The landing page: what is watched, how it is, and where to go from here.
//!
//! Plain HTML without scripts or anything from elsewhere. Whatever comes from a cluster or the
//! configuration is escaped.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use super::{Served, headers};
use crate::clock;
use crate::exposition::ClusterView;
use crate::fleet::Watched;
use crate::inventory::listed;
use crate::protection::{ProtectionState, evaluate};
use crate::telemetry::BuildInfo;

/// What comes before the clusters.
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

/// Judges every partition: as much work as a scrape, so requests share it like one.
pub(super) async fn landing(State(served): State<Arc<Served>>) -> Response {
    let writing = Arc::clone(&served);
    let write = move |_: Option<&_>| {
        let views: Vec<ClusterView> = writing.watched().iter().map(Watched::view).collect();
        let page = Landing {
            views: &views,
            telemetry_path: &writing.app.telemetry_path,
            notice: writing.app.notice,
            now: clock::now(),
        };
        page.to_string()
    };
    let Ok(page) = served.landing.next(&served.permits, write).await else {
        let text = "Writing the page failed.\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8")];
    (headers, headers::PAGE, String::clone(&page)).into_response()
}

struct Landing<'a> {
    views: &'a [ClusterView],
    telemetry_path: &'a str,
    notice: Option<&'static str>,
    now: DateTime<Utc>,
}

impl fmt::Display for Landing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = BuildInfo::CURRENT;
        f.write_str(HEAD)?;
        if let Some(notice) = self.notice {
            writeln!(f, "<p><strong>{}</strong></p>", Escaped(notice))?;
        }
        f.write_str("<table>\n<tr><th>Cluster</th><th>Gateway</th><th>Backup service</th>")?;
        f.write_str("<th>Partitions</th><th>ProtectionState</th></tr>\n")?;
        for view in self.views {
            self.write_cluster(view, f)?;
        }
        f.write_str("</table>\n")?;
        self.views
            .iter()
            .try_for_each(|view| write_selection(view, f))?;
        write!(
            f,
            "<ul>\n<li><a href=\"{}\">Metrics</a></li>\n\
             <li><a href=\"/api/v1/partitions\">Partitions as JSON</a></li>\n\
             <li><a href=\"/-/healthy\">Health</a> and <a href=\"/-/ready\">readiness</a></li>\n\
             </ul>\n<p>Version {}, revision {}, rustc {}</p>\n</main>\n</body>\n</html>\n",
            Escaped(self.telemetry_path),
            Escaped(build.version),
            Escaped(build.revision),
            Escaped(build.rustc),
        )
    }
}

impl Landing<'_> {
    fn write_cluster(&self, view: &ClusterView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = &view.snapshot;
        let status = &snapshot.status;
        let gateway = match (status.up, &status.version) {
            (None, _) => "not asked yet".to_owned(),
            (Some(false), _) => "not reachable, or refuses the exporter".to_owned(),
            (Some(true), Some(version)) => format!("up, version {version}"),
            (Some(true), None) => "up".to_owned(),
        };
        let service = match status.service_up {
            None => "unknown",
            Some(true) => "answers",
            Some(false) => "absent, unreachable, or refuses the exporter",
        };
        let mut counts: BTreeMap<ProtectionState, usize> = BTreeMap::new();
        for known in snapshot.partitions.values() {
            let facts = known.facts(snapshot);
            let state = evaluate(&facts, &view.rules, self.now).state;
            *counts.entry(state).or_default() += 1;
        }
        write!(
            f,
            "<tr><td>{}</td><td>{}</td><td>{service}</td><td>{}</td><td>",
            Escaped(&snapshot.cluster),
            Escaped(&gateway),
            snapshot.partitions.len(),
        )?;
        for (state, count) in counts {
            write!(f, "{count} {}<br>", state.as_str())?;
        }
        f.write_str("</td></tr>\n")
    }
}

/// Warns of selectors that match nothing, and of a cluster without partitions.
fn write_selection(view: &ClusterView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let snapshot = &view.snapshot;
    let Some(selection) = &snapshot.status.selection else {
        return Ok(());
    };
    let cluster = Escaped(&snapshot.cluster);
    if let Some(reason) = selection.value.empty {
        writeln!(
            f,
            "<p><strong>Cluster {cluster}: no partition is watched, because {}.</strong></p>",
            Escaped(reason.as_str())
        )?;
    }
    let unmatched: Vec<_> = selection.value.unmatched.iter().collect();
    if !unmatched.is_empty() {
        writeln!(
            f,
            "<p><strong>Cluster {cluster}: selectors match nothing: {}.</strong></p>",
            Escaped(&listed(&unmatched))
        )?;
    }
    Ok(())
}

/// Text that stands in HTML as itself.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
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
    fn the_policy_allows_the_style_of_the_page_and_no_script() {
        let (_, after) = HEAD.split_once("<style>").unwrap();
        let (style, rest) = after.split_once("</style>").unwrap();
        let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
        let [(_, policy), ..] = headers::PAGE;
        assert!(
            policy.contains(&format!("style-src 'sha256-{hash}'")),
            "{hash}"
        );
        assert!(!policy.contains("script") && policy.starts_with("default-src 'none'"));
        assert!(!rest.contains("style") && !rest.contains("<script"));
    }

    #[test]
    fn what_comes_from_elsewhere_is_escaped() {
        let text = Escaped("<script>\"a\" & 'b'</script>").to_string();
        assert_eq!(
            text,
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;"
        );
    }
}
