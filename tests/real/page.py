"""Parses a /metrics page into families and samples, independently of the exporter.

The parser supports both formats, does not depend on metric names, and rejects invalid lines.
"""

import re
from collections import Counter, namedtuple

Sample = namedtuple("Sample", "name labels value series")
"""`labels` is a frozenset of pairs, unescaped; `value` is text; `series` is the name with labels as written."""

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})? (\S+)( \S+)?\Z')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|\})')
ESCAPE = re.compile(r"\\(.)")


class Page:
    """One exposition: `types` and `helps` by family name as written, and `samples` in page order."""

    def __init__(self, text):
        self.types = {}
        self.helps = {}
        self.samples = []
        self.ended = False
        assert text.endswith("\n"), "the page does not end with a line feed"
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
        """Every series as (name, labels), the key of a series in a database."""
        return {(sample.name, sample.labels) for sample in self.samples}

    def duplicates(self):
        """Series that occur more than once, independent of the label order."""
        counts = Counter((sample.name, sample.labels) for sample in self.samples)
        return [key for key, count in counts.items() if count > 1]

    def named(self, name):
        return [sample for sample in self.samples if sample.name == name]


def read_sample(line):
    match = SAMPLE.match(line)
    assert match, f"not a sample line: {line!r}"
    name, block, value, timestamp = match.groups()
    assert timestamp is None, f"a sample with a timestamp: {line!r}"
    float(value)
    return Sample(name, read_labels(block) if block else frozenset(), value, line[: match.end(2 if block else 1)])


def read_labels(block):
    labels, at = {}, 1
    while at < len(block):
        match = LABEL.match(block, at)
        assert match, f"not labels: {block!r}"
        label, value, _ = match.groups()
        assert label not in labels, f"duplicate label {label}: {block!r}"
        assert value, f"label {label} is empty, which databases treat as absent: {block!r}"
        labels[label] = ESCAPE.sub(lambda escaped: {"n": "\n"}.get(escaped[1], escaped[1]), value)
        at = match.end()
    return frozenset(labels.items())


def is_volatile(name):
    """Whether a sample of this name may differ between two renderings of one snapshot."""
    return name.endswith("_age_seconds") or name.startswith("process_")
