"""The offline app: base dependencies alone, no TensorFlow, no network.

- `commands`  `edge-ct classify` and `edge-ct bundle`
- `judging`   paths, folders and standard input -> judgements, in order
- `classifying` what `classify` does with each judgement; `rollup` counts them, and makes series and patients of slices
- `explanation` the class map, or occlusion, as evidence; `heatmap` draws it over its slice
- `worklist`  every result a row on the disk (`rows`), in one SQLite file (`store`) with a hash-chained trail (`audit`),
              work that survives restarts (`queues`), patients by `pseudonym`; `export` for others
- `dicom`     the DICOM node: series in, reports and captures out
- `web`       `edge-ct serve`, the worklist as a local page
- `watch`     a hot folder; `doctor` whether a device is fit to judge; `installing` systemd units
"""
