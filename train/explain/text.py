"""What the `edge-ct explain` commands print: tables and checks as lines for people, and as JSON by themselves."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_ct.metrics import Scores

from . import bundle_maps, nearest, sanity_checks


class Shown(msgspec.Struct, frozen=True):
    """What a command wrote. rows: a table, whose first row is the header."""

    files: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        return _aligned(self.rows)


class Checks(msgspec.Struct, frozen=True):
    """What `explain check` found; None where it was not measured."""

    model: str
    curves: sanity_checks.Curves
    pointing: sanity_checks.Pointing
    lung_share: tuple[sanity_checks.LungShare, ...]
    agreement: bundle_maps.Agreement | None
    scrambled: sanity_checks.Scrambled | None
    scrambled_passed: bool | None

    def lines(self) -> list[str]:
        """For people."""
        c, p = self.curves, self.pointing
        found = [
            f"{self.model}; positive slices n = {c.n}",
            f"  deletion   {c.deletion:.3f} (cells in random places {c.deletion_random:.3f}), lower is better",
            f"  insertion  {c.insertion:.3f} (cells in random places {c.insertion_random:.3f}), higher is better",
            f"  pointing game on phantoms: {p.hits} of {p.n} (by chance {p.hits_by_chance:.1f}; the best map of "
            f"{p.cells} x {p.cells} cells {p.best_hits}); strongest cell on a lesion: {p.cell_hits} (by chance "
            f"{p.cell_hits_by_chance:.1f})",
            f"  phantoms: IoU with the lesion {p.iou:.2f}; {p.lung_share:.0%} of the energy in the lungs, which are "
            f"{p.by_chance:.0%} of the slice",
        ]
        for own in self.lung_share:
            found.append(
                f"  {own.label}: {own.share:.0%} of the energy in the lungs, which are {own.by_chance:.0%} of the "
                f"slice; n = {own.n}"
            )
        if self.agreement:
            a = self.agreement
            found.append(
                f"  class map against Grad-CAM of the run, n = {a.n}: rank correlation {a.rank_correlation:.3f} (least "
                f"{a.rank_correlation_least:.3f}), IoU of the top 15 % {a.top_iou:.2f} (least {a.top_iou_least:.2f})"
            )
        if self.scrambled:
            steps = ", ".join(
                f"{share:.0%}: {value:.2f}"
                for share, value in zip(self.scrambled.share, self.scrambled.correlation, strict=True)
            )
            found.append(
                f"  weights scrambled from the head down, rank correlation with the true map: {steps} "
                f"({'passed' if self.scrambled_passed else 'FAILED: the map does not depend on the network'})"
            )
        return found


class Nearest(msgspec.Struct, frozen=True):
    """slices: source -> its nearest groups; scores: of the prototypes alone."""

    prototypes: int
    slices: dict[str, list[nearest.Neighbour]]
    scores: Scores | None

    def lines(self) -> list[str]:
        """For people."""
        found = []
        for source, own in self.slices.items():
            found.append(source)
            found += [f"  {one.similarity:.3f}  {one.label:<10} {one.group} ({one.slices} slices)" for one in own]
        if self.scores:
            shown = ", ".join(
                f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
                for name, one in self.scores.estimates().items()
                if name in ("accuracy", "sensitivity", "specificity", "f1") and one.value is not None
            )
            found.append(f"{self.prototypes} prototypes alone, test part, n = {self.scores.n}: {shown}")
        return found


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
