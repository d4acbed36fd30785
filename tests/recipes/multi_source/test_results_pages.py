"""README and the page of results show the tables in benchmarks/results, and say what was not measured."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_ct.errors import EdgeCTError
from edge_ct.recipes.multi_source.result_tables import read_result_tables
from edge_ct.recipes.multi_source.results_pages import PLOT, command, page_block, pages, readme_block, replace_block

ROOT = Path(__file__).resolve().parents[3]
Change = Callable[[str, str, str], None]


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("README.md", "docs/explanation/results.md", "recipes/multi_source/accurate_and_fast.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for table in (ROOT / "benchmarks" / "results").glob("multi-source-*.csv"):
        (tmp_path / "benchmarks" / "results").mkdir(parents=True, exist_ok=True)
        shutil.copy(table, tmp_path / "benchmarks" / "results")
    shutil.copytree(ROOT / "device_app" / "models", tmp_path / "device_app" / "models")
    return tmp_path


@pytest.fixture
def change(checkout: Path) -> Change:
    def replace(table: str, pattern: str, text: str) -> None:
        path = checkout / "benchmarks" / "results" / f"multi-source-{table}.csv"
        content, count = re.subn(pattern, text, path.read_text(encoding="utf-8"))
        assert count
        path.write_text(content, encoding="utf-8")

    return replace


def test_pages_of_the_repository_show_the_tables() -> None:
    """Fails after new tables: `make results` writes the pages again."""
    for path, text in pages(ROOT, read_result_tables(ROOT)).items():
        assert path.read_text(encoding="utf-8") == text, path
    assert (ROOT / PLOT).is_file()


def test_new_figures_reach_both_pages(checkout: Path, change: Change) -> None:
    change(
        "evidence",
        "(?m)^(grouped,accurate,.*,sars-cov-2-ct,probability,\\d+,\\d+),[^,]*,[^,]*,[^,]*",
        r"\1,0.12345,0.1,0.2",
    )
    change("outcomes", "(?m)^(grouped,accurate,slice,negative,\\d+(,[^,]*){3}),[^,]*", r"\1,0.31415")
    tables = read_result_tables(checkout)
    for block in (readme_block(tables), page_block(tables)):
        assert "0.123 [0.100, 0.200]" in block and "31.4 %" in block
    result = CliRunner().invoke(command, [str(checkout), "--check"])
    assert isinstance(result.exception, EdgeCTError) and "make results" in str(result.exception)
    assert CliRunner().invoke(command, [str(checkout)]).exit_code == 0
    assert CliRunner().invoke(command, [str(checkout), "--check"]).exit_code == 0
    assert "0.123 [0.100, 0.200]" in (checkout / "README.md").read_text(encoding="utf-8")
    assert "Coronacases" not in (checkout / PLOT).read_text(encoding="utf-8")


def test_a_source_that_was_left_out_is_shown_once_it_is_measured(checkout: Path, change: Change) -> None:
    assert "sources that the models did not learn from:" not in page_block(read_result_tables(checkout))
    change(
        "evidence", "(?m)^grouped,accurate,2,(mosmed,probability.*)$", r"grouped,accurate,3,\1\nsource,accurate,1,\1"
    )
    assert "`accurate`, sources that the models did not learn from:" in page_block(read_result_tables(checkout))
    assert "sources that the models" not in readme_block(read_result_tables(checkout))
    change(
        "evidence",
        "(?m)^(grouped,accurate,3,mosmed,probability,)(.*)$",
        r"\1\2\nexternal,accurate,1,sfax,probability,\2",
    )
    block = words(readme_block(read_result_tables(checkout)))
    assert re.search(
        r"On a source that it did not learn from, its AUC is .*\(MosMed.* slices\), .*\(Sfax \(Tunisia\), ", block
    )
    assert "a source that no network learned from" in page_block(read_result_tables(checkout))


def test_pneumonia_is_told_apart_only_if_the_interval_says_so(checkout: Path, change: Change) -> None:
    change("evidence", "(?m)^(grouped,accurate,.*,cc-ccii,probability,\\d+,\\d+),[^,]*,[^,]*,[^,]*", r"\1,0.7,0.5,0.8")
    assert "does not tell COVID-19 from other pneumonia" in words(readme_block(read_result_tables(checkout)))
    change("evidence", "0.7,0.5,0.8", "0.7,0.6,0.8")
    assert "told apart with an AUC of 0.700 [0.600, 0.800]" in words(readme_block(read_result_tables(checkout)))


def test_what_was_measured_with_another_network_is_not_shown(checkout: Path, change: Change) -> None:
    for name in ("accurate", "fast"):
        path = checkout / "benchmarks" / "results" / f"multi-source-out-of-distribution-{name}.csv"
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([lines[0], *(f"{line[:-64]}{'0' * 64}" for line in lines[1:])]), encoding="utf-8")
    block = words(readme_block(read_result_tables(checkout)))
    assert "X-rays" not in block and "was not measured" in block


def test_results_of_no_model_and_pages_without_markers_are_refused(checkout: Path) -> None:
    with pytest.raises(EdgeCTError, match=r"page\.md: has 0 blocks"):
        replace_block("no markers", "block", Path("page.md"))
    (checkout / "benchmarks" / "results" / "multi-source-outcomes.csv").unlink()
    with pytest.raises(EdgeCTError, match="no results of accurate"):
        read_result_tables(checkout)
