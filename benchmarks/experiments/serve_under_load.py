"""`edge-ct serve` under load: start time, idle memory, and two thousand uploads from eight clients.

    python -m edge_ct.benchmarks.experiments.serve_under_load model.tflite
    python -m edge_ct.benchmarks.experiments.serve_under_load model.tflite --clients 8 --uploads 2000 --json

The server and the clients are processes of their own and talk HTTP over the loopback interface. Each upload is a
different slice, and counts when it is acknowledged, which means that its row is on the disk. Memory is read from /proc,
so this runs on Linux only. The growth from half of the time to the end shows whether memory stays constant.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from edge_ct.phantom import make_slice

SIDE = 512
STARTS = 5
SAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class ServeLoad:
    """Result of a run: resident memory in MB (10^6 bytes), times in seconds, latency of an upload in milliseconds."""

    start_seconds: float
    idle_mb: float
    clients: int
    uploads: int
    errors: int
    tried_again: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    half_mb: float
    end_mb: float
    peak_mb: float
    rows: int


class Server:
    """A running `edge-ct serve`."""

    def __init__(self, model: Path, state: Path) -> None:
        command = ["serve", "--model", model, "--state", state, "--port", "0", "--json"]
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_ct", *map(str, command)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        self.start_seconds = time.perf_counter() - begun
        if not line:
            raise SystemExit(f"edge-ct serve did not start (exit code {self.process.wait()})")
        self.url: str = json.loads(line)["urls"][0]

    def resident_mb(self) -> float:
        """Return the resident memory of the server in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", text)
        return int(match[1]) * 1024 / 1e6 if match else 0.0

    def stop(self) -> None:
        """End the server."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        if self.process.stdout:
            self.process.stdout.close()
        if code:
            raise SystemExit(f"edge-ct serve ended with exit code {code}")


def run_client(url: str, first: int, count: int, results: Any) -> None:
    """Act as a browser: open the list and its event stream, upload slices one after the other, and report the times.

    Args:
        url: Address of the server.
        first: Number of the first slice.
        count: Number of uploads.
        results: Queue that takes (milliseconds of each upload, errors, repeated attempts).
    """
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), int(parts.port or 80), timeout=120)
    connection.request("GET", "/")
    answer = connection.getresponse()
    cookie, page = answer.getheader("Set-Cookie", "").partition(";")[0], answer.read().decode()
    token = re.findall(r'name="csrf" content="([^"]+)"', page)[0]
    headers = {"Cookie": cookie, "X-CSRF-Token": token, "Accept": "application/json"}
    stream = HTTPConnection(str(parts.hostname), int(parts.port or 80), timeout=None)
    stream.request("GET", "/events", headers=headers)
    threading.Thread(target=_read_events, args=(stream,), daemon=True).start()
    image = make_slice(first, 4, first % 2 == 1, SIDE).image
    times, errors, again = [], 0, 0
    for number in range(first, first + count):
        image[0, :4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)
        content = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        begun = time.perf_counter()
        for _ in range(20):
            try:
                status = _upload(connection, headers, f"{number}.png", content)
            except (OSError, HTTPException):
                status = 0
            if status != 503:
                break
            again += 1
            time.sleep(0.2)
        times.append(1000 * (time.perf_counter() - begun))
        errors += status != 201
        if number % 20 == 0:
            connection.request("GET", "/rows", headers=headers)
            errors += connection.getresponse().read()[:1] == b""
    results.put((times, errors, again))


def _upload(connection: HTTPConnection, headers: dict[str, str], name: str, content: bytes) -> int:
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    connection.request("POST", "/upload", head + content + b"\r\n--b--\r\n", {**headers, **kind})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _read_events(stream: HTTPConnection) -> None:
    answer = stream.getresponse()
    while answer.readline():
        pass


def measure(model: Path, clients: int, uploads: int, folder: Path) -> ServeLoad:
    """Start the server several times to measure its start, then once more for the load.

    Args:
        model: The bundle.
        clients: Number of clients.
        uploads: Number of uploads of all clients together.
        folder: Folder for the server's state.
    """
    starts = []
    for number in range(STARTS):
        server = Server(model, folder / f"start-{number}")
        starts.append(server.start_seconds)
        server.stop()
    server = Server(model, folder / "load")
    time.sleep(2)
    idle = server.resident_mb()
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    share = uploads // clients
    processes = [
        context.Process(target=run_client, args=(server.url, 1 + i * share, share, results)) for i in range(clients)
    ]
    begun = time.perf_counter()
    for process in processes:
        process.start()
    samples: list[tuple[float, float]] = []
    answers: list[tuple[list[float], int, int]] = []
    while len(answers) < clients:
        samples.append((time.perf_counter() - begun, server.resident_mb()))
        time.sleep(SAMPLE_SECONDS)
        while not results.empty():
            answers.append(results.get())
        if not any(process.is_alive() for process in processes) and len(answers) < clients and results.empty():
            raise SystemExit("a client ended before its last upload")
    seconds = time.perf_counter() - begun
    end = server.resident_mb()
    for process in processes:
        process.join()
    times = sorted(ms for answer in answers for ms in answer[0])
    rows = _rows(server.url)
    server.stop()
    return ServeLoad(
        start_seconds=round(statistics.median(starts), 3),
        idle_mb=round(idle, 1),
        clients=clients,
        uploads=len(times),
        errors=sum(answer[1] for answer in answers),
        tried_again=sum(answer[2] for answer in answers),
        seconds=round(seconds, 1),
        per_second=round(len(times) / seconds, 1),
        p50_ms=round(times[len(times) // 2], 1),
        p99_ms=round(times[int(len(times) * 0.99)], 1),
        half_mb=round(max(mb for at, mb in samples if at <= seconds / 2), 1),
        end_mb=round(end, 1),
        peak_mb=round(max(mb for _, mb in samples), 1),
        rows=rows,
    )


def _rows(url: str) -> int:
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), int(parts.port or 80), timeout=60)
    connection.request("GET", "/state", headers={"Accept": "application/json"})
    return sum(json.loads(connection.getresponse().read())["counts"].values())


def main() -> None:
    """Parse the arguments, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="bundle that the server judges with")
    parser.add_argument("--clients", type=int, default=8, help="number of clients at the same time")
    parser.add_argument("--uploads", type=int, default=2000, help="number of uploads of all clients together")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(options.model, options.clients, options.uploads, Path(folder))
    if options.json:
        print(json.dumps(asdict(measured)))
        return
    for name, value in asdict(measured).items():
        print(f"{name:<14} {value}")


if __name__ == "__main__":
    main()
