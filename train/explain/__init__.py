"""Seeing what a network looks at: any run of the zoo, and the bundle made of it.

- `network`      a run opened for looking into: its layers, its log-odds
- `grad_cam`          Grad-CAM, Grad-CAM++ and the class map (Keras, TensorFlow backend)
- `rise`      RISE: a map without gradients, as `edge_ct.network_analysis.occlusion`, of anything that gives log-odds
- `bundle_maps`  the maps of a bundle, and how well they agree with those of its run
- `attended`     mean intensity of the attended region, base against Modified (Garg et al. 2020, section 2.5.1)
- `activations`  what the layers respond to, along the depth
- `sanity_checks`     do the maps mean anything? Deletion, insertion, scrambled weights, lungs, known lesions
- `nearest`      the training groups that are most like a slice, and a classifier of nothing but them
- `paper_figures`     several runs on the same slices, as figures 4 to 7 of Garg et al. 2020;
                 `paper_figure_plots` draws them
- `plots`      the other pictures; `gallery` the page; `text` what the commands print; `of_run` what they do
"""
