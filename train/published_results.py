"""Results that the papers report, shown beside ours. Figures that are not here were not found in the papers.

Garg et al. 2020: "Efficient and Visualizable Convolutional Neural Networks for COVID-19 Classification Using Chest CT",
arXiv:2012.11860, first version: 40 networks, two classes, ten rounds of five folds. Of its Tables 1 to 3 we know the
number of parameters of every network, and the results of the best network, which the abstract states.

Garg et al. 2022: the journal version, Expert Systems with Applications 195:116540, doi 10.1016/j.eswa.2022.116540: the
20 base networks on other data (4,173 slices, three classes), COVID-19 against the rest, as tabulated in the authors'
repository github.com/ML-Aksh/COV-AID. Data and task differ, so these figures are for orientation only.

Seed study: four networks and their ensemble on the SARS-CoV-2 CT-scan set, one split.
"""

from __future__ import annotations

from dataclasses import dataclass

# Metrics in the order of the papers' columns.
METRICS = ("accuracy", "f1", "sensitivity", "precision", "specificity")


@dataclass(frozen=True)
class Published:
    """A published mean and half the width of its 95 % interval; None if the paper gives no interval."""

    value: float
    half: float | None = None


# Parameters of the base network and of its Modified form, in millions (Garg et al. 2020).
PARAMETERS = {
    "densenet121": (7.0, 7.2),
    "densenet169": (12.6, 12.9),
    "densenet201": (18.3, 18.6),
    "efficientnetb0": (4.0, 4.2),
    "efficientnetb1": (6.5, 6.7),
    "efficientnetb2": (7.7, 8.0),
    "efficientnetb3": (10.8, 11.0),
    "efficientnetb4": (17.7, 17.9),
    "efficientnetb5": (28.5, 28.8),
    "efficientnetb6": (41.0, 41.3),
    "efficientnetb7": (64.1, 64.4),
    "inceptionresnetv2": (54.3, 54.5),
    "inceptionv3": (21.8, 22.1),
    "resnet101v2": (42.6, 42.9),
    "resnet152v2": (58.3, 58.6),
    "resnet50": (23.6, 23.9),
    "resnet50v2": (23.6, 23.8),
    "vgg16": (14.7, 14.8),
    "vgg19": (20.0, 20.1),
    "xception": (20.9, 21.1),
}

# The abstract does not say which form it means; we take it to be the base network. (One listing of the abstract gives
# .0020 instead of .0035 as the half width of the sensitivity.)
GARG_2020 = {
    "efficientnetb5": {
        "accuracy": Published(0.9931, 0.0021),
        "f1": Published(0.9931, 0.0020),
        "sensitivity": Published(0.9952, 0.0035),
        "specificity": Published(0.9912, 0.0048),
    }
}

# Accuracy, F1, sensitivity, precision and specificity, each followed by half the width of its interval.
_GARG_2022 = {
    "densenet121": (0.9699, 0.0061, 0.9709, 0.0059, 0.9655, 0.0103, 0.9767, 0.0047, 0.9747, 0.0054),
    "densenet169": (0.9719, 0.0067, 0.9729, 0.0065, 0.9683, 0.0101, 0.9779, 0.0063, 0.9759, 0.0072),
    "densenet201": (0.9723, 0.0061, 0.9733, 0.0058, 0.9703, 0.0090, 0.9766, 0.0054, 0.9743, 0.0063),
    "efficientnetb0": (0.9633, 0.0054, 0.9648, 0.0051, 0.9658, 0.0083, 0.9644, 0.0069, 0.9608, 0.0080),
    "efficientnetb1": (0.9276, 0.0244, 0.9300, 0.0250, 0.9323, 0.0298, 0.9350, 0.0260, 0.9226, 0.0361),
    "efficientnetb2": (0.9530, 0.0066, 0.9546, 0.0062, 0.9476, 0.0090, 0.9622, 0.0070, 0.9590, 0.0080),
    "efficientnetb3": (0.9580, 0.0066, 0.9594, 0.0065, 0.9552, 0.0106, 0.9642, 0.0064, 0.9613, 0.0070),
    "efficientnetb4": (0.9634, 0.0074, 0.9647, 0.0072, 0.9637, 0.0113, 0.9663, 0.0068, 0.9635, 0.0074),
    "efficientnetb5": (0.9759, 0.0048, 0.9769, 0.0046, 0.9788, 0.0055, 0.9751, 0.0051, 0.9730, 0.0057),
    "efficientnetb6": (0.9597, 0.0056, 0.9614, 0.0053, 0.9661, 0.0080, 0.9573, 0.0078, 0.9532, 0.0088),
    "efficientnetb7": (0.9432, 0.0077, 0.9448, 0.0074, 0.9397, 0.0131, 0.9511, 0.0077, 0.9475, 0.0087),
    "inceptionresnetv2": (0.9427, 0.0074, 0.9450, 0.0069, 0.9464, 0.0124, 0.9443, 0.0083, 0.9392, 0.0097),
    "inceptionv3": (0.9549, 0.0072, 0.9567, 0.0070, 0.9587, 0.0117, 0.9554, 0.0087, 0.9509, 0.0099),
    "resnet101v2": (0.9364, 0.0116, 0.9383, 0.0107, 0.9289, 0.0156, 0.9490, 0.0128, 0.9450, 0.0151),
    "resnet152v2": (0.9380, 0.0107, 0.9407, 0.0099, 0.9441, 0.0158, 0.9389, 0.0139, 0.9315, 0.0185),
    "resnet50": (0.9625, 0.0062, 0.9638, 0.0061, 0.9609, 0.0104, 0.9672, 0.0084, 0.9643, 0.0093),
    "resnet50v2": (0.9308, 0.0099, 0.9335, 0.0092, 0.9328, 0.0154, 0.9361, 0.0143, 0.9292, 0.0185),
    "vgg16": (0.8889, 0.0111, 0.8932, 0.0107, 0.8954, 0.0190, 0.8930, 0.0136, 0.8828, 0.0166),
    "vgg19": (0.8558, 0.0304, 0.8673, 0.0189, 0.8838, 0.0219, 0.8599, 0.0337, 0.8247, 0.0748),
    "xception": (0.9470, 0.0064, 0.9491, 0.0062, 0.9510, 0.0118, 0.9482, 0.0096, 0.9432, 0.0112),
}
GARG_2022 = {
    network: {name: Published(*row[2 * i : 2 * i + 2]) for i, name in enumerate(METRICS)}
    for network, row in _GARG_2022.items()
}

# Accuracy, sensitivity, specificity and loss on the test split, without intervals.
_SEED_STUDY = {
    "customcnn": (0.93, 0.97, 0.91, 0.20),
    "mobilenetv2": (0.94, 0.96, 0.92, 0.18),
    "densenet169": (0.95, 0.97, 0.93, 0.15),
    "resnet50": (0.95, 0.98, 0.94, 0.13),
    "ensemble": (0.99, 0.99, 0.99, 0.05),
}
SEED_STUDY_METRICS = ("accuracy", "sensitivity", "specificity", "loss")
SEED_STUDY = {
    network: {name: Published(value) for name, value in zip(SEED_STUDY_METRICS, row, strict=True)}
    for network, row in _SEED_STUDY.items()
}
