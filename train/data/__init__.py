"""`edge-ct data`: make, check, group and preview training data.

- `commands`       the command
- `audit`          what is wrong with a data set; `shortcuts` what gives the label away without any lung
- `grouping`       which slices are likely to be one patient's; `similarity` compares slices
- `synthesise`     phantom data sets
- `augment`        augmentation policies; `preview` draws them, `contact_sheet` lays pictures out
"""
