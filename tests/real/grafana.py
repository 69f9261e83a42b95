"""Evaluates the JSON of a dashboard like Grafana: variables, queries, table transformations. Nothing is rendered.

Follows the source of Grafana's Prometheus data source.
"""

import json
import re
from pathlib import Path

DASHBOARDS = Path(__file__).parents[2] / "dashboards"
NAMES = ("fleet", "service", "partition", "exporter")

ALL = object()
"""The value "All" of a variable."""

VARIABLE = re.compile(r"\$(\w+)|\$\{([^}]+)\}|\[\[([^]]+)\]\]")
SPECIAL = re.compile(r"[$^*{}\[\]'+?.()|]")
LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+),\s*(?P<label>\w+)\)", re.DOTALL)

# Default scrape interval of the data source, in seconds.
SCRAPE_INTERVAL = 15


def read_dashboards():
    return {name: json.loads((DASHBOARDS / f"{name}.json").read_text()) for name in NAMES}


def panels_of(dashboard):
    """Every panel except rows, including the panels in collapsed rows."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def fields_of(panel):
    """(option, value) of all field options: defaults and overrides."""
    config = panel.get("fieldConfig", {})
    yield from config.get("defaults", {}).items()
    for override in config.get("overrides", []):
        for change in override["properties"]:
            yield change["id"], change.get("value")


def links_of(panel):
    """The links from the values of a panel."""
    for option, value in fields_of(panel):
        if option == "links":
            yield from value


def resolve_link(url, fields=None, labels=None):
    """(dashboard uid, {variable: value}) of a data link, for a row with these fields or a series with these labels.

    Parameters that are passed unchanged (the time range, `${job:queryparam}`) are omitted: see `passed_variables`.
    """
    path, _, query = url.partition("?")
    chosen = {}
    for part in query.split("&"):
        if not part.startswith("${"):
            name, _, value = part.partition("=")
            match = re.fullmatch(r"\$\{__(data\.fields|field\.labels)\.(\w+):percentencode\}", value)
            assert name.startswith("var-") and match, f"{part!r} of {url}"
            chosen[name.removeprefix("var-")] = (fields if match[1] == "data.fields" else labels)[match[2]]
    assert path.startswith("/d/"), url
    return path.removeprefix("/d/"), chosen


def passed_variables(url):
    """The variables that a link passes with their current values."""
    return set(re.findall(r"\$\{(\w+):queryparam\}", url))


def panel_titled(dashboard, title):
    found = [panel for panel in panels_of(dashboard) if panel.get("title") == title]
    assert len(found) == 1, f"{len(found)} panels are panel_titled {title!r}"
    return found[0]


def variables_of(dashboard):
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def escaped(value):
    """A value, escaped by the rules of the data source for a regular expression in a PromQL string."""
    return SPECIAL.sub(lambda special: "\\\\" + special[0], value.replace("\\", "\\\\\\\\"))


class Viewer:
    """A dashboard as one user sees it: a database, values for the variables, and a time range."""

    def __init__(self, database, dashboard, chosen=None, seconds=900, step=15):
        self.database, self.dashboard = database, dashboard
        self.seconds, self.step = seconds, step
        self.variables = variables_of(dashboard)
        self.chosen = {}
        for name, variable in self.variables.items():
            if chosen and name in chosen:
                self.chosen[name] = chosen[name]
            elif variable.get("includeAll"):
                self.chosen[name] = ALL
            elif variable["type"] == "query":
                # In list order, because the query of a variable may use an earlier one.
                options = self.options(name)
                self.chosen[name] = options[0] if options else ""
            else:
                self.chosen[name] = str(variable.get("current", {}).get("value", ""))

    def options(self, name):
        """The values that a query variable offers."""
        variable = self.variables[name]
        match = LABEL_VALUES.fullmatch(self.interpolate(variable["query"]))
        assert match and not variable["regex"], f"${name} has a kind of query that this test does not support"
        return sorted(self.database.label_values(match["label"], match["selector"]))

    def interpolate(self, text):
        return VARIABLE.sub(self.substitute, text)

    def substitute(self, match):
        name = match[1] or match[2] or match[3]
        built_in = {
            "__interval": f"{self.step}s",
            "__rate_interval": f"{max(self.step + SCRAPE_INTERVAL, 4 * SCRAPE_INTERVAL)}s",
            "__range": f"{self.seconds}s",
        }
        # `$1` is a reference of label_replace.
        if name in built_in or name.isdigit():
            return built_in.get(name, match[0])
        # A format (`${name:regex}`) would be part of the name here, and is not supported.
        assert name in self.chosen, f"${{{name}}} is not a variable"
        variable, value = self.variables[name], self.chosen[name]
        if value is ALL and variable.get("allValue"):
            return variable["allValue"]
        values = self.options(name) if value is ALL else value if isinstance(value, list) else [value]
        if not (variable["multi"] or variable["includeAll"]):
            return values[0].replace("\\", "\\\\")
        parts = [escaped(part) for part in values]
        return parts[0] if len(parts) == 1 else "(" + "|".join(parts) + ")"

    def query(self, target, instant=None, last=False):
        """The series of one target, from an instant query or a range query that ends at the instant.

        With `last`, a range query is reduced to its last point, at the instant.
        """
        expression = self.interpolate(target["expr"])
        if target["instant"] or last:
            return self.database.query(expression, instant)
        return self.database.query_range(expression, instant, self.seconds, self.step)

    def number(self, panel, instant=None):
        """The single value of a panel; None without data."""
        shown = self.legends(panel, instant)
        assert len(shown) <= 1, f"{panel['title']!r} shows {len(shown)} values: {shown}"
        return next(iter(shown.values()), None)

    def text(self, panel, instant=None):
        """The text of a stat panel that shows a label; None without data."""
        wanted = panel["options"]["reduceOptions"]["fields"].strip("/")
        frames = transform(panel, self.frames(panel, instant))
        shown = [row[name] for row in frames.rows for name in frames.fields if re.search(wanted, name)]
        assert len(shown) <= 1, f"{panel['title']!r} shows {len(shown)} texts: {shown}"
        return next(iter(shown), None)

    def legends(self, panel, instant=None):
        """{legend: value} of a panel at an instant."""
        shown = {}
        for target in panel["targets"]:
            for series in self.query(target, instant, last=True):
                name = legend(target, series["metric"])
                assert name not in shown, f"{panel['title']!r} has two series {name!r}"
                shown[name] = float(series["value"][1])
        return shown

    def frames(self, panel, instant=None):
        """The results of the queries of a table, one frame each."""
        frames, targets = [], panel["targets"]
        assert all(target["format"] == "table" for target in targets), f"{panel['title']!r} is not a table"
        for target in targets:
            # A query with an empty result is a frame without labels and rows.
            value = f"Value #{target['refId']}" if len(targets) > 1 else "Value"
            answer = self.query(target, instant)
            labels = dict.fromkeys(name for series in answer for name in series["metric"] if name != "__name__")
            rows = [
                {
                    "Time": 0,
                    **{name: series["metric"].get(name, "") for name in labels},
                    value: float(series["value"][1]),
                }
                for series in answer
            ]
            frames.append(Frame(["Time", *labels, value], rows))
        return frames

    def rows(self, panel, instant=None):
        """The rows of a table after all transformations, each {column header: value}."""
        return transform(panel, self.frames(panel, instant)).rows


def legend(target, metric):
    return re.sub(r"\{\{(\w+)\}\}", lambda label: metric.get(label[1], ""), target["legendFormat"])


class Frame:
    """A table: fields from left to right, and rows, in which fields may be missing."""

    def __init__(self, fields, rows):
        self.fields, self.rows = list(fields), rows


def merge(frames, _options):
    """Joins rows like "Merge series/tables": rows with equal values in all shared fields become one row."""
    fields = list(dict.fromkeys(name for frame in frames for name in frame.fields))
    shared = [name for name in fields if all(name in frame.fields for frame in frames)]
    by_key = {}
    for frame in frames:
        for row in frame.rows:
            known = by_key.setdefault(tuple(row.get(name) for name in shared), [])
            matching = [other for other in known if all(other.get(name, value) == value for name, value in row.items())]
            for other in matching:
                other.update(row)
            if not matching:
                known.append(dict(row))
    return [Frame(fields, [row for rows in by_key.values() for row in rows])]


def organize(frames, options):
    """Hides, sorts and renames fields. Names of missing fields are ignored."""
    hidden, order, renamed = (options.get(name, {}) for name in ("excludeByName", "indexByName", "renameByName"))
    organized = []
    for frame in frames:
        kept = sorted(
            (name for name in frame.fields if not hidden.get(name)), key=lambda name: order.get(name, len(order))
        )
        headers = {name: renamed.get(name) or name for name in kept}
        rows = [{header: row.get(name) for name, header in headers.items()} for row in frame.rows]
        organized.append(Frame(headers.values(), rows))
    return organized


def sort_by(frames, options):
    """Sorts the rows of every frame that has the field."""
    (order,) = options["sort"]
    return [
        Frame(frame.fields, sorted(frame.rows, key=lambda row: row[order["field"]], reverse=order.get("desc", False)))
        if order["field"] in frame.fields
        else frame
        for frame in frames
    ]


def filter_by_value(frames, options):
    """Drops the rows in which a field is null. Other filters are not supported."""
    (only,) = options["filters"]
    assert (options["type"], only["config"]["id"]) == ("exclude", "isNull"), options
    return [
        Frame(frame.fields, [row for row in frame.rows if row.get(only["fieldName"]) is not None])
        if only["fieldName"] in frame.fields
        else frame
        for frame in frames
    ]


TRANSFORMATIONS = {"filterByValue": filter_by_value, "merge": merge, "organize": organize, "sortBy": sort_by}


def transform(panel, frames):
    """The single frame of a table after all transformations."""
    for transformation in panel.get("transformations", []):
        frames = TRANSFORMATIONS[transformation["id"]](frames, transformation["options"])
    assert len(frames) == 1, f"{panel['title']!r} ends in {len(frames)} tables, expected one"
    return frames[0]


def referenced_fields(panel):
    """The fields that the transformations of a table refer to."""
    named = set()
    for transformation in panel.get("transformations", []):
        options = transformation["options"]
        if transformation["id"] == "organize":
            named.update(options["excludeByName"], options["indexByName"], options["renameByName"])
        elif transformation["id"] == "sortBy":
            named.update(order["field"] for order in options["sort"])
        elif transformation["id"] == "filterByValue":
            named.update(only["fieldName"] for only in options["filters"])
    return named


def referenced_columns(panel):
    """The columns that the overrides and the sort order of a table refer to, after renaming."""
    overrides = panel["fieldConfig"]["overrides"]
    return {override["matcher"]["options"] for override in overrides} | {
        order["displayName"] for order in panel["options"].get("sortBy", [])
    }
