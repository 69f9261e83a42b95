"""A front of the simulated gateway that can make single partitions look ill, or the backup service go away.

Nothing in here knows a metric. Whatever it does not change goes through as it is.
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


class Front:
    """Answers for the gateway on `port`."""

    def __init__(self, stage, gateway):
        self.lock = threading.Lock()
        self.records = {}  # partition -> record of its last requested backup
        self.frozen = []  # what the paths have in common that answer as they did
        self.remembered = {}
        self.service_is_there = True
        front = self

        class Relay(Handler):
            protocol_version = "HTTP/1.1"
            upstream = None

            def do_GET(self):
                try:
                    status, kind, body = front.answer(self)
                except (OSError, http.client.HTTPException):
                    self.upstream = None
                    self.close_connection = True
                    return
                self.reply(status, kind, body)

            def ask(self):
                if not self.upstream:
                    self.upstream = http.client.HTTPConnection("127.0.0.1", gateway, timeout=10)
                self.upstream.request("GET", self.path)
                answer = self.upstream.getresponse()
                return answer.status, answer.headers["Content-Type"], answer.read()

        self.port = stage.serve(Relay)

    def answer(self, request):
        path = unquote(urlsplit(request.path).path)
        with self.lock:
            away = not self.service_is_there and (path.endswith(BACKUP_ROUTES) or path.startswith(POLICIES))
            record = self.records.get(partition_of(path)) if path.endswith("/$/GetBackupProgress") else None
            frozen = any(part in path for part in self.frozen)
            remembered = self.remembered.get(path)
        if away:
            # What the gateway says where no backup service is installed.
            return 404, None, (SAMPLES / "error.404.brs-not-installed-empty.txt").read_bytes()
        if record:
            return 200, "application/json; charset=utf-8", json.dumps(record).encode()
        if frozen and remembered:
            return remembered
        answer = request.ask()
        if frozen:
            with self.lock:
                answer = self.remembered.setdefault(path, answer)
        return answer

    def set_record(self, partition, outcome):
        """Makes the last requested backup of a partition end like the sample of that name."""
        record = json.loads((SAMPLES / f"GetPartitionBackupProgress.{outcome}.json").read_text())
        if record["BackupState"] == "Success":
            now = datetime.datetime.now(datetime.timezone.utc)
            record.update(TimeStampUtc=now.strftime("%Y-%m-%dT%H:%M:%SZ"), BackupId=str(uuid.uuid4()))
        with self.lock:
            self.records[partition] = record

    def freeze(self, partition, application):
        """Nothing new is heard of a partition, nor in the lists of its application: as if its timer had died."""
        with self.lock:
            self.frozen = [f"/Partitions/{partition}/", f"/Applications/{application}/$/GetBackups"]

    def thaw(self):
        with self.lock:
            self.frozen, self.remembered = [], {}

    def take_service(self, there):
        with self.lock:
            self.service_is_there = there


def partition_of(path):
    collection, _, rest = path.lstrip("/").partition("/")
    return rest.partition("/")[0] if collection == "Partitions" else None
