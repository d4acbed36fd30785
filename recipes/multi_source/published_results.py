"""The results of a recipe as files for the repository: no path of this machine, and no picture, is in them.

multi-source-evidence.csv    metrics by split, model and source
multi-source-outcomes.csv    how positives and negatives were decided, by slice and by likely patient
multi-source-lesions-NAME.csv   the lesion map of a model against masks, by patient
multi-source-out-of-distribution-NAME.csv   what a shipped bundle rejects, by `make results`
multi-source-trials.csv      what was tried
multi-source-worst-errors.md    the slices that the models were most wrong about

Rows of models and trials that were not made this time stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.reporting.markdown import markdown_table
from edge_ct.reporting.outcomes import DECISIONS, OutcomeTable, outcome_tables
from edge_ct.system.csv_text import estimate_columns, read_rows, to_csv
from edge_ct.system.files import write_text
from edge_ct.system.progress import Progress

from .cross_fit_pipeline import CrossFitPipeline, FoldResult
from .source_recipe import EVIDENCE_SPLITS

PREFIX = "multi-source"
EVIDENCE, OUTCOMES, TRIALS, ERRORS = (
    f"{PREFIX}-{name}" for name in ("evidence.csv", "outcomes.csv", "trials.csv", "worst-errors.md")
)
WORST = 20
_ERRORS_TITLE = f"# The {WORST} slices that each model was most wrong about, of the folds by likely patient\n"


def lesions_name(model: str) -> str:
    """Return the name of the table of a model's lesion map."""
    return f"{PREFIX}-lesions-{model}.csv"


def others_name(model: str) -> str:
    """Return the name of the table of what a model rejects of pictures that are not CT slices."""
    return f"{PREFIX}-out-of-distribution-{model}.csv"


def publish_results(pipeline: CrossFitPipeline, models: Sequence[str], into: Path, progress: Progress) -> None:
    """Write the results that have been made so far to a folder, beside those of other models."""
    evidence = [row for row in read_rows(pipeline.out / "evidence.csv") if row["model"] in models]
    _update_table(into / EVIDENCE, evidence, EVIDENCE_SPLITS)
    _update_table(into / TRIALS, read_rows(pipeline.out / "trials.csv"))
    for name in models:
        if (lesions := pipeline.out / f"{name}-lesions.csv").is_file():
            write_text(into / lesions_name(name), lesions.read_text(encoding="utf-8"))
    rows: list[dict[str, object]] = []
    errors = read_worst_errors(into)
    for split in EVIDENCE_SPLITS:
        for name in models:
            results = pipeline.fold_results(split, name)
            if not results:
                continue
            for table in fold_outcomes(results):
                rows += _outcome_rows(split, name, table)
            if split == "grouped":
                errors[name] = worst_errors(results)
    _update_table(into / OUTCOMES, rows, EVIDENCE_SPLITS)
    if errors:
        parts = [_ERRORS_TITLE, *(f"## {name}\n\n{table}\n" for name, table in sorted(errors.items()))]
        write_text(into / ERRORS, "\n".join(parts))
    progress.say(f"{into}: results of {', '.join(models)}")


def read_worst_errors(folder: Path) -> dict[str, str]:
    """Return model -> Markdown table of the slices that it was most wrong about, as they were published."""
    if not (folder / ERRORS).is_file():
        return {}
    sections = (folder / ERRORS).read_text(encoding="utf-8").split("\n## ")[1:]
    return {name: table.strip() for name, _, table in (section.partition("\n") for section in sections)}


def _update_table(path: Path, rows: Sequence[Mapping[str, object]], splits: Sequence[str] = ()) -> None:
    """Replace the rows of the models that `rows` names, and order all by split and model."""
    if not rows:
        return
    made = {row["model"] for row in rows}
    kept: list[Mapping[str, object]] = [row for row in read_rows(path) if row["model"] not in made]
    table = [*kept, *rows]
    if splits:
        table.sort(key=lambda row: (splits.index(str(row["split"])), str(row["model"])))
    write_text(path, to_csv(tuple(rows[0]), (row.values() for row in table)))


def fold_outcomes(results: Sequence[FoldResult]) -> tuple[OutcomeTable, ...]:
    """Count how the folds of one split decided, each by its own thresholds."""
    return outcome_tables(
        np.concatenate([one.predictions.labels for one in results]),
        [decision for one in results for decision in one.predictions.decisions],
        [None if np.isnan(p) else float(p) for one in results for p in one.predictions.probabilities],
        [group for one in results for group in one.predictions.groups],
        [one.rule for one in results for _ in one.predictions.labels],
    )


def worst_errors(results: Sequence[FoldResult], count: int = WORST) -> str:
    """Describe the slices whose probability is farthest from their label, in a Markdown table."""
    errors = []
    for one in results:
        predictions = one.predictions
        for index, p in enumerate(predictions.probabilities.tolist()):
            if not np.isnan(p):
                label = int(predictions.labels[index])
                share = predictions.shares[index]
                errors.append(
                    (
                        -abs(label - p),
                        Path(predictions.paths[index]).name,
                        (
                            "positive" if label else "negative",
                            f"{p:.3f}",
                            predictions.decisions[index],
                            predictions.sources[index],
                            predictions.groups[index],
                            "not measured" if np.isnan(share) else f"{100 * share:.0f} %",
                        ),
                    )
                )
    rows = [(str(rank), *cells, name) for rank, (_, name, cells) in enumerate(sorted(errors)[:count], 1)]
    header = ("", "label", "P", "decision", "source", "likely patient", "share of the lungs", "slice")
    return markdown_table(header, rows)


def _outcome_rows(split: str, model: str, table: OutcomeTable) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for label, outcomes in (("positive", table.positives), ("negative", table.negatives)):
        row: dict[str, object] = {"split": split, "model": model, "unit": table.unit, "label": label, "n": outcomes.n}
        for decision in DECISIONS:
            row |= estimate_columns(decision, msgspec.to_builtins(getattr(outcomes, decision)))
        rows.append(row)
    return rows
