"""Shared test infrastructure: processes that end with the test, waits with a deadline, and a tally of checks.

This module does not depend on any metric or route. It stops every process that it starts, even if a test fails. A
wait that times out names its condition. Each check prints one line and counts once.
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
    """Counts checks. A check is a block that raises an exception on failure."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    @contextlib.contextmanager
    def check(self, sentence):
        """Runs the block as one check. A failure is printed and counted, and does not stop the next check."""
        try:
            yield
        except Exception as error:  # any exception fails the check
            self.failed += 1
            print(f"  FAIL  {sentence}", flush=True)
            lines = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
            for line in lines.splitlines()[:40]:
                print(f"        {line[:400]}", flush=True)
        else:
            self.passed += 1
            print(f"  ok    {sentence}", flush=True)


class Process:
    """A child process with its output in a log file, whose end is printed on failure."""

    def __init__(self, name, command, folder):
        self.name = name
        self.log = Path(folder) / f"{name}.log"
        with self.log.open("wb") as output:
            self.popen = subprocess.Popen(
                [str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def log_tail(self, last=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-last:])

    def ensure_alive(self):
        code = self.popen.poll()
        assert code is None, f"{self.name} ended with {code}:\n{self.log_tail()}"

    def stop(self, timeout=10):
        """Sends SIGTERM, and SIGKILL after the timeout in seconds; returns the exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        return self.popen.wait()


class TestContext:
    """The temporary folder and the processes of one test. Leaving the context stops and removes them."""

    def __enter__(self):
        self.exits = contextlib.ExitStack()
        self.folder = Path(self.exits.enter_context(tempfile.TemporaryDirectory(prefix="sfbe-real-")))
        return self

    def __exit__(self, *error):
        return self.exits.__exit__(*error)

    def start(self, name, *command):
        process = Process(name, command, self.folder)
        self.exits.callback(process.stop)
        return process

    def serve(self, handler):
        """Runs an HTTP server with this handler until the test ends; returns its port."""
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
    """A request handler without an access log."""

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
    """An unused port. If another process takes it first, waiting for the process under test fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, condition, process=None, seconds=60, pause=0.1):
    """Calls `condition` until it returns a true value, and returns that. Network and decoding errors are retried."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        if process:
            process.ensure_alive()
        try:
            found = condition()
            if found:
                return found
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError) as error:
            last = error
        if time.monotonic() > deadline:
            log = f"\n{process.log_tail()}" if process else ""
            raise AssertionError(f"timed out after {seconds} s waiting for {what} (last error: {last!r}){log}")
        time.sleep(pause)


class Response:
    """One HTTP response, not decoded."""

    def __init__(self, answer):
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()


def fetch(port, path, headers=None, method="GET"):
    """Sends one request on a new connection, with no header other than Host and those given. Nothing is decoded."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        return Response(connection.getresponse())
    finally:
        connection.close()


def start_demo(context, exporter, *flags):
    """Starts the demo and waits for the first cycle of every cluster. Returns its process and port."""
    port = free_port()
    demo = context.start("demo", exporter, "demo", f"--web.listen-address=127.0.0.1:{port}", *flags)
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
        parser.error(f"{chosen.exporter} does not exist: build it first")
    # Exiting through an exception leaves every `with` block, which stops the child processes.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    return chosen


# Binaries whose package has another name.
PACKAGES = {"amtool": "prometheus-alertmanager"}


def parts_with(folder, binary):
    """(suite, version, path) of every unpacked suite that has this binary, oldest version first."""
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
        # An exception outside a check, such as a process that does not start, is a failure too.
        try:
            test(tally, chosen.exporter, chosen.parts)
        except Exception as error:
            with tally.check(f"{test.__module__} completes"):
                raise error
        print(f"    {time.monotonic() - started:.1f} s", flush=True)
    return tally.passed, tally.failed


class ParallelTests:
    """Tests in a child process, which ends with this one. Their output is buffered until they have finished."""

    def __init__(self, tests, chosen):
        fork = multiprocessing.get_context("fork")
        # Counted as one failure if the child process ends without reporting its counts.
        self.output, self.counts = tempfile.TemporaryFile("w+"), fork.Array("i", [0, 1])
        # The child process inherits the signal handlers, so SIGTERM stops its own child processes too.
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
            print(f"  FAIL  the parallel tests exited with {self.process.exitcode}", flush=True)
        return self.counts[:]


def main(description, *tests, parallel=()):
    """Runs tests, and those in `parallel` at the same time; prints the tally of all; returns the exit code."""
    chosen, begun = arguments(description), time.monotonic()
    other = ParallelTests(parallel, chosen) if parallel else None
    counts = [run(tests, chosen), *([other.done()] if other else [])]
    passed, failed = (sum(column) for column in zip(*counts, strict=True))
    print(f"    {time.monotonic() - begun:.1f} s in total", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0
