"""Reads a /metrics page into families and samples, with a reader that shares nothing with the exporter.

It takes both formats, knows no metric name, and refuses what it does not understand.
"""

import re
from collections import Counter, namedtuple

Sample = namedtuple("Sample", "name labels value series")
"""`labels` is a frozenset of pairs, unescaped; `value` the text of it; `series` name and labels as written."""

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})? (\S+)( \S+)?\Z')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|\})')
ESCAPE = re.compile(r"\\(.)")


class Page:
    """One exposition: `types` by family name as written, `helps`, and `samples` in their order."""

    def __init__(self, text):
        self.types = {}
        self.helps = {}
        self.samples = []
        self.ended = False
        assert text.endswith("\n"), "the last line is not ended"
        for line in text[:-1].split("\n"):
            assert not self.ended, f"a line after # EOF: {line}"
            if line == "# EOF":
                self.ended = True
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.types, f"{name} has a second TYPE line"
                self.types[name] = kind
            elif line.startswith("# HELP "):
                name, _, words = line[len("# HELP ") :].partition(" ")
                assert name not in self.helps, f"{name} has a second HELP line"
                self.helps[name] = words
            elif not line.startswith("#"):
                self.samples.append(read_sample(line))

    def label_sets(self):
        """Every series as (name, labels): what a database keys by."""
        return {(sample.name, sample.labels) for sample in self.samples}

    def duplicates(self):
        """Series that stand more than once, whatever the order of their labels."""
        counts = Counter((sample.name, sample.labels) for sample in self.samples)
        return [key for key, count in counts.items() if count > 1]

    def named(self, name):
        return [sample for sample in self.samples if sample.name == name]


def read_sample(line):
    match = SAMPLE.match(line)
    assert match, f"not a sample line: {line!r}"
    name, block, value, timestamp = match.groups()
    assert timestamp is None, f"a sample with a timestamp of its own: {line!r}"
    float(value)
    return Sample(name, read_labels(block) if block else frozenset(), value, line[: match.end(2 if block else 1)])


def read_labels(block):
    labels, at = {}, 1
    while at < len(block):
        match = LABEL.match(block, at)
        assert match, f"not labels: {block!r}"
        label, value, _ = match.groups()
        assert label not in labels, f"label {label} twice: {block!r}"
        assert value, f"label {label} is empty, which databases take for absent: {block!r}"
        labels[label] = ESCAPE.sub(lambda escaped: {"n": "\n"}.get(escaped[1], escaped[1]), value)
        at = match.end()
    return frozenset(labels.items())


def moves(name):
    """Whether a sample of this name may differ between two fetches that show the same snapshot."""
    return name.endswith("_age_seconds") or name.startswith("process_")
