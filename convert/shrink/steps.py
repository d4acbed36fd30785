"""What can be done to a network before it is quantised, in its order: slim, prune, learn with the roundings in place.

Slimming makes it faster, pruning makes its file compress better, quantisation-aware training makes its int8 file lose
less. Each trains on the run's training part, judges by its validation part, and never sees its test part.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.manifest import Variant

from ..quantise import keras_to_tflite
from ..run_slices import Material
from .shrinking import Shrunk

# Of Adam at the start, after slimming and while pruning; with the roundings in place little is to be learned.
_RATE, _QAT_RATE = 2e-4, 2e-5
_REPRESENTATIVE = 128


class Steps(msgspec.Struct, frozen=True):
    """slim: share of channels to remove. prune: share of weights to set to zero. qat: epochs of quantisation-aware
    training; 0 is none, of each. epochs: of fine-tuning, after slimming and while pruning.
    """

    slim: float = 0.0
    prune: float = 0.0
    qat: int = 0
    epochs: int = 4
    seed: int = 0

    @property
    def label(self) -> str:
        """`slimmed-0.3`, `pruned-0.7-qat`; "" where nothing is done."""
        slimmed = f"slimmed-{self.slim:g}" if self.slim else ""
        pruned = f"pruned-{self.prune:g}" if self.prune else ""
        return "-".join(part for part in (slimmed, pruned, "qat" if self.qat else "") if part)

    def check(self, variants: tuple[Variant, ...], sparse: bool = False, quantizer: str = "tensorflow") -> None:
        """Raise `EdgeCTError` where a variant or quantiser makes nothing of what was done, or `sparse` storage finds no
        zeros."""
        if sparse and not self.prune:
            raise EdgeCTError("--sparse stores kernels without their zeros, which --prune makes")
        others = [variant for variant in variants if variant != "int8"]
        if self.qat and others:
            raise EdgeCTError(f"quantisation-aware training is for int8, not for {', '.join(others)}: leave out --qat")
        if self.qat and quantizer != "tensorflow":
            raise EdgeCTError("quantisation-aware training is for TensorFlow's converter: leave out --quantizer")

    def __call__(self, model: Any, material: Material) -> Shrunk:
        """Shrink a Keras 3 network of one output; what comes back is tf_keras where there was quantisation-aware
        training. Raises `EdgeCTError` for a network that a step cannot be done to."""
        if not self.label:
            return Shrunk(model)
        # Here, as tf_keras and tfmot take seconds to import, which a plain conversion need not wait for.
        from . import prune, qat, slim
        from .finetune import Lessons, Recipe

        slow, quick = Recipe(self.epochs, _RATE, seed=self.seed), Recipe(self.qat, _QAT_RATE, seed=self.seed)
        progress = material.progress
        if self.slim:
            slim.blocks(model)  # before anything takes time
        if self.qat and (left := qat.examine(model).left):
            raise EdgeCTError(
                f"{model.name}: quantisation-aware training does not take {', '.join(left)}, so that no full-integer "
                "file would come of it: leave out --qat"
            )
        lessons = Lessons.of(model, material)
        account: dict[str, Any] = {}
        parameters = None
        if self.slim:
            progress.say(f"slimming by {self.slim:g}")
            [images] = material.representative(_REPRESENTATIVE, self.seed)
            model, account["slim"] = slim.slim_and_train(
                model, self.slim, material.preprocess.normalise(images), lessons, slow, progress
            )
            parameters = model.count_params()
        if self.prune:
            progress.say(f"pruning to {self.prune:g}")
            account["prune"] = prune.prune(model, self.prune, lessons, slow, progress)
        if not self.qat:
            return Shrunk(model, self.label, parameters=parameters, account=account)
        progress.say("training with roundings in place")
        quantised, taken = qat.prepare(keras_to_tflite.deployed(model), keep_zeros=bool(self.prune))
        [images] = material.representative(_REPRESENTATIVE, self.seed)
        qat.set_ranges(quantised, material.preprocess, images)
        account["qat"] = qat.train(quantised, taken, lessons, quick, progress)
        return Shrunk(quantised, self.label, exact=True, parameters=parameters, account=account)
