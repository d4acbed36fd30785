"""Steps that make a network smaller before it is converted.

- `steps`          the steps and the order in which they run
- `slim`           remove channels
- `prune`          set weights to zero
- `qat`            quantisation-aware training
- `finetune`       training after a step
- `tf_keras_twin`  the same network in tf_keras, which pruning and QAT need
"""
