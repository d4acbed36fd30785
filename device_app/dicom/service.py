"""Running the DICOM node: listener, spool and node together, until a signal stops them."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_ct.bundle import Bundle

from ..judging.pool import open_judge
from ..watchdog import watchdog
from ..worklist.worklist import Worklist
from .node import Node, NodeOptions
from .receive.listener import Listener, ListenerOptions, silence_libraries
from .receive.spool import Spool
from .send.outbox import Target


def run_until_stopped(
    state: Path,
    bundle: Bundle,
    targets: Sequence[Target],
    *,
    listener_options: ListenerOptions,
    node_options: NodeOptions,
    max_spool: int,
    min_free: int,
    ready: Callable[[int], None],
    environment: Mapping[str, str],
) -> None:
    """Receive, judge and answer series until SIGTERM or SIGINT.

    Args:
        state: The folder of the worklist; the spool is its subfolder `dicom`.
        bundle: The bundle that judges.
        targets: Where answers are sent.
        listener_options: Options of the C-STORE provider.
        node_options: Options of the node.
        max_spool: Maximum size of the spool in bytes.
        min_free: Bytes that must stay free on the disk.
        ready: Called with the port once associations are accepted.
        environment: The variables that systemd has set for this process.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # First of all: worker processes are forked before files are opened.
    judge = open_judge(bundle, node_options.workers, engine=node_options.engine)
    with judge, Worklist(state) as worklist:
        spool = Spool(state / "dicom", worklist, max_spool, min_free)
        node = Node(worklist, spool, bundle, targets, node_options, judge)
        node.start()
        listener = Listener(spool, node.arrived, listener_options)
        ready(listener.port)
        with watchdog(lambda: not judge.broken and node.alive and listener.alive, environment):
            stop.wait()
        listener.stop()
        node.stop()


def log_to_stderr() -> None:
    """Write the log of receiving and sending to standard error, without the logs of the DICOM libraries."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", force=True)
    for name in ("edge_ct.listen", "edge_ct.send"):
        logging.getLogger(name).setLevel(logging.INFO)
    silence_libraries()
