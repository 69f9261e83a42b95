"""Pages for cluster states that the demo does not have, derived from a page of the demo, and a server for them.

Every page has the series that docs/protection.md and docs/metrics.md specify for its case. Only the states of the
partitions are synthetic.
"""

from harness import Handler
from page import Sample

PREFIX = "servicefabric_backup_"
VERDICT = f"{PREFIX}protection_state"

# Unknown has no severity.
SEVERITIES = {
    "Protected": 1, "Pending": 2, "Failing": 3, "Suspended": 4, "Unprotected": 5, "Stuck": 6, "Overdue": 7,
    "NeverBackedUp": 8,
}  # fmt: skip

# Families that are absent when a cluster has been unreachable for longer than poll.staleness.
REQUIRE_FRESH_DATA = (
    "service_up", "due_timestamp_seconds", "suspended", "periodic_success",
    "periodic_attempt_timestamp_seconds", "chain_length", "last_full_timestamp_seconds",
    "oldest_recovery_point_timestamp_seconds", "recovery_points", "progress_state",
    "progress_state_since_timestamp_seconds", "progress_timestamp_seconds", "progress_age_seconds", "progress_lsn",
    "progress_configuration_version", "progress_data_loss_timestamp_seconds", "progress_failure",
    "progress_failure_observed", "restore_state",
    "restore_timestamp_seconds", "partition_data_loss_timestamp_seconds", "policy_info", "policy_interval_seconds",
    "policy_max_incrementals", "policy_retention_seconds", "policy_minimum_backups",
)  # fmt: skip

# Families that exist only for partitions with a policy.
REQUIRE_POLICY = (
    "policy_info", "policy_interval_seconds", "policy_max_incrementals", "policy_retention_seconds",
    "policy_minimum_backups", "periodic_success", "periodic_attempt_timestamp_seconds", "suspended", "chain_length",
    "last_full_timestamp_seconds", "oldest_recovery_point_timestamp_seconds", "recovery_points",
)  # fmt: skip


def with_changes(sample, value=None, without=(), **labels):
    kept = {name: text for name, text in sample.labels if name not in without} | labels
    return Sample(sample.name, frozenset(kept.items()), sample.value if value is None else value, None)


def leave_out(samples, families):
    names = {PREFIX + family for family in families}
    return [sample for sample in samples if sample.name not in names]


def with_verdicts(samples, verdict):
    """Replaces the state and severity of every partition with those of `verdict(partition)`."""
    known = {partition(sample): sample for sample in samples if sample.name == VERDICT}
    severities = [
        Sample(f"{PREFIX}protection_severity", frozenset(without_state(sample)), str(SEVERITIES[verdict(key)]), None)
        for key, sample in known.items()
        if verdict(key) in SEVERITIES
    ]
    states = [
        with_changes(sample, "1" if verdict(partition(sample)) == state_of(sample) else "0")
        if sample.name == VERDICT
        else sample
        for sample in leave_out(samples, ("protection_severity",))
    ]
    return states + severities


def without_state(sample):
    return ((name, value) for name, value in sample.labels if name != "state")


def partition(sample):
    labels = dict(sample.labels)
    return tuple(labels.get(name) for name in ("cluster_name", "application_name", "service_name", "partition_id"))


def state_of(sample):
    return dict(sample.labels)["state"]


def unreachable(samples):
    """The cluster has been unreachable for longer than the staleness: every verdict is Unknown."""
    stale = with_verdicts(leave_out(samples, REQUIRE_FRESH_DATA), lambda _: "Unknown")
    down = (f"{PREFIX}cluster_up", f"{PREFIX}collector_success")
    return [with_changes(sample, "0") if sample.name in down else sample for sample in stale]


def shard_of(samples, shard):
    """The page of one of two shards."""
    own = set(sorted({partition(sample) for sample in samples if sample.name == VERDICT})[shard::2])
    kept = [sample for sample in samples if "partition_id" not in dict(sample.labels) or partition(sample) in own]
    info = f"{PREFIX}exporter_shard_info"
    return [with_changes(sample, shard=str(shard), shards="2") if sample.name == info else sample for sample in kept]


def mostly_unknown(samples):
    """The cluster is reachable, and the facts of all partitions but one are stale."""
    known = min(
        partition(sample)
        for sample in samples
        if sample.name == VERDICT and float(sample.value) == 1 and state_of(sample) == "Protected"
    )
    stale = {PREFIX + family for family in REQUIRE_FRESH_DATA}
    kept = [
        sample
        for sample in samples
        if "partition_id" not in dict(sample.labels) or partition(sample) == known or sample.name not in stale
    ]
    return with_verdicts(kept, lambda key: "Protected" if key == known else "Unknown")


def foreign(_samples):
    """Another program, with the process metrics that every client library exports."""
    page = {
        "process_cpu_seconds_total": "7", "process_open_fds": "1000", "process_max_fds": "1024",
        "process_resident_memory_bytes": "1e12", "process_start_time_seconds": "1e9",
    }  # fmt: skip
    return [Sample(name, frozenset(), value, None) for name, value in page.items()]


def without_policies(samples):
    """No partition has a policy or a backup."""
    absent = (*REQUIRE_POLICY, "due_timestamp_seconds", "last_success_timestamp_seconds", "last_success_age_seconds",
             "last_success_lsn", "lsn_advance_total", "progress_state", "progress_state_since_timestamp_seconds",
             "progress_timestamp_seconds", "progress_age_seconds", "progress_lsn", "progress_configuration_version",
             "progress_data_loss_timestamp_seconds", "progress_failure", "progress_failure_observed")  # fmt: skip
    unprotected = with_verdicts(leave_out(samples, absent), lambda _: "Unprotected")
    return [with_changes(sample, without=("policy_name", "policy_inherited_from")) for sample in unprotected]


def requested_only(samples):
    """Only on-demand backups, with expected_interval and no policy. Every second partition is overdue."""
    absent = (*REQUIRE_POLICY, "due_timestamp_seconds")
    requested = [sample for sample in samples if sample.name == f"{PREFIX}progress_timestamp_seconds"]
    late = {partition(sample) for sample in requested[::2]}
    known = {partition(sample) for sample in requested}
    kept = [
        with_changes(sample, without=("policy_name", "policy_inherited_from"))
        for sample in leave_out(samples, absent)
        if "partition_id" not in dict(sample.labels) or partition(sample) in known
    ]
    newest = max(float(sample.value) for sample in requested)
    # Due before the allowance of the demo, or after the end of the test.
    due = [
        Sample(
            f"{PREFIX}due_timestamp_seconds",
            sample.labels,
            repr(newest + (-600 if partition(sample) in late else 3600)),
            None,
        )
        for sample in requested
    ]
    return [*with_verdicts(kept, lambda key: "Overdue" if key in late else "Protected"), *due]


def named(samples, cluster):
    """The same page for a cluster with another name. Series without a cluster are unchanged."""
    return [
        with_changes(sample, cluster_name=cluster) if "cluster_name" in dict(sample.labels) else sample
        for sample in samples
    ]


def two_clusters(samples):
    """The original cluster, and an unreachable one with the same partition ids."""
    other = named(unreachable(samples), "cluster-down")
    return [*samples, *(sample for sample in other if "cluster_name" in dict(sample.labels))]


def odd_names(samples):
    """Names with regular expression metacharacters that Service Fabric allows in its URIs."""

    def odd(name):
        return name.replace("fabric:/Gallery", ODD_APPLICATION)

    return [
        with_changes(
            sample,
            **{name: odd(value) for name, value in sample.labels if name in ("application_name", "service_name")},
        )
        for sample in samples
    ]


def nameless(samples):
    """Partitions that are configured by id and whose names are unknown. Labels without a value are omitted."""
    kept = [
        sample
        for sample in samples
        if "partition_id" in dict(sample.labels) or "service_name" not in dict(sample.labels)
    ]
    return [with_changes(sample, without=("application_name", "service_name")) for sample in kept]


def lagging(samples):
    """The page of an exporter with older data: every second protected partition is still overdue."""
    on_time = sorted(
        partition(sample)
        for sample in samples
        if sample.name == VERDICT and float(sample.value) == 1 and state_of(sample) == "Protected"
    )
    late = set(on_time[::2])
    old = {
        partition(sample): state_of(sample) for sample in samples if sample.name == VERDICT and float(sample.value) == 1
    }
    return with_verdicts(samples, lambda key: "Overdue" if key in late else old[key])


FOREIGN = "foreign"
ODD_APPLICATION = "fabric:/Gallery(old)+1.0"

PAGES = {
    "one-cluster": lambda samples: samples,
    "two-clusters": two_clusters,
    "no-policies": without_policies,
    "requested-only": requested_only,
    "unreachable": unreachable,
    "lagging": lagging,
    "odd-names": odd_names,
    "nameless": nameless,
    "mostly-unknown": mostly_unknown,
    "reachable-shard": lambda samples: shard_of(samples, 0),
    "unreachable-shard": lambda samples: shard_of(unreachable(samples), 1),
    FOREIGN: foreign,
}


def escape(value):
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def render(samples):
    lines = []
    for sample in samples:
        labels = ",".join(f'{name}="{escape(value)}"' for name, value in sorted(sample.labels))
        lines.append(f"{sample.name}{{{labels}}} {sample.value}")
    return ("\n".join(lines) + "\n").encode()


class CannedPages:
    """Serves each page at /<name> in the text format."""

    def __init__(self, context, samples):
        self.samples = {name: make(samples) for name, make in PAGES.items()}
        bodies = {f"/{name}": render(page) for name, page in self.samples.items()}

        class Page(Handler):
            def do_GET(self):
                self.reply(200, "text/plain; version=0.0.4", bodies[self.path])

        self.port = context.serve(Page)
