#!/usr/bin/env python3
"""Asks real Prometheus everything that the dashboards ask, and holds the numbers against the pages they come from.

    dashboards.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts

The oldest and the newest Prometheus scrape the demo, exporters side by side and in shards, and pages of clusters that
the demo does not show. What the fleet dashboard says of each is computed anew, in Python, from what was scraped.
"""

import json
import sys
import time
from collections import Counter

from canned import FOREIGN, ODD_APPLICATION
from fleet import GREEN, OF_A_SERVICE, colour, differences, fits, green_panels, rounded_down, words_instead
from grafana import (
    Viewer,
    fields_named_in,
    followed,
    handed_on,
    heads_named_in,
    links_of,
    panels_of,
    read_dashboards,
    titled,
    transformed,
    variables_of,
)
from harness import Stage, fetch, main, parts_with, wait_until
from page import moves
from scene import DEAD, JOB, Prometheus, ScrapeTargets
from truth import VERDICTS, Truth, key_of

# The application of the simulated cluster whose partitions come and go.
STAGE = "fabric:/Popup"

# Targets whose answer may be empty in the demo, by dashboard, title and letter, with the reason.
EMPTY_IN_THE_DEMO = {
    ("exporter", "Certificate and token expiry", "stat", "C"): "the demo shows certificates, and no tokens",
}


def viewers(database, dashboard, job_name, truth):
    """Who looks at the dashboard as it opens, and then at what a partition in each of the verdicts belongs to."""
    fixed = {"job": [job_name]}
    yield Viewer(database, dashboard, fixed)
    for partition in truth.examples():
        yield Viewer(database, dashboard, fixed | chosen_for(dashboard, partition))


def chosen_for(dashboard, partition):
    """The variables that are named like a label of a partition, set to it."""
    return {
        name: [partition[name]] if variable.get("multi") else partition[name]
        for name, variable in variables_of(dashboard).items()
        if name in partition
    }


def targets_of(dashboard):
    """{(title, kind, letter): (panel, target)}"""
    targets = {}
    for panel in panels_of(dashboard):
        for target in panel.get("targets", []):
            key = (panel["title"], panel["type"], target["refId"])
            assert key not in targets, f"{key} stands twice"
            targets[key] = (panel, target)
    return targets


def check_data(tally, database, name, dashboard):
    """Every target and variable of a dashboard is answered, and with data for at least one choice."""
    targets, answered, asked = targets_of(dashboard), set(), 0
    with tally.check(
        f"{database.name}: {name}: every target is understood, as it opens and for one thing of each kind"
    ):
        # As it opens, with a range of its own.
        viewer = Viewer(database, dashboard, seconds=24 * 3600, step=60)
        for _, target in targets.values():
            viewer.ask(target)
        for job_name in (JOB, "secured"):
            truth = database.consistent_truth(job_name)
            for number, viewer in enumerate(viewers(database, dashboard, job_name, truth)):
                for key, (_, target) in targets.items():
                    # Two are asked for everything, the others for what is still without data.
                    if number < 2 or key not in answered:
                        asked += 1
                        if viewer.ask(target, truth.instant):
                            answered.add(key)
    with tally.check(f"{database.name}: {name}: every target has data for one of them"):
        expected = {key for where, *rest in EMPTY_IN_THE_DEMO if where == name for key in [tuple(rest)]}
        assert expected <= targets.keys(), f"no such targets: {expected - targets.keys()}"
        missing = targets.keys() - answered - expected
        assert not missing, "\n".join(f"{key}: {targets[key][1]['expr']}" for key in sorted(missing))
        assert not expected & answered, f"no longer empty: {expected & answered}"
        print(f"        {len(targets)} targets, asked {asked} times", flush=True)
    with tally.check(f"{database.name}: {name}: every variable offers values, and every annotation is understood"):
        viewer = Viewer(database, dashboard, {"job": [JOB]})
        for variable in variables_of(dashboard).values():
            if variable["type"] == "query":
                assert viewer.options(variable["name"]), f"${variable['name']} offers nothing"
        for annotation in dashboard["annotations"]["list"]:
            database.query_range(viewer.interpolate(annotation["expr"]), None, viewer.seconds, viewer.step)


def check_columns(tally, database, boards):
    """Grafana passes over names that no field has: a misspelt one would leave a column raw, or out of place."""
    truths = [(job_name, database.consistent_truth(job_name)) for job_name in (JOB, "secured")]
    for name, dashboard in boards.items():
        tables = [panel for panel in panels_of(dashboard) if panel["type"] == "table"]
        if not tables:
            continue
        with tally.check(f"{database.name}: {name}: every column that a table names is there"):
            for panel in tables:
                fields, heads = fields_named_in(panel), heads_named_in(panel)
                for job_name, truth in truths:
                    for viewer in viewers(database, dashboard, job_name, truth):
                        if fields or heads:
                            frames = viewer.frames(panel, truth.instant)
                            fields -= {field for frame in frames for field in frame.fields}
                            heads -= set(transformed(panel, frames).fields)
                assert not fields and not heads, f"{panel['title']!r} names {fields or heads}, which is never there"


def check_odd_names(tally, database, boards):
    """Names with signs of regular expressions are found as literally as all others."""
    for name, dashboard in boards.items():
        with tally.check(f"{database.name}: {name}: brackets, dots and plus signs in names change nothing"):
            found, looked_at = 0, []
            instant = database.instant_with("one-cluster", "odd-names")
            plain = database.truth("one-cluster", instant, "partition_info").examples_in("fabric:/Gallery")
            for partition in plain:
                odd = {key: value.replace("fabric:/Gallery", ODD_APPLICATION) for key, value in partition.items()}
                if chosen_for(dashboard, odd) in looked_at:
                    continue
                looked_at.append(chosen_for(dashboard, odd))
                plainly, oddly = (
                    Viewer(database, dashboard, {"job": [job_name]} | chosen_for(dashboard, labels))
                    for job_name, labels in (("one-cluster", partition), ("odd-names", odd))
                )
                for key, (_, target) in targets_of(dashboard).items():
                    counts = [len(viewer.ask(target, instant)) for viewer in (plainly, oddly)]
                    asked = oddly.interpolate(target["expr"])
                    assert counts[0] == counts[1], f"{key}: {counts[1]} series in place of {counts[0]}: {asked}"
                    found += counts[0]
            assert found, "no data at all"


def check_links(tally, database, boards):
    """Every link from a row or a series leads to a dashboard that knows what was clicked."""
    by_uid = {dashboard["uid"]: dashboard for dashboard in boards.values()}
    for name, dashboard in boards.items():
        with tally.check(f"{database.name}: {name}: every link leads to what was clicked"):
            everywhere = [*dashboard["links"], *(link for panel in panels_of(dashboard) for link in links_of(panel))]
            for link in everywhere:
                there = by_uid[link["url"].partition("?")[0].removeprefix("/d/")]
                known = variables_of(dashboard).keys() & variables_of(there).keys()
                assert handed_on(link["url"]) <= known, (
                    f"{link['url']} hands on more than both dashboards have: {known}"
                )
            followed_links = 0
            truth = database.consistent_truth(JOB)
            for viewer in viewers(database, dashboard, JOB, truth):
                for panel in panels_of(dashboard):
                    for link in links_of(panel):
                        for place in clickable(viewer, panel, truth.instant):
                            uid, values = followed(link["url"], **place)
                            there = Viewer(database, by_uid[uid], {"job": [JOB]})
                            for variable, value in values.items():
                                assert variable in there.variables, f"{link['url']}: {uid} has no ${variable}"
                                there.chosen[variable] = value
                                options = there.options(variable)
                                assert value in options, (
                                    f"{panel['title']!r}: {variable}={value!r} is not among {options[:5]}"
                                )
                            followed_links += 1
            print(f"        {followed_links} links followed", flush=True)


def clickable(viewer, panel, instant):
    """The first places of a panel that can be clicked, if there are any."""
    if panel["type"] == "table":
        return [{"fields": row} for row in viewer.rows(panel, instant)[:1]]
    return [{"labels": series["metric"]} for target in panel["targets"] for series in viewer.ask(target, instant)[:1]]


def compare(database, fleet, job_name, truth):
    """Asserts that the fleet dashboard shows what is true, and returns somebody who looks at it."""
    viewer = Viewer(database, fleet, {"job": [job_name]})
    faults = list(differences(viewer, fleet, truth))
    assert not faults, "\n".join(faults)
    return viewer


def check_page(tally, database, targets, fleet, service):
    """The live demo, at the instant of one scrape, against its own page and its own JSON."""
    with tally.check(f"{database.name}: fleet: every number of the demo is that of its page, and of its JSON"):
        truth = wait_until(
            "all nine verdicts, and two equal pages around a scrape",
            lambda: page_at_a_scrape(database, targets), targets.demo, seconds=180, pause=0.5,
        )  # fmt: skip
        compare(database, fleet, JOB, truth)
        print(f"        {dict(truth.verdicts())}, {time.monotonic() - targets.started:.0f} s after the start", flush=True)
    with tally.check(
        f"{database.name}: service: the numbers of every service of fabric:/Gallery are those of the page"
    ):
        for partition in truth.examples_in("fabric:/Gallery"):
            viewer = Viewer(database, service, {"job": [JOB]} | chosen_for(service, partition))
            within = truth.within(service_name=partition["service_name"])
            for title, expected in OF_A_SERVICE.items():
                shown = viewer.number(stat(service, title), truth.instant)
                assert fits(title, shown, expected(within)), (
                    f"{partition['service_name']}: {title}: {shown}, {expected(within)} is true"
                )


def check_partitions(tally, database, partition_board):
    """One partition in each of the verdicts, on the dashboard about one."""
    with tally.check(f"{database.name}: partition: verdict, last good backup and due moment are those of the samples"):
        truth = database.consistent_truth(JOB)
        last, due = (truth.by_partition(f"{name}_timestamp_seconds") for name in ("last_success", "due"))
        verdict, age, left = (
            titled(partition_board, title) for title in ("Verdict", "Last successful backup", "Next backup due in")
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
            true = [
                truth.verdict(key),
                truth.instant - last[key] if key in last else None,
                due[key] - truth.instant if key in due else None,
            ]
            assert shown == true, f"{partition}: {shown} is shown, {true} is true"
            policy = viewer.words(titled(partition_board, "Policy"), truth.instant)
            (name,) = {
                labels.get("policy_name") for labels, _ in truth.family("partition_info") if key_of(labels) == key
            }
            assert (policy or "").partition(",")[0] == (name or ""), f"{policy!r} is shown, {name!r} is true"


def page_at_a_scrape(database, targets):
    """What stood on the page during one scrape, or None where it changed meanwhile."""
    if set(targets.demo_verdicts()) != set(VERDICTS):
        return None
    asked, before, told = time.time(), targets.demo_page(), targets.demo_verdicts()
    instant = wait_until("a scrape", lambda: database.scrape_after(JOB, asked + 0.25), database.process, pause=0.05)
    after = targets.demo_page()
    if standing(before) != standing(after):
        return None
    truth = Truth.of_page(after, instant)
    assert told == truth.verdicts(), f"/api/v1/partitions says {told}, the page {truth.verdicts()}"
    return truth


def standing(page):
    """All that must not change while it is compared."""
    return {
        (sample.series, None if moves(sample.name) else sample.value) for sample in page.samples if is_compared(sample)
    }


def is_compared(sample):
    return sample.name.startswith("servicefabric_backup_") and "gateway_request" not in sample.name


def check_side_by_side(tally, database, targets, boards):
    """Replicas and shards: one truth, told by two exporters, and no partition counted twice."""
    fleet, watched = boards["fleet"], titled(boards["exporter"], "Partitions watched")
    partitions = {}
    for job_name, what in (
        ("replicas", "two exporters of one cluster, one with states: current"),
        ("shards", "two shards"),
    ):
        with tally.check(f"{database.name}: fleet: {what}, and no partition counts twice"):
            truth = database.consistent_truth(job_name)
            alone = [
                database.truth(job_name, truth.instant, "protection_state", instance=f"127.0.0.1:{port}")
                for _, port in targets.exporters[job_name]
            ]
            partitions[job_name] = {key for key in truth.verdict_of if STAGE not in key}
            told = [one.partitions() for one in alone]
            wanted = truth.partitions() * (2 if job_name == "replicas" else 1)
            assert min(told) > 0 and sum(told) == wanted, f"{told} partitions of {truth.partitions()}"
            compare(database, fleet, job_name, truth)
            shown = Viewer(database, boards["exporter"], {"job": [job_name]}).legends(watched, truth.instant)
            assert shown == {"simulated": truth.partitions()}, f"{shown} watched, {truth.partitions()} there"
            print(f"        {told} of {truth.partitions()} partitions", flush=True)
    with tally.check(f"{database.name}: counted for each exporter on its own, replicas would be found to count twice"):
        naive = json.loads(json.dumps(fleet).replace("max by (cluster_name,", "max by (instance, cluster_name,"))
        truth = database.consistent_truth("replicas")
        assert naive != fleet
        # The first will do: some of these queries are no longer valid.
        assert next(differences(Viewer(database, naive, {"job": ["replicas"]}), naive, truth), None)
    with tally.check(f"{database.name}: the shards see together what each replica sees"):
        assert partitions["replicas"] == partitions["shards"], partitions["replicas"] ^ partitions["shards"]


def judge_parts(database, boards, truth, job_name, reach):
    """What every dashboard that tells it says of a cluster of which one part is not reached."""
    assert sorted(truth.reach().values()) == reach, truth.reach()
    for name in ("fleet", "service"):
        viewer = Viewer(database, boards[name], {"job": [job_name]})
        panel = titled(boards[name], "Unreachable clusters")
        assert viewer.number(panel, truth.instant) == 1 and colour(panel, 1) not in (GREEN, colour(panel, 0)), name
    shown = Viewer(database, boards["exporter"], {"job": [job_name]}).legends(
        titled(boards["exporter"], "Gateways"), truth.instant
    )
    wanted = {f"{cluster} {shard}/{shards}": up for (cluster, shard, shards), up in truth.reach().items()}
    assert shown == wanted, f"{shown} is shown, {wanted} is true"


def check_bad_input(tally, database, boards):
    """Clusters that the demo does not show. Nothing known must look neither good nor like nothing."""
    fleet = boards["fleet"]
    on_time, unprotected, unknown, unreached = (
        titled(fleet, title) for title in ("On time", "Unprotected", "Unknown", "Unreachable clusters")
    )
    truths = {}

    def look(job_name):
        truth = truths[job_name] = database.truth(job_name, database.instant_with(job_name))
        return compare(database, fleet, job_name, truth), truth

    def check(sentence):
        return tally.check(f"{database.name}: fleet: {sentence}")

    with check("one cluster alone"):
        viewer, truth = look("one-cluster")
        assert viewer.number(unreached, truth.instant) == 0 and 0 < viewer.number(on_time, truth.instant) < 1
    with check(
        "one cluster seen and one dark, with the same partitions: none is lost, and the dark one is not on time"
    ):
        viewer, truth = look("two-clusters")
        one = truths["one-cluster"]
        assert truth.partitions() == 2 * one.partitions()
        assert viewer.number(unreached, truth.instant) == 1
        assert viewer.number(unknown, truth.instant) == one.partitions() + one.verdicts()["Unknown"]
        assert viewer.number(on_time, truth.instant) < one.on_time_ratio() / 1.5
    with check("no policy anywhere: all are unprotected, and nobody is said to be on time or late"):
        viewer, truth = look("no-policies")
        assert viewer.number(on_time, truth.instant) is None and words_instead(on_time)
        assert colour(on_time, None) != GREEN
        assert viewer.number(unprotected, truth.instant) == truth.partitions() > 0
    with check("nothing but requested backups: half of the partitions are on time"):
        viewer, truth = look("requested-only")
        late = (truth.partitions() + 1) // 2
        assert rounded_down(viewer.number(on_time, truth.instant), (truth.partitions() - late) / truth.partitions())
    with check("all partitions blind: none is on time, all are unknown, and nothing is green"):
        viewer, truth = look("unreachable")
        assert viewer.number(on_time, truth.instant) == 0
        assert viewer.number(unknown, truth.instant) == truth.partitions() > 0
        assert viewer.number(unreached, truth.instant) == 1
        green = green_panels(viewer, fleet, truth.instant)
        assert not green, green
    with check("one partition on time and all others unknown: no count of what is bad is green"):
        viewer, truth = look("mostly-unknown")
        assert truth.verdicts()["Protected"] == 1 and truth.verdicts()["Unknown"] == truth.partitions() - 1 > 1
        green = green_panels(viewer, fleet, truth.instant)
        assert not green, green
    with check("one of two shards that reaches no gateway: the cluster counts as not reached"):
        viewer, truth = look("one-shard-unreachable")
        assert truth.partitions() == truths["one-cluster"].partitions()
        assert viewer.number(unknown, truth.instant) >= truth.partitions() // 2
        judge_parts(database, boards, truth, "one-shard-unreachable", [0, 1])
    with check("partitions that are watched by their ids alone, without names: none is lost"):
        viewer, truth = look("nameless")
        assert truth.partitions() == truths["one-cluster"].partitions()
    with check("one exporter that sees and one that is blind: what one knows counts, once"):
        viewer, truth = look("one-replica-unreachable")
        one = truths["one-cluster"]
        assert truth.verdicts() == one.verdicts(), truth.verdicts()
        assert rounded_down(viewer.number(on_time, truth.instant), one.on_time_ratio())
    with check("one exporter says on time and one says overdue: that is not known to be on time, and counts once"):
        viewer, truth = look("conflicting")
        one = truths["one-cluster"]
        assert truth.partitions() == one.partitions() and truth.verdicts()["Overdue"] > one.verdicts()["Overdue"]
        assert viewer.number(on_time, truth.instant) < one.on_time_ratio()


def check_nameless(tally, database, boards):
    """The dashboards about one service and one partition, where the exporter was told ids and no names."""
    with tally.check(f"{database.name}: service, partition: what has no names can be looked at"):
        instant = database.instant_with("nameless")
        truth = database.truth("nameless", instant)
        viewer = Viewer(database, boards["service"], {"job": ["nameless"]})
        for title, expected in OF_A_SERVICE.items():
            shown = viewer.number(stat(boards["service"], title), instant)
            assert fits(title, shown, expected(truth)), f"{title}: {shown}, {expected(truth)} is true"
        viewer = Viewer(database, boards["partition"], {"job": ["nameless"]})
        assert len(viewer.options("partition_id")) == truth.partitions()
        assert viewer.number(stat(boards["partition"], "Verdict"), instant) is not None


def check_foreign(tally, database, boards):
    """Prometheus scrapes much else. With all jobs chosen, that must be as if it were not there."""
    with tally.check(f"{database.name}: what is no exporter, up or down, changes nothing, whatever jobs are chosen"):
        instant = database.instant_with(*database.targets)
        for expression in (f'up{{job="{DEAD}"}} == 0', f'process_open_fds{{job="{FOREIGN}"}}'):
            assert database.query(expression, instant), expression
        for name, dashboard in boards.items():
            everything, ours = (Viewer(database, dashboard, chosen) for chosen in ({}, {"job": database.exporter_jobs()}))
            assert everything.interpolate("$job") != ours.interpolate("$job"), name
            for key, (_, target) in targets_of(dashboard).items():
                shown, wanted = (last_values(viewer, target, instant) for viewer in (everything, ours))
                more, less = ((one - other).most_common(3) for one, other in ((shown, wanted), (wanted, shown)))
                assert not more and not less, f"{name}: {key}: {more} is shown, {less} is true"


def last_values(viewer, target, instant):
    """How often there is which series with which value, without the digits that depend on the order of a sum.

    Which of those that are equal are among the first is a matter of chance.
    """
    named, answer = "topk" not in target["expr"], viewer.ask(target, instant, last=True)
    return Counter(
        (tuple(sorted(series["metric"].items())) if named else (), f"{float(series['value'][1]):.9g}")
        for series in answer
    )


def check_gone(tally, databases, targets, boards):
    """Exporters that were seen and are gone: their part of a cluster is not forgotten, and it is not green."""
    fleet = boards["fleet"]

    def judge(sentence, gone, look):
        for database in databases:
            with tally.check(f"{database.name}: fleet: {sentence}"):
                down = f'count(up{{job="shards"}} == 0) == {gone}'
                wait_until(f"{gone} to be down", lambda database=database: database.query(down), database.process)
                look(database, Viewer(database, fleet, {"job": ["shards"]}))

    def half(database, _viewer):
        truth = database.truth("shards", round(time.time(), 3))
        compare(database, fleet, "shards", truth)
        judge_parts(database, boards, truth, "shards", [-1, 1])

    def all_of_it(_database, viewer):
        assert viewer.number(titled(fleet, "Unreachable clusters")) == 1
        assert viewer.number(titled(fleet, "On time")) is None
        green = green_panels(viewer, fleet)
        assert not green, green

    targets.exporters["shards"][1][0].stop()
    judge("one of two shards gone: the cluster counts as not reached", 1, half)
    targets.exporters["shards"][0][0].stop()
    judge("all exporters of a cluster gone: it counts as not reached, and nothing is green", 2, all_of_it)


def stat(dashboard, title):
    (panel,) = (panel for panel in panels_of(dashboard) if panel["type"] == "stat" and panel["title"] == title)
    return panel


def check_empty(tally, empty, boards):
    """Where nothing is scraped, nothing is shown, and every panel says so in words."""
    for name, dashboard in boards.items():
        with tally.check(f"{empty.name}: {name}: every panel is empty, and says so in words, and not in green"):
            viewer = Viewer(empty, dashboard)
            for panel in panels_of(dashboard):
                for target in panel["targets"]:
                    answer = viewer.ask(target)
                    assert not answer, f"{panel['title']!r} shows {answer[:2]} where there is nothing"
                assert words_instead(panel), f"{panel['title']!r} has no noValue"
                if panel["type"] == "stat":
                    assert colour(panel, None) != GREEN, f"{panel['title']!r} is green without data"


def dashboards(tally, exporter, parts):
    """The dashboards, answered by real Prometheus"""
    boards = read_dashboards()
    with Stage() as stage:
        targets = ScrapeTargets(stage, exporter)
        found = parts_with(parts, "prometheus")
        chosen = [found[0]] if len(found) == 1 else [found[0], found[-1]]
        databases = [Prometheus(stage, f"Prometheus {version}", path, targets.jobs) for _, version, path in chosen]
        empty = Prometheus(stage, "an empty Prometheus", chosen[-1][2], [])
        for database in (*databases, empty):
            wait_until(
                database.name, lambda port=database.port: fetch(port, "/-/ready").status == 200, database.process
            )
        for database in databases:
            with tally.check(f"{database.name} reaches every target"):
                database.instant_with(*database.targets)
        check_empty(tally, empty, boards)
        # All this while the demo is on its way to its last verdicts.
        for database in databases:
            check_bad_input(tally, database, boards)
            check_side_by_side(tally, database, targets, boards)
            check_odd_names(tally, database, boards)
            check_nameless(tally, database, boards)
            check_foreign(tally, database, boards)
        check_gone(tally, databases, targets, boards)
        for database in databases:
            check_page(tally, database, targets, boards["fleet"], boards["service"])
            check_partitions(tally, database, boards["partition"])
            for name, dashboard in boards.items():
                check_data(tally, database, name, dashboard)
            check_columns(tally, database, boards)
            check_links(tally, database, boards)


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], dashboards))
