"""The DICOM node: CT series in over the network, structured reports and heat maps out. Needs the `dicom` extra.

- `commands`      `edge-ct listen`, `send` and `export`; their shared options in `connection_options`
- `service`       runs the node and its listener until a signal stops them
- `receive/`      C-STORE provider, admission checks, spool on disk
- `node`          received series -> results -> objects to send
- `series_judge`  gives received objects to worker processes
- `received_jobs` what a worker process does with an object
- `series_clock`  the open series, and when each is complete
- `reply/`        the objects that answer a series
- `send/`         outbox and targets (C-STORE, STOW-RS)
- `deidentify`    export for research by PS3.15's Basic Profile
- `peers`         AE titles, addresses and TLS
- `uids`          reproducible UIDs
"""
