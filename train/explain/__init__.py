"""Seeing what a network looks at: any run of the zoo, and the bundle made of it.

- `network`      a run opened for looking into: its layers, its log-odds
- `cam`          Grad-CAM, Grad-CAM++ and the class map (Keras, TensorFlow backend)
- `perturb`      occlusion and RISE: maps without gradients, of anything that gives log-odds
- `bundle_maps`  the maps of a bundle, and how well they agree with those of its run
- `attended`     mean intensity of the attended region, base against Modified (Garg et al. 2020, section 2.5.1)
- `activations`  what the layers respond to, along the depth
- `faithful`     do the maps mean anything? Deletion, insertion, scrambled weights, lungs, known lesions
- `nearest`      the training groups that are most like a slice, and a classifier of nothing but them
- `figures`      the pictures; `gallery` the page
"""
