//! The dashboards: what stands in `dashboards/*.json` is what their source says, and keeps the rules
//! of Grafana's dashboard linter and our own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

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
#[path = "support/promql.rs"]
mod promql;
#[path = "../dashboards/source/mod.rs"]
mod source;

use std::path::Path;
use std::{env, fs};

use serde_json::Value;

use board::{Board, boards};
use linter::Rule;

#[test]
fn the_files_are_what_the_source_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    for Board { file, json } in boards() {
        let text = format!("{}\n", serde_json::to_string_pretty(&json).unwrap());
        let path = folder.join(file);
        if env::var_os("BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == text,
            "dashboards/{file} is not what its source says; BLESS=1 cargo test --test dashboards writes it"
        );
    }
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
fn every_rule_finds_what_breaks_it() {
    let fleet = boards().into_iter().next().unwrap();
    for (name, place, value) in broken::BROKEN {
        let mut board = fleet.clone();
        let whole = r#"job=~"$job", instance=~"$instance", cluster_name=~"$cluster_name""#;
        let value = value.replace("@clusters", whole);
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        *board.json.pointer_mut(place).unwrap() = value;
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
