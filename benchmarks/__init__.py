"""Measurements of what ships, through the same `Classifier` that the device runs.

- `commands`             `edge-ct benchmark`
- `measure`              latency, memory and throughput of a bundle or run; comparison of two measurements
- `report`               accuracy beside latency, for several models
- `robustness`           a bundle on slices that were degraded in one way at a time
- `out_of_distribution`  what a bundle rejects that is not a CT slice, and passes that is one
- `plots`                the plots of all reports
- `experiments`          one-off programs, each of which writes a table of `results/`
- `suites`               pytest-benchmark suites
"""
