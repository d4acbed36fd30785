"""Looking at a network from outside: its cost and what it responds to.

- `outliers`         whether an embedding is far from those of the training slices
- `macs`             multiply-accumulates of a TFLite graph
- `receptive_field`  where the cells of a class map look
- `occlusion`        which parts of a slice the output depends on, by blurring them
"""
