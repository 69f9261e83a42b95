//! Imports point one way: no cycle between the files of `src` and `dashboards/source`, and each top-level module of
//! the library imports only what lies below it.
//!
//! Paths are read from the parsed source, outside of `#[cfg(test)]` and of macro arguments. A re-export (`pub use`) is
//! no dependency: whoever imports the name depends on the file that defines it.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// The top-level modules in layers: everything that each may import. Only modules that import `clock` read the time.
/// The simulator imports nothing of the client, so that one mistake cannot hide in both.
const LAYERS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("file_mode", &[]),
    ("model", &[]),
    ("small_file", &[]),
    ("sync", &[]),
    ("inventory", &["model"]),
    ("logging", &["clock"]),
    ("protection", &["model"]),
    ("simulator", &["clock"]),
    ("cli", &["inventory", "logging"]),
    ("settings", &["inventory", "model"]),
    ("snapshot", &["inventory", "model", "protection"]),
    ("telemetry", &["inventory", "model", "sync"]),
    (
        "cluster_view",
        &["inventory", "model", "protection", "settings", "snapshot"],
    ),
    ("config", &["file_mode", "model", "settings", "small_file"]),
    (
        "gateway",
        &[
            "clock",
            "file_mode",
            "logging",
            "model",
            "settings",
            "small_file",
            "sync",
            "telemetry",
        ],
    ),
    ("state_file", &["model", "protection", "snapshot"]),
    (
        "exposition",
        &[
            "cluster_view",
            "model",
            "protection",
            "settings",
            "snapshot",
            "telemetry",
        ],
    ),
    (
        "poller",
        &[
            "clock",
            "gateway",
            "inventory",
            "logging",
            "model",
            "protection",
            "settings",
            "snapshot",
            "sync",
            "telemetry",
        ],
    ),
    (
        "fleet",
        &[
            "clock",
            "cluster_view",
            "exposition",
            "gateway",
            "inventory",
            "logging",
            "poller",
            "protection",
            "settings",
            "snapshot",
            "telemetry",
        ],
    ),
    (
        "server",
        &[
            "clock",
            "cluster_view",
            "config",
            "exposition",
            "fleet",
            "inventory",
            "logging",
            "model",
            "protection",
            "settings",
            "snapshot",
            "sync",
            "telemetry",
        ],
    ),
    (
        "run",
        &[
            "cli",
            "clock",
            "config",
            "fleet",
            "logging",
            "server",
            "settings",
            "snapshot",
            "state_file",
            "telemetry",
        ],
    ),
    ("demo", &["cli", "clock", "run", "settings", "simulator"]),
];

#[test]
fn library_has_no_import_cycle() {
    assert_no_cycle("src", 100);
}

#[test]
fn dashboard_sources_have_no_import_cycle() {
    assert_no_cycle("dashboards/source", 5);
}

/// Checks a tree of more than `minimum` files, so that an empty one is not without cycles.
fn assert_no_cycle(root: &str, minimum: usize) {
    let tree = SourceTree::read(root);
    let files = tree.dependencies.len();
    assert!(files > minimum, "{files} files");
    assert_eq!(tree.cycles(), Vec::<Vec<String>>::new());
}

#[test]
fn top_level_modules_import_only_what_their_layer_allows() {
    let tree = SourceTree::read("src");
    let top = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, targets) in &tree.dependencies {
        let from = imports.entry(top(module)).or_default();
        from.extend(
            targets
                .iter()
                .map(|target| top(target))
                .filter(|target| *target != top(module)),
        );
    }
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    assert_eq!(
        imports.keys().collect::<Vec<_>>(),
        layers.keys().collect::<Vec<_>>()
    );
    for (module, targets) in &imports {
        let allowed = layers[module.as_str()].iter().map(ToString::to_string);
        let allowed: BTreeSet<_> = allowed.collect();
        assert_eq!(
            targets - &allowed,
            BTreeSet::new(),
            "{module} must not import these"
        );
        assert_eq!(
            &allowed - targets,
            BTreeSet::new(),
            "{module} no longer imports these"
        );
    }
}

#[test]
fn cycles_and_re_exports_are_recognised() {
    let tree = SourceTree::parse(&[
        (
            "a",
            "pub use self::child::Inner; mod child; use crate::b::Thing; mod inline { use super::child::Inner; }",
        ),
        (
            "a::child",
            "use crate::c; #[cfg(test)] mod tests { use crate::b::Thing; }",
        ),
        ("b", "fn f() -> crate::a::Inner { crate::a::Inner }"),
        ("c", "use super::{d::{self, Deep}, std}; use std::fmt;"),
        ("d", "fn f() { let x: crate::b::Thing = g(); }"),
    ]);
    let found = |module: &str| {
        tree.dependencies[module]
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
    };
    assert_eq!(found("a"), ["a::child", "b"]);
    assert_eq!(found("a::child"), ["c"]);
    assert_eq!(
        found("b"),
        ["a::child"],
        "the file that defines the re-exported name"
    );
    assert_eq!(found("c"), ["d"]);
    assert_eq!(tree.cycles(), [["a::child", "b", "c", "d"]]);
}

/// The files of a source tree as modules, and the modules that each depends on.
struct SourceTree {
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl SourceTree {
    fn read(root: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
        let mut files = Vec::new();
        read_folder(&root, &root, &mut files);
        let files: Vec<_> = files
            .iter()
            .map(|(module, text)| (module.as_str(), text.as_str()))
            .collect();
        Self::parse(&files)
    }

    fn parse(files: &[(&str, &str)]) -> Self {
        let modules: BTreeSet<&str> = files.iter().map(|(module, _)| *module).collect();
        let mut re_exports = BTreeMap::new();
        let mut references = Vec::new();
        for (module, text) in files {
            let mut paths = Paths {
                inside: segments(module),
                references: Vec::new(),
                re_exports: Vec::new(),
            };
            paths.visit_file(
                &syn::parse_file(text).unwrap_or_else(|error| panic!("{module}: {error}")),
            );
            for (name, path) in paths.re_exports {
                re_exports.insert((*module, name), path);
            }
            references.push((*module, paths.references));
        }
        let resolver = Resolver {
            modules,
            re_exports,
        };
        let dependencies = references.into_iter().map(|(module, paths)| {
            let targets = paths
                .iter()
                .filter_map(|path| resolver.home(path, 0))
                .filter(|target| target != module);
            (module.to_owned(), targets.collect())
        });
        Self {
            dependencies: dependencies.collect(),
        }
    }

    /// Every group of modules that reach each other.
    fn cycles(&self) -> Vec<Vec<String>> {
        let reachable: BTreeMap<_, _> = self
            .dependencies
            .keys()
            .map(|it| (it.as_str(), self.reachable(it)))
            .collect();
        let mut groups = BTreeSet::new();
        for (module, targets) in &reachable {
            let group: Vec<_> = targets
                .iter()
                .filter(|it| reachable[*it].contains(module))
                .copied()
                .collect();
            if !group.is_empty() {
                groups.insert(group.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>());
            }
        }
        groups.into_iter().collect()
    }

    fn reachable(&self, module: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open = vec![module];
        while let Some(next) = open.pop() {
            for target in &self.dependencies[next] {
                if found.insert(target.as_str()) {
                    open.push(target);
                }
            }
        }
        found
    }
}

/// Collects `(module, text)` of every file below `folder`, without files of tests.
fn read_folder(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            read_folder(root, &path, files);
        } else if path.extension().is_some_and(|it| it == "rs")
            && !["build", "lib", "main"].contains(&name)
        {
            let module = path.strip_prefix(root).unwrap().with_extension("");
            let module = module.to_str().unwrap().replace('/', "::");
            let module = if name == "mod" { String::new() } else { module };
            files.push((module, fs::read_to_string(&path).unwrap()));
        }
    }
}

fn segments(module: &str) -> Vec<String> {
    module
        .split("::")
        .filter(|it| !it.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

/// Collects the paths of a file, each from the root of the crate where that can be known.
struct Paths {
    /// Path of the module that is visited, inline modules included.
    inside: Vec<String>,
    references: Vec<Vec<String>>,
    re_exports: Vec<(String, Vec<String>)>,
}

impl Paths {
    fn absolute(&self, path: &[String]) -> Vec<String> {
        let mut base = self.inside.clone();
        let mut rest = path;
        loop {
            match rest.first().map(String::as_str) {
                Some("crate") => base.clear(),
                Some("self") => {}
                Some("super") => _ = base.pop(),
                _ => break,
            }
            rest = &rest[1..];
        }
        base.extend_from_slice(rest);
        base
    }

    fn flatten(&mut self, tree: &UseTree, prefix: &[String], exported: bool) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        let (path, name) = match tree {
            UseTree::Path(path) => return self.flatten(&path.tree, &with(&path.ident), exported),
            UseTree::Group(group) => {
                return group
                    .items
                    .iter()
                    .for_each(|it| self.flatten(it, prefix, exported));
            }
            UseTree::Name(name) if name.ident == "self" => {
                (prefix.to_vec(), prefix.last().cloned().unwrap_or_default())
            }
            UseTree::Name(name) => (with(&name.ident), name.ident.to_string()),
            UseTree::Rename(rename) => (with(&rename.ident), rename.rename.to_string()),
            UseTree::Glob(_) => (prefix.to_vec(), "*".to_owned()),
        };
        let path = self.absolute(&path);
        if exported {
            self.re_exports.push((name, path));
        } else {
            self.references.push(path);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(it) => &it.attrs,
            Item::Fn(it) => &it.attrs,
            Item::Impl(it) => &it.attrs,
            Item::Use(it) => &it.attrs,
            _ => &[],
        };
        if !attributes.iter().any(is_test_only) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.inside.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.inside.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.flatten(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    /// `pub(in crate::gateway)` is no dependency.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path
            .segments
            .iter()
            .map(|it| it.ident.to_string())
            .collect();
        if names.len() > 1 {
            self.references.push(self.absolute(&names));
        }
        visit::visit_path(self, path);
    }
}

fn is_test_only(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Ident>()
            .is_ok_and(|it| it == "test")
}

struct Resolver<'a> {
    modules: BTreeSet<&'a str>,
    re_exports: BTreeMap<(&'a str, String), Vec<String>>,
}

impl Resolver<'_> {
    /// The module that defines what a path names; `None` for names of other crates.
    fn home(&self, path: &[String], depth: usize) -> Option<String> {
        assert!(depth < 16, "re-exports in a circle at {path:?}");
        let (module, length) = (0..=path.len())
            .rev()
            .map(|length| (path[..length].join("::"), length))
            .find(|(module, _)| self.modules.contains(module.as_str()))?;
        let re_exported = path
            .get(length)
            .and_then(|name| self.re_exports.get(&(module.as_str(), name.clone())));
        match re_exported {
            Some(target) => self.home(target, depth + 1),
            None => Some(module),
        }
    }
}
