#!/usr/bin/env python3
"""Checks the dashboards with Grafana's own types and lists, and checks that injected faults are found.

    dashboard_schema.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts

Grafana ignores unknown options in a dashboard without a warning. Its TypeScript types define every field; its data
library defines every unit, transformation and reducer.
"""

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from grafana import fields_of, panels_of, read_dashboards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from harness import TestContext, main

SCHEMA = Path(__file__).parent / "schema"
# Fields that the Python library drops although Grafana supports them: the query of an annotation belongs to the data
# source, `definition` belongs to the variable editor, and `id` is null in an exported dashboard.
DROPPED = re.compile(
    r"\.annotations\.list\[\d+\]\.(expr|step|tagKeys|textFormat|titleFormat|useValueForTime)"
    r"|\.templating\.list\[\d+\]\.definition|\.id"
)
ERROR = re.compile(r"^(\w+)\.ts\((\d+),\d+\): error (TS\d+): (.*(?:\n .*)*)", re.MULTILINE)


class TypeScript:
    """One dashboard as a TypeScript program, one statement for each part, so that an error has a location."""

    def __init__(self, dashboard):
        self.lines, self.places = [], {}
        self.add(
            "the import",
            "import type { Dashboard, Dashboard9, Override, Override9, Panel, Panel9, Row } from './grafana';",
        )
        for panel in panels_of(dashboard):
            self.panel(panel)
        # The panels of a row have been added above.
        rows = [{**panel, "panels": []} for panel in dashboard["panels"] if panel["type"] == "row"]
        for row in rows:
            self.new(f"row {row.get('title')}", row, "Row")
        rest = {name: value for name, value in dashboard.items() if name != "panels"}
        self.new("the dashboard without its panels", rest, "Dashboard")
        self.old("the dashboard without its panels", rest, "Dashboard9")

    def panel(self, panel):
        place, kind = f"panel {panel.get('title')!r}", panel["type"]
        self.new(place, panel, f"Panel<'{kind}'>")
        self.old(place, panel, f"Panel9<'{kind}'>")
        for override in panel.get("fieldConfig", {}).get("overrides", []):
            for change in override["properties"]:
                what = f"{place}, override {change['id']} of {override['matcher'].get('options')!r}"
                wanted = f"'{kind}', {json.dumps(change['id'])}"
                self.new(what, {"value": change["value"]}, f"{{ value: Override<{wanted}> }}")
                self.old(what, {"value": change["value"]}, f"{{ value: Override9<{wanted}> }}")

    def new(self, place, value, kind):
        """Adds a literal: an unknown field is an error."""
        self.add(f"{place} (13.2)", f"({json.dumps(value)}) satisfies {kind};")

    def old(self, place, value, kind):
        """Adds a constant: known fields must be valid, unknown fields are ignored."""
        name = f"old{len(self.lines)}"
        self.add(f"{place} (9.4)", f"const {name} = {json.dumps(value)} as const; {name} satisfies {kind};")

    def add(self, place, line):
        self.lines.append(line)
        self.places[len(self.lines)] = place


def type_errors(context, parts, dashboards):
    """{dashboard: [error with its location]} from one run of the compiler."""
    node_modules = parts / "grafana" / "node_modules"
    assert node_modules.exists(), f"{node_modules} does not exist: .ci/run installs it"
    folder = context.scratch("types")
    for file in ("grafana.ts", "tsconfig.json"):
        shutil.copy(SCHEMA / file, folder)
    (folder / "node_modules").symlink_to(node_modules)
    programs = {name: TypeScript(dashboard) for name, dashboard in dashboards.items()}
    for name, program in programs.items():
        (folder / f"{name}.ts").write_text("\n".join(program.lines) + "\n")
    done = subprocess.run(
        ["node", node_modules / "typescript" / "bin" / "tsc", "--pretty", "false"],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = ERROR.findall(done.stdout)
    assert (done.returncode == 0) == (not found), f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    errors = {name: [] for name in programs}
    for name, line, code, words in found:
        assert name in programs, f"error in the types themselves: {name}.ts:{line}: {words}"
        # The first line of a message names the whole type, the last one the actual error.
        errors[name].append(f"{programs[name].places[int(line)]}: {code} {words.splitlines()[-1].strip()}")
    return errors


def first(dashboard, kind):
    return next(panel for panel in panels_of(dashboard) if panel["type"] == kind)


def set_option(dashboard, name, value):
    first(dashboard, "stat")["options"][name] = value


def misspell_option(dashboard):
    options = first(dashboard, "stat")["options"]
    options["colourMode"] = options.pop("colorMode")


def misspell_custom(dashboard):
    first(dashboard, "timeseries")["fieldConfig"]["defaults"]["custom"]["lineWidht"] = 1


def bad_mapping(dashboard):
    first(dashboard, "stat")["fieldConfig"]["defaults"]["mappings"] = [{"type": "valeu", "options": {}}]


def bad_override(dashboard):
    override = {"id": "custom.cellOptions", "value": {"type": "colour-text"}}
    first(dashboard, "table")["fieldConfig"]["overrides"].append(
        {"matcher": {"id": "byName", "options": "Value"}, "properties": [override]}
    )


def misspell_override(dashboard):
    first(dashboard, "table")["fieldConfig"]["overrides"].append(
        {"matcher": {"id": "byName", "options": "Value"}, "properties": [{"id": "custom.widht", "value": 80}]}
    )


def misspell_target(dashboard):
    target = first(dashboard, "stat")["targets"][0]
    target["legend_format"] = "{{state}}"


def bad_variable(dashboard):
    dashboard["templating"]["list"][0]["type"] = "datasorce"


def misspell_dashboard(dashboard):
    dashboard["refesh"] = "1m"


def together(dashboards):
    """One dashboard with the panels of all dashboards, so that it has every panel type."""
    whole = copy.deepcopy(dashboards["fleet"])
    whole["panels"] = [copy.deepcopy(panel) for each in dashboards.values() for panel in each["panels"]]
    return whole


# Faults that are injected into copies of the dashboards, and the versions whose types find them.
MUTANTS = {
    "misspelt_option": (misspell_option, {"13.2"}),
    "bad_enum": (lambda dashboard: set_option(dashboard, "graphMode", "aera"), {"13.2", "9.4"}),
    "misspelt_custom": (misspell_custom, {"13.2"}),
    "bad_mapping": (bad_mapping, {"13.2", "9.4"}),
    "bad_override": (bad_override, {"13.2", "9.4"}),
    "misspelt_override": (misspell_override, {"13.2", "9.4"}),
    "misspelt_target": (misspell_target, {"13.2"}),
    "bad_variable": (bad_variable, {"13.2"}),
    "misspelt_dashboard": (misspell_dashboard, {"13.2"}),
}


def check_types(tally, context, parts, dashboards):
    everything = dict(dashboards)
    whole = together(dashboards)
    for name, (mutate, _) in MUTANTS.items():
        everything[name] = copy.deepcopy(whole)
        mutate(everything[name])
    errors = type_errors(context, parts, everything)
    for name in dashboards:
        with tally.check(f"{name}: every field is valid in Grafana 13.2, and every known field in 9.4"):
            assert not errors[name], "\n".join(errors[name])
    with tally.check(f"the types find each of {len(MUTANTS)} injected , and no other error"):
        for name, (_, finders) in MUTANTS.items():
            found = {re.search(r"\((13\.2|9\.4)\): ", error)[1] for error in errors[name]}
            assert found == finders and len(errors[name]) == len(finders), f"{name}: {errors[name]}"


def known_ids(parts):
    """The ids that the data library defines, by kind."""
    done = subprocess.run(
        ["node", SCHEMA / "ids.cjs", parts / "grafana" / "data"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {kind: set(ids) for kind, ids in json.loads(done.stdout).items()}


def used_ids(dashboard):
    """(kind, id, panel title) of every id in the panels of a dashboard."""
    for panel in panels_of(dashboard):
        place = panel.get("title")
        for option, value in fields_of(panel):
            if option == "unit":
                yield "units", value, place
        for transformation in panel.get("transformations", []):
            yield "transformations", transformation["id"], place
        for override in panel.get("fieldConfig", {}).get("overrides", []):
            yield "matchers", override["matcher"]["id"], place
        options = panel.get("options", {})
        for part in (options.get("reduceOptions", {}), options.get("legend", {})):
            for reducer in part.get("calcs", []):
                yield "reducers", reducer, place


def check_ids(tally, parts, dashboards):
    known = known_ids(parts)
    with tally.check("the data library has the common ids, and rejects unknown ones"):
        assert {"s", "percentunit", "dateTimeAsIso"} <= known["units"] and len(known["units"]) > 200, known["units"]
        assert {"merge", "organize", "sortBy"} <= known["transformations"], known["transformations"]
        assert "lastNotNull" in known["reducers"] and "byName" in known["matchers"], known
        assert "seconds" not in known["units"] and "orgnize" not in known["transformations"], known
    for name, dashboard in dashboards.items():
        with tally.check(f"{name}: Grafana has every unit, transformation, reducer and matcher"):
            used = list(used_ids(dashboard))
            assert any(kind == "units" for kind, _, _ in used), "no units at all"
            unknown = [f"{kind}: {value!r} in {place!r}" for kind, value, place in used if value not in known[kind]]
            assert not unknown, "\n".join(unknown)


def lost(before, after, path=""):
    """Paths of the fields that decoding and encoding dropped or changed."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            yield from lost(value, after[name], f"{path}.{name}") if name in after else [f"{path}.{name}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (left, right) in enumerate(zip(before, after, strict=True)):
            yield from lost(left, right, f"{path}[{number}]")
    elif before != after:
        yield path


def unknown_fields(dashboard):
    """Paths of the fields that Grafana's Python library (11.6) does not support."""
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    return [path for path in lost(dashboard, read) if not DROPPED.fullmatch(path)]


def check_fields(tally, dashboards):
    register_default_plugins()
    for name, dashboard in dashboards.items():
        with tally.check(f"{name}: Grafana's Python library decodes and encodes it unchanged"):
            dropped = unknown_fields(dashboard)
            assert not dropped, "\n".join(dropped)
    with tally.check("the Python library drops a misspelt option, so the check above finds it"):
        whole = together(dashboards)
        misspell_custom(whole)
        assert len(unknown_fields(whole)) == 1, unknown_fields(whole)


def check_lock(tally):
    with tally.check("the lock file of the schema has a hash for every package, and no host except registry.npmjs.org"):
        lock = (SCHEMA / "package-lock.json").read_text()
        packages = {name: package for name, package in json.loads(lock)["packages"].items() if name}
        assert packages and all(package.get("integrity", "").startswith("sha512-") for package in packages.values())
        hosts = set(re.findall(r"https?://([^/\"]+)", lock))
        assert hosts <= {"registry.npmjs.org"}, hosts


def dashboard_schema(tally, _exporter, parts):
    """The dashboards, checked with Grafana's own types and lists"""
    dashboards = read_dashboards()
    check_lock(tally)
    check_ids(tally, parts, dashboards)
    check_fields(tally, dashboards)
    with TestContext() as context:
        check_types(tally, context, parts, dashboards)


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], dashboard_schema))
