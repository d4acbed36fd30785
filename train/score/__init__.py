"""`edge-ct evaluate` and `edge-ct ensemble`.

- `commands`          the commands
- `predict`           probabilities of a run
- `evaluate`          scores on slices that were not seen in training
- `run_scores`        scores that a finished run keeps
- `group_scores`      scores by patient
- `ensemble`          several runs as one
- `seed_study_table`  the table of the first study
"""
