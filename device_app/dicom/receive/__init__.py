"""Receiving DICOM objects.

- `listener`           the C-STORE and C-ECHO provider
- `admission`          which objects are accepted, and the DICOM status of a refusal
- `limits`             limits of messages
- `connection_limits`  limits and deadlines of connections and associations
- `spool`              received objects on disk and in the queue
"""
