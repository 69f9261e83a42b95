#!/usr/bin/env python3
"""Checks the page of the demo with strict parsers of both formats, in every encoding.

page_checks.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts
"""

import contextlib
import gzip
import json
import subprocess
import sys
import time
import zlib
from datetime import UTC, datetime

from harness import TestContext, fetch, main, parts_with, start_demo, wait_until
from page import Page, is_volatile
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_openmetrics
from prometheus_client.parser import text_string_to_metric_families as python_text

OPENMETRICS = "application/openmetrics-text"
TEXT = "text/plain"

# Accept headers that clients send by default, captured from the wire, with the expected content type.
ACCEPT_HEADERS = [
    (
        "Prometheus 2.42",
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        OPENMETRICS,
    ),
    (
        "Prometheus 2.42 with native histograms",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
        "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        OPENMETRICS,
    ),
    (
        "Prometheus 2.53",
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        OPENMETRICS,
    ),
    (
        "Prometheus 3.5",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        OPENMETRICS,
    ),
    (
        "Prometheus 3.5 with legacy names",
        "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=underscores;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        OPENMETRICS,
    ),
    ("VictoriaMetrics", "text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT),
    ("curl", "*/*", TEXT),
    ("a client without an Accept header", None, TEXT),
    ("a client that accepts only an unsupported type", "application/json", TEXT),
]

ASK_OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
ASK_TEXT = {"Accept": "text/plain; version=0.0.4"}

PROGRESS_STATES = {"Invalid", "Accepted", "BackupInProgress", "Success", "Failure", "Timeout", "Unknown"}
VERDICTS = {
    "Unknown",
    "Stuck",
    "Unprotected",
    "Suspended",
    "NeverBackedUp",
    "Overdue",
    "Failing",
    "Pending",
    "Protected",
}
RESTORE_STATES = {
    "Invalid",
    "Accepted",
    "RestoreInProgress",
    "SecondariesInProgress",
    "Success",
    "Failure",
    "Timeout",
    "Unknown",
}
INFO = "servicefabric_backup_partition_info"
VERDICT = "servicefabric_backup_protection_state"

STATESETS = {
    "servicefabric_backup_progress_state": PROGRESS_STATES,
    VERDICT: VERDICTS,
    "servicefabric_backup_restore_state": RESTORE_STATES,
}

# States that the demo must show within two minutes. Restore states are left out, because they are too short.
REQUIRED_STATES = {
    "every progress state": ("servicefabric_backup_progress_state", PROGRESS_STATES),
    "all nine verdicts": (VERDICT, VERDICTS),
}


def body(port, headers):
    answer = fetch(port, "/metrics", headers)
    assert answer.status == 200, f"status {answer.status}"
    return answer.body.decode("utf-8")


def same_snapshot(port, *asked):
    """Bodies of one snapshot for several sets of headers. Retries until the demo does not change in between."""

    def attempt():
        bodies = [fetch(port, "/metrics", headers).body for headers in (*asked, asked[0])]
        first, last = stable_samples(decompressed(bodies[0])), stable_samples(decompressed(bodies[-1]))
        return bodies[:-1] if first == last else None

    return wait_until("two equal pages in a row", attempt, seconds=60)


def decompressed(body):
    return (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode("utf-8")


def stable_samples(text):
    """Every series in page order, with its value unless that differs between renderings of one snapshot."""
    return [(sample.series, None if is_volatile(sample.name) else sample.value) for sample in Page(text).samples]


def difference(left, right):
    for number, pair in enumerate(zip(left, right, strict=False)):
        if pair[0] != pair[1]:
            return f"sample {number}: {pair[0]} / {pair[1]}"
    return f"{len(left)} / {len(right)} samples"


def single_stream(compressed):
    """Decodes a single gzip member, like simple decoders, and asserts that nothing follows it."""
    decoder = zlib.decompressobj(wbits=31)
    decoded = decoder.decompress(compressed) + decoder.flush()
    assert decoder.eof, "the gzip stream is incomplete"
    assert decoder.unused_data == b"", f"{len(decoder.unused_data)} bytes follow the first gzip member"
    return decoded


def check_readers(tally, port, parts):
    text, openmetrics = (answered.decode() for answered in same_snapshot(port, ASK_TEXT, ASK_OPENMETRICS))

    for suite, version, promtool in parts_with(parts, "promtool"):
        with tally.check(f"promtool {version} ({suite}) has no finding for the text format"):
            lint = subprocess.run(
                [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
            )
            output = lint.stdout + lint.stderr
            assert lint.returncode == 0 and not output, f"exit {lint.returncode}:\n{output}"

    with tally.check("the strict Python parser reads every sample of the OpenMetrics page"):
        read = sum(len(family.samples) for family in strict_openmetrics(openmetrics))
        written = len(Page(openmetrics).samples)
        assert read == written and written, f"read {read} of {written} samples"

    with tally.check("the Python parser reads every sample of the text format"):
        read = sum(len(family.samples) for family in python_text(text))
        written = len(Page(text).samples)
        assert read == written and written, f"read {read} of {written} samples"

    with tally.check("both formats have the same samples in the same order"):
        left, right = stable_samples(text), stable_samples(openmetrics)
        assert left == right, difference(left, right)

    with tally.check("OpenMetrics ends with # EOF, the text format does not"):
        assert Page(openmetrics).ended and not Page(text).ended and "# EOF" not in text

    with tally.check("no series occurs twice"):
        for page in (Page(text), Page(openmetrics)):
            assert not page.duplicates(), page.duplicates()[:5]

    with tally.check("every family in the text format has a type of that format"):
        odd = {name: kind for name, kind in Page(text).types.items() if kind not in ("counter", "gauge", "histogram")}
        assert not odd, odd

    with tally.check("every sample in both formats has a family with TYPE and HELP"):
        for page in (Page(text), Page(openmetrics)):
            for sample in page.samples:
                family = family_of(sample.name, page)
                assert family and page.helps.get(family), f"{sample.name} has no family or no help"


def family_of(name, page):
    candidates = [name]
    for suffix in ("_total", "_info", "_bucket", "_count", "_sum"):
        if name.endswith(suffix):
            candidates.append(name[: -len(suffix)])
    return next((candidate for candidate in candidates if candidate in page.types), None)


def check_encodings(tally, port):
    for name, ask in (("text", ASK_TEXT), ("OpenMetrics", ASK_OPENMETRICS)):
        with tally.check(f"{name}: the gzip body is one member and contains the page"):
            identity, compressed = same_snapshot(port, ask, {**ask, "Accept-Encoding": "gzip"})
            assert compressed[:2] == b"\x1f\x8b", "expected a gzip body, found another encoding"
            unpacked = single_stream(compressed).decode()
            left, right = stable_samples(identity.decode()), stable_samples(unpacked)
            assert left == right, difference(left, right)
            # Comment lines must be equal too.
            comments = [
                [line for line in page.split("\n") if line.startswith("#")] for page in (identity.decode(), unpacked)
            ]
            assert comments[0] == comments[1], "comment lines differ"
            assert len(compressed) < len(identity) / 3, f"{len(identity)} bytes became {len(compressed)}"

    with tally.check("gzip --test accepts the compressed page"):
        compressed = fetch(port, "/metrics", {"Accept-Encoding": "gzip"}).body
        test = subprocess.run(["gzip", "--test", "--verbose"], input=compressed, capture_output=True, timeout=60)
        assert test.returncode == 0, test.stderr.decode()

    for accepted, coded in (("gzip", "gzip"), ("identity", None), ("gzip;q=0", None), ("br, zstd", None), (None, None)):
        with tally.check(f"Accept-Encoding {accepted!r} gets {coded or 'identity'}"):
            answer = fetch(port, "/metrics", {"Accept-Encoding": accepted} if accepted else {})
            assert answer.status == 200
            assert answer.headers["Content-Encoding"] == coded, (
                f"Content-Encoding: {answer.headers['Content-Encoding']}"
            )
            assert (answer.body[:2] == b"\x1f\x8b") == (coded == "gzip")

    for headers in ({}, ASK_OPENMETRICS, {"Accept-Encoding": "gzip"}):
        with tally.check(f"HEAD with {headers or 'no headers'} has the headers of GET and no body"):
            head, get = fetch(port, "/metrics", headers, method="HEAD"), fetch(port, "/metrics", headers)
            assert (head.status, head.body) == (200, b""), f"{head.status}, {len(head.body)} bytes"
            for header in ("Content-Type", "Content-Encoding", "Vary"):
                assert head.headers[header] == get.headers[header], (
                    f"{header}: {head.headers[header]} / {get.headers[header]}"
                )


def check_negotiation(tally, port):
    for client, accept, expected in ACCEPT_HEADERS:
        with tally.check(f"{client} gets {expected}"):
            answer = fetch(port, "/metrics", {"Accept": accept} if accept else {})
            media, *parameters = (part.strip() for part in answer.headers["Content-Type"].split(";"))
            assert (answer.status, media) == (200, expected), f"{answer.status} {answer.headers['Content-Type']}"
            version = "version=1.0.0" if expected == OPENMETRICS else "version=0.0.4"
            assert version in parameters and "charset=utf-8" in parameters, answer.headers["Content-Type"]
            assert Page(answer.body.decode()).ended == (expected == OPENMETRICS)


def check_values(tally, port):
    asked_at = time.time()
    page = Page(body(port, ASK_TEXT))
    answered_at = time.time()

    with tally.check("no value is NaN or infinite"):
        odd = [sample for sample in page.samples if sample.value.lower().lstrip("+-") in ("nan", "inf", "infinity")]
        assert not odd, odd[:5]

    with tally.check("no timestamp is a sentinel value of year 1, 1601, 1970 or the far future"):
        # The first Service Fabric release was in 2015. A due time is at most one interval ahead.
        first, last = 1_420_000_000, answered_at + 400 * 86_400
        times = [sample for sample in page.samples if sample.name.endswith("_timestamp_seconds")]
        assert times, "no timestamps"
        odd = [sample for sample in times if not first < float(sample.value) < last]
        assert not odd, odd[:5]

    for what in ("progress", "last_success"):
        with tally.check(f"the {what} age is the scrape time minus the timestamp, in whole seconds"):
            stamps, ages = (
                {sample.labels: float(sample.value) for sample in page.named(f"servicefabric_backup_{what}_{unit}")}
                for unit in ("timestamp_seconds", "age_seconds")
            )
            assert stamps and stamps.keys() == ages.keys(), f"{len(stamps)} timestamps, {len(ages)} ages"
            for labels, age in ages.items():
                assert age == int(age), f"{age} of {labels}"
                # Timestamp and age are both rounded down.
                assert asked_at - 2.001 <= age + stamps[labels] <= answered_at + 0.001, (
                    f"{labels}: {stamps[labels]} + {age}"
                )

    for family, states in STATESETS.items():
        with tally.check(f"{family} has all its states, and exactly one is 1"):
            check_stateset(page.named(family), states)

    with tally.check("every partition has an info series, and all its series have the same labels"):
        known = {identity(sample) for sample in page.named(INFO)}
        assert known, "no partitions"
        for sample in page.samples:
            if dict(sample.labels).get("partition_id"):
                assert identity(sample) in known, f"{sample} has no info series"
                partition = dict(sample.labels)["partition_id"]
                assert partition == partition.lower(), f"{partition} is not in lower case"


def identity(sample):
    labels = dict(sample.labels)
    return tuple(labels.get(name, "") for name in ("cluster_name", "application_name", "service_name", "partition_id"))


def check_stateset(samples, states):
    assert samples, "no samples"
    ones, seen = {}, {}
    for sample in samples:
        state = dict(sample.labels)["state"]
        assert state in states, f"unexpected state {state}"
        assert sample.value in ("0", "1", "0.0", "1.0"), f"{sample.value} of {sample.labels}"
        ones[identity(sample)] = ones.get(identity(sample), 0) + int(float(sample.value))
        seen.setdefault(identity(sample), set()).add(state)
    odd = {key: count for key, count in ones.items() if count != 1}
    assert not odd, f"expected one state with value 1, found {list(odd.items())[:3]}"
    partial = {key: found for key, found in seen.items() if found != states}
    assert not partial, f"missing states, found only {list(partial.items())[:3]}"


def check_verdicts(tally, port):
    """Recomputes the due times and verdicts of one page from its timestamps."""
    asked_at = time.time()
    page = Page(body(port, ASK_TEXT))
    answered_at = time.time()
    states = verdicts(page)
    policies = {identity(sample): dict(sample.labels).get("policy_name") for sample in page.named(INFO)}
    kinds = by_policy(page, "servicefabric_backup_policy_info", "schedule_kind")
    intervals = {
        dict(sample.labels)["policy_name"]: float(sample.value)
        for sample in page.named("servicefabric_backup_policy_interval_seconds")
    }
    due = by_partition(page, "servicefabric_backup_due_timestamp_seconds")
    last = by_partition(page, "servicefabric_backup_last_success_timestamp_seconds")
    restored = by_partition(page, "servicefabric_backup_restore_timestamp_seconds")

    with tally.check("every partition has an info series and exactly one verdict, with the same labels"):
        infos = [identity(sample) for sample in page.named(INFO)]
        ones = [identity(sample) for sample in page.named(VERDICT) if float(sample.value) == 1]
        assert len(infos) == len(set(infos)) and sorted(infos) == sorted(ones), f"{len(infos)} / {len(ones)}"

    with tally.check("partitions have a due time, except those that are suspended, unprotected or unknown"):
        never_due = {"Suspended", "Unprotected", "Unknown"}
        # A stuck partition has a due time only with a policy.
        odd = {key: state for key, state in states.items() if state != "Stuck" and (key in due) == (state in never_due)}
        assert not odd, list(odd.items())[:3]

    with tally.check("frequency-based: the due time is one interval after the last success or a later restore"):
        services = set()
        for key, at in due.items():
            if key in last and kinds.get(policies[key]) == "FrequencyBased":
                began = max(last[key], restored.get(key, last[key]))
                assert at == began + intervals[policies[key]], f"{key}: {at}, {last[key]}, {policies[key]}"
                services.add(key[2])
        expected = {f"fabric:/Gallery/{name}" for name in ("BackedUp", "StorageLost", "StoppedSilently")}
        assert expected <= services, services

    with tally.check("time-based: the due time is the next run after the last success, apart from an early start"):
        checked = set()
        for key, at in due.items():
            kind = kinds.get(policies[key])
            if key in last and kind in ("TimeBasedDaily", "TimeBasedWeekly"):
                moment = datetime.fromtimestamp(at, UTC)
                hours = (2,) if kind == "TimeBasedDaily" else (2, 12)
                workday = kind == "TimeBasedDaily" or moment.weekday() < 5
                # The run of this policy was ten minutes before the start of the demo.
                if policies[key] != "DailyTenMinutesAgo":
                    assert moment.hour in hours and (moment.minute, moment.second) == (0, 0) and workday, moment
                # A run may start up to 10 s early.
                assert 0 < at - last[key] <= intervals[policies[key]] + 10, f"{key}: {last[key]} {at}"
                checked.add(kind)
        assert len(checked) == 2, checked

    with tally.check("only late partitions are Overdue or NeverBackedUp"):
        (allowance,) = (float(sample.value) for sample in page.named("servicefabric_backup_overdue_allowance_seconds"))
        for key, at in due.items():
            late = {False: ("NeverBackedUp",), True: ("Overdue",)}[key in last]
            if states[key] in late:
                assert at + allowance < answered_at, f"{key} is {states[key]} too early"
            elif states[key] != "Stuck":
                # The page has whole seconds, the verdict is computed with fractions.
                assert at + allowance + 1 >= asked_at, f"{key} is {states[key]} at {asked_at}, due {at}"
                assert states[key] in (("Protected", "Failing") if key in last else ("Pending", "Failing")), key

    with tally.check("the JSON of a partition has the same verdict and due time, with evidence"):
        for name in ("StoppedSilently", "OnHold", "Forgotten", "JustEnabled"):
            key = next(key for key in states if key[2] == f"fabric:/Gallery/{name}")
            shown = json.loads(fetch(port, f"/api/v1/partitions/{key[3]}").body)["protection"]
            assert shown["state"] == states[key], f"{name}: {shown['state']} / {states[key]}"
            moment = shown["due"] and datetime.fromisoformat(shown["due"]).timestamp()
            assert moment == due.get(key), f"{name}: {shown['due']} / {due.get(key)}"
            facts = {line["fact"]: line for line in shown["evidence"]}
            assert all(line.keys() == {"fact", "value", "source", "age_seconds"} for line in shown["evidence"])
            assert facts["due"]["value"] == shown["due"], facts["due"]
            policy = facts["policy"]["value"]
            assert policy == (f"{policies[key]}, set at the Service" if policies[key] else "none applies"), policy


def verdicts(page):
    return {
        identity(sample): dict(sample.labels)["state"] for sample in page.named(VERDICT) if float(sample.value) == 1
    }


def by_partition(page, name):
    return {identity(sample): float(sample.value) for sample in page.named(name)}


def by_policy(page, name, label):
    return {dict(sample.labels)["policy_name"]: dict(sample.labels).get(label) for sample in page.named(name)}


def check_states_are_shown(tally, port, started):
    missing = {family: set(states) for family, states in REQUIRED_STATES.values()}

    def shown():
        page = Page(body(port, ASK_TEXT))
        for family, states in missing.items():
            for sample in page.named(family):
                if float(sample.value) == 1:
                    states.discard(dict(sample.labels)["state"])
        return not any(missing.values())

    with contextlib.suppress(AssertionError):
        wait_until("all states", shown, seconds=max(1, started + 120 - time.monotonic()), pause=0.5)
    for what, (family, _) in REQUIRED_STATES.items():
        with tally.check(f"the demo shows {what} within two minutes"):
            assert not missing[family], f"missing: {sorted(missing[family])}"
    print(f"        all shown {time.monotonic() - started:.0f} s after the start", flush=True)


def page_checks(tally, exporter, parts):
    """The page of the demo, parsed by promtool and the Python parsers"""
    with TestContext() as context:
        started = time.monotonic()
        demo, port = start_demo(context, exporter)
        check_readers(tally, port, parts)
        check_encodings(tally, port)
        check_negotiation(tally, port)
        check_values(tally, port)
        check_verdicts(tally, port)
        check_states_are_shown(tally, port, started)
        with tally.check("the demo shuts down gracefully with exit code 0 on SIGTERM"):
            code = demo.stop()
            assert code == 0, f"exit code {code}:\n{demo.log_tail()}"


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], page_checks))
