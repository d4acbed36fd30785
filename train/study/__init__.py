"""Studies: many networks, folds and rounds; `edge-ct train --folds`.

- `commands`  what `train` does when several trainings are asked for
- `plan`      the jobs of a study
- `runner`    runs them; `cluster` on Ray
- `results`   collected results; `tables` their tables and plots
- `estimate`  time and memory that a study will take
"""
