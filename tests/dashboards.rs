//! The dashboards: `dashboards/*.json` match their source, and follow the rules of Grafana's dashboard linter
//! and those of this project.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "dashboards/appearance.rs"]
mod appearance;
#[path = "support/bless.rs"]
mod bless;
#[path = "dashboards/board.rs"]
mod board;
#[path = "dashboards/links.rs"]
mod links;
#[path = "dashboards/linter.rs"]
mod linter;
#[path = "dashboards/palette.rs"]
mod palette;
#[path = "dashboards/project.rs"]
mod project;
#[path = "support/promql.rs"]
mod promql;
#[path = "../dashboards/source/mod.rs"]
mod source;
#[path = "dashboards/violations.rs"]
mod violations;

use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use board::{Board, boards};
use linter::Rule;

#[test]
fn files_match_the_source() {
    let folder = root().join("dashboards");
    for Board { file, json } in boards() {
        let text = format!("{}\n", serde_json::to_string_pretty(&json).unwrap());
        let path = folder.join(file);
        if bless::bless() {
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == text,
            "dashboards/{file} is out of date: run BLESS=1 cargo test --test dashboards"
        );
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn rules() -> impl Iterator<Item = (&'static str, Rule)> {
    linter::RULES.into_iter().chain(project::RULES)
}

#[test]
fn dashboards_follow_all_rules() {
    let mut violations = Vec::new();
    for board in boards() {
        for (name, rule) in rules() {
            let found = rule(&board).into_iter();
            violations.extend(found.map(|violation| format!("{} {name}: {violation}", board.file)));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn colours_are_distinguishable_with_colour_vision_deficiency() {
    let (distance, one, other) = palette::closest(&appearance::PALETTE);
    assert!(distance > 16.0, "{one} and {other}: {distance:.1}");
    let (distance, ..) = palette::closest(&["#999999", "#009E73"]);
    assert!(distance < 16.0, "grey and green: {distance:.1}");
}

#[test]
fn every_rule_detects_its_violations() {
    let fleet = boards().into_iter().next().unwrap();
    for (name, place, value) in violations::VIOLATIONS {
        let mut board = fleet.clone();
        let matchers = r#"job=~"$job", instance=~"$instance", cluster_name=~"$cluster_name""#;
        let value = value.replace("@clusters", matchers);
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        *violations::at(&mut board.json, place) = value;
        let (_, rule) = rules().find(|(known, _)| known == name).unwrap();
        assert!(
            !rule(&board).is_empty(),
            "{name} does not detect the violation at {place}"
        );
    }
    for (name, _) in rules() {
        assert!(
            violations::VIOLATIONS
                .iter()
                .any(|(known, ..)| *known == name),
            "no violation of {name}"
        );
    }
}

#[test]
fn descriptions_link_to_runbooks_of_alerts() {
    let alerts = read("deploy/prometheus/servicefabric-backup.alerts.yml");
    let link = Regex::new(r"\((https://\S+/(docs/runbooks/\w+\.md))\)").unwrap();
    let mut count = 0;
    for Board { file, json } in boards() {
        let json = json.to_string();
        for found in link.captures_iter(&json) {
            let (url, path) = (&found[1], root().join(&found[2]));
            assert!(
                alerts.contains(&format!("runbook_url: {url}")),
                "{file}: {url}"
            );
            assert!(path.exists(), "{file}: {url}");
            count += 1;
        }
    }
    assert!(count > 0, "no links to runbooks");
}

#[test]
fn alerts_link_to_dashboards_with_the_variables_they_set() {
    let alerts = read("deploy/prometheus/servicefabric-backup.alerts.yml");
    let link = Regex::new(r"\bd/(sfbe-\w+)(?:\?(.*))?").unwrap();
    let chosen = Regex::new(r"var-(\w+)=").unwrap();
    let mut count = 0;
    for found in link.captures_iter(&alerts) {
        let board = boards()
            .into_iter()
            .find(|board| board.json["uid"] == found[1]);
        let board = board.unwrap_or_else(|| panic!("there is no {}", &found[1]));
        let query = found.get(2).map_or("", |query| query.as_str());
        for name in chosen.captures_iter(query).map(|found| found[1].to_owned()) {
            let has_variable = board
                .variables()
                .iter()
                .any(|variable| variable["name"] == name);
            assert!(has_variable, "{} has no variable {name}", board.file);
        }
        count += 1;
    }
    assert!(count > 0, "no links to dashboards");
}
