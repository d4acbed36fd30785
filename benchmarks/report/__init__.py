"""`edge-ct benchmark report`: accuracy beside latency, for several models.

- `commands`    the command
- `collect`     every model scored and measured, each by commands in processes of their own
- `evaluation`  what `edge-ct evaluate` said of a model
- `verdict`     each model compared with the reference, and the Pareto front
- `page`, `tables`, `write`  the files of the report
"""
