"""The model card of models that learned from several sources: a template that is filled with measured figures only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edge_ct.bundle import Bundle, read_bundle
from edge_ct.manifest import Estimate
from edge_ct.reporting.counts import count_of
from edge_ct.reporting.markdown import markdown_table
from edge_ct.reporting.outcomes import DECISIONS, OUTCOME_HEADER
from edge_ct.system.csv_text import read_rows
from edge_ct.system.files import write_text

from .published_results import EVIDENCE, OUTCOMES, TRIALS, lesions_name, read_worst_errors

CsvRow = dict[str, str]
NOT_MEASURED = "Not measured."
_LEFT_OUT = re.compile(r"without (--\S+)")

_TEMPLATE = """\
# Model card: {names}

**Research use only. Not a medical device: not for diagnosis, not a substitute for a test or a radiologist.**

## The models

{models}

Each model judges one axial chest CT slice: `positive` (looks like COVID-19 pneumonia of the training sets), `negative`,
`refer` (between the two thresholds) or `rejected` (not a lung CT slice). A lesion map shows where the network sees
opacities, and which share of the lungs they take. It runs without a network on one core of a small computer.

## Intended use, and uses that are excluded

The models are for research on triage with CT slices whose labels are known, and for teaching how a model is shrunk and
measured.

- Not for diagnosis, not for ruling out COVID-19, not for decisions on treatment, isolation, work or travel.
- Not in place of a PCR or antigen test or a radiologist's reading, and never as the only source of a decision.
- Not for X-rays, other body parts, children, contrast studies, or photographs of films: how the models behave there is
  not known. A slice that is "negative" may show any other disease, and opacities have many causes.
- Not at another hospital before the models have been measured there, on that hospital's scanner, windows and patients.
- Not for commercial use: see the licences.

## Data and licences

{data}

Weights and data: {licence}. `LICENCES.md` beside the weights names each source, its origin and its licence. The code is
Apache-2.0. No picture of a patient is in the repository, the bundles or this card.

## How the models were made and measured

`make flagship` carried out `recipes/multi_source/accurate_and_fast.json`. The shipped networks learned from every
slice, so they could not be measured on these slices. Instead, networks of the same recipe were trained on all slices
but those of one fold, converted to int8, and judged the slices of their fold: every figure below comes from slices that
the network had not learned from. Their outputs also calibrate the shipped models and set the thresholds. A `random`
split puts slices of one patient into training and test alike and flatters every network; a `grouped` split keeps likely
patients together; a `source` split leaves a whole source out. The `external` rows show the shipped models themselves,
on a source that was left out of every training.

## Results by split and source

Sensitivity and specificity at probability 0.5; brackets hold 95 % intervals, which count slices as independent.

{evidence}

## How positives and negatives were decided

By the two thresholds of each fold, on the grouped split.

{outcomes}

## The lesion map

{lesions}

## What was tried

{trials}

## The worst errors

The slices whose probability is farthest from their label, on the grouped split. A label is that of the study in some
sources, so that a "positive" slice may show nothing.

{errors}

## Limits

- The slices come from public sets of few hospitals, selected in ways that are not known. {other_sources}
- The probability is calibrated for the share of positives of these sets; where COVID-19 is rarer, "positive" is wrong
  more often.
- The share of the lungs comes from a coarse mask of the lungs; its error is stated wherever the share is shown.
"""


def write_model_card(path: Path, bundles: Mapping[str, Path], results: Path) -> str:
    """Write the card of bundles, and return its text.

    Args:
        path: The Markdown file.
        bundles: Name of a model -> its bundle.
        results: Folder of the tables that `publish_results` wrote.
    """
    models = {name: read_bundle(bundle) for name, bundle in bundles.items()}
    outcomes, errors = read_rows(results / OUTCOMES), read_worst_errors(results)
    manifest = next(iter(models.values())).manifest
    text = _TEMPLATE.format(
        names=", ".join(models),
        models="\n".join(_model(name, bundle) for name, bundle in models.items()),
        data=f"{sum(manifest.data.counts.values()):,} slices (fingerprint {manifest.data.fingerprint[:16]}).",
        licence=manifest.licence,
        evidence=_evidence_table(read_rows(results / EVIDENCE), tuple(models)),
        outcomes=_by_model({name: table for name in models if (table := _outcomes_table(outcomes, name))}),
        lesions="\n\n".join(_lesions(name, bundle, results) for name, bundle in models.items()),
        trials=_trials_table(read_rows(results / TRIALS)),
        other_sources=_other_sources(read_rows(results / EVIDENCE)),
        errors=_by_model({name: errors[name] for name in models if name in errors}),
    )
    write_text(path, text)
    return text


def _by_model(tables: dict[str, str]) -> str:
    return "\n\n".join(f"`{name}`:\n\n{table}" for name, table in tables.items()) or NOT_MEASURED


def _model(name: str, bundle: Bundle) -> str:
    manifest, rule = bundle.manifest, bundle.manifest.decision_rule
    alpha = "" if manifest.network.alpha is None else f", alpha {manifest.network.alpha:g}"
    return (
        f"- `{name}`: {manifest.network.architecture}{alpha}, {manifest.variant}, {manifest.preprocess.size} px, "
        f"{manifest.network.parameters:,} parameters, model file of {bundle.model_bytes / 1e6:.2f} MB. Negative below "
        f"P = {rule.negative_below:.3f}, positive from {rule.positive_from:.3f}."
    )


def _estimate(row: CsvRow, name: str, percent: bool = True) -> str:
    values = (row[column] for column in (name, f"{name}_low", f"{name}_high"))
    estimate = Estimate(*(float(value) if value else None for value in values))
    return estimate.text(1, percent=True) if percent else estimate.text(3)


def _evidence_table(rows: Iterable[CsvRow], models: Sequence[str]) -> str:
    header = ("split", "model", "slices", "by", "n", "AUC", "sensitivity", "specificity", "rejected")
    cells = [
        (
            row["split"] if row["split"] == "external" else f"{row['split']} ({count_of(int(row['folds']), 'fold')})",
            row["model"],
            row["slices"],
            row["by"],
            row["n"],
            _estimate(row, "auc", percent=False),
            *(_estimate(row, name) for name in ("sensitivity", "specificity")),
            row["said_rejected"],
        )
        for row in rows
        if row["model"] in models
    ]
    return markdown_table(header, cells) if cells else NOT_MEASURED


def _outcomes_table(rows: Iterable[CsvRow], model: str) -> str:
    cells = [
        (f"{row['label']}s by {row['unit']}", row["n"], *(_estimate(row, decision) for decision in DECISIONS))
        for row in rows
        if (row["split"], row["model"]) == ("grouped", model) and row["n"] != "0"
    ]
    return markdown_table(OUTCOME_HEADER, cells) if cells else ""


def _other_sources(rows: Sequence[CsvRow]) -> str:
    names = [f"`{split}`" for split in ("source", "external") if any(row["split"] == split for row in rows)]
    if names:
        return f"The {' and '.join(names)} rows show the models\n  on sources that they did not learn from."
    return "How the models do\n  on a source that they did not learn from was not measured; expect worse figures there."


def _trials_table(rows: Iterable[CsvRow]) -> str:
    cells = [
        (row["model"], _varied(row["varies"]), row["split"], row["n"], _estimate(row, "auc", percent=False))
        for row in rows
        if row["slices"] == "all" and row["by"] == "probability"
    ]
    if not cells:
        return NOT_MEASURED
    table = markdown_table(("trial", "what it varies", "fold", "n", "AUC"), cells)
    return f"Each row is one short training of a variation, judged on the slices of its fold.\n\n{table}"


def _varied(options: str) -> str:
    """Write the options of a trial as code, those that it leaves out after the others."""
    left_out = _LEFT_OUT.findall(options)
    without = f", without {' and '.join(f'`{option}`' for option in left_out)}" if left_out else ""
    return f"`{_LEFT_OUT.sub('', options).strip()}`{without}"


def _lesions(name: str, bundle: Bundle, results: Path) -> str:
    evidence = bundle.manifest.lesions
    if evidence is None:
        return f"`{name}`: not measured."
    text = (
        f"`{name}`, on {evidence.slices} slices with radiologists' masks of {evidence.patients} patients, each by a "
        f"network that did not learn from the patient: Dice {evidence.dice:.2f} at P = 0.5, the strongest cell lies on "
        f"a lesion in {evidence.pointing_game:.1%} of the slices with one, mean error of the share of the lungs "
        f"{100 * evidence.share_error:.1f} points."
    )
    rows = read_rows(results / lesions_name(name))
    header = ("patient", "slices", "Dice", "share of the lungs", "by the masks", "error of a slice")
    cells = [
        (row["group"], row["slices"], row["dice"], row["share"], row["true_share"], row["share_error"]) for row in rows
    ]
    return f"{text}\n\n{markdown_table(header, cells)}" if cells else text
