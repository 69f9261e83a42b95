//! Documents say what the code says: metric names, types, labels and help come from the catalogue,
//! and the tree keeps to its own budgets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use servicefabric_backup_exporter::exposition::{Family, families};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Files below `folder` whose names end with one of `endings`.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found
}

/// The line of a family in the reference.
fn row(family: &Family) -> String {
    let labels: Vec<String> = family
        .labels
        .iter()
        .map(|label| format!("`{label}`"))
        .collect();
    format!(
        "| `{}` | {} | {} | {} |",
        family.name,
        family.kind.as_str(),
        labels.join(" "),
        family.help
    )
}

#[test]
fn the_reference_has_exactly_the_families_of_the_catalogue_in_its_order() {
    let reference = read("docs/metrics.md");
    let rows = reference.lines().filter(|line| line.starts_with("| `"));
    let rows =
        rows.filter(|line| line.contains("servicefabric_backup_") || line.contains("`process_"));
    let expected: Vec<String> = families().map(row).collect();
    assert_eq!(
        rows.collect::<Vec<_>>(),
        expected,
        "write into docs/metrics.md:\n{}\n",
        expected.join("\n")
    );
}

#[test]
fn every_metric_name_in_a_document_is_in_the_catalogue() {
    let mut documents = files("docs", &[".md"]);
    documents.extend(files("deploy", &[".yml", ".yaml", ".md"]));
    documents.push(root().join("README.md"));
    let suffixes = ["", "_bucket", "_sum", "_count"];
    let known: BTreeSet<String> = families()
        .flat_map(|family| suffixes.map(|suffix| format!("{}{suffix}", family.name)))
        .collect();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for word in words.filter(|word| word.starts_with("servicefabric_backup_")) {
            let is_prefix = word.ends_with('_') || word == "servicefabric_backup_exporter";
            assert!(
                is_prefix || known.contains(word),
                "{}: {word}",
                document.display()
            );
        }
    }
}

/// The lines of a source file before its tests.
fn product_lines(text: &str) -> Vec<&str> {
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .collect()
}

#[test]
fn no_source_file_is_longer_than_a_reader_can_hold() {
    for path in files("src", &[".rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        let tests = path.file_name().is_some_and(|name| name == "tests.rs");
        let length = product_lines(&text).len();
        assert!(
            tests || length <= 350,
            "{} has {length} lines",
            path.display()
        );
    }
}

#[test]
fn every_module_says_what_it_is_responsible_for() {
    for path in files("src", &[".rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        let tests = path.file_name().is_some_and(|name| name == "tests.rs");
        assert!(tests || text.starts_with("//! "), "{}", path.display());
    }
}
