//! Web configurations, good ones and bad ones, and the full text of what is wrong with the bad.
//!
//! `tests/web-config/NAME.bad.yml` stands beside `NAME.bad.txt`. The files that they name are made
//! for each run. The word `hunter2` marks secrets, which no message may repeat.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use servicefabric_backup_exporter::settings::web::{ClientAuth, WebConfig};
use tempfile::TempDir;

const FOLDER: &str = "tests/web-config";

/// What the configurations name.
fn named_files() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let [key, other] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let certificate = params.self_signed(&key).unwrap().pem();
    write("ca.pem", &certificate);
    write("server.crt", &certificate);
    write("server.key", &key.serialize_pem());
    write("other.key", &other.serialize_pem());
    write("empty.pem", "");
    let block = |label: &str, text: &str| {
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    write("damaged.crt", &block("CERTIFICATE", "aHVudGVyMg=="));
    write("damaged.key", &block("PRIVATE KEY", "aHVudGVyMg=="));
    let encrypted = block("ENCRYPTED PRIVATE KEY", "aHVudGVyMg==");
    write("encrypted.key", &encrypted);
    folder
}

/// Names of the files that end so, without that end.
fn files(end: &str) -> BTreeSet<String> {
    fs::read_dir(FOLDER)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(end).map(str::to_owned)
        })
        .collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(FOLDER).join(file)).unwrap()
}

fn load(folder: &TempDir, name: &str) -> Result<WebConfig, String> {
    let path = folder.path().join(name);
    fs::write(&path, read(name)).unwrap();
    let place = format!("{}/", folder.path().display());
    WebConfig::load(&path).map_err(|error| error.to_string().replace(&place, ""))
}

/// What is wrong with a bad file, as its golden file has it.
fn told(folder: &TempDir, name: &str) -> String {
    let error = load(folder, &format!("{name}.bad.yml")).expect_err(name);
    format!("{error}\n")
}

#[test]
fn good_files_are_accepted() {
    let (folder, good) = (named_files(), files(".good.yml"));
    assert!(good.len() >= 6);
    for name in good {
        load(&folder, &format!("{name}.good.yml")).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn files_that_windows_tools_save_are_read() {
    let text = read("tls.good.yml");
    for encoding in 0..3 {
        let folder = named_files();
        let path = |name: &str| folder.path().join(name);
        for name in ["ca.pem", "server.crt", "server.key"] {
            let text = fs::read_to_string(path(name)).unwrap();
            fs::write(
                path(name),
                &crate::support::encodings::saved_by_windows(&text)[encoding],
            )
            .unwrap();
        }
        let file = path("web.yml");
        fs::write(
            &file,
            &crate::support::encodings::saved_by_windows(&text)[encoding],
        )
        .unwrap();
        let config = WebConfig::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert!(config.tls.is_some());
    }
}

#[test]
fn everything_wrong_with_a_bad_file_is_told_on_one_line_each_without_a_secret() {
    let (folder, bad) = (named_files(), files(".bad.yml"));
    assert_eq!(bad, files(".bad.txt"), "each bad file has its golden file");
    for name in bad {
        let (told, golden) = (told(&folder, &name), format!("{name}.bad.txt"));
        if crate::support::bless::bless() {
            fs::write(Path::new(FOLDER).join(&golden), &told).unwrap();
        }
        assert_eq!(told, read(&golden), "{name}");
        for line in told.lines() {
            let place = line.strip_prefix(&format!("{name}.bad.yml:")).expect(line);
            let mut parts = place.splitn(3, ':');
            assert!(parts.next().unwrap().parse::<u64>().unwrap() > 0, "{line}");
            assert!(parts.next().unwrap().parse::<u64>().unwrap() > 0, "{line}");
            assert!(
                !line.contains("hunter2") && !line.contains("aHVudGVyMg"),
                "{line}"
            );
        }
    }
}

#[test]
fn every_key_is_read() {
    let folder = named_files();
    let config = load(&folder, "everything.good.yml").unwrap();
    assert!(config.tls.is_none() && !config.is_empty);
    let headers: Vec<_> = config
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(
        headers,
        [
            "strict-transport-security: max-age=31536000; includeSubDomains",
            "x-content-type-options: nosniff",
            "x-frame-options: sameorigin",
            "x-xss-protection: 1",
            "content-security-policy: default-src 'self' *.example.org",
        ]
    );
    assert_eq!(config.users.keys().collect::<Vec<_>>(), ["alice", "yes"]);
    let limit = config.rate_limit.unwrap();
    assert_eq!((limit.interval.as_secs(), limit.burst), (90, 20));
    let tls = load(&folder, "tls.good.yml").unwrap().tls.unwrap();
    assert_eq!(tls.clients.auth, ClientAuth::RequireAndVerify);
    assert_eq!(tls.clients.trusted.len(), 1);
    assert!(tls.clients.trusted[0].authority.is_some());
    assert_eq!(tls.clients.allowed_sans.unwrap(), ["scraper.example.org"]);
    assert_eq!((tls.versions.len(), tls.suites.len()), (2, 9));
    assert_eq!((tls.curves.len(), tls.prefer_server_suites), (3, true));
}

#[test]
fn what_is_left_out_has_the_default_of_the_toolkit() {
    let config = load(&named_files(), "empty.good.yml").unwrap();
    assert!(config.is_empty && config.tls.is_none());
    assert!(config.headers.is_empty() && config.users.is_empty());
    assert_eq!(config.rate_limit, None);
    let tls = load(&named_files(), "without-authorities.good.yml").unwrap();
    let tls = tls.tls.unwrap();
    assert_eq!(tls.clients.auth, ClientAuth::RequireAny);
    assert_eq!((tls.versions.len(), tls.suites.len()), (2, 9));
    assert_eq!((tls.curves.len(), tls.prefer_server_suites), (3, true));
}

fn check_config(folder: &TempDir, config: &str, web: &str) -> Output {
    let [file, web_file] = ["exporter.yml", "web.yml"].map(|name| folder.path().join(name));
    fs::write(&file, config).unwrap();
    fs::write(&web_file, web).unwrap();
    Command::new(env!("CARGO_BIN_EXE_servicefabric-backup-exporter"))
        .arg("check-config")
        .env("SFBE_CONFIG_FILE", &file)
        .env("SFBE_WEB_CONFIG_FILE", &web_file)
        .output()
        .unwrap()
}

const GOOD: &str = "clusters: [{name: prod, endpoints: ['http://127.0.0.1:1']}]";

#[test]
fn check_config_names_the_faults_of_both_files() {
    let folder = named_files();
    let good = check_config(&folder, GOOD, "");
    assert_eq!(good.status.code(), Some(0));
    let told = String::from_utf8(good.stdout).unwrap();
    assert_eq!(told.matches(": no fault found\n").count(), 2, "{told}");
    let unverified = "tls_server_config: {cert_file: server.crt, key_file: server.key, \
                      client_auth_type: VerifyClientCertIfGiven}";
    let warned = check_config(&folder, GOOD, unverified);
    assert_eq!(warned.status.code(), Some(0));
    let told = String::from_utf8(warned.stdout).unwrap();
    assert!(told.starts_with("warning: "), "{told}");
    assert!(told.contains("web.yml: certificates of clients"), "{told}");
    let bad = check_config(&folder, "clusters: 1", "basic_auth_users: {a: hunter2}");
    assert_eq!(bad.status.code(), Some(64));
    let told = String::from_utf8(bad.stderr).unwrap();
    assert!(told.contains("exporter.yml:1:11: clusters: "), "{told}");
    assert!(
        told.contains("web.yml:1:23: basic_auth_users.a: "),
        "{told}"
    );
    assert!(!told.contains("hunter2"), "{told}");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(
        key in "(cert|key|client_ca|cert_file|min_version|cipher_suites|client_allowed_sans)",
        value in any::<String>(),
    ) {
        let value = serde_json::to_string(&value).unwrap();
        for text in [
            format!("tls_server_config: {{{key}: {value}}}"),
            format!("basic_auth_users: {{{value}: {value}}}"),
            format!("http_server_config: {{headers: {{X-XSS-Protection: {value}}}}}"),
            format!("rate_limit: {{interval: {value}, burst: {value}}}"),
        ] {
            if let Err(error) = WebConfig::parse(&text, Path::new("web.yml")) {
                for line in error.to_string().lines() {
                    prop_assert!(line.starts_with("web.yml:"), "{line}");
                }
            }
        }
    }
}
