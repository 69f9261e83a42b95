"""What every real-part check needs: processes that end with the test, waiting with a deadline, and a tally.

Nothing in here knows a metric or a route. A process that is started here is stopped here, whatever happens; a wait
that is not met in time fails with what it waited for; a check is one line of output and one count.
"""

import argparse
import contextlib
import http.client
import http.server
import multiprocessing
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path


class Tally:
    """Counts checks. A check is a block that raises when what it says does not hold."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    @contextlib.contextmanager
    def check(self, sentence):
        """Runs the block as one check; a failure is told and counted, and the next check goes on."""
        try:
            yield
        except Exception as fault:  # whatever went wrong, this check did not pass
            self.failed += 1
            print(f"  FAIL  {sentence}", flush=True)
            lines = str(fault) if isinstance(fault, AssertionError) else traceback.format_exc()
            for line in lines.splitlines()[:40]:
                print(f"        {line[:400]}", flush=True)
        else:
            self.passed += 1
            print(f"  ok    {sentence}", flush=True)


class Process:
    """A program under test or a part to test it with, with its output in a file that is shown when it matters."""

    def __init__(self, name, command, folder):
        self.name = name
        self.log = Path(folder) / f"{name}.log"
        with self.log.open("wb") as output:
            self.popen = subprocess.Popen(
                [str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def said(self, last=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-last:])

    def ensure_alive(self):
        code = self.popen.poll()
        assert code is None, f"{self.name} ended with {code}:\n{self.said()}"

    def stop(self, patience=10):
        """Asks it to end, then makes it; returns the exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(patience)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        return self.popen.wait()


class Stage:
    """A folder for scratch files and the processes of one test; leaving it stops and removes them all."""

    def __enter__(self):
        self.exits = contextlib.ExitStack()
        self.folder = Path(self.exits.enter_context(tempfile.TemporaryDirectory(prefix="sfbe-real-")))
        return self

    def __exit__(self, *fault):
        return self.exits.__exit__(*fault)

    def start(self, name, *command):
        process = Process(name, command, self.folder)
        self.exits.callback(process.stop)
        return process

    def serve(self, handler):
        """Answers requests on a port of its own until the test ends; returns the port."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.exits.callback(server.server_close)
        self.exits.callback(server.shutdown)
        return server.server_port

    def scratch(self, name):
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers without a word in the output."""

    def reply(self, status, kind, body):
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def free_port():
    """A port nobody listens on. Another process may take it before ours does: then the wait for ours fails loudly."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, condition, process=None, seconds=60, pause=0.1):
    """Calls `condition` until it returns something true, and returns that. OSErrors and HTTP faults mean "not yet"."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        if process:
            process.ensure_alive()
        try:
            found = condition()
            if found:
                return found
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError) as fault:
            last = fault
        if time.monotonic() > deadline:
            said = f"\n{process.said()}" if process else ""
            raise AssertionError(f"waited {seconds} s in vain for {what} (last: {last!r}){said}")
        time.sleep(pause)


class Response:
    """One answer, as it came over the wire."""

    def __init__(self, answer):
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()


def fetch(port, path, headers=None, method="GET"):
    """One request on a connection of its own, nothing decoded, no header added but Host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        return Response(connection.getresponse())
    finally:
        connection.close()


def start_demo(stage, exporter, *flags):
    """Starts the demo and waits until every cluster has been through its first cycle. Returns its process and port."""
    port = free_port()
    demo = stage.start("demo", exporter, "demo", f"--web.listen-address=127.0.0.1:{port}", *flags)
    wait_until("/-/ready of the demo", lambda: fetch(port, "/-/ready").status == 200, demo)
    return demo, port


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--exporter", type=Path, default=Path("target/dist/servicefabric-backup-exporter"))
    parser.add_argument("--parts", type=Path, default=Path("target/ci/parts"), help="what .ci/fetch-parts unpacked")
    chosen = parser.parse_args()
    chosen.exporter = chosen.exporter.absolute()
    chosen.parts = chosen.parts.absolute()
    if not chosen.exporter.exists():
        parser.error(f"{chosen.exporter} is not there: build it first")
    # A polite end unwinds the stages, and with them every child.
    for polite in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(polite, lambda *_: sys.exit(1))
    return chosen


# Where a binary comes out of a package of another name.
PACKAGES = {"amtool": "prometheus-alertmanager"}


def parts_with(folder, binary):
    """(suite, versions, path) of every unpacked suite that has this binary, oldest version first."""
    found = []
    for path in sorted(folder.glob(f"*/usr/bin/{binary}")):
        suite = path.parents[2]
        versions = dict(line.split() for line in (suite / "versions").read_text().splitlines())
        version = versions.get(PACKAGES.get(binary, binary)) or versions["prometheus"]
        found.append((suite.name, version.split("+")[0], path))
    assert found, f"no {binary} below {folder}: run .ci/fetch-parts {folder}"
    return sorted(found, key=lambda part: [int(number) for number in part[1].split(".")])


def run(tests, chosen):
    """Runs tests, each `test(tally, exporter, parts)`, and returns how many checks passed and failed."""
    tally = Tally()
    for test in tests:
        started = time.monotonic()
        print(f"--- {test.__doc__.splitlines()[0]}", flush=True)
        # What happens between the checks (a process that does not start) is a failure too.
        try:
            test(tally, chosen.exporter, chosen.parts)
        except Exception as fault:
            with tally.check(f"{test.__module__} runs to its end"):
                raise fault
        print(f"    {time.monotonic() - started:.1f} s", flush=True)
    return tally.passed, tally.failed


class Beside:
    """Tests in a process of their own, which ends with this one. What they print is kept until they are done."""

    def __init__(self, tests, chosen):
        fork = multiprocessing.get_context("fork")
        # Nothing passed and one failed, for who does not live to tell.
        self.output, self.counts = tempfile.TemporaryFile("w+"), fork.Array("i", [0, 1])
        # It inherits what is bound to the signals: a polite end unwinds its stages as well.
        self.process = fork.Process(target=self.work, args=(tests, chosen), daemon=True)
        self.process.start()

    def work(self, tests, chosen):
        with contextlib.redirect_stdout(self.output):
            self.counts[:] = run(tests, chosen)

    def done(self):
        self.process.join()
        self.output.seek(0)
        print(self.output.read(), end="", flush=True)
        if self.process.exitcode:
            print(f"  FAIL  the tests beside ended with {self.process.exitcode}", flush=True)
        return self.counts[:]


def main(description, *tests, beside=()):
    """Runs tests, and those `beside` at the same time, prints the tally of all, and returns the exit code."""
    chosen, begun = arguments(description), time.monotonic()
    other = Beside(beside, chosen) if beside else None
    counts = [run(tests, chosen), *([other.done()] if other else [])]
    passed, failed = (sum(column) for column in zip(*counts, strict=True))
    print(f"    {time.monotonic() - begun:.1f} s in all", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0
