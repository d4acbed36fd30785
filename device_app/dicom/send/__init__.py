"""Sending DICOM objects.

- `outbox`   objects waiting to be sent, delivered at least once, across restarts
- `targets`  C-STORE and STOW-RS
"""
