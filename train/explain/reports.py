"""Results of the `edge-ct explain` commands: printed as lines for people, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_ct.metrics import Scores
from edge_ct.reporting.counts import count_of

from .bundle_maps import MapAgreement
from .nearest import Neighbour
from .sanity_checks import DeletionInsertion, LungShare, PointingGame, ScrambledWeights

_PROTOTYPE_METRICS = ("accuracy", "sensitivity", "specificity", "f1")


class WrittenFiles(msgspec.Struct, frozen=True):
    """The files that a command wrote.

    Attributes:
        files: Their names, within the output folder.
        rows: A table to print; its first row is the header.
    """

    files: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()

    def lines(self) -> list[str]:
        """Return the table as aligned lines."""
        return _align(self.rows)


class CheckReport(msgspec.Struct, frozen=True):
    """The results of `explain check`.

    Attributes:
        model: Name of the run or bundle.
        curves: Deletion and insertion.
        pointing: The pointing game on phantoms.
        lung_share: Energy inside the lungs, one entry per class.
        agreement: Agreement of a bundle with its run; None if no run was named.
        scrambled: Maps after the weights were scrambled; None for a bundle.
        scrambled_passed: Whether these maps differ from the true ones; None for a bundle.
    """

    model: str
    curves: DeletionInsertion
    pointing: PointingGame
    lung_share: tuple[LungShare, ...]
    agreement: MapAgreement | None
    scrambled: ScrambledWeights | None
    scrambled_passed: bool | None

    def lines(self) -> list[str]:
        """Return one line per check."""
        curves, game = self.curves, self.pointing
        lines = [
            f"{self.model}; positive slices n = {curves.n}",
            f"  deletion   {curves.deletion:.3f} (cells in random places {curves.deletion_random:.3f}), "
            "lower is better",
            f"  insertion  {curves.insertion:.3f} (cells in random places {curves.insertion_random:.3f}), "
            "higher is better",
            f"  pointing game on phantoms: {game.hits} hits of {game.n} (expected by chance {game.hits_by_chance:.1f}; "
            f"an ideal map of {game.cells} x {game.cells} cells {game.best_hits}); strongest cell on a lesion: "
            f"{game.cell_hits} (expected by chance {game.cell_hits_by_chance:.1f})",
            f"  phantoms: IoU with the lesion {game.iou:.2f}; {game.lung_share:.0%} of the map's energy lies in the "
            f"lungs, which cover {game.by_chance:.0%} of the slice",
        ]
        for share in self.lung_share:
            lines.append(
                f"  {share.label}: {share.share:.0%} of the map's energy lies in the lungs, which cover "
                f"{share.by_chance:.0%} of the slice; n = {share.n}"
            )
        if self.agreement:
            agreement = self.agreement
            lines.append(
                f"  class map against Grad-CAM of the run, n = {agreement.n}: rank correlation "
                f"{agreement.rank_correlation:.3f} (lowest {agreement.rank_correlation_least:.3f}), IoU of the "
                f"strongest 15 % {agreement.top_iou:.2f} (lowest {agreement.top_iou_least:.2f})"
            )
        if self.scrambled:
            steps = ", ".join(
                f"{share:.0%}: {value:.2f}"
                for share, value in zip(self.scrambled.share, self.scrambled.correlation, strict=True)
            )
            lines.append(
                f"  weights scrambled from the head down, rank correlation with the true map: {steps} "
                f"({'passed' if self.scrambled_passed else 'FAILED: the map does not depend on the network'})"
            )
        return lines


class NearestReport(msgspec.Struct, frozen=True):
    """The results of `explain nearest`.

    Attributes:
        prototypes: Number of prototypes.
        slices: Slice file -> its most similar training groups.
        scores: Scores of the prototypes alone on the test split; None if not asked for.
    """

    prototypes: int
    slices: dict[str, list[Neighbour]]
    scores: Scores | None

    def lines(self) -> list[str]:
        """Return a line per slice and per similar group, and one for the scores."""
        lines = []
        for source, neighbours in self.slices.items():
            lines.append(source)
            lines += [
                f"  {neighbour.similarity:.3f}  {neighbour.label:<10} {neighbour.group} "
                f"({count_of(neighbour.slices, 'slice')})"
                for neighbour in neighbours
            ]
        if self.scores:
            estimates = ", ".join(
                f"{name} {estimate.text()}"
                for name, estimate in self.scores.estimates().items()
                if name in _PROTOTYPE_METRICS and estimate.value is not None
            )
            lines.append(f"{self.prototypes} prototypes alone, test split, n = {self.scores.n}: {estimates}")
        return lines


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
