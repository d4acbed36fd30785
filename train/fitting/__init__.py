"""Parts of the training loop.

- `options`      how to train
- `batches`      batches in memory, augmented
- `optimise`     optimisers and schedules
- `checkpoint`   checkpoints that survive a kill
- `teacher`      distillation
- `tensorboard`  logs for TensorBoard
"""
