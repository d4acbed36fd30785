"""Measuring what ships, through the same `Classifier` that the device runs.

- `timing`      one query many times: distribution, drift, the timer's own cost
- `latency`     a bundle: model only, end to end, cold start, memory
- `run_latency`, `devices`  a run or an ensemble in Keras, on a processor or GPU
- `workers`     a folder judged by several workers
- `operators`   a graph's operators, their multiply-accumulates and times
- `processes`   whole processes: wall time, peak memory
- `machine`     what it was measured on, and how hot, fast and busy that was
- `compare`     two measurements: what changed beyond noise
- `text`        a measurement as lines for people
- `cold_start`  a cold `edge-ct classify` against a bare script, as ratios
- `demo`        the whole line on phantom slices, and its report
- `flagship`, `flagship_recipe`  teachers, students and bundles of a recipe, fold by fold
- `resumable`, `child`  its steps: commands that are done once, whatever is killed
- `evidence`    what the test parts of its folds say
- `robustness`  a bundle on slices that were exported worse
- `out_of_distribution`  what it rejects of what is no slice
- `model_card`  all of that in words, for people and for the bundle
- `programs`    how those that are no commands of edge-ct end
- `table`       rows of results/*.csv
- `demo_page`   its page
- `kit`         one archive for a device without network; the same over ssh
- `peers`, `peer_worker`  the same network in other engines, in turns
- `loadgen`     MLPerf's SingleStream and Offline scenarios
- `tradeoff`    accuracy beside latency: every model scored and measured by commands of its own
- `verdict`     against the reference, on the Pareto front, in one sentence
- `tradeoff_report`, `tradeoff_page`, `tradeoff_tables`  its files
- `page`, `plots`  self-contained HTML, and its pictures
"""
