"""What the two papers report, to stand beside what is measured here."""

from __future__ import annotations

# The seed study's table of test results on the SARS-CoV-2 CT-scan set (1,252 slices COVID-19, 1,229 or 1,230 other),
# random split, no intervals given; its training accuracies are not known here. Shares, and the log loss in nats.
SEED_STUDY: dict[str, dict[str, float]] = {
    "customcnn": {"accuracy": 0.93, "loss": 0.20, "sensitivity": 0.97, "specificity": 0.91},
    "mobilenetv2": {"accuracy": 0.94, "loss": 0.18, "sensitivity": 0.96, "specificity": 0.92},
    "densenet169": {"accuracy": 0.95, "loss": 0.15, "sensitivity": 0.97, "specificity": 0.93},
    "resnet50": {"accuracy": 0.95, "loss": 0.13, "sensitivity": 0.98, "specificity": 0.94},
    "ensemble": {"accuracy": 0.99, "loss": 0.05, "sensitivity": 0.99, "specificity": 0.99},
}
