"""How a model is made from slices of several sources, with a lesion map.

- `source_recipe`       the JSON file that says what to train on, and how
- `source_tables`       one table of all slices, one of all lesion masks
- `cross_fit_pipeline`  folds, final models calibrated on the folds, trials, step by step
- `fold_predictions`    what a bundle says of the test part of its fold
- `source_evidence`     the tables of results, by split and source
- `lesion_evidence`     the lesion map against masks of patients that it did not learn from
- `published_results`   the tables of results for the repository, and the worst errors
- `result_tables`       those tables, read back
- `results_pages`       README's table and the page of results, from those tables
- `source_model_card`   the model card
- `bundle_shipping`     copying the bundles to where wheels take them from
- `speed_study`         how accurate and how fast the trials are: the search for the fast model
- `commands`            the command line
"""
