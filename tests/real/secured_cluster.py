#!/usr/bin/env python3
"""Watches a simulated cluster through Apache, which requests the client certificate like the real gateway.

    secured_cluster.py --exporter target/dist/servicefabric-backup-exporter

The gateway requests a certificate by TLS 1.2 renegotiation, after it has read the request. Apache does the same if a
location requires a certificate and its virtual host does not. Apache passes the role of the client in X-Role.
"""

import subprocess
import sys

from certificates import Authority
from harness import TestContext, fetch, free_port, main, wait_until
from page import Page

APACHE = """\
ServerRoot {folder}
ServerName cluster.test
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
Mutex file:{folder} default
Listen 127.0.0.1:{port}
{modules}
ErrorLog {folder}/error.log
LogLevel warn ssl:debug
SSLSessionCache none
ThreadsPerChild 64
MaxRequestWorkers 256
<VirtualHost 127.0.0.1:{port}>
    SSLEngine on
    SSLProtocol {protocol}
    SSLCertificateFile {certificate}
    SSLCertificateKeyFile {key}
    SSLCACertificateFile {authority}
    SSLVerifyClient none
    RequestHeader unset X-Role
    <Location "/">
        SSLVerifyClient {asked}
        SSLVerifyDepth 2
        RequestHeader set X-Role User "expr=%{{SSL_CLIENT_VERIFY}} == 'SUCCESS'"
        ProxyPass http://127.0.0.1:{gateway}/
    </Location>
</VirtualHost>
"""

MODULES = "mpm_event authz_core ssl socache_shmcb proxy proxy_http headers".split()
FOLDER_OF_MODULES = "/usr/lib/apache2/modules"


class Apache:
    """A TLS reverse proxy for the gateway. `renegotiations` and `connections` are counted in its log."""

    def __init__(self, context, name, authority, gateway, asked="optional_no_ca", protocol="-all +TLSv1.2"):
        self.folder, self.port = context.scratch(name), free_port()
        certificate, key = authority.issue(f"{name}.test", "serverAuth", "DNS:cluster.test")
        self.certificate = certificate
        config = self.folder / "apache.conf"
        config.write_text(
            APACHE.format(
                folder=self.folder, port=self.port, certificate=certificate, key=key, authority=authority.certificate,
                gateway=gateway, asked=asked, protocol=protocol,
                modules="\n".join(f"LoadModule {name}_module {FOLDER_OF_MODULES}/mod_{name}.so" for name in MODULES),
            )
        )  # fmt: skip
        self.process = context.start(name, "apache2", "-X", "-f", config)
        wait_until(f"{name} to listen", lambda: (self.folder / "apache.pid").exists(), self.process)

    def counted(self, words):
        return (self.folder / "error.log").read_text(errors="replace").count(words)

    @property
    def renegotiations(self):
        return self.counted("Requesting connection re-negotiation")

    @property
    def connections(self):
        return self.counted("established (server")


class Watcher:
    """An exporter for one cluster, with `trust` and `auth` as YAML in flow style."""

    def __init__(self, context, exporter, name, endpoint, trust="{}", auth="{}"):
        self.port = free_port()
        self.config = context.scratch(name) / "exporter.yml"
        self.config.write_text(
            "poll: {interval: 1s, timeout: 1s, staleness: 30s, backups_interval: 2s}\n"
            f"clusters:\n  - {{name: {name}, endpoints: ['{endpoint}'], trust: {trust}, auth: {auth}}}\n"
        )
        self.process = context.start(
            name, exporter, f"--config.file={self.config}", f"--web.listen-address=127.0.0.1:{self.port}"
        )
        wait_until(f"{name} to be ready", lambda: fetch(self.port, "/-/ready").status == 200, self.process)

    def page(self):
        return Page(fetch(self.port, "/metrics").body.decode())

    def value(self, name, **labels):
        found = [
            float(sample.value)
            for sample in self.page().named(f"servicefabric_backup_{name}")
            if labels.items() <= dict(sample.labels).items()
        ]
        return sum(found) if found else None

    def wait_for(self, wanted, name, **labels):
        wait_until(
            f"{name}{labels} = {wanted}", lambda: self.value(name, **labels) == wanted, self.process, seconds=20
        )

    def errors(self):
        """{reason: count} of the collector errors, except `api`, which one application always causes."""
        samples = self.page().named("servicefabric_backup_collector_errors_total")
        counts = {}
        for sample in samples:
            reason, count = dict(sample.labels)["reason"], float(sample.value)
            if count and reason != "api":
                counts[reason] = counts.get(reason, 0) + count
        return counts


def start_gateway(context, exporter):
    port = free_port()
    gateway = context.start(
        "gateway", exporter, "simulate", "--behind-proxy", "--partitions=120", f"--web.listen-address=127.0.0.1:{port}"
    )
    wait_until("the simulated gateway", lambda: fetch(port, "/$/GetClusterVersion?api-version=6.4").status, gateway)
    return port


def secured_cluster(tally, exporter, _parts):
    """A cluster behind Apache with TLS renegotiation"""
    with TestContext() as context:
        authority = Authority(context.scratch("authority"))
        gateway = start_gateway(context, exporter)
        apache = Apache(context, "apache", authority, gateway)
        cert, key = authority.issue("reader", "clientAuth")
        unknown = Authority(context.scratch("elsewhere"), "Another authority")
        foreign_cert, foreign_key = unknown.issue("unknown", "clientAuth")
        endpoint = f"https://127.0.0.1:{apache.port}"
        trust_by_name = f"{{ca_file: {authority.certificate}, server_name: cluster.test}}"
        trust_by_sha1 = f"{{thumbprints: ['{authority.thumbprint(apache.certificate)}']}}"
        trust_by_sha256 = f"{{thumbprints: ['{authority.thumbprint(apache.certificate, 'sha256').lower()}']}}"
        pem = f"{{client_certificate: {{cert_file: {cert}, key_file: {key}}}}}"

        with tally.check("the simulated gateway answers 403 with an empty body without a certificate"):
            answer = fetch(gateway, "/$/GetClusterVersion?api-version=6.4")
            assert (answer.status, answer.body) == (403, b""), answer.body
        with tally.check("PEM, authority and server name: all data is read over few connections"):
            watcher = Watcher(context, exporter, "pem", endpoint, trust_by_name, pem)
            watcher.wait_for(1, "cluster_up")
            watcher.wait_for(1, "service_up")
            wait_until("120 partitions", lambda: watcher.value("partitions") >= 120, watcher.process)
            wait_until(
                "verdicts",
                lambda: watcher.value("protection_state", state="Unknown") < watcher.value("partitions") / 4,
                watcher.process,
            )
            requests = watcher.value("gateway_requests_total", status="200")
            assert not watcher.errors(), watcher.errors()
            assert 0 < apache.renegotiations <= apache.connections, (apache.renegotiations, apache.connections)
            assert apache.connections < requests / 5, (apache.connections, requests)
            print(f"        {requests:.0f} requests, {apache.connections} connections, "
                  f"{apache.renegotiations} renegotiations", flush=True)  # fmt: skip
            assert watcher.value("client_certificate_expiry_timestamp_seconds") > 0
            assert watcher.value("gateway_certificate_expiry_timestamp_seconds") > 0
            assert watcher.value("gateway_insecure") == 0
            watcher.process.stop()
        with tally.check("PFX with a password, and SHA-1 and SHA-256 thumbprints of the server"):
            pfx, password = authority.pfx("reader", "hunter2 of the pfx"), context.folder / "pfx.password"
            password.write_text("hunter2 of the pfx\n")
            auth = f"{{client_certificate: {{pfx_file: {pfx}, password_file: {password}}}}}"
            for name, trust in (("sha1", trust_by_sha1), ("sha256", trust_by_sha256)):
                watcher = Watcher(context, exporter, name, endpoint, trust, auth)
                watcher.wait_for(1, "cluster_up")
                assert not watcher.errors(), watcher.errors()
                watcher.process.stop()
                assert "hunter2" not in watcher.process.log.read_text()
        with tally.check("no certificate, or an unknown one: reason forbidden, with advice in the log"):
            unknown_auth = f"{{client_certificate: {{cert_file: {foreign_cert}, key_file: {foreign_key}}}}}"
            for name, auth, advice in (
                ("anonymous", "{}", "configure auth.client_certificate"),
                ("unknown", unknown_auth, "read-only"),
            ):
                watcher = Watcher(context, exporter, name, endpoint, trust_by_sha1, auth)
                watcher.wait_for(0, "cluster_up")
                wait_until("errors", lambda watcher=watcher: watcher.errors(), watcher.process)
                assert set(watcher.errors()) == {"forbidden"}, watcher.errors()
                assert advice in watcher.process.log.read_text(), watcher.process.log_tail()
                watcher.process.stop()
        with tally.check("a server with another thumbprint: no request is sent, reason tls"):
            handled = apache.counted("Initial (No.1) HTTPS request received")
            watcher = Watcher(context, exporter, "mismatch", endpoint, "{thumbprints: ['" + "00" * 20 + "']}", pem)
            watcher.wait_for(0, "cluster_up")
            wait_until("errors", lambda: watcher.errors(), watcher.process)
            assert set(watcher.errors()) == {"tls"}, watcher.errors()
            assert apache.counted("Initial (No.1) HTTPS request received") == handled
            watcher.process.stop()
        with tally.check("a server that requires a certificate: reason tls without one, no errors with one"):
            strict = Apache(context, "strict", authority, gateway, asked="require")
            pin = f"{{thumbprints: ['{authority.thumbprint(strict.certificate)}']}}"
            endpoint = f"https://127.0.0.1:{strict.port}"
            watcher = Watcher(context, exporter, "required", endpoint, pin)
            wait_until("errors", lambda: watcher.errors(), watcher.process)
            assert set(watcher.errors()) == {"tls"}, watcher.errors()
            watcher.process.stop()
            watcher = Watcher(context, exporter, "presented", endpoint, pin, pem)
            watcher.wait_for(1, "cluster_up")
            assert not watcher.errors(), watcher.errors()
        with tally.check("check-config reports an unsupported key format and how to convert it"):
            old = context.folder / "old.key"
            authority.openssl("rsa", "-in", key, "-traditional", "-out", old)
            config = context.folder / "bad.yml"
            config.write_text(
                f"clusters: [{{name: a, endpoints: ['{endpoint}'], "
                f"auth: {{client_certificate: {{cert_file: {cert}, key_file: {old}}}}}}}]\n"
            )
            done = subprocess.run(
                [exporter, "check-config", f"--config.file={config}"], capture_output=True, text=True, timeout=30
            )
            output = done.stdout + done.stderr
            assert done.returncode == 64 and "openssl pkcs8 -topk8" in output and str(old) in output, (done, output)


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], secured_cluster))
