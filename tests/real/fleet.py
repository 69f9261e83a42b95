"""Compares the fleet dashboard with the expected values."""

import math
from collections import Counter

from grafana import panel_titled, panels_of
from truth import LATE_OR_STUCK, VERDICTS

GREEN = "#009E73"

# Expected values of the stat panels, by title. None: the panel shows its noValue text.
NUMBERS = {
    "On time": lambda truth: truth.on_time_ratio(),
    "Late or stuck": lambda truth: truth.count_in(LATE_OR_STUCK),
    "Unprotected": lambda truth: truth.count_in({"Unprotected"}),
    "Suspended": lambda truth: truth.count_in({"Suspended"}),
    "Unknown": lambda truth: truth.verdicts()["Unknown"] if truth.states() else None,
    "Oldest last success": lambda truth: truth.oldest_last_success(),
    "Unreachable clusters": lambda truth: truth.unreachable_clusters(),
    "Backup service unavailable": lambda truth: truth.clusters_without_service(),
}

# Expected values by legend, for panels with several series. Of a graph, the last point counts.
SERIES = {
    "Verdicts over time": lambda truth: dict(truth.verdicts()),
    "Past due by cluster": lambda truth: truth.past_due(),
    "Failed requests by code": lambda truth: truth.failure_codes(),
}

TABLES = ("Partitions by verdict", "Worst partitions", "Services with problems")

MAX_ROWS = 20

# Expected values of the stat panels of the service dashboard.
SERVICE_NUMBERS = {
    **{title: NUMBERS[title] for title in list(NUMBERS)[:6]},
    "Known partitions": lambda truth: truth.partitions(),
}


def differences(viewer, fleet, truth):
    """Describes every value on the dashboard that differs from the expected one."""
    instant = truth.instant
    shown = {panel["title"] for panel in panels_of(fleet)}
    expected_titles = {*NUMBERS, *SERIES, *TABLES}
    assert shown == expected_titles, f"panels without an expected value, or missing: {shown ^ expected_titles}"
    for title, expected in NUMBERS.items():
        found, wanted = viewer.number(panel_titled(fleet, title), instant), expected(truth)
        if not matches(title, found, wanted):
            yield f"{title}: expected {wanted}, found {found}"
    for title, expected in SERIES.items():
        found, wanted = viewer.legends(panel_titled(fleet, title), instant), expected(truth)
        if found.keys() != wanted.keys() or not all(is_close(found[name], wanted[name]) for name in wanted):
            yield f"{title}: expected {wanted}, found {found}"
    rows = viewer.rows(panel_titled(fleet, "Partitions by verdict"), instant)
    found = {row["Verdict"]: row["Partitions"] for row in rows}
    if len(found) != len(rows) or found != dict(truth.verdicts()):
        yield f"Partitions by verdict: expected {truth.verdicts()}, found {found}"
    # The position of Unknown is not checked.
    order = [verdict for verdict in found if verdict != "Unknown"]
    if order != sorted(order, key=VERDICTS.index):
        yield f"Partitions by verdict: not sorted worst first: {order}"
    yield from different_partitions(viewer.rows(panel_titled(fleet, "Worst partitions"), instant), truth)
    yield from different_services(viewer.rows(panel_titled(fleet, "Services with problems"), instant), truth)


def matches(title, found, wanted):
    return (is_rounded_down if title == "On time" else is_close)(found, wanted)


def is_close(found, wanted):
    """Equal up to rounding: Prometheus 2.42 and 3.5 compute averages in different order, so the last digits differ."""
    if found is None or wanted is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-12, abs_tol=1e-12)


def is_rounded_down(found, wanted):
    """Whether a share was rounded down to four digits. It must be 1 only if the expected value is 1."""
    if found is None or wanted is None:
        return found is wanted
    return wanted - 1.0001e-4 < found < wanted + 1e-12 and (found == 1) == (wanted == 1)


def different_partitions(rows, truth):
    """Describes differences in the 20 partitions that are longest past due, in any order among equals."""
    late = truth.seconds_past_due()
    seen = [tuple(row.get(head, "") for head in ("Cluster", "Application", "Service", "Partition")) for row in rows]
    if len(set(seen)) != len(seen) or len(seen) != min(MAX_ROWS, len(late)):
        yield f"Worst partitions: {len(seen)} rows about {len(set(seen))} of {len(late)} partitions"
    for row, key in zip(rows, seen, strict=True):
        if (truth.verdict(key), late.get(key)) != (row["Verdict"], row["Past due"]):
            yield f"Worst partitions: expected {truth.verdict(key)} {late.get(key)}, found {row}"
    values = sorted((row["Past due"] for row in rows), reverse=True)
    if values != sorted(late.values(), reverse=True)[: len(values)]:
        yield f"Worst partitions: not the ones longest past due: {values}"


def different_services(rows, truth):
    """Describes differences in the 20 services with most partitions of each problem, one row each."""
    services = [tuple(row.get(head, "") for head in ("Cluster", "Application", "Service")) for row in rows]
    if len(set(services)) != len(services):
        yield f"Services with problems: {len(services)} rows about {len(set(services))} services"
    columns = {"Late or stuck": LATE_OR_STUCK, "Unprotected": {"Unprotected"}, "Unknown": {"Unknown"}}
    for head, verdicts in columns.items():
        counts = Counter(key[:3] for key, verdict in truth.verdict_of.items() if verdict in verdicts)
        shown = {service: row[head] for service, row in zip(services, rows, strict=True) if row.get(head) is not None}
        for service, count in shown.items():
            if counts[service] != count:
                yield f"Services with problems: expected {counts[service]} {head} in {service}, found {count}"
        if sorted(shown.values(), reverse=True) != sorted(counts.values(), reverse=True)[:MAX_ROWS]:
            yield f"Services with problems: not the services with most {head}: {shown}, expected from {counts}"


def no_value_text(panel):
    """The text of a panel without data."""
    return panel["fieldConfig"]["defaults"].get("noValue")


def colour(panel, value):
    """The colour of a value. Without a value it is the colour of the first threshold step."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or (value is not None and value >= step["value"])]
    return reached[-1]["color"]


def green_panels(viewer, fleet, instant=None):
    """Titles of the stat panels that are green."""
    panels = [panel_titled(fleet, title) for title in NUMBERS]
    return {panel["title"] for panel in panels if colour(panel, viewer.number(panel, instant)) == GREEN}
