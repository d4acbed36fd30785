"""A Keras network -> TFLite flatbuffers.

- `variants`            the flatbuffers of one network, one for each requested format
- `keras_to_tflite`     the conversion itself
- `ai_edge`             the second quantiser: recipes, calibration, layers that stay in float
- `calibration_ranges`  activation ranges, measured on representative slices
- `rounding`            kernels rounded to their int8 grid so that outputs change least
- `mixed_precision`     which layers to keep in float
- `layer_errors`        signal to noise of a quantised file, layer by layer
"""
