"""The table of networks that can be trained, and how to look one up by name.

Seed study: CustomCNN and MobileNetV2 (with DenseNet169 and ResNet50). Garg et al. 2020: twenty Keras networks, each in
its base form (the last layer is replaced by one with two outputs) and in its Modified form (the last layer is replaced
by Dense-128, dropout, Dense-64, Dense-32 and Dense-2).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Literal

from edge_ct.errors import EdgeCTError

DEFAULT_SIZE = 224
PAPER_SIZE = 380
MODIFIED_PREFIX = "modified-"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network that can be built.

    Attributes:
        name: Name on the command line and in run.json.
        family: Family of networks, as it heads plots and tables.
        application: Name of the network in `keras.applications`; "" for CustomCNN.
        module: Module of `keras.applications` that holds the network's `preprocess_input`.
        minimum: Smallest side of the input in pixels.
        modified: True for the Modified head of Garg et al.
        qat: How many of its layers quantisation-aware training can handle.
        takes_alpha: True if the width multiplier `alpha` applies.
        normalises_itself: True if the Keras network starts with layers that normalise 0..255.
        numbered_layers: True if Keras numbers the layers on from one network to the next within a process.
        stochastic_depth: True if training drops whole blocks at random (Huang et al. 2016).
        initializer: Keras initialiser of the kernels, where Keras' default does not train; "" for the default.
    """

    name: str
    family: str
    application: str = ""
    module: str = ""
    minimum: int = 32
    modified: bool = False
    qat: Literal["full", "partial", "none"] = "full"
    takes_alpha: bool = False
    normalises_itself: bool = False
    numbered_layers: bool = False
    stochastic_depth: bool = False
    initializer: str = ""

    @property
    def class_map(self) -> bool:
        """True if the network explains itself by a class map, at no cost."""
        return not self.modified

    @property
    def rewritten(self) -> bool:
        """True if the layers of the Keras network are copied with changes before use."""
        return self.normalises_itself or self.numbered_layers or self.stochastic_depth or bool(self.initializer)


def _efficientnet(index: int) -> Architecture:
    return Architecture(
        name=f"efficientnetb{index}",
        family="EfficientNet",
        application=f"EfficientNetB{index}",
        module="efficientnet",
        normalises_itself=True,
        stochastic_depth=True,
    )


def _resnet(application: str, module: str = "resnet_v2") -> Architecture:
    return Architecture(name=application.lower(), family="ResNet", application=application, module=module)


def _inception(application: str, family: str, module: str, minimum: int) -> Architecture:
    return Architecture(
        name=application.lower(),
        family=family,
        application=application,
        module=module,
        minimum=minimum,
        numbered_layers=True,
    )


def _densenet(depth: int) -> Architecture:
    name = f"DenseNet{depth}"
    return Architecture(name=name.lower(), family="DenseNet", application=name, module="densenet")


def _vgg(depth: int) -> Architecture:
    # VGG has no batch normalisation, and each layer with Glorot's weights halves the variance of the signal: with
    # them the loss stays at log 2. He's weights keep the variance (He et al. 2015, "Delving deep into rectifiers").
    name = f"VGG{depth}"
    return Architecture(name=name.lower(), family="VGG", application=name, module=name.lower(), initializer="he_normal")


_SEED_STUDY_ONLY = (
    Architecture(name="customcnn", family="CustomCNN"),
    Architecture(
        name="mobilenetv2",
        family="MobileNet",
        application="MobileNetV2",
        module="mobilenet_v2",
        takes_alpha=True,
    ),
)
_GARG_BASE = (
    *map(_efficientnet, range(8)),
    _resnet("ResNet50", "resnet"),
    *map(_resnet, ("ResNet50V2", "ResNet101V2", "ResNet152V2")),
    _inception("InceptionV3", "Inception", "inception_v3", 75),
    _inception("InceptionResNetV2", "Inception", "inception_resnet_v2", 75),
    _inception("Xception", "Xception", "xception", 71),
    *map(_densenet, (121, 169, 201)),
    *map(_vgg, (16, 19)),
)
_GARG = (*_GARG_BASE, *(replace(base, name=MODIFIED_PREFIX + base.name, modified=True) for base in _GARG_BASE))

ARCHITECTURES = {architecture.name: architecture for architecture in (*_SEED_STUDY_ONLY, *_GARG)}
NETWORK_NAMES = tuple(ARCHITECTURES)
GARG_NETWORKS = tuple(architecture.name for architecture in _GARG)
SEED_STUDY_NETWORKS = ("customcnn", "mobilenetv2", "densenet169", "resnet50")
NETWORK_GROUPS = {"all": NETWORK_NAMES, "garg": GARG_NETWORKS, "seed-study": SEED_STUDY_NETWORKS}


def find(name: str) -> Architecture:
    """Return the architecture with this name.

    Raises:
        EdgeCTError: No network has this name; the message suggests the nearest names.
    """
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name.lower(), NETWORK_NAMES, n=4, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "edge-ct models lists them"
        raise EdgeCTError(f"no network named {name!r}; {hint}")
    return ARCHITECTURES[name]


def expand_networks(name: str) -> tuple[str, ...]:
    """Return the names of the networks in a group (`NETWORK_GROUPS`), or the one network with this name.

    Raises:
        EdgeCTError: No network and no group has this name.
    """
    return NETWORK_GROUPS[name] if name in NETWORK_GROUPS else (find(name).name,)


def check_size(architecture: Architecture, size: int) -> None:
    """Raise `EdgeCTError` if feature maps of an input of `size` pixels a side would shrink to nothing."""
    if size < architecture.minimum:
        raise EdgeCTError(f"{architecture.name} needs an input size of at least {architecture.minimum}, not {size}")
