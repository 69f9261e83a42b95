"""Checks the rules of deploy/prometheus with promtool, and checks that the rule tests detect changes of the rules.

This is mutation testing. Every comparison and set operator of an expression is replaced by its opposite, and every
`for` and `keep_firing_for` is removed or made a hundred times as long. A test in tests/rules must fail for each change.
Ranges, offsets, numbers and aggregations are not changed.

Two measures limit the number and the duration of the runs. A test file runs with only the rules that it needs, after a
run without changes has shown that it passes with them. One run tests one change of each alert of a group, because no
rule depends on an alert, and a failed test names its alert.
"""

import concurrent.futures
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import yaml
from harness import parts_with

ROOT = Path(__file__).resolve().parents[2]
RULES = Path("deploy/prometheus")
TESTS = Path("tests/rules")

OPPOSITES = {
    "==": "!=", "!=": "==", ">": "<=", "<=": ">", "<": ">=", ">=": "<", "and": "unless", "unless": "and",
}  # fmt: skip
OPERATOR = re.compile(r"==|!=|>=|<=|>|<|\band\b|\bunless\b")
# Text in braces, brackets and quotes contains no operators of the expression.
NOT_OPERATORS = re.compile(r'\{[^{}]*\}|\[[^\]]*\]|"(?:[^"\\]|\\.)*"')
# How promtool introduces the failure of an alert_rule_test, and of a promql_expr_test.
ALERT_TEST = re.compile(r"^ +alertname: (\w+), time: ", re.MULTILINE)
EXPRESSION_TEST = re.compile(r'^ +expr: "(.*)", time: ', re.MULTILINE)
# Groups whose tests are in the file of another group.
TESTED_WITH = {"events": "restore"}
# A selector of alerts that does not begin with the name of one alert.
ANY_ALERT = re.compile(r'ALERTS(?!\{alertname="\w+")')

# A changed rule with its name and group.
Change = namedtuple("Change", "group name rule description")


def run_promtool(promtool, *words):
    """Runs promtool and returns its exit code and output."""
    # The lowest priority, because a test with deadlines runs at the same time. One thread, because several runs share
    # the processors. With the default of GOGC, promtool spends a third of its time on garbage collection.
    environment = dict(os.environ, GOGC="400", GOMAXPROCS="1")
    run = subprocess.run(["nice", promtool, *words], env=environment, capture_output=True, text=True, timeout=900)
    return run.returncode, run.stdout + run.stderr


def name_of(rule):
    return rule.get("alert") or rule["record"]


def changes_of(group, rule):
    """Every change of one rule that the tests must detect."""

    def change(description, **fields):
        changed = {key: value for key, value in {**rule, **fields}.items() if value is not None}
        return Change(group, name_of(rule), changed, description)

    expression = rule["expr"]
    operators = OPERATOR.finditer(NOT_OPERATORS.sub(lambda found: " " * len(found.group()), expression))
    for number, operator in enumerate(operators, 1):
        opposite = OPPOSITES[operator.group()]
        changed = expression[: operator.start()] + opposite + expression[operator.end() :]
        yield change(f"operator {number} of expr, {operator.group()}, becomes {opposite}", expr=changed)
    for field in ("for", "keep_firing_for"):
        if field in rule:
            number, unit = re.fullmatch(r"(\d+)([smhd])", rule[field]).groups()
            yield change(f"no {field}", **{field: None})
            yield change(f"{field} times 100", **{field: f"{number}00{unit}"})


def batches(changes):
    """Groups changes into batches for one run each: one change of each alert of a group, or one recording rule."""
    of_group, alone = {}, []
    for change in changes:
        if "alert" in change.rule:
            of_group.setdefault(change.group, {}).setdefault(change.name, []).append(change)
        else:
            alone.append([change])
    together = (itertools.zip_longest(*of_alert.values()) for of_alert in of_group.values())
    return [[change for change in batch if change] for batch in itertools.chain(*together)] + alone


def required_rules(sources, text):
    """Names of the rules that a text mentions, and of their dependencies."""
    found, unread = set(), [text]
    while unread:
        text = unread.pop()
        new = {name for name in sources if name in text} - found
        found |= new
        unread += [sources[name] for name in new]
    return found


def alerts_of_failed_tests(output):
    """Names of the alerts whose tests failed. A failed expression test counts if it is about one alert only."""
    names = set(ALERT_TEST.findall(output))
    for expression in EXPRESSION_TEST.findall(output):
        if expression.count("ALERTS") == expression.count("alertname") == 1:
            names.update(re.findall(r'alertname=\\"(\w+)\\"', expression))
    return names


class Mutation:
    """Runs promtool on the tests with some of the rules changed or left out."""

    def __init__(self, promtool, files, tests):
        self.promtool = promtool
        self.files = {file.name: yaml.safe_load(file.read_text())["groups"] for file in files}
        groups = [group for groups in self.files.values() for group in groups]
        rules = [(group["name"], rule) for group in groups for rule in group["rules"]]
        self.changes = [change for group, rule in rules for change in changes_of(group, rule)]
        self.sources = {name_of(rule): json.dumps(rule) for _, rule in rules}
        assert len(self.sources) == len(rules), "two rules have the same name"
        assert not any("ALERTS" in source for source in self.sources.values()), "a rule depends on an alert"
        self.required = {test: required_rules(self.sources, test.read_text()) for test in tests}

    def failures(self, test, names, changes=()):
        """Runs a test file with the rules of these names. Returns the output if a test fails, else an empty string."""
        changed = {change.name: change.rule for change in changes}
        with tempfile.TemporaryDirectory(prefix="sfbe-rules-") as folder:
            for part in (RULES, TESTS):
                Path(folder, part).mkdir(parents=True)
            for file, groups in self.files.items():
                kept = [
                    {**group, "rules": [changed.get(name_of(r), r) for r in group["rules"] if name_of(r) in names]}
                    for group in groups
                ]
                # JSON is YAML.
                Path(folder, RULES, file).write_text(json.dumps({"groups": kept}))
            code, output = run_promtool(self.promtool, "test", "rules", shutil.copy(test, Path(folder, TESTS)))
        assert (code != 0) == ("FAILED:" in output), f"promtool did not run the tests: {output}"
        return output if code else ""

    def rank(self, pool):
        """Checks that each test file passes with the rules that it needs, and sorts the files, fastest first."""

        def seconds(test):
            started = time.monotonic()
            output = self.failures(test, self.required[test])
            assert not output, f"{test.name} fails without the rules that it does not mention:\n{output}"
            return time.monotonic() - started

        durations = dict(zip(self.required, pool.map(seconds, self.required), strict=True))
        self.required = {test: self.required[test] for test in sorted(durations, key=durations.get)}

    def undetected(self, batch):
        """The changes of a batch that no test detects."""
        group = batch[0].group.removeprefix("servicefabric-backup.")
        own = ROOT / TESTS / f"{TESTED_WITH.get(group, group)}.test.yml"
        if len(batch) > 1 and own in self.required:
            names = alerts_of_failed_tests(self.failures(own, self.required[own], batch))
            batch = [change for change in batch if change.name not in names]

        def detected(change):
            likely = [test for test, names in self.required.items() if change.name in names]
            likely.sort(key=lambda test: test != own)
            # Other tests do not depend on this rule, except those with a selector for any alert.
            others = [test for test in self.required if ANY_ALERT.search(test.read_text())]
            return any(self.failures(test, self.required[test], [change]) for test in likely) or any(
                self.failures(test, self.sources, [change]) for test in others
            )

        return [change for change in batch if not detected(change)]


def rules(tally, exporter, parts):
    """The rules, checked and tested with promtool, and their tests with changed rules"""
    files, tests = sorted((ROOT / RULES).glob("*.yml")), sorted((ROOT / TESTS).glob("*.test.yml"))
    found = parts_with(parts, "promtool")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = pool.map(
            lambda part: run_promtool(part[2], "check", "rules", "--lint=all", "--lint-fatal", *files), found
        )
        tested = pool.map(lambda part: run_promtool(part[2], "test", "rules", *tests), found)
        for (suite, version, _), *results in zip(found, checked, tested, strict=True):
            for verb, (code, output) in zip(("checks", "tests"), results, strict=True):
                with tally.check(f"promtool {version} ({suite}) {verb} the rules"):
                    assert code == 0, output

        mutation = Mutation(found[-1][2], files, tests)
        with tally.check(f"the tests detect each of {len(mutation.changes)} changes of the rules"):
            mutation.rank(pool)
            left = pool.map(mutation.undetected, batches(mutation.changes))
            survivors = [f"{c.group} {c.name}: {c.description}" for batch in left for c in batch]
            assert mutation.changes and not survivors, "\n".join(["not detected:", *survivors])
