#!/usr/bin/env python3
"""Scrapes the demo with real Prometheus and VictoriaMetrics and compares the stored samples with the page.

    demo_scrape.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts

Prometheus requests OpenMetrics, VictoriaMetrics requests text 0.0.4, so both formats are tested.
"""

import json
import sys
import time

import requests
from harness import TestContext, fetch, free_port, main, parts_with, start_demo, wait_until
from page import Page
from page_checks import single_stream

SCRAPE_CONFIG = """\
global:
  scrape_interval: 2s
  scrape_timeout: 2s
scrape_configs:
  - job_name: demo
    static_configs:
      - targets: ['127.0.0.1:{port}']
"""

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
TEXT = {"Accept": "text/plain; version=0.0.4"}

# Families whose values do not change back: if two pages have the same value, a scrape between them must have it too.
MONOTONIC = ("_timestamp_seconds", "_lsn", "_info", "_interval_seconds", "_configuration_version")


class Database:
    """A database that scrapes the demo, with access to the samples of a single scrape."""

    accept = None

    def __init__(self, name, port, process):
        self.name, self.port, self.process = name, port, process

    def get(self, path, **query):
        answer = requests.get(f"http://127.0.0.1:{self.port}{path}", params=query, timeout=30)
        answer.raise_for_status()
        return answer

    def scrapes(self, since):
        """Timestamps of all scrapes after `since`, successful or not, oldest first: the samples of `up`."""
        raise NotImplementedError

    def stored(self, instant):
        """{(name, labels): value} of the samples with exactly this timestamp, without target labels."""
        raise NotImplementedError

    def wait_for_scrapes(self, count, since=0.0):
        return wait_until(
            f"{count} scrapes by {self.name}",
            lambda: instants if len(instants := self.scrapes(since)) >= count else None,
            self.process,
        )


class Prometheus(Database):
    accept = OPENMETRICS

    @classmethod
    def start(cls, context, name, binary, demo_port):
        port, folder = free_port(), context.scratch(name.replace(" ", "-"))
        (folder / "prometheus.yml").write_text(SCRAPE_CONFIG.format(port=demo_port))
        process = context.start(
            name, binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        )  # fmt: skip
        database = cls(name, port, process)
        return database

    def query(self, expression, instant=None):
        answer = self.get("/api/v1/query", query=expression, **({"time": f"{instant:.3f}"} if instant else {})).json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def scrapes(self, since):
        result = self.query('up{job="demo"}[5m]')
        return [instant for instant, _ in result[0]["values"] if instant > since] if result else []

    def stored(self, instant):
        found = {}
        # A range of one second, because an instant query also returns older samples.
        for series in self.query('{job="demo"}[1s]', instant):
            at = [value for stamp, value in series["values"] if abs(stamp - instant) < 0.0005]
            if at:
                assert len(at) == 1, series
                found[identity(series["metric"])] = float(at[0])
        return found

    def types(self):
        """The type of every family from the metadata API."""
        answer = self.get("/api/v1/targets/metadata", match_target='{job="demo"}').json()
        return {row["metric"]: row["type"] for row in answer["data"]}

    def target(self):
        return self.get("/api/v1/targets").json()["data"]["activeTargets"][0]


class VictoriaMetrics(Database):
    accept = TEXT

    @classmethod
    def start(cls, context, name, binary, demo_port):
        port, folder = free_port(), context.scratch(name.replace(" ", "-"))
        (folder / "scrape.yml").write_text(SCRAPE_CONFIG.format(port=demo_port))
        process = context.start(
            name, binary, f"-promscrape.config={folder}/scrape.yml", f"-storageDataPath={folder}/data",
            f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=1d", "-memory.allowedBytes=256MB",
        )  # fmt: skip
        database = cls(name, port, process)
        return database

    def export(self, selector, start, end):
        """Raw samples, because queries would shift and fill them."""
        self.get("/internal/force_flush")
        answer = self.get("/api/v1/export", **{"match[]": selector, "start": f"{start:.3f}", "end": f"{end:.3f}"})
        return [json.loads(line) for line in answer.text.splitlines()]

    def scrapes(self, since):
        series = self.export('up{job="demo"}', time.time() - 300, time.time())
        return [stamp / 1000 for stamp in series[0]["timestamps"] if stamp / 1000 > since] if series else []

    def stored(self, instant):
        found = {}
        for series in self.export('{job="demo"}', instant, instant):
            # null is a staleness marker.
            at = [
                value
                for stamp, value in zip(series["timestamps"], series["values"], strict=True)
                if stamp == round(instant * 1000) and value is not None
            ]
            if at:
                assert len(at) == 1, series
                found[identity(series["metric"])] = float(at[0])
        return found


def identity(metric):
    labels = {name: value for name, value in metric.items() if name not in ("__name__", "job", "instance")}
    return metric["__name__"], frozenset(labels.items())


def is_ours(key):
    return not (key[0] == "up" or key[0].startswith("scrape_"))


def fetch_page(demo_port, accept):
    answer = fetch(demo_port, "/metrics", accept)
    assert answer.status == 200, f"status {answer.status}"
    return Page(answer.body.decode())


def compare_with_page(database, demo_port):
    """Fetches the page before and after a scrape and asserts that the scrape stored its series.

    Partitions of the demo come and go between two fetches. Series on only one of the two pages are optional, all
    others must be stored, and no other series must be. Retried up to ten times.
    """
    mismatches = []
    for _ in range(10):
        started = time.time()
        before = fetch_page(demo_port, database.accept)
        # Prometheus may shift the timestamp of a scrape by up to 2 ms to align intervals.
        instant = database.wait_for_scrapes(1, since=started + 0.25)[0]
        after = fetch_page(demo_port, database.accept)
        everything = database.stored(instant)
        ours = {key: value for key, value in everything.items() if is_ours(key)}
        both, either = before.label_sets() & after.label_sets(), before.label_sets() | after.label_sets()
        mismatch = mismatch_of(everything, ours, both, either, before, after)
        if not mismatch:
            change = (
                "the page did not change"
                if both == either
                else f"{len(either - both)} of {len(either)} series were added or removed"
            )
            return f"{len(ours)} series stored, {change}"
        mismatches.append(mismatch)
    raise AssertionError("no matching scrape in ten attempts:\n" + "\n".join(mismatches))


def mismatch_of(everything, ours, both, either, before, after):
    """Describes the first mismatch of one scrape, or returns None."""
    if missing := both - ours.keys():
        return f"{len(missing)} series were not stored: {sorted(map(str, missing))[:3]}"
    if unexpected := ours.keys() - either:
        return f"{len(unexpected)} unexpected series were stored: {sorted(map(str, unexpected))[:3]}"
    if everything[("up", frozenset())] != 1:
        return "up is not 1"
    # The database counts before it drops duplicates, so a duplicate series makes this number larger.
    scraped = everything[("scrape_samples_scraped", frozenset())]
    if scraped != len(ours):
        return f"{scraped:.0f} samples were scraped, {len(ours)} series stored"
    if both == either and scraped != len(before.samples):
        return f"{scraped:.0f} samples were scraped, the page has {len(before.samples)} sample lines"
    left, right = (
        {
            (sample.name, sample.labels): float(sample.value)
            for sample in page.samples
            if sample.name.endswith(MONOTONIC)
        }
        for page in (before, after)
    )
    changed = [(key, value, ours[key]) for key, value in left.items() if right.get(key) == value and ours[key] != value]
    if changed:
        return f"values differ: {changed[:3]}"
    return None


def expected_types(page):
    """The expected type of each family in Prometheus, derived from the sample names."""
    types = {}
    histograms = {name for name, kind in page.types.items() if kind == "histogram"}
    for sample in page.samples:
        name = sample.name
        stem = name.rsplit("_", 1)[0]
        if name.endswith("_total"):
            types[stem] = "counter"
        elif name.endswith("_info"):
            types[stem] = "info"
        elif stem in histograms:
            types[stem] = "histogram"
        else:
            types[name] = "gauge"
    return types


def check_prometheus(tally, database, demo_port):
    with tally.check(f"{database.name}: the metadata has the expected types"):
        wanted = expected_types(fetch_page(demo_port, OPENMETRICS))
        assert {"counter", "info", "gauge", "histogram"} <= set(wanted.values()), set(wanted.values())
        stored = database.types()
        wrong = {name: (kind, stored.get(name)) for name, kind in wanted.items() if stored.get(name) != kind}
        assert not wrong, f"name: (expected, stored) {wrong}"

    with tally.check(f"{database.name}: the target is up without a scrape error"):
        target = database.target()
        assert (target["health"], target["lastError"]) == ("up", ""), target

    with tally.check(f"{database.name}: no sample was dropped as duplicate, out of order or out of bounds"):
        own = Page(fetch(database.port, "/metrics").body.decode())
        for reason in ("duplicate_timestamp", "out_of_order", "out_of_bounds"):
            (sample,) = own.named(f"prometheus_target_scrapes_sample_{reason}_total")
            assert float(sample.value) == 0, sample


def demo_scrape(tally, exporter, parts):
    """The demo, scraped by real databases"""
    with TestContext() as context:
        demo, demo_port = start_demo(context, exporter)
        databases = []
        for kind, binary in ((Prometheus, "prometheus"), (VictoriaMetrics, "victoria-metrics")):
            for _, version, path in parts_with(parts, binary):
                databases.append(kind.start(context, f"{kind.__name__} {version}", path, demo_port))
        for database in databases:
            with tally.check(f"{database.name} scrapes twice, and up is 1"):
                last = database.wait_for_scrapes(2)[-1]
                assert database.stored(last)[("up", frozenset())] == 1, database.process.log_tail()
        for database in databases:
            with tally.check(f"{database.name}: every sample of the page is stored once, and no other sample"):
                print(f"        {compare_with_page(database, demo_port)}", flush=True)
            if isinstance(database, Prometheus):
                check_prometheus(tally, database, demo_port)
        with tally.check("the demo still runs after all scrapes"):
            demo.ensure_alive()
            assert fetch(demo_port, "/-/healthy").status == 200


def sizes_scrape(tally, exporter, parts):
    """Demos of sizes whose pages were corrupt in an earlier version, scraped by Prometheus"""
    _, version, binary = list(parts_with(parts, "prometheus"))[-1]
    for partitions in (1_400, 1_410, 1_520):
        with TestContext() as context:
            _, port = start_demo(context, exporter, f"--partitions={partitions}")
            with tally.check(f"{partitions} partitions: the page is complete, both plain and decompressed"):
                plain = fetch(port, "/metrics", OPENMETRICS).body
                compressed = fetch(port, "/metrics", {**OPENMETRICS, "Accept-Encoding": "gzip"}).body
                for page in (Page(plain.decode()), Page(single_stream(compressed).decode())):
                    infos = page.named("servicefabric_backup_partition_info")
                    # The demo adds some partitions to the requested number.
                    assert page.ended and len(infos) >= partitions, f"{len(infos)} partitions, ended: {page.ended}"
            prometheus = Prometheus.start(context, f"Prometheus {version}", binary, port)
            with tally.check(f"{partitions} partitions: {prometheus.name} stores every sample, and up is 1"):
                print(f"        {compare_with_page(prometheus, port)}", flush=True)


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], demo_scrape, sizes_scrape))
