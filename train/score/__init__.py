"""`edge-ct evaluate` and `edge-ct ensemble`: predict and score labelled slices.

- `commands`          the commands
- `predict`           probabilities predicted by a run
- `evaluate`          scores of a run or a bundle on slices that it was not trained on
- `run_scores`        the scores in a run folder: written, printed
- `group_scores`      scores by patient or series
- `ensemble`          several runs combined into one
- `seed_study_table`  the table of the seed study, with our figures beside the published ones
"""
