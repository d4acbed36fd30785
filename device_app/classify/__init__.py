"""`edge-ct classify`: classify files and folders.

- `commands`  the command
- `results`   naming, explaining, drawing and storing each judgement
"""
