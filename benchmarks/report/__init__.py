"""`edge-ct benchmark report`: accuracy beside latency, for several models.

- `commands`  the command
- `collect`   every model evaluated and measured, each by a command of its own
- `verdict`   each model against the reference: on the Pareto front or not
- `page`, `tables`, `write`  the files of the report
"""
