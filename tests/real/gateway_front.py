"""A proxy for the simulated gateway that injects faults: failed partitions, or an unavailable backup service.

This module does not depend on any metric. All other requests are forwarded unchanged.
"""

import datetime
import http.client
import json
import threading
import uuid
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness import Handler

SAMPLES = Path(__file__).resolve().parents[1] / "samples"

BACKUP_ROUTES = ("/$/GetBackupProgress", "/$/GetRestoreProgress", "/$/GetBackupConfigurationInfo", "/$/GetBackups")
POLICIES = "/BackupRestore/"


class FaultProxy:
    """A fault-injecting proxy that listens on `port`."""

    def __init__(self, context, gateway):
        self.lock = threading.Lock()
        self.records = {}  # partition -> progress record
        self.frozen = []  # substrings of the paths whose answer is frozen
        self.frozen_answers = {}
        self.service_available = True
        proxy = self

        class Relay(Handler):
            protocol_version = "HTTP/1.1"
            upstream = None

            def do_GET(self):
                try:
                    status, kind, body = proxy.answer(self)
                except (OSError, http.client.HTTPException):
                    self.upstream = None
                    self.close_connection = True
                    return
                self.reply(status, kind, body)

            def forward(self):
                if not self.upstream:
                    self.upstream = http.client.HTTPConnection("127.0.0.1", gateway, timeout=10)
                self.upstream.request("GET", self.path)
                answer = self.upstream.getresponse()
                return answer.status, answer.headers["Content-Type"], answer.read()

        self.port = context.serve(Relay)

    def answer(self, request):
        path = unquote(urlsplit(request.path).path)
        with self.lock:
            unavailable = not self.service_available and (path.endswith(BACKUP_ROUTES) or path.startswith(POLICIES))
            record = self.records.get(partition_of(path)) if path.endswith("/$/GetBackupProgress") else None
            frozen = any(part in path for part in self.frozen)
            frozen_answer = self.frozen_answers.get(path)
        if unavailable:
            # The answer of a gateway in a cluster without the backup service.
            return 404, None, (SAMPLES / "error.404.brs-not-installed-empty.txt").read_bytes()
        if record:
            return 200, "application/json; charset=utf-8", json.dumps(record).encode()
        if frozen and frozen_answer:
            return frozen_answer
        answer = request.forward()
        if frozen:
            with self.lock:
                answer = self.frozen_answers.setdefault(path, answer)
        return answer

    def set_record(self, partition, outcome):
        """Replaces the progress record of a partition with the sample of this outcome."""
        record = json.loads((SAMPLES / f"GetPartitionBackupProgress.{outcome}.json").read_text())
        if record["BackupState"] == "Success":
            now = datetime.datetime.now(datetime.timezone.utc)
            record.update(TimeStampUtc=now.strftime("%Y-%m-%dT%H:%M:%SZ"), BackupId=str(uuid.uuid4()))
        with self.lock:
            self.records[partition] = record

    def freeze(self, partition, application):
        """Freezes the answers about a partition and its application, as if its backup timer had stopped."""
        with self.lock:
            self.frozen = [f"/Partitions/{partition}/", f"/Applications/{application}/$/GetBackups"]

    def thaw(self):
        with self.lock:
            self.frozen, self.frozen_answers = [], {}

    def set_service_available(self, available):
        with self.lock:
            self.service_available = available


def partition_of(path):
    collection, _, rest = path.lstrip("/").partition("/")
    return rest.partition("/")[0] if collection == "Partitions" else None
