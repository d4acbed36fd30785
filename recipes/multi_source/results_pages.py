"""Write the measured figures of the shipped models into README and the documentation.

    python -m edge_ct.recipes.multi_source.results_pages [CHECKOUT] [--check]

reads the tables in `benchmarks/results` of the checkout, replaces the lines between the result markers of `README.md`
and `docs/explanation/results.md`, and draws `docs/results-by-source.svg`. Every figure between the markers comes from a
table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import click

from edge_ct.cli import run_program
from edge_ct.errors import EdgeCTError
from edge_ct.manifest import Estimate
from edge_ct.reporting.markdown import markdown_table
from edge_ct.system.files import write_text

from ..plots import auc_by_source
from .result_tables import MODELS, CsvRow, ResultTables, read_result_tables

BEGIN, END = "<!-- results: begin.", "<!-- results: end -->"
PLOT = "docs/results-by-source.svg"
_SOURCES = {
    "sars-cov-2-ct": "SARS-CoV-2 CT (Brazil)",
    "mosmed": "MosMed (Moscow), all cases",
    "mosmed-ct2-against-ct0": "MosMed, moderate cases against none",
    "mosmed-ct2-against-ct1": "MosMed, moderate cases against mild ones",
    "covid-ct-md": "COVID-CT-MD (Tehran)",
    "cc-ccii": "CC-CCII (China), against other pneumonia",
    "medseg": "MedSeg, positive slices only",
    "coronacases": "Coronacases, positive slices only",
    "case-reports": "Case reports, positive slices only",
    "sfax": "Sfax (Tunisia)",
    "all": "all slices",
}
_SPLITS = {
    "random": "random splits",
    "source": "sources that the models did not learn from",
    "external": "a source that no network learned from, judged by the shipped model",
}


def readme_block(tables: ResultTables) -> str:
    """Return the short tables of README."""
    accurate, fast = (tables.metrics(name) for name in MODELS)
    rows = [
        (
            _source(name),
            _count(row["n"]),
            _auc(row),
            f"{_share(row, 'sensitivity')}, {_share(row, 'specificity')}",
            _auc(fast[name]),
        )
        for name, row in _in_order(accurate).items()
        if row["auc"] and name in _SOURCES and name not in ("all", "mosmed-ct2-against-ct1")
    ]
    header = ("source", "slices", "`accurate`: AUC", "sensitivity, specificity at P = 0.5", "`fast`: AUC")
    decided = tables.decisions("accurate", "slice")
    outcomes = [
        (f"{label} slices", _count(row["n"]), *(_share(row, name) for name in ("positive", "refer", "negative")))
        for label, row in decided.items()
    ]
    lines = [
        f"The models learned from seven public sources. {_method(tables)} Brackets hold 95 % intervals, which count "
        "slices as independent:",
        markdown_table(header, rows),
        markdown_table(("decision of `accurate`", "slices", "positive", "refer", "negative"), outcomes),
        " ".join(
            sentence
            for sentence in (
                _pneumonia_sentence(accurate),
                _left_out_sentence(tables),
                _lesion_sentence(tables),
                _others_sentence(tables),
                _not_measured_sentence(tables),
            )
            if sentence
        ),
    ]
    return _paragraphs(lines)


def page_block(tables: ResultTables) -> str:
    """Return the full tables of the page of results."""
    parts = [
        "### By source",
        f"{_method(tables)} Sensitivity and specificity are those at probability 0.5. Brackets hold 95 % intervals, "
        "which count slices as independent; intervals over patients would be wider.",
        f"![AUC of both models on each source, with 95 % intervals](../{Path(PLOT).name})",
    ]
    for name in MODELS:
        parts += [f"`{name}`:", _metrics_table(tables.metrics(name))]
    parts += [_pneumonia_sentence(tables.metrics("accurate")), "### What the models decided"]
    parts += [
        "The shares below follow from the two thresholds of each fold. A likely patient is decided by the mean "
        "probability of the slices."
    ]
    for name in MODELS:
        parts += [f"`{name}`:", _decisions_table(tables, name)]
    parts += ["### The lesion map", _lesion_sentence(tables)]
    for name, rows in tables.lesions.items():
        parts += [f"`{name}`:", _lesions_table(rows)]
    parts += ["### Pictures that are not CT slices", _others_sentence(tables), "### Other splits"]
    for split, title in _SPLITS.items():
        for name in MODELS:
            if metrics := tables.metrics(name, split):
                parts += [f"`{name}`, {title}:", _metrics_table(metrics)]
    parts.append(_not_measured_sentence(tables))
    return _paragraphs(parts)


def replace_block(text: str, block: str, path: Path) -> str:
    """Replace what is between the markers of a page.

    Raises:
        EdgeCTError: The page does not have both markers once, in this order.
    """
    pattern = re.compile(rf"({re.escape(BEGIN)}[^\n]*\n).*?({re.escape(END)})", re.DOTALL)
    replaced, count = pattern.subn(lambda match: f"{match[1]}{block}\n{match[2]}", text)
    if count != 1:
        raise EdgeCTError(f"{path}: has {count} blocks between '{BEGIN}' and '{END}', not one")
    return replaced


def pages(checkout: Path, tables: ResultTables) -> dict[Path, str]:
    """Return the path and the new text of each page with results."""
    blocks = {
        checkout / "README.md": readme_block(tables),
        checkout / "docs" / "explanation" / "results.md": page_block(tables),
    }
    return {path: replace_block(path.read_text(encoding="utf-8"), block, path) for path, block in blocks.items()}


def _paragraphs(parts: Sequence[str]) -> str:
    """Join the parts of a page, and wrap the text outside of tables."""
    wrapped = (
        part if part.startswith(("|", "!")) else fill(part, 120, break_on_hyphens=False) for part in parts if part
    )
    return "\n\n".join(wrapped)


def _in_order(rows: dict[str, CsvRow]) -> dict[str, CsvRow]:
    """Return the rows in the order of the names of sources; unknown sources come last."""
    names = list(_SOURCES)
    return dict(sorted(rows.items(), key=lambda row: names.index(row[0]) if row[0] in names else len(names)))


def _source(name: str) -> str:
    return _SOURCES.get(name, name)


def _count(text: str) -> str:
    return f"{int(text):,}"


def _share(row: CsvRow, name: str) -> str:
    return f"{100 * float(row[name]):.1f} %" if row[name] else "undefined"


def _estimate(row: CsvRow, name: str) -> Estimate:
    return Estimate(*(float(row[column]) if row[column] else None for column in (name, f"{name}_low", f"{name}_high")))


def _auc(row: CsvRow) -> str:
    return _estimate(row, "auc").text(3)


def _metrics_table(rows: dict[str, CsvRow]) -> str:
    cells = [
        (
            _source(name),
            _count(row["n"]),
            _auc(row),
            *(_estimate(row, metric).text(1, percent=True) for metric in ("sensitivity", "specificity")),
        )
        for name, row in _in_order(rows).items()
    ]
    return markdown_table(("source", "slices", "AUC", "sensitivity", "specificity"), cells)


def _decisions_table(tables: ResultTables, model: str) -> str:
    names = ("positive", "refer", "negative", "rejected")
    cells = [
        (f"{label} by {unit}", _count(row["n"]), *(_estimate(row, name).text(1, percent=True) for name in names))
        for unit in ("slice", "likely patient")
        for label, row in tables.decisions(model, unit).items()
    ]
    return markdown_table(("cases", "number", *names), cells)


def _lesions_table(rows: Sequence[CsvRow]) -> str:
    header = ("patient", "slices", "Dice", "share of the lungs by the map", "by the masks", "mean error")
    cells = [
        (
            row["group"],
            row["slices"],
            f"{float(row['dice']):.2f}",
            *(f"{100 * float(row[name]):.1f} %" for name in ("share", "true_share")),
            f"{100 * float(row['share_error']):.1f} points",
        )
        for row in rows
    ]
    return markdown_table(header, cells)


def _method(tables: ResultTables) -> str:
    row = tables.metrics("accurate")["all"]
    slices = int(row["n"]) + int(row["said_rejected"])
    done = f"{tables.folds} folds" if int(row["folds"]) == tables.folds else f"{row['folds']} of {tables.folds} folds"
    return (
        "Each figure below comes from int8 models of the same recipe that had not seen the slices that they judged: "
        f"{slices:,} slices in {done} by likely patient."
    )


def _pneumonia_sentence(rows: dict[str, CsvRow]) -> str:
    row = rows.get("cc-ccii")
    if not row or not row["auc"]:
        return ""
    if float(row["auc_low"]) <= 0.5:
        return (
            "`accurate` does not tell COVID-19 from other pneumonia: the interval of its AUC on CC-CCII includes 0.5."
        )
    return f"COVID-19 and other pneumonia (CC-CCII) are told apart with an AUC of {_auc(row)}."


def _left_out_sentence(tables: ResultTables) -> str:
    rows = _in_order(tables.metrics("accurate", "source") | tables.metrics("accurate", "external"))
    estimates = [
        f"{_auc(row)} ({_source(name)}, {_count(row['n'])} slices)"
        for name, row in rows.items()
        if row["auc"] and name != "all"
    ]
    return f"On a source that it did not learn from, its AUC is {', '.join(estimates)}." if estimates else ""


def _lesion_sentence(tables: ResultTables) -> str:
    rows = {row["group"]: row for row in tables.lesions.get("accurate", ())}
    if "all" not in rows:
        return "The lesion map was not compared with masks."
    row = rows["all"]
    return (
        f"The lesion map of `accurate` agrees with radiologists' masks of {len(rows) - 1} patients, from whom its "
        f"network did not learn ({row['slices']} slices), with a Dice of {float(row['dice']):.2f}."
    )


def _others_sentence(tables: ResultTables) -> str:
    sentences = []
    for name, rows in tables.others.items():
        counts = [f"{row['as_expected']} of {row['n']} {_picture(row['set'])}" for row in rows]
        sentences.append(f"`{name}` rejects {' and '.join(counts)}")
    return "; ".join(sentences) + "." if sentences else "What the models reject of other pictures was not measured."


def _picture(folder: str) -> str:
    return {"xray": "X-rays", "natural": "photographs"}.get(folder, folder)


def _not_measured_sentence(tables: ResultTables) -> str:
    missing = []
    for split in ("grouped", "random"):
        rows = {name: tables.metrics(name, split).get("all") for name in MODELS}
        left = {name: tables.folds - (int(row["folds"]) if row else 0) for name, row in rows.items()}
        for count in sorted({count for count in left.values() if count}):
            names = [f"`{name}`" for name in MODELS if left[name] == count]
            by_whom = "" if len(names) == len(MODELS) else f" by {' and '.join(names)}"
            missing.append(f"{count} of {tables.folds} folds of the {split} split{by_whom}")
    if not any(tables.metrics(name, "source") for name in MODELS):
        missing.append("the split by source")
    return f"Not measured: {', '.join(missing)}." if missing else ""


@click.command()
@click.argument("checkout", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option(
    "--check", is_flag=True, help="Write nothing, and fail if a page does not show the figures of the tables."
)
def command(checkout: Path, check: bool) -> None:
    """Write the measured figures of the shipped models into README and docs of CHECKOUT (the current folder)."""
    tables = read_result_tables(checkout)
    stale = [path for path, text in pages(checkout, tables).items() if path.read_text(encoding="utf-8") != text]
    if check:
        if stale:
            raise EdgeCTError(
                f"{stale[0]}: does not show the figures of the tables; write it again with `make results`"
            )
        return
    write_results_pages(checkout)


def write_results_pages(checkout: Path) -> None:
    """Write the pages with results, and the plot."""
    tables = read_result_tables(checkout)
    for path, text in pages(checkout, tables).items():
        write_text(path, text)
    values = {
        name: {
            _source(source): _estimate(row, "auc")
            for source, row in _in_order(tables.metrics(name)).items()
            if row["auc"]
        }
        for name in MODELS
    }
    write_text(checkout / PLOT, auc_by_source(values))


if __name__ == "__main__":
    run_program(command)
