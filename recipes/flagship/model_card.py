"""The model card of what is shipped: a template, filled with what was measured and with nothing else.

    python -m edge_ct.recipes.flagship.model_card BUNDLE [BUNDLE ...] --results benchmarks/results
        --failures FAILURES.txt --out docs/model-card.md

Of the results flagship-evidence.csv, flagship-robustness.csv and flagship-out-of-distribution.csv are read; of what is
not there the card says "not measured". FAILURES.txt is written by whoever looked at the worst errors. `flagship
--ship FOLDER --card docs/model-card.md` puts the card into the bundles, and the page shows it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from edge_ct.bundle import Bundle, read_bundle
from edge_ct.cli import run_program
from edge_ct.system.files import write_text

from . import evidence

Row = dict[str, str]
ROBUSTNESS, OTHERS = "flagship-robustness.csv", "flagship-out-of-distribution.csv"
NOT_MEASURED = "not measured"

_TEMPLATE = """\
# Model card: {names}

**Research use only. Not a medical device: not for diagnosis, not a substitute for a test or a radiologist.**

## What it is

{models}

Each judges one axial chest CT slice: `positive` (looks like COVID-19 pneumonia of the training set), `negative`,
`refer` (too close to call) or `rejected` (no such slice). It runs without a network on one core of a small
computer.

## What it is for, and what it must not be used for

For research on triage with CT slices, on data whose labels are known, and for teaching how a model is shrunk and
measured.

- Not for diagnosis, nor to rule COVID-19 out, nor to decide on treatment, isolation, work or travel.
- Not in place of a PCR or antigen test or a radiologist's reading; not on its own, anywhere.
- Not for X-rays, other body parts, children, contrast studies, or photographs of films: nothing is known of what it
  does there. What is "negative" here may be any other disease.
- Not at another hospital before it has been measured there, on that hospital's scanner, windows and patients.
- Not commercially: see the licence.

## Data and licence

{data}

Weights and data: {licence}. The code is Apache-2.0. No picture of a patient is in the repository,
the bundles or this card.

## How it was made

`recipes/flagship/flagship.json`, carried out by `make flagship`: teachers, their weighted ensemble, students distilled
from it through the augmentation `travel`, int8 by post-training quantisation or, where the gate preferred it,
quantisation-aware training. Calibration, operating point, zone of "refer" and what the network has seen come from
the validation part of the same fold.

## What was measured, and on which split

`random` splits hold slices of one patient, and near-duplicates, in training and test alike, and flatter every
network. `grouped` keeps likely patients together; patients are guessed from lung shape and gradients, so that some
still straddle. Folds that were run: {folds}. 95 % intervals in brackets; slices count as independent. Accuracy,
sensitivity and specificity at probability 0.5.

{table}

Slices of one patient are right or wrong together. Where likely patients are drawn again instead of slices, the
intervals are:

{by_group}

At its operating point, which was chosen for {target}:

{operating}

From fp32 to int8:

{shrinking}

The bundles that are shipped are those of one fold, named in the recipe before any figure was known: {shipped}.

## Other exports of the same slices

{robustness}

## What it rejects

{others}

## Where it fails

{failures}

## Limits

- One public set, few hospitals, patients unnamed, selection of slices unknown. Published systems trained on it fall
  to about 56 % accuracy on slices of another origin. On slices of other hospitals this model was {external}.
- A probability is calibrated on that set's share of positives (about one half); where COVID-19 is rarer, "positive"
  is wrong more often.
- A heat map shows what the network went by, not where disease is.
"""


def text_of(opened: Sequence[tuple[str, Bundle]], results: Path, failures: str, external: str = NOT_MEASURED) -> str:
    """The card. opened: name and bundle of what is shipped. failures, external: in words, by who looked."""
    table, changed, others = (_read(results / name) for name in (evidence.EVIDENCE, ROBUSTNESS, OTHERS))
    pooled = [row for row in table if row["fold"] == "all"]
    manifest = opened[0][1].manifest
    counts = manifest.data.counts
    data = (
        f"{manifest.data.name}: {sum(counts.values()):,} slices, of which the shipped networks learned from "
        f"{counts.get('train', 0):,}, were chosen and calibrated with {counts.get('validation', 0):,} and tested with "
        f"{counts.get('test', 0):,} (fingerprint {manifest.data.fingerprint[:16]})."
    )
    return _TEMPLATE.format(
        names=", ".join(name for name, _ in opened),
        models="\n".join(_model(name, bundle) for name, bundle in opened),
        data=data,
        licence=manifest.licence,
        folds=_folds(pooled),
        table=_evidence(pooled),
        by_group=_by_group(pooled),
        target=f"a sensitivity of {manifest.operating_point.target_sensitivity:.0%} on validation slices",
        operating=_operating(pooled),
        shrinking=_shrinking(pooled),
        shipped=_shipped(opened),
        robustness=_robustness(changed),
        others=_others(others),
        failures=failures.strip() or "Not looked at by eye yet.",
        external=external,
    )


def _read(path: Path) -> list[Row]:
    """The rows of a CSV, none where there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _model(name: str, bundle: Bundle) -> str:
    manifest = bundle.manifest
    alpha = "" if manifest.network.alpha is None else f", alpha {manifest.network.alpha:g}"
    size = manifest.preprocess.size
    return (
        f"- `{name}`: {manifest.network.architecture}{alpha}, {manifest.variant}, {size} x {size} px grey, "
        f"{manifest.network.parameters:,} parameters, model file of {bundle.model_bytes / 1e6:.2f} MB."
    )


def _folds(rows: Iterable[Row]) -> str:
    found = {row["split"]: f"{row['folds_done']} of {row['folds']} ({row['split']})" for row in rows}
    return ", ".join(found.values()) or NOT_MEASURED


def _shown(row: Row, name: str) -> str:
    if not row[name]:
        return "undefined"
    value, low, high = (100 * float(row[name + end]) for end in ("", "_low", "_high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _plain(row: Row, name: str) -> str:
    if not row[name]:
        return "undefined"
    return "{:.3f} [{:.3f}, {:.3f}]".format(*(float(row[name + end]) for end in ("", "_low", "_high")))


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    if not rows:
        return f"{NOT_MEASURED.capitalize()}."
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _evidence(rows: Iterable[Row]) -> str:
    header = ("split", "model", "n", "rejected", "accuracy", "sensitivity", "specificity", "AUC", "ECE")
    return _markdown(
        header,
        (
            (
                row["split"], f"{row['model']} {row['variant']}", row["n"], row["said_rejected"],
                *(_shown(row, name) for name in ("accuracy", "sensitivity", "specificity")),
                _plain(row, "auc"), _plain(row, "ece"),
            )
            for row in rows
        ),
    )  # fmt: skip


def _by_group(rows: Iterable[Row]) -> str:
    names = ("accuracy", "sensitivity", "specificity")
    return _markdown(
        ("split", "model", "likely patients", *names),
        (
            (row["split"], f"{row['model']} {row['variant']}", row["groups"], *(_drawn(row, name) for name in names))
            for row in rows
        ),
    )


def _drawn(row: Row, name: str) -> str:
    low, high = (100 * float(row[f"{name}_by_group_{end}"]) for end in ("low", "high"))
    return f"{100 * float(row[name] or 'nan'):.1f} % [{low:.1f}, {high:.1f}]"


def _operating(rows: Iterable[Row]) -> str:
    own = [row for row in rows if row["variant"] == "int8"]
    return _markdown(
        ("split", "model", "sensitivity", "specificity", "said refer"),
        (
            (
                row["split"], f"{row['model']} int8", _shown(row, "sensitivity_at_threshold"),
                _shown(row, "specificity_at_threshold"), row["said_refer"],
            )
            for row in own
        ),
    )  # fmt: skip


def _shrinking(rows: Iterable[Row]) -> str:
    own = [row for row in rows if row["variant"] == "int8" and row["sensitivity_lost"]]
    return _markdown(
        ("split", "model", "sensitivity lost, points", "positives lost, found", "exact McNemar p", "gate passed"),
        (
            (
                row["split"], row["model"], f"{100 * float(row['sensitivity_lost']):.2f}",
                f"{row['positives_lost']}, {row['positives_found']}", row["mcnemar_p_positives"],
                f"{row['gates_passed']} of {row['folds_done']}",
            )
            for row in own
        ),
    )  # fmt: skip


def _shipped(opened: Sequence[tuple[str, Bundle]]) -> str:
    data = opened[0][1].manifest.data
    return f"{data.split} split, test part n = {data.counts.get('test', 0)}"


def _robustness(rows: Sequence[Row]) -> str:
    """The mildest and the worst of each kind would not do: all of them."""
    return _markdown(
        ("change", "n", "rejected", "sensitivity", "specificity", "same call as unchanged"),
        (
            (
                f"{row['change']} {row['amount']}".strip(), row["n"], _shown(row, "rejected_share"),
                _shown(row, "sensitivity"), _shown(row, "specificity"),
                f"{100 * float(row['same_call']):.1f} %" if row["same_call"] else "undefined",
            )
            for row in rows
        ),
    )  # fmt: skip


def _others(rows: Iterable[Row]) -> str:
    return _markdown(
        ("pictures", "n", "should be", "were", "by pixels, by network"),
        (
            (
                row["set"], row["n"], row["expected"], _shown(row, "share"),
                f"{row['rejected_by_pixels']}, {row['rejected_by_network']} rejected",
            )
            for row in rows
        ),
    )  # fmt: skip


@click.command()
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="[NAME=]BUNDLE...")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the CSVs.")
@click.option("--failures", type=click.Path(path_type=Path, dir_okay=False), help="A text about the worst errors.")
@click.option("--external", type=click.Path(path_type=Path, dir_okay=False), help="A sentence about other hospitals.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The card to write.")
def command(paths: tuple[Path, ...], results: Path, failures: Path | None, external: Path | None, out: Path) -> None:
    """Write the model card of the bundles that are shipped, by their names."""
    opened = []
    for path in paths:
        name, _, rest = str(path).rpartition("=")
        file = Path(rest)
        opened.append((name or file.stem.removesuffix("-int8"), read_bundle(file)))
    said = failures.read_text(encoding="utf-8") if failures else ""
    elsewhere = external.read_text(encoding="utf-8").strip() if external else NOT_MEASURED
    write_text(out, text_of(opened, results, said, elsewhere))


if __name__ == "__main__":
    run_program(command)
