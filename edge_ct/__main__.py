"""`python -m edge_ct` is `edge-ct`."""

from edge_ct.cli import main

main()
