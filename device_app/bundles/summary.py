"""What a bundle states about itself, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_ct.bundle import Bundle
from edge_ct.manifest import DecisionRule, Gate, Manifest

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
    yield "decision", _rule(manifest.decision_rule)
    counts = ", ".join(f"{count} {part}" for part, count in manifest.data.counts.items())
    yield "data", f"{manifest.data.name}, {manifest.data.split} split, slices: {counts}"
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


def _rule(rule: DecisionRule) -> str:
    promises = [f"sensitivity {rule.sensitivity:.1%} of {rule.positives} positive calibration cases"]
    if rule.specificity is not None:
        promises.append(f"specificity {rule.specificity:.1%} of {rule.negatives} negative ones")
    kinds = {
        "conformal": "conformal",
        "zone": "the conformal zone of an earlier version",
        "operating point": "one threshold",
    }
    return (
        f"negative below {rule.negative_below:.3f}, positive from {rule.positive_from:.3f}, "
        f"{'nothing is referred' if rule.negative_below == rule.positive_from else 'refer between'} "
        f"({kinds[rule.source]}: {', '.join(promises)})"
    )


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
