"""The networks of both studies. Each maps grey slices, as `Preprocess.normalise` gives them, to two logits.

Seed study: CustomCNN, MobileNetV2 (and DenseNet169, ResNet50). Garg et al. 2020: twenty Keras networks, each as it is
(its last layer replaced by one of two outputs) and Modified (by Dense-128, dropout, Dense-64, Dense-32, Dense-2).

Where a network has a single last layer, that is a 1x1 convolution to two class maps and their global average: the same
function and the same parameters as pooling and Dense-2, but the map that explains a decision is the decision. A
Modified network has no such map. The layers `features`, `class_map` and `logits` are where conversion takes the graph's
outputs from. Builders take the Keras API as a parameter; weights move between twins by layer name.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_ct.errors import DataRejected, EdgeCTError

DEFAULT_SIZE = 224
PAPER_SIZE = 380
# Keras' MobileNetV2 keeps 0.999: at some 55 steps an epoch its moving statistics lag so far behind that validation
# stays at chance while training looks perfect.
BATCH_NORM_MOMENTUM = 0.9
MODIFIED = "modified-"


@dataclass(frozen=True)
class Architecture:
    """A network that can be built.

    application: its name in `keras.applications`, "" for our own. module: where that keeps its `preprocess_input`.
    minimum: smallest side in pixels. qat: how much of it quantisation-aware training takes.
    """

    name: str
    family: str
    application: str = ""
    module: str = ""
    minimum: int = 32
    modified: bool = False
    qat: Literal["full", "partial", "none"] = "full"

    @property
    def class_map(self) -> bool:
        """Whether the network explains itself by a class map, at no cost."""
        return not self.modified


def _table() -> dict[str, Architecture]:
    garg = [
        *(Architecture(f"efficientnetb{k}", "EfficientNet", f"EfficientNetB{k}", "efficientnet") for k in range(8)),
        Architecture("resnet50", "ResNet", "ResNet50", "resnet"),
        Architecture("resnet50v2", "ResNet", "ResNet50V2", "resnet_v2"),
        Architecture("resnet101v2", "ResNet", "ResNet101V2", "resnet_v2"),
        Architecture("resnet152v2", "ResNet", "ResNet152V2", "resnet_v2"),
        Architecture("inceptionv3", "Inception", "InceptionV3", "inception_v3", 75),
        Architecture("inceptionresnetv2", "Inception", "InceptionResNetV2", "inception_resnet_v2", 75),
        Architecture("xception", "Xception", "Xception", "xception", 71),
        *(Architecture(f"densenet{k}", "DenseNet", f"DenseNet{k}", "densenet") for k in (121, 169, 201)),
        Architecture("vgg16", "VGG", "VGG16", "vgg16"),
        Architecture("vgg19", "VGG", "VGG19", "vgg19"),
    ]
    modified = [
        Architecture(MODIFIED + a.name, a.family, a.application, a.module, a.minimum, True, a.qat) for a in garg
    ]
    seed_study = [
        Architecture("customcnn", "CustomCNN"),
        Architecture("mobilenetv2", "MobileNet", "MobileNetV2", "mobilenet_v2"),
    ]
    return {architecture.name: architecture for architecture in (*seed_study, *garg, *modified)}


ARCHITECTURES = _table()
NETWORKS = tuple(ARCHITECTURES)
GARG = tuple(name for name in NETWORKS if name not in ("customcnn", "mobilenetv2"))
SEED_STUDY = ("customcnn", "mobilenetv2", "densenet169", "resnet50")
GROUPS = {"all": NETWORKS, "garg": GARG, "seed-study": SEED_STUDY}


def find(name: str) -> Architecture:
    """The architecture of that name. Raises `EdgeCTError` that suggests the nearest names."""
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name.lower(), NETWORKS, n=4, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "edge-ct models lists them"
        raise EdgeCTError(f"no network named {name!r}; {hint}")
    return ARCHITECTURES[name]


def expand(name: str) -> tuple[str, ...]:
    """The networks that a name or a group of them (`GROUPS`) stands for. Raises `EdgeCTError` as `find`."""
    return GROUPS[name] if name in GROUPS else (find(name).name,)


def check_size(architecture: Architecture, size: int) -> None:
    """Raise `EdgeCTError` where slices of `size` pixels a side would vanish on their way through the network."""
    if size < architecture.minimum:
        raise EdgeCTError(f"{architecture.name} needs a size of at least {architecture.minimum}, not {size}")


def build(
    api: Any, network: str, size: int, alpha: float = 1.0, weights: str | Path | None = None, dropout: float = 0.2
) -> Any:
    """Build a network of two logits.

    api: `keras` or `tf_keras`. alpha: width of MobileNetV2. weights: None, "imagenet" (downloaded by Keras) or a
    file of three-channel weights without top, whose stem becomes one of grey slices (`pretrained.load`). dropout:
    before the class map; in a Modified network after its Dense-128. At 0 EfficientNet's blocks are not dropped either:
    with them dropped it learns nothing from random weights in small batches. Raises `DataRejected` for weights that do
    not fit.
    """
    architecture = find(network)
    check_size(architecture, size)
    if not architecture.application:
        if weights is not None:
            raise DataRejected(f"{network} has no pretrained weights: use --weights none")
        inputs, features = _customcnn(api, size)
    elif weights is None:
        backbone = application(api, architecture, alpha, grey_input(api, size), whole=not dropout)
        inputs, features = backbone.inputs[0], backbone.outputs[0]
    else:
        from . import pretrained

        backbone = pretrained.load(api, architecture, size, alpha, weights, whole=not dropout)
        inputs, features = backbone.inputs[0], backbone.outputs[0]
    features = api.layers.Activation("linear", name="features")(features)
    model = _with_head(api, architecture, inputs, features, dropout)
    for layer in model.layers:
        if isinstance(layer, api.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    return model


def with_head(api: Any, architecture: Architecture, model: Any, dropout: float = 0.2) -> Any:
    """Another head on the backbone of `model`, whose weights are shared."""
    return _with_head(api, architecture, model.inputs[0], model.get_layer("features").output, dropout)


def _with_head(api: Any, architecture: Architecture, inputs: Any, features: Any, dropout: float) -> Any:
    head = _modified_head if architecture.modified else _class_map_head
    return api.Model(inputs, head(api, features, dropout), name=architecture.name)


def grey_input(api: Any, size: int) -> Any:
    """The input of every network: [n, size, size, 1]."""
    return api.layers.Input((size, size, 1), name="slice")


def application(api: Any, architecture: Architecture, alpha: float, entry: Any, whole: bool = False) -> Any:
    """Keras' network without top and random weights, on the tensor `entry` [n, s, s, channels]; layer names are fixed.

    whole: without EfficientNet's stochastic depth (Huang et al. 2016), which drops blocks at random in training.
    EfficientNet brings its own normalisation of 0..255, which `Preprocess` has done already: it is taken out.
    VGG has no batch normalisation, and each layer of Glorot's weights halves the signal's variance: it starts from He's
    (He et al. 2015, "Delving deep into rectifiers"), or else it stays at log 2.
    """
    make = getattr(api.applications, architecture.application)
    options = {"alpha": alpha} if architecture.name == "mobilenetv2" else {}
    model = make(include_top=False, weights=None, input_tensor=entry, input_shape=tuple(entry.shape[1:]), **options)
    if architecture.family not in ("EfficientNet", "Inception", "VGG", "Xception"):
        return model
    names = _fixed_names(model)

    def copy(layer: Any) -> Any:
        name = names.get(layer.name, layer.name)
        if type(layer).__name__ in ("Rescaling", "Normalization"):
            return api.layers.Activation("linear", name=name)
        config = {**layer.get_config(), "name": name}
        if architecture.family == "VGG" and "kernel_initializer" in config:
            config["kernel_initializer"] = "he_normal"
        if whole and "rate" in config:
            config["rate"] = 0.0
        return type(layer).from_config(config)

    return api.models.clone_model(model, clone_function=copy)


def _fixed_names(model: Any) -> dict[str, str]:
    """New names of the layers that Keras numbers on through the life of a process: twins need the same ones."""
    numbered: dict[str, list[tuple[int, str]]] = {}
    for layer in model.layers:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        if match := re.fullmatch(rf"{kind}(?:_(\d+))?", layer.name):
            numbered.setdefault(kind, []).append((int(match[1] or 0), layer.name))
    # By number, which is the order of creation: the order of `layers` differs between the APIs.
    return {
        name: f"{kind}_{position}"
        for kind, found in numbered.items()
        for position, (_, name) in enumerate(sorted(found), start=1)
        if kind != "input_layer"
    }


def _class_map_head(api: Any, features: Any, dropout: float) -> Any:
    # Dropping whole channels before the class map equals dropping pooled features in an ordinary head.
    dropped = api.layers.SpatialDropout2D(dropout, name="dropout")(features)
    class_map = api.layers.Conv2D(2, 1, name="class_map")(dropped)
    return api.layers.GlobalAveragePooling2D(name="logits")(class_map)


def _modified_head(api: Any, features: Any, dropout: float) -> Any:
    layers = api.layers
    outputs = layers.GlobalAveragePooling2D(name="pooled")(features)
    outputs = layers.Dense(128, activation="relu", name="dense1")(outputs)
    outputs = layers.Dropout(dropout, name="dropout")(outputs)
    outputs = layers.Dense(64, activation="relu", name="dense2")(outputs)
    outputs = layers.Dense(32, activation="relu", name="dense3")(outputs)
    return layers.Dense(2, name="logits")(outputs)


def _customcnn(api: Any, size: int) -> tuple[Any, Any]:
    """A plain convolutional network of four stages, as the seed study's CustomCNN, of which it says no more."""
    layers = api.layers
    inputs = outputs = grey_input(api, size)
    for stage, filters in enumerate((16, 32, 64, 128)):
        for step in (1, 2):
            name = f"stage{stage + 1}_conv{step}"
            outputs = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(outputs)
            outputs = layers.BatchNormalization(name=f"{name}_bn")(outputs)
            outputs = layers.ReLU(name=f"{name}_relu")(outputs)
        if stage < 3:
            outputs = layers.MaxPooling2D(name=f"stage{stage + 1}_pool")(outputs)
    return inputs, outputs
