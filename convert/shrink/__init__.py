"""Steps that make a network smaller before it is converted.

- `steps`          the steps in their order, and the network that results
- `slim`           remove channels
- `prune`          set weights to zero
- `qat`            quantisation-aware training
- `finetune`       the training that each step needs
- `tf_keras_twin`  the same network in tf_keras, which pruning and quantisation-aware training need
"""
