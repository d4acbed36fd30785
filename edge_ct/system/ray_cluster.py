"""Connecting to a Ray cluster, or starting Ray on this machine, for the commands that take `--cluster`."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

from ..errors import EdgeCTError, MissingExtra


def import_ray() -> Any:
    """Import Ray. Raises `MissingExtra` if it is not installed."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("--cluster needs Ray: pip install 'edge-ct[cluster]'") from error
    return ray


@contextmanager
def connected(
    ray: Any, address: str | None, object_store_bytes: int, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, inside a `with` block.

    Args:
        ray: The module, from `import_ray`.
        address: HOST:PORT of a Ray cluster; None to start Ray on this machine.
        object_store_bytes: Size of the object store of a cluster that is started here.
        environment: Environment variables of the worker processes.

    Raises:
        EdgeCTError: No cluster answers, or Ray cannot be started.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": object_store_bytes}
    else:
        check_address(address)
        options["address"] = address
    options["runtime_env"] = {"env_vars": dict(environment or {})}
    # Ray prints messages about lost nodes, also while it disconnects; they are not part of the command's output.
    with redirect_stdout(sys.stderr):
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EdgeCTError(f"cannot {'connect to' if address else 'start'} Ray: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()


def check_address(address: str) -> None:
    """Raise `EdgeCTError` if nothing answers at the address: Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise EdgeCTError(
            f"--cluster must be auto or HOST:PORT, the address that `ray start --head` prints, not {address!r}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise EdgeCTError(f"{address}: no Ray cluster answers: {error}") from error


def count_places(ray: Any, resources: Mapping[str, float], advice: str) -> int:
    """Return how many processes with these resources can run in parallel.

    Args:
        ray: The module, connected to a cluster.
        resources: What each process reserves, by Ray's names: `CPU`, `GPU`, `memory` in bytes.
        advice: What the user can do if there is no room.

    Raises:
        EdgeCTError: No node has room for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    resources = {name: amount for name, amount in resources.items() if amount}
    places = sum(min(int(node.get(name, 0) / amount) for name, amount in resources.items()) for node in nodes)
    if not places:
        largest = {name: max(node.get(name, 0) for node in nodes) for name in resources}
        shown = ", ".join(
            f"{_amount(name, resources[name])} (largest: {_amount(name, largest[name])})" for name in resources
        )
        raise EdgeCTError(f"no node has room for a job of {shown}; {advice}")
    return places


def _amount(name: str, amount: float) -> str:
    return f"{amount / 2**30:.1f} GiB" if name == "memory" else f"{amount:g} {name}"
