"""The networks of both studies, built with any Keras API.

- `architectures`  the table of networks: names, families, smallest input sizes, groups
- `backbones`      convolutional backbones with random weights
- `pretrained`     backbones with ImageNet weights, converted to grey-scale input
- `builder`        a complete network: backbone plus classification head
- `catalogue`      `edge-ct models`: parameters, multiply-accumulates, capabilities

`build`, `find` and `ARCHITECTURES` are also available here. They are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .architectures import ARCHITECTURES, find
    from .builder import build

__all__ = ["ARCHITECTURES", "build", "find"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `edge-ct --help` does not load them."""
    if name == "build":
        from .builder import build

        return build
    if name in __all__:
        from . import architectures

        return getattr(architectures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
