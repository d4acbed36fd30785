"""`edge-ct classify`: classify files and folders.

- `commands`  the command
- `results`   what is done with each judgement: print it, draw it, store it
"""
