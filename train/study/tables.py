"""The results of a study as tables in the layout of Garg et al. 2020, with the papers' figures beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text

from .. import published_results
from ..plots.training_plots import draw_metric_boxes
from ..published_results import METRICS, Published
from ..zoo.architectures import MODIFIED_PREFIX, find
from .results import POOLED, JobResult, MeanEstimate, NetworkResult, StudyTable

_OTHER = "†"
_SOURCES = {
    "paper_2020": published_results.GARG_2020,
    "paper_2022": published_results.GARG_2022,
    "seed_study": published_results.SEED_STUDY,
}


def write_tables(table: StudyTable, out: Path) -> None:
    """Write tables/results.csv, table.md, table.csv and table.tex, and plots/*.png, below `out`."""
    folder = out / "tables"
    rows = [[_cell(value) for value in msgspec.structs.astuple(result)] for result in table.results]
    write_text(folder / "results.csv", to_csv(JobResult.__struct_fields__, rows))
    write_text(folder / "table.csv", _csv(table))
    write_text(folder / "table.md", format_markdown(table))
    write_text(folder / "table.tex", format_latex(table))
    families: dict[str, dict[str, list[JobResult]]] = {}
    for result in table.results:
        families.setdefault(find(result.network).family, {}).setdefault(result.network, []).append(result)
    for family, networks in families.items():
        values = {
            metric: {
                name: [value for result in results if (value := getattr(result, metric)) is not None]
                for name, results in networks.items()
            }
            for metric in METRICS
        }
        draw_metric_boxes(values, f"{family}: {table.design}", out / "plots" / f"{family}.png")


def write_times(times: Iterable[tuple[str, int, int, int, float]], out: Path) -> None:
    """Write tables/times.csv: network, round, fold, epochs, seconds of training."""
    rows = ((*job, f"{seconds:.1f}") for *job, seconds in times)
    write_text(out / "tables" / "times.csv", to_csv(("network", "round", "fold", "epochs", "seconds"), rows))


def to_builtins(table: StudyTable) -> dict[str, Any]:
    """Return the study for JSON: its design, and a row per network with the papers' figures."""
    return {
        "name": table.name,
        "n": table.n,
        "split": table.split,
        "folds": table.folds,
        "rounds": table.rounds,
        "networks": [
            msgspec.to_builtins(row)
            | {source: _plain(figures.get(row.network)) for source, figures in _SOURCES.items()}
            for row in table.rows()
        ],
    }


def _plain(figures: dict[str, Published] | None) -> dict[str, dict[str, float | None]] | None:
    return (
        None
        if figures is None
        else {name: {"value": figure.value, "half": figure.half} for name, figure in figures.items()}
    )


def _csv(table: StudyTable) -> str:
    rows = [dict(_columns(row)) for row in table.rows()]
    header = tuple(rows[0]) if rows else ("network",)
    return to_csv(header, ([_cell(value) for value in row.values()] for row in rows))


def _columns(row: NetworkResult) -> Iterator[tuple[str, object]]:
    yield from (("network", row.network), ("family", row.family), ("modified", int(row.modified)))
    yield from (("parameters", row.parameters), ("parameters_paper_millions", _parameters(row.network)))
    yield "runs", row.runs
    for name, mean in row.means.items():
        yield from ((name, mean.value), (f"{name}_half", mean.half), (f"{name}_runs", mean.runs))
    for source, figures in _SOURCES.items():
        single = source == "seed_study"
        for name in published_results.SEED_STUDY_METRICS if single else METRICS:
            figure = figures.get(row.network, {}).get(name)
            yield f"{name}_{source}", figure and figure.value
            if not single:
                yield f"{name}_{source}_half", figure and figure.half
    yield "pooled_n", row.n
    for name, estimate in row.pooled.items():
        yield from (
            (f"{name}_pooled", estimate.value),
            (f"{name}_pooled_low", estimate.low),
            (f"{name}_pooled_high", estimate.high),
        )


def _parameters(network: str) -> float | None:
    base, modified = published_results.PARAMETERS.get(network.removeprefix(MODIFIED_PREFIX), (None, None))
    return modified if network.startswith(MODIFIED_PREFIX) else base


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Sheet:
    """A table of text cells."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets(table: StudyTable) -> tuple[Sheet, ...]:
    """Return the tables that have rows: parameters, base, Modified, seed study, and pooled decisions."""
    rows = table.rows()
    header = ("network", "runs", *(part for name in METRICS for part in (_title(name), "paper")))
    all_sheets = (
        _parameters_sheet(rows),
        Sheet("Base networks", header, tuple(_against_paper(row) for row in rows if not row.modified)),
        Sheet("Modified networks", header, tuple(_against_paper(row) for row in rows if row.modified)),
        _seed_study_sheet(rows),
        Sheet(
            "Pooled out-of-fold decisions" if table.folds else "Decisions on the test split",
            ("network", "n", *POOLED),
            tuple((row.network, str(row.n), *(estimate.text(4) for estimate in row.pooled.values())) for row in rows),
        ),
    )
    return tuple(sheet for sheet in all_sheets if sheet.rows)


def _parameters_sheet(rows: Sequence[NetworkResult]) -> Sheet:
    parameters = {row.network: row.parameters / 1e6 for row in rows}
    bases = dict.fromkeys(row.network.removeprefix(MODIFIED_PREFIX) for row in rows)
    cells = (
        (
            base,
            *(
                cell
                for name in (base, MODIFIED_PREFIX + base)
                for cell in (_millions(parameters.get(name)), _millions(_parameters(name)))
            ),
        )
        for base in bases
    )
    return Sheet("Parameters, in millions", ("network", "base", "paper", "Modified", "paper"), tuple(cells))


def _seed_study_sheet(rows: Sequence[NetworkResult]) -> Sheet:
    metrics = ("train_accuracy", "accuracy", "loss", "sensitivity", "specificity")
    return Sheet(
        "The seed study's networks",
        ("network", *(part for name in metrics for part in (_title(name), "paper"))),
        tuple(
            (row.network, *(cell for name in metrics for cell in _seed_study_cells(row, name)))
            for row in rows
            if row.network in published_results.SEED_STUDY
        ),
    )


def _title(metric: str) -> str:
    return "F1" if metric == "f1" else metric.replace("_", " ")


def _against_paper(row: NetworkResult) -> tuple[str, ...]:
    cells = [row.network, str(row.runs)]
    for name in METRICS:
        first = published_results.GARG_2020.get(row.network, {}).get(name)
        journal = published_results.GARG_2022.get(row.network, {}).get(name)
        cells += [_mean(row.means[name], row.runs), _published(first) or _published(journal, _OTHER)]
    return tuple(cells)


def _seed_study_cells(row: NetworkResult, metric: str) -> tuple[str, str]:
    figure = published_results.SEED_STUDY[row.network].get(metric)
    return _mean(row.means[metric], row.runs), "" if figure is None else f"{figure.value:.2f}"


def _published(figure: Published | None, mark: str = "") -> str:
    if figure is None:
        return ""
    return f"{figure.value:.4f}{'' if figure.half is None else f' ± {figure.half:.4f}'}{mark}"


def _mean(mean: MeanEstimate, runs: int) -> str:
    if mean.value is None:
        return "undefined"
    half = "" if mean.half is None else f" ± {mean.half:.4f}"
    return f"{mean.value:.4f}{half}{'' if mean.runs == runs else f' ({mean.runs} of {runs})'}"


def _millions(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def format_plain(table: StudyTable) -> str:
    """Format the means for a terminal."""
    lines = [table.design, f"{'network':<28}{'runs':>5}" + "".join(f"{_title(name):>20}" for name in METRICS)]
    for row in table.rows():
        cells = "".join(f"{_mean(row.means[name], row.runs):>20}" for name in METRICS)
        lines.append(f"{row.network:<28}{row.runs:>5}{cells}")
    return "\n".join([*lines, "mean ± half the width of the 95 % t-interval over runs; research use only"])


def _notes(table: StudyTable) -> tuple[str, ...]:
    pooling = "counts are summed over the folds of a round and averaged over rounds" if table.folds else "one split"
    return (
        f"{table.design[0].upper()}{table.design[1:]}. Test split, decisions at probability 0.5.",
        "Mean ± half the width of the 95 % t-interval over runs, as in the paper; runs share slices, so the intervals "
        "are narrower than the variation on new data. (k of n): defined in k of n runs.",
        f"Pooled: {pooling}; brackets are 95 % Wilson intervals for n slices.",
        f"paper: Garg et al. 2020 (arXiv:2012.11860v1), as far as its figures are known to us; {_OTHER}: Garg et al. "
        "2022 (doi 10.1016/j.eswa.2022.116540), on other data with three classes, COVID-19 against the rest. In the "
        "table of the seed study, the figures of that study. An empty cell is a figure that we do not know.",
        "Research use only. Not a medical device.",
    )


def format_markdown(table: StudyTable) -> str:
    """Format all tables as GitHub Markdown."""
    lines = [f"# {table.name}: cross-validation" if table.folds else f"# {table.name}", "", *_spaced(_notes(table))]
    for number, sheet in enumerate(sheets(table), 1):
        lines += [f"## Table {number}. {sheet.title}", "", _piped(sheet.header), _piped(["---"] * len(sheet.header))]
        lines += [*map(_piped, sheet.rows), ""]
    return "\n".join(lines)


def _spaced(lines: Iterable[str]) -> list[str]:
    return [part for line in lines for part in (line, "")]


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def format_latex(table: StudyTable) -> str:
    """Format all tables as LaTeX for `\\input`; they need the packages booktabs and graphicx."""
    lines = ["% \\usepackage{booktabs,graphicx}", *(f"% {line}" for line in _notes(table)), ""]
    for sheet in sheets(table):
        columns = "l" + "r" * (len(sheet.header) - 1)
        lines += [
            "\\begin{table*}",
            "\\centering",
            f"\\caption{{{escape_latex(f'{sheet.title}; {table.design}.')}}}",
            "\\resizebox{\\textwidth}{!}{%",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            _ampersands(sheet.header),
            "\\midrule",
            *map(_ampersands, sheet.rows),
            "\\bottomrule",
            "\\end{tabular}}",
            "\\end{table*}",
            "",
        ]
    return "\n".join(lines)


def _ampersands(cells: Iterable[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"


def escape_latex(text: str) -> str:
    """Escape text for LaTeX."""
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    special |= {"±": "$\\pm$", _OTHER: "$^\\dagger$"}
    return "".join(special.get(character, character) for character in text)
