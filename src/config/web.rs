//! Reads the web configuration file: text → [`WebConfig`].
//!
//! The format is that of the Prometheus exporter toolkit; `docs/web-configuration.md` lists the
//! differences. Errors never show a key or a hash.

mod files;
mod keys;
mod names;
mod pem;
mod values;

use std::path::Path;
use std::time::SystemTime;

use self::files::FileReader;
pub use self::files::FileVersions;
use super::yaml::{self, ConfigError, ConfigErrors, Reader, Value};
use crate::settings::web::WebConfig;

impl WebConfig {
    /// Reads and checks the file at `path` and the files that it names.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_from(path, &mut FileReader::new(path))
    }

    /// Like [`Self::load`]; also returns the versions of these files, which show later changes. They
    /// are returned for an invalid configuration too, because it can be corrected.
    pub fn load_versions(
        path: &Path,
        now: SystemTime,
    ) -> (Result<Self, ConfigErrors>, FileVersions) {
        let mut files = FileReader::new(path);
        let config = Self::load_from(path, &mut files);
        (config, files.into_versions(now))
    }

    fn load_from(path: &Path, files: &mut FileReader) -> Result<Self, ConfigErrors> {
        let text = files.check_regular(path).map_err(ConfigError::unreadable);
        let text = text.and_then(|()| yaml::load(path));
        files.record(&text.as_ref().map_err(ToString::to_string));
        let text = text.map_err(|error| ConfigErrors::new(path, vec![error]))?;
        Self::parse_with(&text, path, files)
    }

    /// Checks `text`, the contents of `file`, and the files that it names. Errors name `file`, and
    /// relative paths start in its directory.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigErrors> {
        Self::parse_with(text, file, &mut FileReader::new(file))
    }

    fn parse_with(text: &str, file: &Path, files: &mut FileReader) -> Result<Self, ConfigErrors> {
        let (config, errors) = interpret(text, files).map_or_else(
            |error| (None, vec![error]),
            |(config, reader)| (Some(config), reader.errors),
        );
        config
            .filter(|_| errors.is_empty())
            .ok_or_else(|| ConfigErrors::new(file, errors))
    }
}

fn interpret(text: &str, files: &mut FileReader) -> Result<(WebConfig, Reader), ConfigError> {
    let root = yaml::parse(text)?;
    let is_empty = matches!(root.value, Value::Null);
    Ok(yaml::read(&root, |s| WebConfig::read(s, is_empty, files)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENTATION: &str = include_str!("../../docs/web-configuration.md");

    #[test]
    fn documentation_has_one_row_per_key() {
        let text = "tls_server_config: {}\nhttp_server_config: {}\nrate_limit: {}\n";
        let (_, reader) = interpret(text, &mut FileReader::new(Path::new("web.yml"))).unwrap();
        let is_section = |key: &String| {
            let below = format!("{key}.");
            reader.known.iter().any(|other| other.starts_with(&below))
        };
        let known: BTreeSet<_> = reader.known.iter().filter(|key| !is_section(key)).collect();
        let rows = DOCUMENTATION.lines();
        let documented: Vec<String> = rows
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(key, _)| key.to_owned())
            .collect();
        assert_eq!(documented.iter().collect::<BTreeSet<_>>(), known);
        assert_eq!(documented.len(), known.len(), "no key has two rows");
    }

    #[test]
    fn documented_errors_are_correct() {
        let text =
            "tls_server_config:\n  cert_filse: server.crt\nbasic_auth_users:\n  alice: secret\n";
        let error = WebConfig::parse(text, Path::new("web.yml")).unwrap_err();
        assert!(DOCUMENTATION.contains(&format!("\n{error}\n")), "{error}");
    }
}
