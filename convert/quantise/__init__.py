"""From a Keras network to TFLite files.

- `variants`            the files of one network, one for each requested variant
- `keras_to_tflite`     the conversion by TensorFlow's converter
- `ai_edge`             the other quantiser: recipes, ranges, layers that stay in float
- `calibration_ranges`  activation ranges, measured on representative slices
- `rounding`            kernels rounded to their int8 grid so that outputs change least
- `mixed_precision`     a search for the layers that must stay in float
- `layer_errors`        signal-to-noise ratio of a quantised file, layer by layer
"""
