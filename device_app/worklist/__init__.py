"""Stored results: one SQLite file.

- `commands`     `edge-ct worklist`
- `worklist`     results, reviews and retention
- `database`     the file, its schema and its transactions
- `records`      judgements as rows
- `audit_trail`  the hash-chained audit trail
- `queue`        work that survives restarts
- `export`       CSV, JSON and FHIR
"""
