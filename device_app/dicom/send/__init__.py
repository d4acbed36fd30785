"""Sending DICOM objects.

- `outbox`   parcels that wait to be sent, delivered at least once, across restarts
- `targets`  C-STORE providers and DICOMweb servers
"""
