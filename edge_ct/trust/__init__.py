"""Whether a bundle may be used.

- `opening`    read, verify and try a bundle before a command uses it
- `signature`  Ed25519 signatures: who made a bundle
- `trial`      the first load of a bundle, in a process that may end over it
"""
