"""From slices to a trained run: audit the data, build a network, fit it, score it, combine several.

- `zoo`       the networks, built with any Keras API
- `augment`   what a training slice goes through, named and serialisable
- `preview`   a contact sheet of what that makes of slices
- `fit`       the training loop: split, early stopping, checkpoints, resume
- `evaluate`  scores of a run or a bundle on slices it has not seen
- `ensemble`  several runs as one: their mean or their vote
- `distil`    a run or an ensemble as the teacher of another network
- `continual` a run trained further on new slices, with replay of the old
- `audit`     what is wrong with a dataset before anything is trained on it
- `grouping`  which slices are one patient's, as far as can be told
- `synth`     phantom datasets
"""
