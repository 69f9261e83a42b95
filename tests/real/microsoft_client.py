#!/usr/bin/env python3
"""Reads the simulated gateway with Microsoft's client and compares each field with the raw JSON.

    microsoft_client.py --exporter target/dist/servicefabric-backup-exporter

This validates the simulator, which most other tests depend on: a real gateway sends only answers that Microsoft's
client can read. The raw JSON is the reference. Where the types of the client are narrower than the API, the check
documents the data loss in the client.
"""

import logging
import re
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import requests
from azure.servicefabric import ServiceFabricClientAPIs, models
from harness import TestContext, free_port, main, wait_until
from msrest.authentication import Authentication
from msrest.exceptions import ClientRequestError

ZERO_ID = "00000000-0000-0000-0000-000000000000"
ENDED = {"Success", "Failure", "Timeout"}
UNKNOWN_PARTITION = "0badc0de-0000-4000-8000-000000000000"

GALLERY = "Gallery"
NULL_REFERENCE = "Object reference not set to an instance of an object."
NO_EXPIRY = timedelta(days=10_675_199)


class Gateway:
    """The simulated gateway, with Microsoft's client and a plain HTTP client."""

    def __init__(self, context, exporter):
        self.port = free_port()
        self.process = context.start(
            "simulate",
            exporter,
            "simulate",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--seed=7",
            "--partitions=24",
        )
        self.client = ServiceFabricClientAPIs(Authentication(), f"http://127.0.0.1:{self.port}")
        wait_until("the simulated gateway to answer", lambda: self.raw("/$/GetClusterVersion", "6.4"), self.process)

    def answer(self, path, version, **query):
        return requests.get(
            f"http://127.0.0.1:{self.port}{path}",
            params={"api-version": version, "timeout": 60, **query},
            headers={"Accept": "application/json"},
            timeout=30,
        )

    def raw(self, path, version, **query):
        """The raw JSON; None for the body `null`, an empty body, or 204."""
        answer = self.answer(path, version, **query)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def both(self, path, version, call, *arguments, **query):
        """The result of `call` of Microsoft's client, and the raw JSON at the same state of the cluster.

        The simulated cluster changes, so the raw JSON must be equal before and after the call.
        """

        def attempt():
            before, model, after = self.raw(path, version, **query), call(*arguments), self.raw(path, version, **query)
            return [model, after] if before == after else None

        return wait_until(f"an unchanged answer of {path}", attempt, self.process)


def compare(model, raw, at):
    """Asserts that a model of Microsoft's client equals the JSON in every field that the client supports."""
    if raw is None or model is None:
        assert model is None and raw is None, f"{at}: {model!r} for {raw!r}"
        return
    for attribute, how in model._attribute_map.items():
        kinds = model._subtype_map.get(attribute)
        if kinds and raw[how["key"]] not in kinds:
            # A newer kind, like the service kind SelfReconfiguring: the client falls back to the base class and drops
            # the kind.
            assert getattr(model, attribute) is None, f"{at}: {getattr(model, attribute)!r}"
            continue
        compare_field(getattr(model, attribute), raw.get(how["key"]), how["type"], f"{at}.{how['key']}")


def compare_field(read, raw, kind, at):
    if raw is None:
        assert read is None, f"{at}: expected None for a null or absent value, found {read!r}"
    elif kind.startswith("["):
        assert len(read) == len(raw), f"{at}: {len(read)} of {len(raw)} items"
        for number, pair in enumerate(zip(read, raw, strict=True)):
            compare_field(*pair, kind[1:-1], f"{at}[{number}]")
    elif kind == "str":
        # The client declares numbers as strings. It reads the LSN, which is a JSON number, as text.
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
    assert match, f"not a Service Fabric timestamp: {text!r}"
    fraction = (match[7] or "").ljust(6, "0")[:6]
    return datetime(*(int(part) for part in match.groups()[:6]), int(fraction), tzinfo=UTC)


def span(text):
    match = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", text)
    assert match and text not in ("P", "PT"), f"not a Service Fabric duration: {text!r}"
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def pages(fetch_page):
    """All items of a paged list: calls `fetch_page(token)` until there is no continuation token."""
    items, token = [], None
    for _ in range(1000):
        page = fetch_page(token)
        items += page.items
        token = page.continuation_token
        if not token:
            return items
    raise AssertionError("expected at most 1000 pages")


def check_topology(tally, gateway):
    """From the cluster to the partitions, and back up. Returns the partitions with persisted state."""
    client = gateway.client

    with tally.check("get_cluster_version"):
        version, raw = gateway.both("/$/GetClusterVersion", "6.4", client.get_cluster_version)
        compare(version, raw, "version")
        assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", version.version), version.version

    applications = pages(lambda token: client.get_application_info_list(continuation_token=token))
    with tally.check("get_application_info_list, as one page and in pages of one"):
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
                    # The client expects this key without the unit suffix, which no gateway sends: always None.
                    assert item["LastQuorumLossDurationInSeconds"] and partition.last_quorum_loss_duration is None
        assert stateful, "no partition with persisted state"

    with tally.check("get_service_name_info of every partition returns its service"):
        for service, partition in stateful:
            found, raw = gateway.both(
                f"/Partitions/{partition}/$/GetServiceName", "6.0", client.get_service_name_info, partition
            )
            compare(found, raw, partition)
            assert found.name == service.name, f"expected {service.name}, found {found.name}"

    with tally.check("get_application_name_info of every service returns its application"):
        for application, service in services:
            found, raw = gateway.both(
                f"/Services/{quote(service.id)}/$/GetApplicationName",
                "6.0",
                client.get_application_name_info,
                service.id,
            )
            compare(found, raw, service.name)
            assert found.name == application.name, f"expected {application.name}, found {found.name}"

    with tally.check("get_partition_info of every partition, and of an unknown one (204)"):
        for _, partition in stateful:
            found, raw = gateway.both(f"/Partitions/{partition}", "6.0", client.get_partition_info, partition)
            # In API version 6.0 the epoch has another key, which this client does not support: it reads None.
            compare(found, raw, partition)
            assert found.partition_information.id == partition
        assert client.get_partition_info(UNKNOWN_PARTITION) is None

    return [partition for _, partition in stateful]


def names(items):
    return [item.name for item in items]


def read_progress(gateway, partition):
    """The progress record of a partition, compared with the raw JSON; None without a requested backup."""
    path = f"/Partitions/{partition}/$/GetBackupProgress"
    progress, raw = gateway.both(path, "6.4", gateway.client.get_partition_backup_progress, partition)
    compare(progress, raw, partition)
    if progress is not None:
        check_record(progress, raw)
    return progress


def check_record(progress, raw):
    """Checks the fields of a progress record in each state."""
    state = progress.backup_state
    # The client does not enforce its enum: it reads a newer state as text.
    assert state == raw["BackupState"]
    if state == "Success":
        assert progress.time_stamp_utc.year > 2015 and progress.backup_id != ZERO_ID, raw
        # Backups of an actor service have -1 for both numbers and are valid.
        numbers = {
            int(progress.epoch_of_last_backup_record.data_loss_version),
            int(progress.lsn_of_last_backup_record),
        }
        assert (min(numbers) > 0 or numbers == {-1}) and progress.failure_error is None, raw
    elif state in ("Accepted", "BackupInProgress", "Failure", "Timeout"):
        # The client does not treat year 1 as "none": its users must.
        assert progress.time_stamp_utc.year == 1 and progress.backup_id == ZERO_ID, raw
        assert progress.epoch_of_last_backup_record is None and progress.backup_location is None, raw
        assert progress.lsn_of_last_backup_record == "0", raw
        assert (progress.failure_error is None) == (state in ("Accepted", "BackupInProgress")), raw
    if progress.failure_error is not None:
        # The enum of the client has 84 codes, the service has 230 and writes any other HRESULT as a JSON number.
        # The client reads all of them as text, numbers in decimal: 2148734208, not 0x80131500.
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
    with tally.check("backup_partition is accepted for every partition without a running backup"):
        idle = [id for id, progress in before.items() if progress is None or progress.backup_state in ENDED]
        assert idle, "every partition has a running backup"
        for partition in idle:
            request_backup(client, partition)
            record_state(seen, gateway, partition)

    with tally.check("a second request during a running backup returns 409"):
        error = expect_error(lambda: client.backup_partition(idle[-1]), 409)
        assert error["Code"] == "FABRIC_E_BACKUP_IN_PROGRESS", error

    with tally.check("the progress of an unknown partition returns 404"):
        error = expect_error(lambda: client.get_partition_backup_progress(UNKNOWN_PARTITION), 404)
        assert error["Code"] == "FABRIC_E_PARTITION_NOT_FOUND", error

    with tally.check("an error of a native route is readable for the client"):
        error = expect_error(lambda: client.get_service_name_info(UNKNOWN_PARTITION), 404)
        assert error["Code"] == "FABRIC_E_PARTITION_NOT_FOUND", error

    with tally.check("each request ends, and a first one passes through Accepted and BackupInProgress"):

        def all_ended():
            pending = [id for id in idle if seen[id][-1] not in ENDED]
            for partition in pending:
                record_state(seen, gateway, partition)
            return not pending

        wait_until("the end of all backups", all_ended, gateway.process, seconds=180)
        # Without a previous request, only this test requests backups, so no other state can occur in between.
        alone = [seen[id] for id in idle if before[id] is None]
        assert ["Accepted", "BackupInProgress", "Success"] in alone, alone

    records = [progress for progress in before.values() if progress]
    shown = {record.backup_state for record in records}.union(*seen.values())
    for state in ("Invalid", "Accepted", "BackupInProgress", "Success", "Failure", "Timeout"):
        with tally.check(f"a progress record in state {state} was read and compared"):
            assert state in shown, f"seen: {sorted(shown)}"
    with tally.check("the progress of a partition without a requested backup is null, which the client reads as None"):
        assert None in before.values()
    with tally.check("a state that is missing in the enum of the client is read as text"):
        assert shown - {state.value for state in models.BackupState}, f"seen: {sorted(shown)}"
    with tally.check("a numeric failure code is read as text"):
        codes = {record.failure_error.code for record in records if record.failure_error}
        assert any(code.isdigit() for code in codes), f"seen: {sorted(codes)}"


def check_protection(tally, gateway):
    """The backup configuration of an application, its services and its partitions."""
    client = gateway.client
    services = [service.id for service in client.get_service_info_list(GALLERY).items]
    assert services, "the gallery has no services"
    ids = {service: partitions_of(client, service) for service in services}

    suspended = set()
    with tally.check("get_application_backup_configuration_info lists the services of the application, not itself"):
        page, raw = configuration(gateway, "Applications", GALLERY, client.get_application_backup_configuration_info)
        compare(page, raw, GALLERY)
        for item in page.items:
            assert isinstance(item, models.ServiceBackupConfigurationInfo) and item.kind == "Service", item
            assert item.policy_inherited_from == "Service", item
            if item.suspension_info.is_suspended:
                suspended.add(item.service_name)
        assert suspended == {"fabric:/Gallery/OnHold"}, suspended
        assert "fabric:/Gallery/Forgotten" not in {item.service_name for item in page.items}

    with tally.check("the list in pages of one equals the whole list"):
        single = pages(
            lambda token: client.get_application_backup_configuration_info(
                GALLERY, max_results=1, continuation_token=token
            )
        )
        assert [item.service_name for item in single] == [item.service_name for item in page.items]

    with tally.check("get_service_backup_configuration_info of every protected service of the gallery"):
        for service in services:
            if service != "Gallery~Forgotten":
                # This route accepts only an id with a slash. The client does not convert the id.
                name = service.replace("~", "/")
                call = client.get_service_backup_configuration_info
                page, raw = configuration(gateway, "Services", name, call)
                compare(page, raw, service)
                assert [item.service_name for item in page.items] == [f"fabric:/{name}"], page.items
                found = page.items[0].suspension_info
                expected = (True, "Service") if f"fabric:/{name}" in suspended else (False, "Invalid")
                assert (found.is_suspended, found.suspension_inherited_from) == expected, found

    with tally.check("a service without a policy returns 404"):
        error = expect_error(lambda: client.get_service_backup_configuration_info("Gallery/Forgotten"), 404)
        assert error["Code"] == "FABRIC_E_BACKUP_NOT_ENABLED", error

    with tally.check("get_partition_backup_configuration_info of every partition of the gallery"):
        for service, partitions in ids.items():
            for partition in partitions:
                call = client.get_partition_backup_configuration_info
                found, raw = configuration(gateway, "Partitions", partition, call)
                compare(found, raw, f"{service} {partition}")
                assert (found is None) == (service == "Gallery~Forgotten"), f"{service}: {found}"
                if found:
                    assert isinstance(found, models.PartitionBackupConfigurationInfo), found
                    assert (found.kind, found.policy_inherited_from) == ("Partition", "Service"), found

    with tally.check("with a suspended partition and no application policy, the lists above it return 500"):
        partition = ids["Gallery~BackedUp"][0]
        client.suspend_partition_backup(partition)
        for path in ("/Applications/Gallery", "/Services/Gallery/BackedUp"):
            error = expect_status_500(gateway, f"{path}/$/GetBackupConfigurationInfo")
            assert (error["Code"], error["Message"]) == ("E_UNEXPECTED", NULL_REFERENCE), error
        found = client.get_partition_backup_configuration_info(partition)
        assert found.suspension_info.suspension_inherited_from == "Partition", found
        client.resume_partition_backup(partition)
        assert client.get_application_backup_configuration_info(GALLERY).items

    with tally.check("a partition with its own policy is an item in the lists of its service and application"):
        partition = ids["Gallery~OnHold"][0]
        client.enable_partition_backup(partition, "EveryTwoMinutes")
        for call, id in (
            (client.get_application_backup_configuration_info, GALLERY),
            (client.get_service_backup_configuration_info, "Gallery/OnHold"),
        ):
            (line,) = [item for item in call(id).items if item.kind == "Partition"]
            assert (line.partition_id, line.policy_name) == (partition, "EveryTwoMinutes"), line
            assert line.policy_inherited_from == "Partition", line
        client.disable_partition_backup(partition, clean_backup=False)

    with tally.check("the configuration of an unknown partition returns 404"):
        error = expect_error(lambda: client.get_partition_backup_configuration_info(UNKNOWN_PARTITION), 404)
        assert error["Code"] == "FABRIC_E_PARTITION_NOT_FOUND", error

    with tally.check("a masked timeout returns 400"):
        error = expect_error(lambda: client.get_application_backup_configuration_info("Opaque"), 400)
        assert error["Code"] == "E_INVALIDARG", error

    with tally.check("the client drops the error body of status 500"):
        error = expect_status_500(gateway, "/Services/Gallery/NeverStarted/$/GetBackups")
        assert error["Code"] == "E_UNEXPECTED", error
        # Retries of the client are disabled, because they take long.
        policy = client.config.retry_policy
        retries, policy.retries = policy.retries, 0
        try:
            client.get_service_backup_list("Gallery/NeverStarted")
        except ClientRequestError as failure:
            assert "too many 500" in str(failure) and "E_UNEXPECTED" not in str(failure), failure
        else:
            raise AssertionError("expected an error, the call succeeded")
        finally:
            policy.retries = retries

    return ids


def expect_status_500(gateway, path):
    """The error body of a 500 response, which Microsoft's client would retry."""
    answer = gateway.answer(path, "6.4")
    assert answer.status_code == 500, f"{answer.status_code}: {answer.text}"
    return answer.json()["Error"]


def configuration(gateway, scope, id, call):
    return gateway.both(f"/{scope}/{quote(id)}/$/GetBackupConfigurationInfo", "6.4", call, id)


def partitions_of(client, service):
    return [item.partition_information.id for item in client.get_partition_info_list(service).items]


def check_policies(tally, gateway):
    client = gateway.client

    with tally.check("get_backup_policy_list, as one page and in pages of one"):
        page, raw = gateway.both("/BackupRestore/BackupPolicies", "6.4", client.get_backup_policy_list)
        compare(page, raw, "policies")
        single = pages(lambda token: client.get_backup_policy_list(max_results=1, continuation_token=token))
        assert names(single) == names(page.items) and page.items, (names(single), names(page.items))

    policies = {item["Name"]: item for item in raw["Items"]}
    with tally.check("get_backup_policy_by_name of every policy equals its list item"):
        for name, listed in policies.items():
            path = f"/BackupRestore/BackupPolicies/{quote(name)}"
            policy, raw = gateway.both(path, "6.4", client.get_backup_policy_by_name, name)
            compare(policy, raw, name)
            assert raw == listed, f"{raw} / {listed}"

    with tally.check("an unknown policy returns 404"):
        error = expect_error(lambda: client.get_backup_policy_by_name("Nowhere"), 404)
        # The enum of the client has FABRIC_E_BACKUP_POLICY_NOT_EXISTING instead.
        assert error["Code"] == "FABRIC_E_BACKUP_POLICY_DOES_NOT_EXIST", error
        assert error["Code"] not in {code.value for code in models.FabricErrorCodes}

    by_name = {policy.name: policy for policy in page.items}
    with tally.check("each kind of schedule is read as its own type"):
        kinds = {
            (policy["Schedule"]["ScheduleKind"], policy["Schedule"].get("ScheduleFrequencyType"))
            for policy in policies.values()
        }
        assert kinds == {("FrequencyBased", None), ("TimeBased", "Daily"), ("TimeBased", "Weekly")}, kinds
        frequency = by_name["EveryFifteenDays"].schedule
        assert isinstance(frequency, models.FrequencyBasedBackupScheduleDescription), frequency
        assert frequency.interval == timedelta(days=15), frequency
        weekly = by_name["WorkdaysTwice"].schedule
        assert weekly.run_days == ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"], weekly
        # A run time is a time of day in UTC, which the client reads as a timestamp in year 1.
        assert [(run.year, run.hour) for run in weekly.run_times] == [(1, 2), (1, 12)], weekly
        assert by_name["NightlyAtTwo"].schedule.run_days is None

    with tally.check("each kind of storage is read as its own type, without secrets"):
        kinds = {policy["Storage"]["StorageKind"] for policy in policies.values()}
        assert kinds == {"AzureBlobStore", "FileShare", "ManagedIdentityAzureBlobStore"}, kinds
        stores = [policy.storage for policy in page.items]
        shares = [store for store in stores if isinstance(store, models.FileShareBackupStorageDescription)]
        blobs = [store for store in stores if isinstance(store, models.AzureBlobBackupStorageDescription)]
        assert all(share.primary_password == share.secondary_password == "****" for share in shares) and shares
        assert all(blob.connection_string == "****" for blob in blobs) and blobs

    with tally.check("the client drops the id of a managed identity, a newer field"):
        raw = policies["NightlyAtTwo"]["Storage"]
        store = by_name["NightlyAtTwo"].storage
        assert isinstance(store, models.ManagedIdentityAzureBlobBackupStorageDescription), store
        assert raw["ManagedIdentityClientId"] and "ManagedIdentityClientId" not in known_keys(store)

    with tally.check("the client creates, updates and deletes a policy"):
        policy = by_name["EveryFifteenDays"]
        policy.name = "OfTheClient"
        policy.storage.connection_string = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=b"
        client.create_backup_policy(policy)
        policy.max_incremental_backups = 7
        client.update_backup_policy(policy, policy.name)
        created = client.get_backup_policy_by_name(policy.name)
        assert (created.max_incremental_backups, created.schedule.interval) == (7, timedelta(days=15)), created
        assert created.storage.connection_string == "****", created
        client.delete_backup_policy(policy.name)
        error = expect_error(lambda: client.get_backup_policy_by_name(policy.name), 404)
        assert error["Code"] == "FABRIC_E_BACKUP_POLICY_DOES_NOT_EXIST", error

    with tally.check("get_all_entities_backed_up_by_policy of every policy"):
        kinds = set()
        for name in policies:
            path = f"/BackupRestore/BackupPolicies/{quote(name)}/$/GetBackupEnabledEntities"
            page, raw = gateway.both(path, "6.4", client.get_all_entities_backed_up_by_policy, name)
            compare(page, raw, name)
            kinds |= {type(item).__name__ for item in page.items}
        assert {"ApplicationBackupEntity", "ServiceBackupEntity"} <= kinds, kinds


def known_keys(model):
    return {how["key"] for how in model._attribute_map.values()}


def check_health(tally, gateway, ids):
    client = gateway.client

    reports = {}
    with tally.check("get_partition_health of every partition of the gallery"):
        for service, partitions in ids.items():
            for partition in partitions:
                path = f"/Partitions/{partition}/$/GetHealth"
                health, raw = gateway.both(path, "6.0", client.get_partition_health, partition)
                compare(health, raw, f"{service} {partition}")
                assert health.partition_id == partition, health.partition_id
                for event in health.health_events:
                    if (event.source_id, event.property) == ("System.BackupRestoreManager", "Backup"):
                        reports.setdefault(service, []).append(event)

    with tally.check("the health events about the last periodic backup match the service name"):
        states = {service: {event.health_state for event in events} for service, events in reports.items()}
        assert states["Gallery~BackedUp"] == {"Ok"} and states["Gallery~StorageLost"] == {"Warning"}, states
        # A service whose backups stopped silently still has Ok; a service without backups has no event. A backup that
        # was running at the moment of a suspension is discarded, and the event is Warning while suspended.
        assert states.pop("Gallery~OnHold", {"Warning"}) == {"Warning"}, states
        assert states["Gallery~StoppedSilently"] == {"Ok"}, states
        # The state provider of an actor service ignores upload errors.
        assert states["Gallery~ActorsStorageLost"] == {"Ok"}, states
        silent = {"Gallery~NeverStarted", "Gallery~JustEnabled", "Gallery~Forgotten"}
        assert not silent & states.keys(), states

    with tally.check("a health event about a backup has no expiry and has a timestamp"):
        for event in (event for events in reports.values() for event in events):
            # The client reads this field as a duration, despite its name.
            assert event.time_to_live_in_milli_seconds >= NO_EXPIRY, event
            assert event.source_utc_timestamp.year > 2015 and not event.remove_when_expired, event
        # A state that never occurred has a transition time in year 1.
        assert any(event.last_warning_transition_at.year == 1 for event in reports["Gallery~BackedUp"])

    with tally.check("the health of an unknown partition returns 404"):
        error = expect_error(lambda: client.get_partition_health(UNKNOWN_PARTITION), 404)
        assert error["Code"] == "FABRIC_E_HEALTH_ENTITY_NOT_FOUND", error


def check_lists(tally, gateway, ids):
    client = gateway.client
    scopes = [("Applications", GALLERY, client.get_application_backup_list)]
    protected = [service for service in ids if service != "Gallery~Forgotten"]
    # NeverStarted has no folder in its share yet, which is an error.
    protected.remove("Gallery~NeverStarted")
    scopes += [("Services", service.replace("~", "/"), client.get_service_backup_list) for service in protected]
    scopes += [("Partitions", id, client.get_partition_backup_list) for service in protected for id in ids[service]]

    for latest in (False, True):
        what = "newest backups" if latest else "backups"
        with tally.check(f"the {what} of partitions, services and the application"):
            counts = {}
            for scope, id, call in scopes:
                page, raw = gateway.both(
                    f"/{scope}/{quote(id)}/$/GetBackups",
                    "6.4",
                    lambda id=id, call=call: call(id, latest=latest),
                    Latest=str(latest).lower(),
                )
                compare(page, raw, f"backups of {id}")
                for item in page.items:
                    check_backup(item)
                counts[scope] = counts.get(scope, 0) + len(page.items)
                if latest:
                    of = [item.partition_information.id for item in page.items]
                    assert len(of) == len(set(of)), f"{id} has more than one newest backup of a partition"
            assert counts["Applications"] >= 10 and min(counts.values()) > 0, counts

    with tally.check("the client drops ValidationResult, a newer field"):
        stopped = [gateway.raw(f"/Partitions/{id}/$/GetBackups", "6.4") for id in ids["Gallery~StoppedSilently"]]
        results = [item.get("ValidationResult") for page in stopped for item in page["Items"]]
        assert results.count("ChecksumMismatchFailure") == 1, results
        assert "ValidationResult" not in known_keys(client.get_service_backup_list("Gallery/BackedUp").items[0])

    with tally.check("backups of actor services have -1 for LSN and epoch, and all are full"):
        actors = client.get_service_backup_list("Gallery/ActorsBackedUp").items
        assert actors, "no backups"
        for item in actors:
            epoch = item.epoch_of_last_backup_record
            numbers = (item.lsn_of_last_backup_record, epoch.data_loss_version, epoch.configuration_version)
            assert numbers == ("-1", "-1", "-1") and item.backup_type == "Full", item

    with tally.check("a missing folder in the storage returns an index error"):
        error = expect_status_500(gateway, "/Services/Gallery/NeverStarted/$/GetBackups")
        assert error["Code"] == "E_UNEXPECTED" and "Index was out of range" in error["Message"], error

    with tally.check("the list of an empty storage is empty"):
        cleaned = [client.get_partition_backup_list(id).items for id in ids["Gallery~CleanedUp"]]
        assert cleaned and not any(cleaned), cleaned

    with tally.check("the list of a service in pages of one equals the whole list"):
        at_once = [item.backup_id for item in client.get_service_backup_list("Gallery/StorageLost").items]
        single = pages(
            lambda token: client.get_service_backup_list(
                "Gallery/StorageLost", max_results=1, continuation_token=token
            )
        )
        assert [item.backup_id for item in single] == at_once and at_once, (len(single), len(at_once))

    with tally.check("the list of an unprotected partition returns 404"):
        error = expect_error(lambda: client.get_partition_backup_list(ids["Gallery~Forgotten"][0]), 404)
        assert error["Code"] == "FABRIC_E_BACKUP_NOT_ENABLED", error


def check_backup(item):
    assert item.backup_type in ("Full", "Incremental"), item
    assert item.creation_time_utc.year > 2015 and item.backup_id != ZERO_ID, item
    assert item.backup_chain_id == item.backup_id or item.backup_type == "Incremental", item
    # The LSN is a JSON string here, unlike in a progress record.
    assert isinstance(item.lsn_of_last_backup_record, str), item


def check_restores(tally, gateway, ids):
    client = gateway.client
    restored = []

    with tally.check("get_partition_restore_progress of every partition of the gallery, with null read as None"):
        without_restore = 0
        for service, partitions in ids.items():
            for partition in partitions:
                progress = read_restore(gateway, partition)
                if progress is None:
                    without_restore += 1
                else:
                    assert service == "Gallery~BackedUp", service
                    restored.append(partition)
        assert len(restored) == 1 and without_restore, (restored, without_restore)

    with tally.check("a restore passes through its states to Success, including a newer state"):
        partition = next(id for id in ids["Gallery~BackedUp"] if id not in restored)
        backup = client.get_partition_backup_list(partition, latest=True).items[0]
        description = models.RestorePartitionDescription(
            backup_id=backup.backup_id, backup_location=backup.backup_location
        )
        client.restore_partition(partition, description)
        seen = []

        def ended():
            progress = read_restore(gateway, partition)
            if progress and (not seen or seen[-1] != progress.restore_state):
                seen.append(progress.restore_state)
            return seen and seen[-1] in ENDED

        wait_until("the end of the restore", ended, gateway.process, seconds=120)
        order = ["Accepted", "RestoreInProgress", "SecondariesInProgress", "Success"]
        assert seen[-1] == "Success" and seen == [state for state in order if state in seen], seen
        # Newer than this client: missing in its enum and read as text.
        assert "SecondariesInProgress" in seen and "SecondariesInProgress" not in set(models.RestoreState), seen

    with tally.check("the restore progress of an unknown partition returns 404"):
        error = expect_error(lambda: client.get_partition_restore_progress(UNKNOWN_PARTITION), 404)
        assert error["Code"] == "FABRIC_E_PARTITION_NOT_FOUND", error


def read_restore(gateway, partition):
    """The restore progress of a partition, compared with the raw JSON; None without a restore."""
    path = f"/Partitions/{partition}/$/GetRestoreProgress"
    progress, raw = gateway.both(path, "6.4", gateway.client.get_partition_restore_progress, partition)
    compare(progress, raw, partition)
    if progress is not None:
        assert (progress.time_stamp_utc.year == 1) == (progress.restore_state != "Success"), raw
        # LSN and epoch are those of the backup and are set before the restore is complete.
        assert isinstance(raw["RestoredLsn"], int) and progress.restored_lsn == str(raw["RestoredLsn"]), raw
        assert progress.restored_epoch is not None, raw
        # The client declares this field, but the service does not write it.
        assert "FailureError" not in raw and progress.failure_error is None, raw
    return progress


def request_backup(client, partition):
    """Requests a backup. 409 is accepted, because the simulator may have requested one just before."""
    try:
        client.backup_partition(partition)
    except models.FabricErrorException as exception:
        assert exception.response.status_code == 409, f"{partition}: {exception.response.status_code}"


def expect_error(call, status):
    """Asserts that a call fails with this status; returns the raw error."""
    try:
        call()
    except models.FabricErrorException as exception:
        assert exception.response.status_code == status, exception.response.status_code
        error = exception.response.json()["Error"]
        if exception.response.headers["Content-Type"].startswith("application/json"):
            parsed = exception.error.error
            assert (parsed.code, parsed.message) == (error["Code"], error["Message"]), f"{parsed} for {error}"
        else:
            # The backup service sends its JSON as text/plain. The client does not parse it, so its users get only the
            # status.
            assert isinstance(exception.error, Exception) and error["Code"] not in exception.message, exception.message
        return error
    raise AssertionError("expected an error, the call succeeded")


def record_state(seen, gateway, partition):
    progress = read_progress(gateway, partition)
    states = seen.setdefault(partition, [])
    if not states or states[-1] != progress.backup_state:
        states.append(progress.backup_state)


def microsoft_client(tally, exporter, _parts):
    """The simulated gateway, read with azure-servicefabric"""
    # The client logs a warning for every value that is missing in its enums. The checks cover these values.
    logging.getLogger("msrest").setLevel(logging.ERROR)
    with TestContext() as context:
        gateway = Gateway(context, exporter)
        partitions = check_topology(tally, gateway)
        ids = check_protection(tally, gateway)
        check_policies(tally, gateway)
        check_health(tally, gateway, ids)
        check_lists(tally, gateway, ids)
        check_restores(tally, gateway, ids)
        check_progress(tally, gateway, partitions)
        with tally.check("the simulated gateway exits with code 0 on SIGTERM"):
            code = gateway.process.stop()
            assert code == 0, f"exit code {code}:\n{gateway.process.log_tail()}"


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], microsoft_client))
