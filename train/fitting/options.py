"""What `train` is asked to do; stored in run.json, and compared when a run is resumed."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.splits import SplitKind

from ..data.augment import Augment, policy
from ..zoo import build

Schedule = Literal["cosine", "plateau", "constant"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


class Options(msgspec.Struct, frozen=True):
    """All that a training depends on, besides the slices.

    split_seed: draws the split; None for `seed`, which draws all else. folds, fold: the split is fold number `fold`,
    from 1, of so many, and `test` counts for nothing; 0 and 0 for an ordinary one. weights: "none", "imagenet" or a
    file. validation, test: shares of the slices. schedule: of the learning rate, whose peak is `learning_rate`. freeze:
    epochs at the start in which the backbone stays as it is. augment: a policy's name, or the .json file that `policy`
    was read from. class_weights: weigh a slice by how rare its class is. clip: largest norm of the gradient. ema: decay
    of the moving average of the weights that is validated and kept. clip and ema: 0 switches them off. teacher: run
    folder whose soft targets are learned too, "" for none; mixing: their share in the loss; temperature: by which both
    sides' logits are divided. start: run folder whose network is trained further, "" for a new one; replay_share: of
    the slices that it then learns from, those that it knows already.
    """

    network: str
    size: int = 224
    alpha: float = 1.0
    weights: str = "none"
    split: SplitKind = "random"
    seed: int = 0
    validation: float = 0.15
    test: float = 0.2
    epochs: int = 24
    batch: int = 32
    learning_rate: float = 5e-4
    patience: int = 8
    dropout: float = 0.2
    augment: str = "standard"
    policy: Augment | None = None
    positive: str = "COVID"
    schedule: Schedule = "cosine"
    freeze: int = 0
    class_weights: bool = False
    label_smoothing: float = 0.0
    clip: float = 0.0
    ema: float = 0.0
    precision: Precision = "float32"
    tensorboard: bool = False
    teacher: str = ""
    temperature: float = 2.0
    mixing: float = 0.7
    start: str = ""
    replay_share: float = 0.5
    split_seed: int | None = None
    folds: int = 0
    fold: int = 0

    def check(self) -> None:
        """Raise `EdgeCTError` for a network, a size, a policy or a fold that there is not."""
        if self.fold > self.folds:
            raise EdgeCTError(f"there is no fold {self.fold} of {self.folds}")
        build.check_size(build.find(self.network), self.size)
        self.augmentation()

    def augmentation(self) -> Augment:
        """The changes that training slices go through."""
        return self.policy or policy(self.augment)

    @property
    def drawn_with(self) -> int:
        """The seed of the split."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def soft_targets(self) -> bool:
        """Whether the network learns from probabilities rather than from labels."""
        return bool(self.teacher) or self.label_smoothing > 0
