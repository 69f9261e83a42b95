//! Documents say what the code says: metric names, types, labels and help come from the catalogue,
//! and the tree keeps to its own budgets.

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
        // A recorded series has colons in its name; `tests/rules.rs` checks those.
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
        let words = words.map(|word| word.trim_matches(':'));
        let names = words.filter(|word| word.starts_with("servicefabric_backup_"));
        for word in names.filter(|word| !word.contains(':')) {
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

/// The messages of a macro such as `warn` in a source file, with their placeholders.
fn logged(text: &str, name: &str) -> Vec<String> {
    let opening = format!("{name}!(");
    let calls = text.split(&opening).skip(1);
    calls.map(|call| message(call, name)).collect()
}

/// The first string among the arguments that is no value of a field.
fn message(call: &str, name: &str) -> String {
    let (mut depth, mut last) = (0, '(');
    let mut chars = call.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                let literal = string(&mut chars);
                if depth == 0 && matches!(last, '(' | ',') {
                    return literal;
                }
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        assert!(depth >= 0, "a {name}! without a message: {call:.100}");
        if !c.is_whitespace() {
            last = c;
        }
    }
    unreachable!("a {name}! that does not end: {call:.100}");
}

/// The rest of a string literal, up to and without its end.
fn string(chars: &mut std::str::Chars<'_>) -> String {
    let mut literal = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => {
                    let rest = chars.as_str().trim_start();
                    *chars = rest.chars();
                }
                Some(c) => literal.push(c),
                None => break,
            },
            c => literal.push(c),
        }
    }
    literal
}

#[test]
fn operation_lists_exactly_the_warnings_and_errors_that_the_exporter_logs() {
    let mut messages = BTreeSet::new();
    for path in files("src", &[".rs"]) {
        // The simulated cluster is not the exporter.
        if path.starts_with(root().join("src/simulator")) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = product_lines(&text).join("\n");
        for level in ["warn", "error"] {
            let logged = logged(&text, level).into_iter();
            messages.extend(logged.map(|message| format!("| {level} | `{message}` |")));
        }
    }
    let document = read("docs/operation.md");
    let rows: BTreeSet<String> = document
        .lines()
        .filter(|line| line.starts_with("| warn |") || line.starts_with("| error |"))
        .map(|line| {
            let (cells, advice) = line.split_at(line.find("` |").unwrap() + 3);
            let filled = advice.split('|').filter(|cell| !cell.trim().is_empty());
            assert_eq!(filled.count(), 2, "meaning and what to do: {line}");
            cells.to_owned()
        })
        .collect();
    let missing: Vec<_> = messages.difference(&rows).collect();
    let stale: Vec<_> = rows.difference(&messages).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "in docs/operation.md, \"Warnings and errors in the log\": add a row with the meaning and what \
         to do for each of {missing:#?}, remove the rows {stale:#?}"
    );
}

#[test]
fn messages_are_read_from_source_as_the_compiler_does() {
    let source = r#"
        warn!("plain");
        tracing::warn!(%cluster, error = chain(error), "Cluster {cluster}: \
            \"quoted\": {error}.");
        warn!(cause = "no message", other = f("nor", [this]), "the message {}", path.display());
    "#;
    let expected = [
        "plain",
        "Cluster {cluster}: \"quoted\": {error}.",
        "the message {}",
    ];
    assert_eq!(logged(source, "warn"), expected);
}
