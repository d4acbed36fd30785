"""From a trained run to verified bundles, and proof of what the shrinking cost.

- `material`   the run's slices: representative, validation, test
- `shrinking`  where a step that makes the network smaller plugs in
- `steps`      what can be done there: `slim` channels, `prune` weights, `qat`; each with `finetune`, on the network's
               `twin` in tf_keras, imported only then
- `quantise`   Keras -> TFLite flatbuffer of any variant, with its outputs
- `ai_edge`    the other quantiser: recipes, calibrations, layers kept in float; `mixed` finds which
- `layers`     signal to noise of a quantised file, layer by layer; `plots` draws it
- `files`      the flatbuffers of one network, each as the options say
- `rounding`   kernels rounded onto their int8 grid so that outputs, not weights, change least
- `scoring`    a flatbuffer on validation and test slices
- `calibrate`  probabilities, operating point and indeterminate zone, fitted on the converted file's own outputs
- `gate`       converted against fp32 on the same slices: pass, or nothing is written
- `pack`       manifest, golden slices, the bundle's bytes
- `package`    all of it, in order: run in, bundles out
- `options`    how; `table`  what came of it, as text
"""
