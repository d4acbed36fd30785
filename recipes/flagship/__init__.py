"""How the shipped models are made: `python -m edge_ct.recipes.flagship RECIPE ...`.

- `pipeline`    teachers, students and bundles, fold by fold
- `recipe`      the JSON file that says what to train
- `results`     what the models say about the test part of each fold
- `evidence`    the tables that follow from these results
- `shipping`    copying the chosen bundles to where wheels take them from
- `model_card`  the model card
"""
