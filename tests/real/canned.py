"""Pages of clusters that the demo does not show, made from a real page of it, and a server for them.

Every page says what the exporter would say in that case, by docs/protection.md and docs/metrics.md; nothing is made
up but who is in which state.
"""

from harness import Handler
from page import Sample

PREFIX = "servicefabric_backup_"
VERDICT = f"{PREFIX}protection_state"

# Who is Unknown has none.
SEVERITIES = {
    "Protected": 1, "Pending": 2, "Failing": 3, "Suspended": 4, "Unprotected": 5, "Stuck": 6, "Overdue": 7,
    "NeverBackedUp": 8,
}  # fmt: skip

# What is no fact of the past: it goes when a cluster is dark for longer than poll.staleness.
FADES = (
    "service_up", "due_timestamp_seconds", "suspended", "periodic_success",
    "periodic_attempt_timestamp_seconds", "chain_length", "last_full_timestamp_seconds",
    "oldest_recovery_point_timestamp_seconds", "recovery_points", "progress_state",
    "progress_state_since_timestamp_seconds", "progress_timestamp_seconds", "progress_age_seconds", "progress_lsn",
    "progress_configuration_version", "progress_data_loss_timestamp_seconds", "progress_failure",
    "progress_failure_observed", "restore_state",
    "restore_timestamp_seconds", "partition_data_loss_timestamp_seconds", "policy_info", "policy_interval_seconds",
    "policy_max_incrementals", "policy_retention_seconds", "policy_minimum_backups",
)  # fmt: skip

# What there is only under a policy.
OF_POLICIES = (
    "policy_info", "policy_interval_seconds", "policy_max_incrementals", "policy_retention_seconds",
    "policy_minimum_backups", "periodic_success", "periodic_attempt_timestamp_seconds", "suspended", "chain_length",
    "last_full_timestamp_seconds", "oldest_recovery_point_timestamp_seconds", "recovery_points",
)  # fmt: skip


def changed(sample, value=None, without=(), **labels):
    kept = {name: text for name, text in sample.labels if name not in without} | labels
    return Sample(sample.name, frozenset(kept.items()), sample.value if value is None else value, None)


def leave_out(samples, families):
    names = {PREFIX + family for family in families}
    return [sample for sample in samples if sample.name not in names]


def judged(samples, verdict):
    """The samples with the verdict `verdict(partition)`, as a state and by its severity."""
    known = {partition(sample): sample for sample in samples if sample.name == VERDICT}
    severities = [
        Sample(f"{PREFIX}protection_severity", frozenset(without_state(sample)), str(SEVERITIES[verdict(key)]), None)
        for key, sample in known.items()
        if verdict(key) in SEVERITIES
    ]
    states = [
        changed(sample, "1" if verdict(partition(sample)) == state_of(sample) else "0")
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


def blind(samples):
    """The cluster is dark for longer than the staleness: every verdict is Unknown."""
    dark = judged(leave_out(samples, FADES), lambda _: "Unknown")
    down = (f"{PREFIX}cluster_up", f"{PREFIX}collector_success")
    return [changed(sample, "0") if sample.name in down else sample for sample in dark]


def half(samples, shard):
    """What one of two shards says."""
    own = set(sorted({partition(sample) for sample in samples if sample.name == VERDICT})[shard::2])
    kept = [sample for sample in samples if "partition_id" not in dict(sample.labels) or partition(sample) in own]
    info = f"{PREFIX}exporter_shard_info"
    return [changed(sample, shard=str(shard), shards="2") if sample.name == info else sample for sample in kept]


def mostly_unknown(samples):
    """The cluster is reached, and what is known of all partitions but one has grown too old."""
    known = min(
        partition(sample)
        for sample in samples
        if sample.name == VERDICT and float(sample.value) == 1 and state_of(sample) == "Protected"
    )
    faded = {PREFIX + family for family in FADES}
    kept = [
        sample
        for sample in samples
        if "partition_id" not in dict(sample.labels) or partition(sample) == known or sample.name not in faded
    ]
    return judged(kept, lambda key: "Protected" if key == known else "Unknown")


def foreign(_samples):
    """A program that is no exporter of ours, with the families that every program has."""
    page = {
        "process_cpu_seconds_total": "7", "process_open_fds": "1000", "process_max_fds": "1024",
        "process_resident_memory_bytes": "1e12", "process_start_time_seconds": "1e9",
    }  # fmt: skip
    return [Sample(name, frozenset(), value, None) for name, value in page.items()]


def without_policies(samples):
    """Nobody has switched periodic backups on, and none was ever made."""
    never = (*OF_POLICIES, "due_timestamp_seconds", "last_success_timestamp_seconds", "last_success_age_seconds",
             "last_success_lsn", "lsn_advance_total", "progress_state", "progress_state_since_timestamp_seconds",
             "progress_timestamp_seconds", "progress_age_seconds", "progress_lsn", "progress_configuration_version",
             "progress_data_loss_timestamp_seconds", "progress_failure", "progress_failure_observed")  # fmt: skip
    bare = judged(leave_out(samples, never), lambda _: "Unprotected")
    return [changed(sample, without=("policy_name", "policy_inherited_from")) for sample in bare]


def requested_only(samples):
    """No policy, and something else requests the backups (expected_interval): every second partition is late."""
    of_policies = (*OF_POLICIES, "due_timestamp_seconds")
    proven = [sample for sample in samples if sample.name == f"{PREFIX}progress_timestamp_seconds"]
    late = {partition(sample) for sample in proven[::2]}
    known = {partition(sample) for sample in proven}
    kept = [
        changed(sample, without=("policy_name", "policy_inherited_from"))
        for sample in leave_out(samples, of_policies)
        if "partition_id" not in dict(sample.labels) or partition(sample) in known
    ]
    newest = max(float(sample.value) for sample in proven)
    # Longer ago than the allowance of the demo, and later than the test will run.
    due = [
        Sample(
            f"{PREFIX}due_timestamp_seconds",
            sample.labels,
            repr(newest + (-600 if partition(sample) in late else 3600)),
            None,
        )
        for sample in proven
    ]
    return [*judged(kept, lambda key: "Overdue" if key in late else "Protected"), *due]


def named(samples, cluster):
    """The same page of another cluster; what is about the exporter stays."""
    return [
        changed(sample, cluster_name=cluster) if "cluster_name" in dict(sample.labels) else sample for sample in samples
    ]


def two_clusters(samples):
    """One cluster as it is, and one with the very same partitions that is dark."""
    return [*samples, *(sample for sample in named(blind(samples), "dark") if "cluster_name" in dict(sample.labels))]


def odd_names(samples):
    """Names with all that means something in a regular expression, as Service Fabric allows it in its URIs."""

    def odd(name):
        return name.replace("fabric:/Gallery", ODD_APPLICATION)

    return [
        changed(
            sample,
            **{name: odd(value) for name, value in sample.labels if name in ("application_name", "service_name")},
        )
        for sample in samples
    ]


def nameless(samples):
    """Partitions given by their ids, whose services the cluster does not tell: labels not known are left out."""
    kept = [
        sample
        for sample in samples
        if "partition_id" in dict(sample.labels) or "service_name" not in dict(sample.labels)
    ]
    return [changed(sample, without=("application_name", "service_name")) for sample in kept]


def behind(samples):
    """What an exporter says that has not seen yet that all is well: every second partition on time is overdue."""
    on_time = sorted(
        partition(sample)
        for sample in samples
        if sample.name == VERDICT and float(sample.value) == 1 and state_of(sample) == "Protected"
    )
    late = set(on_time[::2])
    old = {
        partition(sample): state_of(sample) for sample in samples if sample.name == VERDICT and float(sample.value) == 1
    }
    return judged(samples, lambda key: "Overdue" if key in late else old[key])


FOREIGN = "foreign"
ODD_APPLICATION = "fabric:/Gallery(old)+1.0"

PAGES = {
    "one-cluster": lambda samples: samples,
    "two-clusters": two_clusters,
    "no-policies": without_policies,
    "requested-only": requested_only,
    "blind": blind,
    "behind": behind,
    "odd-names": odd_names,
    "nameless": nameless,
    "mostly-unknown": mostly_unknown,
    "shard-that-sees": lambda samples: half(samples, 0),
    "shard-that-is-blind": lambda samples: half(blind(samples), 1),
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
    """Serves each page at /<name>, by the text format."""

    def __init__(self, stage, samples):
        self.samples = {name: make(samples) for name, make in PAGES.items()}
        bodies = {f"/{name}": render(page) for name, page in self.samples.items()}

        class Page(Handler):
            def do_GET(self):
                self.reply(200, "text/plain; version=0.0.4", bodies[self.path])

        self.port = stage.serve(Page)
