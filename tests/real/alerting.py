"""Prometheus with the rules of deploy/, Alertmanager, and a notification receiver, all with shortened durations.

Every duration is divided by the same factor, so their order is preserved. This module does not depend on the meaning
of any alert.
"""

import json
import re
import signal
import threading
from pathlib import Path

import requests
from harness import Handler, free_port, wait_until

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULE_FILES = sorted((DEPLOY / "prometheus").glob("*.yml"))

# Five minutes become six seconds. With a larger factor, a machine that stalls for a few seconds would look like an
# exporter that is down.
TIME_DIVISOR = 50

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = r"(\d+)([smhd])\b"

# Durations in a rule file: fields, offsets, and ranges.
IN_RULES = re.compile(rf"((?:\bfor|keep_firing_for|interval): |offset |\[){DURATION}")
# `repeat_interval` is not scaled: a repeated notification would be counted as a second one.
IN_ROUTES = re.compile(rf"(group_(?:wait|interval): ){DURATION}")


def scale_durations(pattern, text):
    def scaled_duration(found):
        milliseconds = int(found[2]) * SECONDS[found[3]] * 1000 // TIME_DIVISOR
        return f"{found[1]}{max(milliseconds, 400)}ms"

    scaled, count = pattern.subn(scaled_duration, text)
    assert count, f"nothing to scale with {pattern.pattern}"
    return scaled


class Receiver:
    """Records the notifications of Alertmanager as (path, document)."""

    def __init__(self, context):
        received, lock = [], threading.Lock()

        class Notified(Handler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    received.append((self.path.strip("/"), body))
                self.reply(200, None, b"ok")

        self.port, self.received, self.lock = context.serve(Notified), received, lock

    def all(self):
        with self.lock:
            return list(self.received)

    def webhooks(self):
        """(path, status, alert name, document) of every webhook notification, oldest first."""
        return [
            (path, body["status"], body["commonLabels"].get("alertname"), body)
            for path, body in self.all()
            if "groupKey" in body
        ]

    def texts(self):
        return [body for _, body in self.all() if "groupKey" not in body]


class Alertmanager:
    """Alertmanager with the example configuration of deploy/.

    With a receiver, durations are shortened, the commented-out chat receiver is enabled, and all notifications go to
    the receiver. Without one, nothing is sent, because `group_wait` is a minute.
    """

    def __init__(self, context, name, binary, receiver=None):
        self.port, folder = free_port(), context.scratch(name.replace(" ", "-"))
        text = (DEPLOY / "alertmanager/alertmanager.yml").read_text()
        text = text.replace("templates/*", f"{DEPLOY}/alertmanager/templates/*")
        if receiver:
            text = with_receiver(receiver, scale_durations(IN_ROUTES, text), folder)
        config = folder / "alertmanager.yml"
        config.write_text(text)
        self.name = name
        self.process = context.start(
            # The working directory matters for the templates: see .ci/fetch-parts.
            name, "env", "-C", binary.parents[2], binary, f"--config.file={config}", f"--storage.path={folder}/data",
            "--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{self.port}",
        )  # fmt: skip
        wait_until(f"{name} to be ready", lambda: self.get("/-/ready").ok, self.process)

    def get(self, path, **query):
        return requests.get(f"http://127.0.0.1:{self.port}{path}", params=query, timeout=30)

    def post(self, alerts):
        requests.post(f"http://127.0.0.1:{self.port}/api/v2/alerts", json=alerts, timeout=30).raise_for_status()

    def alerts(self):
        return self.get("/api/v2/alerts").json()


def with_receiver(receiver, text, folder):
    for name, host in (("page", "pager"), ("ticket", "tickets")):
        placeholder = f"https://{host}.example.invalid/servicefabric-backup"
        assert text.count(placeholder) == 1, placeholder
        text = text.replace(placeholder, f"http://127.0.0.1:{receiver.port}/{name}")
    (folder / "chat.url").write_text(f"http://127.0.0.1:{receiver.port}/chat")
    return uncommented("slack_configs", text).replace("/etc/alertmanager/chat.url", f"{folder}/chat.url")


def uncommented(key, text):
    """Uncomments the example of a key. Unlike prose, an example has no space after its first `#`."""
    lines, on = [], False
    for line in text.splitlines():
        found = re.match(r"( +)#([a-z_]+:|  )", line)
        on = bool(found) and (found[2] == f"{key}:" or (on and found[2] == "  "))
        lines.append(line.replace("#", "", 1) if on else line)
    changed = "\n".join(lines) + "\n"
    assert changed != text, f"the file has no commented-out example of {key}"
    return changed


DISCOVERED = "prometheus_notifications_alertmanagers_discovered"

SCRAPE_CONFIG = """\
global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}}
rule_files: [rules/*.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: [{alertmanagers}]}}]}}]}}
scrape_configs:
  - job_name: servicefabric-backup
    static_configs: [{{targets: [{targets}]}}]
"""


class Prometheus:
    """Scrapes exporters and evaluates the rules of deploy/. `scale` matches the durations to shorten."""

    def __init__(self, context, name, binary, exporters, alertmanagers=(), scale=IN_RULES):
        self.name, self.port, folder = name, free_port(), context.scratch(name.replace(" ", "-"))
        rules = context.scratch(f"{folder.name}/rules")
        config = folder / "prometheus.yml"
        config.write_text(
            SCRAPE_CONFIG.format(
                targets=", ".join(f"'127.0.0.1:{port}'" for port in exporters),
                alertmanagers=", ".join(f"'127.0.0.1:{it.port}'" for it in alertmanagers),
            )
        )
        self.process = context.start(
            name, binary, f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )  # fmt: skip
        # The first scrape takes seconds, which correspond to minutes here. The rules are loaded after it.
        wait_until(f"{name} to scrape", lambda: len(self.query("up == 1")) == len(exporters), self.process)
        wait_until(
            f"{name} to discover its Alertmanagers",
            lambda: self.own_metric(DISCOVERED) == len(alertmanagers),
            self.process,
        )
        for path in RULE_FILES:
            text = path.read_text()
            (rules / path.name).write_text(scale_durations(scale, text) if scale.search(text) else text)
        self.process.popen.send_signal(signal.SIGHUP)
        wait_until(f"{name} to have evaluated every rule", self.has_evaluated, self.process)

    def has_evaluated(self):
        rules = self.rules()
        return rules and all(rule["health"] != "unknown" for rule in rules)

    def request(self, path, **query):
        return requests.get(f"http://127.0.0.1:{self.port}{path}", params=query, timeout=30)

    def get(self, path, **query):
        answer = self.request(path, **query).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        return self.get("/api/v1/query", query=expression)["result"]

    def rules(self):
        return [rule for group in self.get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def own_metric(self, name):
        """Sum over all series of a metric of this Prometheus."""
        lines = self.request("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[{{ ]", line))
