//! The dashboards: what stands in `dashboards/*.json` is what their source says, and keeps the rules
//! of Grafana's dashboard linter and our own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/promql.rs"]
mod promql;
#[path = "../dashboards/source/mod.rs"]
mod source;

use std::path::Path;
use std::{env, fs};

#[test]
fn the_files_are_what_the_source_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    for (name, dashboard) in source::all() {
        let mut text = serde_json::to_string_pretty(&dashboard).unwrap();
        text.push('\n');
        let path = folder.join(name);
        if env::var_os("BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == text,
            "dashboards/{name} is not what its source says; BLESS=1 cargo test --test dashboards writes it"
        );
    }
}
