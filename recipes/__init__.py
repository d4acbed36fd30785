"""Recipes: sequences of commands that make the demo, the shipped models and the figures of the papers.

- `commands`       `edge-ct demo`
- `recipe_file`    reading recipes, and finding the weights that they name
- `resumable`      steps that are done once, whatever is killed in between
- `plots`          the plots of the recipes' reports
- `demo`           the whole product on phantom slices, and a report
- `flagship`       teachers, students and bundles of one source, fold by fold; their evidence and model card
- `multi_source`   the shipped models, of several sources; their evidence and model card
- `paper_figures`  figures 4 to 7 of Garg et al. 2020 on phantoms, from paper_figures.json
"""
