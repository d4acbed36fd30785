"""`edge-ct demo`: `run` runs the commands, `page` writes the report."""
