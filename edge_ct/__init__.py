"""edge-ct: CT-slice classifiers from a training run to a device without internet. Research use only.

The Python API:

    from edge_ct import Classifier
    result = Classifier("accurate").classify("slice.png")
    print(result.decision, result.probability)

The modules of this package, in the order in which a slice meets them:

- `slices`      a path or bytes -> `Slice`: grey uint8 pixels and their identity
- `preprocess`  `Slice` -> the uint8 `[size, size, 1]` that every network takes
- `bundle`      the one-file model: a TFLite flatbuffer, its `manifest` and its golden slices
- `runtime`     the TFLite interpreter, whichever is installed
- `decision`    quantised outputs -> calibrated probability -> positive, negative, refer or rejected
- `classifier`  all of these behind one call: the device, the gate and the benchmarks use it

`dataset`, `metrics`, `run` and `phantom` serve training and evaluation; a device never imports them.
The other packages are `edge_ct.train`, `edge_ct.convert`, `edge_ct.device_app`, `edge_ct.benchmarks` and
`edge_ct.recipes`.
"""

from __future__ import annotations

from pathlib import Path as _Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bundle import Bundle
    from .classifier import Classifier, Result
    from .preprocess import Preprocess

__all__ = ["Bundle", "Classifier", "Preprocess", "Result", "__version__"]
try:
    from ._version import __version__
except ModuleNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

_API = {"Bundle": "bundle", "Classifier": "classifier", "Preprocess": "preprocess", "Result": "classifier"}

_here = _Path(__file__).resolve().parent
if not (_here / "device_app").is_dir():
    # A checkout, where the wings lie beside this package and only the wheel puts them into it: without this,
    # `python` started in the checkout would find `edge_ct` and none of its wings.
    __path__.append(str(_here.parent))


def __getattr__(name: str) -> object:
    """Import a name of the Python API when it is first used, so that `import edge_ct` stays fast."""
    if name not in _API:
        raise AttributeError(f"module 'edge_ct' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_API[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
