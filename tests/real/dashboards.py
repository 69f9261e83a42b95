#!/usr/bin/env python3
"""Asks real Prometheus everything that the dashboards ask, and holds the numbers against the pages they come from.

    dashboards.py --exporter target/release/servicefabric-backup-exporter --parts target/ci/parts

The oldest and the newest Prometheus scrape the demo, exporters side by side and in shards, and pages of clusters that
the demo does not show. What the fleet dashboard says of each is computed anew, in Python, from what was scraped.
"""

import itertools
import json
import re
import sys
import time

import requests
from canned import PAGES, CannedPages
from grafana import Viewer, panels_of, read_dashboards, variables_of
from harness import Stage, fetch, free_port, main, parts_with, start_demo, wait_until
from page import Page
from truth import VERDICTS, Truth

JOB = "servicefabric-backup"

WATCHER = """\
poll: {{interval: 2s, timeout: 2s, staleness: 30s, backups_interval: 2s}}
protection: {{overdue_allowance: 45s, stuck_after: 45s}}
metrics: {{states: {states}}}
clusters:
  - {{name: simulated, endpoints: ['http://127.0.0.1:{gateway}'], collectors: {{history: true}}}}
"""


class Prometheus:
    """A database that scrapes every second, and what the data source of Grafana asks it."""

    def __init__(self, stage, name, binary, jobs):
        self.name, self.port = name, free_port()
        folder = stage.scratch(name.replace(" ", "-"))
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.process = stage.start(
            name, binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )  # fmt: skip
        self.session = requests.Session()

    def get(self, path, **parameters):
        answer = self.session.get(f"http://127.0.0.1:{self.port}/api/v1/{path}", params=parameters, timeout=30)
        assert answer.status_code == 200, f"{parameters}: {answer.status_code} {answer.text[:400]}"
        return answer.json()["data"]

    def query(self, expression, instant=None):
        return self.get("query", query=expression, time=instant or time.time())["result"]

    def query_range(self, expression, instant, seconds, step):
        end = instant or time.time()
        # As Grafana aligns them.
        start = (end - seconds) // step * step
        return self.get("query_range", query=expression, start=start, end=end // step * step, step=step)["result"]

    def label_values(self, label, selector=None):
        parameters = {"match[]": selector} if selector else {}
        return self.get(f"label/{label}/values", start=time.time() - 900, end=time.time(), **parameters)

    def up(self):
        """{job: numbers of targets that are up}."""
        return {series["metric"]["job"]: float(series["value"][1]) for series in self.query("sum by (job) (up)")}

    def truth(self, job, instant, **labels):
        """What a job's targets had shown at an instant, as samples: selected by Prometheus, and not computed with."""
        selector = "".join(f',{name}="{value}"' for name, value in labels.items())
        return Truth(self.query(f'{{job="{job}"{selector}}}', instant), instant)


def job(name, *targets, **more):
    return {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in targets]}], **more}


class Scene:
    """Everything that is scraped, each under a job of its own."""

    def __init__(self, stage, exporter):
        self.started = time.monotonic()
        self.stage, self.exporter = stage, exporter
        self.demo, self.demo_port = start_demo(stage, exporter)
        self.gateway_port = free_port()
        gateway = stage.start(
            "gateway", exporter, "simulate", "--partitions=60", f"--web.listen-address=127.0.0.1:{self.gateway_port}"
        )
        wait_until("the gateway", lambda: fetch(self.gateway_port, "/$/GetClusterVersion?api-version=6.4").status, gateway)
        replicas = [self.watcher("replica-all"), self.watcher("replica-current", states="current")]
        shards = [self.watcher(f"shard-{n}", "--total-shards=2", f"--shard={n}") for n in (0, 1)]
        secured = self.secured()
        page = Page(fetch(self.demo_port, "/metrics").body.decode())
        self.canned = CannedPages(stage, page.samples)
        self.jobs = [
            job(JOB, self.demo_port),
            job("replicas", *replicas),
            job("shards", *shards),
            secured,
            *(job(name, self.canned.port, metrics_path=f"/{name}") for name in PAGES),
            # One that sees everything and one that sees nothing, side by side.
            {
                "job_name": "half-blind",
                "static_configs": [
                    {
                        "targets": [f"127.0.0.1:{self.canned.port}"],
                        "labels": {"instance": name, "__metrics_path__": f"/{name}"},
                    }
                    for name in ("one-cluster", "blind")
                ],
            },
        ]

    def watcher(self, name, *arguments, states="all"):
        port, config = free_port(), self.stage.scratch(name) / "exporter.yml"
        config.write_text(WATCHER.format(gateway=self.gateway_port, states=states))
        process = self.stage.start(
            name, self.exporter, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", *arguments
        )
        wait_until(f"{name} to be ready", lambda: fetch(port, "/-/ready").status == 200, process)
        return port

    def secured(self):
        """The job of a demo behind TLS, for what is shown of certificates."""
        port = free_port()
        process = self.stage.start(
            "secured", self.exporter, "demo", "--secure", "--partitions=20", f"--web.listen-address=127.0.0.1:{port}"
        )
        folder = wait_until(
            "the folder of the secured demo",
            lambda: re.search(r'folder=(\S+)', process.log.read_text()),
            process,
        )[1]
        words = dict(re.findall(r'^(\w+) = "(.*)"$', wait_until("curl.conf", lambda: read(folder)), re.MULTILINE))
        user, _, password = words["user"].partition(":")
        return job(
            "secured", port, scheme="https", basic_auth={"username": user, "password": password},
            tls_config={"ca_file": words["cacert"], "server_name": "localhost"},
        )  # fmt: skip


def read(folder):
    with open(f"{folder}/curl.conf") as file:
        return file.read()


def wait_for_verdicts(databases, scene):
    """Waits until the demo is in all nine verdicts at once, as both databases see it."""
    for database in databases:
        wait_until(
            f"all nine verdicts in {database.name}",
            lambda database=database: set(database.truth(JOB, time.time()).verdicts()) == set(VERDICTS),
            scene.demo,
            seconds=150,
            pause=0.5,
        )


# Targets whose answer may be empty in the demo, by dashboard, title and letter, with the reason.
EMPTY_IN_THE_DEMO = {}


def candidates(database, dashboard, job_name):
    """Values for the variables: all of everything, and partitions of every verdict with what they belong to."""
    variables = variables_of(dashboard)
    fixed = {"job": [job_name]} if "job" in variables else {}
    yield fixed
    labels = {}
    for name, variable in variables.items():
        query = variable.get("query")
        query = query.get("query", "") if isinstance(query, dict) else str(query)
        if match := re.search(r",\s*(\w+)\)\s*$", query):
            labels[name] = match[1]
    truth = database.truth(job_name, time.time())
    for partition in truth.examples():
        chosen = {name: partition[label] for name, label in labels.items() if label in partition and name != "job"}
        yield fixed | {
            name: [value] if variables[name].get("multi") else value for name, value in chosen.items()
        }


def check_data(tally, database, name, dashboard):
    """Every target and variable of a dashboard is answered, and with data for at least one choice."""
    targets = {
        (panel["title"], target["refId"]): (panel, target)
        for panel in panels_of(dashboard)
        for target in panel.get("targets", [])
    }
    answered, asked = set(), 0
    with tally.check(f"{database.name}: {name}: every target of every panel is understood, whatever is chosen"):
        for chosen in itertools.chain(candidates(database, dashboard, JOB), candidates(database, dashboard, "secured")):
            viewer = Viewer(database, dashboard, chosen)
            for key, (panel, target) in targets.items():
                if viewer.ask(target):
                    answered.add(key)
                asked += 1
        # As it opens, with its own range.
        viewer = Viewer(database, dashboard, seconds=24 * 3600, step=60)
        for panel, target in targets.values():
            viewer.ask(target)
    with tally.check(f"{database.name}: {name}: every target has data"):
        expected = {key for (dashboard_name, *key) in EMPTY_IN_THE_DEMO for key in [tuple(key)] if dashboard_name == name}
        assert expected <= targets.keys(), f"no such targets: {expected - targets.keys()}"
        missing = targets.keys() - answered - expected
        assert not missing, "\n".join(f"{key}: {targets[key][1]['expr']}" for key in sorted(missing))
        print(f"        {len(targets)} targets, asked {asked} times", flush=True)
    with tally.check(f"{database.name}: {name}: every variable offers values, and every annotation is understood"):
        viewer = Viewer(database, dashboard)
        for variable in variables_of(dashboard).values():
            if variable["type"] == "query":
                assert viewer.options(variable["name"]), f"${variable['name']} offers nothing"
        for annotation in dashboard.get("annotations", {}).get("list", []):
            expression = annotation.get("expr") or annotation.get("target", {}).get("expr")
            if expression:
                database.query_range(viewer.interpolate(expression), None, viewer.seconds, viewer.step)
            else:
                assert annotation.get("builtIn"), f"{annotation['name']} asks nothing"


def dashboards(tally, exporter, parts):
    """The dashboards, answered by real Prometheus"""
    boards = read_dashboards()
    with Stage() as stage:
        scene = Scene(stage, exporter)
        found = parts_with(parts, "prometheus")
        chosen = [found[0]] if len(found) == 1 else [found[0], found[-1]]
        databases = [Prometheus(stage, f"Prometheus {version}", path, scene.jobs) for _, version, path in chosen]
        empty = Prometheus(stage, "an empty Prometheus", chosen[-1][2], [])
        wait_for_verdicts(databases, scene)
        print(f"        all nine verdicts {time.monotonic() - scene.started:.0f} s after the start", flush=True)
        for database in databases:
            with tally.check(f"{database.name} reaches every target"):
                wanted = {job["job_name"]: sum(len(config["targets"]) for config in job["static_configs"]) for job in scene.jobs}
                wait_until("all targets", lambda database=database, wanted=wanted: database.up() == wanted, database.process)
            for name, dashboard in boards.items():
                check_data(tally, database, name, dashboard)
        assert empty


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], dashboards))
