"""Measuring what ships, through the same `Classifier` that the device runs.

- `latency`     model only, end to end, cold start, memory
- `machine`     what it was measured on
- `cold_start`  a cold `edge-ct classify` against a bare script, as ratios
- `demo`        the whole line on phantom slices, and its report
- `table`       rows of results/*.csv
- `report`, `plots`  one self-contained HTML page
"""
