"""`python -m edge_ct` is `edge-ct`."""

from .cli import main

main()
