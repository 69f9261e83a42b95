//! The dashboards: what stands in `dashboards/*.json` is what their source says, and keeps the rules
//! of Grafana's dashboard linter and our own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/bless.rs"]
mod bless;
#[path = "dashboards/board.rs"]
mod board;
#[path = "dashboards/broken.rs"]
mod broken;
#[path = "dashboards/house.rs"]
mod house;
#[path = "dashboards/links.rs"]
mod links;
#[path = "dashboards/linter.rs"]
mod linter;
#[path = "dashboards/look.rs"]
mod look;
#[path = "dashboards/palette.rs"]
mod palette;
#[path = "support/promql.rs"]
mod promql;
#[path = "../dashboards/source/mod.rs"]
mod source;

use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use board::{Board, boards};
use linter::Rule;

#[test]
fn the_files_are_what_the_source_says() {
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
            "dashboards/{file} is not what its source says; BLESS=1 cargo test --test dashboards writes it"
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
    linter::RULES.into_iter().chain(house::RULES)
}

#[test]
fn no_dashboard_breaks_a_rule() {
    let mut faults = Vec::new();
    for board in boards() {
        for (name, rule) in rules() {
            let found = rule(&board).into_iter();
            faults.extend(found.map(|fault| format!("{} {name}: {fault}", board.file)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_colour_blind_can_tell_every_colour_from_all_others() {
    let (distance, one, other) = palette::closest(&look::PALETTE);
    assert!(distance > 16.0, "{one} and {other}: {distance:.1}");
    let (distance, ..) = palette::closest(&["#999999", "#009E73"]);
    assert!(distance < 16.0, "grey and green: {distance:.1}");
}

#[test]
fn every_rule_finds_what_breaks_it() {
    let fleet = boards().into_iter().next().unwrap();
    for (name, place, value) in broken::BROKEN {
        let mut board = fleet.clone();
        let whole = r#"job=~"$job", instance=~"$instance", cluster_name=~"$cluster_name""#;
        let value = value.replace("@clusters", whole);
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        *broken::at(&mut board.json, place) = value;
        let (_, rule) = rules().find(|(known, _)| known == name).unwrap();
        assert!(
            !rule(&board).is_empty(),
            "{name} does not see what is wrong at {place}"
        );
    }
    for (name, _) in rules() {
        assert!(
            broken::BROKEN.iter().any(|(known, ..)| *known == name),
            "nothing breaks {name}"
        );
    }
}

#[test]
fn descriptions_lead_to_the_runbooks_of_alerts() {
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
    assert!(count > 0, "dashboards lead to no runbook");
}

#[test]
fn alerts_lead_to_dashboards_that_ask_for_what_they_choose() {
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
            let is_asked = board
                .variables()
                .iter()
                .any(|variable| variable["name"] == name);
            assert!(is_asked, "{} does not ask for {name}", board.file);
        }
        count += 1;
    }
    assert!(count > 0, "alerts lead to no dashboard");
}
