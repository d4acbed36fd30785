"""One-off experiments: each module is a program that writes one table of `benchmarks/results/`.

- `cold_start`, `bare_inference`  a cold `edge-ct classify` against a bare LiteRT script
- `peers`, `peer_worker`          the same network in other inference engines, measured in turns
- `around_the_model`              what surrounds the model: file to answer, folder, lesion map, engines, as ratios
- `training_ratio`               `edge-ct train` with all it can learn from, against a bare `fit`, in turns
- `cluster_archive`               20,000 files on two Ray workers, one of which is killed
- `heatmap_cost`                  what heat maps add to the time of classification
- `dicom_round_trip`              a DICOM series sent to the node, and its report back
- `serve_under_load`              the web page with many clients
- `conversions`                   every TFLite variant of one run, compared with fp32
- `groups_table`, `model_rows`    rows of the committed tables, made from what commands print as JSON
"""
