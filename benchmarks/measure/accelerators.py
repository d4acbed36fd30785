"""The device that Keras computes on: the GPU that its backend finds, or the processor.

A measurement never falls back silently from a GPU that was asked for to the processor.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import version
from typing import Any, Literal

import msgspec

from edge_ct.errors import EdgeCTError, MissingExtra
from edge_ct.system.host import processors
from edge_ct.system.native_output import captured_native_stderr

from .machine import describe

WantedDevice = Literal["auto", "cpu", "gpu"]


class Device(msgspec.Struct, frozen=True):
    """What a run is computed on.

    Attributes:
        kind: `cpu` or `gpu`.
        name: Name of the processor or GPU.
        backend: Keras and the framework below it, with versions.
        threads: Processor threads within one operation; 1 on a GPU.
    """

    kind: Literal["cpu", "gpu"]
    name: str
    backend: str
    threads: int


def choose_device(wanted: WantedDevice, threads: int) -> Device:
    """Choose a device before any network is loaded.

    Args:
        wanted: `auto` takes a GPU if there is one.
        threads: TensorFlow's threads within one operation on the processor; 0 keeps TensorFlow's default.

    Raises:
        EdgeCTError: A GPU was asked for by name and the backend finds none.
        MissingExtra: Keras is not installed.
    """
    with captured_native_stderr():
        try:
            import keras
        except ModuleNotFoundError as error:
            raise MissingExtra("measuring a run needs Keras: pip install 'edge-ct[train]'") from error
        framework = str(keras.backend.backend())
        gpu = None if wanted == "cpu" else find_gpu(framework)
        backend = f"keras {version('keras')} on {framework} {version(framework)}"
        if gpu:
            return Device("gpu", gpu, backend, 1)
        if wanted == "gpu":
            raise EdgeCTError(
                f"no GPU: {backend} finds none on this machine; measure on the processor with --device cpu "
                "(--ensemble-device cpu for a report)"
            )
        return Device("cpu", describe().cpu, backend, _set_up_cpu(framework, threads))


def find_gpu(framework: str) -> str | None:
    """Return the name of the first GPU that Keras' backend computes on, or None if it finds none."""
    gpus: Any
    if framework == "tensorflow":
        import tensorflow

        gpus = tensorflow.config.list_physical_devices("GPU")
        if not gpus:
            return None
        details = tensorflow.config.experimental.get_device_details(gpus[0])
        return str(details.get("device_name", gpus[0].name))
    if framework == "torch":
        import torch

        return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else None
    import jax

    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    return str(gpus[0].device_kind) if gpus else None


def device_scope(device: Device) -> AbstractContextManager[Any]:
    """Return a context in which Keras computes on `device`."""
    import keras

    return keras.device("cpu:0") if device.kind == "cpu" else nullcontext()


def _set_up_cpu(framework: str, threads: int) -> int:
    """Limit TensorFlow to the processor, and return the number of threads that the framework works with."""
    if framework != "tensorflow":
        return processors()
    import tensorflow

    with suppress(RuntimeError):  # TensorFlow refuses changes once it has started to work
        tensorflow.config.set_visible_devices([], "GPU")
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    return tensorflow.config.threading.get_intra_op_parallelism_threads() or processors()
