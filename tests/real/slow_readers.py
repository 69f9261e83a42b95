#!/usr/bin/env python3
"""Measures scrapes of a demo with 10,000 partitions, and its memory, during 500 connections of slow readers.

slow_readers.py --exporter target/dist/servicefabric-backup-exporter
"""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

from harness import TestContext, fetch, main, start_demo, wait_until
from page import Page
from page_checks import decompressed

CLIENTS = 500
SCRAPES = 20


async def read_slowly(port, number, requested):
    """Requests the metrics and reads one byte per second or nothing; reconnects when the connection is closed."""
    coding = ("identity", "gzip")[number % 2]
    while True:
        with contextlib.suppress(OSError):
            small = socket.socket()
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            small.setblocking(False)
            await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=small, limit=1024)
            writer.write(f"GET /metrics HTTP/1.1\r\nHost: demo\r\nAccept-Encoding: {coding}\r\n\r\n".encode())
            requested.add(number)
            try:
                if number % 3:
                    while await reader.read(1):
                        await asyncio.sleep(1)
                else:
                    await asyncio.sleep(15)
            finally:
                writer.close()


def start_slow_readers(port):
    """Starts the slow readers and waits until each has sent a request."""
    requested = set()

    async def read():
        await asyncio.gather(*(read_slowly(port, number, requested) for number in range(CLIENTS)))

    threading.Thread(target=lambda: asyncio.run(read()), daemon=True).start()
    wait_until(f"{CLIENTS} requests", lambda: len(requested) == CLIENTS)


def resident(process):
    """Resident memory in MiB."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def scrape(port, coding):
    """Duration of one complete scrape in seconds, and its body."""
    started = time.monotonic()
    answer = fetch(port, "/metrics", {"Accept-Encoding": coding})
    seconds = time.monotonic() - started
    assert answer.status == 200, f"status {answer.status}"
    return seconds, answer.body


def slow_readers(tally, exporter, parts):
    """500 slow readers"""
    with TestContext() as context:
        demo, port = start_demo(context, exporter, "--partitions=10000")
        baseline = [scrape(port, coding)[0] for coding in ("gzip", "identity", "gzip", "identity")]
        before = resident(demo)
        start_slow_readers(port)
        seconds, memory = {"gzip": [], "identity": []}, []
        with tally.check(f"{2 * SCRAPES} scrapes during {CLIENTS} slow readers are complete"):
            for _ in range(SCRAPES):
                for coding, taken in seconds.items():
                    took, page = scrape(port, coding)
                    taken.append(took)
                    memory.append(resident(demo))
                time.sleep(1)
            infos = Page(decompressed(page)).named("servicefabric_backup_partition_info")
            assert len(infos) >= 10_000, f"{len(infos)} partitions are on the page"
        for coding, taken in seconds.items():
            print(f"        {coding}: {sorted(taken)[len(taken) // 2]:.2f} s, at most {max(taken):.2f} s", flush=True)
        print(f"        without slow readers: gzip {baseline[2]:.2f} s, identity {baseline[3]:.2f} s", flush=True)
        print(f"        resident: {before:.0f} MiB before, at most {max(memory):.0f} MiB", flush=True)
        with tally.check("the slow readers cost less than 200 MiB"):
            assert max(memory) - before < 200, f"{max(memory) - before:.0f} MiB"


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], slow_readers))
