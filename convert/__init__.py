"""From a trained run to verified TFLite bundles, with a measurement of what the conversion cost.

- `commands`    the command `edge-ct convert`
- `options`     the settings of a conversion
- `pipeline`    the whole conversion in order: a run in, bundles out
- `networks`    the Keras network of a run, and its deployed form
- `run_slices`  the slices of the run: representative, validation, test
- `shrink/`     steps that make the network smaller first
- `quantise/`   Keras network -> TFLite file of any variant
- `scoring`     a TFLite file run on validation and test slices
- `calibrate`   probabilities, operating point and zone of refer, fitted on the file's own outputs
- `gate`        the file compared with fp32 on the same slices; a file that lost too much is not written
- `bundling`    manifest, golden slices and outlier detector: the content of the bundle
- `tflite_metadata`  names, labels and licence in the file, for readers of TFLite Metadata
- `report`      the result as text; `plots` its figure
"""
