"""All figures of the training wing; every one is readable in greyscale print.

- `canvas`              the one module that imports matplotlib: backend, titles, saving
- `training_plots`      learning curves, confusion matrices and the box plots of a study
- `picture_sheet`       a sheet of slices, pixel for pixel, with captions
- `map_plots`           heat maps over slices, and activation maps of layers
- `paper_figure_plots`  several networks on the same slices, as figures 4 to 7 of Garg et al. 2020
"""
