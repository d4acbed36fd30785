"""Where Keras computes: the GPU that its backend finds, or the processor; never one in place of the other unsaid."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import version
from typing import Any, Literal

import msgspec

from edge_ct.errors import EdgeCTError, MissingExtra
from edge_ct.system import native_output
from edge_ct.system.host import processors

from .machine import describe

Wanted = Literal["auto", "cpu", "gpu"]


class Device(msgspec.Struct, frozen=True):
    """What runs compute on. kind: `cpu` or `gpu`; backend: Keras and the framework below it, with versions.

    threads: of the processor, within one operation; 1 on a GPU, whose own parallelism has no such number.
    """

    kind: Literal["cpu", "gpu"]
    name: str
    backend: str
    threads: int


def choose(wanted: Wanted, threads: int) -> Device:
    """Settle on a device before any network is loaded. threads: of TensorFlow on a CPU; 0 leaves it its own number.

    Raises `EdgeCTError` where a GPU is asked for by name and the backend finds none.
    """
    with native_output.captured_native_stderr():
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
            raise EdgeCTError(f"no GPU: {backend} finds none on this machine; --ensemble-device cpu measures without")
        return Device("cpu", describe().cpu, backend, _on_cpu(framework, threads))


def find_gpu(framework: str) -> str | None:
    """The name of the first GPU that Keras' backend computes on; None where it finds none."""
    found: Any
    if framework == "tensorflow":
        import tensorflow

        found = tensorflow.config.list_physical_devices("GPU")
        if not found:
            return None
        details = tensorflow.config.experimental.get_device_details(found[0])
        return str(details.get("device_name", found[0].name))
    if framework == "torch":
        import torch

        return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else None
    import jax

    found = [device for device in jax.devices() if device.platform == "gpu"]
    return str(found[0].device_kind) if found else None


def scope(device: Device) -> AbstractContextManager[Any]:
    """Inside, Keras computes on `device`."""
    import keras

    return keras.device("cpu:0") if device.kind == "cpu" else nullcontext()


def _on_cpu(framework: str, threads: int) -> int:
    """Returns the threads that the framework works with."""
    if framework != "tensorflow":
        return processors()
    import tensorflow

    with suppress(RuntimeError):  # it has begun to work already
        tensorflow.config.set_visible_devices([], "GPU")
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    return tensorflow.config.threading.get_intra_op_parallelism_threads() or processors()
