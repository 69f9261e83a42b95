"""Expected values of the dashboards at an instant, computed from raw samples without any PromQL query.

Two exporters of the same partition count once. If their verdicts differ, a known verdict takes precedence over
Unknown, and the worse verdict over the better one.
"""

from collections import Counter

PREFIX = "servicefabric_backup_"
PARTITION = ("cluster_name", "application_name", "service_name", "partition_id")

# Worst first. Unknown is last, because another exporter may have a verdict.
VERDICTS = (
    "NeverBackedUp", "Overdue", "Stuck", "Unprotected", "Suspended", "Failing", "Pending", "Protected", "Unknown",
)  # fmt: skip
ON_TIME = {"Protected", "Failing", "Pending"}
LATE_OR_STUCK = {"Overdue", "NeverBackedUp", "Stuck"}


class Truth:
    """`samples` are (name, labels, value) at one instant; `past` are the parts seen in the day before it."""

    def __init__(self, samples, instant, past=()):
        self.instant, self.past = instant, set(past)
        self.families = {}
        for name, labels, value in samples:
            self.families.setdefault(name.removeprefix(PREFIX), []).append((labels, value))
        self.verdict_of = {key: min(states, key=VERDICTS.index) for key, states in self.states().items()}

    @classmethod
    def of_page(cls, page, instant):
        return cls(((sample.name, dict(sample.labels), float(sample.value)) for sample in page.samples), instant)

    @classmethod
    def of_vector(cls, vector, instant, day=()):
        """From the result of an instant selector, and of a range selector over the last day."""
        samples = ((series["metric"]["__name__"], series["metric"], float(series["value"][1])) for series in vector)
        past = ((series["metric"]["__name__"], series["metric"], float(series["values"][-1][1])) for series in day)
        return cls(samples, instant, cls(past, instant).parts("cluster_up"))

    def within(self, **labels):
        """The same for the samples with these labels only."""
        samples = (
            (name, own, value)
            for name, family in self.families.items()
            for own, value in family
            if labels.items() <= own.items()
        )
        return Truth(samples, self.instant, self.past)

    def family(self, name):
        return self.families.get(name, [])

    def states(self):
        """{partition: set of its verdicts from all exporters}."""
        states = {}
        for labels, value in self.family("protection_state"):
            if value == 1:
                states.setdefault(key_of(labels), set()).add(labels["state"])
        return states

    def is_consistent(self):
        """Whether there are verdicts, and all exporters report the same verdict for every partition."""
        return self.states() and all(len(states) == 1 for states in self.states().values())

    def verdict(self, key):
        return self.verdict_of.get(key)

    def partitions(self):
        return len(self.verdict_of)

    def verdicts(self):
        """{verdict: number of partitions}; 0 for a verdict without partitions."""
        return Counter(self.verdict_of.values())

    def count_in(self, states):
        """Number of partitions in one of the states; None if all verdicts are Unknown."""
        if set(self.verdict_of.values()) <= {"Unknown"}:
            return None
        return sum(verdict in states for verdict in self.verdict_of.values())

    def on_time_ratio(self):
        """Share of on-time partitions among those that have or may have a schedule; None if there are none."""
        with_schedule = ON_TIME | LATE_OR_STUCK | {"Unknown"}
        scheduled = [verdict for verdict in self.verdict_of.values() if verdict in with_schedule]
        return sum(verdict in ON_TIME for verdict in scheduled) / len(scheduled) if scheduled else None

    def by_partition(self, name):
        """{partition: value}; the larger value if two exporters report one."""
        values = {}
        for labels, value in self.family(name):
            key = key_of(labels)
            values[key] = max(value, values.get(key, value))
        return values

    def parts(self, name):
        """{(cluster, shard, number of shards): value}; the larger value if two exporters report one."""
        shard_of = {
            (labels.get("job"), labels.get("instance")): (labels["shard"], labels["shards"])
            for labels, _ in self.family("exporter_shard_info")
        }
        values = {}
        for labels, value in self.family(name):
            part = (labels["cluster_name"], *shard_of[labels.get("job"), labels.get("instance")])
            values[part] = max(value, values.get(part, value))
        return values

    def oldest_last_success(self):
        """Age of the oldest last success, without unprotected and suspended partitions."""
        known = [
            value
            for key, value in self.by_partition("last_success_timestamp_seconds").items()
            if self.verdict(key) not in ("Unprotected", "Suspended")
        ]
        return self.instant - min(known) if known else None

    def reachability(self):
        """{part: 1 if reachable, 0 if unreachable, -1 if its exporter is gone}.

        Parts of the last day count, unless the number of shards has changed since.
        """
        up = self.parts("cluster_up")
        seen, sharded = {cluster for cluster, *_ in up}, {(cluster, shards) for cluster, _, shards in up}
        parts = {part for part in self.past | up.keys() if part[0] not in seen or (part[0], part[2]) in sharded}
        return {part: up.get(part, -1) for part in parts}

    def unreachable_clusters(self):
        """Number of clusters with an unreachable part; None without clusters."""
        reachable = self.reachability()
        return len({part[0] for part, up in reachable.items() if up != 1}) if reachable else None

    def clusters_without_service(self):
        """Number of clusters with a reachable part and no backup service; None if no part is reachable.

        Unreachable parts do not count, because the state of their backup service is unknown.
        """
        reached = {part for part, up in self.parts("cluster_up").items() if up == 1}
        answers = {part: up for part, up in self.parts("service_up").items() if part in reached}
        return len({part[0] for part, up in answers.items() if up == 0}) if answers else None

    def seconds_past_due(self):
        """{late or stuck partition: seconds past its due time}; 0 for those without a due time."""
        due = self.by_partition("due_timestamp_seconds")
        return {
            key: self.instant - due[key] if key in due else 0
            for key, verdict in self.verdict_of.items()
            if verdict in LATE_OR_STUCK
        }

    def past_due(self):
        """{cluster: share of the partitions with a due time that are past it}."""
        shares = {}
        for key, due in self.by_partition("due_timestamp_seconds").items():
            shares.setdefault(key[0], []).append(due < self.instant)
        return {cluster: sum(late) / len(late) for cluster, late in shares.items()}

    def failure_codes(self):
        """{code: number of partitions whose last requested backup failed with it}."""
        failed = {(key_of(labels), labels["code"]) for labels, value in self.family("progress_failure") if value == 1}
        return dict(Counter(code for _, code in failed))

    def examples(self):
        """Labels of one partition for every verdict, and of some partitions with rare metrics."""
        chosen = {}
        for labels, value in self.family("protection_state"):
            if value == 1:
                chosen.setdefault(labels["state"], labels)
        for name in ("restore_state", "progress_failure"):
            for labels, _ in self.family(name)[:1]:
                chosen[name] = labels
        failed = {labels["service_name"] for labels, _ in self.family("observed_failures_total")}
        for labels, _ in self.family("partition_info"):
            if labels.get("service_name") in failed:
                chosen.setdefault("observed_failures_total", labels)
        return [{name: labels[name] for name in PARTITION} for labels in chosen.values()]

    def examples_in(self, application):
        """Labels of one partition for every service of an application."""
        chosen = {}
        for labels, _ in self.family("partition_info"):
            if labels["application_name"] == application:
                chosen.setdefault(labels["service_name"], labels)
        assert chosen, f"no partitions in {application}"
        return [{name: labels[name] for name in PARTITION} for labels in chosen.values()]


def key_of(labels):
    return tuple(labels.get(name, "") for name in PARTITION)
