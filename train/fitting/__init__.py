"""Parts of the training loop.

- `options`      the options of a training
- `batches`      batches of augmented slices
- `optimise`     optimiser, learning-rate schedule, loss, precision
- `fused_batch_norm`  batch normalisation as one kernel
- `checkpoint`   checkpoints that survive a kill, early stopping
- `teacher`      a finished run as the teacher in distillation
- `tensorboard`  logs for TensorBoard
- `lesion_loss`  loss of the lesion map
- `lesion_slices`  slices with masks, and how they join the batches
- `sampling`     how often a slice is drawn, by source and class
"""
