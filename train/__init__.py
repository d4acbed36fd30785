"""From slices to a trained run: check the data, build a network, train it, score it, explain it.

- `data`       check, group, preview and synthesise data sets (`edge-ct data`)
- `zoo`        the networks, built with any Keras API (`edge-ct models`)
- `fit`        the training loop (`edge-ct train`); `fitting` holds its parts
- `continual`  train a run further on new slices, replaying old ones (`edge-ct train --from`)
- `study`      cross-validation and comparison of networks, on one machine or a cluster (`edge-ct train --folds`)
- `score`      score runs and bundles, combine runs (`edge-ct evaluate`, `edge-ct ensemble`)
- `explain`    show what decisions rest on (`edge-ct explain`)

`plots` holds the wing's figures, and `published_results` the figures that the papers report.
"""
