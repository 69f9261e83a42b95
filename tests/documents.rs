//! Documents match the code: metric names, types, labels and help texts are those of the catalogue,
//! every log message has a row, and links point to existing files and headings. Source files keep
//! the limits of `docs/CONTRIBUTING.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use servicefabric_backup_exporter::exposition::{Family, families};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// All files below `folder` whose names end with one of `endings`.
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

/// The row of a family in `docs/metrics.md`.
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
fn metrics_reference_lists_every_family_in_catalogue_order() {
    let reference = read("docs/metrics.md");
    let rows = reference.lines().filter(|line| line.starts_with("| `"));
    let rows =
        rows.filter(|line| line.contains("servicefabric_backup_") || line.contains("`process_"));
    let expected: Vec<String> = families().map(row).collect();
    assert_eq!(
        rows.collect::<Vec<_>>(),
        expected,
        "expected these rows in docs/metrics.md:\n{}\n",
        expected.join("\n")
    );
}

#[test]
fn documents_mention_only_existing_metrics() {
    let mut documents = files("docs", &[".md"]);
    documents.extend(files("deploy", &[".yml", ".yaml", ".md"]));
    documents.push(root().join("README.md"));
    let suffixes = ["", "_bucket", "_sum", "_count"];
    let known: BTreeSet<String> = families()
        .flat_map(|family| suffixes.map(|suffix| format!("{}{suffix}", family.name)))
        .collect();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        // Names of recorded series contain colons; `tests/rules.rs` checks them.
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

/// The lines of a source file before its test module.
fn product_lines(text: &str) -> Vec<&str> {
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .collect()
}

#[test]
fn source_files_have_at_most_350_lines() {
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
fn every_module_starts_with_a_description() {
    for path in files("src", &[".rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        let tests = path.file_name().is_some_and(|name| name == "tests.rs");
        assert!(tests || text.starts_with("//! "), "{}", path.display());
    }
}

/// The messages that a source file logs with the macro `name`, such as `warn`, with their
/// placeholders.
fn logged(text: &str, name: &str) -> Vec<String> {
    let opening = format!("{name}!(");
    let calls = text.split(&opening).skip(1);
    calls.map(|call| message(call, name)).collect()
}

/// The message of a macro call: the first string argument that is not the value of a field.
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
        assert!(depth >= 0, "{name}! without a message: {call:.100}");
        if !c.is_whitespace() {
            last = c;
        }
    }
    unreachable!("{name}! without a closing parenthesis: {call:.100}");
}

/// The rest of a string literal, without its closing quote; consumes the quote.
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
fn operation_guide_lists_every_warning_and_error() {
    let mut messages = BTreeSet::new();
    for path in files("src", &[".rs"]) {
        // Users of the exporter do not see the log of the simulated cluster.
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
            let (message, explanation) = line.split_at(line.find("` |").unwrap() + 3);
            let filled = explanation
                .split('|')
                .filter(|cell| !cell.trim().is_empty());
            assert_eq!(
                filled.count(),
                2,
                "expected a meaning and an action: {line}"
            );
            message.to_owned()
        })
        .collect();
    let missing: Vec<_> = messages.difference(&rows).collect();
    let stale: Vec<_> = rows.difference(&messages).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/operation.md, \"Warnings and errors in the log\": add a row with meaning and action for \
         each of {missing:#?}; remove the rows {stale:#?}"
    );
}

#[test]
fn log_messages_are_parsed_like_rust_string_literals() {
    let source = r#"
        warn!("plain");
        tracing::warn!(%cluster, error = chain(error), "Cluster {cluster}: \
            \"quoted\": {error}.");
        warn!(cause = "a field", other = f("another", [field]), "the message {}", path.display());
    "#;
    let expected = [
        "plain",
        "Cluster {cluster}: \"quoted\": {error}.",
        "the message {}",
    ];
    assert_eq!(logged(source, "warn"), expected);
}

/// All Markdown documents of the repository.
fn documents() -> Vec<PathBuf> {
    let folders = ["docs", "deploy", "dashboards"];
    let below = folders.iter().flat_map(|folder| files(folder, &[".md"]));
    below.chain([root().join("README.md")]).collect()
}

/// The lines of a Markdown document outside of code blocks.
fn text_lines(text: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push(line);
        }
    }
    lines
}

/// The anchors that GitHub gives to the headings of a document.
fn anchors(text: &str) -> BTreeSet<String> {
    let lines = text_lines(text).into_iter();
    let headings = lines.filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let title = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Whether a file has a heading, or a line as in `#L17`, for the anchor.
fn has_anchor(text: &str, anchor: &str) -> bool {
    let line = anchor.strip_prefix('L').and_then(|line| line.parse().ok());
    let is_line = line.is_some_and(|line: usize| (1..=text.lines().count()).contains(&line));
    is_line || anchors(text).contains(anchor)
}

/// The targets of the inline links in a document.
fn link_targets(text: &str) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let code = Regex::new("`[^`]*`").unwrap();
    let text = text_lines(text).join("\n");
    let text = code.replace_all(&text, "code");
    let targets = link.captures_iter(&text);
    targets.map(|target| target[1].to_owned()).collect()
}

#[test]
fn links_between_documents_point_to_existing_files_and_headings() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for target in link_targets(&text) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let exists = match anchor {
                "" => file.exists(),
                anchor => fs::read_to_string(&file).is_ok_and(|text| has_anchor(&text, anchor)),
            };
            if !exists {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links: {broken:#?}");
}

#[test]
fn document_paths_in_code_and_configuration_exist() {
    let path = Regex::new(r"docs/[\w/-]+\.md").unwrap();
    let folders = ["src", "tests", "benches", "dashboards", "deploy"];
    let endings = [".rs", ".py", ".yml", ".json", ".tmpl"];
    for file in folders.iter().flat_map(|folder| files(folder, &endings)) {
        let text = fs::read_to_string(&file).unwrap();
        for found in path.find_iter(&text) {
            let exists = root().join(found.as_str()).exists();
            assert!(exists, "{}: {}", file.display(), found.as_str());
        }
    }
}

#[test]
fn documentation_index_lists_every_document() {
    let index = read("docs/README.md");
    let listed: BTreeSet<PathBuf> = link_targets(&index)
        .into_iter()
        .map(|target| root().join("docs").join(target))
        .collect();
    // The README of the runbooks lists the runbooks.
    let documents = files("docs", &[".md"]).into_iter();
    let documents = documents.filter(|path| !path.starts_with(root().join("docs/runbooks")));
    for document in documents.filter(|path| *path != root().join("docs/README.md")) {
        assert!(
            listed.contains(&document),
            "docs/README.md: {}",
            document.display()
        );
    }
}
