"""The rules of deploy/prometheus: what promtool says of them, and whether their tests would notice a mistake.

Every comparison and set operator of an expression is turned into its opposite, every `for` and `keep_firing_for` is
removed or made a hundred times as long, and the tests of tests/rules must fail. A change that they do not notice is one
that nobody has shown to matter. Ranges, offsets, numbers and aggregations are not changed: of those the tests show what
they were written to show.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import tempfile
from collections import namedtuple
from pathlib import Path

from harness import parts_with

ROOT = Path(__file__).resolve().parents[2]
RULES = Path("deploy/prometheus")
TESTS = Path("tests/rules")

OPPOSITES = {
    "==": "!=", "!=": "==", ">": "<=", "<=": ">", "<": ">=", ">=": "<", "and": "unless", "unless": "and",
}  # fmt: skip
OPERATOR = re.compile(r"==|!=|>=|<=|>|<|\band\b|\bunless\b")
# What stands in braces, brackets and quotes is no operator.
ASIDE = re.compile(r'\{[^{}]*\}|\[[^\]]*\]|"(?:[^"\\]|\\.)*"')
EXPRESSION = re.compile(r"^( +)expr: (?:\|\n(?:\1  .*\n|\n)+|.*\n)", re.MULTILINE)
DURATION = re.compile(r"^ +((?:keep_firing_)?for): (\d+)[smhd]\n", re.MULTILINE)
RULE = re.compile(r"^ +- (?:alert|record): (.*)$", re.MULTILINE)
GROUP = re.compile(r"^  - name: servicefabric-backup\.(.*)$", re.MULTILINE)
SILENCE = "expr: vector(0) > 1\n"
# Groups whose tests stand in the file of another group.
TESTED_WITH = {"events": "restore"}
# promtool spends a third of its time on collecting garbage otherwise.
QUICK = dict(os.environ, GOGC="400")

# What is put in place of what, in which file, group and rule. Changes of one kind may be made together.
Change = namedtuple("Change", "file start end replacement line group rule kind")


def last_before(pattern, text, position):
    """What `pattern` last found before a position."""
    return [found.group(1) for found in pattern.finditer(text, 0, position)][-1]


def changes_of(file):
    """Every change of one file of rules that its tests should notice."""
    text = file.read_text()

    def change(start, end, replacement, kind):
        line = text.count("\n", 0, start) + 1
        group, rule = last_before(GROUP, text, start), last_before(RULE, text, start)
        return Change(file.name, start, end, replacement, line, group, rule, kind)

    for expression in EXPRESSION.finditer(text):
        plain = ASIDE.sub(lambda aside: " " * len(aside.group()), expression.group())
        for operator in OPERATOR.finditer(plain):
            start, end = (expression.start() + place for place in operator.span())
            opposite = OPPOSITES[operator.group()]
            yield change(start, end, opposite, f"{operator.group()} becomes {opposite}")
    for duration in DURATION.finditer(text):
        yield change(*duration.span(), "", f"no {duration.group(1)}")
        yield change(*duration.span(2), f"{duration.group(2)}00", f"{duration.group(1)} times 100")


def batches(changes):
    """Durations of one kind in one group are changed together: no alert hears of the duration of another."""
    together = {}
    for change in changes:
        alone = change.start if "becomes" in change.kind else None
        together.setdefault((change.file, change.group, change.kind, alone), []).append(change)
    return list(together.values())


def silenced(text, groups):
    """The rules with those of all other groups kept from ever telling anything: the tests of one are quicker then."""

    def keep(expression):
        own = last_before(GROUP, text, expression.start()) in groups
        return expression.group() if own else expression.group(1) + SILENCE

    return EXPRESSION.sub(keep, text)


def told(promtool, changes, test, group=None):
    """What promtool says of one file of tests after these changes, all of one file; nothing when all is well."""
    with tempfile.TemporaryDirectory(prefix="sfbe-rules-") as folder:
        shutil.copytree(ROOT / TESTS, Path(folder, TESTS))
        shutil.copytree(ROOT / RULES, Path(folder, RULES))
        file = Path(folder, RULES, changes[0].file)
        text = file.read_text()
        for change in sorted(changes, key=lambda change: change.start, reverse=True):
            text = text[: change.start] + change.replacement + text[change.end :]
        file.write_text(silenced(text, {group}) if group else text)
        if group in TESTED_WITH:
            for other in Path(folder, RULES).iterdir():
                if other != file:
                    other.write_text(silenced(other.read_text(), {test}))
        # Hundreds of these run beside tests that mostly wait, and are not to be late.
        command = ["nice", promtool, "test", "rules", Path(folder, TESTS, f"{test}.test.yml")]
        run = subprocess.run(command, env=dict(QUICK, GOMAXPROCS="1"), capture_output=True, text=True, timeout=300)
        said = run.stdout + run.stderr
        assert (run.returncode != 0) == ("FAILED:" in said), f"promtool did not get as far as the tests: {said}"
        return said if run.returncode else ""


def unnoticed(promtool, changes, tests):
    """Those of a batch that no test notices. First the tests of their own group are asked about all of them at once:
    what fails there has the name of the alert. What is left is tried change by change, with all tests."""
    group = changes[0].group
    own = TESTED_WITH.get(group, group)
    if own in tests:
        said = told(promtool, changes, own, group)
        if said and len(changes) == 1:
            return []
        changes = [change for change in changes if f"alertname: {change.rule}," not in said]
    likely_first = sorted(tests, key=lambda name: (name != own, name not in ("recorded", "replicas")))
    return [change for change in changes if not any(told(promtool, [change], test) for test in likely_first)]


def rules(tally, exporter, parts):
    """The rules, read, tested and changed with promtool"""
    files, tests = sorted((ROOT / RULES).glob("*.yml")), sorted((ROOT / TESTS).glob("*.test.yml"))
    for suite, version, promtool in parts_with(parts, "promtool"):
        for words in (["check", "rules", "--lint=all", "--lint-fatal", *files], ["test", "rules", *tests]):
            with tally.check(f"promtool {version} ({suite}) {words[0]}s the rules"):
                run = subprocess.run([promtool, *words], env=QUICK, capture_output=True, text=True, timeout=300)
                assert run.returncode == 0, run.stdout + run.stderr

    names = [test.name.removesuffix(".test.yml") for test in tests]
    changes = [change for file in files for change in changes_of(file)]
    with tally.check(f"the tests notice each of {len(changes)} changes of the rules"):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            left = pool.map(lambda batch: unnoticed(promtool, batch, names), batches(changes))
            alive = [f"{c.file}:{c.line} {c.rule}: {c.kind}" for batch in left for c in batch]
        assert changes and not alive, "\n".join(["nothing notices:", *alive])
