"""The model card of the shipped models: a template that is filled with measured figures only.

    python -m edge_ct.recipes.flagship.model_card BUNDLE [BUNDLE ...] --results benchmarks/results
        --failures FAILURES.txt --out docs/model-card.md

The figures come from flagship-evidence.csv, flagship-robustness.csv and flagship-out-of-distribution.csv; where a file
is missing, the card says "not measured". FAILURES.txt is written by the person who looked at the worst errors. `python
-m edge_ct.recipes.flagship ... --ship FOLDER --card docs/model-card.md` puts the card into the bundles, and the web
page shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from edge_ct.bundle import Bundle, read_bundle
from edge_ct.cli import run_program
from edge_ct.manifest import Estimate
from edge_ct.system.csv_text import read_rows
from edge_ct.system.files import write_text

from .evidence import EVIDENCE

CsvRow = dict[str, str]
ROBUSTNESS, OUT_OF_DISTRIBUTION = "flagship-robustness.csv", "flagship-out-of-distribution.csv"
NOT_MEASURED = "not measured"

_TEMPLATE = """\
# Model card: {names}

**Research use only. Not a medical device: not for diagnosis, not a substitute for a test or a radiologist.**

## The models

{models}

Each model judges one axial chest CT slice: `positive` (looks like COVID-19 pneumonia of the training set), `negative`,
`refer` (too close to call) or `rejected` (not such a slice). It runs without a network on one core of a small computer.

## Intended use, and uses that are excluded

The models are for research on triage with CT slices whose labels are known, and for teaching how a model is shrunk and
measured.

- Not for diagnosis, not for ruling out COVID-19, not for decisions on treatment, isolation, work or travel.
- Not in place of a PCR or antigen test or a radiologist's reading, and never as the only source of a decision.
- Not for X-rays, other body parts, children, contrast studies, or photographs of films: how the models behave there is
  not known. A slice that is "negative" may show any other disease.
- Not at another hospital before the models have been measured there, on that hospital's scanner, windows and patients.
- Not for commercial use: see the licence.

## Data and licence

{data}

Weights and data: {licence}. The code is Apache-2.0. No picture of a patient is in the repository, the bundles or this
card.

## How the models were made

`make flagship-one-source` carried out `recipes/flagship/flagship.json`: teachers, their weighted ensemble, students
distilled from it with the augmentation `travel`, and int8 bundles by post-training quantisation or, where the gate
preferred it, quantisation-aware training. Calibration, operating point, the zone of "refer" and the embeddings of
known slices come from the validation part of the same fold.

## Results, and the split that they belong to

A `random` split puts slices of one patient, and near-duplicates, into training and test alike, and flatters every
network. A `grouped` split keeps likely patients together; patients are inferred from lung shape and gradients, so some
still have slices in both parts. Folds that were run: {folds}. 95 % intervals are in brackets; slices count as
independent. Accuracy, sensitivity and specificity are at probability 0.5.

{table}

Slices of one patient are right or wrong together. If bootstrap samples draw likely patients instead of slices, the
intervals are:

{by_group}

At the operating point, which was chosen for {target}:

{operating}

From fp32 to int8:

{shrinking}

The shipped bundles belong to one fold, which the recipe named before any result was known: {shipped}.

## Other exports of the same slices

{robustness}

## Rejected pictures

{others}

## Failures

{failures}

## Limits

- One public set, few hospitals, no patient identifiers, unknown selection of slices. Published systems that were
  trained on it fall to about 56 % accuracy on slices from elsewhere.
- On slices of other hospitals this model was {external}.
- The probability is calibrated for the share of positives of that set (about one half); where COVID-19 is rarer,
  "positive" is wrong more often.
- A heat map shows the evidence that the network used, and not where disease is.
"""


def model_card(
    bundles: Sequence[tuple[str, Bundle]], results: Path, failures: str, external: str = NOT_MEASURED
) -> str:
    """Return the text of the card.

    Args:
        bundles: Name and bundle of each shipped model.
        results: Folder of the three CSV files.
        failures: Text about the worst errors; empty if nobody has looked at them.
        external: End of the sentence about slices of other hospitals.
    """
    evidence, robustness, others = (read_rows(results / name) for name in (EVIDENCE, ROBUSTNESS, OUT_OF_DISTRIBUTION))
    pooled = [row for row in evidence if row["fold"] == "all"]
    manifest = bundles[0][1].manifest
    counts = manifest.data.counts
    return _TEMPLATE.format(
        names=", ".join(name for name, _ in bundles),
        models="\n".join(_model(name, bundle) for name, bundle in bundles),
        data=(
            f"{manifest.data.name}: {sum(counts.values()):,} slices. The shipped networks were trained on "
            f"{counts.get('train', 0):,} of them, chosen and calibrated with {counts.get('validation', 0):,} and "
            "tested "
            f"with {counts.get('test', 0):,} (fingerprint {manifest.data.fingerprint[:16]})."
        ),
        licence=manifest.licence,
        folds=_folds(pooled),
        table=_evidence_table(pooled),
        by_group=_group_table(pooled),
        target=f"a sensitivity of {manifest.operating_point.target_sensitivity:.0%} on validation slices",
        operating=_operating_point_table(pooled),
        shrinking=_int8_table(pooled),
        shipped=f"{manifest.data.split} split, test part n = {counts.get('test', 0)}",
        robustness=_robustness_table(robustness),
        others=_out_of_distribution_table(others),
        failures=failures.strip() or "Nobody has looked at the errors yet.",
        external=external,
    )


def _model(name: str, bundle: Bundle) -> str:
    manifest = bundle.manifest
    alpha = "" if manifest.network.alpha is None else f", alpha {manifest.network.alpha:g}"
    size = manifest.preprocess.size
    return (
        f"- `{name}`: {manifest.network.architecture}{alpha}, {manifest.variant}, {size} x {size} px grey, "
        f"{manifest.network.parameters:,} parameters, model file of {bundle.model_bytes / 1e6:.2f} MB."
    )


def _folds(rows: Iterable[CsvRow]) -> str:
    by_split = {row["split"]: f"{row['folds_done']} of {row['folds']} ({row['split']})" for row in rows}
    return ", ".join(by_split.values()) or NOT_MEASURED


def _estimate(row: CsvRow, name: str, low: str, high: str) -> Estimate:
    """Return three columns of a row as an estimate; an empty value is undefined."""
    return Estimate(*(float(row[column]) if row[name] and row[column] else None for column in (name, low, high)))


def _percent(row: CsvRow, name: str) -> str:
    return _estimate(row, name, f"{name}_low", f"{name}_high").text(1, percent=True)


def _number(row: CsvRow, name: str) -> str:
    return _estimate(row, name, f"{name}_low", f"{name}_high").text(3)


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    if not rows:
        return f"{NOT_MEASURED.capitalize()}."
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


def _evidence_table(rows: Iterable[CsvRow]) -> str:
    metrics = ("accuracy", "sensitivity", "specificity")
    return _markdown_table(
        ("split", "model", "n", "rejected", *metrics, "AUC", "ECE"),
        (
            (
                row["split"],
                f"{row['model']} {row['variant']}",
                row["n"],
                row["said_rejected"],
                *(_percent(row, metric) for metric in metrics),
                _number(row, "auc"),
                _number(row, "ece"),
            )
            for row in rows
        ),
    )


def _group_table(rows: Iterable[CsvRow]) -> str:
    metrics = ("accuracy", "sensitivity", "specificity")
    return _markdown_table(
        ("split", "model", "likely patients", *metrics),
        (
            (
                row["split"],
                f"{row['model']} {row['variant']}",
                row["groups"],
                *(
                    _estimate(row, metric, f"{metric}_by_group_low", f"{metric}_by_group_high").text(1, percent=True)
                    for metric in metrics
                ),
            )
            for row in rows
        ),
    )


def _operating_point_table(rows: Iterable[CsvRow]) -> str:
    return _markdown_table(
        ("split", "model", "sensitivity", "specificity", "slices referred"),
        (
            (
                row["split"],
                f"{row['model']} int8",
                _percent(row, "sensitivity_at_threshold"),
                _percent(row, "specificity_at_threshold"),
                row["said_refer"],
            )
            for row in rows
            if row["variant"] == "int8"
        ),
    )


def _int8_table(rows: Iterable[CsvRow]) -> str:
    return _markdown_table(
        (
            "split",
            "model",
            "loss of sensitivity, points",
            "positives lost, gained",
            "exact McNemar p, positives",
            "gate passed",
        ),
        (
            (
                row["split"],
                row["model"],
                f"{100 * float(row['sensitivity_lost']):.2f}",
                f"{row['positives_lost']}, {row['positives_found']}",
                row["mcnemar_p_positives"],
                f"{row['gates_passed']} of {row['folds_done']}",
            )
            for row in rows
            if row["variant"] == "int8" and row["sensitivity_lost"]
        ),
    )


def _robustness_table(rows: Iterable[CsvRow]) -> str:
    return _markdown_table(
        ("change", "n", "rejected", "sensitivity", "specificity", "same call as unchanged"),
        (
            (
                f"{row['change']} {row['amount']}".strip(),
                row["n"],
                _percent(row, "rejected_share"),
                _percent(row, "sensitivity"),
                _percent(row, "specificity"),
                f"{100 * float(row['same_call']):.1f} %" if row["same_call"] else "undefined",
            )
            for row in rows
        ),
    )


def _out_of_distribution_table(rows: Iterable[CsvRow]) -> str:
    return _markdown_table(
        ("pictures", "n", "expected", "as expected", "rejected by pixels, by network"),
        (
            (
                row["set"],
                row["n"],
                row["expected"],
                _percent(row, "share"),
                f"{row['rejected_by_pixels']}, {row['rejected_by_network']}",
            )
            for row in rows
        ),
    )


_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="[NAME=]BUNDLE...")
@click.option(
    "--results", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the three CSV files."
)
@click.option("--failures", type=_FILE, help="Text file about the worst errors.")
@click.option("--external", type=_FILE, help="Text file with the end of the sentence about other hospitals.")
@click.option("--out", type=_FILE, required=True, help="Markdown file to write the card to.")
def command(paths: tuple[Path, ...], results: Path, failures: Path | None, external: Path | None, out: Path) -> None:
    """Write the model card of the shipped bundles, each under its file's name or NAME."""
    bundles = []
    for path in paths:
        name, _, rest = str(path).rpartition("=")
        file = Path(rest)
        bundles.append((name or file.stem.removesuffix("-int8"), read_bundle(file)))
    failures_text = failures.read_text(encoding="utf-8") if failures else ""
    external_text = external.read_text(encoding="utf-8").strip() if external else NOT_MEASURED
    write_text(out, model_card(bundles, results, failures_text, external_text))


if __name__ == "__main__":
    run_program(command)
