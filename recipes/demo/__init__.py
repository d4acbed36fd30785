"""`edge-ct demo`: `run` carries out the commands, `page` writes the report."""
