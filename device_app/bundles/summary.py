"""What a bundle states about itself, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_ct.bundle import Bundle
from edge_ct.manifest import Gate, Manifest

from .operators import OperatorCount

_METRICS = ("accuracy", "sensitivity", "specificity", "auc")


def summarise(bundle: Bundle, operators: Sequence[OperatorCount], key: str | None) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each line.

    Args:
        bundle: The bundle.
        operators: The operators of its graph.
        key: Fingerprint of the key that its signature states; None if it is unsigned.
    """
    manifest = bundle.manifest
    yield "model", f"{bundle.identity}, {len(bundle.content):,} bytes, {manifest.network.parameters:,} parameters"
    yield "classes", " / ".join(manifest.classes)
    yield "input", f"grey uint8 {manifest.preprocess.size} x {manifest.preprocess.size}"
    point = manifest.operating_point
    yield "operating point", f"P >= {point.threshold:.3f} for a sensitivity of {point.target_sensitivity:.0%}"
    yield "refer between", _zone(manifest)
    yield "data", f"{manifest.data.name}, {manifest.data.split} split, {manifest.data.counts}"
    yield "gate", _gate(manifest.gate)
    yield "rejects", _rejection(manifest)
    yield "signed by", f"key {key}; check it with: edge-ct bundle verify --key" if key else "nobody"
    yield "licence", manifest.licence
    yield "use", manifest.intended_use
    for variant, metrics in manifest.metrics.items():
        values = ", ".join(f"{name} {metrics[name].text()}" for name in _METRICS)
        yield f"test, {variant}", f"{values} (n = {manifest.metrics_n}, {manifest.data.split} split)"
    for operator in operators:
        yield "operator", f"{operator.count:4d} x {operator.name} {operator.type}{_unsupported(operator)}"


def _zone(manifest: Manifest) -> str:
    zone = manifest.zone
    if zone is None:
        return "never: the bundle has no indeterminate zone"
    low, high = sorted((zone.positive_from, zone.negative_to))
    return f"{low:.3f} and {high:.3f}, at the {zone.level:.0%} level"


def _gate(gate: Gate | None) -> str:
    if gate is None:
        return "none"
    outcome = "passed" if gate.passed else "FAILED, written for inspection only"
    return f"{outcome}: at most {gate.max_drop:g} points lost on {gate.split}, agreement {gate.agreement:.1%}"


def _rejection(manifest: Manifest) -> str:
    outliers = manifest.outliers
    if outliers is None:
        return "slices by their pixels only"
    return (
        f"slices by their pixels, and in doubt by an outlier distance that {outliers.rate:.1%} of {outliers.cases} "
        f"{outliers.split} slices exceed"
    )


def _unsupported(operator: OperatorCount) -> str:
    targets = {"XNNPACK": operator.xnnpack, "microcontrollers": operator.micro, "Edge TPU": operator.edge_tpu}
    missing = [name for name, supported in targets.items() if not supported]
    return f"  (not supported by {', '.join(missing)})" if missing else ""
