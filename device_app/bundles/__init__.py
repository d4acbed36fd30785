"""`edge-ct bundle`: inspect, verify, sign and check bundles.

- `commands`   the command
- `operators`  the operators of a graph and which accelerators support them
"""
