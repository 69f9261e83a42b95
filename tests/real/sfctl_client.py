#!/usr/bin/env python3
"""Reads the gateway of the demo with sfctl and compares the result with the metrics of the exporter.

    sfctl_client.py --exporter target/dist/servicefabric-backup-exporter

sfctl is the command line client of Service Fabric. It has no backup commands, so this test covers the native routes:
topology, health and nodes. Its settings and the selected cluster are stored in a temporary home directory.
"""

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from harness import TestContext, fetch, main, start_demo, wait_until
from page import Page
from truth import Truth

GALLERY = "fabric:/Gallery"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}

# Expected Backup events of services. OnHold is left out: it has one if a backup was running when it was suspended.
EVENTS = {
    "BackedUp": {"Ok"},
    "StoppedSilently": {"Ok"},
    "StorageLost": {"Warning"},
    # The state provider of an actor service ignores upload errors.
    "ActorsStorageLost": {"Ok"},
    "CleanedUp": {"Ok"},
}
WITHOUT_EVENT = ("NeverStarted", "JustEnabled", "Forgotten")


# Starting sfctl takes longer than a command, so one process runs all read-only commands.
READER = """
import io, json, sys
from sfctl.entry import cli
for line in sys.stdin:
    output = io.StringIO()
    code = cli().invoke([*json.loads(line), "--output", "json"], out_file=output)
    print(json.dumps([code, output.getvalue()]), flush=True)
"""


class Sfctl:
    """The command line client with a temporary home directory."""

    def __init__(self, context):
        self.command = Path(sys.executable).with_name("sfctl")
        self.environment = {**os.environ, "HOME": str(context.scratch("home"))}
        # By default, sfctl sends telemetry about its commands.
        self.run("settings", "telemetry", "set-telemetry", "--off")
        self.reader = subprocess.Popen(
            [sys.executable, "-c", READER],
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        context.exits.callback(self.reader.kill)

    def run(self, *words):
        return subprocess.run(
            [self.command, *words], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def read(self, *words):
        """The JSON output of a command."""
        self.reader.stdin.write(json.dumps(words) + "\n")
        self.reader.stdin.flush()
        code, output = json.loads(self.reader.stdout.readline())
        assert code == 0, f"{' '.join(words)}: {code}"
        return json.loads(output)

    def items(self, *words):
        return self.read(*words)["items"]


def identifier(name):
    return name.removeprefix("fabric:/").replace("/", "~")


def endpoint_of(demo):
    match = re.search(r"listens on (http://[\d.]+:\d+)", demo.log_tail(50))
    assert match, demo.log_tail(50)
    return match[1]


def truth_of(port):
    return Truth.of_page(Page(fetch(port, "/metrics", OPENMETRICS).body.decode()), 0)


def check_selection(tally, sfctl, endpoint, truth):
    with tally.check("sfctl cluster select, which sends GET /, accepts the gateway"):
        done = sfctl.run("cluster", "select", "--endpoint", endpoint)
        assert done.returncode == 0, done.stderr
        assert sfctl.run("cluster", "show-connection").stdout.strip().strip('"') == endpoint

    with tally.check("sfctl reads the version of the cluster"):
        ((labels, _),) = truth.family("cluster_info")
        # sfctl logs a warning, because it supports only older clusters.
        assert f'the cluster version "{labels["version"]}"' in " ".join(done.stderr.split()), done.stderr


def check_topology(tally, sfctl, truth):
    """From the cluster to the partitions, and back up. Popup is left out, because its partitions come and go."""
    expected = {}
    for _, application, service, partition in truth.verdict_of:
        if application != "fabric:/Popup":
            expected.setdefault(application, {}).setdefault(service, set()).add(partition)

    with tally.check("application list has the applications of the exporter"):
        names = {item["name"] for item in sfctl.items("application", "list")}
        assert names - {"fabric:/Popup"} == expected.keys(), names ^ expected.keys()

    with tally.check("service list of every application has the services of the exporter"):
        for application, services in expected.items():
            items = sfctl.items("service", "list", "--application-id", identifier(application))
            names = {item["name"] for item in items if item.get("hasPersistedState")}
            assert names == services.keys(), names ^ services.keys()

    with tally.check("partition list of every service of the gallery has the partitions of the exporter"):
        for service, partitions in expected[GALLERY].items():
            items = sfctl.items("partition", "list", "--service-id", identifier(service))
            ids = {item["partitionInformation"]["id"] for item in items}
            assert ids == partitions, f"{service}: {ids ^ partitions}"
            assert all(item["partitionStatus"] == "Ready" for item in items), items

    with tally.check("partition svc-name and service app-name return service and application"):
        service, partitions = min(expected[GALLERY].items())
        found = sfctl.read("partition", "svc-name", "--partition-id", min(partitions))
        assert found["name"] == service, found
        found = sfctl.read("service", "app-name", "--service-id", identifier(service))
        assert found["name"] == GALLERY, found

    return expected[GALLERY]


def backup_event(sfctl, partition):
    health = sfctl.read("partition", "health", "--partition-id", partition)
    events = [
        event
        for event in health["healthEvents"]
        if (event["sourceId"], event["property"]) == ("System.BackupRestoreManager", "Backup")
    ]
    assert len(events) < 2, events
    return events[0] if events else None


def check_health(tally, sfctl, services, port):
    for name, states in EVENTS.items():
        with tally.check(f"partition health of {name} has the expected Backup event"):
            for partition in list(services[f"{GALLERY}/{name}"])[:2]:
                event = backup_event(sfctl, partition)
                assert event and {event["healthState"]} == states, event

    with tally.check("partition health of new and unprotected services has no Backup event"):
        for name in WITHOUT_EVENT:
            for partition in list(services[f"{GALLERY}/{name}"])[:1]:
                event = backup_event(sfctl, partition)
                assert event is None, f"{name}: {event}"

    with tally.check("the exporter and sfctl read the same time and outcome of the Backup event"):
        # Partitions whose event does not change.
        for partition in list(services[f"{GALLERY}/StoppedSilently"])[:2]:
            event = backup_event(sfctl, partition)
            truth = truth_of(port)
            key = ("demo", GALLERY, f"{GALLERY}/StoppedSilently", partition)
            at = truth.by_partition("periodic_attempt_timestamp_seconds")[key]
            read = datetime.fromisoformat(event["sourceUtcTimestamp"]).timestamp()
            # The exporter keeps whole seconds.
            assert abs(at - read) < 1, f"{at} for {event}"
            assert truth.by_partition("periodic_success")[key] == 1

    with tally.check("a warning of a partition propagates to its service, its application and the cluster"):
        words = ("--service-id", "Gallery~StorageLost"), ("--application-id", "Gallery"), ()
        for scope, arguments in zip(("service", "application", "cluster"), words, strict=True):
            health = sfctl.read(scope, "health", *arguments)
            assert health["aggregatedHealthState"] == "Warning", f"{scope}: {health}"
        states = {item["name"]: item["aggregatedHealthState"] for item in health["applicationHealthStates"]}
        assert states["fabric:/System"] == "Ok" and states[GALLERY] == "Warning", states

    with tally.check("the health of an unknown partition is an error"):
        done = sfctl.run("partition", "health", "--partition-id", "0badc0de-0000-4000-8000-000000000000")
        assert done.returncode != 0 and "FABRIC_E_HEALTH_ENTITY_NOT_FOUND" in done.stderr, done


def check_nodes(tally, sfctl, truth):
    with tally.check("node list has the nodes of the cluster health, all with the version of the cluster"):
        nodes = sfctl.items("node", "list")
        ((labels, _),) = truth.family("cluster_info")
        assert {node["codeVersion"] for node in nodes} == {labels["version"]}, nodes
        health = sfctl.read("cluster", "health")
        assert {node["name"] for node in nodes} == {node["name"] for node in health["nodeHealthStates"]}, health


def sfctl_client(tally, exporter, _parts):
    """The gateway of the demo, read with sfctl"""
    with TestContext() as context:
        demo, port = start_demo(context, exporter)
        # Health and topology are collected independently.
        truth = wait_until(
            "a complete page of the demo",
            lambda: truth if (truth := truth_of(port)).family("periodic_success") and truth.verdict_of else None,
            demo,
        )
        sfctl = Sfctl(context)
        check_selection(tally, sfctl, endpoint_of(demo), truth)
        services = check_topology(tally, sfctl, truth)
        check_health(tally, sfctl, services, port)
        check_nodes(tally, sfctl, truth)


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], sfctl_client))
