"""Parts of the training loop.

- `options`      how to train
- `batches`      batches in memory, augmented
- `optimise`     optimisers and schedules
- `checkpoint`   checkpoints that survive a kill
- `teacher`      distillation
- `tensorboard`  logs for TensorBoard
- `lesion_loss`  loss of the lesion map
- `lesion_slices`  slices with masks, and how they join the batches
- `sampling`     how often a slice is drawn, by source and class
"""
