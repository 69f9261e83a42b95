"""What is true of a fleet at an instant, computed from the samples of that instant without any query.

Two exporters that watch the same partition are one truth: every fact is keyed by cluster and partition.
"""

PREFIX = "servicefabric_backup_"
PARTITION = ("cluster_name", "application_name", "service_name", "partition_id")

VERDICTS = (
    "Unknown", "Stuck", "Unprotected", "Suspended", "NeverBackedUp", "Overdue", "Failing", "Pending", "Protected",
)  # fmt: skip
ON_TIME = {"Protected", "Failing", "Pending"}
BROKEN = {"Overdue", "NeverBackedUp", "Stuck"}


class Truth:
    """`samples` are (metric, value) of one instant, as Prometheus returns an instant vector."""

    def __init__(self, vector, instant):
        self.instant = instant
        self.families = {}
        for series in vector:
            labels = dict(series["metric"])
            name = labels.pop("__name__").removeprefix(PREFIX)
            self.families.setdefault(name, []).append((labels, float(series["value"][1])))

    def family(self, name):
        return self.families.get(name, [])

    def states(self):
        """{partition: set of the verdicts that anybody has of it}."""
        states = {}
        for labels, value in self.family("protection_state"):
            if value == 1:
                states.setdefault(key_of(labels), set()).add(labels["state"])
        return states

    def agreed(self):
        """Whether nobody says otherwise of any partition than anybody else."""
        return all(len(states) == 1 for states in self.states().values())

    def verdicts(self):
        """{verdict: number of partitions}, without zeros."""
        counts = {}
        for states in self.states().values():
            for state in states:
                counts[state] = counts.get(state, 0) + 1
        return counts

    def on_time_ratio(self):
        """Known to be on time, of all that has a schedule or may have one; None without any such."""
        verdicts = self.verdicts()
        on_time = sum(verdicts.get(state, 0) for state in ON_TIME)
        all_of_them = on_time + sum(verdicts.get(state, 0) for state in BROKEN | {"Unknown"})
        return on_time / all_of_them if all_of_them else None

    def by_partition(self, name, pick=max):
        """{partition: value}; where two tell, the one that `pick` takes."""
        values = {}
        for labels, value in self.family(name):
            values.setdefault(key_of(labels), []).append(value)
        return {key: pick(found) for key, found in values.items()}

    def examples(self):
        """Labels of one partition for every verdict, and of some with what few have."""
        chosen = {}
        for labels, value in self.family("protection_state"):
            if value == 1:
                chosen.setdefault(labels["state"], labels)
        for name in ("restore_state", "progress_failure", "observed_failures_total"):
            for labels, _ in self.family(name):
                if "partition_id" in labels:
                    chosen.setdefault(name, labels)
        return [{name: labels[name] for name in PARTITION} for labels in chosen.values()]


def key_of(labels):
    return tuple(labels.get(name, "") for name in PARTITION)
