"""The engines by name, and which of them are installed. Nothing is imported to find out."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

EngineName: TypeAlias = Literal["litert", "openvino"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
DEFAULT_ENGINE: EngineName = "litert"
# `litert` is tflite-runtime where LiteRT has no wheel.
_PACKAGES: dict[EngineName, tuple[str, ...]] = {
    "litert": ("ai-edge-litert", "tflite-runtime"),
    "openvino": ("openvino",),
}


def installed_engines() -> tuple[EngineName, ...]:
    """Return the engines that are installed; LiteRT is always one of them."""
    return tuple(name for name in ENGINES if name == DEFAULT_ENGINE or find_spec(name) is not None)


def describe_engine(name: EngineName) -> str:
    """Return the package of an engine and its version, or `none`."""
    # It imports a mail parser, which a cold `classify` does without.
    from importlib.metadata import PackageNotFoundError, version

    for package in _PACKAGES[name]:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return "none"
