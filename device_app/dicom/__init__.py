"""The DICOM node: CT series in, by network or folder; structured reports and captures out. Needs the `dicom` extra.

In:
- `header`      what an object says of each of its frames, and why a frame is skipped
- `series`      frames -> judged slices -> results of series and patient
- `study`       files, folders and DICOMDIR -> series
- `spool`       received objects on the disk and in the worklist's queue
- `admission`   what a received object must be, and the DICOM status of a refusal
- `listener`    the C-STORE and C-ECHO provider
- `node`        received series -> results -> objects to send

Out:
- `uids`        identifiers that follow from what an object is made of
- `capture`     the most telling slices as Secondary Capture, heat map and warning burnt in
- `report`      the result as Comprehensive SR
- `outbox`      objects to send: at least once, through restarts
- `sender`      C-STORE and STOW-RS
- `deidentify`  PS3.15's Basic Profile
"""
