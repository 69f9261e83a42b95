"""Scrape targets for the dashboard tests, and a Prometheus that scrapes them all.

Every kind of target has its own job, so a test selects it with the job variable of the dashboards.
"""

import json
import re
import time
from collections import Counter

import requests
from canned import FOREIGN, PAGES, CannedPages
from harness import fetch, free_port, wait_until
from page import Page
from truth import Truth

JOB = "servicefabric-backup"
# A job whose target never existed: nothing listens on its port.
DEAD = "foreign-dead"

EXPORTER = """\
poll: {{interval: 2s, timeout: 2s, staleness: 30s, backups_interval: 2s}}
protection: {{overdue_allowance: 45s, stuck_after: 45s}}
metrics: {{states: {states}}}
clusters:
  - {{name: simulated, endpoints: ['http://127.0.0.1:{gateway}'], collectors: {{history: true}}}}
"""


class Prometheus:
    """A Prometheus that scrapes every two seconds, with the queries of the Grafana data source."""

    def __init__(self, context, name, binary, jobs):
        self.name, self.port = name, free_port()
        self.targets = {
            job["job_name"]: sum(len(config["targets"]) for config in job["static_configs"])
            for job in jobs
            if job["job_name"] != DEAD
        }
        folder = context.scratch(name.replace(" ", "-"))
        config = {"global": {"scrape_interval": "2s", "scrape_timeout": "2s"}, "scrape_configs": jobs}
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.process = context.start(
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
        # Grafana aligns ranges to the step.
        start = (end - seconds) // step * step
        return self.get("query_range", query=expression, start=start, end=end // step * step, step=step)["result"]

    def label_values(self, label, selector=None):
        parameters = {"match[]": selector} if selector else {}
        return self.get(f"label/{label}/values", start=time.time() - 900, end=time.time(), **parameters)

    def scrape_after(self, job, moment):
        """Time of the first scrape of a job after a moment, or None."""
        answer = self.query(f'up{{job="{job}"}}[30s]')
        stamps = [stamp for series in answer for stamp, _ in series["values"] if stamp > moment]
        return min(stamps, default=None)

    def instant_with(self, *jobs):
        """An instant at which all targets of these jobs were up and had enough samples for a rate.

        On a busy machine a scrape may fail, and then the job has no data until the next one.
        """

        def attempt():
            # Prometheus stores a scrape under its start time.
            instant = round(time.time() - 2, 3)
            # The last point of a range query may be up to one step earlier.
            enough = "min by (job) (sum_over_time(up[30s] offset 15s)) > 2"
            seen = self.query(f"sum by (job) (up) and on (job) {enough}", instant)
            up = {series["metric"]["job"]: float(series["value"][1]) for series in seen}
            return instant if all(up.get(job) == self.targets[job] for job in jobs) else None

        return wait_until(f"scrapes of {jobs}", attempt, self.process)

    def consistent_truth(self, job):
        """The samples of an instant at which all exporters of a job report the same verdicts."""

        def attempt():
            truth = self.truth(job, self.instant_with(job))
            return truth if truth.is_consistent() else None

        return wait_until(f"equal verdicts from all exporters of {job}", attempt, self.process, pause=0.5)

    def truth(self, job, instant, families=".+", instance=".+"):
        """Samples of a job at an instant, from plain selectors without any PromQL function."""
        selector = f'{{job="{job}",instance=~"{instance}",__name__=~"servicefabric_backup_({families})"}}'
        shards = f'{{job="{job}",__name__=~"servicefabric_backup_(cluster_up|exporter_shard_info)"}}[1d]'
        return Truth.of_vector(self.query(selector, instant), instant, self.query(shards, instant))

    def exporter_jobs(self):
        """The jobs whose targets are exporters."""
        return [name for name in self.targets if name != FOREIGN]


def job(name, *targets, **more):
    return {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in targets]}], **more}


class ScrapeTargets:
    """All scrape targets, one job for each kind."""

    def __init__(self, context, exporter):
        self.started = time.monotonic()
        self.context, self.exporter = context, exporter
        self.demo_port = free_port()
        self.demo = context.start(
            "demo", exporter, "demo", "--partitions=100", f"--web.listen-address=127.0.0.1:{self.demo_port}"
        )
        wait_until("the demo", lambda: fetch(self.demo_port, "/-/ready").status == 200, self.demo)
        self.gateway_port = free_port()
        gateway = context.start(
            "gateway", exporter, "simulate", "--partitions=60", f"--web.listen-address=127.0.0.1:{self.gateway_port}"
        )
        wait_until(
            "the gateway", lambda: fetch(self.gateway_port, "/$/GetClusterVersion?api-version=6.4").status, gateway
        )
        self.exporters = {
            "replicas": [self.start_exporter("replica-all"), self.start_exporter("replica-current", states="current")],
            "shards": [self.start_exporter(f"shard-{n}", "--total-shards=2", f"--shard={n}") for n in (0, 1)],
        }
        secured = self.secured()
        self.canned = CannedPages(context, self.demo_page().samples)
        self.jobs = [
            job(JOB, self.demo_port),
            *(job(name, *(port for _, port in exporters)) for name, exporters in self.exporters.items()),
            secured,
            *(job(name, self.canned.port, metrics_path=f"/{name}") for name in PAGES),
            self.pair("one-replica-unreachable", "one-cluster", "unreachable"),
            self.pair("conflicting", "one-cluster", "lagging"),
            self.pair("one-shard-unreachable", "reachable-shard", "unreachable-shard"),
            job(DEAD, 1),
        ]

    def pair(self, name, *pages):
        """A job with one target for each of these pages."""
        address = f"127.0.0.1:{self.canned.port}"
        configs = [
            {"targets": [address], "labels": {"instance": page, "__metrics_path__": f"/{page}"}} for page in pages
        ]
        return {"job_name": name, "static_configs": configs}

    def demo_page(self):
        return Page(fetch(self.demo_port, "/metrics").body.decode())

    def demo_verdicts(self):
        """{verdict: number of partitions} from the JSON API of the demo."""
        partitions = json.loads(fetch(self.demo_port, "/api/v1/partitions").body)["partitions"]
        return Counter(partition["protection"]["state"] for partition in partitions)

    def start_exporter(self, name, *arguments, states="all"):
        port, config = free_port(), self.context.scratch(name) / "exporter.yml"
        config.write_text(EXPORTER.format(gateway=self.gateway_port, states=states))
        process = self.context.start(
            name, self.exporter, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", *arguments
        )
        wait_until(f"{name} to be ready", lambda: fetch(port, "/-/ready").status == 200, process)
        return process, port

    def secured(self):
        """The job of a demo with TLS, for the certificate panels."""
        port = free_port()
        process = self.context.start(
            "secured", self.exporter, "demo", "--secure", "--partitions=20", f"--web.listen-address=127.0.0.1:{port}"
        )
        folder = wait_until(
            "the folder of the secured demo",
            lambda: re.search(r"folder=(\S+)", process.log.read_text()),
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
