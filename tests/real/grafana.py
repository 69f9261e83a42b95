"""What Grafana does with the JSON of a dashboard, as far as numbers go: variables, queries, tables.

Written after Grafana's own sources of the Prometheus data source. Nothing in here draws.
"""

import json
import re
from pathlib import Path

DASHBOARDS = Path(__file__).parents[2] / "dashboards"
NAMES = ("fleet", "service", "partition", "exporter")

ALL = object()
"""The value "All" of a variable."""

VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?:\.[^:^}]+)?(?::([^}]+))?\}|\[\[(\w+?)(?::(\w+))?\]\]")
SPECIAL = re.compile(r"[$^*{}\[\]'+?.()|]")
LABEL_VALUES = re.compile(r"label_values\((?:(?P<selector>.+),\s*)?(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\)\Z", re.DOTALL)
QUERY_RESULT = re.compile(r"query_result\((?P<expression>.+)\)\Z", re.DOTALL)

# What the data source takes for the scrape interval where nobody has said another.
SCRAPE_INTERVAL = 15


def read_dashboards(folder=None):
    return {name: json.loads(((folder or DASHBOARDS) / f"{name}.json").read_text()) for name in NAMES}


def panels_of(dashboard):
    """Every panel that shows something, those folded away in rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def fields_of(panel):
    """(option, value) of all that is said of fields, by default or by an override."""
    config = panel.get("fieldConfig", {})
    yield from config.get("defaults", {}).items()
    for override in config.get("overrides", []):
        for change in override["properties"]:
            yield change["id"], change.get("value")


def titled(dashboard, title):
    found = [panel for panel in panels_of(dashboard) if panel.get("title") == title]
    assert len(found) == 1, f"{len(found)} panels are titled {title!r}"
    return found[0]


def variables_of(dashboard):
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def escaped(value):
    """A value as the data source writes it into a regular expression within a string of PromQL."""
    return SPECIAL.sub(lambda special: "\\\\" + special[0], value.replace("\\", "\\\\\\\\"))


class Viewer:
    """Somebody who looks at a dashboard: a database, the values chosen for its variables, and a range of time."""

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
                # Filled in the order of the list, since one variable may ask by another.
                options = self.options(name)
                self.chosen[name] = options[0] if options else ""
            else:
                self.chosen[name] = str(variable.get("current", {}).get("value", ""))

    def options(self, name):
        """What the drop-down list of a variable of type query offers."""
        variable = self.variables[name]
        query = variable["query"]
        query = self.interpolate(query["query"] if isinstance(query, dict) else query).strip()
        if match := LABEL_VALUES.match(query):
            values = self.database.label_values(match["label"], match["selector"])
        else:
            match = QUERY_RESULT.match(query)
            assert match, f"variable {name}: {query!r} is no query that this test knows"
            values = [series_text(series) for series in self.database.query(match["expression"])]
        if pattern := variable.get("regex"):
            found = [re.search(pattern.strip("/"), value) for value in values]
            values = [hit[1] if hit.re.groups else hit[0] for hit in found if hit]
        return sorted(set(values))

    def interpolate(self, text):
        return VARIABLE.sub(self.substitute, text)

    def substitute(self, match):
        name, form = match[1] or match[2] or match[4], match[3] or match[5]
        step = f"{self.step}s"
        built_in = {
            "__interval": step,
            "__interval_ms": str(self.step * 1000),
            "__rate_interval": f"{max(self.step + SCRAPE_INTERVAL, 4 * SCRAPE_INTERVAL)}s",
            "__range": f"{self.seconds}s",
            "__range_s": str(self.seconds),
            "__range_ms": str(self.seconds * 1000),
        }
        if name in built_in:
            return built_in[name]
        assert name in self.chosen, f"${name} is no variable"
        variable, value = self.variables[name], self.chosen[name]
        if value is ALL:
            if variable.get("allValue"):
                return variable["allValue"]
            value = self.options(name)
        values = value if isinstance(value, list) else [value]
        if form == "raw":
            return ",".join(values)
        if form == "regex":
            return "|".join(map(re.escape, values))
        assert form is None, f"${{{name}:{form}}} is no format that this test knows"
        if not (variable.get("multi") or variable.get("includeAll")):
            return values[0].replace("\\", "\\\\").replace("'", "\\'")
        parts = [escaped(part) for part in values]
        return parts[0] if len(parts) == 1 else "(" + "|".join(parts) + ")"

    def ask(self, target, instant=None):
        """The series of one target as Grafana asks for them: at an instant, or over the range that ends there."""
        expression = self.interpolate(target["expr"])
        if target.get("instant"):
            return self.database.query(expression, instant)
        return self.database.query_range(expression, instant, self.seconds, self.step)

    def numbers(self, panel, instant=None):
        """{labels: value} of a panel that shows the last value of each series, all its targets together."""
        shown = {}
        for target in panel["targets"]:
            for series in self.ask(target, instant):
                labels = frozenset((name, value) for name, value in series["metric"].items() if name != "__name__")
                # Two targets may have the same labels: the letter tells them apart.
                shown[(target["refId"], labels)] = float(last_value(series))
        return shown

    def number(self, panel, instant=None):
        """The one number of a panel, None where there are no data."""
        shown = self.numbers(panel, instant)
        assert len(shown) <= 1, f"{panel.get('title')!r} shows {len(shown)} numbers: {shown}"
        return next(iter(shown.values()), None)

    def legends(self, panel, instant=None):
        """{name of the field: value} of a panel that shows the last value of each series."""
        shown = {}
        for target in panel["targets"]:
            for series in self.ask(target, instant):
                name = legend(target, series["metric"])
                assert name not in shown, f"{panel.get('title')!r} has two fields {name!r}"
                shown[name] = float(last_value(series))
        return shown

    def rows(self, panel, instant=None):
        """The rows of a table, each {field: value}, after all transformations."""
        frames = []
        tables = [target for target in panel["targets"] if target.get("format") == "table"]
        assert len(tables) == len(panel["targets"]), f"{panel.get('title')!r} is no table"
        answers = [(target, self.ask(target, instant)) for target in tables]
        # Frames without rows do not count when the fields are named.
        several = sum(1 for _, answer in answers if answer) > 1
        for target, answer in answers:
            value = f"Value #{target['refId']}" if several else "Value"
            frames.append(
                [{"Time": None, **nameless(series["metric"]), value: float(last_value(series))} for series in answer]
            )
        frames = [frame for frame in frames if frame]
        for transformation in panel.get("transformations", []):
            if not transformation.get("disabled"):
                frames = TRANSFORMATIONS[transformation["id"]](frames, transformation["options"])
        assert len(frames) <= 1, f"{panel.get('title')!r} ends in {len(frames)} tables, and shows one"
        return frames[0] if frames else []


def nameless(metric):
    return {name: value for name, value in metric.items() if name != "__name__"}


def last_value(series):
    return (series["value"] if "value" in series else series["values"][-1])[1]


def legend(target, metric):
    form = target.get("legendFormat")
    if form and form != "__auto":
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda label: metric.get(label[1], ""), form)
    return series_text({"metric": metric})


def series_text(series):
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(nameless(series["metric"]).items()))
    text = f"{series['metric'].get('__name__', '')}{{{labels}}}"
    return f"{text} {series['value'][1]} {series['value'][0]}" if "value" in series else text


def merge(frames, _options):
    """Joins rows that agree in every field they share, as Grafana's "Merge series/tables" does."""
    if len(frames) < 2:
        return frames
    names = [list(dict.fromkeys(name for row in frame for name in row)) for frame in frames]
    shared = set(names[0]).intersection(*names[1:])
    rows = {}
    for frame in frames:
        for row in frame:
            rows.setdefault(tuple(sorted((name, str(row.get(name))) for name in shared)), {}).update(row)
    return [list(rows.values())]


def join_by_field(frames, options):
    """Joins by one field; with mode inner only what every frame has. Fields of the same name must agree."""
    by, rows = options["byField"], {}
    for frame in frames:
        for row in frame:
            known = rows.setdefault(row.get(by), {})
            for name, value in row.items():
                assert known.setdefault(name, value) == value, f"joined by {by}, two frames differ in {name}"
    if options.get("mode") == "inner":
        everywhere = set.intersection(*({row.get(by) for row in frame} for frame in frames))
        rows = {key: row for key, row in rows.items() if key in everywhere}
    return [list(rows.values())] if rows else []


def organize(frames, options):
    renamed, hidden, order = (options.get(name, {}) for name in ("renameByName", "excludeByName", "indexByName"))
    organized = []
    for frame in frames:
        fields = list(dict.fromkeys(name for row in frame for name in row))
        for name in (*renamed, *hidden, *order):
            # A name that no field has does nothing, and is most likely misspelt.
            assert name in fields or name == "Time" or not frame, f"organize names {name!r}, there are {fields}"
        kept = sorted((name for name in fields if not hidden.get(name)), key=lambda name: order.get(name, len(fields)))
        organized.append([{renamed.get(name) or name: row.get(name) for name in kept} for row in frame])
    return organized


def sort_by(frames, options):
    (by,) = options["sort"]
    ordered = []
    for frame in frames:
        assert all(by["field"] in row for row in frame), f"sorted by {by['field']!r}, which not every row has"
        ordered.append(sorted(frame, key=lambda row: row[by["field"]], reverse=by.get("desc", False)))
    return ordered


def limit(frames, options):
    return [frame[: int(options["limitField"])] for frame in frames]


def filter_fields_by_name(frames, options):
    include, exclude = options.get("include", {}), options.get("exclude", {})

    def kept(name):
        if "names" in include or "pattern" in include:
            wanted = name in include.get("names", ()) or bool(
                include.get("pattern") and re.search(include["pattern"].strip("/"), name)
            )
        else:
            wanted = True
        return wanted and name not in exclude.get("names", ())

    return [[{name: value for name, value in row.items() if kept(name)} for row in frame] for frame in frames]


TRANSFORMATIONS = {
    "filterFieldsByName": filter_fields_by_name,
    "joinByField": join_by_field,
    "limit": limit,
    "merge": merge,
    "organize": organize,
    "sortBy": sort_by,
}
