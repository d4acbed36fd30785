"""Whole lines of commands: how the demo, the shipped models and the figures of the papers are made.

- `commands`   `edge-ct demo`
- `resumable`  steps that are done once, whatever is killed in between
- `demo`       the whole line on phantom slices, and its report
- `flagship`   teachers, students and bundles of a recipe, fold by fold; its evidence and model card
"""
