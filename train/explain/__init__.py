"""Explaining what a network looks at: any run of the zoo, and the bundle made of it.

- `commands`        the commands of `edge-ct explain`
- `of_run`          what the commands on runs do; `of_bundle` the one on a bundle, and the check of maps
- `network`         a run opened for explanation: its layers, its log-odds
- `grad_cam`        Grad-CAM, Grad-CAM++ and the class map (Keras, TensorFlow backend)
- `rise`            RISE: a map without gradients, like `edge_ct.network_analysis.occlusion`
- `bundle_maps`     the maps of a bundle, and their agreement with those of its run
- `attended`        mean intensity of the attended region, base against Modified (Garg et al. 2020, section 2.5.1)
- `activations`     activation maps of layers along the depth
- `sanity_checks`   deletion and insertion, scrambled weights, energy in the lungs, pointing game
- `map_comparison`  overlap and rank correlation of maps
- `nearest`         training groups most similar to a slice, and a classifier that uses nothing but them
- `paper_figures`   several runs on the same slices, as in figures 4 to 7 of Garg et al. 2020
- `output`          the output folder of a command; `gallery` its HTML page; `reports` what is printed

The figures are drawn in `train/plots/`.
"""
