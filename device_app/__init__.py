"""The offline app: base dependencies only, no TensorFlow, no network.

- `classify`, `watch`  judge files and folders, once or as they arrive
- `cluster`            archives judged on a Ray cluster
- `judging`            names, files and DICOM objects -> judgements, and summaries of series and patients
- `heatmaps`           where the evidence for a decision lies
- `worklist`           stored results in one SQLite file, with reviews, an audit trail and queues
- `dicom`              the DICOM node: series in, reports and captures out
- `web`                `edge-ct serve`, the worklist as a local web page
- `bundles`            inspect, verify and sign bundles
- `maintenance`        whether a device is fit to judge, and its systemd units
- `pseudonym`          patients by a key that only the device has
- `command_options`, `paths`  what several commands share
"""
