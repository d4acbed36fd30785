"""systemd's watchdog: a service that is healthy says so, and systemd restarts one that does not (sd_notify(3)).

Outside of systemd, or without WatchdogSec in the unit, nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping


@contextlib.contextmanager
def watchdog(healthy: Callable[[], bool], environment: Mapping[str, str]) -> Iterator[None]:
    """Tell systemd in the background that this process is alive, as long as it is healthy.

    Args:
        healthy: Called from another thread, twice in each interval of the watchdog.
        environment: The variables that systemd has set for this process.
    """
    address, seconds = environment.get("NOTIFY_SOCKET", ""), _interval(environment)
    stop = threading.Event()
    if not address or seconds is None:
        yield
        return

    def run() -> None:
        while True:
            if healthy():
                _send(address, "WATCHDOG=1")
            if stop.wait(seconds / 2):
                return

    threading.Thread(target=run, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _interval(environment: Mapping[str, str]) -> float | None:
    """Return the interval in seconds that systemd demands of this process; None if it demands none."""
    try:
        seconds = int(environment.get("WATCHDOG_USEC", "0")) / 1e6
        addressed = int(environment.get("WATCHDOG_PID", str(os.getpid()))) == os.getpid()
    except ValueError:
        return None
    return seconds if seconds > 0 and addressed else None


def _send(address: str, state: str) -> None:
    # An address that begins with @ is in the abstract namespace.
    path = f"\0{address[1:]}" if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(state.encode(), path)
