#!/usr/bin/env python3
"""Compares the validation of web configurations with the exporter toolkit, and scrapes a demo that uses one.

    web_config.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts

The reference is promtool, which runs the validation of the toolkit, on the test files of the toolkit.
"""

import json
import subprocess
import sys

import bcrypt
import requests
from certificates import Authority
from harness import TestContext, free_port, main, parts_with, wait_until

# Files that promtool accepts and the exporter rejects, with a part of the error. rustls does not support P-521 and
# outdated cipher suites.
DEVIATIONS = {
    "web_config_noAuth_allCurves.good.yml": ("CurveP521",),
    "web_config_noAuth_someCurves.good.yml": ("CurveP521",),
    "web_config_noAuth_noHTTP2Cipher.bad.yml": ("insecure",),
    # Its only cipher suite is CBC in toolkit 0.8, and another one in later versions.
    "web_config_noAuth_noHTTP2.good.yml": ("insecure",),
}

VALID_CONFIG = "clusters: [{name: test, endpoints: ['http://127.0.0.1:1']}]\n"
PASSWORD = "correct horse battery staple"


def check_config(exporter, config, web_config):
    """Exit code and output of check-config."""
    command = [exporter, "check-config", f"--config.file={config}", f"--web.config.file={web_config}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def web_config_validation(tally, exporter, parts):
    """The test files of the exporter toolkit, validated by promtool and by check-config"""
    with TestContext() as context:
        config = context.folder / "exporter.yml"
        config.write_text(VALID_CONFIG)
        for suite, version, promtool in parts_with(parts, "promtool"):
            folder = parts / suite / "usr" / "web-config"
            files = sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")])
            with tally.check(f"promtool {version} and check-config agree on {len(files)} files"):
                assert len(files) >= 30, files
                differences = []
                for file in files:
                    reference = subprocess.run([promtool, "check", "web-config", file], capture_output=True, text=True)
                    code, output = check_config(exporter, config, file)
                    assert code in (0, 64), f"{file.name}: check-config ended with {code}: {output}"
                    reasons = DEVIATIONS.get(file.name, ())
                    deviates = code == 64 and any(reason in output for reason in reasons)
                    if (reference.returncode == 0) != (code == 0) and not deviates:
                        differences.append(
                            f"{file.name}: promtool {reference.returncode}, check-config {code}: {output}"
                        )
                    if code == 64:
                        assert str(file) in output, f"{file.name}: the error does not name the file: {output}"
                assert not differences, "\n".join(differences)


def web_configuration(folder, authority, client_auth="VerifyClientCertIfGiven"):
    """Writes a web configuration with TLS, client certificates and one user; returns its path."""
    authority.issue("exporter", "serverAuth", "DNS:localhost,IP:127.0.0.1")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(rounds=6)).decode()
    path = folder / "web.yml"
    path.write_text(
        "tls_server_config:\n"
        f"  cert_file: {authority.folder}/exporter.pem\n"
        f"  key_file: {authority.folder}/exporter.key\n"
        f"  client_ca_file: {authority.certificate}\n"
        f"  client_auth_type: {client_auth}\n"
        "basic_auth_users:\n"
        f"  prometheus: {hashed}\n"
    )
    return path


def start_demo_with_tls(context, exporter, web_config):
    port = free_port()
    demo = context.start(
        "demo", exporter, "demo", f"--web.listen-address=127.0.0.1:{port}", f"--web.config.file={web_config}"
    )
    return demo, port


SCRAPE = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: right
    scheme: https
    basic_auth: {{username: prometheus, password: {password}}}
    tls_config: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}, server_name: localhost}}
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
  - job_name: wrong_password
    scheme: https
    basic_auth: {{username: prometheus, password: guess}}
    tls_config: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}, server_name: localhost}}
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
  - job_name: foreign_certificate
    scheme: https
    basic_auth: {{username: prometheus, password: {password}}}
    tls_config: {{ca_file: {ca}, cert_file: {foreign_cert}, key_file: {foreign_key}, server_name: localhost}}
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
  - job_name: no_certificate
    scheme: https
    basic_auth: {{username: prometheus, password: {password}}}
    tls_config: {{ca_file: {ca}, server_name: localhost}}
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


def secured_scrapes(tally, exporter, parts):
    """Real Prometheus and curl over TLS, with a password and a client certificate"""
    with TestContext() as context:
        authority = Authority(context.scratch("authority"))
        cert, key = authority.issue("prometheus", "clientAuth")
        foreign = Authority(context.scratch("foreign"), "Another authority")
        foreign_cert, foreign_key = foreign.issue("prometheus", "clientAuth")
        web_config = web_configuration(context.folder, authority, "RequireAndVerifyClientCert")
        demo, port = start_demo_with_tls(context, exporter, web_config)
        common = ["--silent", "--show-error", "--max-time", "10", "--cacert", authority.certificate]
        known = ["--cert", cert, "--key", key]
        user = ["--user", f"prometheus:{PASSWORD}"]
        code = ["--output", "/dev/null", "--write-out", "%{http_code} %{http_version}"]
        url = f"https://localhost:{port}/-/healthy"

        def curl(*words):
            done = subprocess.run(["curl", *map(str, [*common, *words])], capture_output=True, text=True, timeout=30)
            return done.returncode, done.stdout

        wait_until("the demo behind TLS", lambda: curl(*known, *user, *code, url)[0] == 0, demo)
        with tally.check("curl with certificate and password gets HTTP/1.1, with and without offering HTTP/2"):
            assert curl(*known, *user, *code, "--http2", url) == (0, "200 1.1")
            assert curl(*known, *user, *code, "--http1.1", url) == (0, "200 1.1")
        with tally.check("curl gets 401 without the password, and a failed handshake without the certificate"):
            assert curl(*known, *code, url)[1].startswith("401")
            assert curl(*known, "--user", "prometheus:guess", *code, url)[1].startswith("401")
            assert curl(*user, *code, url)[0] != 0
            assert curl("--cert", foreign_cert, "--key", foreign_key, *user, *code, url)[0] != 0
        with tally.check("TLS 1.1 and plain HTTP are rejected"):
            assert curl(*known, *user, *code, "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", url)[0] != 0
            assert curl(*user, *code, url.replace("https", "http"))[0] != 0
        check_scrapers(tally, context, parts, port, {
            "ca": authority.certificate, "cert": cert, "key": key,
            "foreign_cert": foreign_cert, "foreign_key": foreign_key,
        })  # fmt: skip
        with tally.check("requests fail while the web configuration is invalid, and succeed after it is fixed"):
            whole = web_config.read_text()
            web_config.write_text(whole + "surplus: true\n")
            wait_until("requests to fail", lambda: curl(*known, *user, *code, url)[1] != "200 1.1", demo)
            web_config.write_text(whole)
            wait_until("requests to succeed", lambda: curl(*known, *user, *code, url) == (0, "200 1.1"), demo)
        with tally.check("the log of the exporter has no password and no hash"):
            log = demo.log.read_text()
            assert PASSWORD not in log and "$2b$" not in log, log


def check_scrapers(tally, context, parts, port, files):
    for _, version, prometheus in parts_with(parts, "prometheus"):
        folder = context.scratch(f"prometheus-{version}")
        config = folder / "prometheus.yml"
        config.write_text(SCRAPE.format(port=port, password=json.dumps(PASSWORD), **files))
        own = free_port()
        process = context.start(
            f"prometheus-{version}", prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{own}",
        )  # fmt: skip
        with tally.check(f"Prometheus {version} scrapes only with both certificate and password"):
            targets = wait_until(
                f"scrapes of all targets by Prometheus {version}",
                lambda own=own: all_scraped(own),
                process,
            )
            assert targets["right"] == ("up", ""), targets
            assert targets["wrong_password"][0] == "down" and "401" in targets["wrong_password"][1], targets
            for job in ("foreign_certificate", "no_certificate"):
                # Go has many messages for a failed handshake, but none of them has an HTTP status.
                assert targets[job][0] == "down" and "HTTP status" not in targets[job][1], targets
        process.stop()


def all_scraped(port):
    """{job: (health, error)} once every target has been scraped; None before that."""
    answer = requests.get(f"http://127.0.0.1:{port}/api/v1/targets", timeout=10).json()
    targets = {
        target["labels"]["job"]: (target["health"], target["lastError"]) for target in answer["data"]["activeTargets"]
    }
    known = len(targets) == 4 and all(health != "unknown" for health, _ in targets.values())
    # Before the first cycle of the demo, the scrape of the right target may fail.
    return targets if known and targets["right"][0] == "up" else None


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], web_config_validation, secured_scrapes))
