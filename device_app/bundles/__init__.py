"""`edge-ct bundle`: inspect, verify and sign bundles.

- `commands`   the commands
- `summary`    the manifest and the operators as lines for people
- `operators`  the operators of a graph, and which accelerators support them
"""
