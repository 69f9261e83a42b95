#!/usr/bin/env python3
"""Runs every query of the dashboards on real Prometheus and compares the results with the scraped pages.

    dashboards.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts

The oldest and the newest Prometheus scrape the demo, replicas and shards of exporters, and canned pages of cluster
states that the demo does not have. The expected values are computed in Python from the scraped samples.
"""

import json
import sys
import time
from collections import Counter

from canned import FOREIGN, ODD_APPLICATION
from fleet import GREEN, SERVICE_NUMBERS, colour, differences, green_panels, is_rounded_down, matches, no_value_text
from grafana import (
    Viewer,
    links_of,
    panel_titled,
    panels_of,
    passed_variables,
    read_dashboards,
    referenced_columns,
    referenced_fields,
    resolve_link,
    transform,
    variables_of,
)
from harness import TestContext, fetch, main, parts_with, wait_until
from page import is_volatile
from scene import DEAD, JOB, Prometheus, ScrapeTargets
from truth import VERDICTS, Truth, key_of

# The application of the simulated cluster whose partitions come and go.
POPUP = "fabric:/Popup"

# Targets with an empty result in the demo, by dashboard, title, panel type and refId, with the reason.
EMPTY_IN_THE_DEMO = {
    ("exporter", "Certificate and token expiry", "stat", "C"): "the demo has certificates but no tokens",
}


def viewers(database, dashboard, job_name, truth):
    """The dashboard with default variables, then with those of a partition for each verdict."""
    fixed = {"job": [job_name]}
    yield Viewer(database, dashboard, fixed)
    for partition in truth.examples():
        yield Viewer(database, dashboard, fixed | chosen_for(dashboard, partition))


def chosen_for(dashboard, partition):
    """The variables that have the name of a partition label, set to its value."""
    return {
        name: [partition[name]] if variable.get("multi") else partition[name]
        for name, variable in variables_of(dashboard).items()
        if name in partition
    }


def targets_of(dashboard):
    """{(title, panel type, refId): (panel, target)}"""
    targets = {}
    for panel in panels_of(dashboard):
        for target in panel.get("targets", []):
            key = (panel["title"], panel["type"], target["refId"])
            assert key not in targets, f"{key} occurs twice"
            targets[key] = (panel, target)
    return targets


def check_data(tally, database, name, dashboard):
    """Every target and variable of a dashboard is valid and has data for at least one choice of variables."""
    targets, answered, asked = targets_of(dashboard), set(), 0
    with tally.check(
        f"{database.name}: {name}: every target is valid with default variables and with examples of each kind"
    ):
        # With default variables and another time range.
        viewer = Viewer(database, dashboard, seconds=24 * 3600, step=60)
        for _, target in targets.values():
            viewer.query(target)
        for job_name in (JOB, "secured"):
            truth = database.consistent_truth(job_name)
            for number, viewer in enumerate(viewers(database, dashboard, job_name, truth)):
                for key, (_, target) in targets.items():
                    # The first two run every target, the others those without data so far.
                    if number < 2 or key not in answered:
                        asked += 1
                        if viewer.query(target, truth.instant):
                            answered.add(key)
    with tally.check(f"{database.name}: {name}: every target has data for at least one choice"):
        expected = {key for where, *rest in EMPTY_IN_THE_DEMO if where == name for key in [tuple(rest)]}
        assert expected <= targets.keys(), f"no such targets: {expected - targets.keys()}"
        missing = targets.keys() - answered - expected
        assert not missing, "\n".join(f"{key}: {targets[key][1]['expr']}" for key in sorted(missing))
        assert not expected & answered, f"no longer empty: {expected & answered}"
        print(f"        {len(targets)} targets, {asked} queries", flush=True)
    with tally.check(f"{database.name}: {name}: every variable offers values, and every annotation is valid"):
        viewer = Viewer(database, dashboard, {"job": [JOB]})
        for variable in variables_of(dashboard).values():
            if variable["type"] == "query":
                assert viewer.options(variable["name"]), f"${variable['name']} offers no values"
        for annotation in dashboard["annotations"]["list"]:
            database.query_range(viewer.interpolate(annotation["expr"]), None, viewer.seconds, viewer.step)


def check_columns(tally, database, boards):
    """Every column name exists. Grafana ignores a misspelt one, and the column keeps its raw name or position."""
    truths = [(job_name, database.consistent_truth(job_name)) for job_name in (JOB, "secured")]
    for name, dashboard in boards.items():
        tables = [panel for panel in panels_of(dashboard) if panel["type"] == "table"]
        if not tables:
            continue
        with tally.check(f"{database.name}: {name}: every column that a table refers to exists"):
            for panel in tables:
                fields, columns = referenced_fields(panel), referenced_columns(panel)
                for job_name, truth in truths:
                    for viewer in viewers(database, dashboard, job_name, truth):
                        if fields or columns:
                            frames = viewer.frames(panel, truth.instant)
                            fields -= {field for frame in frames for field in frame.fields}
                            columns -= set(transform(panel, frames).fields)
                assert not fields and not columns, f"{panel['title']!r} refers to missing {fields or columns}"


def check_odd_names(tally, database, boards):
    """Regular expression metacharacters in names are matched literally."""
    for name, dashboard in boards.items():
        with tally.check(f"{database.name}: {name}: brackets, dots and plus signs in names do not change the results"):
            found, compared = 0, []
            instant = database.instant_with("one-cluster", "odd-names")
            plain = database.truth("one-cluster", instant, "partition_info").examples_in("fabric:/Gallery")
            for partition in plain:
                odd = {key: value.replace("fabric:/Gallery", ODD_APPLICATION) for key, value in partition.items()}
                if chosen_for(dashboard, odd) in compared:
                    continue
                compared.append(chosen_for(dashboard, odd))
                plain_viewer, odd_viewer = (
                    Viewer(database, dashboard, {"job": [job_name]} | chosen_for(dashboard, labels))
                    for job_name, labels in (("one-cluster", partition), ("odd-names", odd))
                )
                for key, (_, target) in targets_of(dashboard).items():
                    counts = [len(viewer.query(target, instant)) for viewer in (plain_viewer, odd_viewer)]
                    query = odd_viewer.interpolate(target["expr"])
                    assert counts[0] == counts[1], f"{key}: expected {counts[0]} series, found {counts[1]}: {query}"
                    found += counts[0]
            assert found, "no data"


def check_links(tally, database, boards):
    """Every data link opens a dashboard that offers the linked values."""
    by_uid = {dashboard["uid"]: dashboard for dashboard in boards.values()}
    for name, dashboard in boards.items():
        with tally.check(f"{database.name}: {name}: every link opens the object that was clicked"):
            everywhere = [*dashboard["links"], *(link for panel in panels_of(dashboard) for link in links_of(panel))]
            for link in everywhere:
                there = by_uid[link["url"].partition("?")[0].removeprefix("/d/")]
                known = variables_of(dashboard).keys() & variables_of(there).keys()
                assert passed_variables(link["url"]) <= known, (
                    f"{link['url']} passes variables that one dashboard lacks; both have: {known}"
                )
            followed = 0
            truth = database.consistent_truth(JOB)
            for viewer in viewers(database, dashboard, JOB, truth):
                for panel in panels_of(dashboard):
                    for link in links_of(panel):
                        for place in clickable(viewer, panel, truth.instant):
                            uid, values = resolve_link(link["url"], **place)
                            there = Viewer(database, by_uid[uid], {"job": [JOB]})
                            for variable, value in values.items():
                                assert variable in there.variables, f"{link['url']}: {uid} has no ${variable}"
                                there.chosen[variable] = value
                                options = there.options(variable)
                                assert value in options, (
                                    f"{panel['title']!r}: {variable}={value!r} is not among {options[:5]}"
                                )
                            followed += 1
            print(f"        {followed} links resolve_link", flush=True)


def clickable(viewer, panel, instant):
    """One row, or one series of each target, of a panel that can be clicked."""
    if panel["type"] == "table":
        return [{"fields": row} for row in viewer.rows(panel, instant)[:1]]
    return [{"labels": series["metric"]} for target in panel["targets"] for series in viewer.query(target, instant)[:1]]


def compare(database, fleet, job_name, truth):
    """Asserts that the fleet dashboard shows the expected values; returns its viewer."""
    viewer = Viewer(database, fleet, {"job": [job_name]})
    found = list(differences(viewer, fleet, truth))
    assert not found, "\n".join(found)
    return viewer


def check_page(tally, database, targets, fleet, service):
    """Compares the live demo, at the instant of one scrape, with its metrics page and its JSON API."""
    with tally.check(f"{database.name}: fleet: every value of the demo equals that of its page and of its JSON API"):
        truth = wait_until(
            "all nine verdicts, and two equal pages around a scrape",
            lambda: page_at_a_scrape(database, targets), targets.demo, seconds=180, pause=0.5,
        )  # fmt: skip
        compare(database, fleet, JOB, truth)
        seconds = time.monotonic() - targets.started
        print(f"        {dict(truth.verdicts())}, {seconds:.0f} s after the start", flush=True)
    with tally.check(
        f"{database.name}: service: the values of every service of fabric:/Gallery equal those of the page"
    ):
        for partition in truth.examples_in("fabric:/Gallery"):
            viewer = Viewer(database, service, {"job": [JOB]} | chosen_for(service, partition))
            within = truth.within(service_name=partition["service_name"])
            for title, expected in SERVICE_NUMBERS.items():
                shown = viewer.number(stat(service, title), truth.instant)
                assert matches(title, shown, expected(within)), (
                    f"{partition['service_name']}: {title}: expected {expected(within)}, found {shown}"
                )


def check_partitions(tally, database, partition_board):
    """The partition dashboard for one partition of each verdict."""
    with tally.check(f"{database.name}: partition: verdict, last success and due time equal the samples"):
        truth = database.consistent_truth(JOB)
        last, due = (truth.by_partition(f"{name}_timestamp_seconds") for name in ("last_success", "due"))
        verdict, age, left = (
            panel_titled(partition_board, title)
            for title in ("Verdict", "Last successful backup", "Next backup due in")
        )
        words = {
            float(number): shown["text"]
            for mapping in verdict["fieldConfig"]["defaults"]["mappings"]
            for number, shown in mapping["options"].items()
            if number[0].isdigit()
        }
        for partition in truth.examples():
            key = key_of(partition)
            viewer = Viewer(database, partition_board, {"job": [JOB]} | chosen_for(partition_board, partition))
            shown = [viewer.number(panel, truth.instant) for panel in (verdict, age, left)]
            shown[0] = words[shown[0]]
            wanted = [
                truth.verdict(key),
                truth.instant - last[key] if key in last else None,
                due[key] - truth.instant if key in due else None,
            ]
            assert shown == wanted, f"{partition}: expected {wanted}, found {shown}"
            policy = viewer.text(panel_titled(partition_board, "Policy"), truth.instant)
            (name,) = {
                labels.get("policy_name") for labels, _ in truth.family("partition_info") if key_of(labels) == key
            }
            assert (policy or "").partition(",")[0] == (name or ""), f"expected policy {name!r}, found {policy!r}"


def page_at_a_scrape(database, targets):
    """The page of one scrape, or None if it changed during the scrape."""
    if set(targets.demo_verdicts()) != set(VERDICTS):
        return None
    started, before, counts = time.time(), targets.demo_page(), targets.demo_verdicts()
    instant = wait_until("a scrape", lambda: database.scrape_after(JOB, started + 0.25), database.process, pause=0.05)
    after = targets.demo_page()
    if stable_samples(before) != stable_samples(after):
        return None
    truth = Truth.of_page(after, instant)
    assert counts == truth.verdicts(), f"/api/v1/partitions has {counts}, the page {truth.verdicts()}"
    return truth


def stable_samples(page):
    """The samples that must not change during the comparison."""
    return {
        (sample.series, None if is_volatile(sample.name) else sample.value)
        for sample in page.samples
        if is_compared(sample)
    }


def is_compared(sample):
    return sample.name.startswith("servicefabric_backup_") and "gateway_request" not in sample.name


def check_side_by_side(tally, database, targets, boards):
    """Replicas and shards: two exporters of one cluster, without counting a partition twice."""
    fleet, watched = boards["fleet"], panel_titled(boards["exporter"], "Partitions watched")
    partitions = {}
    for job_name, what in (
        ("replicas", "two exporters of one cluster, one with states: current"),
        ("shards", "two shards"),
    ):
        with tally.check(f"{database.name}: fleet: with {what}, no partition is counted twice"):
            truth = database.consistent_truth(job_name)
            alone = [
                database.truth(job_name, truth.instant, "protection_state", instance=f"127.0.0.1:{port}")
                for _, port in targets.exporters[job_name]
            ]
            partitions[job_name] = {key for key in truth.verdict_of if POPUP not in key}
            counts = [one.partitions() for one in alone]
            wanted = truth.partitions() * (2 if job_name == "replicas" else 1)
            assert min(counts) > 0 and sum(counts) == wanted, f"{counts} partitions of {truth.partitions()}"
            compare(database, fleet, job_name, truth)
            shown = Viewer(database, boards["exporter"], {"job": [job_name]}).legends(watched, truth.instant)
            assert shown == {"simulated": truth.partitions()}, f"expected {truth.partitions()} watched, found {shown}"
            print(f"        {counts} of {truth.partitions()} partitions", flush=True)
    with tally.check(f"{database.name}: the check detects queries that count the partitions of replicas twice"):
        naive = json.loads(json.dumps(fleet).replace("max by (cluster_name,", "max by (instance, cluster_name,"))
        truth = database.consistent_truth("replicas")
        assert naive != fleet
        # One difference is enough: some of the changed queries are not valid.
        assert next(differences(Viewer(database, naive, {"job": ["replicas"]}), naive, truth), None)
    with tally.check(f"{database.name}: the two shards together have the partitions of each replica"):
        assert partitions["replicas"] == partitions["shards"], partitions["replicas"] ^ partitions["shards"]


def check_unreachable_part(database, boards, truth, job_name, reachable):
    """Checks every dashboard that shows reachability for a cluster with one unreachable part."""
    assert sorted(truth.reachability().values()) == reachable, truth.reachability()
    for name in ("fleet", "service"):
        viewer = Viewer(database, boards[name], {"job": [job_name]})
        panel = panel_titled(boards[name], "Unreachable clusters")
        assert viewer.number(panel, truth.instant) == 1 and colour(panel, 1) not in (GREEN, colour(panel, 0)), name
    shown = Viewer(database, boards["exporter"], {"job": [job_name]}).legends(
        panel_titled(boards["exporter"], "Gateways"), truth.instant
    )
    wanted = {f"{cluster} {shard}/{shards}": up for (cluster, shard, shards), up in truth.reachability().items()}
    assert shown == wanted, f"expected {wanted}, found {shown}"


def check_bad_input(tally, database, boards):
    """Cluster states that the demo does not have. Unknown partitions must not look healthy or be omitted."""
    fleet = boards["fleet"]
    on_time, unprotected, unknown, unreachable = (
        panel_titled(fleet, title) for title in ("On time", "Unprotected", "Unknown", "Unreachable clusters")
    )
    truths = {}

    def compare_job(job_name):
        truth = truths[job_name] = database.truth(job_name, database.instant_with(job_name))
        return compare(database, fleet, job_name, truth), truth

    def check(sentence):
        return tally.check(f"{database.name}: fleet: {sentence}")

    with check("one cluster"):
        viewer, truth = compare_job("one-cluster")
        assert viewer.number(unreachable, truth.instant) == 0 and 0 < viewer.number(on_time, truth.instant) < 1
    with check(
        "one reachable and one unreachable cluster with equal partition ids: all count, unreachable ones not as on time"
    ):
        viewer, truth = compare_job("two-clusters")
        one = truths["one-cluster"]
        assert truth.partitions() == 2 * one.partitions()
        assert viewer.number(unreachable, truth.instant) == 1
        assert viewer.number(unknown, truth.instant) == one.partitions() + one.verdicts()["Unknown"]
        assert viewer.number(on_time, truth.instant) < one.on_time_ratio() / 1.5
    with check("no policy: all partitions are unprotected, and none is on time or late"):
        viewer, truth = compare_job("no-policies")
        assert viewer.number(on_time, truth.instant) is None and no_value_text(on_time)
        assert colour(on_time, None) != GREEN
        assert viewer.number(unprotected, truth.instant) == truth.partitions() > 0
    with check("only on-demand backups: half of the partitions are on time"):
        viewer, truth = compare_job("requested-only")
        late = (truth.partitions() + 1) // 2
        assert is_rounded_down(viewer.number(on_time, truth.instant), (truth.partitions() - late) / truth.partitions())
    with check("cluster unreachable: no partition is on time, all are unknown, and no panel is green"):
        viewer, truth = compare_job("unreachable")
        assert viewer.number(on_time, truth.instant) == 0
        assert viewer.number(unknown, truth.instant) == truth.partitions() > 0
        assert viewer.number(unreachable, truth.instant) == 1
        green = green_panels(viewer, fleet, truth.instant)
        assert not green, green
    with check("one partition on time and all others unknown: no panel is green"):
        viewer, truth = compare_job("mostly-unknown")
        assert truth.verdicts()["Protected"] == 1 and truth.verdicts()["Unknown"] == truth.partitions() - 1 > 1
        green = green_panels(viewer, fleet, truth.instant)
        assert not green, green
    with check("one of two shards reaches no gateway: the cluster counts as unreachable"):
        viewer, truth = compare_job("one-shard-unreachable")
        assert truth.partitions() == truths["one-cluster"].partitions()
        assert viewer.number(unknown, truth.instant) >= truth.partitions() // 2
        check_unreachable_part(database, boards, truth, "one-shard-unreachable", [0, 1])
    with check("partitions without application and service names: all count"):
        viewer, truth = compare_job("nameless")
        assert truth.partitions() == truths["one-cluster"].partitions()
    with check("one of two replicas reaches no gateway: the verdicts of the other count, once"):
        viewer, truth = compare_job("one-replica-unreachable")
        one = truths["one-cluster"]
        assert truth.verdicts() == one.verdicts(), truth.verdicts()
        assert is_rounded_down(viewer.number(on_time, truth.instant), one.on_time_ratio())
    with check("two replicas with verdicts Protected and Overdue: the partition counts once, and not as on time"):
        viewer, truth = compare_job("conflicting")
        one = truths["one-cluster"]
        assert truth.partitions() == one.partitions() and truth.verdicts()["Overdue"] > one.verdicts()["Overdue"]
        assert viewer.number(on_time, truth.instant) < one.on_time_ratio()


def check_nameless(tally, database, boards):
    """The service and partition dashboards for partitions without application and service names."""
    with tally.check(f"{database.name}: service, partition: partitions without names can be selected"):
        instant = database.instant_with("nameless")
        truth = database.truth("nameless", instant)
        viewer = Viewer(database, boards["service"], {"job": ["nameless"]})
        for title, expected in SERVICE_NUMBERS.items():
            shown = viewer.number(stat(boards["service"], title), instant)
            assert matches(title, shown, expected(truth)), f"{title}: expected {expected(truth)}, found {shown}"
        viewer = Viewer(database, boards["partition"], {"job": ["nameless"]})
        assert len(viewer.options("partition_id")) == truth.partitions()
        assert viewer.number(stat(boards["partition"], "Verdict"), instant) is not None


def check_foreign(tally, database, boards):
    """Targets that are not exporters do not change any panel, even if all jobs are selected."""
    with tally.check(f"{database.name}: with all jobs selected, other targets, up or down, do not change any panel"):
        instant = database.instant_with(*database.targets)
        for expression in (f'up{{job="{DEAD}"}} == 0', f'process_open_fds{{job="{FOREIGN}"}}'):
            assert database.query(expression, instant), expression
        for name, dashboard in boards.items():
            everything, exporters_only = (
                Viewer(database, dashboard, chosen) for chosen in ({}, {"job": database.exporter_jobs()})
            )
            assert everything.interpolate("$job") != exporters_only.interpolate("$job"), name
            for key, (_, target) in targets_of(dashboard).items():
                shown, wanted = (last_values(viewer, target, instant) for viewer in (everything, exporters_only))
                more, less = ((one - other).most_common(3) for one, other in ((shown, wanted), (wanted, shown)))
                assert not more and not less, f"{name}: {key}: unexpected {more}, missing {less}"


def last_values(viewer, target, instant):
    """Number of occurrences of each (series, value), rounded because the order of a sum changes the last digits.

    With topk the labels are left out, because the choice among equal values is arbitrary.
    """
    named, answer = "topk" not in target["expr"], viewer.query(target, instant, last=True)
    return Counter(
        (tuple(sorted(series["metric"].items())) if named else (), f"{float(series['value'][1]):.9g}")
        for series in answer
    )


def check_stopped_exporters(tally, databases, targets, boards):
    """Stopped exporters: their part of a cluster still counts, as unreachable and not green."""
    fleet = boards["fleet"]

    def check_all(sentence, stopped, assert_state):
        for database in databases:
            with tally.check(f"{database.name}: fleet: {sentence}"):
                down = f'count(up{{job="shards"}} == 0) == {stopped}'
                wait_until(
                    f"{stopped} targets to be down",
                    lambda database=database: database.query(down),
                    database.process,
                )
                assert_state(database, Viewer(database, fleet, {"job": ["shards"]}))

    def one_stopped(database, _viewer):
        truth = database.truth("shards", round(time.time(), 3))
        compare(database, fleet, "shards", truth)
        check_unreachable_part(database, boards, truth, "shards", [-1, 1])

    def both_stopped(_database, viewer):
        assert viewer.number(panel_titled(fleet, "Unreachable clusters")) == 1
        assert viewer.number(panel_titled(fleet, "On time")) is None
        green = green_panels(viewer, fleet)
        assert not green, green

    targets.exporters["shards"][1][0].stop()
    check_all("one of two shards stopped: the cluster counts as unreachable", 1, one_stopped)
    targets.exporters["shards"][0][0].stop()
    check_all("all exporters of a cluster stopped: it counts as unreachable, and no panel is green", 2, both_stopped)


def stat(dashboard, title):
    (panel,) = (panel for panel in panels_of(dashboard) if panel["type"] == "stat" and panel["title"] == title)
    return panel


def check_empty(tally, empty, boards):
    """In a Prometheus without targets, every panel is empty and shows its noValue text."""
    for name, dashboard in boards.items():
        with tally.check(f"{empty.name}: {name}: every panel is empty, shows its noValue text, and is not green"):
            viewer = Viewer(empty, dashboard)
            for panel in panels_of(dashboard):
                for target in panel["targets"]:
                    answer = viewer.query(target)
                    assert not answer, f"{panel['title']!r} expected no data, found {answer[:2]}"
                assert no_value_text(panel), f"{panel['title']!r} has no noValue"
                if panel["type"] == "stat":
                    assert colour(panel, None) != GREEN, f"{panel['title']!r} is green without data"


def dashboards(tally, exporter, parts):
    """The dashboards, answered by real Prometheus"""
    boards = read_dashboards()
    with TestContext() as context:
        targets = ScrapeTargets(context, exporter)
        found = parts_with(parts, "prometheus")
        chosen = [found[0]] if len(found) == 1 else [found[0], found[-1]]
        databases = [Prometheus(context, f"Prometheus {version}", path, targets.jobs) for _, version, path in chosen]
        empty = Prometheus(context, "an empty Prometheus", chosen[-1][2], [])
        for database in (*databases, empty):
            wait_until(
                database.name, lambda port=database.port: fetch(port, "/-/ready").status == 200, database.process
            )
        for database in databases:
            with tally.check(f"{database.name} reaches every target"):
                database.instant_with(*database.targets)
        check_empty(tally, empty, boards)
        # These checks run while the demo takes its time to reach all verdicts.
        for database in databases:
            check_bad_input(tally, database, boards)
            check_side_by_side(tally, database, targets, boards)
            check_odd_names(tally, database, boards)
            check_nameless(tally, database, boards)
            check_foreign(tally, database, boards)
        check_stopped_exporters(tally, databases, targets, boards)
        for database in databases:
            check_page(tally, database, targets, boards["fleet"], boards["service"])
            check_partitions(tally, database, boards["partition"])
            for name, dashboard in boards.items():
                check_data(tally, database, name, dashboard)
            check_columns(tally, database, boards)
            check_links(tally, database, boards)


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], dashboards))
