"""What the fleet dashboard must show, given what is true; and where it shows something else."""

import math
from collections import Counter

from grafana import panels_of, titled
from truth import BROKEN, VERDICTS

GREEN = "#009E73"

# Panels of one number: by title, what it must be. None: no number, and words in its place.
NUMBERS = {
    "On time": lambda truth: truth.on_time_ratio(),
    "Late or stuck": lambda truth: truth.counted(BROKEN),
    "Unprotected": lambda truth: truth.counted({"Unprotected"}),
    "Suspended": lambda truth: truth.counted({"Suspended"}),
    "Unknown": lambda truth: truth.verdicts()["Unknown"] if truth.states() else None,
    "Oldest last success": lambda truth: truth.oldest_last_success(),
    "Unreachable clusters": lambda truth: truth.unreached(),
    "Backup service unavailable": lambda truth: truth.unanswered(),
}

# Panels of one number for each name in the legend, now or at the last point of a line.
SERIES = {
    "Verdicts over time": lambda truth: dict(truth.verdicts()),
    "Past due by cluster": lambda truth: truth.past_due(),
    "Failed requests by code": lambda truth: truth.failure_codes(),
}

TABLES = ("Partitions by verdict", "Worst partitions", "Services with problems")

MOST = 20

# What the dashboard of one service shows of the same.
OF_A_SERVICE = {
    **{title: NUMBERS[title] for title in list(NUMBERS)[:6]},
    "Known partitions": lambda truth: truth.partitions(),
}


def differences(viewer, fleet, truth):
    """Sentences about every number of the dashboard that is not the one that is true."""
    instant = truth.instant
    shown = {panel["title"] for panel in panels_of(fleet)}
    judged = {*NUMBERS, *SERIES, *TABLES}
    assert shown == judged, f"panels that are not judged, or gone: {shown ^ judged}"
    for title, expected in NUMBERS.items():
        is_shown, is_true = viewer.number(titled(fleet, title), instant), expected(truth)
        if not fits(title, is_shown, is_true):
            yield f"{title}: {is_shown} is shown, {is_true} is true"
    for title, expected in SERIES.items():
        is_shown, is_true = viewer.legends(titled(fleet, title), instant), expected(truth)
        if is_shown.keys() != is_true.keys() or not all(same(is_shown[name], is_true[name]) for name in is_true):
            yield f"{title}: {is_shown} is shown, {is_true} is true"
    rows = viewer.rows(titled(fleet, "Partitions by verdict"), instant)
    is_shown = {row["Verdict"]: row["Partitions"] for row in rows}
    if len(is_shown) != len(rows) or is_shown != dict(truth.verdicts()):
        yield f"Partitions by verdict: {is_shown} is shown, {truth.verdicts()} is true"
    # Where among the others what is not known stands is a matter of taste.
    order = [verdict for verdict in is_shown if verdict != "Unknown"]
    if order != sorted(order, key=VERDICTS.index):
        yield f"Partitions by verdict: the worst do not stand on top: {order}"
    yield from different_partitions(viewer.rows(titled(fleet, "Worst partitions"), instant), truth)
    yield from different_services(viewer.rows(titled(fleet, "Services with problems"), instant), truth)


def fits(title, is_shown, is_true):
    return (rounded_down if title == "On time" else same)(is_shown, is_true)


def same(is_shown, is_true):
    """Averages are shown: Prometheus 2.42 computes them in another order than 3.5, and the last digits differ."""
    if is_shown is None or is_true is None:
        return is_shown is is_true
    return math.isclose(is_shown, is_true, rel_tol=1e-12, abs_tol=1e-12)


def rounded_down(is_shown, is_true):
    """A share of which four digits are shown: it is not all as long as one is missing."""
    if is_shown is None or is_true is None:
        return is_shown is is_true
    return is_true - 1.0001e-4 < is_shown < is_true + 1e-12 and (is_shown == 1) == (is_true == 1)


def different_partitions(rows, truth):
    """The twenty that are past due by most; of those that are past due equally, any."""
    late = truth.lateness()
    seen = [tuple(row.get(head, "") for head in ("Cluster", "Application", "Service", "Partition")) for row in rows]
    if len(set(seen)) != len(seen) or len(seen) != min(MOST, len(late)):
        yield f"Worst partitions: {len(seen)} rows about {len(set(seen))} partitions, {len(late)} are broken"
    for row, key in zip(rows, seen, strict=True):
        if (truth.verdict(key), late.get(key)) != (row["Verdict"], row["Past due"]):
            yield f"Worst partitions: {row}, and true is {truth.verdict(key)} {late.get(key)}"
    values = sorted((row["Past due"] for row in rows), reverse=True)
    if values != sorted(late.values(), reverse=True)[: len(values)]:
        yield f"Worst partitions: not those that are past due by most: {values}"


def different_services(rows, truth):
    """The twenty with most partitions in each kind of trouble, one row for each service."""
    services = [tuple(row.get(head, "") for head in ("Cluster", "Application", "Service")) for row in rows]
    if len(set(services)) != len(services):
        yield f"Services with problems: {len(services)} rows about {len(set(services))} services"
    for head, verdicts in (("Late or stuck", BROKEN), ("Unprotected", {"Unprotected"}), ("Unknown", {"Unknown"})):
        counts = Counter(key[:3] for key, verdict in truth.verdict_of.items() if verdict in verdicts)
        shown = {service: row[head] for service, row in zip(services, rows, strict=True) if row.get(head) is not None}
        for service, count in shown.items():
            if counts[service] != count:
                yield f"Services with problems: {count} {head} in {service}, {counts[service]} is true"
        if sorted(shown.values(), reverse=True) != sorted(counts.values(), reverse=True)[:MOST]:
            yield f"Services with problems: not those with most that are {head}: {shown}, {counts} is true"


def words_instead(panel):
    """What a panel says where it has no number."""
    return panel["fieldConfig"]["defaults"].get("noValue")


def colour(panel, value):
    """The colour of a number; of the words that stand in place of none, that of the first step."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or (value is not None and value >= step["value"])]
    return reached[-1]["color"]


def green_panels(viewer, fleet, instant=None):
    """Titles of the single numbers that are shown in green."""
    panels = [titled(fleet, title) for title in NUMBERS]
    return {panel["title"] for panel in panels if colour(panel, viewer.number(panel, instant)) == GREEN}
