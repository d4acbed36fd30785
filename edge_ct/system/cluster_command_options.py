"""What the value of `--cluster` means: the address of a Ray cluster, from the option and the environment."""

from __future__ import annotations

import os

_LOOPBACK = ("127.", "localhost:", "[::1]:")


def cluster_address(value: str) -> str | None:
    """Return the address of a cluster, and prepare the environment for Ray.

    Args:
        value: `auto` or HOST:PORT, as given to `--cluster`.

    Returns:
        HOST:PORT; None to start Ray on this machine: the value is `auto`, and RAY_ADDRESS is not set.
    """
    address = os.environ.get("RAY_ADDRESS") or None if value == "auto" else value
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None or address.startswith(_LOOPBACK):
        # This setting makes Ray use the loopback address for this machine and listen on no other interface.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return address
