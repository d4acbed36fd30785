"""`edge-ct`, for as long as there is somebody who wants it: it ends when its standard input does.

python -m edge_ct.system.child_command COMMAND [...]

Whoever started it holds the other end of that pipe, and the end of a killed process closes it. So a training never goes
on in a folder that the next attempt has begun to work in.
"""

from __future__ import annotations

import os
import sys
import threading

from .. import cli
from . import malloc


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os._exit(143)


if __name__ == "__main__":
    malloc.keep_freed_memory()  # the thread would have an arena of its own
    threading.Thread(target=_watch, daemon=True).start()
    cli.main(sys.argv[1:])
