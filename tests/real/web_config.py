#!/usr/bin/env python3
"""Judges web configurations as the exporter toolkit does, and serves real scrapers by them.

    web_config.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts

The oracle is promtool, which runs the toolkit's own validation, over the toolkit's own test files.
"""

import json
import subprocess
import sys

import bcrypt
import requests
from certificates import Authority
from harness import Stage, free_port, main, parts_with, wait_until

# Files that promtool accepts and the exporter rejects, with words of the error. rustls has no P-521 and no outdated
# suites.
DEVIATIONS = {
    "web_config_noAuth_allCurves.good.yml": ("CurveP521",),
    "web_config_noAuth_someCurves.good.yml": ("CurveP521",),
    "web_config_noAuth_noHTTP2Cipher.bad.yml": ("outdated",),
    # Its only suite is CBC in toolkit 0.8; in later ones it is none of those.
    "web_config_noAuth_noHTTP2.good.yml": ("outdated",),
}

USABLE = "clusters: [{name: test, endpoints: ['http://127.0.0.1:1']}]\n"
PASSWORD = "correct horse battery staple"


def judged(exporter, config, web_config):
    """Exit code and messages of check-config."""
    command = [exporter, "check-config", f"--config.file={config}", f"--web.config.file={web_config}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def same_verdicts(tally, exporter, parts):
    """The toolkit's own test files, judged by promtool and by check-config"""
    with Stage() as stage:
        config = stage.folder / "exporter.yml"
        config.write_text(USABLE)
        for suite, version, promtool in parts_with(parts, "promtool"):
            folder = parts / suite / "usr" / "web-config"
            files = sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")])
            with tally.check(f"promtool {version} and check-config agree on {len(files)} files"):
                assert len(files) >= 30, files
                differences = []
                for file in files:
                    oracle = subprocess.run([promtool, "check", "web-config", file], capture_output=True, text=True)
                    code, said = judged(exporter, config, file)
                    assert code in (0, 64), f"{file.name}: check-config ended with {code}: {said}"
                    reasons = DEVIATIONS.get(file.name, ())
                    deviates = code == 64 and any(reason in said for reason in reasons)
                    if (oracle.returncode == 0) != (code == 0) and not deviates:
                        differences.append(f"{file.name}: promtool {oracle.returncode}, check-config {code}: {said}")
                    if code == 64:
                        assert str(file) in said, f"{file.name}: the file is not named: {said}"
                assert not differences, "\n".join(differences)


def web_configuration(folder, authority, client_auth="VerifyClientCertIfGiven"):
    """Writes a web configuration with TLS, client certificates and a user; returns its path."""
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


def start_demo_with_tls(stage, exporter, web_config):
    port = free_port()
    demo = stage.start(
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
    with Stage() as stage:
        authority = Authority(stage.scratch("authority"))
        cert, key = authority.issue("prometheus", "clientAuth")
        foreign = Authority(stage.scratch("foreign"), "Another authority")
        foreign_cert, foreign_key = foreign.issue("prometheus", "clientAuth")
        web_config = web_configuration(stage.folder, authority, "RequireAndVerifyClientCert")
        demo, port = start_demo_with_tls(stage, exporter, web_config)
        said = ["--silent", "--show-error", "--max-time", "10", "--cacert", authority.certificate]
        known = ["--cert", cert, "--key", key]
        user = ["--user", f"prometheus:{PASSWORD}"]
        code = ["--output", "/dev/null", "--write-out", "%{http_code} %{http_version}"]
        url = f"https://localhost:{port}/-/healthy"

        def curl(*words):
            done = subprocess.run(["curl", *map(str, [*said, *words])], capture_output=True, text=True, timeout=30)
            return done.returncode, done.stdout

        wait_until("the demo behind TLS", lambda: curl(*known, *user, *code, url)[0] == 0, demo)
        with tally.check("curl with certificate and password gets HTTP/1.1, whether it offers HTTP/2 or not"):
            assert curl(*known, *user, *code, "--http2", url) == (0, "200 1.1")
            assert curl(*known, *user, *code, "--http1.1", url) == (0, "200 1.1")
        with tally.check("curl gets 401 without the password, and no answer without the certificate"):
            assert curl(*known, *code, url)[1].startswith("401")
            assert curl(*known, "--user", "prometheus:guess", *code, url)[1].startswith("401")
            assert curl(*user, *code, url)[0] != 0
            assert curl("--cert", foreign_cert, "--key", foreign_key, *user, *code, url)[0] != 0
        with tally.check("neither TLS 1.1 nor plain HTTP gets an answer"):
            assert curl(*known, *user, *code, "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", url)[0] != 0
            assert curl(*user, *code, url.replace("https", "http"))[0] != 0
        check_scrapers(tally, stage, parts, port, {
            "ca": authority.certificate, "cert": cert, "key": key,
            "foreign_cert": foreign_cert, "foreign_key": foreign_key,
        })  # fmt: skip
        with tally.check("a web configuration that is broken closes, and one that is mended opens again"):
            whole = web_config.read_text()
            web_config.write_text(whole + "surplus: true\n")
            wait_until("the door to close", lambda: curl(*known, *user, *code, url)[1] != "200 1.1", demo)
            web_config.write_text(whole)
            wait_until("the door to open", lambda: curl(*known, *user, *code, url) == (0, "200 1.1"), demo)
        with tally.check("no password and no hash got into the log of the exporter"):
            log = demo.log.read_text()
            assert PASSWORD not in log and "$2b$" not in log, log


def check_scrapers(tally, stage, parts, port, files):
    for _, version, prometheus in parts_with(parts, "prometheus"):
        folder = stage.scratch(f"prometheus-{version}")
        config = folder / "prometheus.yml"
        config.write_text(SCRAPE.format(port=port, password=json.dumps(PASSWORD), **files))
        own = free_port()
        process = stage.start(
            f"prometheus-{version}", prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{own}",
        )  # fmt: skip
        with tally.check(f"Prometheus {version} scrapes with certificate and password, and with nothing less"):
            targets = wait_until(
                f"scrapes of all targets by Prometheus {version}",
                lambda own=own: all_scraped(own),
                process,
            )
            assert targets["right"] == ("up", ""), targets
            assert targets["wrong_password"][0] == "down" and "401" in targets["wrong_password"][1], targets
            for job in ("foreign_certificate", "no_certificate"):
                # Go tells the end of the handshake in many words, but not in those of an answer.
                assert targets[job][0] == "down" and "HTTP status" not in targets[job][1], targets
        process.stop()


def all_scraped(port):
    """{job: (health, error)} once every target has an opinion."""
    answer = requests.get(f"http://127.0.0.1:{port}/api/v1/targets", timeout=10).json()
    targets = {
        target["labels"]["job"]: (target["health"], target["lastError"]) for target in answer["data"]["activeTargets"]
    }
    known = len(targets) == 4 and all(health != "unknown" for health, _ in targets.values())
    # The demo may not be through its first cycle; only then is an empty page no scrape.
    return targets if known and targets["right"][0] == "up" else None


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], same_verdicts, secured_scrapes))
