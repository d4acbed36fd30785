"""From a trained run to a verified bundle, and proof of what the shrinking cost.

- `quantise`   Keras -> TFLite flatbuffer, fp32 or int8, with three outputs
- `rounding`   kernels rounded onto their int8 grid so that outputs, not weights, change least
- `calibrate`  probabilities, operating point and indeterminate zone, fitted on the converted file's own outputs
- `gate`       converted against fp32 on the same slices: pass, or nothing is written
- `package`    all of it, in order: run in, bundle out
"""
