"""Studies: `edge-ct train` with several networks, folds or rounds.

- `commands`  the options of a study, and what is printed
- `plan`      what is trained on which splits (study.json)
- `runner`    runs the jobs of a study and writes its tables
- `cluster`   runs the jobs on a Ray cluster
- `estimate`  estimates how long a study takes (`--dry-run`)
- `results`   results by job and by network, with confidence intervals
- `tables`    the tables, beside the figures of the papers
"""
