"""Automatic mixed precision: the layers that add most noise go back to float until the gate passes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import msgspec

from edge_ct.reporting.counts import count_of
from edge_ct.runtime import Runtime

from ..gate import GateReport
from ..options import LayerPrecision
from ..scoring import ScoredFile, score_file
from .variants import VariantBuilder

_TIMED_RUNS = 15
# Without the head in 8 bits there would be no integer output.
_ALWAYS_QUANTISED = ("class_map", "logits", "lesion_map")


class MixedStep(msgspec.Struct, frozen=True):
    """One file that was tried.

    Attributes:
        layers: The layers in float.
        bytes: Size of the file.
        ms: Median time of one slice on one thread, in milliseconds.
        passed: Whether the gate passed.
        reason: Why it did not.
    """

    layers: tuple[str, ...]
    bytes: int
    ms: float
    passed: bool
    reason: str | None


class MixedPrecisionSearch:
    """The search, which starts from the full-integer file.

    Attributes:
        builder: Builds the files.
        scored: The last file that was tried: the one that passed, if any did.
        report: What the gate found for it.
    """

    def __init__(self, builder: VariantBuilder, scored: ScoredFile, report: GateReport) -> None:
        self.builder, self.scored, self.report = builder, scored, report

    def run(self, judge: Callable[[ScoredFile], GateReport]) -> tuple[MixedStep, ...]:
        """Move 1, 2, 4, ... layers to float until the gate passes or all layers are in float.

        Args:
            judge: Compares a file with fp32.

        Returns:
            The files that were tried, the full-integer one first.
        """
        progress, steps = self.builder.slices.progress, [self._measure(())]
        if self.report.passed:
            progress.say("mixed precision: the int8 file passes the gate, so no layer is moved to float")
            return tuple(steps)
        ranked, count = self._rank_layers(), 1
        while not self.report.passed and count < 2 * len(ranked):
            moved = tuple(ranked[:count])
            keep: dict[str, LayerPrecision] = dict.fromkeys(moved, "fp32")
            name = self.builder.name("int8", "mixed")
            self.scored = score_file(self.builder.build("int8", keep), self.builder.slices, name)
            self.report = judge(self.scored)
            steps.append(self._measure(moved))
            progress.say(describe_step(steps[-1], steps[0]))
            count *= 2
        return tuple(steps)

    def _rank_layers(self) -> list[str]:
        """Return the layers with weights, those that add most noise first."""
        known = set(self.builder.layer_names())
        errors = sorted(self.builder.measure_errors(self.scored.flatbuffer), key=lambda error: -error.added_noise)
        names = [error.name for error in errors if error.bytes and error.name not in _ALWAYS_QUANTISED]
        return [name for name in dict.fromkeys(names) if name in known]

    def _measure(self, moved: tuple[str, ...]) -> MixedStep:
        scored = self.scored
        runtime, image = Runtime(scored.flatbuffer, scored.tensors), self.builder.slices.images("validation")[0]
        times = []
        for _ in range(_TIMED_RUNS):
            begun = perf_counter()
            runtime.invoke(image)
            times.append(1000 * (perf_counter() - begun))
        return MixedStep(moved, len(scored.flatbuffer), median(times), self.report.passed, self.report.reason)


def describe_step(step: MixedStep, first: MixedStep) -> str:
    """Describe one file and its cost against the full-integer file in one line."""
    verdict = "passes the gate" if step.passed else f"fails the gate: {step.reason}"
    cost = f"{step.bytes - first.bytes:+,} bytes, {step.ms - first.ms:+.2f} ms"
    return f"{count_of(len(step.layers), 'layer')} in float: {cost}; {verdict}"
