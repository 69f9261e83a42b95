#!/usr/bin/env python3
"""Lets real Prometheus and Alertmanager page for a simulated cluster, by the rules and the example of deploy/.

    paging.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts

Two exporters watch the cluster, so whatever is told is told once for both. "Nothing else" is judged at the end, from
all that the receivers were sent: the end of an alert comes after everything that was sent while it lasted.
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
from gateway_front import Front
from harness import Stage, fetch, free_port, main, parts_with, start_demo, wait_until
from page import Page

PREFIX = "ServiceFabricBackup"
CONFIG = DEPLOY / "alertmanager/alertmanager.yml"

# The service whose partition stops; its policy is half a minute, so that it is late after 42 s and has missed two
# backups after 60. The other two have no periodic backups: one because its first is days away, one is suspended.
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

# Alerts whose severity depends on the schedule of the partition. Here the name alone is the page.
REQUESTS = "Stuck RequestFailed RequestTimedOut".split()
TICKET = " ticket"

BLIND = "ClusterUnwatched LockedOut ClusterUnreachable ServiceDown DataStale".split()
LATE = "SilentStop NeverBackedUp Overdue OverdueLong".split()
GUESSES = [
    *LATE, *REQUESTS, *(name + TICKET for name in REQUESTS), "PeriodicFailing",
    *"ProtectionUnknown CoverageDropped Unprotected SuspendedTooLong".split(),
    *"NoPartitions PartitionsDropped SelectorUnmatched".split(),
    *"LsnFrozen ChainTooLong RetentionExceeded ClaimsRefuted Unrestorable".split(),
    *"RestoreRunningLong CollectorFailing".split(),
]  # fmt: skip

# Pages that are no guesses where only some of the partitions cannot be judged.
SEEN = {*LATE, *REQUESTS} - {"Overdue"}

# What is silent while the alert on the left fires, for the same cluster, service or certificate.
SUPPRESSES = {
    **{blind: set(GUESSES) for blind in BLIND},
    "ClusterUnwatched": {*GUESSES, *BLIND} - {"ClusterUnwatched"},
    "LockedOut": {*GUESSES, "DataStale"},
    "ClusterUnreachable": {*GUESSES, "DataStale"},
    "ServiceDown": {*GUESSES, "DataStale"},
    "DataStale": set(GUESSES) - SEEN,
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
    with Stage() as stage:
        for _, version, amtool in parts_with(parts, "amtool"):
            with tally.check(f"amtool {version} takes the example, with and without the receivers in its comments"):
                complete = CONFIG.read_text().replace("templates/*", f"{CONFIG.parent}/templates/*")
                for key in ("http_config", "pagerduty_configs", "slack_configs", "email_configs"):
                    complete = uncommented(key, complete)
                path = stage.folder / "complete.yml"
                path.write_text(complete)
                for config in (CONFIG, path):
                    said = run(amtool, "check-config", config)
                    assert "1 templates" in said and "2 receivers" in said, said
            with tally.check(f"amtool {version}: critical is a page, everything else is a ticket"):
                severities = ("critical", "warning", "info", "CRITICAL", None)
                kinds = ("blind", "late", "failing", "coverage", "restore", "chain", "exporter", "new", None)
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(lambda it: route(amtool, *it), itertools.product(severities, kinds)))
        folder = stage.scratch("prometheus")
        shutil.copy(DEPLOY / "compose/prometheus.yml", folder)
        (folder / "rules").symlink_to(DEPLOY / "prometheus")
        for _, version, promtool in parts_with(parts, "promtool"):
            with tally.check(f"promtool {version} takes the example of compose, and the rules where it looks for them"):
                said = run(promtool, "check", "config", folder / "prometheus.yml")
                assert said.count("rules found") == len(RULE_FILES), said


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def route(amtool, severity, kind):
    labels = {"alertname": f"{PREFIX}Whatever", "severity": severity, "kind": kind, "cluster_name": "demo"}
    receiver = "page" if severity == "critical" else "ticket"
    run(amtool, "config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receiver}",
        *(f"{name}={value}" for name, value in labels.items() if value))  # fmt: skip


def suppression(tally, prometheus, alertmanagers):
    """Every alert of the rules beside every other one."""
    alerting = [rule for rule in prometheus.rules() if rule["type"] == "alerting"]
    rules = {name_of(it["name"], it["labels"]): it for rule in alerting for it in variants(rule)}
    with tally.check("the table of this test names alerts that there are"):
        named = {*SUPPRESSES, *set().union(*SUPPRESSES.values())}
        assert len(rules) > 20 and named <= rules.keys(), named - rules.keys()
    for _, version, binary in alertmanagers:
        with tally.check(f"Alertmanager {version}: what suppresses what, in each pair of {len(rules)} alerts"):
            with Stage() as stage:
                judge_suppression(Alertmanager(stage, f"Alertmanager {version}", binary), rules)


def variants(rule):
    """A rule with each severity that it can have."""
    own = [rule["labels"]["severity"]]
    severities = ["critical", "warning"] if own == ["{{ $labels.severity }}"] else own
    return [{**rule, "labels": {**rule["labels"], "severity": severity}} for severity in severities]


def name_of(alert, labels):
    """The name of an alert in the tables of this test."""
    name = alert.removeprefix(PREFIX)
    return name + TICKET if name in REQUESTS and labels["severity"] == "warning" else name


def judge_suppression(alertmanager, rules):
    alerts, wanted = [], {}
    for cause, effect in itertools.permutations(rules, 2):
        common = labels_of(rules[cause]) & labels_of(rules[effect])
        suppressed = effect in SUPPRESSES.get(cause, ())
        pair = f"{cause} {effect}"
        alerts += [instance(rules[cause], pair), instance(rules[effect], pair)]
        wanted[pair, effect] = suppressed
        wanted[pair, cause] = cause in SUPPRESSES.get(effect, ())
        # What suppresses one service or certificate leaves the others alone.
        for label in ("service_name", "certificate"):
            if suppressed and label in common:
                apart = f"{pair} of another {label}"
                alerts += [instance(rules[cause], apart), instance(rules[effect], apart, **{label: "b"})]
                wanted[apart, effect] = False
    alertmanager.post(alerts)
    # What suppresses others is taken in a moment after it has been posted.
    with contextlib.suppress(AssertionError):
        wait_until("every pair", lambda: not unlike(alertmanager, rules, wanted), alertmanager.process, seconds=20)
    wrong = unlike(alertmanager, rules, wanted)
    assert not wrong, f"{len(wrong)}: {wrong[:10]}"


def unlike(alertmanager, rules, wanted):
    """The alerts that are suppressed and should not be, or the other way round."""
    # Every pair has a cluster of its own; those that have no cluster are the same in all.
    found = {
        (alert["labels"].get("cluster_name"), name_of(alert["labels"]["alertname"], alert["labels"])): alert["status"]
        for alert in alertmanager.alerts()
    }
    assert len(found) > len(rules) ** 2 and any(cluster is None for cluster, _ in found), len(found)
    return [(key, status) for key, status in found.items() if bool(status["inhibitedBy"]) != wanted.get(key, False)]


def grouping(tally, prometheus, alertmanagers):
    """Many services of one cause."""
    (overdue,) = [rule for rule in prometheus.rules() if rule["name"] == f"{PREFIX}Overdue"]
    for _, version, binary in alertmanagers:
        with tally.check(f"Alertmanager {version}: fifty services of a cluster are one notification, to the end"):
            with Stage() as stage:
                receiver = Receiver(stage)
                judge_grouping(Alertmanager(stage, f"Alertmanager {version}", binary, receiver), receiver, overdue)


def judge_grouping(alertmanager, receiver, overdue):
    alerts = [instance(overdue, "a", service_name=f"service-{number}") for number in range(50)]
    alerts.append(instance(overdue, "b"))
    alertmanager.post(alerts)
    wait_until("two notifications", lambda: len(receiver.webhooks()) >= 2, alertmanager.process)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    alertmanager.post([{**alert, "endsAt": now} for alert in alerts])
    wait_until("their ends", lambda: len(receiver.all()) >= 8, alertmanager.process)
    told = sorted((path, status, len(body["alerts"])) for path, status, _, body in receiver.webhooks())
    assert told == [("ticket", it, count) for it in ("firing", "resolved") for count in (1, 50)], told
    # The annotations are not filled in here: that is the work of Prometheus.
    texts = {it["title"]: it["text"] for body in receiver.texts() for it in body["attachments"]}
    ended = f"[RESOLVED] {PREFIX}Overdue in "
    (many,) = [text for title, text in texts.items() if title == f"[FIRING:50] {PREFIX}Overdue in a"]
    assert many.count("are overdue") == 10 and "50 alerts in total." in many, many
    assert texts[f"{ended}b"].startswith("Resolved: "), texts


def labels_of(rule):
    """The labels that an alert has, by what its texts name."""
    return set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))) - {"state", "severity"}


def instance(rule, cluster, **other):
    labels = {name: cluster if name == "cluster_name" else other.get(name, "a") for name in labels_of(rule)}
    return {"labels": {"alertname": rule["name"], **rule["labels"], **labels}, "annotations": rule["annotations"]}


# What the scenes are to be told by, each once when it begins and once when it ends.
PAGES = ("RequestFailed", "RequestTimedOut", "OverdueLong", "ServiceDown")
SERVICE_OF = {
    "RequestFailed": QUIET, "RequestTimedOut": QUIET, "Overdue": STOPS, "OverdueLong": STOPS, "ServiceDown": None,
}  # fmt: skip

# Tickets that are suppressed while the service is away. It is seen to be back some seconds before everything has been
# read again, and whether they are told in between is a matter of chance.
AFTERWARDS = {"ProtectionUnknown", "CollectorFailing"}

# The front freezes each answer when it is next asked for. The frozen list may be older than the frozen health report,
# and then the list refutes the report.
FROZEN = {"ClaimsRefuted"}

# The plain demo has no TLS, no state file, no more than 64 codes, an exporter that does not go away, and no past.
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

# A restore of the demo is over within seconds, so an exporter may or may not see it run. Recovery points are older than the
# policy keeps them only until its next run of retention.
AT_TIMES_IN_THE_DEMO = {
    "partition:servicefabric_backup_restore_state:running{}",
    "partition:servicefabric_backup_oldest_recovery_point_age_seconds:exceeded{}",
}

# All that is changed of the plain rules: nobody waits five minutes for the first evaluation of a group.
INTERVAL = re.compile(rf"(\binterval: ){DURATION}")


class Cluster:
    """A simulated gateway, the front before it, and two exporters, of which one shows current states only."""

    def __init__(self, stage, exporter):
        gateway = free_port()
        simulator = stage.start("gateway", exporter, "simulate", f"--web.listen-address=127.0.0.1:{gateway}")
        probe = "/$/GetClusterVersion?api-version=6.4"
        wait_until("the simulated gateway", lambda: fetch(gateway, probe).status == 200, simulator)
        self.front, self.exporters = Front(stage, gateway), []
        for states in ("all", "current"):
            port, config = free_port(), stage.scratch(states) / "exporter.yml"
            config.write_text(EXPORTER.format(states=states, gateway=self.front.port))
            process = stage.start(
                f"exporter-{states}", exporter, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"
            )
            self.exporters.append((process, port))
        self.ports = [port for _, port in self.exporters]
        for process, port in self.exporters:
            wait_until("a verdict on nine partitions", lambda port=port: len(self.verdicts(port)) == 9, process)

    def verdicts(self, port):
        """Service of each partition that has a verdict other than Unknown, and whether it was restored."""
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

    def victims(self, service):
        """Its partitions, without the one that the simulated cluster restores at its start."""
        verdicts = self.verdicts(self.ports[0])
        return sorted(id for id, (name, restored) in verdicts.items() if name == service and not restored)


class Watch:
    """One Prometheus, its Alertmanager, and what that has sent."""

    def __init__(self, stage, cluster, prometheus, alertmanager):
        (_, prometheus_version, prometheus_binary), (_, version, binary) = prometheus, alertmanager
        self.receiver = Receiver(stage)
        self.alertmanager = Alertmanager(stage, f"Alertmanager {version}", binary, self.receiver)
        self.prometheus = Prometheus(
            stage, f"Prometheus {prometheus_version}", prometheus_binary, cluster.ports, [self.alertmanager]
        )
        self.name = f"Prometheus {prometheus_version} and Alertmanager {version}"

    def told(self):
        """How often each (receiver, status, alert) was sent."""
        return Counter((path, status, name) for path, status, name, _ in self.receiver.webhooks())

    def wait_for(self, receiver, status, alert, seconds=90):
        key = (receiver, status, PREFIX + alert)
        wait_until(
            f"{key} by {self.name}, which sent {self.told()}",
            lambda: self.told()[key], self.alertmanager.process, seconds,
        )  # fmt: skip

    def state(self, alert):
        """active or suppressed, as Alertmanager has it; None where there is none."""
        found = [it for it in self.alertmanager.alerts() if it["labels"]["alertname"] == PREFIX + alert]
        assert len(found) <= 1, found
        return found[0]["status"]["state"] if found else None

    def wait_for_state(self, alert, state, seconds=90):
        wait_until(
            f"{alert} to be {state} in {self.name}",
            lambda: self.state(alert) == state, self.alertmanager.process, seconds,
        )  # fmt: skip


    def wait_for_sight(self, exporters):
        """Until so many exporters see gateway and backup service, and no alert is about to say otherwise."""

        def seen():
            up = [self.prometheus.query(f"servicefabric_backup_{it}_up == 1") for it in ("cluster", "service")]
            doubted = self.prometheus.query(f'ALERTS{{alertname=~"{PREFIX}({"|".join(BLIND)})"}}')
            return not doubted and all(len(series) == exporters for series in up)

        wait_until(f"{exporters} exporters that see, by {self.name}", seen, self.prometheus.process, seconds=90)

    def missed_scrapes(self):
        """For how many seconds exporters were not heard that are heard now. What follows of it is told by right."""
        missed = self.prometheus.query("sum(count_over_time((up == 0)[1h:1s]) and on (instance) up == 1)")
        return int(float(missed[0]["value"][1])) if missed else 0


def paging(tally, exporter, parts):
    """A cluster that falls ill, who is told, and who suppresses whom"""
    with Stage() as stage:
        cluster = Cluster(stage, exporter)
        prometheus, alertmanagers = parts_with(parts, "prometheus"), parts_with(parts, "prometheus-alertmanager")
        _, demo = start_demo(stage, exporter)
        plain = Prometheus(stage, f"plain Prometheus {prometheus[-1][1]}", prometheus[-1][2], [demo], scale=INTERVAL)
        # The newest and the oldest, which are the same on Ubuntu.
        pairs = dict.fromkeys([(prometheus[-1], alertmanagers[-1]), (prometheus[0], alertmanagers[0])])
        watches = [Watch(stage, cluster, *pair) for pair in pairs]
        # As soon as somebody watches, because it takes most of the time until it is late.
        cluster.front.freeze(cluster.victims(STOPS)[-1], "Gallery")
        suppression(tally, plain, alertmanagers)
        grouping(tally, plain, alertmanagers)
        play(tally, cluster, watches)
        plain_rules(tally, plain)


def play(tally, cluster, watches):
    front = cluster.front
    failed, timed_out = cluster.victims(QUIET)[:2]

    def everywhere(sentence, look):
        for watch in watches:
            with tally.check(f"{watch.name}: {sentence}"):
                look(watch)

    # Nobody is to hear of this one.
    front.set_record(cluster.victims(SUSPENDED)[0], "failure")
    front.set_record(failed, "failure")
    front.set_record(timed_out, "timeout")
    everywhere("a failed request without any backup pages", lambda it: it.wait_for("page", "firing", "RequestFailed"))
    everywhere("one that timed out is a page", lambda it: it.wait_for("page", "firing", "RequestTimedOut"))
    front.set_record(failed, "success.wire")
    front.set_record(timed_out, "success.wire")
    everywhere("a later success ends it", lambda it: it.wait_for("page", "resolved", "RequestFailed"))
    everywhere("also where it had timed out", lambda it: it.wait_for("page", "resolved", "RequestTimedOut"))
    # There is a good backup now, and the next one is days away.
    front.set_record(failed, "failure")
    everywhere("under a kept schedule it is a ticket", lambda it: it.wait_for("ticket", "firing", "RequestFailed"))
    front.set_record(failed, "success.wire")
    everywhere("which a success ends too", lambda it: it.wait_for("ticket", "resolved", "RequestFailed"))

    everywhere("what is overdue is a ticket", lambda it: it.wait_for("ticket", "firing", "Overdue"))
    everywhere("and a page when the next run is missed", lambda it: it.wait_for("page", "firing", "OverdueLong"))
    everywhere("which suppresses the ticket", lambda it: it.wait_for_state("Overdue", "suppressed"))

    front.take_service(False)
    everywhere("a backup service that is away is a page", lambda it: it.wait_for("page", "firing", "ServiceDown"))
    everywhere("late is suppressed by it", lambda it: it.wait_for_state("OverdueLong", "suppressed"))
    everywhere("what nobody can judge as well", lambda it: it.wait_for_state("ProtectionUnknown", "suppressed"))
    everywhere("nothing ends because nobody sees it", judge_darkness)
    front.take_service(True)
    everywhere("the return of the service is told", lambda it: it.wait_for("page", "resolved", "ServiceDown"))
    everywhere("late is late again", lambda it: it.wait_for_state("OverdueLong", "active"))
    front.thaw()
    everywhere("until a backup succeeds", lambda it: it.wait_for("page", "resolved", "OverdueLong"))
    everywhere("the ticket ends with the page", lambda it: it.wait_for("ticket", "resolved", "Overdue"))
    everywhere("each of them was told once, of one service, and nothing else was", judge_notifications)
    everywhere("the text says what, how many, how bad, and where to look", judge_text)
    everywhere("no rule failed, and nothing was lost on the way", judge_health)

    # Until now one exporter that saw the service was enough, and the one that stays may not be that one.
    everywhere("both exporters see the service again", lambda it: it.wait_for_sight(len(cluster.exporters)))
    cluster.exporters[0][0].stop()
    everywhere("one exporter that is gone is a ticket", lambda it: it.wait_for("ticket", "firing", "ExporterDown"))
    everywhere("and no page", lambda it: judge_pages(it, PAGES))
    cluster.exporters[1][0].stop()
    everywhere("both are a page", lambda it: it.wait_for("page", "firing", "ClusterUnwatched"))
    everywhere("and the only one more", lambda it: judge_pages(it, PAGES, firing=["ClusterUnwatched"]))


def judge_darkness(watch):
    """The alerts about what cannot be seen go from Alertmanager, and nobody is told so."""
    watch.wait_for_state("OverdueLong", None)
    watch.wait_for_state("Overdue", None)
    told = {(status, name.removeprefix(PREFIX)) for _, status, name in watch.told()}
    assert not told & {("resolved", "OverdueLong"), ("resolved", "Overdue")}, told
    assert not {name for _, name in told} & AFTERWARDS, told


def judge_pages(watch, wanted, firing=()):
    told = Counter({(status, name): count for (path, status, name), count in watch.told().items() if path == "page"})
    expected = Counter((status, PREFIX + it) for it in wanted for status in ("firing", "resolved"))
    expected.update(("firing", PREFIX + it) for it in firing)
    if missed := watch.missed_scrapes():
        # An alert that nobody saw for a moment is told again by right; what is told stays the same.
        print(f"        {watch.name} missed scrapes for {missed} s: how often is not judged", flush=True)
        told, expected = Counter(told.keys()), Counter(expected.keys())
    assert told == expected, f"too much: {told - expected}, missing: {expected - told}"


def judge_notifications(watch):
    judge_pages(watch, PAGES)
    sent = [(path, status, name.removeprefix(PREFIX), body) for path, status, name, body in watch.receiver.webhooks()]
    told = [(status, name, body) for _, status, name, body in sent]
    chance = AFTERWARDS | FROZEN | ({"ExporterDown"} if watch.missed_scrapes() else set())
    tickets = Counter((status, name) for path, status, name, _ in sent if path == "ticket" and name not in chance)
    expected = {(status, name) for status in ("firing", "resolved") for name in ("Overdue", "RequestFailed")}
    assert tickets.keys() == expected, tickets
    assert watch.missed_scrapes() or set(tickets.values()) == {1}, tickets
    order = [name for status, name, _ in told if status == "firing" and name in ("Overdue", "OverdueLong")]
    assert order[:2] == ["Overdue", "OverdueLong"], order
    for _, name, body in told:
        services = [alert["labels"].get("service_name") for alert in body["alerts"]]
        assert name in chance or services == [SERVICE_OF[name]], (name, services)


def judge_text(watch):
    title = f"[FIRING:1] {PREFIX}Overdue in demo"
    (text,) = [it for body in watch.receiver.texts() if (it := body["attachments"][0])["title"] == title]
    what, worst, dashboard, _, runbook = text["text"].strip().splitlines()
    assert what == f"1 partition(s) of {STOPS} in cluster demo are overdue for a backup", text
    age = r"(\d+m )?\d+(\.\d+)?s"
    facts = rf"its backup was due {age} ago, and its last successful backup is {age} old"
    named = r"partition [0-9a-f-]{36} \(policy EveryHalfMinute\)"
    assert re.match(rf"Worst: {named}: {facts}\. First step: ", worst), text
    assert dashboard.startswith("http://localhost:3000/d/sfbe-service?var-cluster_name=demo&"), text
    assert runbook.startswith("Runbook: https://") and runbook.endswith(f"/{PREFIX}Overdue.md"), text


def judge_health(watch):
    for counter in ("prometheus_rule_evaluation_failures_total", "prometheus_notifications_dropped_total"):
        assert watch.prometheus.own_metric(counter) == 0, f"{counter}: {watch.prometheus.process.log_tail()}"
    bad = [rule for rule in watch.prometheus.rules() if rule["health"] != "ok"]
    assert not bad, bad


def plain_rules(tally, prometheus):
    """The rules as they are, on the demo as it is."""
    with tally.check(f"{prometheus.name}: no rule fails on the demo"):
        bad = [rule for rule in prometheus.rules() if rule["health"] != "ok"]
        assert not bad and len(prometheus.rules()) > 40, bad
        assert prometheus.own_metric("prometheus_rule_evaluation_failures_total") == 0, prometheus.process.log_tail()
    if prometheus.ask("/api/v1/parse_query", query="up").status_code == 404:
        print(f"        {prometheus.name} cannot take expressions apart: what they select is not checked", flush=True)
        return
    with tally.check(f"{prometheus.name}: the demo has data for every selector, except those that it cannot have"):
        queries = {rule["query"] for rule in prometheus.rules()}
        trees = [prometheus.get("/api/v1/parse_query", query=query) for query in queries]
        wanted = {selector for tree in trees for selector in selectors(tree)}
        assert NOT_IN_THE_DEMO < wanted, NOT_IN_THE_DEMO - wanted
        missing = set(wanted)

        def all_expected_data_seen():
            # Some states of the demo last a minute and recur only every five: the past hour counts.
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
    """Every selector of an expression, without its range and offset: a young demo has no past."""
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
