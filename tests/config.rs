//! Configuration files, good ones and bad ones, and the full text of what is wrong with the bad.
//!
//! `tests/config/NAME.bad.yml` stands beside `NAME.bad.txt`; the word `hunter2` marks secrets,
//! which no message may repeat.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::encodings::saved_by_windows;
use proptest::prelude::*;
use servicefabric_backup_exporter::settings::{Config, States};

const FOLDER: &str = "tests/config";

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

fn parse(file: &str) -> Result<Config, String> {
    Config::parse(&read(file), Path::new(file)).map_err(|error| error.to_string())
}

/// What is wrong with a bad file, as its golden file has it.
fn told(name: &str) -> String {
    let error = parse(&format!("{name}.bad.yml")).expect_err(name);
    format!("{error}\n")
}

#[test]
fn good_files_are_accepted() {
    let good = files(".good.yml");
    assert!(good.len() >= 3);
    for name in good {
        parse(&format!("{name}.good.yml")).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn everything_wrong_with_a_bad_file_is_told() {
    let bad = files(".bad.yml");
    assert_eq!(bad, files(".bad.txt"), "each bad file has its golden file");
    for name in bad {
        let (told, golden) = (told(&name), format!("{name}.bad.txt"));
        if crate::support::bless::bless() {
            fs::write(Path::new(FOLDER).join(&golden), &told).unwrap();
        }
        assert_eq!(told, read(&golden), "{name}");
    }
}

#[test]
fn each_fault_is_one_line_with_its_place_and_no_secret() {
    for name in files(".bad.yml") {
        for line in told(&name).lines() {
            let place = line.strip_prefix(&format!("{name}.bad.yml:")).expect(line);
            let mut parts = place.splitn(3, ':');
            assert!(parts.next().unwrap().parse::<u64>().unwrap() > 0, "{line}");
            assert!(parts.next().unwrap().parse::<u64>().unwrap() > 0, "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }
}

#[test]
fn every_key_is_read() {
    let config = parse("everything.good.yml").unwrap();
    assert_eq!(config.poll.interval, Duration::from_secs(120));
    assert_eq!(config.poll.timeout, Duration::from_secs(30));
    assert_eq!(config.poll.concurrency, 4);
    assert_eq!(config.poll.staleness, Duration::from_secs(5400));
    assert_eq!(config.metrics.states, States::Current);
    let [prod, test, stage] = config.clusters.as_slice() else {
        panic!("three clusters: {config:?}");
    };
    assert_eq!(&*prod.name, "prod");
    let endpoints: Vec<_> = prod.endpoints.iter().map(url::Url::as_str).collect();
    assert_eq!(
        endpoints,
        [
            "http://node1:19080/",
            "http://[::1]:19080/",
            "http://node2/"
        ]
    );
    let partitions: Vec<_> = prod.partitions.iter().map(ToString::to_string).collect();
    assert_eq!(
        partitions,
        [
            "1daae3f5-7fd6-42e9-b1ba-8c05f873994d",
            "2daae3f5-7fd6-42e9-b1ba-8c05f873994d"
        ]
    );
    assert!(test.applications.selects("fabric:/Shop2"));
    assert!(test.applications.selects("fabric:/BILLING"));
    assert!(!test.applications.selects("fabric:/ShopTest"));
    assert!(test.services.selects("fabric:/Shop/Orders"));
    assert!(!test.services.selects("fabric:/Shop/Cache"));
    assert_eq!(stage.applications, test.applications);
    assert_ne!(stage.services, test.services);
}

#[test]
fn a_key_without_a_value_is_left_out() {
    let empty = parse("left-out.good.yml").unwrap();
    let absent = parse("smallest.good.yml").unwrap();
    assert_eq!(empty.poll, absent.poll);
    assert_eq!(empty.metrics, absent.metrics);
    assert_eq!(empty.state_file, None);
    let selected = |config: &Config| config.clusters.first().unwrap().applications.clone();
    assert_eq!(selected(&empty), selected(&absent));
    let names: Vec<_> = empty.clusters.iter().map(|c| &*c.name).collect();
    assert_eq!(names, ["5", "yes", "0x10", "null"]);
}

#[test]
fn a_relative_state_file_starts_in_the_folder_of_the_configuration() {
    let state_file = |origin: &str, path: &str| {
        let text = format!("{}state_file: '{path}'\n", read("smallest.good.yml"));
        Config::parse(&text, Path::new(origin)).unwrap().state_file
    };
    let path = |path: &str| Some(PathBuf::from(path));
    assert_eq!(state_file("/etc/x/e.yml", "s.json"), path("/etc/x/s.json"));
    assert_eq!(state_file("/etc/x/e.yml", "/s.json"), path("/s.json"));
    assert_eq!(state_file("e.yml", "s.json"), path("s.json"));
    assert_eq!(state_file("e.yml", ""), None);
}

/// What is wrong with a file of these bytes, with `FILE` for its path.
fn load(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exporter.yml");
    fs::write(&path, bytes).unwrap();
    match Config::load(&path) {
        Ok(_) => "good".to_owned(),
        Err(error) => error.to_string().replace(path.to_str().unwrap(), "FILE"),
    }
}

#[test]
fn a_file_is_read_from_disk() {
    assert_eq!(load(read("smallest.good.yml").as_bytes()), "good");
    assert_eq!(load(b"clusters: []"), told_in("FILE", "clusters: []"));
}

fn told_in(origin: &str, text: &str) -> String {
    Config::parse(text, Path::new(origin))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_missing_file_is_told() {
    let error = Config::load(Path::new("no/such/exporter.yml")).unwrap_err();
    let told = error.to_string();
    assert!(
        told.starts_with("no/such/exporter.yml: the file cannot be read: ")
            && told.ends_with("; check the path and that the exporter may read it"),
        "{told}"
    );
}

#[test]
fn a_file_in_another_encoding_is_told_with_the_place() {
    let told = "the file is not UTF-8 from here on; save it as UTF-8";
    assert_eq!(load(b"# \xc3\xa4\n# b\xe4r\n"), format!("FILE:2:4: {told}"));
    assert_eq!(load(b"\xff\xfea"), format!("FILE:1:1: {told}"));
}

#[test]
fn files_that_windows_tools_save_are_read() {
    for name in ["smallest", "everything", "security"] {
        let text = read(&format!("{name}.good.yml"));
        for bytes in saved_by_windows(&text) {
            assert_eq!(load(&bytes), "good", "{name}");
        }
        let unmarked = text.encode_utf16().flat_map(u16::to_le_bytes);
        assert_eq!(
            load(&unmarked.collect::<Vec<u8>>()),
            "FILE:1:1: the file is binary, or UTF-16 without a byte order mark; save it as UTF-8"
        );
    }
}

#[test]
fn a_fault_has_the_same_place_in_every_encoding() {
    let text = read("unknown-keys.bad.yml");
    for bytes in saved_by_windows(&text) {
        assert_eq!(load(&bytes), told_in("FILE", &text));
    }
}

#[test]
fn a_file_of_more_than_a_mebibyte_is_refused() {
    let mut text = read("smallest.good.yml").into_bytes();
    text.resize(1024 * 1024, b'\n');
    assert_eq!(load(&text), "good");
    text.push(b'\n');
    assert_eq!(
        load(&text),
        "FILE: the file is larger than 1 MiB; is it a configuration?"
    );
}

/// Text that is likelier than most to be nearly a configuration.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "clusters",
        "poll",
        "interval",
        "name",
        "endpoints",
        "include",
        "applications",
        ": ",
        ":",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<",
        "~",
        "60s",
        "1",
        "http://a",
        "# ",
        "|",
        ">",
        "!!int ",
        "? ",
        "---\n",
        "...",
        "\t",
        "%",
        "é",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        if let Err(error) = Config::parse(&text, Path::new("e.yml")) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn each_fault_of_any_text_is_one_line(text in nearly()) {
        if let Err(error) = Config::parse(&text, Path::new("e.yml")) {
            for line in error.to_string().lines() {
                prop_assert!(line.starts_with("e.yml:"), "{line}");
            }
        }
    }
}
