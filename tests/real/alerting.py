"""Alertmanager, Prometheus with the rules of deploy/, and whoever is notified: real, but in a hurry.

Durations are scaled by the same factor everywhere, so that what depends on their order stays as it is. Nothing in here
knows what an alert means.
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

# What takes five minutes takes six seconds. With more haste, a machine that stalls for a few seconds would be taken for
# an exporter that is down.
HASTE = 50

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = r"(\d+)([smhd])\b"

# Wherever a duration stands in a file of rules; what follows one of them may be a range, an offset or a value.
IN_RULES = re.compile(rf"((?:\bfor|keep_firing_for|interval): |offset |\[){DURATION}")
# `repeat_interval` is left alone: a reminder would look like a second notification.
IN_ROUTES = re.compile(rf"(group_(?:wait|interval): ){DURATION}")


def hurry(pattern, text):
    def shorter(found):
        milliseconds = int(found[2]) * SECONDS[found[3]] * 1000 // HASTE
        return f"{found[1]}{max(milliseconds, 400)}ms"

    scaled, count = pattern.subn(shorter, text)
    assert count, f"nothing to scale with {pattern.pattern}"
    return scaled


class Receiver:
    """Takes what Alertmanager sends, and keeps it: (name of the path, document)."""

    def __init__(self, stage):
        received, lock = [], threading.Lock()

        class Notified(Handler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    received.append((self.path.strip("/"), body))
                self.reply(200, None, b"ok")

        self.port, self.received, self.lock = stage.serve(Notified), received, lock

    def all(self):
        with self.lock:
            return list(self.received)

    def webhooks(self):
        """(path, status, name of the alert, document) of every notification by webhook, oldest first."""
        return [
            (path, body["status"], body["commonLabels"].get("alertname"), body)
            for path, body in self.all()
            if "groupKey" in body
        ]

    def texts(self):
        return [body for _, body in self.all() if "groupKey" not in body]


class Alertmanager:
    """The example of deploy/. With a receiver: in a hurry, sending to it, and with the chat of its comments.

    Without one it only tells what it would do; nothing leaves it before the minute of `group_wait` is over.
    """

    def __init__(self, stage, name, binary, receiver=None):
        self.port, folder = free_port(), stage.scratch(name.replace(" ", "-"))
        text = (DEPLOY / "alertmanager/alertmanager.yml").read_text()
        text = text.replace("templates/*", f"{DEPLOY}/alertmanager/templates/*")
        if receiver:
            text = pointed_to(receiver, hurry(IN_ROUTES, text), folder)
        config = folder / "alertmanager.yml"
        config.write_text(text)
        self.name = name
        self.process = stage.start(
            # .ci/fetch-parts says why the folder matters.
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


def pointed_to(receiver, text, folder):
    for name, host in (("page", "pager"), ("ticket", "tickets")):
        placeholder = f"https://{host}.example.invalid/servicefabric-backup"
        assert text.count(placeholder) == 1, placeholder
        text = text.replace(placeholder, f"http://127.0.0.1:{receiver.port}/{name}")
    (folder / "chat.url").write_text(f"http://127.0.0.1:{receiver.port}/chat")
    return uncommented("slack_configs", text).replace("/etc/alertmanager/chat.url", f"{folder}/chat.url")


def uncommented(key, text):
    """The file with the example of this key switched on. An example has no blank after its first `#`; prose has."""
    lines, on = [], False
    for line in text.splitlines():
        found = re.match(r"( +)#([a-z_]+:|  )", line)
        on = bool(found) and (found[2] == f"{key}:" or (on and found[2] == "  "))
        lines.append(line.replace("#", "", 1) if on else line)
    changed = "\n".join(lines) + "\n"
    assert changed != text, f"{key} is no example of the file"
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
    """Scrapes exporters and evaluates the rules of deploy/ all the time; `scale` is the pattern of what is shorter."""

    def __init__(self, stage, name, binary, exporters, alertmanagers=(), scale=IN_RULES):
        self.name, self.port, folder = name, free_port(), stage.scratch(name.replace(" ", "-"))
        rules = stage.scratch(f"{folder.name}/rules")
        config = folder / "prometheus.yml"
        config.write_text(
            SCRAPE_CONFIG.format(
                targets=", ".join(f"'127.0.0.1:{port}'" for port in exporters),
                alertmanagers=", ".join(f"'127.0.0.1:{it.port}'" for it in alertmanagers),
            )
        )
        self.process = stage.start(
            name, binary, f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )  # fmt: skip
        # A target is first scraped after seconds, which would be minutes here: the rules come when all is in place.
        wait_until(f"{name} to scrape", lambda: len(self.query("up == 1")) == len(exporters), self.process)
        wait_until(f"{name} to know whom to tell", lambda: self.own(DISCOVERED) == len(alertmanagers), self.process)
        for path in RULE_FILES:
            text = path.read_text()
            (rules / path.name).write_text(hurry(scale, text) if scale.search(text) else text)
        self.process.popen.send_signal(signal.SIGHUP)
        wait_until(f"{name} to have evaluated every rule", self.has_evaluated, self.process)

    def has_evaluated(self):
        rules = self.rules()
        return rules and all(rule["health"] != "unknown" for rule in rules)

    def ask(self, path, **query):
        return requests.get(f"http://127.0.0.1:{self.port}{path}", params=query, timeout=30)

    def get(self, path, **query):
        answer = self.ask(path, **query).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        return self.get("/api/v1/query", query=expression)["result"]

    def rules(self):
        return [rule for group in self.get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def own(self, name):
        """Sum of one of its own counters."""
        lines = self.ask("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[{{ ]", line))
