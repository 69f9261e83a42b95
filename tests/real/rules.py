"""The rules of deploy/prometheus: what promtool says of them, and whether their tests would notice a mistake.

Every comparison, set operator and duration is turned into its opposite, one at a time, and the tests of tests/rules
must fail. What survives is something that nobody has shown to matter.
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
DURATION = re.compile(r"^ +(?:keep_firing_)?for: (\d+)([smhd])\n", re.MULTILINE)
RULE = re.compile(r"^ +- (?:alert|record): (.*)$", re.MULTILINE)
GROUP = re.compile(r"^  - name: servicefabric-backup\.(.*)$", re.MULTILINE)
SILENCE = "expr: vector(0) > 1\n"

Mutant = namedtuple("Mutant", "file group name text")


def last_before(pattern, text, position):
    """What `pattern` last found before a position."""
    return [found.group(1) for found in pattern.finditer(text, 0, position)][-1]


def mutants_of(file):
    """Every mutant of one file of rules."""
    text = file.read_text()

    def mutant(start, end, replacement):
        line = text.count("\n", 0, start) + 1
        what = f"{text[start:end].strip()} -> {replacement.strip() or 'nothing'}"
        name = f"{file.name}:{line} {last_before(RULE, text, start)}: {what}"
        return Mutant(file.name, last_before(GROUP, text, start), name, text[:start] + replacement + text[end:])

    for expression in EXPRESSION.finditer(text):
        plain = ASIDE.sub(lambda aside: " " * len(aside.group()), expression.group())
        for operator in OPERATOR.finditer(plain):
            start, end = (expression.start() + place for place in operator.span())
            yield mutant(start, end, OPPOSITES[operator.group()])
    for duration in DURATION.finditer(text):
        yield mutant(*duration.span(), "")
        yield mutant(*duration.span(1), f"{duration.group(1)}00")


def silenced(text, group):
    """The rules with all alerts of other groups kept from ever firing: the tests of one group are quicker then."""

    def keep(expression):
        return expression.group() if last_before(GROUP, text, expression.start()) == group else expression.group(1) + SILENCE

    return EXPRESSION.sub(keep, text)


def passes(promtool, folder, tests):
    """Whether all these tests pass, with the rules of `folder`."""
    quick = dict(os.environ, GOMAXPROCS="1", GOGC="400")
    command = [promtool, "test", "rules", *(folder / TESTS / f"{name}.test.yml" for name in tests)]
    return subprocess.run(command, env=quick, capture_output=True, timeout=120).returncode == 0


def survives(promtool, mutant, tests):
    """Whether no test notices the mutant. Those of its own group come first: they nearly always do."""
    with tempfile.TemporaryDirectory(prefix="sfbe-mutant-") as folder:
        folder = Path(folder)
        shutil.copytree(ROOT / TESTS, folder / TESTS)
        shutil.copytree(ROOT / RULES, folder / RULES)
        own = mutant.group if mutant.group in tests else "recorded"
        if own == mutant.group:
            (folder / RULES / mutant.file).write_text(silenced(mutant.text, mutant.group))
            if not passes(promtool, folder, [own]):
                return False
        (folder / RULES / mutant.file).write_text(mutant.text)
        return all(passes(promtool, folder, [name]) for name in sorted(tests, key=lambda name: name != own))


def rules(tally, exporter, parts):
    """The rules, read, tested and mutated with promtool"""
    files, tests = sorted((ROOT / RULES).glob("*.yml")), sorted((ROOT / TESTS).glob("*.test.yml"))
    for suite, version, promtool in parts_with(parts, "promtool"):
        for words in (["check", "rules", "--lint=all", "--lint-fatal", *files], ["test", "rules", *tests]):
            with tally.check(f"promtool {version} ({suite}) {words[0]}s the rules"):
                told = subprocess.run([promtool, *words], capture_output=True, text=True, timeout=120)
                assert told.returncode == 0, told.stdout + told.stderr

    names = [test.name.removesuffix(".test.yml") for test in tests]
    mutants = [mutant for file in files for mutant in mutants_of(file)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        fates = list(pool.map(lambda mutant: survives(promtool, mutant, names), mutants))
    with tally.check(f"the tests notice each of {len(mutants)} mutants of the rules"):
        alive = [mutant.name for mutant, survived in zip(mutants, fates, strict=True) if survived]
        assert mutants and not alive, "\n".join(["nothing notices:", *alive])
