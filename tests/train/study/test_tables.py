"""Figures and tables of a study: means, intervals, pooling by hand; and that what is written can be read."""

import csv
import io
import re

import msgspec
import numpy as np
import pytest
from scipy import stats

from edge_ct.train import published_results
from edge_ct.train.study import tables
from edge_ct.train.study.results import JobResult, MeanEstimate, StudyTable, estimate_mean
from edge_ct.train.zoo.architectures import GARG_NETWORKS

RESULT = JobResult(
    "resnet50", 1, 1, 0, parameters=23_600_000, train=60, validation=20, test=20, tp=9, fp=2, tn=8, fn=1,
    accuracy=0.85, f1=0.857143, sensitivity=0.9, precision=0.818182, specificity=0.8, auc=0.95, loss=0.4,
    train_accuracy=1.0, validation_accuracy=0.9,
)  # fmt: skip


def make(*changes: dict[str, object], folds: int = 2) -> StudyTable:
    found = tuple(msgspec.structs.replace(RESULT, **change) for change in changes)
    rounds = max(one.round for one in found)
    return StudyTable("set_1 & 100%", 40, "grouped", folds, rounds, found)


def four_runs() -> StudyTable:
    return make(
        {"accuracy": 0.85},
        {"fold": 2, "accuracy": 0.9, "tp": 10, "fn": 0},
        {"round": 2, "accuracy": 0.95, "tp": 10, "fn": 0, "tn": 9, "fp": 1},
        {"round": 2, "fold": 2, "accuracy": 0.9, "precision": None},
    )


def test_mean_and_interval_are_students() -> None:
    values = [0.91, 0.93, 0.96, 0.9, 0.97]
    low, high = stats.t.interval(0.95, 4, np.mean(values), np.std(values, ddof=1) / np.sqrt(5))
    found = estimate_mean(values)
    assert found.value == pytest.approx(np.mean(values))
    assert found.half == pytest.approx((high - low) / 2)
    # by the printed table of t: 4.303 for 2 degrees of freedom
    assert estimate_mean([1.0, 2.0, 3.0]).half == pytest.approx(4.303 / 3**0.5, rel=1e-4)


def test_means_of_little() -> None:
    assert estimate_mean([None, None]) == MeanEstimate(None, None, 0)
    assert estimate_mean([0.5]) == MeanEstimate(0.5, None, 1)
    assert estimate_mean([0.5, None, 0.5]) == MeanEstimate(0.5, 0.0, 2)


def test_rounds_are_averaged_in_the_pooled_counts() -> None:
    (row,) = four_runs().rows()
    assert (row.runs, row.n) == (4, 40)
    # Two rounds of 40 slices: 35 + 36 right, of 20 positives 19 and 19 found; by hand.
    assert row.pooled["accuracy"].value == pytest.approx((35 + 36) / 80)
    assert row.pooled["sensitivity"].value == pytest.approx((19 + 19) / 40)
    assert row.pooled["specificity"].value == pytest.approx((16 + 17) / 40)
    p, n, z = 71 / 80, 40, 1.959964
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert (row.pooled["accuracy"].low, row.pooled["accuracy"].high) == pytest.approx((centre - half, centre + half))


def test_markdown_has_our_figures_beside_the_papers() -> None:
    table = make(
        {"network": "efficientnetb5"},
        {"network": "modified-efficientnetb5", "parameters": 28_834_567},
        {"network": "customcnn"},
    )
    text = tables.format_markdown(table)
    assert re.findall(r"## Table \d\. (.*)", text) == [
        "Parameters, in millions",
        "Base networks",
        "Modified networks",
        "The seed study's networks",
        "Pooled out-of-fold decisions",
    ]
    (row,) = re.findall(r"\| efficientnetb5 \| 1 \|.*", text)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[2:4] == ["0.8500", "0.9931 ± 0.0021"]
    assert cells[6:10] == ["0.9000", "0.9952 ± 0.0035", "0.8182", "0.9751 ± 0.0051†"]
    assert "| efficientnetb5 | 23.6 | 28.5 | 28.8 | 28.8 |" in text
    (row,) = re.findall(r"\| modified-efficientnetb5 \| 1 \|.*", text)
    assert row.count("0.") == 5
    assert re.search(
        r"\| customcnn \| 1\.0000 \|  \| 0\.8500 \| 0\.93 \| 0\.4000 \| 0\.20 \| 0\.9000 \| 0\.97 \|", text
    )


def test_markdown_rows_are_as_wide_as_their_headers() -> None:
    for block in re.findall(r"(?:^\|.*\|\n)+", tables.format_markdown(four_runs()), re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_what_is_undefined_in_some_runs_says_so() -> None:
    text = tables.format_markdown(four_runs())
    assert "0.8182 ± 0.0000 (3 of 4)" in text
    assert "| undefined |" in tables.format_markdown(make({"precision": None}))


def test_latex_is_well_formed() -> None:
    text = tables.format_latex(four_runs())
    body = re.sub(r"(?m)^%.*$|(?<!\\)%$", "", text)
    assert len(re.findall(r"(?<!\\)\{", body)) == len(re.findall(r"(?<!\\)\}", body))
    assert re.findall(r"\\begin\{(\w+\*?)\}", body) == ["table*", "tabular"] * 4
    assert sorted(re.findall(r"\\begin\{(\w+\*?)\}", body)) == sorted(re.findall(r"\\end\{(\w+\*?)\}", body))
    for columns, rows in re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}", body, re.S):
        assert rows.startswith("\\toprule")
        for row in rows.splitlines():
            if not row.startswith(("\\toprule", "\\midrule", "\\bottomrule")):
                assert row.endswith(r" \\")
                assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
    assert r"set\_1 \& 100\%" in body
    assert "0.9000 $\\pm$ 0.0650" in body
    assert body.isascii()


def test_latex_escapes() -> None:
    assert tables.escape_latex("50% & a_b #1 $x {y} ~^\\ ±") == (
        r"50\% \& a\_b \#1 \$x \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} $\pm$"
    )


def test_csv_has_a_row_a_network() -> None:
    table = make({}, {"fold": 2}, {"network": "efficientnetb5"})
    rows = list(csv.DictReader(io.StringIO(tables._csv(table))))
    assert [row["network"] for row in rows] == ["resnet50", "efficientnetb5"]
    assert float(rows[0]["accuracy"]) == pytest.approx(0.85)
    assert rows[0]["accuracy_paper_2020"] == ""
    assert (rows[1]["accuracy_paper_2020"], rows[1]["accuracy_paper_2020_half"]) == ("0.993100", "0.002100")
    assert (rows[0]["specificity_paper_2022"], rows[0]["loss_seed_study"]) == ("0.964300", "0.130000")
    assert rows[1]["accuracy_half"] == ""


def test_json_is_json() -> None:
    found = msgspec.json.decode(msgspec.json.encode(tables.to_builtins(four_runs())))
    (row,) = found["networks"]
    assert row["means"]["accuracy"]["runs"] == 4
    assert row["paper_2022"]["f1"] == {"value": 0.9638, "half": 0.0061}
    assert row["paper_2020"] is None


def test_the_papers_figures_agree_among_themselves() -> None:
    """F1 is nearly the harmonic mean of mean precision and sensitivity; accuracy is the weighted mean of both rates."""
    assert (
        published_results.GARG_2022.keys()
        == published_results.PARAMETERS.keys()
        == {n for n in GARG_NETWORKS if not n.startswith("modified-")}
    )
    for figures in published_results.GARG_2022.values():
        precision, sensitivity = figures["precision"].value, figures["sensitivity"].value
        assert figures["f1"].value == pytest.approx(2 * precision * sensitivity / (precision + sensitivity), abs=0.005)
        rates = sensitivity, figures["specificity"].value
        # 2168 of the 4173 slices are positive
        assert figures["accuracy"].value == pytest.approx((2168 * rates[0] + 2005 * rates[1]) / 4173, abs=0.001)
    assert all(base < modified < base + 0.35 for base, modified in published_results.PARAMETERS.values())
