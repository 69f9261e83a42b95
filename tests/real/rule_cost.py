#!/usr/bin/env python3
"""Measures the rules of deploy/prometheus in a real Prometheus while every service of a large cluster has an incident.

    rule_cost.py --parts target/ci/parts --partitions 20000 --services 300

Runs the newest Prometheus with two CPUs, and fails if the evaluation of a group takes three seconds. The samples are
synthetic: a page that Prometheus scrapes, and TSDB blocks for the history that the rules read. run.py uses a small
page and checks only the alerts, not the durations.
"""

import argparse
import contextlib
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests
from alerting import RULE_FILES
from harness import Handler, TestContext, free_port, parts_with, wait_until

LIMIT = 3.0
HOUR, DAY = 3600, 86400
VERDICTS = "NeverBackedUp Overdue Stuck Failing Suspended Unprotected Pending Protected Unknown".split()
REQUESTS = "Invalid Accepted BackupInProgress Success Failure Timeout".split()
RESTORES = "Invalid Accepted RestoreInProgress SecondariesInProgress Success Failure Timeout".split()

# States of the partitions, by their number within the service. All others are Protected.
VERDICT_OF = {
    **dict.fromkeys(range(5), "Failing"), **dict.fromkeys(range(5, 13), "Overdue"), 13: "Stuck", 14: "Stuck",
    15: "NeverBackedUp", 16: "Unprotected", 17: "Suspended", 18: "Unknown", 19: "Failing",
}  # fmt: skip
REQUEST_OF = {
    **dict.fromkeys(range(10), "Failure"), **dict.fromkeys(range(10, 13), "Timeout"),
    13: "BackupInProgress", 14: "BackupInProgress",
}  # fmt: skip
OVERDUE = {*range(5, 13), 14, 15}
NO_SUCCESS, NO_POLICY, PERIODIC_FAILING = {15}, {16}, {19}
RESTORE_OF = {20: "Failure", 21: "RestoreInProgress"}
DATA_LOST, LONG_CHAIN, OLD_BACKUPS, FROZEN = {22}, {23}, {24}, {25}
INCIDENTS = 26
PARTITION = r"[0-9a-f]{8}-0000-4000-8000-[0-9a-f]{12}"

# The expected alerts with their severities, each for every service.
EXPECTED = {
    *((f"ServiceFabricBackup{name}", "critical") for name in (
        "NeverBackedUp", "OverdueLong", "Stuck", "RequestFailed", "RequestTimedOut", "RestoreFailed", "DataLoss",
    )),
    *((f"ServiceFabricBackup{name}", "warning") for name in (
        "Overdue", "Stuck", "RequestFailed", "PeriodicFailing", "CoverageDropped", "Unprotected", "SuspendedTooLong",
        "RestoreRunningLong", "ChainTooLong", "RetentionExceeded", "LsnFrozen",
    )),
}  # fmt: skip


class SyntheticCluster:
    """A synthetic cluster: its page at one moment, and its history."""

    def __init__(self, partitions, services, start):
        self.start, self.services = start, services
        self.partitions = [(number % services, number // services) for number in range(partitions)]

    def labels(self, service, number, **more):
        application = f"fabric:/App{service % 20:02}"
        own = dict(
            cluster_name="prod", application_name=application, service_name=f"{application}/Service{service:03}",
            partition_id=f"{service:08x}-0000-4000-8000-{number:012x}", **more,
        )  # fmt: skip
        return "{" + ",".join(f'{name}="{value}"' for name, value in own.items()) + "}"

    def page(self):
        """(family, labels, value) of all samples at the start."""
        now = self.start
        for name, value in (("cluster_up", 1), ("service_up", 1), ("overdue_allowance_seconds", 900)):
            yield name, '{cluster_name="prod"}', value
        yield "partitions", '{cluster_name="prod"}', len(self.partitions)
        yield "exporter_build_info", '{version="0"}', 1
        yield "exporter_shard_info", '{shard="0",shards="1"}', 1
        for name, value in (
            ("interval_seconds", HOUR), ("max_incrementals", 5), ("retention_seconds", 7 * DAY), ("minimum_backups", 3),
        ):  # fmt: skip
            yield f"policy_{name}", '{cluster_name="prod",policy_name="hourly"}', value
        for service, number in self.partitions:
            yield from self.partition(service, number, now)

    def partition(self, service, number, now):
        plain = self.labels(service, number)
        policy = {} if number in NO_POLICY else {"policy_name": "hourly"}
        yield "partition_info", self.labels(service, number, partition_kind="Int64Range", **policy), 1
        verdict, request = VERDICT_OF.get(number, "Protected"), REQUEST_OF.get(number, "Success")
        yield from self.states("protection_state", VERDICTS, verdict, service, number)
        yield from self.states("progress_state", REQUESTS, request, service, number)
        yield "progress_state_since_timestamp_seconds", plain, now - 1800 - number
        if request in ("Failure", "Timeout"):
            yield "progress_failure_observed", plain, 1
            yield "progress_failure", self.labels(service, number, code="FABRIC_E_BACKUPCOPIER_TIMEOUT"), 1
        age = (5 * HOUR if number in OVERDUE else 2400) + number
        if number not in NO_SUCCESS:
            yield "last_success_timestamp_seconds", plain, now - age
        if policy and verdict not in ("Unknown", "Suspended"):
            yield "due_timestamp_seconds", plain, now - age + HOUR
        yield "last_success_lsn", plain, 700 if number in FROZEN else now
        yield "periodic_success", plain, 0 if number in PERIODIC_FAILING else 1
        yield "suspended", plain, 1 if verdict == "Suspended" else 0
        yield "chain_length", plain, 9 if number in LONG_CHAIN else 3
        yield "recovery_points", plain, 99
        yield "oldest_recovery_point_timestamp_seconds", plain, now - (30 if number in OLD_BACKUPS else 6) * DAY
        yield "partition_data_loss_timestamp_seconds", plain, now - 1200 if number in DATA_LOST else now - 90 * DAY
        if number in RESTORE_OF:
            yield from self.states("restore_state", RESTORES, RESTORE_OF[number], service, number)

    def states(self, family, states, current, service, number):
        for state in states:
            yield family, self.labels(service, number, state=state), int(state == current)

    def history(self):
        """(family, labels, [(age, value)]) of the history that the rules read, oldest first."""
        offsets = (4 * DAY, 56 * HOUR, 28 * HOUR, DAY, 6 * HOUR)
        ages = [offset + early for offset in offsets for early in range(1200, -1801, -240)]
        ages += range(70 * 60 + 240, 90, -60)
        yield "service_up", '{cluster_name="prod"}', [(age, 1) for age in ages]
        day = range(DAY, 60, -600)
        for service, number in self.partitions:
            plain = self.labels(service, number)
            info = self.labels(service, number, partition_kind="Int64Range", policy_name="hourly")
            yield "partition_info", info, [(age, 1) for age in ages if number not in NO_POLICY or age > 1800]
            # The rule reads two minutes of history, so the data loss starts before the first scrape.
            losses = [(age, self.start - (1200 if number in DATA_LOST and age < 1200 else 90 * DAY)) for age in ages]
            yield "partition_data_loss_timestamp_seconds", plain, losses
            if REQUEST_OF.get(number) in ("Failure", "Timeout"):
                yield "progress_failure_observed", plain, [(age, 1) for age in day]
            frozen = number in FROZEN
            yield "last_success_lsn", plain, [(age, 700 if frozen else self.start - age) for age in ages]
            recorded = "partition:servicefabric_backup_last_success_timestamp_seconds:max"
            yield recorded, plain, [(age, self.start - age - 2400) for age in ages]
            for state in RESTORES if number in RESTORE_OF else ():
                # The restore ends within the last hour.
                values = [(age, int(state == "RestoreInProgress")) for age in range(7 * HOUR, 60, -60)]
                yield "restore_state", self.labels(service, number, state=state), values


def write_history(cluster, target, path):
    """Writes the history as OpenMetrics, grouped by family."""
    with contextlib.ExitStack() as files:
        families = {}
        for family, labels, samples in cluster.history():
            if family not in families:
                families[family] = files.enter_context(tempfile.TemporaryFile("w+"))
            is_recorded = ":" in family
            name = f"{family}{labels}" if is_recorded else f"servicefabric_backup_{family}{labels[:-1]},{target}}}"
            families[family].writelines(f"{name} {value} {cluster.start - age}\n" for age, value in samples)
        with path.open("w") as history:
            for family, file in families.items():
                file.seek(0)
                shutil.copyfileobj(file, history)
            history.write("# EOF\n")


class LoadedPrometheus:
    """A Prometheus with the history and the page of a synthetic cluster."""

    def __init__(self, context, name, binary, cluster, interval):
        text = "".join(f"servicefabric_backup_{family}{labels} {value}\n" for family, labels, value in cluster.page())
        body = gzip.compress(text.encode(), 1)

        class Served(Handler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        target = f"127.0.0.1:{context.serve(Served)}"
        folder, self.port = context.scratch(name.replace(" ", "-")), free_port()
        write_history(cluster, f'job="servicefabric-backup",instance="{target}"', folder / "history.txt")
        promtool = Path(binary).with_name("promtool")
        subprocess.run(
            [promtool, "tsdb", "create-blocks-from", "--max-block-duration=120h", "openmetrics",
             folder / "history.txt", folder / "tsdb"], check=True, capture_output=True, timeout=600,
        )  # fmt: skip
        (folder / "history.txt").unlink()
        (folder / "rules").mkdir()
        for path in RULE_FILES:
            text = path.read_text().replace("interval: 5m", f"interval: {interval}s")
            (folder / "rules" / path.name).write_text(text)
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s, evaluation_interval: {interval}s}}\n"
            "rule_files: [rules/*.yml]\n"
            f"scrape_configs: [{{job_name: servicefabric-backup, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        self.process = context.start(
            name, "env", "GOMAXPROCS=2", binary, f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/tsdb", "--storage.tsdb.retention.time=30d",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )  # fmt: skip

    def get(self, path, **query):
        answer = requests.get(f"http://127.0.0.1:{self.port}/api/v1/{path}", params=query, timeout=120).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def groups(self):
        # Prometheus 2.42 does not support `exclude_alerts` and ignores it.
        return {group["name"]: group for group in self.get("rules", exclude_alerts="true")["groups"]}

    def alerts(self):
        return self.get("alerts")["alerts"]


def wait_for_alerts(prometheus, seconds):
    """Waits until every expected alert exists and names a partition."""
    missing = set(EXPECTED)

    def reached():
        named, unnamed = set(), set()
        for alert in prometheus.alerts():
            labels, text = alert["labels"], alert["annotations"]["description"]
            (named if re.search(PARTITION, text) else unnamed).add((labels["alertname"], labels["severity"]))
        missing.clear()
        missing.update(EXPECTED - (named - unnamed))
        return not missing

    try:
        wait_until("the alerts", reached, prometheus.process, seconds, pause=1)
    except AssertionError as error:
        raise AssertionError(f"missing alerts: {sorted(missing)}") from error


def assert_alerts(prometheus, services):
    bad = [rule for group in prometheus.groups().values() for rule in group["rules"] if rule["health"] != "ok"]
    assert not bad, bad
    alerts = prometheus.alerts()
    counts = {}
    for alert in alerts:
        key = alert["labels"]["alertname"], alert["labels"]["severity"]
        counts[key] = counts.get(key, 0) + 1
        texts = alert["annotations"]
        assert "error expanding template" not in str(texts), alert
        if key in EXPECTED:
            named = set(re.findall(PARTITION, texts["description"]))
            assert len(named) == 1 and re.search(r"\d+m \d+s|\b\d+ backups|\b4d\b", texts["description"]), alert
            assert "partition_id" not in alert["labels"], alert
    wrong = {key: counts.get(key, 0) for key in EXPECTED if counts.get(key, 0) != services}
    assert not wrong, f"expected one alert for each of {services} services, found {wrong}"


def assert_samples(prometheus):
    """Asserts that each `service:` recording rule has one sample for each service, state and severity."""
    names = [name for name in prometheus.get("label/__name__/values") if name.startswith("service:")]
    assert len(names) > 5, names
    for name in names:
        many = prometheus.get("query", query=f"count without (partition_id, policy_name, code) ({name}) > 1")["result"]
        assert not many, many


def rule_cost(tally, _exporter, parts):
    """Every alert about partitions, for every service of a cluster"""
    for _, version, binary in parts_with(parts, "prometheus"):
        sentence = f"Prometheus {version}: every alert names one partition of its service"
        with TestContext() as context, tally.check(sentence):
            cluster = SyntheticCluster(4 * INCIDENTS, 4, int(time.time()))
            prometheus = LoadedPrometheus(context, f"loaded {version}", binary, cluster, 3)
            wait_for_alerts(prometheus, seconds=180)
            assert_alerts(prometheus, 4)
            assert_samples(prometheus)


def cpu_seconds(prometheus):
    lines = requests.get(f"http://127.0.0.1:{prometheus.port}/metrics", timeout=30).text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("process_cpu_seconds_total "))


def measure(parts, partitions, services, interval, evaluations):
    """Prints the duration of each group and the slowest rules; returns an error message, or 0."""
    _, version, binary = parts_with(parts, "prometheus")[-1]
    cluster = SyntheticCluster(partitions, services, int(time.time()))
    with TestContext() as context:
        prometheus = LoadedPrometheus(context, f"loaded {version}", binary, cluster, interval)
        wait_for_alerts(prometheus, seconds=900)
        groups, rules, started, cpu = {}, {}, time.monotonic(), cpu_seconds(prometheus)
        # The first observed evaluation may be one without the alerts.
        while min((len(times) for times in groups.values()), default=0) <= evaluations:
            time.sleep(interval / 6)
            prometheus.process.ensure_alive()
            for name, group in prometheus.groups().items():
                groups.setdefault(name, {})[group["lastEvaluation"]] = group["evaluationTime"]
                for rule in group["rules"]:
                    rules.setdefault(rule["name"], {})[rule["lastEvaluation"]] = rule["evaluationTime"]
        cpu, seconds = cpu_seconds(prometheus) - cpu, time.monotonic() - started
        print(f"Prometheus {version}, {partitions} partitions, {services} services, {len(prometheus.alerts())} alerts,")
        print(f"{cpu * interval / seconds:.1f} CPU s for each scrape and evaluation of everything")
        print(f"load average of the machine, with this Prometheus: {os.getloadavg()[0]:.2f}")
        groups, rules = (
            {name: list(times.values())[1:] for name, times in measured.items()} for measured in (groups, rules)
        )
        print(f"{sum(max(times) for times in groups.values()):.1f} s for all groups one after the other, at most")
        for measured, shown in ((groups, len(groups)), (rules, 12)):
            for name, times in sorted(measured.items(), key=lambda it: -min(it[1]))[:shown]:
                print(f"{name:86} fastest {min(times):6.2f} s  slowest {max(times):6.2f} s", flush=True)
        assert_alerts(prometheus, services)
        assert_samples(prometheus)
        slow = [name for name, times in groups.items() if max(times) >= LIMIT]
        return f"{LIMIT} s or longer: {slow}" if slow else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=Path, default=Path("target/ci/parts"), help="what .ci/fetch-parts unpacked")
    parser.add_argument("--partitions", type=int, default=20000)
    parser.add_argument("--services", type=int, default=300)
    parser.add_argument("--interval", type=int, default=60, help="seconds between scrapes and between evaluations")
    parser.add_argument("--evaluations", type=int, default=3)
    chosen = parser.parse_args()
    sys.exit(measure(chosen.parts.absolute(), chosen.partitions, chosen.services, chosen.interval, chosen.evaluations))
