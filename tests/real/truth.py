"""What is true of a fleet at an instant, computed from the samples of that instant without any query.

Two exporters that watch the same partition are one truth. Where they say different things, what one of them knows
counts before what the other does not, and the worse verdict before the better.
"""

from collections import Counter

PREFIX = "servicefabric_backup_"
PARTITION = ("cluster_name", "application_name", "service_name", "partition_id")

# From the worst to the best; what is not known comes last, because somebody else may know.
VERDICTS = (
    "NeverBackedUp", "Overdue", "Stuck", "Unprotected", "Suspended", "Failing", "Pending", "Protected", "Unknown",
)  # fmt: skip
ON_TIME = {"Protected", "Failing", "Pending"}
BROKEN = {"Overdue", "NeverBackedUp", "Stuck"}


class Truth:
    """`samples` are (name, labels, value) of one instant, `past` the parts of clusters seen in the day before it."""

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
        """Of what Prometheus answers to a selector, and to one with the range of a day."""
        samples = ((series["metric"]["__name__"], series["metric"], float(series["value"][1])) for series in vector)
        past = ((series["metric"]["__name__"], series["metric"], float(series["values"][-1][1])) for series in day)
        return cls(samples, instant, cls(past, instant).parts("cluster_up"))

    def within(self, **labels):
        """The same of what has these labels alone."""
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
        """{partition: set of the verdicts that anybody has of it}."""
        states = {}
        for labels, value in self.family("protection_state"):
            if value == 1:
                states.setdefault(key_of(labels), set()).add(labels["state"])
        return states

    def is_consistent(self):
        """Whether there are verdicts, and nobody says otherwise of any partition than anybody else."""
        return self.states() and all(len(states) == 1 for states in self.states().values())

    def verdict(self, key):
        return self.verdict_of.get(key)

    def partitions(self):
        return len(self.verdict_of)

    def verdicts(self):
        """{verdict: number of partitions}; those that nobody is in count 0."""
        return Counter(self.verdict_of.values())

    def counted(self, states):
        """How many partitions are in one of the states; None where no verdict is known of any."""
        if set(self.verdict_of.values()) <= {"Unknown"}:
            return None
        return sum(verdict in states for verdict in self.verdict_of.values())

    def on_time_ratio(self):
        """Known to be on time, of all that has a schedule or may have one; None without any such."""
        scheduled = [verdict for verdict in self.verdict_of.values() if verdict in ON_TIME | BROKEN | {"Unknown"}]
        return sum(verdict in ON_TIME for verdict in scheduled) / len(scheduled) if scheduled else None

    def by_partition(self, name):
        """{partition: value}; where two tell, the newer."""
        values = {}
        for labels, value in self.family(name):
            key = key_of(labels)
            values[key] = max(value, values.get(key, value))
        return values

    def parts(self, name):
        """{(cluster, shard, number of shards): value}; where two exporters of one part tell, the larger."""
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
        """Age of the last success where it is oldest, without what nobody wants backed up."""
        known = [
            value
            for key, value in self.by_partition("last_success_timestamp_seconds").items()
            if self.verdict(key) not in ("Unprotected", "Suspended")
        ]
        return self.instant - min(known) if known else None

    def reach(self):
        """{part: whether an exporter reaches a gateway, -1 where there is no exporter any more}.

        Parts that were seen within the last day count, but not after another number of shards.
        """
        up = self.parts("cluster_up")
        seen, sharded = {cluster for cluster, *_ in up}, {(cluster, shards) for cluster, _, shards in up}
        parts = {part for part in self.past | up.keys() if part[0] not in seen or (part[0], part[2]) in sharded}
        return {part: up.get(part, -1) for part in parts}

    def unreached(self):
        """How many clusters there are with a part that nobody reaches; None without clusters."""
        reach = self.reach()
        return len({part[0] for part, up in reach.items() if up != 1}) if reach else None

    def unanswered(self):
        """How many clusters have a part that is reached and has no backup service that answers; None where none is.

        Where nobody could ask, nothing is known.
        """
        reached = {part for part, up in self.parts("cluster_up").items() if up == 1}
        answers = {part: up for part, up in self.parts("service_up").items() if part in reached}
        return len({part[0] for part, up in answers.items() if up == 0}) if answers else None

    def lateness(self):
        """{broken partition: seconds past its due moment}; 0 for those that have none."""
        due = self.by_partition("due_timestamp_seconds")
        return {
            key: self.instant - due[key] if key in due else 0
            for key, verdict in self.verdict_of.items()
            if verdict in BROKEN
        }

    def past_due(self):
        """{cluster: share of the partitions with a due moment that are past it}."""
        shares = {}
        for key, due in self.by_partition("due_timestamp_seconds").items():
            shares.setdefault(key[0], []).append(due < self.instant)
        return {cluster: sum(late) / len(late) for cluster, late in shares.items()}

    def failure_codes(self):
        """{code: number of partitions whose last requested backup failed with it}."""
        failed = {(key_of(labels), labels["code"]) for labels, value in self.family("progress_failure") if value == 1}
        return dict(Counter(code for _, code in failed))

    def examples(self):
        """Labels of one partition for every verdict, and of some with what few have."""
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
        """Labels of one partition of every service of an application."""
        chosen = {}
        for labels, _ in self.family("partition_info"):
            if labels["application_name"] == application:
                chosen.setdefault(labels["service_name"], labels)
        assert chosen, f"nothing in {application}"
        return [{name: labels[name] for name in PARTITION} for labels in chosen.values()]


def key_of(labels):
    return tuple(labels.get(name, "") for name in PARTITION)
