"""What a service tells systemd, on a socket that the test holds in systemd's place."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from edge_ct.device_app.watchdog import watchdog


@pytest.mark.parametrize("abstract", [False, True])
def test_a_healthy_service_says_so_and_an_unhealthy_one_does_not(abstract: bool, tmp_path: Path) -> None:
    address = f"@edge-ct-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    healthy = True
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{address[1:]}" if abstract else address)
        systemd.settimeout(5)
        with watchdog(lambda: healthy, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}):
            for _ in range(3):
                assert systemd.recv(100) == b"WATCHDOG=1"
            healthy = False
            time.sleep(0.2)
            systemd.setblocking(False)
            with pytest.raises(BlockingIOError):
                while systemd.recv(100):
                    pass
            time.sleep(0.3)
            with pytest.raises(BlockingIOError):
                systemd.recv(100)
            healthy = True
            systemd.settimeout(5)
            assert systemd.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": "/nowhere"},
        {"WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "x"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
    ids=["nothing", "a socket", "an interval", "no number", "that of another process"],
)
def test_without_systemd_nothing_runs(environment: dict[str, str]) -> None:
    before = threading.active_count()
    with watchdog(lambda: True, environment):
        assert threading.active_count() == before
