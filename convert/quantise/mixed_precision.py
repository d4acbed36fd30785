"""Mixed precision by itself: the layers that add most noise go back to float, until the gate passes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import msgspec

from edge_ct.runtime import Runtime

from ..gate import GateReport
from ..scoring import Scored, run_file
from .ai_edge import Precision
from .variants import Files

_TIMED = 15


class Step(msgspec.Struct, frozen=True):
    """What was tried: so many layers in float, and their price. ms: median of one slice on one thread."""

    layers: tuple[str, ...]
    bytes: int
    ms: float
    passed: bool
    reason: str | None


class Search:
    """From the full-integer file on. scored, report: of the last file tried, which is the one that passed, if any."""

    def __init__(self, files: Files, scored: Scored, report: GateReport) -> None:
        self.files, self.scored, self.report = files, scored, report

    def run(self, judge: Callable[[Scored], GateReport]) -> tuple[Step, ...]:
        """Move 1, 2, 4, ... layers until `judge` passes or all are in float; returns the steps, int8 first."""
        progress, steps = self.files.material.progress, [self._step(())]
        if self.report.passed:
            progress.say("mixed precision: int8 passes as it is, nothing is moved")
            return tuple(steps)
        known = set(self.files.layer_names())
        ranked = [
            error.name
            for error in sorted(self.files.errors(self.scored.flatbuffer), key=lambda error: -error.own)
            if error.name in known and error.bytes and error.name not in ("class_map", "logits")
        ]
        ranked = list(dict.fromkeys(ranked))
        count = 1
        while not self.report.passed and count < 2 * len(ranked):
            moved = tuple(ranked[:count])
            keep: dict[str, Precision] = dict.fromkeys(moved, "fp32")
            name = self.files.name("int8", "mixed")
            self.scored = run_file(self.files.of("int8", keep), self.files.material, name)
            self.report = judge(self.scored)
            steps.append(self._step(moved))
            progress.say(describe(steps[-1], steps[0]))
            count *= 2
        return tuple(steps)

    def _step(self, moved: tuple[str, ...]) -> Step:
        scored = self.scored
        runtime, image = Runtime(scored.flatbuffer, scored.tensors), self.files.material.images("validation")[0]
        times = []
        for _ in range(_TIMED):
            begun = perf_counter()
            runtime.invoke(image)
            times.append(1000 * (perf_counter() - begun))
        return Step(moved, len(scored.flatbuffer), median(times), self.report.passed, self.report.reason)


def describe(step: Step, first: Step) -> str:
    """One step and its price against the full-integer file."""
    verdict = "passes" if step.passed else f"fails: {step.reason}"
    price = f"{step.bytes - first.bytes:+,} bytes, {step.ms - first.ms:+.2f} ms"
    price = f"{step.bytes - first.bytes:+,} bytes, {step.ms - first.ms:+.2f} ms"
    return f"{len(step.layers)} layers in float: {price}; {verdict}"
