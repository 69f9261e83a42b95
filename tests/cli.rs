//! Arguments and exit codes: 0 done, 1 failed, 64 wrong configuration or arguments.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
#[cfg(target_os = "linux")]
use std::process::Stdio;

use crate::support::encodings::saved_by_windows;
use serde_json::Value;
use servicefabric_backup_exporter::logging::{self, Format, Level};
use tempfile::TempDir;

const GOOD: &str = "clusters: [{name: test, endpoints: ['http://127.0.0.1:1']}]\n";

/// What a finished run left.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the program, which must end by itself, in a folder with `good.yml` and `bad.yml`.
fn run(arguments: &[&str]) -> Ended {
    let folder = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_servicefabric-backup-exporter"))
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bad = "poll: {interval: 60, timout: 5s}\nclusters: [{name: test}]\n";
    fs::write(folder.path().join("good.yml"), GOOD).unwrap();
    fs::write(folder.path().join("bad.yml"), bad).unwrap();
    folder
}

/// A run that ends with `code` and says all of `told` on standard error.
fn assert_fails(arguments: &[&str], code: i32, told: &[&str]) {
    let ended = run(arguments);
    assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
    for part in told {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
    assert_eq!(ended.stdout, "", "{arguments:?}");
}

#[test]
fn arguments_that_do_not_exist_are_wrong_usage() {
    assert_fails(&["--no-such-flag"], 64, &["--no-such-flag", "--help"]);
    assert_fails(&["no-such-command"], 64, &["no-such-command", "--help"]);
    for value in ["--log.level=loud", "--web.max-requests=0", "--shard=x"] {
        let (flag, _) = value.split_once('=').unwrap();
        assert_fails(&[value], 64, &[flag]);
    }
    assert_fails(&["--web.telemetry-path=/-/ready"], 64, &["/-/ready"]);
}

#[test]
fn a_configuration_that_cannot_be_used_is_wrong_usage_and_every_fault_is_told() {
    for command in [&[][..], &["check-config"]] {
        let missing = [command, &["--config.file=missing.yml"]].concat();
        assert_fails(&missing, 64, &["missing.yml: the file cannot be read"]);
        let bad = [command, &["--config.file=bad.yml"]].concat();
        let faults = [
            "bad.yml:1:18: poll.interval",
            "bad.yml:1:22: poll.timout",
            "bad.yml:2:12: clusters[0].endpoints",
        ];
        assert_fails(&bad, 64, &faults);
        assert_eq!(run(&bad).stderr.lines().count(), 3);
    }
}

#[test]
fn a_good_configuration_is_checked_without_opening_a_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("--web.listen-address={}", taken.local_addr().unwrap());
    let ended = run(&["check-config", "--config.file=good.yml", &address]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "good.yml: no fault found\n");
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_state_file_that_cannot_be_written_is_wrong_usage_of_check_config() {
    let folder = folder();
    let config = folder.path().join("remembers.yml");
    let flag = format!("--config.file={}", config.display());
    let check = |state_file: &str| {
        fs::write(&config, format!("state_file: {state_file}\n{GOOD}")).unwrap();
        run(&["check-config", &flag])
    };
    for (state_file, told) in [
        ("no/such/state.json", "does not exist: create it"),
        (".", "is a folder, not a regular file: name a file"),
        (
            "good.yml/state.json",
            "let the user of the exporter write to the folder",
        ),
    ] {
        let ended = check(state_file);
        assert_eq!(ended.code, Some(64), "{ended:?}");
        assert!(
            ended.stderr.contains("state_file") && ended.stderr.contains(told),
            "{ended:?}"
        );
        assert_eq!(ended.stdout, "");
    }
    let before = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(check("state.json").code, Some(0));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        before,
        "no trace"
    );
}

#[test]
fn help_and_version_are_answers() {
    for flag in ["--version", "-V"] {
        let version = run(&[flag]);
        assert_eq!(version.code, Some(0));
        let expected = concat!(
            "servicefabric-backup-exporter ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        );
        assert_eq!((&*version.stdout, &*version.stderr), (expected, ""));
    }
    let help = run(&["--help"]);
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
    for part in [
        "check-config",
        "demo",
        "simulate",
        "--config.file",
        "SFBE_SHARD",
    ] {
        assert!(help.stdout.contains(part), "{part}: {}", help.stdout);
    }
}

#[test]
fn a_simulated_gateway_takes_no_web_configuration() {
    let arguments = ["simulate", "--web.config.file=web.yml"];
    assert_fails(&arguments, 64, &["leave --web.config.file out"]);
}

/// The start and `check-config` with `good.yml` and `flags` both fail with `code`.
fn assert_rejected(flags: &[&str], code: i32, told: &[&str]) {
    for command in [
        &["--config.file=good.yml"][..],
        &["check-config", "--config.file=good.yml"],
    ] {
        assert_fails(&[command, flags].concat(), code, told);
    }
}

#[test]
fn a_shard_that_does_not_exist_is_rejected_by_the_start_and_the_check() {
    let address = "--web.listen-address=127.0.0.1:0";
    for (shard, total) in [("3", "3"), ("0", "0")] {
        let shard = format!("--shard={shard}");
        let total = format!("--total-shards={total}");
        assert_rejected(&[address, &shard, &total], 64, &[&shard, &total]);
    }
}

#[test]
fn a_malformed_listen_address_is_rejected_by_the_start_and_the_check() {
    for address in ["19180", "host:port", "127.0.0.1:65536", "[::1"] {
        let flag = format!("--web.listen-address={address}");
        assert_rejected(&[&flag], 64, &["--web.listen-address", address]);
    }
}

#[test]
fn listen_addresses_that_overlap_are_rejected_by_the_start_and_the_check() {
    for (one, other) in [
        (":19181", ":19181"),
        (":19181", "127.0.0.1:19181"),
        ("[::1]:19181", ":19181"),
        ("127.0.0.1:19181", "localhost:19181"),
        ("127.0.0.1:19181", "0.0.0.0:19181"),
    ] {
        let one = format!("--web.listen-address={one}");
        let other = format!("--web.listen-address={other}");
        assert_rejected(&[&one, &other], 64, &["overlap; specify each address once"]);
    }
    for (one, other) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:19181", ":19182"),
    ] {
        let one = format!("--web.listen-address={one}");
        let other = format!("--web.listen-address={other}");
        let ended = run(&["check-config", "--config.file=good.yml", &one, &other]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn a_listen_address_that_does_not_resolve_is_rejected_by_the_start_and_the_check() {
    let flag = "--web.listen-address=no-such-host.invalid:19180";
    assert_rejected(
        &[flag],
        1,
        &["cannot resolve the listen address `no-such-host.invalid`"],
    );
}

#[test]
fn a_state_file_that_is_a_configuration_file_is_rejected_and_left_alone() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for state_file in ["own.yml", "../web.yml", "./web.yml"] {
        let nested = folder.path().join("nested");
        fs::create_dir_all(&nested).unwrap();
        let own = path("nested/own.yml");
        let state_file = match state_file {
            "./web.yml" => path("web.yml"),
            other => other.to_owned(),
        };
        let text = format!("{GOOD}state_file: '{state_file}'\n");
        fs::write(&own, &text).unwrap();
        fs::write(path("web.yml"), "").unwrap();
        let config = format!("--config.file={own}");
        let web = format!("--web.config.file={}", path("web.yml"));
        for command in [&[][..], &["check-config"]] {
            let arguments = [
                command,
                &[&config, &web, "--web.listen-address=127.0.0.1:0"],
            ];
            assert_fails(
                &arguments.concat(),
                64,
                &["own.yml: state_file: the exporter would"],
            );
        }
        assert_eq!(fs::read_to_string(&own).unwrap(), text);
    }
}

#[test]
fn a_token_file_that_holds_more_than_the_token_is_warned_about_with_the_fix() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let cluster = "clusters: [{name: a, endpoints: ['https://a'], auth: {token_file: token}}]";
    fs::write(path("token.yml"), cluster).unwrap();
    let config = format!("--config.file={}", path("token.yml").display());
    for (text, fix) in [
        ("\"hunter2\"\n", Some("remove the quotes")),
        ("{\"access_token\": \"hunter2\"}", Some("holds JSON")),
        ("hunter2\n\n", None),
    ] {
        for contents in saved_by_windows(text) {
            fs::write(path("token"), contents).unwrap();
            let ended = run(&["check-config", &config]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let warning = ended
                .stdout
                .lines()
                .find(|line| line.starts_with("warning: ") && !line.contains("every local user"));
            assert_eq!(warning.is_some(), fix.is_some(), "{ended:?}");
            assert!(
                warning
                    .unwrap_or_default()
                    .contains(fix.unwrap_or_default()),
                "{ended:?}"
            );
            assert!(!ended.stdout.contains("hunter2"), "{ended:?}");
        }
    }
}

#[test]
fn valid_settings_that_are_probably_wrong_are_warned_about() {
    let folder = folder();
    let file = folder.path().join("doubtful.yml");
    let cluster = |name: &str, rest: &str| {
        format!("- {{name: {name}, endpoints: ['http://{name}:1'], {rest}}}\n")
    };
    let text = [
        "clusters:\n".to_owned(),
        cluster(
            "a",
            "applications: {include: ['Shop']}, services: {exclude: ['.*/Cache']}",
        ),
        cluster("b", "collectors: {configuration: false}"),
        cluster("c", "collectors: {policies: false}"),
        cluster("d", "collectors: {health: false, backups: false}"),
        cluster("e", "collectors: {progress: false}, expected_interval: 1d"),
        cluster(
            "f",
            "partitions: [1daae3f5-7fd6-42e9-b1ba-8c05f873994d], services: {exclude: [a]}",
        ),
        cluster("g", "services: {exclude: ['fabric:/A/.*']}").replace("http://g", "http://A."),
    ];
    fs::write(&file, text.concat()).unwrap();
    let config = format!("--config.file={}", file.display());
    let ended = run(&["check-config", &config]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warnings: Vec<_> = ended
        .stdout
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect();
    assert_eq!(
        warnings,
        [
            "warning: Cluster a: applications.include: \"Shop\" never matches, because every name \
             starts with fabric:/; write \"fabric:/Shop\".",
            "warning: Cluster b: collectors.configuration is off and there is no \
             expected_interval, so the verdict on every partition is Unknown.",
            "warning: Cluster c: collectors.policies is off, so the verdict on every partition \
             under a policy is Unknown.",
            "warning: Cluster d: collectors.health, backups and history are off, so the verdict \
             on every partition under a policy is Unknown.",
            "warning: Cluster e: collectors.progress is off, so the verdict on every partition \
             without a policy is Unknown in spite of expected_interval.",
            "warning: Cluster f: applications and services have no effect beside a list of \
             partitions.",
            "warning: Cluster g: its endpoint http://a.:1/ is also one of cluster a; partitions \
             that both select are watched twice.",
        ]
    );
}

#[test]
fn a_listen_address_that_is_taken_is_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let flag = format!("--web.listen-address={address}");
    for command in [&["--config.file=good.yml"][..], &["demo"], &["simulate"]] {
        let arguments = [command, &[&flag]].concat();
        assert_fails(&arguments, 1, &["cannot listen on", &address]);
    }
}

/// A line of the log as its keys and values; panics when it is no such line.
fn parsed(line: &str, format: &str) -> Vec<(String, String)> {
    if format == "json" {
        let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let pairs = object.iter();
        return pairs
            .map(|(key, value)| {
                (
                    key.clone(),
                    text(value).unwrap_or_else(|| value.to_string()),
                )
            })
            .collect();
    }
    let mut pairs = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').expect(line);
        let (value, after) = if after.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            let value = values.next().unwrap().unwrap();
            (value, after.split_at(values.byte_offset()).1)
        } else {
            let (value, after) = after.split_once(' ').unwrap_or((after, ""));
            (value.to_owned(), after)
        };
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    pairs
}

/// The value of a key that stands once.
fn value<'a>(pairs: &'a [(String, String)], key: &str) -> &'a str {
    let mut found = pairs.iter().filter(|(name, _)| name == key);
    let (_, value) = found.next().expect(key);
    assert!(found.next().is_none(), "{key} twice: {pairs:?}");
    value
}

/// A line with the keys of every line, of this level; returns its message.
fn message(line: &str, format: &str, level: &str) -> String {
    let pairs = parsed(line, format);
    let ts = value(&pairs, "ts");
    let time = chrono::DateTime::parse_from_rfc3339(ts).unwrap();
    assert_eq!(time.offset().local_minus_utc(), 0, "{ts}");
    let (_, fraction) = ts.split_once('.').unwrap();
    assert_eq!((fraction.len(), ts.ends_with('Z')), (4, true), "{ts}");
    assert_eq!(value(&pairs, "level"), level, "{line}");
    assert_eq!(value(&pairs, "component"), "main", "{line}");
    value(&pairs, "msg").to_owned()
}

#[test]
fn errors_at_the_start_are_lines_of_the_log_in_its_format() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--web.listen-address={}", taken.local_addr().unwrap());
    let free = "--web.listen-address=127.0.0.1:0";
    let cases: [(&[&str], i32, &[&str]); 5] = [
        (
            &["--config.file=bad.yml", free],
            64,
            &["poll.interval", "poll.timout", "clusters[0].endpoints"],
        ),
        (&["--config.file=missing.yml", free], 64, &["missing.yml"]),
        (
            &["--config.file=good.yml", "--shard=3"],
            64,
            &["--shard=3 does not exist"],
        ),
        (
            &["--config.file=good.yml", &taken],
            1,
            &["cannot listen on"],
        ),
        (&["simulate", &taken], 1, &["cannot listen on"]),
    ];
    for (arguments, code, faults) in cases {
        for format in ["logfmt", "json"] {
            let flag = format!("--log.format={format}");
            let ended = run(&[arguments, &[&flag]].concat());
            assert_eq!(ended.code, Some(code), "{ended:?}");
            let errors: Vec<_> = ended.stderr.lines().collect();
            assert_eq!(errors.len(), faults.len(), "{ended:?}");
            for (line, fault) in errors.into_iter().zip(faults) {
                let message = message(line, format, "error");
                assert!(message.starts_with("Exiting: "), "{message}");
                assert!(message.contains(fault), "{message}");
            }
        }
    }
}

/// In the environment of a child that is this test again.
const PANICS_AS: &str = "SFBE_TEST_PANICS_AS";

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the runner of the tests parses the command line"
)]
fn a_panic_is_a_line_of_the_log() {
    const THIS: &str = "cli::a_panic_is_a_line_of_the_log";
    if let Ok(format) = std::env::var(PANICS_AS) {
        let format = match &*format {
            "json" => Format::Json,
            _ => Format::Logfmt,
        };
        logging::start(Level::Info, format);
        std::thread::spawn(|| panic!("one\ntwo \"three\""))
            .join()
            .unwrap_err();
        return;
    }
    for format in ["logfmt", "json"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", THIS, "--nocapture"])
            .env(PANICS_AS, format)
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let told = String::from_utf8(child.stderr).unwrap();
        let lines: Vec<_> = told.lines().collect();
        let [line] = lines[..] else {
            panic!("one line: {told}");
        };
        let pairs = parsed(line, format);
        let message = value(&pairs, "msg");
        assert!(
            message.starts_with("Panicked at tests/cli.rs:"),
            "{message}"
        );
        assert!(message.ends_with(": one\ntwo \"three\""), "{message}");
        assert_eq!(value(&pairs, "level"), "error");
        assert!(value(&pairs, "backtrace").contains("a_panic_is_a_line_of_the_log"));
    }
}

/// Standard output or standard error of a run that cannot be written to.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Full,
    Closed,
    WithoutReader,
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_changes_no_exit_code() {
    use Broken::{Closed, Full, WithoutReader};
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--web.listen-address={}", taken.local_addr().unwrap());
    let cases: [(&[&str], i32); 9] = [
        (&["check-config", "--config.file=good.yml"], 0),
        (&["check-config", "--config.file=bad.yml"], 64),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["--no-such-flag"], 64),
        (&["--config.file=bad.yml"], 64),
        (&["--config.file=bad.yml", "--log.format=json"], 64),
        (&["demo", &taken], 1),
        (&["simulate", &taken], 1),
    ];
    let folder = folder();
    for (arguments, code) in cases {
        for broken in [Full, Closed, WithoutReader] {
            for (stdout, stderr) in [(true, false), (false, true), (true, true)] {
                let redirection = |is_broken: bool, number: u8| match broken {
                    Full if is_broken => format!(" {number}>/dev/full"),
                    Closed if is_broken => format!(" {number}>&-"),
                    _ => String::new(),
                };
                let redirected = redirection(stdout, 1) + &redirection(stderr, 2);
                let mut child = Command::new("sh")
                    .args(["-c", &format!("exec \"$0\" \"$@\"{redirected}")])
                    .arg(env!("CARGO_BIN_EXE_servicefabric-backup-exporter"))
                    .args(arguments)
                    .current_dir(folder.path())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                if broken == WithoutReader && stdout {
                    drop(child.stdout.take());
                }
                if broken == WithoutReader && stderr {
                    drop(child.stderr.take());
                }
                let output = child.wait_with_output().unwrap();
                let told = String::from_utf8_lossy(&output.stderr);
                let what = format!("{arguments:?} {broken:?} {stdout} {stderr}: {told}");
                assert_eq!(output.status.code(), Some(code), "{what}");
                assert!(!told.to_lowercase().contains("panicked"), "{what}");
            }
        }
    }
}
