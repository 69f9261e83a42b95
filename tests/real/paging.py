#!/usr/bin/env python3
"""Checks the notifications of real Prometheus and Alertmanager for a simulated cluster, with the files of deploy/.

    paging.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts

Two exporters watch the cluster, and each alert must be sent once for both. Unexpected notifications are checked at
the end, when all alerts are resolved and every notification has been received.
"""

import contextlib
import datetime
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from alerting import DEPLOY, DURATION, RULE_FILES, Alertmanager, Prometheus, Receiver, uncommented
from gateway_front import FaultProxy
from harness import TestContext, fetch, free_port, main, parts_with, start_demo, wait_until
from page import Page

PREFIX = "ServiceFabricBackup"
CONFIG = DEPLOY / "alertmanager/alertmanager.yml"

# STOPS: a partition of it stops making backups. Its policy is half a minute, so it is overdue after 42 s and has missed
# two backups after 60 s. QUIET has its first periodic backup days later, and SUSPENDED is suspended.
STOPS, QUIET, SUSPENDED = "fabric:/Gallery/BackedUp", "fabric:/Gallery/JustEnabled", "fabric:/Gallery/OnHold"

EXPORTER = """\
poll: {{interval: 2s, timeout: 2s, backups_interval: 4s, staleness: 10s}}
protection: {{overdue_allowance: 12s, stuck_after: 45s}}
metrics: {{states: {states}}}
clusters:
  - name: demo
    endpoints: ['http://127.0.0.1:{gateway}']
    applications: {{include: ['fabric:/Gallery']}}
    services: {{include: ['fabric:/Gallery/(BackedUp|JustEnabled|OnHold)']}}
"""

# Alerts whose severity depends on the schedule. In this test, the plain name is the critical alert.
REQUESTS = "Stuck RequestFailed RequestTimedOut".split()
TICKET = " ticket"

# Alerts about the outages that inhibit other alerts.
OUTAGES = "ClusterUnwatched LockedOut ClusterUnreachable ServiceDown DataStale".split()
LATE = "SilentStop NeverBackedUp Overdue OverdueLong".split()
# Alerts that are inhibited while the exporter has no current data.
INHIBITED_BY_OUTAGE = [
    *LATE, *REQUESTS, *(name + TICKET for name in REQUESTS), "PeriodicFailing",
    *"ProtectionUnknown CoverageDropped Unprotected SuspendedTooLong".split(),
    *"NoPartitions PartitionsDropped SelectorUnmatched".split(),
    *"LsnFrozen ChainTooLong RetentionExceeded ClaimsRefuted Unrestorable".split(),
    *"RestoreRunningLong CollectorFailing".split(),
]  # fmt: skip

# Pages that remain valid when only some of the partitions are unknown.
RELIABLE_WITH_PARTIAL_DATA = {*LATE, *REQUESTS} - {"Overdue"}

# Alerts that are inhibited while the alert on the left fires for the same cluster, service or certificate.
INHIBITS = {
    **{outage: set(INHIBITED_BY_OUTAGE) for outage in OUTAGES},
    "ClusterUnwatched": {*INHIBITED_BY_OUTAGE, *OUTAGES} - {"ClusterUnwatched"},
    "LockedOut": {*INHIBITED_BY_OUTAGE, "DataStale"},
    "ClusterUnreachable": {*INHIBITED_BY_OUTAGE, "DataStale"},
    "ServiceDown": {*INHIBITED_BY_OUTAGE, "DataStale"},
    "DataStale": set(INHIBITED_BY_OUTAGE) - RELIABLE_WITH_PARTIAL_DATA,
    "SilentStop": {
        *LATE, "PeriodicFailing", "RequestFailed", "RequestTimedOut", "RequestFailed ticket", "RequestTimedOut ticket",
    } - {"SilentStop"},
    **{name: {name + TICKET} for name in REQUESTS},
    "NoPartitions": {"PartitionsDropped"},
    "OverdueLong": {"Overdue"},
    "CertificateExpiringSoon": {"CertificateExpiring"},
}


def paging_configuration(tally, _exporter, parts):
    """The examples of Alertmanager and Prometheus, checked by every amtool and promtool"""
    with TestContext() as context:
        for _, version, amtool in parts_with(parts, "amtool"):
            with tally.check(f"amtool {version} accepts the example, with and without the commented-out receivers"):
                complete = CONFIG.read_text().replace("templates/*", f"{CONFIG.parent}/templates/*")
                for key in ("http_config", "pagerduty_configs", "slack_configs", "email_configs"):
                    complete = uncommented(key, complete)
                path = context.folder / "complete.yml"
                path.write_text(complete)
                for config in (CONFIG, path):
                    output = run(amtool, "check-config", config)
                    assert "1 templates" in output and "2 receivers" in output, output
            with tally.check(f"amtool {version}: critical alerts go to the pager, all others to tickets"):
                severities = ("critical", "warning", "info", "CRITICAL", None)
                kinds = ("blind", "late", "failing", "coverage", "restore", "chain", "exporter", "new", None)
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(lambda it: route(amtool, *it), itertools.product(severities, kinds)))
        folder = context.scratch("prometheus")
        shutil.copy(DEPLOY / "compose/prometheus.yml", folder)
        (folder / "rules").symlink_to(DEPLOY / "prometheus")
        for _, version, promtool in parts_with(parts, "promtool"):
            with tally.check(f"promtool {version} accepts the compose example and finds its rule files"):
                output = run(promtool, "check", "config", folder / "prometheus.yml")
                assert output.count("rules found") == len(RULE_FILES), output


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def route(amtool, severity, kind):
    labels = {"alertname": f"{PREFIX}Whatever", "severity": severity, "kind": kind, "cluster_name": "demo"}
    receiver = "page" if severity == "critical" else "ticket"
    run(amtool, "config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receiver}",
        *(f"{name}={value}" for name, value in labels.items() if value))  # fmt: skip


def inhibition(tally, prometheus, alertmanagers):
    """Inhibition between every pair of alerts."""
    alerting = [rule for rule in prometheus.rules() if rule["type"] == "alerting"]
    rules = {name_of(it["name"], it["labels"]): it for rule in alerting for it in variants(rule)}
    with tally.check("every alert in the table of this test exists"):
        named = {*INHIBITS, *set().union(*INHIBITS.values())}
        assert len(rules) > 20 and named <= rules.keys(), named - rules.keys()
    for _, version, binary in alertmanagers:
        with tally.check(f"Alertmanager {version}: inhibition is correct for each pair of {len(rules)} alerts"):
            with TestContext() as context:
                assert_inhibition(Alertmanager(context, f"Alertmanager {version}", binary), rules)


def variants(rule):
    """A rule, once for each of its possible severities."""
    own = [rule["labels"]["severity"]]
    severities = ["critical", "warning"] if own == ["{{ $labels.severity }}"] else own
    return [{**rule, "labels": {**rule["labels"], "severity": severity}} for severity in severities]


def name_of(alert, labels):
    """The name of an alert in the tables of this test."""
    name = alert.removeprefix(PREFIX)
    return name + TICKET if name in REQUESTS and labels["severity"] == "warning" else name


def assert_inhibition(alertmanager, rules):
    alerts, wanted = [], {}
    for cause, effect in itertools.permutations(rules, 2):
        common = labels_of(rules[cause]) & labels_of(rules[effect])
        suppressed = effect in INHIBITS.get(cause, ())
        pair = f"{cause} {effect}"
        alerts += [instance(rules[cause], pair), instance(rules[effect], pair)]
        wanted[pair, effect] = suppressed
        wanted[pair, cause] = cause in INHIBITS.get(effect, ())
        # Inhibition for one service or certificate does not affect others.
        for label in ("service_name", "certificate"):
            if suppressed and label in common:
                apart = f"{pair} of another {label}"
                alerts += [instance(rules[cause], apart), instance(rules[effect], apart, **{label: "b"})]
                wanted[apart, effect] = False
    alertmanager.post(alerts)
    # Alertmanager evaluates inhibition some time after the post.
    with contextlib.suppress(AssertionError):
        wait_until(
            "every pair",
            lambda: not wrongly_inhibited(alertmanager, rules, wanted),
            alertmanager.process,
            seconds=20,
        )
    wrong = wrongly_inhibited(alertmanager, rules, wanted)
    assert not wrong, f"{len(wrong)}: {wrong[:10]}"


def wrongly_inhibited(alertmanager, rules, wanted):
    """The alerts whose inhibition differs from the expected one."""
    # Each pair has its own cluster label. Alerts without a cluster label are shared by all pairs.
    found = {
        (alert["labels"].get("cluster_name"), name_of(alert["labels"]["alertname"], alert["labels"])): alert["status"]
        for alert in alertmanager.alerts()
    }
    assert len(found) > len(rules) ** 2 and any(cluster is None for cluster, _ in found), len(found)
    return [(key, status) for key, status in found.items() if bool(status["inhibitedBy"]) != wanted.get(key, False)]


def grouping(tally, prometheus, alertmanagers):
    """One notification for many services of a cluster."""
    (overdue,) = [rule for rule in prometheus.rules() if rule["name"] == f"{PREFIX}Overdue"]
    for _, version, binary in alertmanagers:
        with tally.check(f"Alertmanager {version}: one notification for fifty services of a cluster"):
            with TestContext() as context:
                receiver = Receiver(context)
                assert_grouping(Alertmanager(context, f"Alertmanager {version}", binary, receiver), receiver, overdue)


def assert_grouping(alertmanager, receiver, overdue):
    alerts = [instance(overdue, "a", service_name=f"service-{number}") for number in range(50)]
    alerts.append(instance(overdue, "b"))
    alertmanager.post(alerts)
    wait_until("two notifications", lambda: len(receiver.webhooks()) >= 2, alertmanager.process)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    alertmanager.post([{**alert, "endsAt": now} for alert in alerts])
    wait_until("the resolved notifications", lambda: len(receiver.all()) >= 8, alertmanager.process)
    sent = sorted((path, status, len(body["alerts"])) for path, status, _, body in receiver.webhooks())
    assert sent == [("ticket", it, count) for it in ("firing", "resolved") for count in (1, 50)], sent
    # The templates in the annotations are not expanded, because Prometheus does that.
    texts = {it["title"]: it["text"] for body in receiver.texts() for it in body["attachments"]}
    ended = f"[RESOLVED] {PREFIX}Overdue in "
    (many,) = [text for title, text in texts.items() if title == f"[FIRING:50] {PREFIX}Overdue in a"]
    assert many.count("are overdue") == 10 and "50 alerts in total." in many, many
    assert texts[f"{ended}b"].startswith("Resolved: "), texts


def labels_of(rule):
    """The labels of an alert, taken from the templates in its annotations."""
    return set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))) - {"state", "severity"}


def instance(rule, cluster, **other):
    labels = {name: cluster if name == "cluster_name" else other.get(name, "a") for name in labels_of(rule)}
    return {"labels": {"alertname": rule["name"], **rule["labels"], **labels}, "annotations": rule["annotations"]}


# Expected pages of the scenario, each once as firing and once as resolved.
PAGES = ("RequestFailed", "RequestTimedOut", "OverdueLong", "ServiceDown")
SERVICE_OF = {
    "RequestFailed": QUIET, "RequestTimedOut": QUIET, "Overdue": STOPS, "OverdueLong": STOPS, "ServiceDown": None,
}  # fmt: skip

# Tickets that are inhibited during the outage of the backup service. They may be sent after the recovery, until all
# data has been read again.
AFTER_RECOVERY = {"ProtectionUnknown", "CollectorFailing"}

# The proxy freezes each answer at its next request. The frozen list may be older than the frozen health report, and
# then the list refutes the report.
AFTER_FREEZE = {"ClaimsRefuted"}

# The plain demo has no TLS, no state file, at most 64 failure codes, no stopped exporter, and no history.
NOT_IN_THE_DEMO = {
    "servicefabric_backup_client_certificate_expiry_timestamp_seconds{}",
    "servicefabric_backup_gateway_certificate_expiry_timestamp_seconds{}",
    "servicefabric_backup_credentials_last_reload_successful{}",
    'servicefabric_backup_progress_failure{code="other"}',
    "shard:servicefabric_backup_cluster_up:orphaned{}",
    "partition:servicefabric_backup_partition_data_loss_timestamp_seconds:unexplained{}",
    "partition:servicefabric_backup_restore_state:failed{}",
    "partition:servicefabric_backup_partition_info:dropped{}",
    "partition:servicefabric_backup_last_success_lsn:frozen{}",
    "partition:servicefabric_backup_chain_length:exceeded{}",
    "servicefabric_backup_exporter_state_file_last_write_successful{}",
    "servicefabric_backup_exporter_web_certificate_expiry_timestamp_seconds{}",
}

# A restore of the demo takes seconds, so an exporter may miss it. Recovery points exceed the retention only until its
# next run.
AT_TIMES_IN_THE_DEMO = {
    "partition:servicefabric_backup_restore_state:running{}",
    "partition:servicefabric_backup_oldest_recovery_point_age_seconds:exceeded{}",
}

# The only change of the plain rules: a shorter interval, so that each group is evaluated soon.
INTERVAL = re.compile(rf"(\binterval: ){DURATION}")


class Cluster:
    """A simulated gateway, a proxy in front of it, and two exporters, one with `states: current`."""

    def __init__(self, context, exporter):
        gateway = free_port()
        simulator = context.start("gateway", exporter, "simulate", f"--web.listen-address=127.0.0.1:{gateway}")
        probe = "/$/GetClusterVersion?api-version=6.4"
        wait_until("the simulated gateway", lambda: fetch(gateway, probe).status == 200, simulator)
        self.proxy, self.exporters = FaultProxy(context, gateway), []
        for states in ("all", "current"):
            port, config = free_port(), context.scratch(states) / "exporter.yml"
            config.write_text(EXPORTER.format(states=states, gateway=self.proxy.port))
            process = context.start(
                f"exporter-{states}", exporter, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"
            )
            self.exporters.append((process, port))
        self.ports = [port for _, port in self.exporters]
        for process, port in self.exporters:
            wait_until("a verdict on nine partitions", lambda port=port: len(self.verdicts(port)) == 9, process)

    def verdicts(self, port):
        """{partition: (service, whether it was restored)} for partitions with a verdict other than Unknown."""
        page = Page(fetch(port, "/metrics").body.decode())
        restored = {
            dict(sample.labels)["partition_id"]
            for sample in page.named("servicefabric_backup_restore_state") if float(sample.value) == 1
        }  # fmt: skip
        found = {}
        for sample in page.named("servicefabric_backup_protection_state"):
            labels = dict(sample.labels)
            if float(sample.value) == 1 and labels["state"] != "Unknown":
                found[labels["partition_id"]] = (labels["service_name"], labels["partition_id"] in restored)
        return found

    def partitions_of(self, service):
        """The partitions of a service, without the one that the simulator restores at its start."""
        verdicts = self.verdicts(self.ports[0])
        return sorted(id for id, (name, restored) in verdicts.items() if name == service and not restored)


class MonitoringStack:
    """One Prometheus, its Alertmanager, and the receiver of the notifications."""

    def __init__(self, context, cluster, prometheus, alertmanager):
        (_, prometheus_version, prometheus_binary), (_, version, binary) = prometheus, alertmanager
        self.receiver = Receiver(context)
        self.alertmanager = Alertmanager(context, f"Alertmanager {version}", binary, self.receiver)
        self.prometheus = Prometheus(
            context, f"Prometheus {prometheus_version}", prometheus_binary, cluster.ports, [self.alertmanager]
        )
        self.name = f"Prometheus {prometheus_version} and Alertmanager {version}"

    def notification_counts(self):
        """Number of notifications for each (receiver, status, alert)."""
        return Counter((path, status, name) for path, status, name, _ in self.receiver.webhooks())

    def wait_for(self, receiver, status, alert, seconds=90):
        key = (receiver, status, PREFIX + alert)
        wait_until(
            f"{key} by {self.name}, which sent {self.notification_counts()}",
            lambda: self.notification_counts()[key], self.alertmanager.process, seconds,
        )  # fmt: skip

    def state(self, alert):
        """State of an alert in Alertmanager, `active` or `suppressed`; None without such an alert."""
        found = [it for it in self.alertmanager.alerts() if it["labels"]["alertname"] == PREFIX + alert]
        assert len(found) <= 1, found
        return found[0]["status"]["state"] if found else None

    def wait_for_state(self, alert, state, seconds=90):
        wait_until(
            f"{alert} to be {state} in {self.name}",
            lambda: self.state(alert) == state, self.alertmanager.process, seconds,
        )  # fmt: skip

    def wait_for_reachability(self, exporters):
        """Waits until this number of exporters reaches gateway and backup service, and no outage alert is pending."""

        def reachable():
            up = [self.prometheus.query(f"servicefabric_backup_{it}_up == 1") for it in ("cluster", "service")]
            outage_alerts = self.prometheus.query(f'ALERTS{{alertname=~"{PREFIX}({"|".join(OUTAGES)})"}}')
            return not outage_alerts and all(len(series) == exporters for series in up)

        what = f"{exporters} exporters with a reachable cluster in {self.name}"
        wait_until(what, reachable, self.prometheus.process, seconds=90)

    def missed_scrapes(self):
        """Seconds of failed scrapes of exporters that are up now. Notifications about these are legitimate."""
        missed = self.prometheus.query("sum(count_over_time((up == 0)[1h:1s]) and on (instance) up == 1)")
        return int(float(missed[0]["value"][1])) if missed else 0


def paging(tally, exporter, parts):
    """Notifications and inhibition during failures of a simulated cluster"""
    with TestContext() as context:
        cluster = Cluster(context, exporter)
        prometheus, alertmanagers = parts_with(parts, "prometheus"), parts_with(parts, "prometheus-alertmanager")
        _, demo = start_demo(context, exporter)
        plain = Prometheus(context, f"plain Prometheus {prometheus[-1][1]}", prometheus[-1][2], [demo], scale=INTERVAL)
        # The newest and the oldest versions, which are the same on Ubuntu.
        pairs = dict.fromkeys([(prometheus[-1], alertmanagers[-1]), (prometheus[0], alertmanagers[0])])
        stacks = [MonitoringStack(context, cluster, *pair) for pair in pairs]
        # As early as possible, because it takes the longest until the partition is overdue.
        cluster.proxy.freeze(cluster.partitions_of(STOPS)[-1], "Gallery")
        inhibition(tally, plain, alertmanagers)
        grouping(tally, plain, alertmanagers)
        run_scenario(tally, cluster, stacks)
        plain_rules(tally, plain)


def run_scenario(tally, cluster, stacks):
    proxy = cluster.proxy
    failed, timed_out = cluster.partitions_of(QUIET)[:2]

    def check_each(sentence, check):
        for stack in stacks:
            with tally.check(f"{stack.name}: {sentence}"):
                check(stack)

    # No notification is expected for a suspended partition.
    proxy.set_record(cluster.partitions_of(SUSPENDED)[0], "failure")
    proxy.set_record(failed, "failure")
    proxy.set_record(timed_out, "timeout")
    check_each(
        "a failed request of a partition without backups is a page",
        lambda it: it.wait_for("page", "firing", "RequestFailed"),
    )
    check_each("a timed-out request is a page", lambda it: it.wait_for("page", "firing", "RequestTimedOut"))
    proxy.set_record(failed, "success.wire")
    proxy.set_record(timed_out, "success.wire")
    check_each(
        "a later success resolves the failed request",
        lambda it: it.wait_for("page", "resolved", "RequestFailed"),
    )
    check_each(
        "a later success resolves the timed-out request",
        lambda it: it.wait_for("page", "resolved", "RequestTimedOut"),
    )
    # The partition has a restorable backup now, and the next one is due in days.
    proxy.set_record(failed, "failure")
    check_each(
        "a failed request of a partition that is on schedule is a ticket",
        lambda it: it.wait_for("ticket", "firing", "RequestFailed"),
    )
    proxy.set_record(failed, "success.wire")
    check_each("a later success resolves the ticket", lambda it: it.wait_for("ticket", "resolved", "RequestFailed"))

    check_each("an overdue partition is a ticket", lambda it: it.wait_for("ticket", "firing", "Overdue"))
    check_each("the next missed run is a page", lambda it: it.wait_for("page", "firing", "OverdueLong"))
    check_each("the page inhibits the ticket", lambda it: it.wait_for_state("Overdue", "suppressed"))

    proxy.set_service_available(False)
    check_each("an unavailable backup service is a page", lambda it: it.wait_for("page", "firing", "ServiceDown"))
    check_each("the outage inhibits the overdue page", lambda it: it.wait_for_state("OverdueLong", "suppressed"))
    check_each(
        "the outage inhibits the ticket about unknown protection",
        lambda it: it.wait_for_state("ProtectionUnknown", "suppressed"),
    )
    check_each("alerts without data are not sent as resolved", assert_expired_silently)
    proxy.set_service_available(True)
    check_each("the recovery of the service is sent", lambda it: it.wait_for("page", "resolved", "ServiceDown"))
    check_each("the overdue page is active again", lambda it: it.wait_for_state("OverdueLong", "active"))
    proxy.thaw()
    check_each(
        "a successful backup resolves the overdue page",
        lambda it: it.wait_for("page", "resolved", "OverdueLong"),
    )
    check_each(
        "a successful backup resolves the overdue ticket",
        lambda it: it.wait_for("ticket", "resolved", "Overdue"),
    )
    check_each("each alert was sent once, for one service, and no other alert was sent", assert_notifications)
    check_each("the text has the fact, the number, the worst partition and the links", assert_text)
    check_each("no rule failed, and no notification was dropped", assert_health)

    # So far, one exporter with a reachable service was enough. It may be the one that is stopped next.
    check_each("both exporters reach the service again", lambda it: it.wait_for_reachability(len(cluster.exporters)))
    cluster.exporters[0][0].stop()
    check_each("one stopped exporter is a ticket", lambda it: it.wait_for("ticket", "firing", "ExporterDown"))
    check_each("one stopped exporter is not a page", lambda it: assert_pages(it, PAGES))
    cluster.exporters[1][0].stop()
    check_each("two stopped exporters are a page", lambda it: it.wait_for("page", "firing", "ClusterUnwatched"))
    check_each("no other page was sent", lambda it: assert_pages(it, PAGES, firing=["ClusterUnwatched"]))


def assert_expired_silently(stack):
    """Alerts without data expire in Alertmanager without a resolved notification."""
    stack.wait_for_state("OverdueLong", None)
    stack.wait_for_state("Overdue", None)
    notifications = {(status, name.removeprefix(PREFIX)) for _, status, name in stack.notification_counts()}
    assert not notifications & {("resolved", "OverdueLong"), ("resolved", "Overdue")}, notifications
    assert not {name for _, name in notifications} & AFTER_RECOVERY, notifications


def assert_pages(stack, wanted, firing=()):
    counts = stack.notification_counts().items()
    notifications = Counter({(status, name): count for (path, status, name), count in counts if path == "page"})
    expected = Counter((status, PREFIX + it) for it in wanted for status in ("firing", "resolved"))
    expected.update(("firing", PREFIX + it) for it in firing)
    if missed := stack.missed_scrapes():
        # After a failed scrape an alert may be sent again, so the number of notifications is not checked.
        print(f"        {stack.name} missed scrapes for {missed} s: duplicates are not checked", flush=True)
        notifications, expected = Counter(notifications.keys()), Counter(expected.keys())
    assert notifications == expected, f"unexpected: {notifications - expected}, missing: {expected - notifications}"


def assert_notifications(stack):
    assert_pages(stack, PAGES)
    sent = [(path, status, name.removeprefix(PREFIX), body) for path, status, name, body in stack.receiver.webhooks()]
    notifications = [(status, name, body) for _, status, name, body in sent]
    optional = AFTER_RECOVERY | AFTER_FREEZE | ({"ExporterDown"} if stack.missed_scrapes() else set())
    tickets = Counter((status, name) for path, status, name, _ in sent if path == "ticket" and name not in optional)
    expected = {(status, name) for status in ("firing", "resolved") for name in ("Overdue", "RequestFailed")}
    assert tickets.keys() == expected, tickets
    assert stack.missed_scrapes() or set(tickets.values()) == {1}, tickets
    order = [name for status, name, _ in notifications if status == "firing" and name in ("Overdue", "OverdueLong")]
    assert order[:2] == ["Overdue", "OverdueLong"], order
    for _, name, body in notifications:
        services = [alert["labels"].get("service_name") for alert in body["alerts"]]
        assert name in optional or services == [SERVICE_OF[name]], (name, services)


def assert_text(stack):
    title = f"[FIRING:1] {PREFIX}Overdue in demo"
    (text,) = [it for body in stack.receiver.texts() if (it := body["attachments"][0])["title"] == title]
    what, worst, dashboard, _, runbook = text["text"].strip().splitlines()
    assert what == f"1 partition(s) of {STOPS} in cluster demo are overdue for a backup", text
    age = r"(\d+m )?\d+(\.\d+)?s"
    facts = rf"its backup was due {age} ago, and its last successful backup is {age} old"
    named = r"partition [0-9a-f-]{36} \(policy EveryHalfMinute\)"
    assert re.match(rf"Worst: {named}: {facts}\. First step: ", worst), text
    assert dashboard.startswith("http://localhost:3000/d/sfbe-service?var-cluster_name=demo&"), text
    assert runbook.startswith("Runbook: https://") and runbook.endswith(f"/{PREFIX}Overdue.md"), text


def assert_health(stack):
    for counter in ("prometheus_rule_evaluation_failures_total", "prometheus_notifications_dropped_total"):
        assert stack.prometheus.own_metric(counter) == 0, f"{counter}: {stack.prometheus.process.log_tail()}"
    bad = [rule for rule in stack.prometheus.rules() if rule["health"] != "ok"]
    assert not bad, bad


def plain_rules(tally, prometheus):
    """The rules with their original durations, evaluated on the demo."""
    with tally.check(f"{prometheus.name}: no rule evaluation fails on the demo"):
        bad = [rule for rule in prometheus.rules() if rule["health"] != "ok"]
        assert not bad and len(prometheus.rules()) > 40, bad
        assert prometheus.own_metric("prometheus_rule_evaluation_failures_total") == 0, prometheus.process.log_tail()
    if prometheus.request("/api/v1/parse_query", query="up").status_code == 404:
        print(f"        {prometheus.name} has no parse_query: selectors are not checked", flush=True)
        return
    with tally.check(f"{prometheus.name}: the demo has data for every selector except the listed ones"):
        queries = {rule["query"] for rule in prometheus.rules()}
        trees = [prometheus.get("/api/v1/parse_query", query=query) for query in queries]
        wanted = {selector for tree in trees for selector in selectors(tree)}
        assert NOT_IN_THE_DEMO < wanted, NOT_IN_THE_DEMO - wanted
        missing = set(wanted)

        def all_expected_data_seen():
            # Some states of the demo last a minute and recur every five minutes, so the past hour counts.
            found = [it for it in missing if prometheus.query(f"present_over_time({it}[1h])")]
            missing.difference_update(found)
            return missing <= NOT_IN_THE_DEMO | AT_TIMES_IN_THE_DEMO

        try:
            wait_until("data for every selector", all_expected_data_seen, prometheus.process, seconds=400, pause=2)
        except AssertionError as failed:
            raise AssertionError(f"no data for {sorted(missing - NOT_IN_THE_DEMO - AT_TIMES_IN_THE_DEMO)}") from failed
        assert NOT_IN_THE_DEMO <= missing, f"unexpected data for {sorted(NOT_IN_THE_DEMO - missing)}"
        print(f"        {len(wanted) - len(missing)} of {len(wanted)} selectors have data", flush=True)


def selectors(tree):
    """Every selector of an expression, without range and offset, because a new demo has no history."""
    if isinstance(tree, list):
        for branch in tree:
            yield from selectors(branch)
    elif isinstance(tree, dict):
        if tree.get("type") in ("vectorSelector", "matrixSelector"):
            matchers = [it for it in tree["matchers"] if it["name"] != "__name__"]
            inside = ",".join(f"{it['name']}{it['type']}{json.dumps(it['value'])}" for it in matchers)
            yield f"{tree['name']}{{{inside}}}"
        yield from selectors(list(tree.values()))


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], paging_configuration, paging))
