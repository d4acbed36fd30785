"""edge-ct: CT-slice classifiers from a training run to a device without internet. Research use only.

The ground floor, in the order in which a slice meets it:

- `slices`      bytes or a path -> `Slice`: grey uint8 pixels and their identity
- `preprocess`  `Slice` -> the uint8 `[size, size, 1]` that every network here sees
- `bundle`      the one-file model: a TFLite flatbuffer, its `manifest`, its golden slices
- `runtime`     the TFLite interpreter, whichever is installed
- `decision`    quantised outputs -> calibrated probability -> positive, negative, refer or rejected
- `classifier`  all of these behind one call: what the device, the gate and the benchmarks use

`dataset`, `metrics`, `run` and `phantom` serve training and proof; a device never imports them.
The wings are `edge_ct.train`, `edge_ct.convert`, `edge_ct.device_app` and `edge_ct.benchmarks`.
"""

from pathlib import Path as _Path

__version__ = "0.1.0"

_here = _Path(__file__).resolve().parent
if not (_here / "device_app").is_dir():
    # A checkout, where the wings lie beside this package and only the wheel puts them into it: without this,
    # `python` started in the checkout would find `edge_ct` and none of its wings.
    __path__.append(str(_here.parent))
