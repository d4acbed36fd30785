"""`edge-ct data`: make, check, group and preview training data.

- `commands`       the commands
- `audit`          problems of a data set; `shortcuts` finds properties that predict the label without the lungs
- `grouping`       guesses which slices belong to one patient; `similarity` compares slices
- `synthesise`     phantom data sets
- `augment`        augmentation policies; `preview` shows what they do
- `contact_sheet`  contact sheets of groups and pairs
"""
