#!/usr/bin/env python3
"""Reads the simulated gateway through Microsoft's own client, and compares with the JSON on the wire, field by field.

    microsoft_client.py --exporter target/release/servicefabric-backup-exporter

This judges the simulator, on which most other tests stand: what Microsoft's client cannot read, no gateway sends.
The raw JSON is the reference. Where the client's closed types cannot hold what a real gateway sends, the check says
how it degrades.
"""

import logging
import re
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import requests
from azure.servicefabric import ServiceFabricClientAPIs, models
from harness import Stage, free_port, main, wait_until
from msrest.authentication import Authentication

ZERO_ID = "00000000-0000-0000-0000-000000000000"
ENDED = {"Success", "Failure", "Timeout"}
NOWHERE = "0badc0de-0000-4000-8000-000000000000"


class Gateway:
    """The simulated gateway, asked by Microsoft's client and by a plain one."""

    def __init__(self, stage, exporter):
        self.port = free_port()
        self.process = stage.start(
            "simulate",
            exporter,
            "simulate",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--seed=7",
            "--partitions=24",
        )
        self.client = ServiceFabricClientAPIs(Authentication(), f"http://127.0.0.1:{self.port}")
        wait_until("an answer of the simulated gateway", lambda: self.raw("/$/GetClusterVersion", "6.4"), self.process)

    def answer(self, path, version, **query):
        return requests.get(
            f"http://127.0.0.1:{self.port}{path}",
            params={"api-version": version, "timeout": 60, **query},
            headers={"Accept": "application/json"},
            timeout=30,
        )

    def raw(self, path, version, **query):
        """The JSON on the wire; None for a body that is `null`, empty, or not there (204)."""
        answer = self.answer(path, version, **query)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def both(self, path, version, call, *arguments, **query):
        """What `call` of Microsoft's client reads and what the wire says, at one moment.

        The cluster lives, so a moment is when the wire says the same before and after the call.
        """

        def attempt():
            before, model, after = self.raw(path, version, **query), call(*arguments), self.raw(path, version, **query)
            return [model, after] if before == after else None

        return wait_until(f"a still moment of {path}", attempt, self.process)


def compare(model, raw, at):
    """Asserts that a model of Microsoft's client holds what the JSON says, down to the last field it knows."""
    if raw is None or model is None:
        assert model is None and raw is None, f"{at}: {model!r} for {raw!r}"
        return
    for attribute, how in model._attribute_map.items():
        kinds = model._subtype_map.get(attribute)
        if kinds and raw[how["key"]] not in kinds:
            # A kind that came later, like the service kind SelfReconfiguring: the client falls back to the class that
            # all kinds share, and forgets which one it was.
            assert getattr(model, attribute) is None, f"{at}: {getattr(model, attribute)!r}"
            continue
        compare_field(getattr(model, attribute), raw.get(how["key"]), how["type"], f"{at}.{how['key']}")


def compare_field(read, raw, kind, at):
    if raw is None:
        assert read is None, f"{at}: {read!r} for a value that is null or absent"
    elif kind.startswith("["):
        assert len(read) == len(raw), f"{at}: {len(read)} of {len(raw)} items"
        for number, pair in enumerate(zip(read, raw, strict=True)):
            compare_field(*pair, kind[1:-1], f"{at}[{number}]")
    elif kind == "str":
        # Every number is declared as a string. The client takes the LSN, which is a bare number on the wire, as text.
        assert read == (raw if isinstance(raw, str) else str(raw)), f"{at}: {read!r} for {raw!r}"
    elif kind in ("int", "long"):
        assert read == int(raw), f"{at}: {read!r} for {raw!r}"
    elif kind == "bool":
        assert read is raw, f"{at}: {read!r} for {raw!r}"
    elif kind == "iso-8601":
        assert read == instant(raw), f"{at}: {read!r} for {raw!r}"
    elif kind == "duration":
        assert abs(read - span(raw)) < timedelta(milliseconds=1), f"{at}: {read!r} for {raw!r}"
    else:
        compare(read, raw, at)


def instant(text):
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,7}))?Z", text)
    assert match, f"not a time of Service Fabric: {text!r}"
    fraction = (match[7] or "").ljust(6, "0")[:6]
    return datetime(*(int(part) for part in match.groups()[:6]), int(fraction), tzinfo=UTC)


def span(text):
    match = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", text)
    assert match and text not in ("P", "PT"), f"not a duration of Service Fabric: {text!r}"
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def pages(ask):
    """All items of a paged answer: `ask(token)` until there is no token."""
    items, token = [], None
    for _ in range(1000):
        page = ask(token)
        items += page.items
        token = page.continuation_token
        if not token:
            return items
    raise AssertionError("the pages never end")


def check_topology(tally, gateway):
    """The way down from cluster to partitions, and back up. Returns the partitions that can be backed up."""
    client = gateway.client

    with tally.check("get_cluster_version"):
        version, raw = gateway.both("/$/GetClusterVersion", "6.4", client.get_cluster_version)
        compare(version, raw, "version")
        assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", version.version), version.version

    applications = pages(lambda token: client.get_application_info_list(continuation_token=token))
    with tally.check("get_application_info_list, at once and in pages of one"):
        page, raw = gateway.both(
            "/Applications", "6.1", client.get_application_info_list,
            ApplicationDefinitionKindFilter=0, ExcludeApplicationParameters="false", MaxResults=0,
        )  # fmt: skip
        compare(page, raw, "applications")
        single = pages(lambda token: client.get_application_info_list(max_results=1, continuation_token=token))
        assert applications and names(single) == names(applications), (names(single), names(applications))

    services = []
    with tally.check("get_service_info_list of every application"):
        for application in applications:
            page, raw = gateway.both(
                f"/Applications/{quote(application.id)}/$/GetServices",
                "6.0",
                client.get_service_info_list,
                application.id,
            )
            compare(page, raw, application.name)
            services += [(application, service) for service in page.items]
        assert any(isinstance(service, models.StatefulServiceInfo) for _, service in services), "no stateful service"

    stateful = []
    with tally.check("get_partition_info_list of every service"):
        for _, service in services:
            page, raw = gateway.both(
                f"/Services/{quote(service.id)}/$/GetPartitions", "6.4", client.get_partition_info_list, service.id
            )
            compare(page, raw, service.name)
            for partition, item in zip(page.items, raw["Items"], strict=True):
                if getattr(service, "has_persisted_state", False):
                    stateful.append((service, partition.partition_information.id))
                    assert partition.primary_epoch.data_loss_version == str(item["PrimaryEpoch"]["DataLossVersion"])
                    # The client knows the key without its unit, no gateway sends that: always lost.
                    assert item["LastQuorumLossDurationInSeconds"] and partition.last_quorum_loss_duration is None
        assert stateful, "no partition with persisted state"

    with tally.check("get_service_name_info of every partition leads back to its service"):
        for service, partition in stateful:
            found, raw = gateway.both(
                f"/Partitions/{partition}/$/GetServiceName", "6.0", client.get_service_name_info, partition
            )
            compare(found, raw, partition)
            assert found.name == service.name, f"{found.name}, not {service.name}"

    with tally.check("get_application_name_info of every service leads back to its application"):
        for application, service in services:
            found, raw = gateway.both(
                f"/Services/{quote(service.id)}/$/GetApplicationName",
                "6.0",
                client.get_application_name_info,
                service.id,
            )
            compare(found, raw, service.name)
            assert found.name == application.name, f"{found.name}, not {application.name}"

    with tally.check("get_partition_info of every partition, and of one that is not there (204)"):
        for _, partition in stateful:
            found, raw = gateway.both(f"/Partitions/{partition}", "6.0", client.get_partition_info, partition)
            # Asked at 6.0 the epoch has another key, which this client does not know: it reads none.
            compare(found, raw, partition)
            assert found.partition_information.id == partition
        assert client.get_partition_info(NOWHERE) is None

    return [partition for _, partition in stateful]


def names(items):
    return [item.name for item in items]


def read_progress(gateway, partition):
    """The progress of a partition, compared with the wire; None when a backup was never requested."""
    path = f"/Partitions/{partition}/$/GetBackupProgress"
    progress, raw = gateway.both(path, "6.4", gateway.client.get_partition_backup_progress, partition)
    compare(progress, raw, partition)
    if progress is not None:
        check_record(progress, raw)
    return progress


def check_record(progress, raw):
    """What each state says on the wire, and what Microsoft's client makes of it."""
    state = progress.backup_state
    # The declared enum is not enforced: a state that came later arrives as the plain word.
    assert state == raw["BackupState"]
    if state == "Success":
        assert progress.time_stamp_utc.year > 2015 and progress.backup_id != ZERO_ID, raw
        assert int(progress.epoch_of_last_backup_record.data_loss_version) > 0, raw
        assert int(progress.lsn_of_last_backup_record) > 0 and progress.failure_error is None, raw
    elif state in ("Accepted", "BackupInProgress", "Failure", "Timeout"):
        # Year 1 is a time like any other to this client: it is up to the reader to see that it means "none".
        assert progress.time_stamp_utc.year == 1 and progress.backup_id == ZERO_ID, raw
        assert progress.epoch_of_last_backup_record is None and progress.backup_location is None, raw
        assert progress.lsn_of_last_backup_record == "0", raw
        assert (progress.failure_error is None) == (state in ("Accepted", "BackupInProgress")), raw
    if progress.failure_error is not None:
        # 84 codes are in the client's enum, the service has 230 and writes any other HRESULT as a bare number.
        # The client takes all of them as text, a number in decimal: 2148734208, not 0x80131500.
        code = raw["FailureError"]["Code"]
        assert progress.failure_error.code == str(code), raw
        assert isinstance(code, int) or re.fullmatch(r"[A-Z][A-Z0-9_]*", code), raw


def check_progress(tally, gateway, partitions):
    client = gateway.client

    before = {}
    with tally.check("get_partition_backup_progress of every partition"):
        for partition in partitions:
            before[partition] = read_progress(gateway, partition)

    seen = {}
    with tally.check("backup_partition is accepted for every partition that is at rest"):
        resting = [id for id, progress in before.items() if progress is None or progress.backup_state in ENDED]
        assert resting, "no partition is at rest"
        for partition in resting:
            request_backup(client, partition)
            note(seen, gateway, partition)

    with tally.check("a second request while one is under way is refused with 409"):
        said = refused(lambda: client.backup_partition(resting[-1]), 409)
        assert said["Code"] == "FABRIC_E_BACKUP_IN_PROGRESS", said

    with tally.check("the progress of a partition that is not there is refused with 404"):
        said = refused(lambda: client.get_partition_backup_progress(NOWHERE), 404)
        assert said["Code"] == "FABRIC_E_PARTITION_NOT_FOUND", said

    with tally.check("a native route refuses with an error that the client can read"):
        said = refused(lambda: client.get_service_name_info(NOWHERE), 404)
        assert said["Code"] == "FABRIC_E_PARTITION_NOT_FOUND", said

    with tally.check("each request ends, and a first one goes through Accepted and BackupInProgress in that order"):

        def all_ended():
            open_ones = [id for id in resting if seen[id][-1] not in ENDED]
            for partition in open_ones:
                note(seen, gateway, partition)
            return not open_ones

        wait_until("the end of all backups", all_ended, gateway.process, seconds=180)
        # Where nobody but this test asks for backups, nothing can come between the steps.
        alone = [seen[id] for id in resting if before[id] is None]
        assert ["Accepted", "BackupInProgress", "Success"] in alone, alone

    records = [progress for progress in before.values() if progress]
    shown = {record.backup_state for record in records}.union(*seen.values())
    for state in ("Invalid", "Accepted", "BackupInProgress", "Success", "Failure", "Timeout"):
        with tally.check(f"a record in {state} was read and compared"):
            assert state in shown, f"seen: {sorted(shown)}"
    with tally.check("a partition of which no backup was requested answers null, which the client reads as None"):
        assert None in before.values()
    with tally.check("a state that the client does not know was read as the plain word"):
        assert shown - {state.value for state in models.BackupState}, f"seen: {sorted(shown)}"
    with tally.check("a failure code that is a number was read as text"):
        codes = {record.failure_error.code for record in records if record.failure_error}
        assert any(code.isdigit() for code in codes), f"seen: {sorted(codes)}"


def request_backup(client, partition):
    """Requests a backup. The cluster lives: that someone else asked for one just before is as good."""
    try:
        client.backup_partition(partition)
    except models.FabricErrorException as refusal:
        assert refusal.response.status_code == 409, f"{partition}: {refusal.response.status_code}"


def refused(call, status):
    """Asserts that a call is refused with this status, and returns the error on the wire."""
    try:
        call()
    except models.FabricErrorException as refusal:
        assert refusal.response.status_code == status, refusal.response.status_code
        said = refusal.response.json()["Error"]
        if refusal.response.headers["Content-Type"].startswith("application/json"):
            error = refusal.error.error
            assert (error.code, error.message) == (said["Code"], said["Message"]), f"{error} for {said}"
        else:
            # The backup service says text/plain of its JSON. The client believes it and does not look:
            # all that its users get to see is the status.
            assert isinstance(refusal.error, Exception) and said["Code"] not in refusal.message, refusal.message
        return said
    raise AssertionError("it was not refused")


def note(seen, gateway, partition):
    progress = read_progress(gateway, partition)
    states = seen.setdefault(partition, [])
    if not states or states[-1] != progress.backup_state:
        states.append(progress.backup_state)


def microsoft_client(tally, exporter, _parts):
    """The simulated gateway, read by azure-servicefabric"""
    # It warns of every value that its enums lack; the checks look at those themselves.
    logging.getLogger("msrest").setLevel(logging.ERROR)
    with Stage() as stage:
        gateway = Gateway(stage, exporter)
        partitions = check_topology(tally, gateway)
        check_progress(tally, gateway, partitions)
        with tally.check("the simulated gateway ends with 0 on SIGTERM"):
            code = gateway.process.stop()
            assert code == 0, f"exit code {code}:\n{gateway.process.said()}"


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], microsoft_client))
