"""The options of a training; stored in run.json and compared when a run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.preprocess import Crop, Preprocess
from edge_ct.splits import SplitKind

from ..data.augment import Augment, load_policy
from ..zoo.architectures import check_size, find
from ..zoo.lesion_decoder import check_network

Balance = Literal["none", "sources"]
Schedule = Literal["cosine", "plateau", "constant"]
Keep = Literal["best", "last"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


class TrainingOptions(msgspec.Struct, frozen=True):
    """Everything that a training depends on, besides the slices.

    Attributes:
        network: Name of an architecture.
        size: Side of the input in pixels.
        alpha: Width multiplier of MobileNetV2.
        weights: "none", "imagenet", a weights file, or the folder of a finished run of the same network.
        split: How slices are assigned to training, validation and test.
        seed: Seed of everything that is drawn at random.
        validation: Fraction of slices used for validation.
        test: Fraction of slices used for testing; ignored if `fold` is set.
        epochs: Maximum number of epochs.
        batch: Slices in a batch.
        learning_rate: Peak learning rate.
        patience: Epochs without a lower validation loss before training stops.
        keep: Which weights the run keeps: those of the epoch with the lowest validation loss, or those of the last
            epoch. With "last" no epoch is chosen by validation slices, and training does not stop early.
        average_start: Weight of the starting weights in the mean that the run keeps in the end; 0 keeps what was
            trained. The weights that it starts from must be those of a run. See `initial_network.average_with_start`.
        dropout: Dropout rate in the head.
        augment: Name of an augmentation policy, or the .json file that `policy` was read from.
        policy: Augmentation policy read from a file; None if `augment` is a name.
        positive: Name of the positive class.
        schedule: Schedule of the learning rate.
        freeze: Epochs at the start in which only the head is trained.
        class_weights: True to weight slices inversely to the frequency of their class.
        label_smoothing: Fraction of each label that is spread evenly over both classes.
        clip: Maximum norm of the gradient; 0 for no limit.
        ema: Decay of the moving average of the weights, which is validated and saved; 0 for no average.
        precision: Keras dtype policy of the computation.
        tensorboard: True to write logs for TensorBoard.
        teacher: Run folder of the teacher in distillation; "" for none.
        temperature: Temperature that divides the logits of teacher and student for the soft targets.
        mixing: Weight of the soft targets in the loss.
        start: Run folder of the network that is trained further; "" to train a new one.
        replay_share: Fraction of the training slices that are replayed from the first training.
        split_seed: Seed of the split; None to use `seed`.
        folds: Number of folds in cross-validation; 0 for a single split.
        fold: Number of this fold, from 1; 0 for a single split.
        crop: Whether slices are cropped to the lungs.
        test_source: The source that a source split tests on.
        balance: Whether slices are drawn by the square root of the size of their source and class, or as they are.
        main_source: The source that is half of the draws of each class if `balance` is set; "" for none.
        lesions: CSV of slices with lesion masks, for a network with a lesion map; "" for none.
        lesion_phantoms: Number of phantom patients with lesion masks.
        lesion_slices: Number of slices with masks in a batch.
        lesion_weight: Weight of the lesion map in the loss.
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
    crop: Crop = "none"
    test_source: str = ""
    balance: Balance = "none"
    main_source: str = ""
    lesions: str = ""
    lesion_phantoms: int = 0
    lesion_slices: int = 8
    lesion_weight: float = 1.0
    keep: Keep = "best"
    average_start: float = 0.0

    def check(self) -> None:
        """Raise `EdgeCTError` for an unknown network or policy, too small a size or an impossible fold."""
        if self.fold > self.folds:
            raise EdgeCTError(f"fold {self.fold} does not exist: there are {self.folds} folds")
        if self.average_start and not Path(self.weights).is_dir():
            raise EdgeCTError("--average-start needs --weights RUN, the folder of a finished run")
        check_size(find(self.network), self.size)
        if self.lesion_map:
            check_network(self.network, self.size)
            if self.lesion_slices >= self.batch:
                raise EdgeCTError(f"{self.lesion_slices} slices with masks leave no others in a batch of {self.batch}")
        self.augmentation()

    def augmentation(self) -> Augment:
        """Return the augmentation policy for training slices."""
        return self.policy or load_policy(self.augment)

    @property
    def effective_split_seed(self) -> int:
        """Seed of the split."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def soft_targets(self) -> bool:
        """True if the network is trained on probabilities instead of labels."""
        return bool(self.teacher) or self.label_smoothing > 0 or self.lesion_map

    @property
    def lesion_map(self) -> bool:
        """True if the network gets a lesion map."""
        return bool(self.lesions) or self.lesion_phantoms > 0

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing of the network."""
        return Preprocess(self.size, crop=self.crop)


def with_policy_file(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of options, with the content of the file if `augment` names a .json file.

    A resumed run must agree with the first one on the content of the policy, not only on the name of its file.
    """
    return {**values, "policy": load_policy(values["augment"])} if values["augment"].endswith(".json") else values
