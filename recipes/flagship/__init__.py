"""How the shipped models are made.

- `pipeline`    teachers, students and bundles, fold by fold
- `recipe`      the JSON file that says what to train
- `evidence`    tables of the folds' test results
- `model_card`  the model card
"""
