//! Arguments and exit codes: 0 done, 1 failed, 64 wrong configuration or arguments.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::process::Command;

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

#[test]
fn a_shard_that_does_not_exist_is_wrong_usage() {
    let address = "--web.listen-address=127.0.0.1:0";
    let good = "--config.file=good.yml";
    for (shard, total) in [("3", "3"), ("0", "0")] {
        let shard = format!("--shard={shard}");
        let total = format!("--total-shards={total}");
        let arguments = [good, address, &shard, &total];
        assert_fails(&arguments, 64, &[&shard, &total]);
    }
}

#[test]
fn a_listen_address_that_is_none_is_wrong_usage() {
    for address in ["19180", "host:port", "127.0.0.1:65536", "[::1"] {
        let flag = format!("--web.listen-address={address}");
        let told = ["--web.listen-address", address];
        assert_fails(&["--config.file=good.yml", &flag], 64, &told);
    }
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
